# The first disk as it came, a file system's worth of writes and reads on it, a mark that is flushed;
# the second disk, which must not be writable; the source of random numbers.
serial=$(cat /sys/block/vda/serial)
echo "PURLIN-DISK sectors=$(cat /sys/block/vda/size) serial=$serial first=$(head -c 16 /dev/vda)"
cd /sys/block/vda/queue
echo "PURLIN-BLOCKS $(cat logical_block_size) $(cat physical_block_size) $(cat minimum_io_size)"
cd /
dd if=/dev/urandom of=/tmp/data bs=64k count=48 2>/dev/null
dd if=/tmp/data of=/dev/vda bs=64k seek=1 conv=fsync 2>/dev/null || echo "PURLIN-FAIL write"
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda bs=64k skip=1 count=48 2>/dev/null | cmp - /tmp/data && echo "PURLIN-OK data"
printf 'written by guest' | dd of=/dev/vda bs=16 seek=1 conv=notrunc,fsync 2>/dev/null
echo "PURLIN-SUM $(dd if=/dev/vda bs=64k skip=1 count=48 2>/dev/null | md5sum)"
echo x 2>/dev/null >/dev/vdb && dd if=/tmp/data of=/dev/vdb bs=512 count=1 conv=fsync 2>/dev/null ||
    echo "PURLIN-OK read-only"
echo "PURLIN-RNG $(cat /sys/class/misc/hw_random/rng_current) $(head -c 4096 /dev/hwrng | wc -c)"
