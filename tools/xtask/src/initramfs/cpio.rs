//! Archives in the kernel's initramfs format: cpio "newc"
//! (kernel documentation, driver-api/early-userspace/buffer-format).

use crate::error::{Context, Error, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// What a path of an archive is. Everything belongs to root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Directory,
    File { mode: u32, data: Vec<u8> },
    Symlink(String),
    Character { mode: u32, major: u32, minor: u32 },
}

impl Entry {
    fn mode(&self) -> u32 {
        match self {
            Self::Directory => DIRECTORY | 0o755,
            Self::File { mode, .. } => REGULAR | mode,
            Self::Symlink(_) => SYMLINK | 0o777,
            Self::Character { mode, .. } => CHARACTER | mode,
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::File { data, .. } => data,
            Self::Symlink(target) => target.as_bytes(),
            Self::Directory | Self::Character { .. } => &[],
        }
    }

    fn device(&self) -> (u32, u32) {
        match self {
            Self::Character { major, minor, .. } => (*major, *minor),
            _ => (0, 0),
        }
    }
}

/// An archive under construction. Parents must be added before what they hold.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an entry; `path` has no slash at its start.
    pub(crate) fn add(&mut self, path: &str, entry: &Entry) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(entry.data().len()).context(|| {
            format!("{path} does not fit into an initramfs, whose files end at 4 GiB")
        })?;
        self.header(path, entry, size)?;
        self.bytes.extend_from_slice(entry.data());
        self.align(4);
        Ok(())
    }

    /// Ends the archive. Such archives may follow each other in one initrd.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entries = 0;
        self.header("TRAILER!!!", &Entry::File { mode: 0, data: Vec::new() }, 0)?;
        self.align(512);
        Ok(self.bytes)
    }

    fn header(&mut self, path: &str, entry: &Entry, size: u32) -> Result<()> {
        let name = u32::try_from(path.len() + 1)
            .map_err(|_| Error::new(format!("the path {path} is too long for an initramfs")))?;
        let (major, minor) = entry.device();
        // Inode, mode, uid, gid, links, time, size, device (2), special device (2), name, checksum.
        let mode = if self.entries == 0 { 0 } else { entry.mode() };
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align(4);
        Ok(())
    }

    fn align(&mut self, to: usize) {
        let length = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, Entry)]) -> Vec<u8> {
        let mut archive = Archive::default();
        for (path, entry) in entries {
            archive.add(path, entry).unwrap();
        }
        archive.finish().unwrap()
    }

    #[test]
    fn a_file_is_header_name_and_data_each_padded_to_four() {
        let bytes = archive(&[("init", Entry::File { mode: 0o755, data: b"hello".to_vec() })]);

        let header = "070701\
            00000001000081ED0000000000000000000000010000000000000005\
            000000000000000000000000000000000000000500000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
    }

    #[test]
    fn a_device_node_carries_its_numbers() {
        let bytes = archive(&[("c", Entry::Character { mode: 0o600, major: 5, minor: 1 })]);

        assert_eq!(&bytes[14..22], b"00002180");
        assert_eq!(&bytes[78..94], b"0000000500000001");
    }

    #[test]
    fn an_archive_ends_with_the_trailer_and_in_whole_blocks() {
        let bytes = archive(&[]);

        assert_eq!(&bytes[110..121], b"TRAILER!!!\0");
        assert_eq!(bytes.len(), 512);
    }

    #[test]
    fn cpio_lists_what_was_added() {
        let Some(busybox) = crate::apt::locate("busybox") else {
            eprintln!("needs busybox, which is not here");
            return;
        };
        let bytes = archive(&[
            ("bin", Entry::Directory),
            ("bin/sh", Entry::Symlink("busybox".into())),
            ("etc", Entry::Directory),
        ]);
        let path = std::env::temp_dir().join(format!("purlin-cpio-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();

        let mut list = std::process::Command::new(busybox);
        let output = list.args(["cpio", "-t"]).stdin(std::fs::File::open(&path).unwrap()).output();

        std::fs::remove_file(&path).unwrap();
        assert_eq!(output.unwrap().stdout, b"bin\nbin/sh\netc\n");
    }
}
