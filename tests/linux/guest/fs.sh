# Two directories of the host: one to read and write, with everything that programs do to files; one
# to read only.
mkdir -p /rw /ro
mount -t virtiofs share /rw || echo "PURLIN-FAIL mount"
mount -t virtiofs source /ro || echo "PURLIN-FAIL mount"
echo "PURLIN-SUM-HOST $(md5sum </rw/host)"
dd if=/dev/urandom of=/tmp/data bs=64k count=48 2>/dev/null
cp /tmp/data /rw/guest && sync
echo 3 >/proc/sys/vm/drop_caches
cmp /tmp/data /rw/guest && echo "PURLIN-OK data"
echo "PURLIN-SUM-GUEST $(md5sum </tmp/data)"

cd /rw
mkdir a && echo one >a/one && mv a/one a/two && mv a b && [ "$(cat b/two)" = one ] &&
    ln b/two b/three && rm b/two && [ "$(cat b/three)" = one ] && echo "PURLIN-OK names"
exec 5<>b/four && rm b/four && echo unlinked >&5 && rm -r b && [ ! -e b ] && exec 5>&- &&
    echo "PURLIN-OK removal"
chmod 640 guest && chown 12:34 guest && touch -d @1000000000 guest &&
    echo "PURLIN-STAT $(stat -c '%a %u %g %Y %s' guest)"
(for number in $(seq 1 400); do echo "$number" >"file-$number"; done)
echo "PURLIN-LIST $(ls | grep -c '^file-') $(cat file-* | sort -n | md5sum)"
rm file-*

# What leads out of the directory leads to the guest's own files.
echo guest >/tmp/secret
echo "PURLIN-LINK $(readlink out) $(cat out)"

cat /ro/text >/dev/null && echo "PURLIN-OK reading"
echo x 2>/dev/null >/ro/text || echo "PURLIN-OK read-only"
cd / && umount /rw && umount /ro && echo "PURLIN-OK umount"
