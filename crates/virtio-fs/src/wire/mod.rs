//! The FUSE protocol, version 7.31 and up: numbers, and how they lie in messages.
//!
//! Everything is little endian (virtio 1.3 §5.11.6 says native, which for guests here is the same).

mod body;
mod reply;

pub(crate) use body::Body;
pub(crate) use reply::{Reply, padded};

/// The version that the server speaks. Minor versions are agreed on downwards.
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR: u32 = 38;
/// Linux 5.4, the first with virtio-fs, speaks this one.
pub(crate) const LEAST_MINOR: u32 = 31;

/// The number of the shared directory itself.
pub(crate) const ROOT: u64 = 1;

/// Bytes of the header of a request.
pub(crate) const IN_HEADER: usize = 40;
/// Bytes of the header of an answer.
pub(crate) const OUT_HEADER: usize = 16;
/// Bytes of an entry: a number and attributes.
pub(crate) const ENTRY: usize = 128;
/// Bytes of a directory entry before its name.
pub(crate) const DIRENT: usize = 24;
/// The most bytes that one request reads or writes.
pub(crate) const MAX_TRANSFER: u32 = 1 << 20;
/// [`MAX_TRANSFER`] in pages.
pub(crate) const MAX_PAGES: u16 = 256;

/// What is asked.
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const SYNCFS: u32 = 50;
}

/// What both sides can do, agreed on by INIT.
pub(crate) mod init {
    pub(crate) const ASYNC_READ: u32 = 1 << 0;
    pub(crate) const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub(crate) const BIG_WRITES: u32 = 1 << 5;
    pub(crate) const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub(crate) const DO_READDIRPLUS: u32 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub(crate) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(crate) const MAX_PAGES: u32 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u32 = 1 << 23;
    pub(crate) const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}

/// What a guest may do with an open file.
pub(crate) mod fopen {
    pub(crate) const DIRECT_IO: u32 = 1 << 0;
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const CACHE_DIR: u32 = 1 << 3;
}

/// Which attributes SETATTR sets.
pub(crate) mod fattr {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const FH: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
    pub(crate) const KILL_SUIDGID: u32 = 1 << 11;
}

/// Of OPEN and CREATE: privileges of the file end with this.
pub(crate) const OPEN_KILL_SUIDGID: u32 = 1 << 0;
/// Of WRITE: privileges of the file end with this.
pub(crate) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// Of GETATTR: the file is open.
pub(crate) const GETATTR_FH: u32 = 1 << 0;
/// Of FSYNC: the content only.
pub(crate) const FSYNC_DATA: u32 = 1 << 0;

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Length of the request with this header, bytes.
    pub(crate) len: u32,
    pub(crate) opcode: u32,
    /// Names the request in its answer.
    pub(crate) unique: u64,
    /// What it is about.
    pub(crate) node: u64,
    /// On whose behalf.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Header {
    pub(crate) fn decode(bytes: &[u8; IN_HEADER]) -> Option<Self> {
        let mut body = Body::new(bytes);
        Some(Self {
            len: body.u32().ok()?,
            opcode: body.u32().ok()?,
            unique: body.u64().ok()?,
            node: body.u64().ok()?,
            uid: body.u32().ok()?,
            gid: body.u32().ok()?,
        })
    }
}
