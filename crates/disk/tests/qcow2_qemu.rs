//! The same images in QEMU's hands and in ours: what one writes the other reads, and finds in order.
//!
//! Needs `qemu-img`. Without it these tests say so and do nothing, unless `REQUIRE_PEERS` is set.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it lacks"
)]

#[expect(dead_code, reason = "other tests use the rest")]
mod image;

use std::{env, fs, path::Path, process::Command};

use image::{Scratch, open};
use purlin_disk::{Access, Backing, Disk, Qcow2};

const LEN: u64 = 32 << 20;

#[expect(clippy::disallowed_methods, reason = "whether to skip is asked of the environment")]
fn has_qemu_img(test: &str) -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    assert!(found || env::var_os("REQUIRE_PEERS").is_none(), "{test} needs qemu-img");
    if !found {
        eprintln!("{test}: skipped, there is no qemu-img (package qemu-utils)");
    }
    found
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "qemu-img {arguments:?}: {text}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Sector `at` of a disk with generation `generation`.
fn sector(at: u64, generation: u8) -> [u8; 512] {
    let mut bytes = [generation; 512];
    bytes.first_chunk_mut().map(|first| *first = at.to_be_bytes()).unwrap();
    bytes
}

/// A raw disk with every 16th sector written.
fn raw(path: &Path) {
    let mut bytes = vec![0; usize::try_from(LEN).unwrap()];
    for (at, place) in (0..).zip(bytes.chunks_exact_mut(512)).step_by(16) {
        place.copy_from_slice(&sector(at, 1));
    }
    fs::write(path, bytes).unwrap();
}

/// Writes sectors all over the disk, zeroes some, discards some.
fn change(disk: &mut impl Disk, raw: &Path) {
    let mut expected = fs::read(raw).unwrap();
    for at in (0..LEN / 512).step_by(37) {
        disk.write_at(at * 512, &sector(at, 2)).unwrap();
        let place = usize::try_from(at * 512).unwrap();
        expected.get_mut(place..place + 512).unwrap().copy_from_slice(&sector(at, 2));
    }
    disk.write_zeroes(5 << 20, 3 << 20, true).unwrap();
    disk.write_zeroes((20 << 20) + 512, 1 << 20, false).unwrap();
    expected.get_mut(5 << 20..8 << 20).unwrap().fill(0);
    expected.get_mut((20 << 20) + 512..(21 << 20) + 512).unwrap().fill(0);
    // Given up, and written again: whatever was there must not show.
    disk.discard(24 << 20, 2 << 20).unwrap();
    disk.write_zeroes(24 << 20, 2 << 20, false).unwrap();
    expected.get_mut(24 << 20..26 << 20).unwrap().fill(0);
    disk.flush().unwrap();
    fs::write(raw, expected).unwrap();
}

#[test]
fn images_of_every_layout_are_read_changed_and_left_in_order() {
    if !has_qemu_img("images_of_every_layout_are_read_changed_and_left_in_order") {
        return;
    }
    let layouts = [
        "compat=1.1",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=2M",
        "refcount_bits=1",
        "refcount_bits=64",
        "preallocation=metadata",
        "preallocation=full",
        "lazy_refcounts=on",
    ];
    for layout in layouts {
        let scratch = Scratch::new("layouts");
        let (raw_path, path) = (scratch.path("raw"), scratch.path("image"));
        raw(&raw_path);
        let [from, to] = [text(&raw_path), text(&path)];
        qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "-o", layout, from, to]);
        let mut disk =
            open(&path).unwrap_or_else(|error| panic!("{layout}: {}", image::told(&error)));
        assert_eq!(disk.len(), LEN);
        change(&mut disk, &raw_path);
        drop(disk);
        qemu_img(&["check", "-f", "qcow2", to]);
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2", from, to]);
        open(&path).unwrap();
    }
}

#[test]
fn compressed_images_and_those_with_snapshots_keep_what_they_have() {
    if !has_qemu_img("compressed_images_and_those_with_snapshots_keep_what_they_have") {
        return;
    }
    let scratch = Scratch::new("compressed");
    let (raw_path, path) = (scratch.path("raw"), scratch.path("image"));
    raw(&raw_path);
    let [from, to] = [text(&raw_path), text(&path)];
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "-c", from, to]);
    qemu_img(&["snapshot", "-c", "before", to]);
    let before = fs::read(&raw_path).unwrap();
    let mut disk = open(&path).unwrap();
    change(&mut disk, &raw_path);
    drop(disk);
    qemu_img(&["check", "-f", "qcow2", to]);
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", from, to]);
    qemu_img(&["snapshot", "-a", "before", to]);
    fs::write(&raw_path, before).unwrap();
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", from, to]);
}

#[test]
fn an_overlay_is_changed_and_its_base_is_not() {
    if !has_qemu_img("an_overlay_is_changed_and_its_base_is_not") {
        return;
    }
    let scratch = Scratch::new("overlay");
    let [raw_path, base, path] = ["raw", "base", "image"].map(|name| scratch.path(name));
    raw(&raw_path);
    let [from, to] = [text(&raw_path), text(&path)];
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", from, text(&base)]);
    qemu_img(&["create", "-f", "qcow2", "-b", text(&base), "-F", "qcow2", to]);
    let before = fs::read(&base).unwrap();
    let backing = Backing::In(scratch.0.clone());
    let mut disk = Qcow2::open(&path, Access::ReadWrite, &backing).unwrap();
    change(&mut disk, &raw_path);
    drop(disk);
    qemu_img(&["check", "-f", "qcow2", to]);
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", from, to]);
    assert!(before == fs::read(&base).unwrap());
}

#[test]
fn formats_that_cannot_be_used_are_refused_by_name() {
    if !has_qemu_img("formats_that_cannot_be_used_are_refused_by_name") {
        return;
    }
    let scratch = Scratch::new("refused");
    let path = scratch.path("image");
    let data = format!("data_file={}", text(&scratch.path("data")));
    let refused = [
        (vec!["-o", "compression_type=zstd"], "a compression other than deflate"),
        (vec!["-o", "extended_l2=on"], "extended second-level entries"),
        (vec!["-o", &data], "an external data file"),
        (
            vec![
                "--object",
                "secret,id=s,data=x",
                "-o",
                "encrypt.format=luks,encrypt.key-secret=s",
            ],
            "encrypted",
        ),
    ];
    for (options, expected) in refused {
        let arguments = [&["create", "-f", "qcow2"], &options[..], &[text(&path), "64M"]].concat();
        qemu_img(&arguments);
        let error = image::told(&open(&path).unwrap_err());
        assert!(error.contains(expected), "{error} has no {expected}");
    }
}
