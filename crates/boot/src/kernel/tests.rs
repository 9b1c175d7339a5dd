use std::fs::File;

use super::*;
use crate::testing::{CODE, Load, bzimage, elf, elf_of, file_of, note, patch, pvh_note};

const RAM_END: u64 = 16 << 20;

fn check(image: &[u8]) -> Result<(Entry, u64), KernelError> {
    check_as(image, Protocol::Auto)
}

fn check_as(image: &[u8], protocol: Protocol) -> Result<(Entry, u64), KernelError> {
    let file = file_of(image);
    Kernel::new(&file, protocol, RAM_END).map(|kernel| (kernel.entry, kernel.end))
}

fn refusal(image: &[u8]) -> String {
    check(image).unwrap_err().to_string()
}

fn patched(mut image: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    patch(&mut image, at, value);
    image
}

#[test]
fn the_kind_is_told_from_the_content() {
    let kinds =
        [bzimage(), elf(&[]), elf(&pvh_note())].map(|image| probe(&file_of(&image)).unwrap());
    assert_eq!(kinds, [KernelKind::BzImage, KernelKind::Elf, KernelKind::Pvh]);
}

#[test]
fn what_is_no_kernel_is_refused_with_its_first_bytes() {
    let error = refusal(b"{\"not\": \"a kernel\"}");
    assert!(
        error.starts_with("not a kernel: starts with 7b 22 6e 6f 74 22 3a 20; expected"),
        "{error}"
    );
    assert!(error.contains("expected a bzImage"), "{error}");
}

#[test]
fn an_empty_file_is_refused() {
    assert_eq!(refusal(&[]), "kernel image is empty");
}

#[test]
fn a_directory_is_refused() {
    let directory = File::open(std::env::temp_dir()).unwrap();
    let error = Kernel::new(&directory, Protocol::Auto, RAM_END).unwrap_err();
    assert_eq!(error.to_string(), "kernel image is a directory; expected a regular file");
}

#[test]
fn a_bzimage_enters_at_its_64_bit_entry_if_it_has_one() {
    let (entry, end) = check(&bzimage()).unwrap();
    assert_eq!(entry, Entry::Linux64(0x10_0200));
    assert_eq!(end, 0x21_0000);
}

#[test]
fn a_bzimage_without_a_64_bit_entry_enters_at_code32_start() {
    let image = patched(bzimage(), 0x236, &[0, 0]);
    assert_eq!(check(&image).unwrap().0, Entry::Linux32(0x10_0000));
}

#[test]
fn a_bzimage_too_old_for_a_64_bit_entry_enters_at_code32_start() {
    let image = patched(bzimage(), 0x206, &[0x0b, 0x02]);
    assert_eq!(check(&image).unwrap().0, Entry::Linux32(0x10_0000));
}

#[test]
fn a_bzimage_that_cannot_move_is_put_where_it_wants_to_be() {
    let image = patched(bzimage(), 0x234, &[0]);
    assert_eq!(check(&image).unwrap().0, Entry::Linux64(0x20_0200));
}

#[test]
fn a_bzimage_may_lack_the_padding_of_its_last_paragraph() {
    let image = bzimage();
    assert!(check(&image[..image.len() - 15]).is_ok());
    let error = refusal(&image[..image.len() - 16]);
    assert!(error.contains("setup and code end at 0x800, the file at 0x7f0"), "{error}");
}

#[test]
fn lies_of_a_bzimage_are_refused_with_the_value_and_what_would_be_right() {
    let cases: [(usize, &[u8], &str); 12] = [
        (0x1f1, &[0xff], "setup and code end at 0x20400, the file at 0x800"),
        (0x1f4, &[0xff; 4], "setup and code end at 0x10000003f0, the file at 0x800"),
        (0x1f4, &[0; 4], "has 0x0 bytes of code; expected more than 0x200"),
        (0x1fe, &[0, 0], "has 0x0000 at 0x1fe; expected 0xaa55"),
        (0x201, &[0x10], "header ends at 0x212; protocol 0x020f needs 0x264"),
        (0x206, &[0, 2], "boot protocol 0x0200; expected 0x0202 or newer"),
        (0x211, &[0], "zImage (loadflags 0x00); expected a bzImage"),
        (0x258, &[0, 0, 9, 0, 0, 0, 0, 0], "pref_address is 0x90000; expected 0x100000 or higher"),
        (0x258, &[0xff; 8], "at 0xffffffffffffffff ends beyond 0xc0000000"),
        (0x260, &[0, 0, 0, 0x01], "(init_size) of 0x1000000 bytes at 0x200000 ends beyond RAM"),
        (0x260, &[0, 0, 0, 0x01], "give the machine at least 18 MiB"),
        (0x260, &[0xff; 4], "of 0xffffffff bytes at 0x200000 ends beyond 0xc0000000"),
    ];
    for (at, value, expected) in cases {
        let error = refusal(&patched(bzimage(), at, value));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_32_bit_entry_outside_the_code_is_refused() {
    let image = patched(patched(bzimage(), 0x236, &[0, 0]), 0x214, &[0, 0, 0, 0x80]);
    let error = refusal(&image);
    assert!(error.contains("code32_start is 0x80000000"), "{error}");
    assert!(error.contains("0x100000 to 0x100400"), "{error}");
}

#[test]
fn an_old_header_lends_no_fields_that_it_does_not_have() {
    let image = patched(bzimage(), 0x206, &[0x02, 0x02]);
    let file = file_of(&image);
    let kernel = Kernel::new(&file, Protocol::Auto, RAM_END).unwrap();
    assert_eq!(kernel.cmdline_most, 255);
    assert_eq!(kernel.initrd_limit, 0x3800_0000);
    assert_eq!(kernel.end, 0x10_0000 + CODE as u64);
}

#[test]
fn a_bzimage_has_no_pvh_entry() {
    let error = check_as(&bzimage(), Protocol::Pvh).unwrap_err();
    assert!(error.to_string().contains("it is a bzImage"), "{error}");
}

#[test]
fn an_elf_without_a_note_enters_in_64_bit_mode() {
    assert_eq!(check(&elf(&[])).unwrap(), (Entry::Linux64(0x10_0010), 0x20_0200));
}

#[test]
fn an_elf_with_a_pvh_note_enters_by_pvh_unless_told_otherwise() {
    let image = elf(&pvh_note());
    assert_eq!(check(&image).unwrap().0, Entry::Pvh(0x10_0020));
    assert_eq!(check_as(&image, Protocol::Linux).unwrap().0, Entry::Linux64(0x10_0010));
}

#[test]
fn pvh_needs_the_note() {
    let error = check_as(&elf(&[]), Protocol::Pvh).unwrap_err();
    assert!(error.to_string().ends_with("the ELF has no PVH note"), "{error}");
}

#[test]
fn a_32_bit_elf_starts_by_pvh() {
    let note = note(b"Xen\0", 18, &0x10_0020_u32.to_le_bytes());
    let elf = |note: &[u8]| {
        let mut image = vec![0; 0x200];
        patch(&mut image, 0, b"\x7fELF\x01\x01\x01");
        patch(&mut image, 16, &[2, 0, 3, 0]);
        patch(&mut image, 28, &[52]);
        patch(&mut image, 42, &[32, 0, 2]);
        let fields: [u32; 8] = [1, 0x100, 0xc010_0000, 0x10_0000, 0x80, 0x80, 0, 4];
        patch(&mut image, 52, fields.map(u32::to_le_bytes).as_flattened());
        let fields: [u32; 8] = [4, 0x180, 0, 0, u32::try_from(note.len()).unwrap(), 0, 0, 4];
        patch(&mut image, 84, fields.map(u32::to_le_bytes).as_flattened());
        patch(&mut image, 0x180, note);
        image
    };
    assert_eq!(check(&elf(&note)).unwrap().0, Entry::Pvh(0x10_0020));
    let error = refusal(&elf(&[]));
    assert!(error.contains("it is a 32-bit ELF, which can start only by PVH"), "{error}");
}

#[test]
fn lies_of_an_elf_are_refused_with_the_value_and_what_would_be_right() {
    let cases: [(usize, &[u8], &str); 14] = [
        (4, &[3], "has class 3 and byte order 1"),
        (5, &[2], "has class 2 and byte order 2"),
        (18, &[0xb7], "has machine 0xb7 and type 2"),
        (16, &[1], "has machine 0x3e and type 1"),
        (24, &[0, 0, 0x30], "entry point 0x300000 is in no loaded segment"),
        (32, &[0xff; 8], "program headers end at 0xffffffffffffffff, the file at 0x400"),
        (54, &[32], "has 3 program headers of 32 bytes; expected 1 to 128 of 56"),
        (56, &[0], "has 0 program headers of 56 bytes"),
        (56, &[0xff, 0xff], "has 65535 program headers of 56 bytes"),
        (64 + 8, &[0xff; 8], "ELF segment 0 of 0x100 bytes at file offset 0xffffffffffffffff"),
        (64 + 24, &[0, 0, 0x08], "ELF segment 0 is at 0x80000; expected a physical address"),
        (64 + 32, &[1, 1], "ELF segment 0 has 0x101 bytes in the file, more than its 0x100"),
        (120 + 24, &[0x80, 0, 0x10], "ELF segments 0 and 1 overlap at 0x100080"),
        (
            120 + 40,
            &[0, 0, 0, 0, 1],
            "ELF segment 1 of 0x100000000 bytes at 0x200000 ends beyond 0xc0",
        ),
    ];
    for (at, value, expected) in cases {
        let error = refusal(&patched(elf(&[]), at, value));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_elf_beyond_ram_is_told_how_much_would_do() {
    let image = patched(elf(&[]), 120 + 24, &[0, 0, 0, 0x02]);
    let error = refusal(&image);
    assert!(error.contains("segment 1 of 0x200 bytes at 0x2000000 ends beyond RAM (0x1000000)"));
    assert!(error.ends_with("give the machine at least 33 MiB"), "{error}");
}

#[test]
fn an_elf_with_nothing_to_load_is_refused() {
    let load = Load { kind: 1, offset: 0, address: 0x10_0000, file: 0, memory: 0 };
    let error = refusal(&elf_of(&[load], &[]));
    assert!(error.starts_with("the ELF has no segment to load"), "{error}");
}

#[test]
fn lies_of_a_note_are_refused() {
    let cases: [(&[u8], &str); 4] = [
        (&patched(pvh_note(), 0, &[0xff; 4]), "ELF note at 0x400 has"),
        (&patched(pvh_note(), 4, &[0xff; 4]), "ELF note at 0x400 has"),
        (&note(b"Xen\0", 18, &[1, 2, 3]), "PVH note has 3 bytes; expected an address of 4 or 8"),
        (&note(b"Xen\0", 18, &[0xff; 8]), "PVH entry 0xffffffffffffffff is in no loaded segment"),
    ];
    for (note, expected) in cases {
        let error = refusal(&elf(note));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_note_segment_beyond_the_file_is_refused() {
    let image = patched(elf(&pvh_note()), 176 + 32, &[0xff, 0xff]);
    let error = refusal(&image);
    assert!(error.contains("ELF segment 2 of 0xffff bytes at file offset 0x400"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    // The last 15 bytes of a bzImage are padding.
    for (image, whole) in [(bzimage(), 0x800 - 15), (elf(&pvh_note()), 0x400)] {
        let accepted: Vec<usize> = (0..whole).filter(|len| check(&image[..*len]).is_ok()).collect();
        assert_eq!(accepted, [0; 0]);
    }
}

/// The pieces of a kernel that was accepted are in the file and in RAM, whatever its headers say.
#[test]
fn every_corruption_of_a_byte_is_an_error_or_fits() {
    for image in [bzimage(), elf(&pvh_note()), elf(&[])] {
        for at in 0..image.len().min(0x480) {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut image = image.clone();
                image[at] ^= flip;
                let file = file_of(&image);
                let kernel = Kernel::new(&file, Protocol::Auto, RAM_END);
                let fits = |piece: &Piece| {
                    piece.offset + piece.len <= image.len() as u64
                        && piece.address >= 0x10_0000
                        && piece.address + piece.len <= RAM_END
                };
                let escapes = kernel.is_ok_and(|kernel| !kernel.pieces.iter().all(fits));
                assert!(!escapes, "byte {at:#x} xor {flip:#x}");
            }
        }
    }
}
