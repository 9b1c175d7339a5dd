# The guest resets itself; if the VMM boots it again, PURLIN-BOOT is seen again.
echo "PURLIN-OK reboot"
reboot -f
