//! Advisory locks on images.

use std::{fs::File, io};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use crate::Access;

/// Locks all of `file`: whether it is locked now, or someone else's lock is in the way.
///
/// The lock belongs to the open file description (`F_OFD_SETLK`): it goes when `file` is closed, not
/// when anyone in this process closes the same image, and QEMU and Cloud Hypervisor use the same
/// kind, so that each sees the others.
pub(crate) fn lock(file: &File, access: Access) -> io::Result<bool> {
    let kind = match access {
        Access::ReadOnly => libc::F_RDLCK,
        Access::ReadWrite => libc::F_WRLCK,
    };
    let lock = libc::flock {
        l_type: i16::try_from(kind).map_err(io::Error::other)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(io::Error::other)?,
        l_start: 0,
        l_len: 0, // to the end, wherever it is
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
