//! Directories and their entries.

use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, RawDir, SeekFrom, openat, seek},
    io::Errno,
};

use super::{Answer, Server};
use crate::{
    Cache,
    handles::Handle,
    inodes::{Inodes, kind},
    wire::{Body, DIRENT, ENTRY, Header, ROOT, Reply, fopen, opcode, padded},
};

/// The most bytes of entries in one answer.
const MOST: usize = 64 << 10;
/// Bytes that the host's kernel is given to write entries to: it wants room for one at least.
const LEAST_READ: usize = 1 << 10;

impl Server {
    pub(super) fn opendir(&mut self, header: &Header, reply: &mut Reply) -> Result<(), Errno> {
        let node = header.node;
        let place = self.inodes.get(node)?;
        let open = || Ok(Handle { file: Some(open_directory(&place)?), node, flags: 0 });
        let handle = self.handles.open(open)?;
        reply.u64(handle);
        reply.u32(match self.cache {
            Cache::None | Cache::Auto => 0,
            Cache::Always => fopen::CACHE_DIR | fopen::KEEP_CACHE,
        });
        reply.u32(0);
        Ok(())
    }

    /// As many entries as fit, each told with its attributes if the guest wants them.
    pub(super) fn readdir(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        (reply, room): Answer<'_>,
    ) -> Result<(), Errno> {
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
        let room = usize::try_from(size).unwrap_or(MOST).min(room).min(MOST);
        let plus = header.opcode == opcode::READDIRPLUS;
        // Not what the request says: it may lie.
        let (directory, parent) = self.handles.place(handle)?;
        seek(directory, SeekFrom::Start(offset))?;
        // No more than fits: what is read beyond that is read again.
        let read = if plus { room / 4 } else { room };
        self.scratch.clear();
        self.scratch.reserve_exact(read.max(LEAST_READ));
        let end = read.max(LEAST_READ);
        let buffer = self.scratch.spare_capacity_mut().get_mut(..end).ok_or(Errno::NOMEM)?;
        let mut entries = RawDir::new(directory.as_fd(), buffer);
        let mut list = List { inodes: &mut self.inodes, parent, reply, room };
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if list.reply.len() == 0 => return Err(error),
                Err(_) => break,
            };
            let mut found = Found {
                name: entry.file_name(),
                ino: entry.ino(),
                next: entry.next_entry_cookie(),
                kind: entry.file_type().as_raw_mode() >> 12,
            };
            if parent == ROOT && found.name == c".." {
                // What the directory lies in is not the guest's business.
                found.ino = ROOT;
            }
            let told = if plus { list.tell_more(&found, self.cache) } else { list.tell(&found) };
            if !told {
                break;
            }
        }
        Ok(())
    }
}

/// Opens the directory at `place`.
pub(crate) fn open_directory(place: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(place, c".", flags, Mode::empty())
}

/// An entry as the host has it.
struct Found<'a> {
    name: &'a CStr,
    ino: u64,
    next: u64,
    kind: u32,
}

/// The answer as far as it goes.
struct List<'a> {
    inodes: &'a mut Inodes,
    parent: u64,
    reply: &'a mut Reply,
    room: usize,
}

impl List<'_> {
    fn fits(&self, len: usize) -> bool {
        self.reply.len() + len <= self.room
    }

    /// Adds an entry, if it fits.
    fn tell(&mut self, found: &Found<'_>) -> bool {
        let name = found.name.to_bytes();
        let fits = self.fits(padded(DIRENT + name.len()));
        if fits {
            self.reply.dirent(found.ino, found.next, found.kind, name);
        }
        fits
    }

    /// Adds an entry and what it stands for, if both fit. What cannot be looked up has number 0, and
    /// the guest asks for it when it needs it.
    fn tell_more(&mut self, found: &Found<'_>, cache: Cache) -> bool {
        let name = found.name.to_bytes();
        if !self.fits(ENTRY + padded(DIRENT + name.len())) {
            return false;
        }
        let itself = matches!(name, b"." | b"..");
        let known = if itself { None } else { self.inodes.lookup(self.parent, found.name).ok() };
        match known {
            Some((node, stat)) => {
                self.reply.entry(node, &stat, cache.timeout());
                let kind = kind(&stat).as_raw_mode() >> 12;
                self.reply.dirent(stat.stx_ino, found.next, kind, name);
            }
            None => {
                self.reply.bytes(&[0; ENTRY]);
                self.reply.dirent(found.ino, found.next, found.kind, name);
            }
        }
        true
    }
}
