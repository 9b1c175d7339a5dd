//! A FUSE server for one directory: what is asked, and who answers it.

mod attributes;
pub(crate) mod directories;
pub(crate) mod files;
mod names;
mod xattrs;

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstatvfs, openat, syncfs},
    io::Errno,
    path::DecInt,
    process::{Gid, getegid, geteuid},
};

use crate::{
    Cache, FsConfig,
    handles::Handles,
    inodes::Inodes,
    wire::{
        Body, ENTRY, Header, LEAST_MINOR, MAJOR, MAX_PAGES, MAX_TRANSFER, MINOR, Reply, init,
        opcode,
    },
};

/// Room for an answer: where to put it, and how much the guest takes, bytes.
pub(crate) type Answer<'a> = (&'a mut Reply, usize);

/// The server, and everything that a guest can make it hold.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) inodes: Inodes,
    pub(crate) handles: Handles,
    /// `/proc/self/fd`, by which a place becomes an open file.
    proc: OwnedFd,
    cache: Cache,
    read_only: bool,
    /// Whether files can be given to the guest's users: their group unless told otherwise.
    owner: Option<Gid>,
    /// Lists as the host's kernel gives them.
    scratch: Vec<u8>,
}

/// Bytes that an answer to `opcode` needs at least. What has less room is not even begun.
pub(crate) fn answer_size(opcode: u32) -> usize {
    match opcode {
        opcode::LOOKUP | opcode::SYMLINK | opcode::MKNOD | opcode::MKDIR | opcode::LINK => ENTRY,
        opcode::CREATE => ENTRY + 16,
        opcode::GETATTR | opcode::SETATTR => 104,
        opcode::OPEN | opcode::OPENDIR => 16,
        opcode::STATFS => 80,
        opcode::WRITE | opcode::LSEEK | opcode::COPY_FILE_RANGE => 8,
        opcode::INIT => 64,
        _ => 0,
    }
}

/// Whether `opcode` changes something, whatever else it says.
fn changes(opcode: u32) -> bool {
    matches!(
        opcode,
        opcode::SETATTR
            | opcode::SYMLINK
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::UNLINK
            | opcode::RMDIR
            | opcode::RENAME
            | opcode::RENAME2
            | opcode::LINK
            | opcode::CREATE
            | opcode::SETXATTR
            | opcode::REMOVEXATTR
            | opcode::FALLOCATE
            | opcode::COPY_FILE_RANGE
    )
}

impl Server {
    pub(crate) fn new(root: OwnedFd, proc: OwnedFd, config: &FsConfig) -> Result<Self, Errno> {
        let descriptors = config.descriptors.max(16);
        let places = descriptors / 4;
        Ok(Self {
            inodes: Inodes::new(root, places)?,
            handles: Handles::new(descriptors - places),
            proc,
            cache: config.cache,
            read_only: config.read_only,
            owner: geteuid().is_root().then(getegid),
            scratch: Vec::new(),
        })
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Adds a file to the root, for the guest only.
    pub(crate) fn add(&mut self, name: CString, file: OwnedFd) -> Result<(), Errno> {
        self.inodes.add(name, file)
    }

    /// The session is over: nothing is open or known any more.
    pub(crate) fn reset(&mut self) {
        self.inodes.reset();
        self.handles.reset();
    }

    pub(crate) fn forget(&mut self, node: u64, count: u64) {
        self.inodes.forget(node, count);
    }

    /// Serves every request but READ, WRITE and those that get no answer.
    pub(crate) fn serve(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        answer: Answer<'_>,
    ) -> Result<(), Errno> {
        if self.read_only && changes(header.opcode) {
            return Err(Errno::ROFS);
        }
        match header.opcode {
            opcode::INIT => self.init(body, answer.0),
            opcode::LOOKUP => self.lookup(header, body, answer.0),
            opcode::GETATTR => self.getattr(header, body, answer.0),
            opcode::SETATTR => self.setattr(header, body, answer.0),
            opcode::READLINK => self.readlink(header, answer),
            opcode::SYMLINK => self.symlink(header, body, answer.0),
            opcode::MKNOD => self.mknod(header, body, answer.0),
            opcode::MKDIR => self.mkdir(header, body, answer.0),
            opcode::UNLINK | opcode::RMDIR => self.remove(header, body),
            opcode::RENAME | opcode::RENAME2 => self.rename(header, body),
            opcode::LINK => self.link(header, body, answer.0),
            opcode::CREATE => self.create(header, body, answer.0),
            opcode::OPEN => self.open(header, body, answer.0),
            opcode::STATFS => self.statfs(header, answer.0),
            opcode::RELEASE | opcode::RELEASEDIR => self.handles.close(body.u64()?),
            opcode::FSYNC | opcode::FSYNCDIR => self.fsync(body),
            // Whatever was written is the host's already.
            opcode::FLUSH => self.handles.get(body.u64()?).map(|_| ()),
            opcode::OPENDIR => self.opendir(header, answer.0),
            opcode::READDIR | opcode::READDIRPLUS => self.readdir(header, body, answer),
            opcode::SETXATTR => self.setxattr(header, body),
            opcode::GETXATTR => self.getxattr(header, body, answer),
            opcode::LISTXATTR => self.listxattr(header, body, answer),
            opcode::REMOVEXATTR => self.removexattr(header, body),
            opcode::FALLOCATE => self.fallocate(body),
            opcode::LSEEK => self.lseek(body, answer.0),
            opcode::COPY_FILE_RANGE => self.copy(body, answer.0),
            opcode::SYNCFS => self.sync(header),
            opcode::DESTROY => {
                self.reset();
                Ok(())
            }
            _ => Err(Errno::NOSYS),
        }
    }

    /// Agrees on a version and on what both sides can do. A session begins.
    fn init(&mut self, body: &mut Body<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let (major, minor) = (body.u32()?, body.u32()?);
        let (readahead, offered) = (body.u32()?, body.u32()?);
        if major < MAJOR || (major == MAJOR && minor < LEAST_MINOR) {
            log::warn!("the guest speaks FUSE {major}.{minor}; 7.{LEAST_MINOR} is the oldest");
            return Err(Errno::PROTO);
        }
        self.reset();
        let caching = match self.cache {
            Cache::Always => init::CACHE_SYMLINKS,
            Cache::Auto | Cache::None => init::AUTO_INVAL_DATA,
        };
        let known = init::ASYNC_READ
            | init::ATOMIC_O_TRUNC
            | init::BIG_WRITES
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES
            | init::HANDLE_KILLPRIV_V2
            | caching;
        reply.u32(MAJOR);
        // To a newer major version only ours is told, and the guest asks again.
        reply.u32(if major > MAJOR { MINOR } else { minor.min(MINOR) });
        reply.u32(readahead);
        reply.u32(offered & known);
        reply.u16(0);
        reply.u16(0);
        reply.u32(MAX_TRANSFER);
        reply.u32(1);
        reply.u16(MAX_PAGES);
        reply.u16(0);
        reply.bytes(&[0; 32]);
        Ok(())
    }

    fn statfs(&mut self, header: &Header, reply: &mut Reply) -> Result<(), Errno> {
        let stat = fstatvfs(self.inodes.get(header.node)?)?;
        for count in [stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_files, stat.f_ffree] {
            reply.u64(count);
        }
        for size in [stat.f_bsize, stat.f_namemax, stat.f_frsize] {
            reply.u32(u32::try_from(size).unwrap_or(u32::MAX));
        }
        reply.bytes(&[0; 28]);
        Ok(())
    }

    fn sync(&mut self, header: &Header) -> Result<(), Errno> {
        syncfs(self.open_node(header.node, OFlags::RDONLY)?)
    }

    /// Opens the file or directory `node`. Nothing else is opened: a device does things, and a FIFO
    /// waits.
    fn open_node(&mut self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.inodes.kind(node)? {
            FileType::RegularFile | FileType::Directory => {
                let place = self.inodes.get(node)?;
                self.reopen(&place, flags)
            }
            FileType::Symlink => Err(Errno::LOOP),
            _ => Err(Errno::NXIO),
        }
    }

    /// Opens the file `node`, which must not be a directory.
    pub(crate) fn open_file(&mut self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.inodes.kind(node)? {
            FileType::Directory => Err(Errno::ISDIR),
            _ => self.open_node(node, flags),
        }
    }

    /// Opens what `place` is a descriptor of; the caller has made sure what that is. It never waits
    /// for somebody who has a lease on the file.
    fn reopen(&self, place: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        openat(&self.proc, DecInt::from_fd(place), flags, Mode::empty())
    }
}
