//! A qcow2 image of any bytes: opened, read, written, and opened again.
#![no_main]

use std::os::fd::AsRawFd;

use disk::{Access, Backing, Disk, Qcow2};

/// How much of the disk is tried: its start, and its end.
const TRIED: usize = 4096;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let file = tempfile::tempfile().expect("a file can be had");
    std::io::Write::write_all(&mut &file, input).expect("bytes can be written");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for _ in 0..2 {
        let Ok(mut disk) = Qcow2::open(&path, Access::ReadWrite, &Backing::Refused) else { return };
        let mut data = [0; TRIED];
        let last = disk.len().saturating_sub(TRIED as u64);
        for offset in [0, last, last / 2] {
            let _ = disk.read_at(offset, &mut data);
            let _ = disk.write_at(offset, &data);
            let _ = disk.write_zeroes(offset, TRIED as u64, true);
            let _ = disk.discard(offset, TRIED as u64);
        }
        let _ = disk.flush();
    }
});
