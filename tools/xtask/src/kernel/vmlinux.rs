//! The ELF kernel inside a bzImage (kernel documentation, arch/x86/boot.rst).

use super::decompress::{Format, decompress};
use crate::error::{Error, Result};

const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The ELF file that `image` decompresses itself to.
pub(super) fn extract(image: &[u8]) -> Result<Vec<u8>> {
    let payload = payload(image)?;
    let format = Format::detect(payload)
        .ok_or_else(|| Error::new("the kernel's payload is neither gzip, xz, zstd nor lz4"))?;
    let (size, stream) = match payload.split_last_chunk::<4>() {
        // gzip's own last field is the size; behind the others the kernel's build appends it.
        Some((_, size)) if format == Format::Gzip => (size, payload),
        Some((stream, size)) => (size, stream),
        None => return Err(Error::new("the kernel's payload is empty")),
    };
    let vmlinux = decompress(format, stream)?;
    let size = u32::from_le_bytes(*size);
    if !vmlinux.starts_with(b"\x7fELF") || u32::try_from(vmlinux.len()) != Ok(size) {
        return Err(Error::new(format!(
            "the kernel's payload should be an ELF file of {size} bytes, but is {} bytes that \
             start with {:02x?}",
            vmlinux.len(),
            vmlinux.get(..4).unwrap_or_default()
        )));
    }
    Ok(vmlinux)
}

/// The compressed kernel, as the setup header tells its place.
fn payload(image: &[u8]) -> Result<&[u8]> {
    let magic = bytes::<4>(image, MAGIC)?;
    let version = u16::from_le_bytes(bytes(image, VERSION)?);
    if magic != *b"HdrS" || version < 0x208 {
        return Err(Error::new("not a bzImage of boot protocol 2.08 or newer"));
    }
    let [sectors] = bytes(image, SETUP_SECTORS)?;
    let sectors = if sectors == 0 { 4 } else { usize::from(sectors) };
    let offset = u32::from_le_bytes(bytes(image, PAYLOAD_OFFSET)?);
    let length = u32::from_le_bytes(bytes(image, PAYLOAD_LENGTH)?);
    // The offset counts from the protected-mode code, which follows the setup sectors.
    let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok()).and_then(
        |(offset, length)| {
            let start = offset.checked_add((sectors + 1) * 512)?;
            Some(start..start.checked_add(length)?)
        },
    );
    range.and_then(|range| image.get(range)).ok_or_else(|| {
        Error::new(format!(
            "the kernel's payload, {length:#x} bytes at {offset:#x} behind {sectors} setup \
             sectors, is not within its {:#x} bytes",
            image.len()
        ))
    })
}

fn bytes<const N: usize>(image: &[u8], at: usize) -> Result<[u8; N]> {
    let found = image.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or_else(|| Error::new(format!("a bzImage has more than {at:#x} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(sectors: u8, offset: u32, payload: &[u8]) -> Vec<u8> {
        let setup = if sectors == 0 { 4 } else { usize::from(sectors) };
        let start = (setup + 1) * 512 + usize::try_from(offset).unwrap();
        let mut image = vec![0; start];
        image[SETUP_SECTORS] = sectors;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&offset.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    /// `gzip -n` of the four bytes 7f 45 4c 46.
    const GZIPPED_ELF: &[u8] = &[
        0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03, 0xab, 0x77, 0xf5, 0x71, 0x03, 0x00, 0x51, 0xc4,
        0x3a, 0xa7, 0x04, 0, 0, 0,
    ];

    #[test]
    fn the_payload_is_found_behind_the_setup_sectors() {
        assert_eq!(payload(&image(7, 0x2d0, b"here")).unwrap(), b"here");
    }

    #[test]
    fn zero_setup_sectors_mean_four() {
        assert_eq!(payload(&image(0, 0, b"here")).unwrap(), b"here");
    }

    #[test]
    fn a_payload_that_ends_behind_the_image_is_refused() {
        let mut image = image(4, 0, b"here");
        image.pop();

        let error = payload(&image).unwrap_err().to_string();

        assert!(error.contains("0x4 bytes at 0x0 behind 4 setup sectors"), "{error}");
    }

    #[test]
    fn what_is_no_bzimage_is_refused() {
        assert!(payload(b"\x7fELF").is_err());
        assert!(payload(&[0; 0x1000]).is_err());
    }

    #[test]
    fn the_payload_must_decompress_to_elf_of_the_size_it_tells() {
        let mut lies = GZIPPED_ELF.to_vec();
        lies.extend_from_slice(b"\xff");

        assert_eq!(extract(&image(4, 0, GZIPPED_ELF)).unwrap(), b"\x7fELF");
        assert!(extract(&image(4, 0, &lies)).is_err());
        assert!(extract(&image(4, 0, b"plain, not packed")).is_err());
    }
}
