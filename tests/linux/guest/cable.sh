# A cable that is pulled out and put in again; nothing here asks the kernel to look.
await() {
    tries=0
    until [ "$(cat /sys/class/net/eth0/carrier)" = "$1" ]; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { echo "PURLIN-FAIL carrier is never $1"; return 1; }
        sleep 0.1
    done
    echo "PURLIN-CARRIER $1"
}
ip link set eth0 up
await 1
await 0
await 1
echo "PURLIN-AGAIN"
