# Flushes a mebibyte to each of two disks, says so, and goes on writing behind it until the end.
for name in raw cow; do
    for found in /sys/block/vd*; do
        [ "$(cat "$found/serial")" = "$name" ] && disks="$disks /dev/${found##*/}"
    done
done
yes purlin | head -c 1048576 >/tmp/mark
for disk in $disks; do
    dd if=/tmp/mark of="$disk" bs=64k conv=notrunc,fsync 2>/dev/null || echo "PURLIN-FAIL $disk"
done
echo "PURLIN-FLUSHED"
while true; do
    for disk in $disks; do
        dd if=/dev/urandom of="$disk" bs=64k seek=16 count=64 conv=notrunc 2>/dev/null
    done
done
