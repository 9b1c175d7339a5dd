# Memory that the kernel manages, in KiB.
echo "PURLIN-MEM $(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
