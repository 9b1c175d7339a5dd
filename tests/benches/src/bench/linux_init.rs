//! From exec to the init of a Linux guest, beside other VMMs on the same kernel and initial RAM disk.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::PURLIN;
use crate::{
    error::Result,
    options::{Linux, Options},
    process::Launch,
    report::Case,
    rounds::interleave,
    scratch::Scratch,
};

/// Ahead of each.
const LIMIT: f64 = 1.0;

pub(super) fn run(options: &Options) -> Result<Vec<Case>> {
    let scratch = Scratch::new("linux-init")?;
    let guest = Guest::new(&options.linux)?;
    let vmms = vmms(&guest, options, &scratch)?;
    let samples = interleave(options.samples(), vmms.len(), &mut |subject| {
        let vmm = vmms.get(subject).ok_or("no such VMM")?;
        let mut command = Command::new(&vmm.program);
        command.args(&vmm.arguments);
        let marker = options.linux.marker.as_bytes();
        let (took, _running) = Launch { command, marker, scratch: &scratch }.time()?;
        Ok(took * 1e3)
    })?;
    let mut case = Case::new("exec to init", "ms");
    for (vmm, taken) in vmms.iter().zip(&samples) {
        case = case.row(vmm.name, taken);
    }
    let ours = samples.first().ok_or("no VMM")?;
    for (vmm, theirs) in vmms.iter().zip(&samples).skip(1) {
        case = case.ratio(&format!("{PURLIN} / {}", vmm.name), ours, theirs, LIMIT);
    }
    Ok(vec![case])
}

/// What is booted.
struct Guest<'a> {
    kernel: &'a Path,
    initrd: Option<&'a Path>,
    cmdline: &'a str,
    mib: u32,
}

impl<'a> Guest<'a> {
    fn new(linux: &'a Linux) -> Result<Self> {
        let kernel = linux.kernel.as_deref().ok_or("it needs --kernel")?;
        let initrd = linux.initrd.as_deref();
        let mut files = [Some(kernel), initrd].into_iter().flatten();
        if let Some(file) = files.find(|file| !file.is_file()) {
            return Err(format!("there is no file {}", file.display()).into());
        }
        Ok(Self { kernel, initrd, cmdline: &linux.cmdline, mib: linux.memory })
    }

    /// `kernel`, `initrd` and `cmdline` are a VMM's flags for each.
    fn flags(&self, kernel: &str, initrd: &str, cmdline: &str) -> Vec<OsString> {
        let mut flags = vec![kernel.into(), self.kernel.into()];
        if let Some(path) = self.initrd {
            flags.extend([initrd.into(), path.into()]);
        }
        flags.extend([cmdline.into(), self.cmdline.into()]);
        flags
    }
}

/// A VMM, with the arguments that boot the guest with one processor, and a serial port on standard
/// output.
struct Vmm {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// Purlin first, then those that the user has.
fn vmms(guest: &Guest<'_>, options: &Options, scratch: &Scratch) -> Result<Vec<Vmm>> {
    let linux = &options.linux;
    let mut vmms = vec![Vmm { name: PURLIN, program: options.purlin()?, arguments: purlin(guest) }];
    if let Some(program) = linux.firecracker.clone() {
        let config = scratch.file("firecracker.json", &firecracker(guest))?;
        let arguments = vec!["--no-api".into(), "--config-file".into(), config.into()];
        vmms.push(Vmm { name: "firecracker", program, arguments });
    }
    if let Some(program) = linux.cloud_hypervisor.clone() {
        vmms.push(Vmm { name: "cloud-hypervisor", program, arguments: cloud_hypervisor(guest) });
    }
    if let Some(program) = linux.qemu.clone() {
        vmms.push(Vmm { name: "qemu microvm", program, arguments: qemu(guest) });
    }
    Ok(vmms)
}

fn purlin(guest: &Guest<'_>) -> Vec<OsString> {
    let mut arguments = vec!["run".into()];
    arguments.extend(guest.flags("--kernel", "--initrd", "--cmdline"));
    arguments.extend(["--memory".into(), format!("{}M", guest.mib).into()]);
    arguments
}

fn firecracker(guest: &Guest<'_>) -> Vec<u8> {
    let mut source = json!({ "kernel_image_path": guest.kernel, "boot_args": guest.cmdline });
    if let (Some(initrd), Some(source)) = (guest.initrd, source.as_object_mut()) {
        source.insert("initrd_path".into(), json!(initrd));
    }
    let config = json!({
        "boot-source": source,
        "machine-config": { "vcpu_count": 1, "mem_size_mib": guest.mib },
        "drives": [],
    });
    config.to_string().into_bytes()
}

fn cloud_hypervisor(guest: &Guest<'_>) -> Vec<OsString> {
    let mut arguments = guest.flags("--kernel", "--initramfs", "--cmdline");
    arguments.extend(["--cpus", "boot=1", "--serial", "tty", "--console", "off"].map(Into::into));
    arguments.extend(["--memory".into(), format!("size={}M", guest.mib).into()]);
    arguments
}

fn qemu(guest: &Guest<'_>) -> Vec<OsString> {
    let machine =
        ["-M", "microvm,x-option-roms=off,isa-serial=on", "-accel", "kvm", "-cpu", "host"];
    let bare = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"];
    let mut arguments: Vec<OsString> = machine.into_iter().chain(bare).map(Into::into).collect();
    arguments.extend(["-serial", "stdio", "-smp", "1"].map(Into::into));
    arguments.extend(["-m".into(), format!("{}M", guest.mib).into()]);
    arguments.extend(guest.flags("-kernel", "-initrd", "-append"));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(initrd: Option<&'static Path>) -> Guest<'static> {
        Guest { kernel: Path::new("k"), initrd, cmdline: "a b", mib: 64 }
    }

    #[test]
    fn the_command_line_of_the_kernel_stays_one_argument() {
        let arguments = purlin(&guest(Some(Path::new("i"))));
        let expected =
            ["run", "--kernel", "k", "--initrd", "i", "--cmdline", "a b", "--memory", "64M"];
        assert_eq!(arguments, expected);
    }

    #[test]
    fn without_an_initial_ram_disk_no_vmm_is_told_of_one() {
        let without = guest(None);
        for arguments in [purlin(&without), cloud_hypervisor(&without), qemu(&without)] {
            assert!(!arguments.iter().any(|one| one.to_string_lossy().contains("init")));
        }
        assert!(!String::from_utf8(firecracker(&without)).unwrap().contains("initrd"));
    }

    #[test]
    fn a_kernel_that_is_not_there_is_named() {
        let linux = Linux {
            kernel: Some("/nonexistent/kernel".into()),
            initrd: None,
            cmdline: String::new(),
            marker: String::new(),
            memory: 64,
            firecracker: None,
            cloud_hypervisor: None,
            qemu: None,
        };
        let error = Guest::new(&linux).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/kernel"));
    }
}
