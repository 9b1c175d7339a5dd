//! qcow2 images that nobody should have made.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod image;

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use image::*;
use purlin_disk::{Access, Backing, Disk, OpenError, Qcow2, Raw};

/// What an image is refused with.
fn refusal(test: &str, image: &Image) -> String {
    let scratch = Scratch::new(test);
    let path = scratch.write("image", image);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Format { .. }), "{error}");
    let text = told(&error);
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    text
}

#[test]
fn headers_that_make_no_sense_are_refused_by_their_field() {
    let big = u32::MAX;
    let far = 1 << 55;
    let made = |change: &dyn Fn(&mut Image)| {
        let mut image = Image::new();
        change(&mut image);
        image
    };
    let cases = [
        (made(&|i| _ = i.u32(0, 0)), "does not begin as a qcow2 image does"),
        (made(&|i| _ = i.u32(4, 1)), "version 1"),
        (made(&|i| _ = i.u32(4, 4)), "version 4"),
        (made(&|i| _ = i.u32(CRYPT, 1)), "encrypted"),
        (made(&|i| _ = i.u32(CRYPT, 2)), "encrypted"),
        (made(&|i| _ = i.u32(CLUSTER_BITS, 8)), "cluster size is 0x8"),
        (made(&|i| _ = i.u32(CLUSTER_BITS, 22)), "cluster size is 0x16"),
        (made(&|i| _ = i.u32(CLUSTER_BITS, big)), "cluster size is 0xffffffff"),
        (made(&|i| _ = i.u64(SIZE, 0)), "the disk's size is 0x0"),
        (made(&|i| _ = i.u64(SIZE, 511)), "the disk's size is 0x1ff"),
        (made(&|i| _ = i.u64(SIZE, !511)), "first-level entries is 0x1"),
        (made(&|i| _ = i.u32(L1_ENTRIES, 0)), "first-level entries is 0x0"),
        (made(&|i| _ = i.u32(L1_ENTRIES, big)), "first-level entries is 0xffffffff"),
        (made(&|i| _ = i.u32(L1_ENTRIES, 4 << 20)), "the first-level table is 0x30000"),
        (made(&|i| _ = i.u64(L1_AT, 0)), "the first-level table is 0x0"),
        (made(&|i| _ = i.u64(L1_AT, L1 + 8)), "the first-level table is 0x30008"),
        (made(&|i| _ = i.u64(L1_AT, far)), "the first-level table is 0x80000000000000"),
        (made(&|i| _ = i.u64(L1_AT, u64::MAX << 16)), "the first-level table is 0xffff"),
        (made(&|i| _ = i.u64(L1_AT, REFCOUNTS)), "first-level table's place is 0x10000"),
        (made(&|i| _ = i.u64(REFCOUNTS_AT, far)), "the reference table is 0x80000000000000"),
        (made(&|i| _ = i.u32(REFCOUNTS_LEN, 0)), "reference table clusters is 0x0"),
        (made(&|i| _ = i.u32(REFCOUNTS_LEN, big)), "reference table clusters is 0xffffffff"),
        (made(&|i| _ = i.u32(REFCOUNTS_LEN, 128)), "the reference table is 0x10000"),
        (made(&|i| _ = i.u32(ORDER, 7)), "reference count width is 0x7"),
        (made(&|i| _ = i.u32(HEADER_LEN, 72)), "the header length is 0x48"),
        (made(&|i| _ = i.u32(HEADER_LEN, big)), "the header length is 0xffffffff"),
        (made(&|i| _ = i.u64(FEATURES, 1)), "not closed properly"),
        (made(&|i| _ = i.u64(FEATURES, 2)), "marked as corrupt"),
        (made(&|i| _ = i.u64(FEATURES, 4)), "an external data file"),
        (made(&|i| _ = i.u64(FEATURES, 8)), "compression"),
        (made(&|i| _ = i.u64(FEATURES, 16)), "extended second-level entries"),
        (made(&|i| _ = i.u64(FEATURES, 1 << 63)), "something unknown (incompatible feature 63)"),
        (made(&|i| _ = i.u64(BACKING_AT, 512)), "the backing image's name is 0x0"),
        (made(&|i| _ = i.u64(BACKING_AT, 512).u32(BACKING_LEN, 1024)), "name is 0x400"),
        (made(&|i| _ = i.u64(BACKING_AT, u64::MAX).u32(BACKING_LEN, 2)), "0xffffffffffffffff"),
        (made(&|i| _ = i.u64(BACKING_AT, 512).u32(BACKING_LEN, 2).u32(512, big)), "UTF-8"),
        // An extension that never ends, and the table of names that would end in half a name.
        (made(&|i| _ = i.u32(EXTENSIONS, 5).u32(EXTENSIONS + 4, big)), "header extensions"),
        (made(&|i| _ = i.bytes(104, &[1; (1 << 16) - 104])), "header extensions"),
        (made(&|i| _ = i.u32(EXTENSIONS, 0x6803_f857).u32(EXTENSIONS + 4, 1)), "feature names"),
    ];
    for (image, expected) in cases {
        let text = refusal("header", &image);
        assert!(text.contains(expected), "{text} has no {expected}");
    }
}

#[test]
fn what_is_too_short_for_a_header_is_refused() {
    let whole = Image::new().0;
    for len in [0, 1, 4, 71, 103, 104, 1 << 16] {
        let text = refusal("short", &Image(whole[..len].to_vec()));
        let expected = ["it does not begin", "of version 0", "must be", "cannot be read"];
        assert!(expected.iter().any(|expected| text.contains(expected)), "{len}: {text}");
    }
}

/// An image whose only second-level table, at cluster 4, has `entry` for all of the disk.
fn with_entries(entry: u64) -> Image {
    let mut image = Image::new();
    image.0.resize(6 << 16, 0);
    image.u64(L1, (1 << 63) | (4 * CLUSTER));
    for at in 0..LEN / CLUSTER {
        image.u64(4 * CLUSTER + 8 * at, entry);
    }
    image.bytes(BLOCK + 8, &[0, 1, 0, 1]);
    image
}

/// Reads and writes everywhere: how many calls fail. All of them return.
fn exercise(disk: &mut impl Disk) -> usize {
    let mut buf = vec![0; 1 << 16];
    let mut failed = 0;
    for at in 0..LEN / CLUSTER {
        failed += usize::from(disk.read_at(at * CLUSTER, &mut buf).is_err());
    }
    for at in 0..LEN / CLUSTER {
        failed += usize::from(disk.write_at(at * CLUSTER + 512, &buf[..1024]).is_err());
    }
    failed += usize::from(disk.discard(0, LEN / 2).is_err());
    failed += usize::from(disk.write_zeroes(512, LEN / 2, true).is_err());
    failed + usize::from(disk.flush().is_err())
}

#[test]
fn tables_that_lead_nowhere_are_errors_of_reads_and_no_writer_gets_them() {
    let scratch = Scratch::new("tables");
    let copied = 1 << 63;
    let nowhere = [
        ("data beyond the end", with_entries(copied | 1 << 50)),
        ("data at the last place", with_entries(copied | 0x00ff_ffff_ffff_0000)),
        ("data out of place", with_entries(copied | (5 * CLUSTER + 512))),
        ("reserved bits", with_entries(copied | 1 << 58 | (5 * CLUSTER))),
        ("compressed data beyond the end", with_entries(1 << 62 | 1 << 52)),
        ("compressed nonsense", with_entries(1 << 62 | 0xff << 54 | (5 * CLUSTER))),
        ("second level beyond the end", {
            let mut image = Image::new();
            image.u64(L1, copied | 1 << 50);
            image
        }),
    ];
    for (what, image) in nowhere {
        let path = scratch.write("image", &image);
        let error = told(&open(&path).expect_err(what));
        assert!(error.contains("outside of the image"), "{what}: {error}");
        let mut disk = Qcow2::open(&path, Access::ReadOnly, &Backing::Refused).unwrap();
        disk.read_at(0, &mut [0; 512]).expect_err(what);
        exercise(&mut disk);
    }
}

#[test]
fn no_writer_gets_an_image_with_tables_that_are_data_or_cannot_be_counted() {
    let scratch = Scratch::new("twice");
    let copied = 1 << 63;
    let mut snapshots = with_entries(0);
    snapshots.u32(60, 1).bytes(BLOCK + 8, &[0, 0]);
    let mut no_block = with_entries(0);
    no_block.u64(REFCOUNTS, 0);
    let wrong = [
        ("data at cluster 0x0", with_entries(copied | 512)),
        ("data at cluster 0x1", with_entries(copied | REFCOUNTS)),
        ("data at cluster 0x2", with_entries(copied | BLOCK)),
        ("data at cluster 0x3", with_entries(copied | L1)),
        ("data at cluster 0x4", with_entries(copied | (4 * CLUSTER))),
        ("data at cluster 0x5", with_entries(copied | (5 * CLUSTER))),
        ("compressed data at cluster 0x3", with_entries(1 << 62 | L1)),
        ("what no block counts, at cluster 0x0", no_block),
        ("what is not counted, at cluster 0x4", snapshots),
    ];
    for (expected, image) in wrong {
        let error = told(&open(&scratch.write("image", &image)).unwrap_err());
        assert!(error.contains(expected), "{error} has no {expected}");
    }
    for order in 0..=6 {
        let mut image = Image::new();
        image.u32(ORDER, order).bytes(BLOCK, &[0xff; 64]);
        let path = scratch.write("image", &image);
        open(&path).unwrap();
        assert!(fs::read(&path).unwrap() == image.0, "nothing was to be counted");
    }
}

#[test]
fn what_a_writer_that_was_killed_has_not_counted_is_counted() {
    let scratch = Scratch::new("killed");
    for (order, counts) in [
        (0, &[0b1111][..]),
        (1, &[0b0101_0101]),
        (2, &[0x11, 0x11]),
        (3, &[1, 1, 1, 1]),
        (4, &[0, 1, 0, 1, 0, 1, 0, 1]),
        (5, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ] {
        let mut image = Image::new();
        image.u32(ORDER, order).bytes(BLOCK, &[0; 16]);
        let path = scratch.write("image", &image);
        drop(open(&path).unwrap());
        let found = fs::read(&path).unwrap();
        let block = usize::try_from(BLOCK).unwrap();
        assert_eq!(found[block..block + counts.len()], *counts, "width 2^{order}");
    }
}

#[test]
fn reference_counts_that_lie_are_no_reason_to_hang_or_panic() {
    let scratch = Scratch::new("counts");
    let mut all_used = Image::new();
    all_used.bytes(BLOCK, &[0xff; 1 << 16]);
    let mut nowhere = Image::new();
    nowhere.u64(REFCOUNTS, 1 << 50);
    let mut table_is_block = Image::new();
    for at in 0..CLUSTER / 8 {
        table_is_block.u64(REFCOUNTS + 8 * at, REFCOUNTS);
    }
    let mut unaligned = Image::new();
    unaligned.u64(REFCOUNTS, BLOCK + 512);
    let mut nothing_used = Image::new();
    nothing_used.bytes(BLOCK, &[0; 8]);
    for image in [all_used, nowhere, table_is_block, unaligned, nothing_used] {
        let path = scratch.write("image", &image);
        if let Ok(mut disk) = open(&path) {
            exercise(&mut disk);
        }
    }
}

#[test]
fn an_image_never_grows_beyond_what_its_disk_needs() {
    let scratch = Scratch::new("grows");
    let mut image = Image::new();
    // The first 2 GiB of the file are said to be in use, so new clusters come behind them.
    image.bytes(BLOCK, &[0xff; 1 << 16]);
    let path = scratch.write("image", &image);
    let mut disk = open(&path).unwrap();
    disk.write_at(0, &[1; 512]).unwrap_err();
    disk.write_zeroes(0, LEN, false).unwrap_err();
    drop(disk);
    let len = fs::metadata(&path).unwrap().len();
    assert!(len < 2 * LEN + (128 << 20), "{len} bytes");
}

/// Numbers that look random and are the same each time (xorshift).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn an_image_with_any_bytes_changed_is_refused_or_has_errors_and_no_more() {
    let scratch = Scratch::new("changed");
    let path = scratch.path("good");
    let good = [Image::new(), Image::small()].map(|image| {
        let mut disk = open(&scratch.write("good", &image)).unwrap();
        disk.write_at(0, &vec![1; 5 << 14]).unwrap();
        disk.write_zeroes(CLUSTER, CLUSTER, true).unwrap();
        drop(disk);
        fs::read(&path).unwrap()
    });
    let (sender, done) = mpsc::channel();
    let bad = scratch.path("bad");
    thread::spawn(move || {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        (0..ROUNDS).for_each(|round| change(&mut state, &good[round % 2], &bad));
        sender.send(()).unwrap();
    });
    done.recv_timeout(Duration::from_secs(300)).expect("it returns, and does not panic");
}

/// How many changed images are tried.
const ROUNDS: usize = 1000;

/// Changes some bytes of `good`, in its tables if it has few, and uses what comes out as a disk.
fn change(state: &mut u64, good: &[u8], bad: &Path) {
    let mut image = good.to_vec();
    let len = u64::try_from(good.len()).unwrap();
    for _ in 0..=next(state) % 4 {
        let at = match next(state) % 4 {
            // The header, the beginnings of large clusters, anywhere.
            0 => next(state) % 128,
            1 | 2 => ((next(state) % len.div_ceil(1 << 16)) << 16) | (next(state) % 4096),
            _ => next(state) % len,
        };
        let special = [0, 1, 2, 0x40, 0x7f, 0x80, 0xff];
        let value = special[usize::try_from(next(state) % 7).unwrap()];
        if let Some(byte) = image.get_mut(usize::try_from(at).unwrap()) {
            *byte = value;
        }
    }
    fs::write(bad, &image).unwrap();
    let read_only = || Qcow2::open(bad, Access::ReadOnly, &Backing::Refused);
    // What a writer leaves can be used again.
    for _ in 0..2 {
        if let Ok(mut disk) = open(bad).or_else(|_| read_only()) {
            let len = disk.len();
            let _ = disk.read_at(len - 512, &mut [0; 512]);
            if len >= LEN {
                exercise(&mut disk);
            }
        }
    }
}

#[test]
fn a_giant_disk_takes_no_memory_for_what_is_not_there() {
    let scratch = Scratch::new("giant");
    let mut image = Image::new();
    // 2 PiB: as much as the largest first-level table can stand for.
    image.u64(SIZE, 1 << 51).u32(L1_ENTRIES, 4 << 20).bytes(BLOCK, &[1; 2 * 515]);
    let path = scratch.write("image", &image);
    File::options().write(true).open(&path).unwrap().set_len(64 << 20).unwrap();
    let mut disk = open(&path).unwrap();
    assert_eq!(disk.len(), 1 << 51);
    disk.write_at((1 << 51) - 512, &[1; 512]).unwrap();
    let mut buf = [0; 512];
    disk.read_at((1 << 51) - 512, &mut buf).unwrap();
    assert_eq!(buf, [1; 512]);
    drop(disk);
    assert!(memory_peak() < 256 << 10, "{} KiB", memory_peak());
}

/// The most memory that this process has had, KiB.
fn memory_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

fn refused(scratch: &Scratch, name: &str, allow: &Backing) -> String {
    let path = scratch.path(name);
    let error = Qcow2::open(&path, Access::ReadOnly, allow).unwrap_err();
    assert!(matches!(error, OpenError::Backing { .. }), "{error}");
    told(&error)
}

#[test]
fn nothing_is_behind_an_image_unless_it_was_allowed() {
    let scratch = Scratch::new("allowed");
    let (inside, outside) = (scratch.path("inside"), scratch.path("outside"));
    for dir in [&inside, &outside] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("base"), vec![7; 1 << 18]).unwrap();
    }
    symlink(outside.join("base"), inside.join("link")).unwrap();
    let make = |name: &str, to: &str| scratch.write(name, Image::new().backed_by(to, "raw"));
    make("good", "inside/base");
    make("dots", "inside/../outside/base");
    make("link", "inside/link");
    make("absolute", "/etc/hostname");
    make("device", "/dev/zero");
    make("missing", "inside/nothing");

    for name in ["good", "dots", "absolute", "missing"] {
        let text = refused(&scratch, name, &Backing::default());
        assert!(text.contains("no backing image was allowed"), "{text}");
        assert!(text.contains("qemu-img convert"), "{text}");
    }
    for allow in [inside.clone(), inside.join("base")] {
        let allow = Backing::In(allow);
        for name in ["dots", "link", "absolute", "device"] {
            let text = refused(&scratch, name, &allow);
            assert!(text.contains("not in it"), "{text}");
        }
        Qcow2::open(scratch.path("good"), Access::ReadOnly, &allow).unwrap();
    }
    let nowhere = Backing::In(scratch.path("nowhere"));
    assert!(refused(&scratch, "good", &nowhere).contains("nowhere\", which cannot be found"));
    assert!(refused(&scratch, "device", &Backing::Any).contains("neither a regular file"));
    assert!(refused(&scratch, "missing", &Backing::Any).contains("cannot be found"));
    Qcow2::open(scratch.path("link"), Access::ReadOnly, &Backing::Any).unwrap();
}

#[test]
fn the_format_of_an_image_behind_is_never_guessed() {
    let scratch = Scratch::new("format");
    // Raw by what is said, whatever its first bytes are.
    scratch.write("base", Image::new().backed_by("/etc/passwd", "raw"));
    scratch.write("none", Image::new().backed_by("base", ""));
    scratch.write("other", Image::new().backed_by("base", "vmdk"));
    scratch.write("raw", Image::new().backed_by("base", "raw"));
    assert!(refused(&scratch, "none", &Backing::Any).contains("does not say which format"));
    assert!(refused(&scratch, "other", &Backing::Any).contains("`raw` or `qcow2`"));
    let mut disk = Qcow2::open(scratch.path("raw"), Access::ReadOnly, &Backing::Any).unwrap();
    let mut bytes = [0; 4];
    disk.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"QFI\xfb");
    assert!(Raw::open(scratch.path("base"), Access::ReadOnly).unwrap().begins_as_qcow2().unwrap());
}

#[test]
fn a_chain_that_is_a_loop_or_too_long_is_refused() {
    let scratch = Scratch::new("loop");
    scratch.write("self", Image::new().backed_by("self", "qcow2"));
    scratch.write("a", Image::new().backed_by("b", "qcow2"));
    scratch.write("b", Image::new().backed_by("c", "qcow2"));
    fs::hard_link(scratch.path("a"), scratch.path("c")).unwrap();
    for at in 0..17 {
        let behind = format!("chain-{}", at + 1);
        scratch.write(&format!("chain-{at}"), Image::new().backed_by(&behind, "qcow2"));
    }
    scratch.write("chain-16", &Image::new());

    assert!(refused(&scratch, "self", &Backing::Any).contains("is a loop"));
    assert!(refused(&scratch, "a", &Backing::Any).contains("is a loop"));
    assert!(refused(&scratch, "chain-0", &Backing::Any).contains("16th image"));
    Qcow2::open(scratch.path("chain-1"), Access::ReadOnly, &Backing::Any).unwrap();
    // For writing as well, where the lock would be in the way.
    let error = Qcow2::open(scratch.path("self"), Access::ReadWrite, &Backing::Any).unwrap_err();
    assert!(told(&error).contains("is a loop"));
}
