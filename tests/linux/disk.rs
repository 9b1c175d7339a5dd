//! Disks and random numbers, by the drivers of a stock kernel.

use std::process::Command;

use harness::Scratch;

use crate::{Guest, value};

const SIZE: usize = 8 << 20;

fn image(mark: &[u8; 16]) -> Vec<u8> {
    let mut image = mark.to_vec();
    image.resize(SIZE, 0);
    image
}

#[test]
fn a_stock_kernel_reads_and_writes_disks_and_gets_random_numbers() {
    let test = "a_stock_kernel_reads_and_writes_disks_and_gets_random_numbers";
    let Some(guest) = Guest::new(test, "disk") else { return };
    let scratch = Scratch::new(test);
    let first = scratch.file("first.img", &image(b"made by the host"));
    let second = scratch.file("second.img", &image(b"not to be marred"));
    let first_flag = format!("{},id=data-disk", first.display());
    let second_flag = format!("{},read-only=on", second.display());
    let disks = ["--disk", &first_flag, "--disk", &second_flag, "--rng", "/dev/urandom"];
    let output = guest.arguments(disks).run().output;

    let found = value(&output, "PURLIN-DISK ").expect(&output);
    assert_eq!(found, format!("sectors={} serial=data-disk first=made by the host", SIZE / 512));
    assert_eq!(value(&output, "PURLIN-BLOCKS "), Some("512 4096 4096"), "{output}");
    assert!(output.contains("PURLIN-OK data"), "{output}");
    assert!(output.contains("PURLIN-OK read-only"), "{output}");
    assert_eq!(value(&output, "PURLIN-RNG "), Some("virtio_rng.0 4096"), "{output}");

    let written = std::fs::read(&first).unwrap();
    assert_eq!(&written[16..32], b"written by guest");
    let sum = Command::new("sh")
        .args(["-c", "dd if=\"$1\" bs=64k skip=1 count=48 2>/dev/null | md5sum", "sh"])
        .arg(&first)
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(value(&output, "PURLIN-SUM "), Some(sum.trim()), "{output}");
    assert_eq!(std::fs::read(&second).unwrap(), image(b"not to be marred"));
}
