#!/bin/sh
# First program of the outer guest: loads KVM, makes the host's root directory this guest's own, and
# hands over to the agent, which runs the job there.

/bin/busybox --install -s /bin
export PATH=/bin

say() {
    echo "$*" >/dev/console
}

fail() {
    say "with-kvm: $*"
    [ -z "$control" ] || echo "fail $*" >"$control"
    sleep 1000
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

# The ports appear one by one after the device.
tries=0
while [ -z "$control" ]; do
    control=$(grep -l '^purlin.control$' /sys/class/virtio-ports/*/name 2>/dev/null)
    tries=$((tries + 1))
    [ $tries -lt 500 ] || fail "there is no control port"
    [ -n "$control" ] || usleep 10000
done
control=${control%/name}
control=/dev/${control##*/}

while read -r module; do
    insmod "/modules/$module" || fail "module $module does not load"
done </modules/order
[ -c /dev/kvm ] || fail "kvm_amd does not like this CPU: $(dmesg | grep -i 'kvm\|svm' | tail -n 1)"
chmod 666 /dev/kvm

root=/newroot
mkdir -p $root /keep
mount -t virtiofs -o ro root $root || fail "the host's root directory cannot be mounted"

number=0
while read -r dir; do
    mkdir -p /keep/$number
    mount --bind "$root$dir" /keep/$number || fail "$dir cannot be kept"
    number=$((number + 1))
done </job/keep

for dir in /tmp /var/tmp /run; do
    mount -t tmpfs -o mode=1777 tmpfs $root$dir || fail "no tmpfs on $dir"
done
chmod 755 $root/run

number=0
while read -r dir; do
    mkdir -p "$root$dir"
    mount --move /keep/$number "$root$dir" || fail "$dir cannot be kept"
    number=$((number + 1))
done </job/keep
number=0
while read -r dir; do
    mkdir -p "$root$dir" 2>/dev/null
    mount -t virtiofs writable$number "$root$dir" || fail "$dir cannot be mounted for writing"
    number=$((number + 1))
done </job/writable

mount --move /dev $root/dev
mount --move /proc $root/proc
mount --move /sys $root/sys
mkdir -p $root/run/with-kvm/bin
cp -r /job /bin/busybox /agent.sh $root/run/with-kvm/
exec switch_root $root /run/with-kvm/busybox sh /run/with-kvm/agent.sh "$control"
