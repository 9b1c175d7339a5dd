# A disk and a source of random numbers, which interrupt by shared lines.
echo level | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null || echo "PURLIN-FAIL write"
echo 3 >/proc/sys/vm/drop_caches
echo "PURLIN-DATA $(head -c 5 /dev/vda)"
echo "PURLIN-RNG $(head -c 64 /dev/hwrng | wc -c)"
[ -e /sys/firmware/acpi ] && echo "PURLIN-ACPI on" || echo "PURLIN-ACPI off"
grep virtio /proc/interrupts
echo "PURLIN-SHARED $(grep -cE 'IO-APIC +[0-9]+-fasteoi +virtio[0-9]+, ' /proc/interrupts)"
dmesg | grep -E 'nobody cared|Disabling IRQ' && echo "PURLIN-FAIL an interrupt that nobody wanted"
true
