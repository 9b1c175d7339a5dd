# The guest turns itself off.
echo "PURLIN-OK poweroff"
poweroff -f
