# A file system in persistent memory that the host gives for reading only: used directly, not changed by
# whatever is tried.
await '[ -b /dev/pmem0 ]'
mkdir -p /mnt/dax
before=$(md5sum </dev/pmem0)
mount -t ext4 -o ro,dax /dev/pmem0 /mnt/dax || echo "PURLIN-FAIL mount"
grep -q '^/dev/pmem0 .*dax=always' /proc/mounts && echo "PURLIN-OK dax"
echo "PURLIN-FOUND $(cat /mnt/dax/made-by-host)"
chroot /mnt/dax /bin/busybox echo "PURLIN-OK program"
umount /mnt/dax
# virtio has no way to tell the guest that it must not write: it is told by the flush.
if mount -t ext4 -o dax /dev/pmem0 /mnt/dax && echo x >/mnt/dax/file && sync /mnt/dax/file; then
    echo "PURLIN-FAIL it can be changed"
else
    echo "PURLIN-OK refused"
fi
umount /mnt/dax 2>/dev/null
dd if=/dev/zero of=/dev/pmem0 bs=4k count=4 conv=notrunc,fsync 2>/dev/null && echo "PURLIN-FAIL a flush is lied about"
echo 3 >/proc/sys/vm/drop_caches
[ "$(md5sum </dev/pmem0)" = "$before" ] && echo "PURLIN-OK same"
