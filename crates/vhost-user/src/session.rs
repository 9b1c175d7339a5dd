//! One connection to a back end, from the first request to the last.

use std::{
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use virtio::{OffloadedRing, feature};

use crate::{
    BackendError,
    channel::Channel,
    inflight::{self, Inflight},
    message::{self, Request},
    patience::Patience,
    socket::Socket,
    table::Table,
};

/// A back end that has introduced itself.
#[derive(Debug)]
pub(crate) struct Session {
    socket: Socket,
    /// What it offers, without what is the protocol's own.
    pub(crate) features: u64,
    /// What of the protocol is in use.
    protocol: u64,
    /// For its own requests, if it has any.
    pub(crate) channel: Option<Channel>,
    /// It knows what the driver accepted, and guest RAM.
    pub(crate) active: bool,
}

impl Session {
    /// Connects to the back end at `path`, which introduces itself.
    pub(crate) fn open(path: &Path) -> Result<Self, BackendError> {
        let connected = Socket::connect(path);
        let absent = |source| BackendError::Connect { socket: path.to_owned(), source };
        let socket = connected.map_err(absent)?;
        let mut session = Self { socket, features: 0, protocol: 0, channel: None, active: false };
        let features = session.number(message::GET_FEATURES)?;
        if features & feature::VERSION_1 == 0 {
            return Err(BackendError::Missing("VERSION_1"));
        }
        if features & message::PROTOCOL_FEATURES != 0 {
            let offered = session.number(message::GET_PROTOCOL_FEATURES)?;
            let protocol = offered & message::OURS;
            session.tell(message::SET_PROTOCOL_FEATURES, &protocol.to_ne_bytes(), &[])?;
            session.protocol = protocol;
        } else {
            // Then rings run from their first kick on, and nothing can be asked.
            return Err(BackendError::Missing("the feature bit of its protocol features, 30"));
        }
        session.features = features & !message::PROTOCOL_FEATURES;
        session.tell(message::SET_OWNER, &[], &[])?;
        session.open_channel()?;
        Ok(session)
    }

    /// How long it may still keep this end waiting.
    pub(crate) fn patience(&mut self) -> &mut Patience {
        &mut self.socket.patience
    }

    pub(crate) fn has(&self, protocol: u64) -> bool {
        self.protocol & protocol != 0
    }

    /// How many queues it has, if it can tell.
    pub(crate) fn queues(&mut self) -> Result<Option<u64>, BackendError> {
        let known = self.has(message::MQ);
        known.then(|| self.number(message::GET_QUEUE_NUM)).transpose()
    }

    /// The first `len` bytes of its configuration space.
    pub(crate) fn config(&mut self, len: usize) -> Result<Vec<u8>, BackendError> {
        if !self.has(message::CONFIG) {
            return Err(BackendError::Missing("a configuration space (protocol feature 9)"));
        }
        let mut body = message::words(&[0, u32::try_from(len).unwrap_or(u32::MAX), 0]);
        let head = body.len();
        body.resize(head + len, 0);
        let answer = self.ask(message::GET_CONFIG, &body, body.len())?;
        let [offset, found, _] = message::numbers(&answer);
        if offset != 0 || usize::try_from(found) != Ok(len) {
            let what = format!("{found} bytes from {offset} on; it should be {len} from 0 on");
            return Err(BackendError::Nonsense { request: message::GET_CONFIG.1, what });
        }
        Ok(answer.get(head..).unwrap_or_default().to_vec())
    }

    /// Writes to its configuration space.
    pub(crate) fn write_config(&mut self, offset: usize, data: &[u8]) -> Result<(), BackendError> {
        if !self.has(message::CONFIG) {
            return Ok(());
        }
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let mut body = message::words(&[number(offset), number(data.len()), 0]);
        body.extend_from_slice(data);
        self.tell(message::SET_CONFIG, &body, &[])
    }

    /// Tells it what the driver accepted, and where guest RAM is.
    pub(crate) fn activate(&mut self, accepted: u64, table: &Table) -> Result<(), BackendError> {
        let features = accepted & self.features | message::PROTOCOL_FEATURES;
        self.tell(message::SET_FEATURES, &features.to_ne_bytes(), &[])?;
        self.tell(message::SET_MEM_TABLE, &table.body(), &table.fds())?;
        self.active = true;
        Ok(())
    }

    /// Has it make memory for `queues` queues of at most `size` entries in which it notes what is in
    /// flight.
    pub(crate) fn make_inflight(
        &mut self,
        queues: u16,
        size: u16,
    ) -> Result<Inflight, BackendError> {
        let body = inflight::wanted(queues, size);
        let request = message::GET_INFLIGHT_FD;
        self.send(request, &body, &[], false)?;
        let answer = self.socket.answer(request, body.len(), 1)?;
        let nonsense = || BackendError::Nonsense { request: request.1, what: "no file".into() };
        Inflight::check(&answer, self.socket.file().ok_or_else(nonsense)?, (queues, size))?;
        self.socket.take_file().map(|file| Inflight::new(answer, file)).ok_or_else(nonsense)
    }

    /// Gives it the memory in which its predecessor noted what is in flight.
    pub(crate) fn give_inflight(&mut self, inflight: &Inflight) -> Result<(), BackendError> {
        self.tell(message::SET_INFLIGHT_FD, inflight.body(), &[inflight.fd()])
    }

    /// Gives it its end of a connection for requests of its own, if it has any.
    fn open_channel(&mut self) -> Result<(), BackendError> {
        if self.has(message::BACKEND_REQ) {
            let (channel, other) = Channel::new().map_err(BackendError::Host)?;
            self.tell(message::SET_BACKEND_REQ_FD, &[], &[other.as_raw_fd()])?;
            self.channel = Some(channel);
        }
        Ok(())
    }

    /// Has it serve a ring, from index `next` on.
    pub(crate) fn start(
        &mut self,
        queue: u16,
        ring: &OffloadedRing,
        next: u16,
    ) -> Result<(), BackendError> {
        let index = u32::from(queue);
        let state = |number: u32| message::words(&[index, number]);
        self.tell(message::SET_VRING_NUM, &state(ring.size.into()), &[])?;
        self.tell(message::SET_VRING_BASE, &state(next.into()), &[])?;
        let mut places = state(0);
        for place in [ring.descriptors, ring.device, ring.driver, 0] {
            places.extend_from_slice(&place.to_ne_bytes());
        }
        self.tell(message::SET_VRING_ADDR, &places, &[])?;
        let event = u64::from(queue).to_ne_bytes();
        self.tell(message::SET_VRING_CALL, &event, &[ring.call.as_raw_fd()])?;
        self.tell(message::SET_VRING_KICK, &event, &[ring.kick.as_raw_fd()])?;
        self.tell(message::SET_VRING_ENABLE, &state(1), &[])
    }

    /// Has it leave a ring alone: the index at which it stopped.
    pub(crate) fn stop(&mut self, queue: u16) -> Result<u16, BackendError> {
        let request = message::GET_VRING_BASE;
        let answer = self.ask(request, &message::words(&[queue.into(), 0]), 8)?;
        let [index, next] = message::numbers(&answer);
        let nonsense = || BackendError::Nonsense {
            request: request.1,
            what: format!("index {next} of queue {index}; it was asked for queue {queue}"),
        };
        if index != u32::from(queue) {
            return Err(nonsense());
        }
        u16::try_from(next).map_err(|_| nonsense())
    }

    /// Has it forget its driver, if it can.
    pub(crate) fn reset(&mut self) -> Result<(), BackendError> {
        self.active = false;
        if !self.has(message::RESET) {
            return Ok(());
        }
        self.tell(message::RESET_DEVICE, &[], &[])
    }

    /// What it means that the socket is readable while nothing was asked.
    pub(crate) fn unasked(&mut self) -> Option<BackendError> {
        self.socket.unasked()
    }

    fn send(
        &mut self,
        request: Request,
        body: &[u8],
        fds: &[RawFd],
        need_reply: bool,
    ) -> Result<(), BackendError> {
        self.socket.send(request, &message::encode(request, body, need_reply), fds)
    }

    /// The `len` bytes with which `request` is answered.
    fn ask(&mut self, request: Request, body: &[u8], len: usize) -> Result<Vec<u8>, BackendError> {
        self.send(request, body, &[], false)?;
        self.socket.answer(request, len, 0)
    }

    fn number(&mut self, request: Request) -> Result<u64, BackendError> {
        let answer = self.ask(request, &[], 8)?;
        Ok(answer.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
    }

    /// Sends a request that has no answer of its own; whether it worked, if the back end says that.
    fn tell(&mut self, request: Request, body: &[u8], fds: &[RawFd]) -> Result<(), BackendError> {
        let heard = self.has(message::REPLY_ACK);
        self.send(request, body, fds, heard)?;
        if !heard {
            return Ok(());
        }
        let answer = self.socket.answer(request, 8, 0)?;
        if answer.iter().any(|byte| *byte != 0) {
            return Err(BackendError::Refused { request: request.1 });
        }
        Ok(())
    }
}

impl AsRawFd for Session {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
