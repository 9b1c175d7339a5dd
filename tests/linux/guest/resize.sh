# A disk that has another size twice while it is there; nothing here asks it to look.
size() {
    cat /sys/block/vda/size
}
last() {
    printf "$1" | dd of=/dev/vda bs=512 seek=$(($(size) - 1)) count=1 conv=sync,fsync 2>/dev/null ||
        echo "PURLIN-FAIL no last sector of $(size)"
}
await '[ -b /dev/vda ]'
last small
echo "PURLIN-SMALL $(size)"
await '[ "$(size)" -gt 2048 ]'
last large
echo "PURLIN-LARGE $(size)"
await '[ "$(size)" -lt 2048 ]'
last less
echo "PURLIN-LESS $(size)"
