//! Names: found, made, changed and removed, each one step down from a place that is known.

use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, openat,
        renameat_with, symlinkat, unlinkat,
    },
    io::Errno,
    path::DecInt,
};

use super::{
    Server,
    attributes::chown,
    files::{host_flags, kill_privileges},
};
use crate::{
    inodes::{Inodes, kind, stat},
    wire::{Body, Header, OPEN_KILL_SUIDGID, Reply, opcode},
};

/// Bits of a mode that say who may do what.
const PERMISSIONS: u32 = 0o7777;
const SET_GID: u16 = 0o2000;

/// Where something is made, for whom, and with which mode.
struct New<'a> {
    header: &'a Header,
    name: &'a CStr,
    /// `None`: a link, which has none.
    mode: Option<u32>,
}

impl Server {
    pub(super) fn lookup(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (node, stat) = self.inodes.lookup(header.node, body.name()?)?;
        reply.entry(node, &stat, self.cache.timeout());
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (name, text) = (body.name()?, body.text()?);
        let parent = self.inodes.get(header.node)?;
        symlinkat(text, &parent, name)?;
        self.made(&New { header, name, mode: None }, FileType::Symlink, reply)
    }

    /// Makes a file, a FIFO or a socket. Devices would be the host's.
    pub(super) fn mknod(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (mode, _, _, _) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let new = New { header, name: body.name()?, mode: Some(mode) };
        let parent = self.inodes.get(header.node)?;
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile | FileType::Unknown => {
                let file = make_file(&parent, &new, OFlags::RDONLY)?;
                self.settle(&new, &file, reply).map(drop)
            }
            special @ (FileType::Fifo | FileType::Socket) => {
                mknodat(
                    &parent,
                    new.name,
                    special,
                    Mode::from_bits_truncate(mode & PERMISSIONS),
                    0,
                )?;
                self.made(&new, special, reply)
            }
            _ => Err(Errno::PERM),
        }
    }

    pub(super) fn mkdir(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (mode, _) = (body.u32()?, body.u32()?);
        let new = New { header, name: body.name()?, mode: Some(mode) };
        let parent = self.inodes.get(header.node)?;
        mkdirat(&parent, new.name, Mode::from_bits_truncate(mode & PERMISSIONS))?;
        self.made(&new, FileType::Directory, reply)
    }

    /// Finds what was just made by name, and answers with it. Somebody on the host may have been
    /// quicker: then it is not given away.
    fn made(&mut self, new: &New<'_>, made: FileType, reply: &mut Reply) -> Result<(), Errno> {
        let (node, stat) = self.inodes.lookup(new.header.node, new.name)?;
        let place = self.inodes.get(node);
        let only = made == FileType::Directory || stat.stx_nlink == 1;
        let settled = match &place {
            Ok(_) if kind(&stat) != made || !only => Err(Errno::STALE),
            Ok(place) => self.give(new, place),
            Err(error) => Err(*error),
        };
        match settled {
            Ok(stat) => reply.entry(node, &stat, self.cache.timeout()),
            Err(_) => self.inodes.forget(node, 1),
        }
        settled.map(|_| ())
    }

    /// Answers with the file that was just made.
    fn settle(&mut self, new: &New<'_>, file: impl AsFd, reply: &mut Reply) -> Result<u64, Errno> {
        let place = self.reopen(file, OFlags::PATH)?;
        let stat = self.give(new, &place)?;
        let node = self.inodes.adopt((new.header.node, new.name), place, &stat)?;
        reply.entry(node, &stat, self.cache.timeout());
        Ok(node)
    }

    /// Gives what was just made the owner and the mode that the guest asked for: files are made by
    /// the VMM's user and under its umask. Only root can give files away.
    fn give(&mut self, new: &New<'_>, place: &OwnedFd) -> Result<rustix::fs::Statx, Errno> {
        let mut now = stat(place)?;
        if let Some(own) = self.owner {
            let (uid, gid) = (new.header.uid, new.header.gid);
            let parent = self.inodes.get(new.header.node)?;
            // Some directories pass their own group on.
            let inherits = gid == own.as_raw() || stat(&parent)?.stx_mode & SET_GID != 0;
            let gid = (!inherits).then_some(gid);
            if uid != now.stx_uid || gid.is_some() {
                chown(place, Some(uid), gid)?;
                now = stat(place)?;
            }
        }
        if let Some(mode) = new.mode {
            let wanted = mode & PERMISSIONS | u32::from(now.stx_mode & SET_GID);
            if u32::from(now.stx_mode) & PERMISSIONS != wanted {
                self.chmod(place, kind(&now), wanted)?;
                now = stat(place)?;
            }
        }
        Ok(now)
    }

    pub(super) fn create(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (asked, mode) = (body.u32()?, body.u32()?);
        let (_, more) = (body.u32()?, body.u32()?);
        let new = New { header, name: body.name()?, mode: Some(mode) };
        let flags = host_flags(asked);
        self.handles.check_room()?;
        let parent = self.inodes.get(header.node)?;
        let (file, node) = match make_file(&parent, &new, flags) {
            Ok(file) => {
                let node = self.settle(&new, &file, reply)?;
                (file, node)
            }
            Err(Errno::EXIST) if !OFlags::from_bits_retain(asked).contains(OFlags::EXCL) => {
                let (node, stat) = self.inodes.lookup(header.node, new.name)?;
                let opened = self.open_file(node, flags);
                match &opened {
                    Ok(_) => reply.entry(node, &stat, self.cache.timeout()),
                    Err(_) => self.inodes.forget(node, 1),
                }
                let file = opened?;
                if more & OPEN_KILL_SUIDGID != 0 && flags.contains(OFlags::TRUNC) {
                    kill_privileges(&file)?;
                }
                (file, node)
            }
            Err(error) => return Err(error),
        };
        self.reply_open((file, node, flags), reply)
    }

    /// Removes a file or an empty directory. What is open or known stays usable.
    pub(super) fn remove(&mut self, header: &Header, body: &mut Body<'_>) -> Result<(), Errno> {
        let name = body.name()?;
        let directory = header.opcode == opcode::RMDIR;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let remove = |inodes: &mut Inodes| unlinkat(inodes.get(header.node)?, name, flags);
        self.inodes.removing((header.node, name), remove)
    }

    pub(super) fn rename(&mut self, header: &Header, body: &mut Body<'_>) -> Result<(), Errno> {
        let to = body.u64()?;
        let mut flags = RenameFlags::empty();
        if header.opcode == opcode::RENAME2 {
            flags = RenameFlags::from_bits_retain(body.u32()?);
            body.u32()?;
        }
        // A whiteout would be a device.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (old, new) = (body.name()?, body.name()?);
        let rename = |inodes: &mut Inodes| {
            let (from, target) = (inodes.get(header.node)?, inodes.get(to)?);
            renameat_with(&from, old, &target, new, flags)
        };
        if flags.contains(RenameFlags::EXCHANGE) {
            rename(&mut self.inodes)?;
        } else {
            self.inodes.removing((to, new), rename)?;
        }
        self.inodes.moved(to, new);
        if flags.contains(RenameFlags::EXCHANGE) {
            self.inodes.moved(header.node, old);
        }
        Ok(())
    }

    pub(super) fn link(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let old = body.u64()?;
        let name = body.name()?;
        let (file, parent) = (self.inodes.get(old)?, self.inodes.get(header.node)?);
        // The number leads to the place itself, even if that is a link.
        linkat(&self.proc, DecInt::from_fd(&file), &parent, name, AtFlags::SYMLINK_FOLLOW)?;
        let (node, stat) = self.inodes.lookup(header.node, name)?;
        reply.entry(node, &stat, self.cache.timeout());
        Ok(())
    }
}

/// Makes a file where nothing is, and opens it.
fn make_file(parent: &OwnedFd, new: &New<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_bits_truncate(new.mode.unwrap_or(0) & PERMISSIONS);
    openat(parent, new.name, flags | OFlags::NONBLOCK, mode)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use rustix::fs::open;

    use super::*;
    use crate::{FsConfig, wire::ROOT};

    /// Somebody on the host puts something else where the guest has just made something: it does not
    /// become the guest's.
    #[test]
    fn what_somebody_else_put_there_is_not_given_away() {
        let path = std::env::temp_dir().join(format!("purlin-fs-made-{}", std::process::id()));
        fs::create_dir_all(path.join("share")).unwrap();
        fs::write(path.join("theirs"), "").unwrap();
        fs::hard_link(path.join("theirs"), path.join("share/new")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(path.join("share"), flags, Mode::empty()).unwrap();
        let proc = open("/proc/self/fd", flags, Mode::empty()).unwrap();
        let config = FsConfig::new("tag".parse().unwrap());
        let mut server = Server::new(root, proc, &config).unwrap();
        let (uid, gid) = (1234, 5678);
        let header = Header { len: 0, opcode: opcode::MKNOD, unique: 0, node: ROOT, uid, gid };
        let new = New { header: &header, name: c"new", mode: Some(0o777) };
        let before = fs::metadata(path.join("theirs")).unwrap();
        for made in [FileType::Fifo, FileType::RegularFile] {
            let answer = server.made(&new, made, &mut Reply::default());
            assert_eq!(answer, Err(Errno::STALE));
        }
        let after = fs::metadata(path.join("theirs")).unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
    }
}
