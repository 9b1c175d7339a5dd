# The kernel has reached user space.
echo "PURLIN-OK boot"
