# The power button, as the kernel reports it: an input event of the ACPI button driver.
modprobe button 2>/dev/null
for event in /sys/class/input/event*; do
    grep -q "Power Button" "$event/device/name" 2>/dev/null && button=/dev/input/${event##*/}
done
echo "PURLIN-READY button"
head -c 1 "$button" >/dev/null && echo "PURLIN-OK button"
