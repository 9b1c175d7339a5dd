# The network card, on a tap or on user networking as purlin.net= says: what the kernel finds of it, the
# host by ping, bytes in both directions, and how large the packets were.
link=/sys/class/net/eth0
up=0
for word in $(cat /proc/cmdline); do
    case $word in purlin.up=*) up=${word#purlin.up=} ;; esac
done
ip link set lo up
ip link set eth0 up
case $(cat /proc/cmdline) in
*purlin.net=tap*)
    host=198.18.0.1
    ip addr add 198.18.0.2/24 dev eth0
    ;;
*)
    cat >/tmp/lease <<'LEASE'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
ip link set "$interface" mtu "${mtu:-1500}"
echo "PURLIN-LEASE $ip $router"
LEASE
    chmod +x /tmp/lease
    udhcpc -i eth0 -n -q -t 10 -s /tmp/lease >/tmp/dhcp 2>&1
    grep PURLIN-LEASE /tmp/dhcp || cat /tmp/dhcp
    host=198.18.2.1
    ;;
esac
queues=$(ls -d $link/queues/rx-* | wc -l)
echo "PURLIN-NET mac=$(cat $link/address) mtu=$(cat $link/mtu) queues=$queues"
ping -c 3 -W 10 "$host" >/tmp/ping && echo "PURLIN-OK ping" || cat /tmp/ping

# Bytes of each packet, between two looks at the counters.
look() {
    bytes=$(cat $link/statistics/$1_bytes)
    packets=$(cat $link/statistics/$1_packets)
}
average() {
    old_bytes=$bytes old_packets=$packets
    look "$1"
    echo "PURLIN-PACKET-$1 $(((bytes - old_bytes) / (packets - old_packets + 1)))"
}

look rx
echo "PURLIN-DOWN $(socat -b 65536 -u TCP:"$host":8099 - | md5sum)"
average rx
look tx
seq 1 10000000 | head -c "$up" | socat -b 65536 -u - TCP:"$host":8100
average tx
echo "PURLIN-IPERF-UP $(iperf3 -c "$host" -t 2 -f m | grep receiver)"
echo "PURLIN-IPERF-DOWN $(iperf3 -c "$host" -t 2 -f m -R | grep receiver)"
