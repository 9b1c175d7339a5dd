# The outer guest's process 1 once the host's root directory is in place: prepares what a command
# expects of a machine, runs the job with its streams on the ports, and reports its exit status.
# $1 is the control port.

cd /run/with-kvm || exit
./busybox --install -s bin
export PATH=/run/with-kvm/bin
exec 3>"$1"

# The ports appear one by one, and not in the order of their numbers.
port() {
    until name=$(grep -l "^purlin.$1\$" /sys/class/virtio-ports/*/name); do
        usleep 10000
    done
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
# Each is first opened for reading and writing, which does not wait for another side:
# 4 and 5 become the two ends of the input, 6 and 7 of the output, 8 and 9 of the error output.
mkfifo in out err
chown "$owner" in out err
exec 9<>in 4<in 5>in
exec 9<>out 6<out 7>out
exec 9<>err 8<err
exec 9>err

copy() {
    exec 3>&- 4<&- 5>&- 6<&- 7>&- 8<&- 9>&-
    exec cat
}
copy <&6 >"$(port stdout)" &
out=$!
copy <&8 >"$(port stderr)" &
err=$!

echo ready >&3
if [ -f job/terminal ]; then
    read -r rows columns <job/terminal
    chown "${owner%:*}" /dev/hvc0
    # The size is set once the console is open, which sets it too.
    size="rows ${rows:-24} cols ${columns:-80}"
    setsid -c sh -c "stty sane $size; exec sh job/run" </dev/hvc0 >/dev/hvc0 2>&1 \
        3>&- 4<&- 5>&- 6<&- 7>&- 8<&- 9>&-
    status=$?
else
    copy <"$(port stdin)" >&5 &
    exec 5>&-
    setsid sh job/run <&4 >&7 2>&9 3>&- 4<&- 6<&- 7>&- 8<&- 9>&-
    status=$?
fi
exec 7>&- 9>&-

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
