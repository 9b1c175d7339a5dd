//! Shared directories, by the driver of a stock kernel.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use harness::{Purlin, Scratch};

use crate::{BOOT, Guest, value};

fn md5(path: &Path) -> String {
    let sum = Command::new("sh").args(["-c", "md5sum <\"$1\"", "sh"]).arg(path).output().unwrap();
    String::from_utf8(sum.stdout).unwrap().trim().into()
}

fn shares(scratch: &Scratch) -> [String; 2] {
    for name in ["rw", "ro"] {
        fs::create_dir(scratch.path(name)).unwrap();
    }
    let data: Vec<u8> =
        (0..1_000_000_u32).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    scratch.file("rw/host", &data);
    scratch.file("ro/text", b"text");
    symlink("/tmp/secret", scratch.path("rw/out")).unwrap();
    let [rw, ro] = ["rw", "ro"].map(|name| scratch.path(name).display().to_string());
    [rw, format!("{ro},tag=source,read-only=on")]
}

#[test]
fn a_stock_kernel_reads_and_writes_shared_directories() {
    let test = "a_stock_kernel_reads_and_writes_shared_directories";
    let Some(guest) = Guest::new(test, "fs") else { return };
    let scratch = Scratch::new(test);
    let [rw, ro] = shares(&scratch);
    let output = guest.arguments(["--fs", &rw, "--fs", &ro]).run().output;

    for ok in ["data", "names", "removal", "reading", "read-only", "umount"] {
        assert!(output.contains(&format!("PURLIN-OK {ok}")), "{ok}: {output}");
    }
    let rw = scratch.path("rw");
    assert_eq!(
        value(&output, "PURLIN-SUM-HOST "),
        Some(md5(&rw.join("host")).as_str()),
        "{output}"
    );
    assert_eq!(
        value(&output, "PURLIN-SUM-GUEST "),
        Some(md5(&rw.join("guest")).as_str()),
        "{output}"
    );
    let numbers: String = (1..=400).map(|number| format!("{number}\n")).collect();
    let list = format!("400 {}", md5(&scratch.file("numbers", numbers.as_bytes())));
    assert_eq!(value(&output, "PURLIN-LIST "), Some(list.as_str()), "{output}");
    assert_eq!(value(&output, "PURLIN-STAT "), Some("640 12 34 1000000000 3145728"), "{output}");
    assert_eq!(value(&output, "PURLIN-LINK "), Some("/tmp/secret guest"), "{output}");

    let metadata = fs::metadata(rw.join("guest")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mtime()), (12, 34, 1_000_000_000));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    let mut left: Vec<_> =
        fs::read_dir(&rw).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["guest", "host", "out"]);
    assert_eq!(fs::read(scratch.path("ro/text")).unwrap(), b"text");
}

/// A directory that a command can run in.
fn root(scratch: &Scratch) -> PathBuf {
    let root = scratch.path("root");
    for name in ["bin", "dev", "proc"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    root
}

#[test]
fn a_command_runs_without_an_initial_ram_disk_on_every_stock_kernel() {
    let test = "a_command_runs_without_an_initial_ram_disk_on_every_stock_kernel";
    let Some(guest) = Guest::new(test, "none") else { return };
    let scratch = Scratch::new(test);
    let root = root(&scratch);
    fs::copy(guest.directory.join("busybox"), root.join("bin/busybox")).unwrap();
    symlink("busybox", root.join("bin/sh")).unwrap();
    for flavour in ["cloud", "generic"] {
        let kernel = guest.directory.join(flavour).join(guest.image);
        let words = ["run", "--kernel", kernel.to_str().unwrap(), "--root", root.to_str().unwrap()];
        let command = ["--", "sh", "-c", "echo PURLIN-STOCK here; exit 7"];
        let exit = Purlin::start(words.into_iter().chain(command)).wait(BOOT);
        assert_eq!(exit.status, 7, "{flavour}: {} {}", exit.output, exit.errors);
        assert_eq!(value(&exit.output, "PURLIN-STOCK "), Some("here"), "{}", exit.output);
    }
}

#[test]
fn a_command_runs_in_a_directory_of_the_host_and_its_status_comes_out() {
    let test = "a_command_runs_in_a_directory_of_the_host_and_its_status_comes_out";
    let Some(guest) = Guest::new(test, "root") else { return };
    let scratch = Scratch::new(test);
    let root = root(&scratch).display().to_string();
    let script = "echo \"PURLIN-ROOT $1\" && test -e /proc/self && echo written >/file && exit 42";
    let command = ["--bus", "mmio", "--root", &root, "--", "sh", "-c", script, "sh", "two words"];
    let exit = guest.arguments(command).run();
    assert_eq!(exit.status, 42, "{}", exit.output);
    assert_eq!(value(&exit.output, "PURLIN-ROOT "), Some("two words"), "{}", exit.output);
    assert_eq!(fs::read(Path::new(&root).join("file")).unwrap(), b"written\n");
    assert!(!Path::new(&root).join(".purlin-init").exists());
}
