# The kernel panics.
echo "PURLIN-OK panic"
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
