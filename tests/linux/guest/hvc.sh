# A terminal on hvc0, and a port of the virtio console for a program.
# Open all the time: what is typed while nobody has a terminal open is thrown away.
exec 3<>/dev/hvc0
echo "PURLIN-SIZE $(stty size <&3)"
for port in /sys/class/virtio-ports/*; do
    name=$(cat "$port/name" 2>/dev/null)
    echo "PURLIN-PORT ${port##*/} ${name:-none}"
    [ "$name" = org.example.agent ] && agent=/dev/${port##*/}
done
if [ -n "$agent" ]; then
    echo "PURLIN-SUM $(head -c 1000000 "$agent" | md5sum)"
    dd if=/dev/urandom of=/tmp/data bs=1000 count=1000 2>/dev/null
    echo "PURLIN-BACK $(md5sum </tmp/data)"
    cat /tmp/data >"$agent"
fi
echo "PURLIN-READY hvc" >&3
read -r line <&3
echo "PURLIN-HVC $line"
# Where there is a terminal, its new size is on its way.
size=$(stty size <&3)
tries=100
while [ "$line" = typed ] && [ "$size" != "55 177" ] && [ $tries -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
    size=$(stty size <&3)
done
echo "PURLIN-RESIZED $size"
