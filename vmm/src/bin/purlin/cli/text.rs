//! The longer texts of the help and the manual.

/// What the program is.
pub(super) const ABOUT: &str = "\
Run virtual machines on KVM.

purlin is the reference VMM of the Purlin crates. A guest is an ordinary process: its threads have \
names, its CPU time and memory are those of the process, and signals mean what they mean elsewhere. \
purlin reads no environment variables.";

/// The exit statuses, as `ExitStatus` has them.
macro_rules! status {
    () => {
        "\
Exit status:
    0  the guest powered off
    2  wrong flag or configuration; nothing ran
    4  the host or the VMM failed
    6  the guest asked for a reset (with --on-reset exit)
    8  the guest's kernel panicked
   10  the guest crashed (its registers are on stderr)
   14  stopped from outside, by Ctrl-A x or a signal
  odd  the guest's own: 2N+1 for N written to the debug exit port 0xf4
With a command in --root: the command's, whatever it is; where purlin fails, it prints a line."
    };
}

/// What an exit status says.
pub(super) const STATUS: &str =
    concat!(status!(), "\n\ndoctor ends with 0 if a guest can run on this host, else with 4.");

/// More on `run`.
pub(super) const RUN: &str = concat!(
    "\
Examples:
  Boot a kernel with its initramfs to a shell on this terminal:
    purlin run --kernel vmlinuz --initrd initrd.img --memory 1G --cpus 2

  Two disks, the second of which the guest may only read:
    purlin run --kernel vmlinuz --disk root.img --disk data.img,read-only=on

  The same disks without PCI, for a kernel that has none:
    purlin run --kernel vmlinuz --bus mmio --disk root.img --disk data.img,read-only=on

  A qcow2 image on top of one in /images, with four queues and at most 100 MiB each second:
    purlin run --kernel vmlinuz --cpus 4 \\
      --disk root.qcow2,format=qcow2,backing=/images,queues=4,bytes-per-sec=100M

  The host's network for the guest, whose SSH port is 2222 of the host; and a second card on a tap:
    purlin run --kernel vmlinuz --net user,tcp-ports=2222:22 --net tap=tap0

  Sockets between guest and host; the second line talks to vsock port 52 of the guest:
    purlin run --kernel vmlinuz --vsock vm.sock
    (echo CONNECT 52; cat) | nc -U vm.sock

  A directory by virtiofsd, in the guest: mount -t virtiofs home /mnt; and a disk by another process:
    virtiofsd --socket-path=fs.sock --shared-dir /home/me &
    purlin run --kernel vmlinuz --vhost-user fs.sock,type=fs,tag=home --vhost-user blk.sock,type=blk

  A console that moves whole buffers instead of single bytes, on this terminal, and a port by which
  a program of the host talks to one of the guest (/dev/virtio-ports/agent):
    purlin run --kernel vmlinuz --serial none --cmdline console=hvc0 --console stdio \\
      --console unix:agent.sock,name=agent

  A guest that gives memory back to the host when it does not use it, and 256M at once:
    purlin run --kernel vmlinuz --memory 1G --balloon 256M,free-page-reporting=on

  A root file system in persistent memory, which the guest does not cache again:
    purlin run --kernel vmlinux --pmem root.img \\
      --cmdline \"console=ttyS0 root=/dev/pmem0 rw rootflags=dax\"

  A machine that starts with 1G, asks for 2G at once and can have up to 8G:
    purlin run --kernel vmlinuz --memory 1G --memory-max 8G,requested=2G

  A directory for the guest to mount (mount -t virtiofs work /mnt), and one that it may only read:
    purlin run --kernel vmlinuz --fs ~/work,tag=work --fs /usr/share,tag=share,read-only=on

  A command in a directory, as in a container but with a kernel of its own:
    purlin run --kernel vmlinuz --root ~/rootfs -- sh -c \"uname -a; exit 3\"

  The console in a file, a second port on a pseudo-terminal:
    purlin run --kernel vmlinuz --serial file:boot.log,com2=pty

  Eight CPUs in two sockets of two cores with two threads, RAM in reserved 2M pages:
    purlin run --kernel vmlinuz --cpus 8,threads=2,cores=2 --memory 4G,pages=2M

  The same machine from a file, with less memory:
    purlin run vm.toml --memory 1G

    # vm.toml
    kernel  = \"vmlinuz\"          # relative to this file
    initrd  = \"initrd.img\"
    cmdline = \"console=ttyS0 quiet\"
    memory  = \"4G,pages=2M\"      # or a table: [memory] size = \"4G\", pages = \"2M\"
    cpus    = { count = 8, threads = 2, cores = 2 }
    serial  = \"stdio,com2=pty\"
    on-reset = \"reboot\"

Keys:
  Ctrl-A x       end the run
  Ctrl-A d       press Ctrl-Alt-Del
  Ctrl-A h       tell the keys
  Ctrl-A Ctrl-A  send one Ctrl-A to the guest (so does Ctrl-A a)
All other keys go to the guest as they are typed, Ctrl-C and Ctrl-Z too.
If standard input is no terminal, every byte goes to the guest.

Signals:
  SIGTERM, SIGINT  press the power button; after --grace, or at the second, stop
  SIGSTOP          suspend the guest; SIGCONT lets it go on

",
    status!()
);
