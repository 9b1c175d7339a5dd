//! Disk images, made byte by byte.

const CLUSTER: usize = 1 << 16;

/// An empty qcow2 image for a disk of `len` bytes, at most 512 MiB, in front of the qcow2 image that is
/// called `behind`; of none if that is empty.
///
/// # Panics
/// The name is too long.
pub fn qcow2(len: u64, behind: &str) -> Vec<u8> {
    // Header, table of reference counts, their first block, first-level table: a cluster each.
    let mut image = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| {
        let place = image.get_mut(at..at + bytes.len()).expect("the name is short");
        place.copy_from_slice(bytes);
    };
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &16_u32.to_be_bytes());
    put(24, &len.to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(3_u64 << 16).to_be_bytes());
    put(48, &(1_u64 << 16).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &[0, 0, 0, 4, 0, 0, 0, 104]);
    put(CLUSTER, &(2_u64 << 16).to_be_bytes());
    put(2 * CLUSTER, &[0, 1, 0, 1, 0, 1, 0, 1]);
    if !behind.is_empty() {
        put(8, &512_u64.to_be_bytes());
        put(16, &u32::try_from(behind.len()).expect("the name is short").to_be_bytes());
        put(104, b"\xe2\x79\x2a\xca\0\0\0\x05qcow2");
        put(512, behind.as_bytes());
    }
    image
}
