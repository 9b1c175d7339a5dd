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
  odd  the guest's own: 2N+1 for N written to the debug exit port 0xf4"
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
