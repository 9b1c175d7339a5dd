//! Extended attributes.

use std::{ffi::CStr, os::fd::OwnedFd};

use rustix::{
    fs::{
        FileType, OFlags, XattrFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query,
        fremovexattr, fsetxattr,
    },
    io::Errno,
};

use super::{Answer, Server};
use crate::wire::{Body, Header};

/// The most bytes that Linux keeps in an attribute, or in the list of their names.
const MOST: usize = 64 << 10;

/// Whether the guest may have the attribute: those of its users, and what a program may do. The
/// others mean something to the host.
fn allowed(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"user.") || name == c"security.capability"
}

impl Server {
    /// Opens what can have attributes that a guest may see.
    fn attributed(&mut self, node: u64) -> Result<OwnedFd, Errno> {
        match self.inodes.kind(node)? {
            FileType::RegularFile | FileType::Directory => self.open_node(node, OFlags::RDONLY),
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    pub(super) fn setxattr(&mut self, header: &Header, body: &mut Body<'_>) -> Result<(), Errno> {
        let size = usize::try_from(body.u32()?).unwrap_or(usize::MAX);
        let flags = XattrFlags::from_bits(body.u32()?).ok_or(Errno::INVAL)?;
        let name = body.text()?;
        let value = body.bytes(size)?;
        if !allowed(name) {
            return Err(Errno::OPNOTSUPP);
        }
        fsetxattr(self.attributed(header.node)?, name, value, flags)
    }

    pub(super) fn removexattr(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
    ) -> Result<(), Errno> {
        let name = body.text()?;
        if !allowed(name) {
            return Err(Errno::OPNOTSUPP);
        }
        fremovexattr(self.attributed(header.node)?, name)
    }

    pub(super) fn getxattr(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        answer: Answer<'_>,
    ) -> Result<(), Errno> {
        let (size, _) = (body.u32()?, body.u32()?);
        let name = body.text()?;
        if !allowed(name) {
            return Err(Errno::OPNOTSUPP);
        }
        let file = self.attributed(header.node)?;
        if size == 0 {
            return reply_size(fgetxattr_query(file, name)?, answer);
        }
        let (reply, room) = answer;
        reply.room(bound(size, room), |room| fgetxattr(file, name, room))
    }

    /// The names of the attributes that the guest may have.
    pub(super) fn listxattr(
        &mut self,
        header: &Header,
        body: &mut Body<'_>,
        answer: Answer<'_>,
    ) -> Result<(), Errno> {
        let (size, _) = (body.u32()?, body.u32()?);
        let file = self.attributed(header.node)?;
        if size == 0 {
            // Perhaps fewer are allowed; a guest takes this for room.
            return reply_size(flistxattr_query(file)?, answer);
        }
        let (reply, room) = answer;
        let names = &mut self.scratch;
        names.clear();
        names.resize(flistxattr_query(&file)?.min(MOST), 0);
        let len = flistxattr(&file, &mut names[..])?;
        let names = names.get(..len).unwrap_or_default();
        let names = names.split_inclusive(|byte| *byte == 0);
        for name in names.filter(|name| CStr::from_bytes_with_nul(name).is_ok_and(allowed)) {
            reply.bytes(name);
        }
        if reply.len() > bound(size, room) { Err(Errno::RANGE) } else { Ok(()) }
    }
}

fn bound(size: u32, room: usize) -> usize {
    usize::try_from(size).unwrap_or(MOST).min(room).min(MOST)
}

fn reply_size(size: usize, (reply, room): Answer<'_>) -> Result<(), Errno> {
    if room < 8 {
        return Err(Errno::INVAL);
    }
    reply.u32(u32::try_from(size).unwrap_or(u32::MAX));
    reply.u32(0);
    Ok(())
}
