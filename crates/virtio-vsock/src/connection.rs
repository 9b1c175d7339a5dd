//! One connection: a stream between a port of the guest and a socket of the host.
//!
//! ```text
//!   host: CONNECT                          guest: REQUEST
//!        │                                      │
//!      Asked ────────── RESPONSE ───────────► Open ──── the host is done both ways ───► Leaving
//!        │                                      │                                          │
//!        └─ no answer ─► Reset ◄─ nonsense, or the guest is done both ways ◄── no RST ─────┤
//!                          │ RST is sent                                                   │
//!   RST from anywhere ─► Draining ── the host has read everything, or is gone ──► Over ◄───┘ RST
//! ```

use std::{
    fmt, io,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use virtio::{Reader, Writer};

use crate::{
    backlog::Backlog,
    credit::Credit,
    host::{self, Ready},
    packet::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND},
};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The host wants it; the guest has to answer.
    Asked,
    /// Data goes both ways, or one way.
    Open,
    /// The guest was told that the host is done both ways, and has to confirm.
    Leaving,
    /// The guest has to be told that it is over.
    Reset,
    /// The guest is done with it; the host has not read everything yet.
    Draining,
    /// Nothing is left to do.
    Over,
}

/// What a packet to the guest says, beside where it goes and the credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) op: Op,
    pub(crate) flags: u32,
    /// Bytes of data.
    pub(crate) len: u32,
}

impl Packet {
    fn plain(op: Op) -> Self {
        Self { op, flags: 0, len: 0 }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    phase: Phase,
    credit: Credit,
    backlog: Backlog,
    /// The `Request` or `Response` that is still to be sent.
    opening: Option<Op>,
    /// What the host no longer does, what the guest was told of it, and what the guest no longer does:
    /// flags of `Shutdown`.
    host_ended: u32,
    host_ended_told: u32,
    guest_ended: u32,
    /// Reading the socket may give something.
    readable: bool,
    /// The other end of the socket is gone, or might as well be.
    gone: bool,
    /// The guest wants to know its credit.
    credit_wanted: bool,
    /// The guest was asked for credit.
    credit_asked: bool,
}

impl Connection {
    fn new(socket: UnixStream, phase: Phase, opening: Op, room: u32) -> Self {
        Self {
            socket,
            phase,
            credit: Credit::new(room),
            backlog: Backlog::default(),
            opening: Some(opening),
            host_ended: 0,
            host_ended_told: 0,
            guest_ended: 0,
            readable: true,
            gone: false,
            credit_wanted: false,
            credit_asked: false,
        }
    }

    /// The program at the other end of `socket` wants to talk to the guest, which may send `room`
    /// bytes ahead.
    pub(crate) fn asked(socket: UnixStream, room: u32) -> Self {
        Self::new(socket, Phase::Asked, Op::Request, room)
    }

    /// The guest wants to talk, by `request`, to the program at the other end of `socket`.
    pub(crate) fn accepted(socket: UnixStream, room: u32, request: &Header) -> Self {
        let mut connection = Self::new(socket, Phase::Open, Op::Response, room);
        connection.credit.update(request.buf_alloc, request.fwd_cnt);
        connection
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Our room and what has left it, for the next packet.
    pub(crate) fn tell_credit(&mut self) -> (u32, u32) {
        self.credit.tell()
    }

    /// Takes a packet of the guest, whose data is next in `data`.
    pub(crate) fn receive(&mut self, header: &Header, data: &mut Reader<'_>) {
        self.credit.update(header.buf_alloc, header.fwd_cnt);
        self.credit_asked &= self.credit.sendable() == 0;
        match (self.phase, header.op) {
            (Phase::Draining | Phase::Over, _) => {}
            (_, Some(Op::Reset)) => self.leave(),
            // What was under way when the guest was told.
            (Phase::Reset, _) | (Phase::Leaving, Some(Op::Data)) => {}
            (Phase::Asked, Some(Op::Response)) if self.opening.is_none() => self.open(header),
            (Phase::Open, Some(Op::Data)) => self.take(header.len, data),
            (Phase::Open | Phase::Leaving, Some(Op::Shutdown)) => self.shut(header.flags),
            (Phase::Open | Phase::Leaving, Some(Op::CreditUpdate)) => {}
            (Phase::Open | Phase::Leaving, Some(Op::CreditRequest)) => self.credit_wanted = true,
            _ => self.reset("the guest sends what makes no sense there"),
        }
    }

    /// The guest has accepted. That the program is gone by now shows when it is read from.
    fn open(&mut self, response: &Header) {
        self.phase = Phase::Open;
        if let Err(error) = host::accept(&self.socket, response.dst_port) {
            log::debug!("a host program does not hear that the guest accepts: {error}");
        }
    }

    /// Data of the guest: straight to the host, or into the backlog if the host is slow.
    fn take(&mut self, len: u32, data: &mut Reader<'_>) {
        let count = usize::try_from(len).unwrap_or(usize::MAX);
        if self.guest_ended & SHUTDOWN_SEND != 0 {
            return self.reset("the guest sends data after the end of it");
        }
        if count > data.available_bytes() {
            return self.reset("the guest sends less data than it says");
        }
        if !self.credit.receive(len) {
            return self.reset("the guest sends more than it has credit for");
        }
        let mut left = count;
        if self.backlog.is_empty() && self.host_ended & SHUTDOWN_RECEIVE == 0 && left > 0 {
            match data.write_to(self.socket.as_fd(), None, left) {
                Ok(done) => {
                    self.took(done);
                    left = left.saturating_sub(done);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_end(&error) => self.stop_sending(),
                // A chain of more pieces than the host takes at a time.
                Err(error) => return self.reset(&error),
            }
        }
        if self.host_ended & SHUTDOWN_RECEIVE != 0 {
            self.took(left);
        } else if left > 0
            && let Err(error) = self.backlog.fill(data, left)
        {
            self.reset(&error);
        }
    }

    fn took(&mut self, count: usize) {
        self.credit.took(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The guest ends directions. Both: it wants to hear that the connection is over.
    fn shut(&mut self, flags: u32) {
        self.guest_ended |= flags & SHUTDOWN_BOTH;
        if self.guest_ended == SHUTDOWN_BOTH {
            self.reset("the guest has closed it");
        } else {
            self.pass_on_end();
        }
    }

    /// Ends the directions of the socket that the guest has ended, each when it is empty.
    fn pass_on_end(&mut self) {
        // An error means that the other end is gone already.
        if self.guest_ended & SHUTDOWN_SEND != 0 && self.backlog.is_empty() {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        if self.guest_ended & SHUTDOWN_RECEIVE != 0 {
            let _ = self.socket.shutdown(Shutdown::Read);
            self.readable = false;
        }
    }

    /// The host reads no more.
    fn stop_sending(&mut self) {
        self.host_ended |= SHUTDOWN_RECEIVE;
        let lost = self.backlog.clear();
        self.took(lost);
    }

    /// It is over, and the guest has to be told. What it sent before is still the host's.
    fn reset(&mut self, why: impl fmt::Display) {
        log::debug!("a vsock connection is over: {why}");
        self.phase = Phase::Reset;
        self.guest_ended = SHUTDOWN_BOTH;
        self.pass_on_end();
    }

    /// It is over, and the guest knows.
    fn leave(&mut self) {
        self.phase = if self.backlog.is_empty() { Phase::Over } else { Phase::Draining };
        self.guest_ended = SHUTDOWN_BOTH;
        self.pass_on_end();
    }

    /// What was waited for has not come.
    pub(crate) fn give_up(&mut self) {
        match self.phase {
            // The guest does not even know of it.
            Phase::Asked if self.opening.is_some() => self.leave(),
            Phase::Asked => self.reset("the guest does not answer"),
            Phase::Leaving => self.reset("the guest does not confirm the end"),
            _ => {}
        }
    }

    /// The socket is ready.
    pub(crate) fn ready(&mut self, ready: Ready) {
        self.readable |= ready.read;
        self.gone |= ready.gone;
        if ready.write && !self.backlog.is_empty() {
            match self.backlog.flush(&self.socket) {
                Ok(done) => self.took(done),
                Err(_) => self.stop_sending(),
            }
            if self.backlog.is_empty() {
                self.pass_on_end();
            }
        }
        if self.phase == Phase::Draining && (self.gone || self.backlog.is_empty()) {
            self.phase = Phase::Over;
        }
        // Else there may be something left to read before the end.
        let all_read = (self.host_ended | self.guest_ended << 1) & SHUTDOWN_SEND != 0;
        if self.gone && all_read {
            self.host_ended = SHUTDOWN_BOTH;
        }
    }

    /// Whether there is something to tell the guest, as far as that can be told without reading.
    pub(crate) fn has_next(&self) -> bool {
        match self.phase {
            Phase::Reset => true,
            Phase::Asked => self.opening.is_some(),
            Phase::Open => {
                self.opening.is_some()
                    || self.host_ended != self.host_ended_told
                    || self.owes_credit()
                    || self.is_readable() && (self.credit.sendable() > 0 || !self.credit_asked)
            }
            Phase::Leaving | Phase::Draining | Phase::Over => false,
        }
    }

    /// The next packet to the guest, whose data goes to `room`.
    pub(crate) fn next(&mut self, room: &mut Writer<'_>) -> Option<Packet> {
        if matches!(self.phase, Phase::Asked | Phase::Open)
            && let Some(op) = self.opening.take()
        {
            return Some(Packet::plain(op));
        }
        if self.phase == Phase::Open {
            let packet = self
                .end()
                .or_else(|| self.data(room))
                .or_else(|| self.end())
                .or_else(|| self.credit_packet());
            if packet.is_some() {
                return packet;
            }
        }
        if self.phase == Phase::Reset {
            self.leave();
            return Some(Packet::plain(Op::Reset));
        }
        None
    }

    /// Tells what the host has ended.
    fn end(&mut self) -> Option<Packet> {
        if self.host_ended == self.host_ended_told {
            return None;
        }
        self.host_ended_told = self.host_ended;
        if self.host_ended == SHUTDOWN_BOTH {
            self.phase = Phase::Leaving;
        }
        Some(Packet { flags: self.host_ended, ..Packet::plain(Op::Shutdown) })
    }

    fn is_readable(&self) -> bool {
        self.readable && self.guest_ended & SHUTDOWN_RECEIVE == 0
    }

    /// Reads as much as the guest has credit for, straight into its memory.
    fn data(&mut self, room: &mut Writer<'_>) -> Option<Packet> {
        let credit = usize::try_from(self.credit.sendable()).unwrap_or(usize::MAX);
        let most = credit.min(room.available_bytes());
        if !self.is_readable() || most == 0 {
            return None;
        }
        match room.read_from(self.socket.as_fd(), None, most) {
            Ok(0) => {
                self.readable = false;
                self.host_ended |= if self.gone { SHUTDOWN_BOTH } else { SHUTDOWN_SEND };
                None
            }
            Ok(count) => {
                // Even after a short read there may be more: one ends where a message with descriptors
                // did. Only the next one tells.
                let len = u32::try_from(count).unwrap_or(u32::MAX);
                self.credit.sent(len);
                Some(Packet { len, ..Packet::plain(Op::Data) })
            }
            Err(error) => {
                self.readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.reset(&error);
                }
                None
            }
        }
    }

    fn owes_credit(&self) -> bool {
        self.credit_wanted || self.credit.owes_update()
    }

    fn credit_packet(&mut self) -> Option<Packet> {
        if self.owes_credit() {
            self.credit_wanted = false;
            return Some(Packet::plain(Op::CreditUpdate));
        }
        if self.is_readable() && self.credit.sendable() == 0 && !self.credit_asked {
            self.credit_asked = true;
            return Some(Packet::plain(Op::CreditRequest));
        }
        None
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether an error says that the other end is gone or reads no more.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
