//! Open files and their content.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{
        FallocateFlags, OFlags, SeekFrom, copy_file_range, fallocate, fchmod, fdatasync, fsync,
        seek,
    },
    io::Errno,
};
use virtio::{Reader, Writer};

use super::Server;
use crate::{
    Cache,
    handles::Handle,
    inodes::stat,
    wire::{
        Body, FSYNC_DATA, Header, MAX_TRANSFER, OPEN_KILL_SUIDGID, Reply, WRITE_KILL_SUIDGID, fopen,
    },
};

/// The most bytes that one request copies within the host.
const MOST_COPIED: u64 = 8 << 20;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// Of the flags that a guest opens a file with, those that are for the host. `O_APPEND` is not: the
/// guest says where each write goes, and has put it at the end.
pub(crate) fn host_flags(flags: u32) -> OFlags {
    let host = OFlags::ACCMODE | OFlags::TRUNC | OFlags::SYNC | OFlags::DSYNC;
    OFlags::from_bits_retain(flags) & host
}

/// Whether a file so opened could be changed.
pub(crate) fn writes(flags: OFlags) -> bool {
    flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
}

/// Takes the privileges from a file that somebody without them has changed, as Linux does.
/// Capabilities the host's kernel takes by itself.
pub(super) fn kill_privileges(file: impl AsFd) -> Result<(), Errno> {
    let mode = u32::from(stat(&file)?.stx_mode);
    let mut killed = mode & !SET_UID;
    if mode & GROUP_EXECUTES != 0 {
        killed &= !SET_GID;
    }
    if killed != mode { fchmod(file, (killed & 0o7777).into()) } else { Ok(()) }
}

/// Where in a file to go on after `done` bytes: files end before 2^63.
fn place(offset: u64, done: usize) -> Result<u64, Errno> {
    let at = u64::try_from(done).ok().and_then(|done| offset.checked_add(done));
    at.filter(|at| i64::try_from(*at).is_ok()).ok_or(Errno::INVAL)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl Server {
    pub(super) fn open(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (flags, more) = (host_flags(body.u32()?), body.u32()?);
        if self.read_only && writes(flags) && !self.inodes.is_own(header.node) {
            return Err(Errno::ROFS);
        }
        let file = self.open_file(header.node, flags)?;
        if more & OPEN_KILL_SUIDGID != 0 && flags.contains(OFlags::TRUNC) {
            kill_privileges(&file)?;
        }
        self.reply_open((file, header.node, flags), reply)
    }

    /// Answers with the file, which is `node` and was opened with `flags`.
    pub(super) fn reply_open(
        &mut self,
        (file, node, flags): (OwnedFd, u64, OFlags),
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let flags = (flags - OFlags::TRUNC).bits();
        let handle = self.handles.open(|| Ok(Handle { file: Some(file), node, flags }))?;
        reply.u64(handle);
        reply.u32(match self.cache {
            Cache::None => fopen::DIRECT_IO,
            Cache::Auto => 0,
            Cache::Always => fopen::KEEP_CACHE,
        });
        reply.u32(0);
        Ok(())
    }

    /// Reads straight into the guest's buffers.
    pub(crate) fn read(&mut self, mut body: Body<'_>, data: &mut Writer<'_>) -> Result<(), Errno> {
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
        let file = self.handles.get(handle)?;
        let size = usize::try_from(size.min(MAX_TRANSFER)).unwrap_or(0);
        let mut done = 0;
        while done < size {
            let at = place(offset, done)?;
            match data.read_from(file.as_fd(), Some(at), size - done) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if done == 0 => return Err(errno(&error)),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Writes straight from the guest's buffers: how many bytes.
    pub(crate) fn write(
        &mut self,
        mut body: Body<'_>,
        data: &mut Reader<'_>,
    ) -> Result<u32, Errno> {
        let (handle, offset) = (body.u64()?, body.u64()?);
        let (size, flags) = (body.u32()?, body.u32()?);
        let count = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_TRANSFER || count > data.available_bytes() {
            return Err(Errno::INVAL);
        }
        let file = self.handles.get(handle)?;
        if flags & WRITE_KILL_SUIDGID != 0 {
            kill_privileges(file)?;
        }
        let mut done = 0;
        while done < count {
            let at = place(offset, done)?;
            match data.write_to(file.as_fd(), Some(at), count - done) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if done == 0 => return Err(errno(&error)),
                Err(_) => break,
            }
        }
        Ok(u32::try_from(done).unwrap_or(size))
    }

    pub(super) fn fsync(&mut self, body: &mut Body<'_>) -> Result<(), Errno> {
        let file = self.handles.get(body.u64()?)?;
        if body.u32()? & FSYNC_DATA != 0 { fdatasync(file) } else { fsync(file) }
    }

    pub(super) fn fallocate(&mut self, body: &mut Body<'_>) -> Result<(), Errno> {
        let file = self.handles.get(body.u64()?)?;
        let (offset, len) = (body.u64()?, body.u64()?);
        let known = FallocateFlags::KEEP_SIZE
            | FallocateFlags::PUNCH_HOLE
            | FallocateFlags::ZERO_RANGE
            | FallocateFlags::COLLAPSE_RANGE
            | FallocateFlags::INSERT_RANGE;
        let mode = FallocateFlags::from_bits_retain(body.u32()?);
        if !known.contains(mode) {
            return Err(Errno::OPNOTSUPP);
        }
        fallocate(file, mode, offset, len)
    }

    pub(super) fn lseek(&mut self, body: &mut Body<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let file = self.handles.get(body.u64()?)?;
        let offset = body.u64()?;
        let to = match body.u32()? {
            SEEK_DATA => SeekFrom::Data(offset),
            SEEK_HOLE => SeekFrom::Hole(offset),
            // The guest finds the others by itself.
            _ => return Err(Errno::INVAL),
        };
        reply.u64(seek(file, to)?);
        Ok(())
    }

    pub(super) fn copy(&mut self, body: &mut Body<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let from = self.handles.get(body.u64()?)?;
        let (mut offset, _) = (body.u64()?, body.u64()?);
        let to = self.handles.get(body.u64()?)?;
        let (mut target, len) = (body.u64()?, body.u64()?.min(MOST_COPIED));
        let len = usize::try_from(len).unwrap_or(0);
        let copied = copy_file_range(from, Some(&mut offset), to, Some(&mut target), len)?;
        reply.u32(u32::try_from(copied).unwrap_or(0));
        reply.u32(0);
        Ok(())
    }
}
