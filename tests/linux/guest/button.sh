# The power button, as the kernel reports it: an input event of the ACPI button driver. The device is
# open before the button may be pressed, because events go to those who listen.
for event in /sys/class/input/event*; do
    grep -q "Power Button" "$event/device/name" && exec 4<"/dev/input/${event##*/}"
done
echo "PURLIN-READY button"
head -c 1 <&4 >/dev/null && echo "PURLIN-OK button"
