//! What is connected: found by its place, by its ports, by its turn and by its deadline.

use std::{
    collections::{HashMap, VecDeque},
    os::unix::net::UnixStream,
    time::Instant,
};

use crate::{
    connection::Connection,
    host::Greeting,
    packet::{HOST, Header, STREAM},
};

/// The two ports of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ports {
    pub(crate) guest: u32,
    pub(crate) host: u32,
}

impl Ports {
    /// Those of a packet from the guest.
    pub(crate) fn of(header: &Header) -> Self {
        Self { guest: header.src_port, host: header.dst_port }
    }

    /// The header of a packet to the guest `cid`.
    pub(crate) fn header(self, cid: u64) -> Header {
        Header {
            src_cid: HOST,
            dst_cid: cid,
            src_port: self.host,
            dst_port: self.guest,
            len: 0,
            kind: STREAM,
            op: None,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }
}

/// One who is connected.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A host program that has not said yet what it wants.
    Greeting(UnixStream, Greeting),
    /// A connection. Its ports may be somebody else's once the guest is done with it.
    Connection(Ports, Connection),
}

/// A place in the table.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    generation: u32,
    pub(crate) entry: Option<Entry>,
    pub(crate) deadline: Option<Instant>,
    is_queued: bool,
}

/// All who are connected.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ports: HashMap<Ports, u32>,
    /// Those who have something to tell the guest, each once, in the order of their turns.
    turns: VecDeque<u32>,
    greetings: usize,
    connections: usize,
}

impl Table {
    pub(crate) fn greetings(&self) -> usize {
        self.greetings
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    /// How many places there are.
    pub(crate) fn places(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn slot(&mut self, place: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(place).ok()?)
    }

    /// The connection at `place` and its ports.
    pub(crate) fn connection(&mut self, place: u32) -> Option<(Ports, &mut Connection)> {
        match self.slot(place)?.entry.as_mut()? {
            Entry::Connection(ports, connection) => Some((*ports, connection)),
            Entry::Greeting(..) => None,
        }
    }

    /// The place of the connection with these ports.
    pub(crate) fn find(&self, ports: Ports) -> Option<u32> {
        self.ports.get(&ports).copied()
    }

    /// Puts somebody into a free place.
    pub(crate) fn insert(&mut self, entry: Entry) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot::default());
                place
            }
        };
        self.put(place, entry);
        Some(place)
    }

    /// Puts somebody where nobody is.
    fn put(&mut self, place: u32, entry: Entry) {
        match &entry {
            Entry::Greeting(..) => self.greetings += 1,
            Entry::Connection(ports, _) => {
                self.connections += 1;
                self.ports.insert(*ports, place);
            }
        }
        if let Some(slot) = self.slot(place) {
            (slot.entry, slot.deadline) = (Some(entry), None);
        }
    }

    /// Takes somebody out, and leaves the place to them.
    fn take(&mut self, place: u32) -> Option<Entry> {
        let entry = self.slot(place)?.entry.take()?;
        match &entry {
            Entry::Greeting(..) => self.greetings = self.greetings.saturating_sub(1),
            Entry::Connection(ports, _) => {
                self.connections = self.connections.saturating_sub(1);
                self.release(place, *ports);
            }
        }
        Some(entry)
    }

    /// A greeting has become a connection.
    pub(crate) fn promote(&mut self, place: u32, ports: Ports, room: u32) {
        match self.take(place) {
            Some(Entry::Greeting(socket, _)) => {
                self.put(place, Entry::Connection(ports, Connection::asked(socket, room)));
            }
            Some(other) => self.put(place, other),
            None => {}
        }
    }

    /// Takes somebody out and closes their socket.
    pub(crate) fn remove(&mut self, place: u32) {
        if self.take(place).is_some() {
            if let Some(slot) = self.slot(place) {
                slot.generation = slot.generation.wrapping_add(1);
                slot.deadline = None;
            }
            self.free.push(place);
        }
    }

    /// The ports can be used again, though the connection is still there.
    pub(crate) fn release(&mut self, place: u32, ports: Ports) {
        if self.find(ports) == Some(place) {
            self.ports.remove(&ports);
        }
    }

    /// Takes everybody out.
    pub(crate) fn clear(&mut self) {
        (0..self.places()).for_each(|place| self.remove(place));
    }

    /// Gives the one at `place` a turn after all others, unless they wait for one.
    pub(crate) fn queue(&mut self, place: u32) {
        let Some(slot) = self.slot(place) else { return };
        if !std::mem::replace(&mut slot.is_queued, true) {
            self.turns.push_back(place);
        }
    }

    /// Whose turn it is. They may have nothing to say any more, or be somebody else.
    pub(crate) fn next_turn(&mut self) -> Option<u32> {
        let place = self.turns.pop_front()?;
        if let Some(slot) = self.slot(place) {
            slot.is_queued = false;
        }
        Some(place)
    }

    /// A number for the one at `place`, never again for another.
    pub(crate) fn token(&mut self, place: u32) -> u64 {
        let generation = self.slot(place).map_or(0, |slot| slot.generation);
        u64::from(generation) << 32 | u64::from(place)
    }

    /// The place of the one with this number, who may be gone.
    pub(crate) fn place(&mut self, token: u64) -> Option<u32> {
        let place = u32::try_from(token & u64::from(u32::MAX)).ok()?;
        (self.token(place) == token).then_some(place)
    }

    /// The earliest deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Entry {
        Entry::Greeting(UnixStream::pair().unwrap().0, Greeting::new())
    }

    #[test]
    fn a_number_of_somebody_who_is_gone_finds_nobody() {
        let mut table = Table::default();
        let first = table.insert(greeting()).unwrap();
        let token = table.token(first);
        assert_eq!(table.place(token), Some(first));
        table.remove(first);
        assert_eq!(table.insert(greeting()), Some(first));
        assert_eq!(table.place(token), None);
        assert_eq!(table.greetings(), 1);
    }

    #[test]
    fn each_has_one_turn_at_a_time_in_their_order() {
        let mut table = Table::default();
        let places = [(); 3].map(|()| table.insert(greeting()).unwrap());
        [0, 1, 0, 2, 1].into_iter().for_each(|at| table.queue(places[at]));
        assert_eq!(table.next_turn(), Some(places[0]));
        table.queue(places[0]);
        let rest: Vec<_> = std::iter::from_fn(|| table.next_turn()).collect();
        assert_eq!(rest, [places[1], places[2], places[0]]);
    }

    #[test]
    fn ports_that_were_released_may_be_anothers() {
        let ports = Ports { guest: 1, host: 2 };
        let connection = || {
            let socket = UnixStream::pair().unwrap().0;
            Entry::Connection(ports, Connection::asked(socket, 1))
        };
        let mut table = Table::default();
        let first = table.insert(connection()).unwrap();
        table.release(first, ports);
        assert_eq!(table.find(ports), None);
        let second = table.insert(connection()).unwrap();
        table.remove(first);
        assert_eq!((table.find(ports), table.connections()), (Some(second), 1));
    }
}
