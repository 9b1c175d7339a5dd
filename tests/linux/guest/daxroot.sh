#!/bin/busybox sh
# First program of a root file system in persistent memory: `root=/dev/pmem0 rootflags=dax`. Runs from
# there, and leaves a mark.
/bin/busybox --install -s /bin
export PATH=/bin
echo "PURLIN-ROOT $(grep ' / ext4 ' /proc/mounts)"
echo "PURLIN-FOUND $(cat /made-by-host)"
mkdir -p /var/log && echo "written by guest" >/var/log/mark && sync && echo "PURLIN-OK sync"
# As a shutdown leaves it: nothing remains in the journal.
mount -o remount,ro / && echo "PURLIN-OK remount"
poweroff -f
