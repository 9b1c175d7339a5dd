//! What a snapshot keeps: the numbers that the guest has for places and open files, with what it takes
//! to find them again.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    os::fd::OwnedFd,
};

use rustix::fs::{FileType, OFlags};

use crate::{
    handles::Handle,
    inodes::{Inode, Inodes, Key},
    server::{
        Server,
        directories::open_directory,
        files::{host_flags, writes},
    },
    state::{FsState, Opened, Place},
    wire::Body,
};

impl Server {
    /// What the guest knows and has open. Names that are no UTF-8 are left out.
    pub(crate) fn save(&self, tag: String) -> FsState {
        let (places, next_place, device) = self.inodes.all();
        let place = |(node, inode): (u64, &Inode)| {
            Some(Place {
                node,
                parent: inode.parent,
                name: inode.name.to_str().ok()?.to_owned(),
                lookups: inode.lookups,
                kind: inode.kind.as_raw_mode(),
                device: inode.key.device,
                ino: inode.key.ino,
                born: inode.key.born,
            })
        };
        let mut places: Vec<_> = places.filter_map(place).collect();
        places.sort_unstable_by_key(|place| place.node);
        let (open, next_open) = self.handles.all();
        let open = open.map(|(handle, open)| {
            let &Handle { node, flags, .. } = open;
            Opened { handle, node, flags }
        });
        let mut open: Vec<_> = open.collect();
        open.sort_unstable_by_key(|open| open.handle);
        let read_only = self.is_read_only();
        FsState { tag, read_only, device, places, next_place, open, next_open }
    }

    /// Goes on where another server was saved, as far as the directory is what it was. Open files are
    /// opened again now, places when the guest uses them; what is not found is stale. Says why not, and
    /// changes nothing, if no server can have been saved like this.
    pub(crate) fn restore(&mut self, state: &FsState) -> Result<(), String> {
        let (_, _, device) = self.inodes.all();
        let mut nodes = HashSet::new();
        let mut places = Vec::new();
        for place in &state.places {
            let new = nodes.insert(place.node);
            if !new || !self.inodes.can_be(place.node, state.next_place) || place.lookups == 0 {
                return Err(format!("the guest cannot know number {}", place.node));
            }
            let name = CString::new(place.name.as_str()).unwrap_or_default();
            if Body::new(name.as_bytes_with_nul()).name().is_err() {
                return Err(format!("{:?} is the name of nothing", place.name));
            }
            // The same file system may have another number now.
            let now = if place.device == state.device { device } else { place.device };
            places.push((place.node, inode(place, now, &name)));
        }
        let mut handles = HashSet::new();
        let impossible = state.open.iter().find(|open| {
            !handles.insert(open.handle) || open.handle == 0 || open.handle >= state.next_open
        });
        if let Some(open) = impossible {
            return Err(format!("the guest cannot have number {} open", open.handle));
        }
        let writable =
            |open: &&Opened| writes(host_flags(open.flags)) && !self.inodes.is_own(open.node);
        if let Some(open) = state.open.iter().find(writable).filter(|_| self.is_read_only()) {
            let handle = open.handle;
            return Err(format!("number {handle} is open for writing; the directory is read-only"));
        }
        if !Inodes::may_be(places.len()) || !self.handles.may_be(state.open.len()) {
            return Err("the guest knows more than it may".into());
        }
        self.reset();
        self.inodes.replace(state.next_place, places.into_iter());
        let again = |open: &Opened| {
            let &Opened { handle, node, flags } = open;
            (handle, Handle { file: self.open_again(node, flags), node, flags })
        };
        let open: Vec<_> = state.open.iter().map(again).collect();
        self.handles.replace(state.next_open, open.into_iter());
        Ok(())
    }

    fn open_again(&mut self, node: u64, flags: u32) -> Option<OwnedFd> {
        match self.inodes.kind(node).ok()? {
            FileType::Directory => open_directory(&*self.inodes.get(node).ok()?).ok(),
            _ => self.open_file(node, host_flags(flags) - OFlags::TRUNC).ok(),
        }
    }
}

fn inode(place: &Place, device: (u32, u32), name: &CStr) -> Inode {
    let kind = FileType::from_raw_mode(place.kind);
    let key = Key { device, ino: place.ino, born: place.born, kind: kind.as_raw_mode() };
    Inode::closed((key, kind), place.lookups, (place.parent, name))
}
