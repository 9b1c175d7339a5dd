//! Files and directories that the guest has open.

use std::{collections::HashMap, os::fd::OwnedFd};

use rustix::io::Errno;

/// Something open.
#[derive(Debug)]
pub(crate) struct Handle {
    /// `None`: it was not found again after a restore.
    pub(crate) file: Option<OwnedFd>,
    /// What place it is, and the host's flags that it was opened with: to open it again elsewhere.
    pub(crate) node: u64,
    pub(crate) flags: u32,
}

/// What is open, by number.
#[derive(Debug)]
pub(crate) struct Handles {
    table: HashMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    /// Nothing; there may be `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { table: HashMap::new(), next: 1, most }
    }

    /// Opens what `open` opens, if there may be one more: its number.
    pub(crate) fn open(
        &mut self,
        open: impl FnOnce() -> Result<Handle, Errno>,
    ) -> Result<u64, Errno> {
        self.check_room()?;
        let handle = self.next;
        self.table.insert(handle, open()?);
        self.next += 1;
        Ok(handle)
    }

    /// Whether there may be one more.
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        if self.table.len() >= self.most { Err(Errno::NFILE) } else { Ok(()) }
    }

    pub(crate) fn get(&self, handle: u64) -> Result<&OwnedFd, Errno> {
        self.table.get(&handle).and_then(|handle| handle.file.as_ref()).ok_or(Errno::STALE)
    }

    /// What is open, and what place it is.
    pub(crate) fn place(&self, handle: u64) -> Result<(&OwnedFd, u64), Errno> {
        let node = self.table.get(&handle).map(|handle| handle.node).ok_or(Errno::STALE)?;
        Ok((self.get(handle)?, node))
    }

    pub(crate) fn close(&mut self, handle: u64) -> Result<(), Errno> {
        self.table.remove(&handle).map(drop).ok_or(Errno::STALE)
    }

    /// Everything, by number, and the next number.
    pub(crate) fn all(&self) -> (impl Iterator<Item = (u64, &Handle)>, u64) {
        (self.table.iter().map(|(number, handle)| (*number, handle)), self.next)
    }

    /// Whether there may be `count`.
    pub(crate) fn may_be(&self, count: usize) -> bool {
        count <= self.most
    }

    /// Has other things open.
    pub(crate) fn replace(&mut self, next: u64, open: impl Iterator<Item = (u64, Handle)>) {
        self.table = open.collect();
        self.next = next;
    }

    /// Closes all. Numbers are never used again.
    pub(crate) fn reset(&mut self) {
        self.table = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn null() -> Result<Handle, Errno> {
        Ok(Handle { file: Some(File::open("/dev/null").unwrap().into()), node: 1, flags: 0 })
    }

    #[test]
    fn there_is_a_limit_to_open_files() {
        let mut handles = Handles::new(2);
        let first = handles.open(null).unwrap();
        handles.open(null).unwrap();
        assert_eq!(handles.open(|| panic!("there is no room")), Err(Errno::NFILE));
        handles.close(first).unwrap();
        assert_ne!(handles.open(null).unwrap(), first);
    }

    #[test]
    fn what_is_closed_is_stale() {
        let mut handles = Handles::new(1);
        let handle = handles.open(null).unwrap();
        assert!(handles.get(handle).is_ok());
        handles.close(handle).unwrap();
        assert_eq!(handles.get(handle).unwrap_err(), Errno::STALE);
        assert_eq!(handles.close(handle), Err(Errno::STALE));
    }

    #[test]
    fn what_cannot_be_opened_takes_no_room() {
        let mut handles = Handles::new(1);
        assert_eq!(handles.open(|| Err(Errno::ACCESS)), Err(Errno::ACCESS));
        assert!(handles.open(null).is_ok());
    }
}
