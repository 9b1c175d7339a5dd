//! Opening a file of the host as an image: what kind it may be, and its lock.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::OFlag;

use crate::{Access, OpenError, lock};

/// Opens the regular file or block device at `path`, with further `flags`.
pub(crate) fn open(path: &Path, access: Access, flags: OFlag) -> Result<File, OpenError> {
    let failed = |source| OpenError::Open { path: path.into(), access, source };
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite);
    // A pipe without a writer must not keep us waiting.
    options.custom_flags((OFlag::O_NONBLOCK | flags).bits());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(OpenError::Kind { path: path.into() });
        }
        Err(source) if access == Access::ReadWrite && options.write(false).open(path).is_ok() => {
            return Err(OpenError::ReadOnly { path: path.into(), source });
        }
        Err(error) => return Err(failed(error)),
    };
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(file);
    }
    Err(OpenError::Kind { path: path.into() })
}

/// Locks `file`, which is at `path`, as long as it is open.
pub(crate) fn lock(file: &File, path: &Path, access: Access) -> Result<(), OpenError> {
    let locked = lock::lock(file, access);
    if locked.map_err(|source| OpenError::Lock { path: path.into(), source })? {
        return Ok(());
    }
    Err(OpenError::Locked { path: path.into(), access })
}

/// The size now, bytes. The metadata of a block device does not have it.
pub(crate) fn len(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}
