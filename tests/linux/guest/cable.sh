# A cable that is pulled out and put in again; nothing here asks the kernel to look.
ip link set eth0 up
for carrier in 1 0 1; do
    await '[ "$(cat /sys/class/net/eth0/carrier)" = $carrier ]' && echo "PURLIN-CARRIER $carrier"
done
echo "PURLIN-AGAIN"
