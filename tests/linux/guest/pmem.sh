# Persistent memory: the first file as it came, a file system on the first half of it that is used
# without the page cache of the guest, a program run from there, a mark in the second half; the second
# file, which cannot be changed.
await '[ -b /dev/pmem0 ] && [ -b /dev/pmem1 ]'
echo "PURLIN-PMEM sectors=$(cat /sys/block/pmem0/size) dax=$(cat /sys/block/pmem0/queue/dax)"
echo "PURLIN-FIRST $(head -c 16 /dev/pmem0)"
mkdir -p /mnt/dax
if [ "$(dd if=/dev/pmem0 bs=16 count=1 skip=$((3 << 20)) 2>/dev/null)" = "written by guest" ]; then
    echo "PURLIN-OK mark"
else
    mkfs.ext4 -q -b 4096 /dev/pmem0 32m || echo "PURLIN-FAIL mkfs"
fi
mount -t ext4 -o dax /dev/pmem0 /mnt/dax || echo "PURLIN-FAIL mount"
grep -q '^/dev/pmem0 .*dax=always' /proc/mounts && echo "PURLIN-OK dax"
[ -f /mnt/dax/data ] || dd if=/dev/urandom of=/mnt/dax/data bs=64k count=48 conv=fsync 2>/dev/null ||
    echo "PURLIN-FAIL fsync"
echo "PURLIN-SUM $(md5sum </mnt/dax/data)"
cp /bin/busybox /mnt/dax/busybox && chroot /mnt/dax /busybox echo "PURLIN-OK program"
umount /mnt/dax
printf 'written by guest' | dd of=/dev/pmem0 bs=16 seek=$((3 << 20)) conv=notrunc,fsync 2>/dev/null ||
    echo "PURLIN-FAIL flush"

echo "PURLIN-SECOND $(head -c 16 /dev/pmem1)"
printf 'written by guest' | dd of=/dev/pmem1 bs=16 conv=notrunc,fsync 2>/dev/null || echo "PURLIN-OK refused"
echo 3 >/proc/sys/vm/drop_caches
echo "PURLIN-CHANGED $(head -c 16 /dev/pmem1)"
