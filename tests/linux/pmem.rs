//! Files as persistent memory, by the drivers of a stock kernel.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use harness::Scratch;

use crate::{BOOT, Guest, value};

const SIZE: u64 = 64 << 20;
/// Where the guest leaves its mark.
const MARK: u64 = 48 << 20;

/// A sparse file that starts with `mark`.
fn image(path: &Path, mark: &[u8; 16]) {
    let file = File::create_new(path).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(mark, 0).unwrap();
}

fn bytes_at(path: &Path, offset: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

#[test]
fn a_file_system_in_persistent_memory_is_used_directly_and_lasts() {
    let test = "a_file_system_in_persistent_memory_is_used_directly_and_lasts";
    let scratch = Scratch::new(test);
    let (first, second) = (scratch.path("first.img"), scratch.path("second.img"));
    image(&first, b"made by the host");
    image(&second, b"not to be marred");
    let mut sums = Vec::new();
    // The second boot finds what the first has written.
    for boot in 0..2 {
        let Some(guest) = Guest::new(test, "pmem") else { return };
        let (first, second) = (first.display().to_string(), second.display().to_string());
        let pmem = ["--pmem", &first, "--pmem", &format!("{second},read-only=on")];
        let output = guest.programs().arguments(pmem).run().output;

        let found = format!("sectors={} dax=1", SIZE / 512);
        assert_eq!(value(&output, "PURLIN-PMEM "), Some(found.as_str()), "{output}");
        for ok in ["PURLIN-OK dax", "PURLIN-OK program"] {
            assert!(output.contains(ok), "{output}");
        }
        assert_eq!(output.contains("PURLIN-OK mark"), boot == 1, "{output}");
        assert_eq!(output.contains("PURLIN-FIRST made by the host"), boot == 0, "{output}");
        assert!(!output.contains("PURLIN-FAIL"), "{output}");
        assert_eq!(value(&output, "PURLIN-SECOND "), Some("not to be marred"), "{output}");
        assert_eq!(value(&output, "PURLIN-CHANGED "), Some("not to be marred"), "{output}");
        assert!(output.contains("PURLIN-OK refused"), "{output}");
        sums.extend(value(&output, "PURLIN-SUM ").map(str::to_owned));
    }
    assert_eq!((sums.len(), sums.first()), (2, sums.last()));
    assert_eq!(&bytes_at(&first, MARK), b"written by guest");
    assert_eq!(&bytes_at(&second, 0), b"not to be marred");
}

/// What a program of Debian prints, which is in a place that users do not have in their path.
fn printed(program: &str, arguments: &[&str]) -> String {
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    let output = Command::new(program).env("PATH", path).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// An ext4 image of a root file system, whose first program is `guest/daxroot.sh`.
fn root(guest: &Guest, scratch: &Scratch) -> PathBuf {
    let root = scratch.path("root");
    for name in ["bin", "sbin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy(guest.directory.join("busybox"), root.join("bin/busybox")).unwrap();
    symlink("busybox", root.join("bin/sh")).unwrap();
    fs::write(root.join("made-by-host"), "made by the host").unwrap();
    let init = root.join("sbin/init");
    fs::write(&init, include_str!("guest/daxroot.sh")).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let (root, image) = (root.display().to_string(), scratch.path("root.img"));
    let place = image.display().to_string();
    printed("mkfs.ext4", &["-q", "-b", "4096", "-d", &root, &place, "64M"]);
    image
}

#[test]
fn a_stock_kernel_has_its_root_in_persistent_memory() {
    let test = "a_stock_kernel_has_its_root_in_persistent_memory";
    let Some(guest) = Guest::new(test, "none") else { return };
    let scratch = Scratch::new(test);
    let image = root(&guest, &scratch).display().to_string();
    let guest = guest.cmdline("root=/dev/pmem0 rootflags=dax").arguments(["--pmem", &image]);
    let output = guest.run().output;

    let mount = value(&output, "PURLIN-ROOT ").unwrap_or_default();
    assert!(mount.starts_with("/dev/pmem0 / ext4 rw") && mount.contains("dax=always"), "{output}");
    assert_eq!(value(&output, "PURLIN-FOUND "), Some("made by the host"), "{output}");
    for ok in ["PURLIN-OK sync", "PURLIN-OK remount"] {
        assert!(output.contains(ok), "{output}");
    }
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    assert_eq!(printed("debugfs", &["-R", "cat /var/log/mark", &image]), "written by guest\n");
    printed("e2fsck", &["-fn", &image]);
}

#[test]
fn a_file_system_that_is_only_read_is_used_directly_and_cannot_be_changed() {
    let test = "a_file_system_that_is_only_read_is_used_directly_and_cannot_be_changed";
    let Some(guest) = Guest::new(test, "rodax") else { return };
    let scratch = Scratch::new(test);
    let image = root(&guest, &scratch);
    let before = fs::read(&image).unwrap();
    let pmem = format!("{},read-only=on", image.display());
    let output = guest.arguments(["--pmem", &pmem]).run().output;

    for ok in ["dax", "program", "refused", "same"] {
        assert!(output.contains(&format!("PURLIN-OK {ok}")), "{ok}: {output}");
    }
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    assert_eq!(value(&output, "PURLIN-FOUND "), Some("made by the host"), "{output}");
    assert!(fs::read(&image).unwrap() == before, "the image is as it was");
}

#[test]
fn a_guest_outlives_the_loss_of_its_persistent_memory() {
    let test = "a_guest_outlives_the_loss_of_its_persistent_memory";
    let Some(guest) = Guest::new(test, "cut") else { return };
    let scratch = Scratch::new(test);
    let path = scratch.path("pmem.img");
    image(&path, b"made by the host");
    let mut run = guest.programs().arguments(["--pmem", &path.display().to_string()]).start();
    run.expect("PURLIN-READY", BOOT);
    File::options().write(true).open(&path).unwrap().set_len(MARK / 4).unwrap();
    run.type_in("cut\n");
    let exit = run.wait(BOOT);

    let output = exit.output;
    assert_eq!(exit.status, 0, "{output} {}", exit.errors);
    for ok in ["mounted", "kept", "zeroes", "written", "told", "file"] {
        assert!(output.contains(&format!("PURLIN-OK {ok}")), "{ok}: {output} {}", exit.errors);
    }
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    for line in ["persistent memory has lost 54525952 bytes", "cannot be flushed"] {
        assert!(exit.errors.contains(line), "{}", exit.errors);
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), MARK / 4);
}
