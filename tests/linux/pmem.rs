//! Files as persistent memory, by the drivers of a stock kernel.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use harness::Scratch;

use crate::{Guest, value};

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
        assert_eq!(value(&output, "PURLIN-CHANGED "), Some("written by guest"), "{output}");
        sums.extend(value(&output, "PURLIN-SUM ").map(str::to_owned));
    }
    assert_eq!((sums.len(), sums.first()), (2, sums.last()));
    assert_eq!(&bytes_at(&first, MARK), b"written by guest");
    assert_eq!(&bytes_at(&second, 0), b"not to be marred");
}
