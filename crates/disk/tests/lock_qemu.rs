//! Images that QEMU has, and images that we have: each is told of the other.
//!
//! Needs `qemu-io`. Without it these tests say so and do nothing, unless `REQUIRE_PEERS` is set.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it lacks"
)]

#[expect(dead_code, reason = "other tests use the rest")]
mod image;

use std::{
    env, fs,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use image::Scratch;
use purlin_disk::{Access, OpenError, Raw};

#[expect(clippy::disallowed_methods, reason = "whether to skip is asked of the environment")]
fn has_qemu_io(test: &str) -> bool {
    let found = Command::new("qemu-io").arg("--version").output().is_ok();
    assert!(found || env::var_os("REQUIRE_PEERS").is_none(), "{test} needs qemu-io");
    if !found {
        eprintln!("{test}: skipped, there is no qemu-io (package qemu-utils)");
    }
    found
}

fn qemu_io(path: &Path, access: Access) -> Command {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]).args((access == Access::ReadOnly).then_some("-r")).arg(path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Whether QEMU gets the image.
fn qemu_opens(path: &Path, access: Access) -> bool {
    qemu_io(path, access).stdin(Stdio::null()).status().unwrap().success()
}

/// A QEMU that has the image until it is told to quit.
fn qemu_has(path: &Path, access: Access) -> Child {
    let mut qemu = qemu_io(path, access).spawn().unwrap();
    qemu.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
    let mut answer = [0; 1];
    // Once it answers, it has the image.
    while answer != *b"M" {
        qemu.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    }
    qemu
}

fn image(test: &str) -> Scratch {
    let scratch = Scratch::new(test);
    fs::write(scratch.path("image"), vec![1; 1 << 20]).unwrap();
    scratch
}

#[test]
fn qemu_is_told_of_our_images_and_may_read_with_us() {
    if !has_qemu_io("qemu_is_told_of_our_images_and_may_read_with_us") {
        return;
    }
    let scratch = image("qemu-is-told");
    let path = scratch.path("image");
    for (ours, reads) in [(Access::ReadWrite, false), (Access::ReadOnly, true)] {
        let disk = Raw::open(&path, ours).unwrap();
        assert_eq!(qemu_opens(&path, Access::ReadOnly), reads, "reads beside our {ours}");
        assert!(!qemu_opens(&path, Access::ReadWrite), "writes beside our {ours}");
        drop(disk);
        assert!(qemu_opens(&path, Access::ReadWrite));
    }
}

#[test]
fn we_are_told_of_qemus_images_and_may_read_with_it() {
    if !has_qemu_io("we_are_told_of_qemus_images_and_may_read_with_it") {
        return;
    }
    let scratch = image("we-are-told");
    let path = scratch.path("image");
    for (its, reads) in [(Access::ReadWrite, false), (Access::ReadOnly, true)] {
        let mut qemu = qemu_has(&path, its);
        let reader = Raw::open(&path, Access::ReadOnly);
        assert_eq!(reader.is_ok(), reads, "{its}: {reader:?}");
        drop(reader);
        let writer = Raw::open(&path, Access::ReadWrite);
        assert!(matches!(writer, Err(OpenError::Locked { .. })), "{its}: {writer:?}");
        drop(qemu.stdin.take());
        qemu.wait().unwrap();
        Raw::open(&path, Access::ReadWrite).unwrap();
    }
}
