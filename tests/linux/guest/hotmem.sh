# Memory that is plugged in and out while the guest runs, as much as the host asks for.
total() {
    sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo
}
# The number of the highest block of 128 MiB that there is; plugged ones start at 4 GiB, with 32.
highest() {
    ls -d /sys/devices/system/memory/memory[0-9]* | sed 's/.*memory//' | sort -n | tail -n 1
}
await '[ "$(total)" -gt 400000 ]'
echo "PURLIN-REQUESTED $(total)"
await '[ "$(total)" -gt 650000 ]'
echo "PURLIN-GROWN $(total)"
mkdir -p /mnt/ram
mount -t tmpfs -o size=512m ram /mnt/ram
dd if=/dev/urandom of=/tmp/piece bs=1M count=4 2>/dev/null
sum=$(md5sum </tmp/piece)
for name in $(seq 50); do
    cp /tmp/piece "/mnt/ram/$name" || echo "PURLIN-FAIL copy $name"
done
for name in $(seq 50); do
    [ "$(md5sum <"/mnt/ram/$name")" = "$sum" ] || echo "PURLIN-FAIL sum of $name"
done
umount /mnt/ram
echo "PURLIN-FREED"
await '[ "$(highest)" -lt 32 ]'
echo "PURLIN-SHRUNK $(total)"
