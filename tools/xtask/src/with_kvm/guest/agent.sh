# The outer guest's process 1 once the host's root directory is in place: prepares what a command
# expects of a machine, runs the job with its streams on the ports, and reports its exit status.
# $1 is the control port.

cd /run/with-kvm || exit
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec 3>"$1"

port() {
    name=$(grep -l "^purlin.$1\$" /sys/class/virtio-ports/*/name)
    name=${name%/name}
    echo "/dev/${name##*/}"
}

mkdir -p /dev/pts /dev/shm /dev/hugepages
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t hugetlbfs hugetlbfs /dev/hugepages
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
[ -e /dev/ptmx ] || ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
if [ -c /dev/net/tun ]; then
    chmod 666 /dev/net/tun
fi
ip link set lo up
hostname outer
ulimit -Hn 524288

read -r owner <job/owner
read -r scratch <job/scratch
mkdir -p "$scratch"
chown "$owner" "$scratch"

# Through pipes rather than the ports themselves: a port can't be opened twice, as /dev/stdout would.
mkfifo in out err
chown "$owner" in out err
cat out >"$(port stdout)" &
out=$!
cat err >"$(port stderr)" &
err=$!

echo ready >&3
if [ -f job/terminal ]; then
    read -r rows columns <job/terminal
    stty -F /dev/hvc0 sane rows "${rows:-24}" cols "${columns:-80}"
    chown "${owner%:*}" /dev/hvc0
    setsid -c /run/with-kvm/busybox sh job/run </dev/hvc0 >/dev/hvc0 2>&1 3>&-
    status=$?
    # Nothing else opens them, and the readers must see their end.
    : >out 2>err
else
    cat "$(port stdin)" >in 2>/dev/null 3>&- &
    setsid /run/with-kvm/busybox sh job/run <in >out 2>err 3>&-
    status=$?
fi

# What the command left running would keep its streams open for ever.
for process in /proc/[0-9]*; do
    case ${process#/proc/} in
    1 | $out | $err) ;;
    *) kill -KILL "${process#/proc/}" 2>/dev/null ;;
    esac
done
wait $out
wait $err
echo "exit $status" >&3
# The host ends this guest.
while :; do
    sleep 1000
done
