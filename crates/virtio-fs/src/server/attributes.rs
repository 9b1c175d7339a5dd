//! What files are, besides their content.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, chmodat,
        chownat, ftruncate, readlinkat_raw, utimensat,
    },
    io::Errno,
    path::DecInt,
    process::{Gid, Uid},
};

use super::{Answer, Server, files::kill_privileges};
use crate::{
    inodes::stat,
    wire::{Body, GETATTR_FH, Header, Reply, fattr},
};

/// The longest text of a link that Linux reads.
const LINK: usize = 4096;

/// What SETATTR asks for.
struct Wanted {
    valid: u32,
    handle: u64,
    size: u64,
    times: Timestamps,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Wanted {
    fn decode(body: &mut Body<'_>) -> Result<Self, Errno> {
        let (valid, _) = (body.u32()?, body.u32()?);
        let (handle, size, _) = (body.u64()?, body.u64()?, body.u64()?);
        let seconds = [body.u64()?, body.u64()?, body.u64()?];
        let nanoseconds = [body.u32()?, body.u32()?, body.u32()?];
        let (mode, _, uid, gid) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let ([access, modification, _], [access_ns, modification_ns, _]) = (seconds, nanoseconds);
        let times = Timestamps {
            last_access: time(valid, (fattr::ATIME, fattr::ATIME_NOW), access, access_ns),
            last_modification: time(
                valid,
                (fattr::MTIME, fattr::MTIME_NOW),
                modification,
                modification_ns,
            ),
        };
        Ok(Self { valid, handle, size, times, mode, uid, gid })
    }

    fn wants(&self, bits: u32) -> bool {
        self.valid & bits != 0
    }
}

fn time(valid: u32, (set, now): (u32, u32), seconds: u64, nanoseconds: u32) -> Timespec {
    let tv_nsec = if valid & now != 0 {
        UTIME_NOW
    } else if valid & set != 0 {
        nanoseconds.into()
    } else {
        UTIME_OMIT
    };
    // Times before 1970 are negative, and come as two's complement.
    Timespec { tv_sec: seconds.cast_signed(), tv_nsec }
}

/// Another owner; `None` stays. All ones is no user, and would be taken for `None`.
pub(super) fn chown(place: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    chownat(place, c"", uid, gid, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
}

impl Server {
    pub(super) fn getattr(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (flags, _, handle) = (body.u32()?, body.u32()?, body.u64()?);
        let stat = match self.handles.get(handle) {
            Ok(file) if flags & GETATTR_FH != 0 => stat(file)?,
            _ => stat(self.inodes.get(header.node)?)?,
        };
        reply.held_attributes(&stat, self.cache.timeout());
        Ok(())
    }

    pub(super) fn setattr(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let wanted = Wanted::decode(body)?;
        let kind = self.inodes.kind(header.node)?;
        let place = self.inodes.get(header.node)?;
        if wanted.wants(fattr::UID | fattr::GID) {
            let uid = wanted.wants(fattr::UID).then_some(wanted.uid);
            chown(&place, uid, wanted.wants(fattr::GID).then_some(wanted.gid))?;
        }
        // After the owner, whose change takes privileges from a mode.
        if wanted.wants(fattr::MODE) {
            self.chmod(&place, kind, wanted.mode)?;
        }
        if wanted.wants(fattr::SIZE) {
            self.truncate(header.node, &wanted)?;
        }
        if wanted.wants(fattr::ATIME | fattr::MTIME | fattr::ATIME_NOW | fattr::MTIME_NOW) {
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            utimensat(&place, c"", &wanted.times, flags)?;
        }
        reply.held_attributes(&stat(&place)?, self.cache.timeout());
        Ok(())
    }

    /// Sets the mode of what is no link: links have none.
    pub(super) fn chmod(&self, place: &OwnedFd, kind: FileType, mode: u32) -> Result<(), Errno> {
        if kind == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        chmodat(&self.proc, DecInt::from_fd(place), mode, AtFlags::empty())
    }

    fn truncate(&mut self, node: u64, wanted: &Wanted) -> Result<(), Errno> {
        let opened;
        let file = if wanted.wants(fattr::FH) {
            self.handles.get(wanted.handle)?
        } else {
            opened = self.open_node(node, OFlags::WRONLY)?;
            &opened
        };
        if wanted.wants(fattr::KILL_SUIDGID) {
            kill_privileges(file)?;
        }
        ftruncate(file, wanted.size)
    }

    pub(super) fn readlink(&mut self, header: &Header, answer: Answer<'_>) -> Result<(), Errno> {
        let place = self.inodes.get(header.node)?;
        let (reply, room) = answer;
        reply.room(room.min(LINK), |room| readlinkat_raw(&place, c"", room))
    }
}
