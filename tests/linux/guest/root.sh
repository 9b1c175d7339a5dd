# What the initial RAM disk of a distribution does: mounts the root and gives it to its first program.
# The root gets a shell first.
mkdir -p /new
for word in $(cat /proc/cmdline); do
    case $word in
    root=*) root=${word#root=} ;;
    init=*) init=${word#init=} ;;
    esac
done
mount -t virtiofs "$root" /new || echo "PURLIN-FAIL mount"
cp /bin/busybox /new/bin/busybox && ln -s busybox /new/bin/sh
exec chroot /new "$init"
