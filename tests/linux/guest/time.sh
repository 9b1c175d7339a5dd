# The time of day as the guest has it, in seconds since 1970.
echo "PURLIN-TIME $(date -u +%s)"
