# Every device that there is: its driver has it, it works, and the kernel's log has no complaint.
types=
for device in /sys/bus/virtio/devices/*; do
    types="$types $(($(cat "$device/device")))"
    [ -e "$device/driver" ] || echo "PURLIN-FAIL no driver for $device"
done
echo "PURLIN-TYPES $(echo $types | tr ' ' '\n' | sort -n | tr '\n' ' ')"
echo "PURLIN-OK driver"

ip link set eth0 up
ip addr add 198.18.0.2/24 dev eth0
ping -c 1 -W 10 198.18.0.1 >/dev/null && echo "PURLIN-OK net"
mkdir -p /mnt/fs
mount -t virtiofs shared /mnt/fs && echo "by the share" >/mnt/fs/file && umount /mnt/fs &&
    echo "PURLIN-OK fs"
echo "in memory" | dd of=/dev/pmem0 bs=512 conv=sync,fsync 2>/dev/null &&
    [ "$(head -c 9 /dev/pmem0)" = "in memory" ] && echo "PURLIN-OK pmem"
[ -c /dev/vsock ] && echo "PURLIN-OK vsock"
port=$(grep -l '^port$' /sys/class/virtio-ports/*/name)
port=${port%/name}
echo "by the port" >"/dev/${port##*/}" && echo "PURLIN-OK console"
[ "$(head -c 4096 /dev/hwrng | wc -c)" = 4096 ] && echo "PURLIN-OK rng"
[ -d /sys/bus/virtio/drivers/virtio_balloon ] && echo "PURLIN-OK balloon"

if [ -d /sys/bus/pci ]; then
    # Reserved bits, aborts, parity and system errors, windows that do not fit, unreadable capabilities.
    lspci -vv >/tmp/lspci 2>/dev/null
    bad='!!!|<access denied>|[A-Z]Abort\+|>SERR\+|<PERR\+|unassigned|\[disabled\]|virtual|Unknown'
    if [ -s /tmp/lspci ] && ! grep -E "$bad" /tmp/lspci; then
        echo "PURLIN-OK pci"
    fi
fi
# Level-triggered lines that several devices share, and messages.
shared=$(grep -cE 'IO-APIC +[0-9]+-fasteoi +virtio[0-9]+, ' /proc/interrupts)
echo "PURLIN-INTERRUPTS shared=$shared messages=$(grep -c 'MSI.* virtio' /proc/interrupts)"
grep virtio /proc/interrupts
dmesg -r >/tmp/log 2>/dev/null || dmesg >/tmp/log
complaints=$(grep -iE 'pci|virtio|acpi|bar [0-9]' /tmp/log |
    grep -v 'report a bug' | grep -iE 'error|fail|cannot|can.t|invalid|conflict|no space|bug|warn')
[ -z "$complaints" ] && echo "PURLIN-OK log" || echo "PURLIN-FAIL complaints: $complaints"
