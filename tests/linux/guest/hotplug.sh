# A disk that comes and goes three times, then a source of random numbers that comes; nothing here
# asks the kernel to look.
echo "PURLIN-READY"
for round in 1 2 3; do
    await '[ -b /dev/vda ]' || break
    echo hot | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null || echo "PURLIN-FAIL write $round"
    echo 3 >/proc/sys/vm/drop_caches
    echo "PURLIN-CAME $round sectors=$(cat /sys/block/vda/size) data=$(head -c 3 /dev/vda)"
    await '[ ! -e /sys/block/vda ]' || break
    echo "PURLIN-WENT $round"
done
await '[ -s /sys/class/misc/hw_random/rng_current ] && grep -q virtio /sys/class/misc/hw_random/rng_current'
echo "PURLIN-RNG $(head -c 8 /dev/hwrng)"
