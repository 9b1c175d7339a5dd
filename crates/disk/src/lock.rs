//! Advisory locks on images.
//!
//! Locks belong to the open file description (`F_OFD_SETLK`): they go when the file is closed, not
//! when anyone in this process closes the same image. QEMU and Cloud Hypervisor use the same kind.
//!
//! Whoever writes has all of the file to himself. Whoever reads shares it in QEMU's way: there, each
//! thing that somebody does with an image is a byte that he locks, and each that others must not do
//! is another one; all of these locks are shared, and everybody looks for those that are in his way.

use std::{fs::File, io};

use libc::off_t;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use crate::Access;

/// The bytes that a reader locks, first and how many: up to that of reading what is whole, and those
/// by which others must not write nor change the size. The bytes of what writers do lie between.
const READS: [(off_t, off_t); 3] = [(0, 101), (201, 1), (203, 1)];
/// Those that nobody may have locked while we read: somebody writes, changes the size, or wants no
/// readers.
const IN_THE_WAY: [off_t; 3] = [101, 103, 200];

/// Locks `file`: whether it is locked now, or someone else's lock is in the way. If it is not, only
/// closing the file takes back what was locked meanwhile.
pub(crate) fn lock(file: &File, access: Access) -> io::Result<bool> {
    match access {
        // To the end, wherever it is.
        Access::ReadWrite => set(file, range(libc::F_WRLCK, (0, 0))?),
        Access::ReadOnly => {
            for place in READS {
                if !set(file, range(libc::F_RDLCK, place)?)? {
                    return Ok(false);
                }
            }
            for place in IN_THE_WAY {
                // Whoever has it has it shared.
                let mut lock = range(libc::F_WRLCK, (place, 1))?;
                fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
                if i32::from(lock.l_type) != libc::F_UNLCK {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

fn range(kind: i32, (start, len): (off_t, off_t)) -> io::Result<libc::flock> {
    Ok(libc::flock {
        l_type: i16::try_from(kind).map_err(io::Error::other)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(io::Error::other)?,
        l_start: start,
        l_len: len,
        l_pid: 0,
    })
}

fn set(file: &File, lock: libc::flock) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
