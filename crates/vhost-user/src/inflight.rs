//! Memory in which a back end notes what it has taken and not given back, so that the next one can go
//! on where it died. This end only keeps it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{fstat, fstatfs};

use crate::{BackendError, message};

/// Bytes of its description, with the padding that the field has at its end.
const LEN: usize = 24;

/// The file systems in memory, that of a memfd among them.
const MEMORY: [i64; 2] = [libc::TMPFS_MAGIC, libc::HUGETLBFS_MAGIC];

/// The memory, and how the back end describes it.
#[derive(Debug)]
pub(crate) struct Inflight {
    file: OwnedFd,
    body: Vec<u8>,
}

/// The description of what is wanted.
pub(crate) fn wanted(queues: u16, size: u16) -> Vec<u8> {
    let mut body = vec![0; 16];
    body.extend([queues, size].into_iter().flat_map(u16::to_ne_bytes));
    body.resize(LEN, 0);
    body
}

impl Inflight {
    /// The memory `file` that a back end has made and described in `body`.
    pub(crate) fn new(body: Vec<u8>, file: OwnedFd) -> Self {
        Self { file, body }
    }

    /// Whether `body` and `file` are for `wanted`: so many queues of so many entries.
    pub(crate) fn check(
        body: &[u8],
        file: BorrowedFd<'_>,
        wanted: (u16, u16),
    ) -> Result<(), BackendError> {
        let nonsense = |what| BackendError::Nonsense { request: message::GET_INFLIGHT_FD.1, what };
        let [low, high, from_low, from_high, shape, _] = message::numbers(body);
        let number = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let (len, offset) = (number(low, high), number(from_low, from_high));
        let asked = [wanted.0.to_ne_bytes(), wanted.1.to_ne_bytes()].concat();
        if len == 0 || shape.to_ne_bytes().as_slice() != asked {
            return Err(nonsense(format!("{len} bytes of memory for other queues ({shape:#x})")));
        }
        // Of memory alone it is sure that closing it does not wait.
        if !fstatfs(file).is_ok_and(|found| MEMORY.contains(&found.f_type)) {
            return Err(nonsense("a file that is no memory".to_owned()));
        }
        // The next back end maps it, and would die where the file ends.
        let found = fstat(file).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
        let end = offset.checked_add(len);
        if end.is_none_or(|end| found.is_none_or(|found| found < end)) {
            let found = found.unwrap_or(0);
            return Err(nonsense(format!("{len} bytes from {offset} on of a file of {found}")));
        }
        Ok(())
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::fd::AsFd};

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn file(len: u64) -> OwnedFd {
        let file = memfd_create("notes", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len).unwrap();
        file
    }

    fn body(len: u64, offset: u64) -> Vec<u8> {
        let mut body = wanted(3, 256);
        let mut rest = body.as_mut_slice();
        rest.write_all(&len.to_ne_bytes()).unwrap();
        rest.write_all(&offset.to_ne_bytes()).unwrap();
        body
    }

    #[test]
    fn what_is_wanted_are_sixteen_bytes_of_nothing_and_the_shape() {
        let body = wanted(3, 256);
        assert_eq!((body.len(), &body[16..20]), (24, [3, 0, 0, 1].as_slice()));
    }

    #[test]
    fn memory_inside_its_file_is_taken() {
        let large = 1 << 32;
        for (len, offset, size) in [(4096, 0, 4096), (4096, 4096, 8192), (large, 0, large)] {
            Inflight::check(&body(len, offset), file(size).as_fd(), (3, 256)).unwrap();
        }
    }

    #[test]
    fn memory_that_ends_after_its_file_or_is_none_is_refused() {
        for (len, offset) in [(0, 0), (4097, 0), (4096, 1), (u64::MAX, 1), (1, u64::MAX)] {
            let refused = Inflight::check(&body(len, offset), file(4096).as_fd(), (3, 256));
            assert!(matches!(refused, Err(BackendError::Nonsense { .. })), "{len} {offset}");
        }
        assert!(Inflight::check(&body(4096, 0), file(4096).as_fd(), (2, 256)).is_err());
    }

    #[test]
    fn a_file_that_is_no_memory_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let program = File::open(std::env::current_exe().unwrap()).unwrap();
        for file in [one.as_fd(), program.as_fd()] {
            let refused = Inflight::check(&body(4096, 0), file, (3, 256)).unwrap_err().to_string();
            assert!(refused.contains("no memory"), "{refused}");
        }
    }
}
