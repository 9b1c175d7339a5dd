//! Disks under load: file systems, verification, room that is given back, an end without warning.

use std::{
    fs::File,
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use disk::{Access, Backing, Qcow2, Raw};
use harness::{Scratch, qcow2};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rate::{Rate, Rates};
use vcpu::Vcpus;
use virtio::Handle;
use virtio_blk::Blk;
use vmm::config::{Bus, Config, Disk};

use crate::{
    BOOT, Guest,
    inside::{config, machine, printed, run},
    value,
};

const LEN: u64 = 64 << 20;
/// What a file system, fio's files and the tables of an image take; much less than what is deleted.
const KEPT: u64 = 16 << 20;

/// A raw image and a qcow2 one on top of another, and the flags for them.
fn disks(scratch: &Scratch) -> [String; 4] {
    let raw = scratch.file("raw.img", &[]);
    let file = File::options().write(true).open(&raw).unwrap();
    file.set_len(LEN).unwrap();
    scratch.file("base.qcow2", &qcow2(LEN, ""));
    let cow = scratch.file("cow.qcow2", &qcow2(LEN, "base.qcow2"));
    let raw = format!("{},id=raw,engine=io_uring,queues=2", raw.display());
    let base = scratch.path("base.qcow2");
    let cow = format!("{},id=cow,format=qcow2,backing={}", cow.display(), base.display());
    ["--disk".into(), raw, "--disk".into(), cow]
}

fn bytes_on_host(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn file_systems_hold_what_is_written_and_give_back_what_is_not_needed() {
    let test = "file_systems_hold_what_is_written_and_give_back_what_is_not_needed";
    for bus in ["pci", "mmio"] {
        let Some(guest) = Guest::new(test, "blk") else { return };
        let scratch = Scratch::new(test);
        let before = qcow2(LEN, "");
        let guest = guest.arguments(["--bus", bus, "--cpus", "2"]).arguments(disks(&scratch));
        let output = guest.programs().run().output;

        assert!(!output.contains("PURLIN-FAIL"), "{output}");
        assert_eq!(value(&output, "PURLIN-QUEUES-raw "), Some("2"), "{output}");
        assert_eq!(value(&output, "PURLIN-QUEUES-cow "), Some("1"), "{output}");
        for (name, file) in [("raw", "raw.img"), ("cow", "cow.qcow2")] {
            assert!(output.contains(&format!("PURLIN-OK {name}")), "{output}");
            let kept = bytes_on_host(&scratch.path(file));
            assert!(kept < KEPT, "{file} takes {kept} bytes of the host after fstrim");
        }
        let behind = std::fs::read(scratch.path("base.qcow2")).unwrap();
        assert!(behind == before, "what is behind an image is not written");
    }
}

#[test]
fn what_was_flushed_is_there_after_the_vmm_was_killed() {
    let test = "what_was_flushed_is_there_after_the_vmm_was_killed";
    let Some(guest) = Guest::new(test, "killed") else { return };
    let scratch = Scratch::new(test);
    let mut purlin = guest.arguments(disks(&scratch)).start();
    purlin.expect("PURLIN-FLUSHED", BOOT);
    let id = i32::try_from(purlin.id()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGKILL).unwrap();
    let exit = purlin.wait(BOOT);
    assert!(!exit.output.contains("PURLIN-FAIL"), "{}", exit.output);

    let expected: Vec<u8> = b"purlin\n".iter().copied().cycle().take(1 << 20).collect();
    let mut raw = Raw::open(scratch.path("raw.img"), Access::ReadOnly).unwrap();
    let backing = Backing::In(scratch.path("base.qcow2"));
    let mut cow = Qcow2::open(scratch.path("cow.qcow2"), Access::ReadWrite, &backing).unwrap();
    let disks: [&mut dyn disk::Disk; 2] = [&mut raw, &mut cow];
    for disk in disks {
        let mut found = vec![0; 1 << 20];
        disk.read_at(0, &mut found).unwrap();
        assert!(found == expected, "a disk of {} bytes", disk.len());
    }
}

/// Gives `disk`, whose image is at `path`, another size twice, and rates of its own.
fn resize(cpus: &Vcpus, disk: &Handle<Blk>, [console, path]: [&Path; 2]) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    let file = File::options().write(true).open(path).map_err(|error| failed(&error))?;
    let ops = NonZeroU64::new(100).map(Rate::new);
    assert!(disk.with(|blk| blk.set_rates(Rates { ops, bytes: None })));
    for (before, len) in [("PURLIN-SMALL ", 2 << 20), ("PURLIN-LARGE ", 1 << 19)] {
        printed(cpus, console, before)?;
        file.set_len(len).map_err(|error| failed(&error))?;
        let told = disk.with(|blk| blk.resize()).map_err(|error| failed(&error))?;
        assert_eq!(told, len);
    }
    printed(cpus, console, "PURLIN-LESS ").map(drop)
}

#[test]
fn a_running_guest_follows_a_disk_that_grows_and_shrinks() {
    let test = "a_running_guest_follows_a_disk_that_grows_and_shrinks";
    let Some(guest) = Guest::new(test, "resize") else { return };
    let scratch = Scratch::new(test);
    let console = scratch.path("console");
    let image = scratch.file("image", &[0; 1 << 20]);
    for bus in [Bus::Pci, Bus::Mmio] {
        File::options().write(true).open(&image).unwrap().set_len(1 << 20).unwrap();
        let disk = Disk { path: image.clone(), ..Disk::default() };
        let config = Config { bus, disk: vec![disk], ..config(&guest, &console) };
        let machine = machine(&config);
        let [disk] = machine.disks().try_into().unwrap();
        let ((), output) = run(machine, &console, |cpus| resize(cpus, &disk, [&console, &image]));

        for (mark, sectors) in [("SMALL", "2048"), ("LARGE", "4096"), ("LESS", "1024")] {
            assert_eq!(value(&output, &format!("PURLIN-{mark} ")), Some(sectors), "{output}");
        }
        let mut bytes = [0; 4];
        File::open(&image).unwrap().read_exact_at(&mut bytes, (1 << 19) - 512).unwrap();
        assert_eq!(&bytes, b"less");
    }
}
