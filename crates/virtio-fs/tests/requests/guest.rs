//! A directory, and a guest that asks for things in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use memory::{Bytes, GuestAddress};
use purlin_virtio_fs::{Fs, FsConfig};
use virtio::conformance::{BUFFERS, Driver};

pub(crate) const ROOT: u64 = 1;
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
pub(crate) const CREATE: u32 = 35;
pub(crate) const DESTROY: u32 = 38;
pub(crate) const FALLOCATE: u32 = 43;
pub(crate) const READDIRPLUS: u32 = 44;
pub(crate) const RENAME2: u32 = 45;
pub(crate) const LSEEK: u32 = 46;
pub(crate) const COPY_FILE_RANGE: u32 = 47;
pub(crate) const SYNCFS: u32 = 50;

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOENT: i32 = 2;
pub(crate) const ENXIO: i32 = 6;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const ENOTDIR: i32 = 20;
pub(crate) const EBADF: i32 = 9;
pub(crate) const E2BIG: i32 = 7;
pub(crate) const EISDIR: i32 = 21;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENFILE: i32 = 23;
pub(crate) const EROFS: i32 = 30;
pub(crate) const ENAMETOOLONG: i32 = 36;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const ENOTEMPTY: i32 = 39;
pub(crate) const ELOOP: i32 = 40;
pub(crate) const EPROTO: i32 = 71;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const ESTALE: i32 = 116;

pub(crate) const O_WRONLY: u32 = 1;
pub(crate) const O_RDWR: u32 = 2;
pub(crate) const O_EXCL: u32 = 0o200;
pub(crate) const O_TRUNC: u32 = 0o1000;

const REQUEST: u64 = BUFFERS;
const ANSWER: u64 = BUFFERS + 0x2_0000;
/// Room for any answer.
pub(crate) const ROOM: u32 = 0x3_0000;

/// A directory of the host with `share` in it, and things beside it that are none of the guest's
/// business. It ends with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("purlin-fs-{}-{count}", process::id()));
        fs::create_dir_all(path.join("share")).unwrap();
        fs::write(path.join("secret"), "secret").unwrap();
        Self(path)
    }

    /// What lies outside.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What is shared.
    pub(crate) fn share(&self) -> PathBuf {
        self.0.join("share")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.share().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn guest(&self) -> Guest {
        Guest::new(&self.share(), config())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn config() -> FsConfig {
    FsConfig::new("share".parse().unwrap())
}

/// A guest that has mounted the directory.
pub(crate) struct Guest {
    pub(crate) driver: Driver,
    pub(crate) ids: (u32, u32),
    /// What the next request says its length is, if not the truth.
    pub(crate) told: Option<u32>,
    unique: u64,
}

pub(crate) fn u32s<const N: usize>(values: [u32; N]) -> Vec<u8> {
    values.map(u32::to_le_bytes).concat()
}

pub(crate) fn u64s<const N: usize>(values: [u64; N]) -> Vec<u8> {
    values.map(u64::to_le_bytes).concat()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub(crate) fn c(name: &str) -> Vec<u8> {
    format!("{name}\0").into_bytes()
}

impl Guest {
    pub(crate) fn new(path: &Path, config: FsConfig) -> Self {
        Self::of(Fs::open(path, config).unwrap())
    }

    pub(crate) fn of(fs: Fs) -> Self {
        let mut driver = Driver::new(virtio::mmio(fs));
        driver.start(driver.offered());
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut guest = Self { driver, ids, told: None, unique: 0 };
        guest.ask(INIT, 0, &[u32s([7, 31, 0, u32::MAX])]).unwrap();
        guest
    }

    /// Asks, and gets the answer without its header, or the error.
    pub(crate) fn ask(&mut self, opcode: u32, node: u64, body: &[Vec<u8>]) -> Result<Vec<u8>, i32> {
        self.ask_with_room(opcode, node, &body.concat(), ROOM)
    }

    pub(crate) fn ask_with_room(
        &mut self,
        opcode: u32,
        node: u64,
        body: &[u8],
        room: u32,
    ) -> Result<Vec<u8>, i32> {
        self.unique += 1;
        let len = u32::try_from(40 + body.len()).unwrap();
        let mut request = u32s([self.told.take().unwrap_or(len), opcode]);
        request.extend(u64s([self.unique, node]));
        request.extend(u32s([self.ids.0, self.ids.1, 1, 0]));
        request.extend(body);
        let memory = self.driver.memory().clone();
        memory.write_slice(&request, GuestAddress(REQUEST)).unwrap();
        self.driver.queues[1].offer(&[(REQUEST, len, false), (ANSWER, room, true)]);
        self.driver.kick_and_run(1);
        let used = self.driver.queues[1].used();
        assert_eq!(used.len(), 1);
        let mut answer = vec![0; used[0].1.try_into().unwrap()];
        memory.read_slice(&mut answer, GuestAddress(ANSWER)).unwrap();
        assert_eq!(u32_at(&answer, 0), used[0].1);
        assert_eq!(u64_at(&answer, 8), self.unique);
        match u32_at(&answer, 4).cast_signed() {
            0 => Ok(answer[16..].to_vec()),
            error => {
                assert_eq!(answer.len(), 16);
                Err(-error)
            }
        }
    }

    pub(crate) fn lookup(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        self.ask(LOOKUP, parent, &[c(name)]).map(|entry| u64_at(&entry, 0))
    }

    pub(crate) fn walk(&mut self, path: &str) -> Result<u64, i32> {
        path.split('/').try_fold(ROOT, |node, name| self.lookup(node, name))
    }

    pub(crate) fn forget(&mut self, node: u64, count: u64) {
        let mut request = u32s([48, FORGET]);
        request.extend(u64s([0, node, 0, 0, count]));
        let memory = self.driver.memory().clone();
        memory.write_slice(&request, GuestAddress(REQUEST)).unwrap();
        self.driver.queues[0].offer(&[(REQUEST, 48, false)]);
        self.driver.kick_and_run(0);
        assert_eq!(self.driver.queues[0].used().len(), 1);
    }

    pub(crate) fn open(&mut self, node: u64, flags: u32) -> Result<u64, i32> {
        self.ask(OPEN, node, &[u32s([flags, 0])]).map(|open| u64_at(&open, 0))
    }

    /// Creates a file: its number, and its handle.
    pub(crate) fn create(&mut self, parent: u64, name: &str, mode: u32) -> Result<(u64, u64), i32> {
        let body = [u32s([O_RDWR, mode, 0o22, 0]), c(name)];
        let answer = self.ask(CREATE, parent, &body)?;
        Ok((u64_at(&answer, 0), u64_at(&answer, 128)))
    }

    pub(crate) fn read(&mut self, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, i32> {
        let body = [u64s([handle, offset]), u32s([size, 0]), u64s([0, 0])];
        self.ask(READ, ROOT, &body)
    }

    pub(crate) fn write(&mut self, handle: u64, offset: u64, data: &[u8]) -> Result<u32, i32> {
        let size = u32::try_from(data.len()).unwrap();
        let body = [u64s([handle, offset]), u32s([size, 0]), u64s([0, 0]), data.to_vec()];
        self.ask(WRITE, ROOT, &body).map(|answer| u32_at(&answer, 0))
    }

    /// The content of a small file.
    pub(crate) fn cat(&mut self, path: &str) -> Result<Vec<u8>, i32> {
        let node = self.walk(path)?;
        let handle = self.open(node, 0)?;
        self.read(handle, 0, 0x1_0000)
    }

    /// Size, mode, user and group.
    pub(crate) fn stat(&mut self, node: u64) -> Result<(u64, u32, u32, u32), i32> {
        let answer = self.ask(GETATTR, node, &[u32s([0, 0]), u64s([0])])?;
        let at = 16;
        let word = |offset| u32_at(&answer, at + offset);
        Ok((u64_at(&answer, at + 8), word(60), word(68), word(72)))
    }
}

/// The names in an answer to READDIR, and how far each is.
pub(crate) fn names(mut bytes: &[u8], plus: bool) -> Vec<(String, u64, u64)> {
    let mut names = Vec::new();
    while !bytes.is_empty() {
        let node = if plus { u64_at(bytes, 0) } else { 0 };
        let entry = if plus { &bytes[128..] } else { bytes };
        let len = usize::try_from(u32_at(entry, 16)).unwrap();
        let name = String::from_utf8(entry[24..24 + len].to_vec()).unwrap();
        names.push((name, u64_at(entry, 8), node));
        bytes = &entry[(24 + len).next_multiple_of(8)..];
    }
    names
}
