//! What an answer says, before it goes to the guest.

use std::time::Duration;

use rustix::fs::Statx;

use super::DIRENT;

/// An answer without its header. Its buffer stays from request to request.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
}

/// `len`, with the padding that directory entries have.
pub(crate) fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

impl Reply {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `len` bytes for `fill` to write to, which says how many it did write.
    pub(crate) fn room<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        let filled = fill(self.bytes.get_mut(start..).unwrap_or_default());
        let len = filled.as_ref().map_or(0, |filled| *filled.min(&len));
        self.bytes.truncate(start + len);
        filled.map(|_| ())
    }

    /// Attributes (`fuse_attr`), 88 bytes.
    pub(crate) fn attributes(&mut self, stat: &Statx) {
        self.u64(stat.stx_ino);
        self.u64(stat.stx_size);
        self.u64(stat.stx_blocks);
        let times = [&stat.stx_atime, &stat.stx_mtime, &stat.stx_ctime];
        for time in times {
            self.bytes(&time.tv_sec.to_le_bytes());
        }
        for time in times {
            self.u32(time.tv_nsec);
        }
        self.u32(stat.stx_mode.into());
        self.u32(stat.stx_nlink);
        self.u32(stat.stx_uid);
        self.u32(stat.stx_gid);
        self.u32(device(stat.stx_rdev_major, stat.stx_rdev_minor));
        self.u32(stat.stx_blksize);
        self.u32(0);
    }

    /// Attributes, and how long they hold (`fuse_attr_out`).
    pub(crate) fn held_attributes(&mut self, stat: &Statx, timeout: Duration) {
        self.u64(timeout.as_secs());
        self.u32(timeout.subsec_nanos());
        self.u32(0);
        self.attributes(stat);
    }

    /// What a name stands for (`fuse_entry_out`), [`ENTRY`](super::ENTRY) bytes.
    pub(crate) fn entry(&mut self, node: u64, stat: &Statx, timeout: Duration) {
        self.u64(node);
        self.u64(0);
        self.u64(timeout.as_secs());
        self.u64(timeout.as_secs());
        self.u32(timeout.subsec_nanos());
        self.u32(timeout.subsec_nanos());
        self.attributes(stat);
    }

    /// An entry of a directory (`fuse_dirent`).
    pub(crate) fn dirent(&mut self, ino: u64, next: u64, kind: u32, name: &[u8]) {
        self.u64(ino);
        self.u64(next);
        self.u32(u32::try_from(name.len()).unwrap_or(0));
        self.u32(kind);
        self.bytes(name);
        let padding = padded(DIRENT + name.len()) - DIRENT - name.len();
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

/// A device number as Linux packs it into 32 bits.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_entry_is_padded() {
        let mut reply = Reply::default();
        reply.dirent(7, 9, 8, b"abc");
        let expected = [
            &7_u64.to_le_bytes()[..],
            &9_u64.to_le_bytes(),
            &[3, 0, 0, 0, 8, 0, 0, 0],
            b"abc\0\0\0\0\0",
        ];
        assert_eq!(reply.as_slice(), expected.concat());
        assert_eq!((padded(24), padded(25), padded(32)), (24, 32, 32));
    }

    #[test]
    fn a_device_number_keeps_both_of_its_parts() {
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(259, 0x12345), 0x1231_0345);
    }

    #[test]
    fn room_that_is_not_used_is_given_back() {
        let mut reply = Reply::default();
        reply.u32(1);
        reply.room(8, |room| Ok::<_, ()>(room.len() - 5)).unwrap();
        assert_eq!(reply.as_slice(), [1, 0, 0, 0, 0, 0, 0]);
        reply.room(8, |_| Err(())).unwrap_err();
        assert_eq!(reply.len(), 7);
    }
}
