//! The images that make a disk: the first one, the one behind it, and so on.

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{
    BackingError,
    header::{self, Header},
};
use crate::{Access, OpenError, file};

/// Most images in a chain.
const DEPTH: usize = 16;

/// Which backing images may be used. What an image has behind it is written in the image, by whoever
/// made it; opening it gives the guest what is in that file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// None: an image that has one is refused.
    #[default]
    Refused,
    /// This file, or every file in this directory and those in it, after following symbolic links.
    In(PathBuf),
    /// Every file of the host that this process can read. For images that are trusted.
    Any,
}

/// One image, open and locked.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// None for a raw image, which ends the chain.
    pub(super) header: Option<Header>,
}

/// Opens, locks and checks the qcow2 image at `path` and all behind it: the first one first.
pub(super) fn open(path: &Path, access: Access, allow: &Backing) -> Result<Vec<Link>, OpenError> {
    let mut chain = Vec::new();
    let file = file::open(path, access, OFlag::empty())?;
    let mut next = Some((path.to_path_buf(), file, access, true));
    while let Some((path, file, access, is_qcow2)) = next.take() {
        file::lock(&file, &path, access)?;
        let header = if is_qcow2 { Some(read(&path, &file)?) } else { None };
        let named = header.as_ref().and_then(|header| header.backing.clone());
        let front = path.clone();
        chain.push(Link { path, file, header });
        if let Some((name, format)) = named {
            let behind = behind(&chain, name, format, allow);
            let refused = |source| OpenError::Backing { path: front, source };
            let (path, file, is_qcow2) = behind.map_err(refused)?;
            next = Some((path, file, Access::ReadOnly, is_qcow2));
        }
    }
    Ok(chain)
}

fn read(path: &Path, file: &File) -> Result<Header, OpenError> {
    header::read(file).map_err(|source| OpenError::Format { path: path.into(), source })
}

/// Opens the image behind the last one of `chain`, not yet locked: where it is, and whether it is a
/// qcow2 one.
fn behind(
    chain: &[Link],
    name: String,
    format: Option<String>,
    allow: &Backing,
) -> Result<(PathBuf, File, bool), BackingError> {
    if *allow == Backing::Refused {
        return Err(BackingError::Refused { name });
    }
    let is_qcow2 = match format.as_deref() {
        Some("qcow2") => true,
        Some("raw" | "file") => false,
        Some(_) => return Err(BackingError::Format { name, format: format.unwrap_or_default() }),
        None => return Err(BackingError::NoFormat { name }),
    };
    if chain.len() >= DEPTH {
        return Err(BackingError::Long(chain.len()));
    }
    let beside = chain.last().and_then(|link| link.path.parent()).unwrap_or(Path::new(""));
    let found = match beside.join(&name).canonicalize() {
        Ok(found) => found,
        Err(source) => return Err(BackingError::Missing { name, source }),
    };
    if let Backing::In(allowed) = allow {
        let place = match allowed.canonicalize() {
            Ok(place) => place,
            Err(source) => {
                return Err(BackingError::Nowhere { name, allowed: allowed.clone(), source });
            }
        };
        if !found.starts_with(place) {
            return Err(BackingError::Outside { found, allowed: allowed.clone() });
        }
    }
    // The name has been followed to its end; a link that is there by now was not looked at.
    let file = file::open(&found, Access::ReadOnly, OFlag::O_NOFOLLOW);
    let file = file.map_err(|error| BackingError::Open(Box::new(error)))?;
    let same = |link: &Link| identity(&link.file).is_some_and(|id| identity(&file) == Some(id));
    if chain.iter().any(same) {
        return Err(BackingError::Loop { found });
    }
    Ok((found, file, is_qcow2))
}

fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
