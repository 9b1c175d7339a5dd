//! Which BAR answers at which address: built whole, swapped whole.

use std::sync::Arc;

use bus::{Mmio, Range};
use device::{Bar, BarKind};

use crate::{place::Windows, slot::Registers};

/// The space of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Memory,
    Io,
}

impl Space {
    fn of(bar: &Bar) -> Self {
        if bar.kind == BarKind::Io { Self::Io } else { Self::Memory }
    }
}

/// A BAR that answers, or would like to.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) at: Range<Mmio>,
    pub(crate) device: u8,
    pub(crate) bar: Bar,
    pub(crate) registers: Arc<Registers>,
}

impl Route {
    fn is(&self, other: &Self) -> bool {
        (self.device, self.bar.index, self.at) == (other.device, other.bar.index, other.at)
    }
}

/// The BARs that answer, by ascending address. None overlaps another.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    memory: Vec<Route>,
    io: Vec<Route>,
}

impl Routes {
    /// Those of `wanted` that lie in the windows and are apart. Of two that overlap, the one that
    /// answers there already in `old` goes on answering; else the one of the lower device does.
    pub(crate) fn new(mut wanted: Vec<Route>, windows: &Windows, old: &Self) -> Self {
        let mut routes = Self::default();
        wanted.retain(|route| windows.hold(route.bar.kind, route.at));
        wanted.sort_by_key(|route| !old.iter().any(|other| other.is(route)));
        for route in wanted {
            let list = routes.list_mut(Space::of(&route.bar));
            let next = list.partition_point(|other| other.at.first() < route.at.first());
            let near = list.iter().skip(next.saturating_sub(1)).take(2);
            if !near.into_iter().any(|other| other.at.overlaps(&route.at)) {
                list.insert(next, route);
            }
        }
        routes
    }

    /// The BAR that answers an access of `len` bytes at `at`, which lies whole inside of it, and the
    /// offset in it.
    pub(crate) fn find(&self, space: Space, at: u64, len: usize) -> Option<(&Route, u64)> {
        let list = if space == Space::Io { &self.io } else { &self.memory };
        let next = list.partition_point(|route| route.at.first() <= at);
        let route = list.get(next.checked_sub(1)?)?;
        route.at.offset_of(at, len).map(|offset| (route, offset))
    }

    /// Every BAR that answers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.memory.iter().chain(&self.io)
    }

    fn list_mut(&mut self, space: Space) -> &mut Vec<Route> {
        if space == Space::Io { &mut self.io } else { &mut self.memory }
    }
}
