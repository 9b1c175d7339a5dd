# How many CPUs are on line, and how the kernel understood their topology.
set -- /sys/devices/system/cpu/cpu[0-9]*
online=$(grep -c ^processor /proc/cpuinfo)
for cpu in "$@"; do
    t=$cpu/topology
    [ -d "$t" ] || continue
    echo "PURLIN-TOPOLOGY ${cpu##*/} package=$(cat $t/physical_package_id) core=$(cat $t/core_id)" \
        "threads=$(cat $t/thread_siblings_list) cores=$(cat $t/core_siblings_list)"
done
awk '/^(processor|apicid)/ { printf "PURLIN-CPUINFO %s=%s\n", $1, $NF }' /proc/cpuinfo
echo "PURLIN-CPUS $online"
