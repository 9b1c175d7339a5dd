# On each of two disks, found by their serial numbers: a file system, writes that fio verifies, also
# after the file system was away; room that is given back; and at last a mark that is flushed.
disk() {
    for found in /sys/block/vd*; do
        [ "$(cat "$found/serial")" = "$1" ] && echo "${found##*/}"
    done
}
verify() {
    fio --name=verify --directory="/mnt/$name" --size=2m --bs=4k --rw=randwrite --ioengine=psync \
        --direct=1 --numjobs=2 --verify=crc32c --verify_fatal=1 --output=/tmp/fio "$@" ||
        { echo "PURLIN-FAIL fio $*"; tail -n 5 /tmp/fio; }
}
for name in raw cow; do
    disk=$(disk $name)
    echo "PURLIN-QUEUES-$name $(ls "/sys/block/$disk/mq" | wc -l)"
    mkdir -p "/mnt/$name"
    mkfs.ext4 -q -F "/dev/$disk" && mount -t ext4 "/dev/$disk" "/mnt/$name" ||
        echo "PURLIN-FAIL file system on $name"
    verify --do_verify=1
    dd if=/dev/urandom of="/mnt/$name/large" bs=1M count=24 conv=fsync 2>/dev/null
    rm "/mnt/$name/large"
    sync
    umount "/mnt/$name"
    mount -t ext4 "/dev/$disk" "/mnt/$name"
    echo 3 >/proc/sys/vm/drop_caches
    verify --verify_only && echo "PURLIN-OK $name"
    fstrim "/mnt/$name" || echo "PURLIN-FAIL fstrim $name"
    umount "/mnt/$name"
done
