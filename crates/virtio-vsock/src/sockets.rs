//! All connections of a guest, and the sockets of the host behind them.

use std::{
    fmt, io,
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use virtio::{Reader, Writer};

use crate::{
    VsockConfig,
    connection::{Connection, Phase},
    host::{Endpoint, Event, Greeting, Heard, Ready, Watch},
    packet::{Header, Op},
    table::{Entry, Ports, Table},
};

/// The most host programs that may make up their mind at a time. More wait to be accepted.
const GREETINGS: usize = 256;
/// What a guest may send ahead of a slow host program, bytes: as much as in Linux for this many
/// connections, and less for those that are beyond them, so that all together stay small.
const WIDE: u32 = 256 << 10;
const WIDE_CONNECTIONS: usize = 256;
const NARROW: u32 = 16 << 10;
/// Ports of host programs that connect start here, as with Firecracker.
const FIRST_PORT: u32 = 1 << 30;
/// Events are looked at after this many packets, however much there is to send.
const PACKETS: u32 = 32;
/// How many events are taken, and how often, before others have their turn.
const EVENTS: usize = 64;
const ROUNDS: usize = 64;
/// When a host that had no descriptor left is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// All connections of a guest.
#[derive(Debug)]
pub(crate) struct Sockets {
    endpoint: Arc<Endpoint>,
    watch: Watch,
    table: Table,
    config: VsockConfig,
    /// Somebody may wait to be accepted.
    waiting: bool,
    next_port: u32,
    packets: u32,
    refusals: u64,
}

impl Sockets {
    pub(crate) fn new(endpoint: Arc<Endpoint>, config: VsockConfig) -> io::Result<Self> {
        let watch = Watch::new(&*endpoint)?;
        let (table, next_port) = (Table::default(), FIRST_PORT);
        Ok(Self {
            endpoint,
            watch,
            table,
            config,
            waiting: false,
            next_port,
            packets: 0,
            refusals: 0,
        })
    }

    /// The descriptor that is ready when any socket is.
    pub(crate) fn fd(&self) -> RawFd {
        self.watch.fd()
    }

    pub(crate) fn connections(&self) -> usize {
        self.table.connections()
    }

    /// Closes every connection.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        // Somebody may have waited for a place.
        self.waiting = true;
        self.watch.wake_at(Instant::now());
    }

    /// Takes a packet of the guest: whether there is a connection that it belongs to.
    pub(crate) fn receive(&mut self, header: &Header, data: &mut Reader<'_>) -> bool {
        let ports = Ports::of(header);
        if let Some(place) = self.table.find(ports) {
            if let Some((_, connection)) = self.table.connection(place) {
                connection.receive(header, data);
            }
            self.settle(place);
            return true;
        }
        header.op == Some(Op::Request) && self.connect(ports, header).is_some()
    }

    /// The guest wants to connect.
    fn connect(&mut self, ports: Ports, request: &Header) -> Option<()> {
        if self.table.connections() >= self.config.connections {
            return self.refuse("the guest", &"there are as many as there may be");
        }
        let socket = match self.endpoint.connect(ports.host) {
            Ok(socket) => socket,
            Err(error) => {
                use io::ErrorKind::{ConnectionRefused, NotFound};
                if !matches!(error.kind(), ConnectionRefused | NotFound) {
                    self.refuse::<()>("the guest", &error);
                }
                return None;
            }
        };
        let connection = Connection::accepted(socket, self.room(), request);
        self.insert(Entry::Connection(ports, connection))
    }

    /// How much the guest may send ahead on the next connection.
    fn room(&self) -> u32 {
        if self.table.connections() < WIDE_CONNECTIONS { WIDE } else { NARROW }
    }

    fn insert(&mut self, entry: Entry) -> Option<()> {
        let place = self.table.insert(entry)?;
        let token = self.table.token(place);
        let added = match self.table.slot(place)?.entry.as_ref()? {
            Entry::Greeting(socket, _) => self.watch.add(socket, token),
            Entry::Connection(_, connection) => self.watch.add(connection, token),
        };
        if let Err(error) = added {
            self.table.remove(place);
            return self.refuse("a socket", &error);
        }
        self.settle(place);
        Some(())
    }

    /// Somebody cannot connect. Both sides can bring this about at will, so it is told less and less
    /// often.
    fn refuse<T>(&mut self, who: &str, why: &dyn fmt::Display) -> Option<T> {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals.is_power_of_two() {
            let count = self.refusals;
            log::warn!("a vsock connection of {who} is refused: {why} ({count} so far)");
        }
        None
    }

    /// The next packet to the guest, whose data goes to `room`; every connection has its turn.
    pub(crate) fn next(&mut self, cid: u64, room: &mut Writer<'_>) -> Option<Header> {
        self.packets = self.packets.wrapping_add(1);
        if self.packets.is_multiple_of(PACKETS) {
            self.handle_events();
        }
        for _ in 0..ROUNDS {
            while let Some(place) = self.table.next_turn() {
                let header = self.next_of(place, cid, room);
                self.settle(place);
                if header.is_some() {
                    return header;
                }
            }
            if !self.handle_events() {
                return None;
            }
        }
        // Whatever is left shall not wait for something new to happen.
        self.watch.wake_at(Instant::now());
        None
    }

    fn next_of(&mut self, place: u32, cid: u64, room: &mut Writer<'_>) -> Option<Header> {
        let (ports, connection) = self.table.connection(place)?;
        let packet = connection.next(room)?;
        let (buf_alloc, fwd_cnt) = connection.tell_credit();
        let header = ports.header(cid);
        let (op, flags, len) = (Some(packet.op), packet.flags, packet.len);
        Some(Header { op, flags, len, buf_alloc, fwd_cnt, ..header })
    }

    /// Sees to what follows from a change of the one at `place`: their end, their turn, their
    /// deadline.
    fn settle(&mut self, place: u32) {
        let patience = self.config.patience;
        let Some(slot) = self.table.slot(place) else { return };
        let (patience, has_next, released) = match &slot.entry {
            None => return,
            Some(Entry::Greeting(..)) => (Some(patience.greeting), false, None),
            Some(Entry::Connection(ports, connection)) => {
                let has_next = connection.has_next();
                match connection.phase() {
                    Phase::Asked => (Some(patience.answer), has_next, None),
                    Phase::Leaving => (Some(patience.farewell), has_next, None),
                    Phase::Open | Phase::Reset => (None, has_next, None),
                    Phase::Draining => (None, has_next, Some(*ports)),
                    Phase::Over => return self.table.remove(place),
                }
            }
        };
        match (patience, slot.deadline) {
            (Some(_), Some(_)) => {}
            (None, _) => slot.deadline = None,
            (Some(patience), None) => {
                let deadline = Instant::now() + patience;
                slot.deadline = Some(deadline);
                self.watch.wake_at(deadline);
            }
        }
        if let Some(ports) = released {
            self.table.release(place, ports);
        }
        if has_next {
            self.table.queue(place);
        }
    }

    /// Handles what has happened to the sockets of the host.
    pub(crate) fn catch_up(&mut self) {
        for _ in 0..ROUNDS {
            if !self.handle_events() {
                return;
            }
        }
        self.watch.wake_at(Instant::now());
    }

    /// Handles some of what has happened: whether there was anything.
    fn handle_events(&mut self) -> bool {
        let mut count = 0;
        while count < EVENTS {
            let Some(event) = self.watch.next() else { break };
            count += 1;
            match event {
                Event::Listener => self.waiting = true,
                Event::Deadline => self.expire(),
                Event::Socket(token, ready) => {
                    if let Some(place) = self.table.place(token) {
                        self.ready(place, ready);
                    }
                }
            }
        }
        if self.waiting {
            self.accept();
        }
        count > 0
    }

    fn ready(&mut self, place: u32, ready: Ready) {
        if let Some(Entry::Greeting(socket, greeting)) =
            self.table.slot(place).and_then(|slot| slot.entry.as_mut())
        {
            match greeting.hear(socket) {
                Heard::Part => {}
                Heard::Nonsense => self.table.remove(place),
                Heard::Connect(port) => self.ask(place, port),
            }
        }
        if let Some((_, connection)) = self.table.connection(place) {
            connection.ready(ready);
            self.settle(place);
        }
    }

    /// A host program wants to talk to `port` of the guest.
    fn ask(&mut self, place: u32, port: u32) {
        if self.table.connections() >= self.config.connections {
            self.refuse::<()>("the host", &"there are as many as there may be");
            return self.table.remove(place);
        }
        // There are fewer connections than ports, so one of the next is free.
        let mut ports = Ports { guest: port, host: self.next_port };
        while self.table.find(ports).is_some() {
            ports.host = following(ports.host);
        }
        self.next_port = following(ports.host);
        let room = self.room();
        self.table.promote(place, ports, room);
    }

    /// Accepts those who wait, as far as there is room for them.
    fn accept(&mut self) {
        while self.table.greetings() < GREETINGS {
            match self.endpoint.accept() {
                Ok(socket) => {
                    self.insert(Entry::Greeting(socket, Greeting::new()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.refuse::<()>("the host", &error);
                    return self.watch.wake_at(Instant::now() + RETRY);
                }
            }
        }
    }

    /// Gives up on those whose time is over.
    fn expire(&mut self) {
        let now = Instant::now();
        for place in 0..self.table.places() {
            let Some(slot) = self.table.slot(place) else { continue };
            if slot.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            slot.deadline = None;
            match &mut slot.entry {
                Some(Entry::Connection(_, connection)) => {
                    connection.give_up();
                    self.settle(place);
                }
                _ => self.table.remove(place),
            }
        }
        if let Some(deadline) = self.table.deadline() {
            self.watch.wake_at(deadline);
        }
    }
}

/// The next port for a host program.
fn following(port: u32) -> u32 {
    port.checked_add(1).unwrap_or(FIRST_PORT)
}
