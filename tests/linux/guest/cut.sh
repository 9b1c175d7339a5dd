# Persistent memory whose file the host cuts from 64 to 12 MiB while a file system on it is mounted.
await '[ -b /dev/pmem0 ]'
mkdir -p /mnt/dax
mkfs.ext4 -q -b 4096 /dev/pmem0 && mount -t ext4 -o dax /dev/pmem0 /mnt/dax && echo "PURLIN-OK mounted"
dd if=/dev/urandom of=/mnt/dax/data bs=64k count=48 conv=fsync 2>/dev/null || echo "PURLIN-FAIL fsync"
# Before the file system begins.
printf 'kept by the file' | dd of=/dev/pmem0 bs=16 conv=notrunc,fsync 2>/dev/null
printf 'written by guest' | dd of=/dev/pmem0 bs=16 seek=$((3 << 20)) conv=notrunc,fsync 2>/dev/null
echo "PURLIN-READY"
read -r line
echo 3 >/proc/sys/vm/drop_caches
[ "$(head -c 16 /dev/pmem0)" = "kept by the file" ] && echo "PURLIN-OK kept"
# Past the end of the file: zeroes, room to write, and no lie about it.
[ "$(dd if=/dev/pmem0 bs=1M skip=47 count=2 2>/dev/null | tr -d '\0' | wc -c)" = 0 ] && echo "PURLIN-OK zeroes"
printf 'once more' | dd of=/dev/pmem0 bs=16 seek=$((3 << 20)) conv=notrunc 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
[ "$(dd if=/dev/pmem0 bs=16 skip=$((3 << 20)) count=1 2>/dev/null | head -c 9)" = "once more" ] && echo "PURLIN-OK written"
dd if=/dev/zero of=/dev/pmem0 bs=16 seek=$((3 << 20)) count=1 conv=notrunc,fsync 2>/dev/null && echo "PURLIN-FAIL flush"
echo x >/mnt/dax/more && sync /mnt/dax/more || echo "PURLIN-OK told"
# The other devices go on.
[ -x /programs/bin/mkfs.ext4 ] && md5sum </programs/bin/mkfs.ext4 >/dev/null && echo "PURLIN-OK file"
