#!/bin/sh
# First program of the guest of `cargo xtask linux`: a shell on the console.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TERM="${TERM:-vt100}"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run

if [ -s /modules/order ]; then
    while read -r module; do
        insmod "/modules/$module" 2>/dev/null
    done </modules/order
fi
ifconfig lo up 2>/dev/null

read -r up _ </proc/uptime
hostname guest
cat <<BANNER

Linux $(uname -r), $(nproc) CPU(s), $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB, up ${up} s
A shell of busybox; leaving it (Ctrl-D) powers the machine off.

BANNER

cd /root || cd /
# cttyhack finds the console's real device, without which there is no job control.
setsid cttyhack sh
poweroff -f
