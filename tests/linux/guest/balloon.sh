# Memory as it is once the balloon has been filled; then as much of it as a test wants is used and left.
total() { awk '/^MemTotal:/ { print $2 }' /proc/meminfo; }
fill=0
for word in $(cat /proc/cmdline); do
    case $word in purlin.fill=*) fill=${word#purlin.fill=} ;; esac
done
mount -o remount,size=95% /tmp
last=0
while [ "$(total)" != "$last" ]; do
    last=$(total)
    sleep 3
done
echo "PURLIN-TOTAL $last"
echo "PURLIN-READY balloon"
read -r line
dd if=/dev/zero of=/tmp/fill bs=1M count="$fill" 2>/dev/null && echo "PURLIN-FILLED $fill"
read -r line
rm -f /tmp/fill
echo "PURLIN-LEFT"
read -r line
