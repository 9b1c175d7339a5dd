//! What the guest knows of the directory: numbers for places, and descriptors for some of them.

use std::{
    collections::{HashMap, VecDeque},
    ffi::{CStr, CString},
    mem,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx},
    io::Errno,
};

use crate::wire::ROOT;

/// The most places that a guest may know, about 200 bytes each.
const MOST: usize = 1 << 19;
/// The most steps down that are taken to find a place again.
const DEPTH: usize = 1024;

/// What a file is, wherever its name is. The time of its birth tells it from a later one with the
/// same number, on file systems that know it; on others at least another kind does, so that nothing
/// is opened that is not what it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) device: (u32, u32),
    pub(crate) ino: u64,
    pub(crate) born: (i64, u32),
    /// The bits of a mode that say so.
    pub(crate) kind: u32,
}

impl Key {
    fn new(stat: &Statx) -> Self {
        let knows = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            born: if knows { born } else { (0, 0) },
            kind: kind(stat).as_raw_mode(),
        }
    }
}

/// Something in the shared directory that the guest has a number for.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) key: Key,
    pub(crate) kind: FileType,
    /// How often the guest was told the number, less what it has forgotten.
    pub(crate) lookups: u64,
    /// Where it was seen last: by this it is found again once its descriptor is closed.
    pub(crate) parent: u64,
    pub(crate) name: Box<CStr>,
    descriptor: Option<Arc<OwnedFd>>,
    /// It was used since the hand of the clock came by.
    touched: bool,
    /// It may have no name any more, so that its descriptor is the only way to it.
    pinned: bool,
}

/// The places that the guest knows. Each is reached through a descriptor (`O_PATH`) of its own or of
/// what it lies in, a step down at a time, so that no link is ever followed.
///
/// Descriptors are closed by the clock algorithm when there are too many, and opened again, by name,
/// when they are needed; what is then found must be what it was.
#[derive(Debug)]
pub(crate) struct Inodes {
    table: HashMap<u64, Inode>,
    nodes: HashMap<Key, u64>,
    /// Those with a descriptor, and some that are forgotten already; the hand is at the front.
    open: VecDeque<u64>,
    next: u64,
    /// Names in the root that are there for the guest only.
    own: Vec<(CString, u64)>,
    /// The most descriptors.
    budget: usize,
    pinned: usize,
}

/// The attributes of an open file or place.
pub(crate) fn stat(fd: impl AsFd) -> Result<Statx, Errno> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, mask)
}

/// The attributes of what `name` in `parent` stands for, a link for itself.
fn stat_at(parent: impl AsFd, name: &CStr) -> Result<Statx, Errno> {
    statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// A descriptor of what `name` in `parent` stands for, a link for itself. `name` has been checked to
/// be one step down; the host's kernel checks it again.
fn open_at(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(parent, name, flags, Mode::empty(), resolve)
}

pub(crate) fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

impl Inodes {
    /// Only `root` is known, by the number 1. At most `budget` descriptors besides it are open.
    pub(crate) fn new(root: OwnedFd, budget: usize) -> Result<Self, Errno> {
        let stat = stat(&root)?;
        let key = Key::new(&stat);
        let root = Inode {
            key,
            kind: kind(&stat),
            lookups: 1,
            parent: ROOT,
            name: Box::default(),
            descriptor: Some(Arc::new(root)),
            touched: true,
            pinned: true,
        };
        Ok(Self {
            table: HashMap::from([(ROOT, root)]),
            nodes: HashMap::from([(key, ROOT)]),
            open: VecDeque::new(),
            next: ROOT + 1,
            own: Vec::new(),
            budget,
            pinned: 0,
        })
    }

    /// Adds `file` to the root under `name`, where only the guest sees it. It goes before what the
    /// directory may have under that name, and stays.
    pub(crate) fn add(&mut self, name: CString, file: OwnedFd) -> Result<(), Errno> {
        let stat = stat(&file)?;
        let node = self.adopt((ROOT, &name), file, &stat)?;
        self.open.retain(|open| *open != node);
        if let Some(inode) = self.table.get_mut(&node) {
            inode.pinned = true;
        }
        self.own.push((name, node));
        Ok(())
    }

    /// Whether `node` is a file that was added.
    pub(crate) fn is_own(&self, node: u64) -> bool {
        self.own.iter().any(|(_, own)| *own == node)
    }

    /// Whether `node` stays known whatever happens.
    fn stays(&self, node: u64) -> bool {
        node == ROOT || self.is_own(node)
    }

    /// Forgets everything that does not stay. Numbers are never used again.
    pub(crate) fn reset(&mut self) {
        let mut table = mem::take(&mut self.table);
        table.retain(|node, _| self.stays(*node));
        table.shrink_to_fit();
        self.table = table;
        self.nodes = self.table.iter().map(|(node, inode)| (inode.key, *node)).collect();
        self.open.clear();
        self.pinned = 0;
    }

    /// What `node` is.
    pub(crate) fn kind(&self, node: u64) -> Result<FileType, Errno> {
        self.table.get(&node).map(|inode| inode.kind).ok_or(Errno::STALE)
    }

    /// A descriptor (`O_PATH`) of `node`, opened again if need be.
    pub(crate) fn get(&mut self, node: u64) -> Result<Arc<OwnedFd>, Errno> {
        let mut closed = Vec::new();
        let mut at = node;
        let mut descriptor = loop {
            let inode = self.table.get_mut(&at).ok_or(Errno::STALE)?;
            inode.touched = true;
            if let Some(descriptor) = &inode.descriptor {
                break Arc::clone(descriptor);
            }
            if closed.len() >= DEPTH {
                return Err(Errno::STALE);
            }
            closed.push(at);
            at = inode.parent;
        };
        for node in closed.into_iter().rev() {
            descriptor = self.reopen(node, &descriptor)?;
        }
        Ok(descriptor)
    }

    fn reopen(&mut self, node: u64, parent: &OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
        self.make_room()?;
        let inode = self.table.get_mut(&node).ok_or(Errno::STALE)?;
        let found = open_at(parent, &inode.name).map_err(|_| Errno::STALE)?;
        let stat = stat(&found)?;
        if Key::new(&stat) != inode.key {
            return Err(Errno::STALE);
        }
        let descriptor = Arc::new(found);
        inode.descriptor = Some(Arc::clone(&descriptor));
        inode.touched = true;
        self.open.push_back(node);
        Ok(descriptor)
    }

    /// Closes descriptors until there may be one more.
    fn make_room(&mut self) -> Result<(), Errno> {
        // Twice around: the first time may find all of them touched.
        for _ in 0..=self.open.len().saturating_mul(2) {
            if self.open.len() < self.budget {
                return Ok(());
            }
            let Some(node) = self.open.pop_front() else { break };
            let Some(inode) = self.table.get_mut(&node) else { continue };
            if inode.pinned || mem::take(&mut inode.touched) {
                self.open.push_back(node);
            } else {
                inode.descriptor = None;
            }
        }
        Err(Errno::NFILE)
    }

    /// The file that was added under `name`.
    fn own(&self, parent: u64, name: &CStr) -> Option<u64> {
        let mut own = self.own.iter().filter(|_| parent == ROOT);
        own.find(|(own, _)| **own == *name).map(|(_, node)| *node)
    }

    /// What `name` in `parent` stands for: its number, which the guest is told once more, and its
    /// attributes.
    pub(crate) fn lookup(&mut self, parent: u64, name: &CStr) -> Result<(u64, Statx), Errno> {
        if let Some(node) = self.own(parent, name) {
            return Ok((node, stat(self.get(node)?)?));
        }
        let descriptor = self.get(parent)?;
        let found = open_at(&descriptor, name)?;
        let stat = stat(&found)?;
        Ok((self.adopt((parent, name), found, &stat)?, stat))
    }

    /// The number of `found`, which `place` stands for and whose attributes are `stat`. The guest is
    /// told it once more.
    pub(crate) fn adopt(
        &mut self,
        (parent, name): (u64, &CStr),
        found: OwnedFd,
        stat: &Statx,
    ) -> Result<u64, Errno> {
        self.make_room()?;
        let key = Key::new(stat);
        let known = self.nodes.get(&key).and_then(|node| Some((*node, self.table.get_mut(node)?)));
        if let Some((node, inode)) = known {
            inode.lookups = inode.lookups.saturating_add(1);
            if inode.descriptor.is_none() {
                inode.descriptor = Some(Arc::new(found));
                self.open.push_back(node);
            }
            inode.touched = true;
            // The newest name is the likeliest to be there still.
            if node != ROOT && (inode.parent != parent || *inode.name != *name) {
                (inode.parent, inode.name) = (parent, name.into());
            }
            return Ok(node);
        }
        if self.table.len() > MOST {
            return Err(Errno::NFILE);
        }
        let node = self.next;
        self.next += 1;
        let inode = Inode {
            key,
            kind: kind(stat),
            lookups: 1,
            parent,
            name: name.into(),
            descriptor: Some(Arc::new(found)),
            touched: true,
            pinned: false,
        };
        self.table.insert(node, inode);
        self.nodes.insert(key, node);
        self.open.push_back(node);
        Ok(node)
    }

    /// The guest forgets `count` of the times that it was told `node`.
    pub(crate) fn forget(&mut self, node: u64, count: u64) {
        if self.stays(node) {
            return;
        }
        let Some(inode) = self.table.get_mut(&node) else { return };
        inode.lookups = inode.lookups.saturating_sub(count);
        if inode.lookups > 0 {
            return;
        }
        if inode.pinned {
            self.pinned = self.pinned.saturating_sub(1);
        }
        let key = inode.key;
        self.table.remove(&node);
        if self.nodes.get(&key) == Some(&node) {
            self.nodes.remove(&key);
        }
    }

    /// Does `remove`, by which `name` in `parent` stands for nothing or for something else: what it
    /// stands for now stays reachable, as on any Unix, as long as the guest knows it. Only half of the
    /// descriptors can be spent on this.
    pub(crate) fn removing(
        &mut self,
        (parent, name): (u64, &CStr),
        remove: impl FnOnce(&mut Self) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let pinned = self.pin(parent, name);
        let removed = remove(self);
        let kept = pinned.filter(|_| removed.is_err()).and_then(|node| self.table.get_mut(&node));
        if let Some(inode) = kept {
            inode.pinned = false;
            self.pinned = self.pinned.saturating_sub(1);
        }
        removed
    }

    /// Keeps the descriptor of what `name` in `parent` stands for: its number, if that is new.
    fn pin(&mut self, parent: u64, name: &CStr) -> Option<u64> {
        let node = self.find(parent, name).filter(|node| !self.stays(*node))?;
        if self.pinned >= self.budget / 2 || self.get(node).is_err() {
            return None;
        }
        let inode = self.table.get_mut(&node).filter(|inode| !inode.pinned)?;
        inode.pinned = true;
        self.pinned += 1;
        Some(node)
    }

    /// Something was given the name `name` in `parent`, under which it is found from now on.
    pub(crate) fn moved(&mut self, parent: u64, name: &CStr) {
        let Some(node) = self.find(parent, name).filter(|node| *node != ROOT) else { return };
        if let Some(inode) = self.table.get_mut(&node) {
            (inode.parent, inode.name) = (parent, name.into());
        }
    }

    /// The number of what `name` in `parent` stands for, if the guest knows it.
    fn find(&mut self, parent: u64, name: &CStr) -> Option<u64> {
        let descriptor = self.get(parent).ok()?;
        let stat = stat_at(&descriptor, name).ok()?;
        self.nodes.get(&Key::new(&stat)).copied()
    }

    /// What the guest has numbers for, the next number, and the root's device.
    pub(crate) fn all(&self) -> (impl Iterator<Item = (u64, &Inode)>, u64, (u32, u32)) {
        let known = self.table.iter().filter(|(node, _)| !self.stays(**node));
        let device = self.table.get(&ROOT).map_or((0, 0), |root| root.key.device);
        (known.map(|(node, inode)| (*node, inode)), self.next, device)
    }

    /// Whether `node` can have been told by a server like this, of which `next` was the next number.
    pub(crate) fn can_be(&self, node: u64, next: u64) -> bool {
        self.next <= next && node > ROOT && node < next && !self.is_own(node)
    }

    /// Whether there may be `count` places.
    pub(crate) fn may_be(count: usize) -> bool {
        count <= MOST
    }

    /// Knows what another server knew. Each place is opened when it is needed.
    pub(crate) fn replace(&mut self, next: u64, known: impl Iterator<Item = (u64, Inode)>) {
        self.reset();
        self.next = next;
        for (node, inode) in known {
            self.nodes.insert(inode.key, node);
            self.table.insert(node, inode);
        }
    }
}

impl Inode {
    /// A place that is not open and was told `lookups` times.
    pub(crate) fn closed(
        (key, kind): (Key, FileType),
        lookups: u64,
        (parent, name): (u64, &CStr),
    ) -> Self {
        Self {
            key,
            kind,
            lookups,
            parent,
            name: name.into(),
            descriptor: None,
            touched: false,
            pinned: false,
        }
    }
}

#[cfg(test)]
mod tests;
