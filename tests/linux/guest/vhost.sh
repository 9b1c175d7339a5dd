# A directory that virtiofsd shares, then writes to a disk of qemu-storage-daemon's, which is killed
# and started again meanwhile: whatever was written must be there.
echo "PURLIN-DISK sectors=$(cat /sys/block/vda/size) serial=$(cat /sys/block/vda/serial)"
mkdir -p /mnt/home
if grep -q 'purlin.share=on' /proc/cmdline; then
    mount -t virtiofs home /mnt/home || echo "PURLIN-FAIL mount"
    echo "PURLIN-FILE $(cat /mnt/home/from-host)"
    echo "written by guest" >/mnt/home/from-guest || echo "PURLIN-FAIL write"
    dd if=/dev/urandom of=/mnt/home/large bs=64k count=32 2>/dev/null
    echo "PURLIN-LARGE $(md5sum </mnt/home/large)"
    umount /mnt/home
fi
dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null
sum=$(md5sum </tmp/data)
for round in 1 2 3 4 5 6; do
    echo "PURLIN-ROUND $round"
    # Four writers, so that requests overtake each other.
    for writer in 0 1 2 3; do
        dd if=/tmp/data of=/dev/vda bs=16k seek=$((writer * 64)) conv=notrunc,fsync 2>/dev/null &
    done
    wait
    echo 3 >/proc/sys/vm/drop_caches
    for writer in 0 1 2 3; do
        found=$(dd if=/dev/vda bs=16k skip=$((writer * 64)) count=64 2>/dev/null | md5sum)
        [ "$found" = "$sum" ] || echo "PURLIN-FAIL writer $writer in round $round"
    done
done
echo "PURLIN-SUM $sum"
