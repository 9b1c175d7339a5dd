//! The front end of one device: what it has agreed on with its driver and has to bring home to a back
//! end, again and again if the back end is another one.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use virtio::{Offload, OffloadError, OffloadedRing};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::{
    BackendError, Settings,
    inflight::Inflight,
    message,
    resume::{self, Track},
    retry::Retry,
    search::Search,
    session::Session,
    space,
    table::Table,
};

/// What an event is about.
const SOCKET: u64 = 0;
const TIMER: u64 = 1;
const CHANNEL: u64 = 2;
const FOUND: u64 = 3;

/// A ring that was handed over.
struct Ring {
    ring: OffloadedRing,
    track: Track,
}

pub(crate) struct Front {
    search: Search,
    id: u32,
    settings: Settings,
    /// What the driver is offered, of the device's type and of its queues.
    pub(crate) offered: u64,
    pub(crate) sizes: Vec<u16>,
    /// The configuration space as the driver sees it, and as it is after a reset.
    pub(crate) config: Vec<u8>,
    fresh: Vec<u8>,
    accepted: u64,
    session: Option<Session>,
    table: Option<Table>,
    rings: Vec<Option<Ring>>,
    inflight: Option<Inflight>,
    retry: Retry,
    events: Epoll,
}

impl Front {
    pub(crate) fn connect(
        socket: &Path,
        id: u32,
        settings: Settings,
    ) -> Result<Self, BackendError> {
        let search = Search::new(socket, &settings).map_err(BackendError::Host)?;
        let (session, config) = search.now()?;
        let retry = Retry::new().map_err(BackendError::Host)?;
        let events = Epoll::new().map_err(BackendError::Host)?;
        let front = Self {
            search,
            id,
            offered: settings.space.features(session.features),
            sizes: vec![settings.size; settings.queues.into()],
            fresh: config.clone(),
            config,
            accepted: 0,
            session: None,
            table: None,
            rings: (0..settings.queues).map(|_| None).collect(),
            inflight: None,
            retry,
            events,
            settings,
        };
        let timer = EventSet::IN | EventSet::EDGE_TRIGGERED;
        front.watch(front.retry.source(), TIMER, timer).map_err(BackendError::Host)?;
        front.watch(front.search.source(), FOUND, EventSet::IN).map_err(BackendError::Host)?;
        front.watch_session(&session)?;
        Ok(Self { session: Some(session), ..front })
    }

    fn watch(&self, fd: RawFd, what: u64, events: EventSet) -> io::Result<()> {
        self.events.ctl(ControlOperation::Add, fd, EpollEvent::new(events, what))
    }

    fn watch_session(&self, session: &Session) -> Result<(), BackendError> {
        let events = EventSet::IN | EventSet::READ_HANG_UP;
        let channel = session.channel.as_ref().map(AsRawFd::as_raw_fd);
        let fds = [(Some(session.as_raw_fd()), SOCKET), (channel, CHANNEL)];
        let mut fds = fds.into_iter().filter_map(|(fd, what)| Some((fd?, what)));
        fds.try_for_each(|(fd, what)| self.watch(fd, what, events)).map_err(BackendError::Host)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    pub(crate) fn source(&self) -> RawFd {
        self.events.as_raw_fd()
    }

    /// Has `talk` with the back end, if it is there. One that fails is gone.
    fn talk<T>(&mut self, talk: impl FnOnce(&mut Session) -> Result<T, BackendError>) -> Option<T> {
        let session = self.session.as_mut()?;
        session.begin();
        let result = talk(session);
        result.map_err(|error| self.lose(&error)).ok()
    }

    /// The back end is gone; the next is looked for.
    fn lose(&mut self, why: &BackendError) {
        // Closing its socket takes it out of the events.
        self.session = None;
        let result = self.retry.lost();
        if self.retry.losses.is_power_of_two() {
            let (id, count) = (self.id, self.retry.losses);
            log::warn!(
                "virtio device type {id} waits for its back end at {}: {} ({count} so far)",
                self.search.socket().display(),
                chain(why)
            );
        }
        if let Err(error) = result {
            log::error!("virtio device type {} has lost its back end: no timer: {error}", self.id);
        }
        // It may have died between using a buffer and saying so.
        for Ring { ring, .. } in self.rings.iter().flatten() {
            drop(ring.call.write(1));
        }
    }

    pub(crate) fn negotiated(&mut self, features: u64) {
        self.accepted = features;
        if let Some(session) = &mut self.session {
            session.active = false;
        }
    }

    pub(crate) fn write_config(&mut self, offset: usize, data: &[u8]) {
        let settings = self.settings.clone();
        if !settings.space.is_writable(offset, data.len()) {
            return;
        }
        let written = self.talk(|back| {
            back.write_config(offset, data)?;
            settings.space.read(back, settings.queues)
        });
        if let Some(config) = written.filter(|config| config.len() == self.config.len()) {
            self.config = config;
        }
    }

    /// Has the back end hold what the driver wrote in the configuration `wanted`.
    fn rewrite(&mut self, wanted: &[u8]) {
        let space = &self.settings.space;
        let Some((at, bytes)) = space.written(wanted) else { return };
        if space.written(&self.config) == Some((at, bytes)) {
            return;
        }
        self.talk(|back| back.write_config(at, bytes));
        space::put(&mut self.config, at, bytes);
    }

    /// All rings are back.
    pub(crate) fn reset(&mut self) {
        self.accepted = 0;
        self.inflight = None;
        let fresh = self.fresh.clone();
        self.rewrite(&fresh);
        self.talk(Session::reset);
        self.config = fresh;
    }

    pub(crate) fn restore(&mut self, config: &[u8]) -> Result<(), String> {
        if !self.settings.space.fits(config, &self.fresh) {
            return Err("the back end has another configuration than the saved one".to_owned());
        }
        self.rewrite(config);
        Ok(())
    }

    /// Brings home to the back end what it has to know before its first ring.
    fn activate(&mut self) {
        let Self { session: Some(session), table: Some(table), .. } = self else { return };
        if session.active {
            return;
        }
        let (queues, size) = (self.settings.queues, self.settings.size);
        let noted = &mut self.inflight;
        let activated = session.activate(self.accepted, table).and_then(|()| {
            if !session.has(message::INFLIGHT_SHMFD) {
                *noted = None;
                return Ok(());
            }
            let inflight = match noted.take() {
                Some(inflight) => inflight,
                None => session.make_inflight(queues, size)?,
            };
            session.give_inflight(noted.insert(inflight))
        });
        if let Err(error) = activated {
            self.lose(&error);
        }
    }

    /// Has the back end, if it is there, serve queue number `queue` from `next` on.
    fn start_ring(&mut self, queue: u16, next: u16) {
        self.activate();
        let Self { session: Some(session), rings, .. } = self else { return };
        let Some(Some(Ring { ring, .. })) = rings.get(usize::from(queue)) else { return };
        if let Err(error) = session.start(queue, ring, next) {
            self.lose(&error);
        }
    }

    /// The back end has a request of its own.
    fn heed(&mut self) {
        let settings = self.settings.clone();
        let config = self.talk(|back| {
            let Some(channel) = &mut back.channel else { return Ok(None) };
            let changed = channel.read()?;
            changed.then(|| settings.space.read(back, settings.queues)).transpose()
        });
        if let Some(Some(config)) = config {
            let fresh = std::mem::replace(&mut self.fresh, config.clone());
            if let Some((at, old)) = self.settings.space.written(&fresh) {
                space::put(&mut self.fresh, at, old);
            }
            self.config = config;
        }
    }

    /// Looks for a back end.
    fn look(&mut self) {
        if self.session.is_none()
            && let Err(error) = self.search.begin()
        {
            self.miss(&BackendError::Host(error));
        }
    }

    /// What was found goes on where the last back end ended, if it can.
    fn find(&mut self) -> Result<(), OffloadError> {
        let Some(found) = self.search.take() else { return Ok(()) };
        let fitting = found.and_then(|(session, config)| {
            self.check(&session, &config)?;
            self.watch_session(&session)?;
            Ok((session, config))
        });
        match fitting {
            Ok((session, config)) => self.adopt(session, config),
            Err(error) => {
                self.miss(&error);
                if matches!(error, BackendError::Changed(_)) {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// There is no back end that can be used; later perhaps.
    fn miss(&mut self, why: &BackendError) {
        if let Err(error) = self.retry.again() {
            log::error!("virtio device type {} stays without a back end: {error}", self.id);
        }
        // That nobody is there has been said.
        if matches!(why, BackendError::Connect { .. }) {
            return;
        }
        self.retry.failures = self.retry.failures.saturating_add(1);
        if self.retry.failures.is_power_of_two() {
            let (id, count) = (self.id, self.retry.failures);
            log::warn!("virtio device type {id}: {} ({count} so far)", chain(why));
        }
    }

    /// Whether a back end can be the next one.
    fn check(&self, session: &Session, config: &[u8]) -> Result<(), BackendError> {
        let missing = self.offered & !self.settings.space.features(session.features);
        if missing != 0 {
            return Err(BackendError::Changed(format!("fewer features: {missing:#x} are missing")));
        }
        if !self.settings.space.fits(&self.config, config) {
            return Err(BackendError::Changed("another configuration".to_owned()));
        }
        Ok(())
    }

    fn adopt(&mut self, session: Session, config: Vec<u8>) {
        log::info!("virtio device type {} has a back end again", self.id);
        self.session = Some(session);
        self.retry.found();
        self.fresh.clone_from(&config);
        let old = std::mem::replace(&mut self.config, config);
        self.rewrite(&old);
        // One conversation for all rings.
        if let Some(session) = &mut self.session {
            session.begin();
        }
        let noted = self.inflight.is_some();
        for queue in 0..self.settings.queues {
            let Some(Some(kept)) = self.rings.get_mut(usize::from(queue)) else { continue };
            let (next, ring) = (kept.resume(noted), &kept.ring);
            // A kick that the last back end has read and not followed is not lost.
            drop(ring.kick.write(1));
            self.start_ring(queue, next);
        }
    }
}

impl Ring {
    /// Where it goes on if its back end is gone. If what is in flight was not `noted`, the next one must
    /// be given nothing that its predecessor has done.
    fn resume(&mut self, noted: bool) -> u16 {
        if noted { resume::next(&self.ring) } else { self.track.mend(&self.ring) }
    }
}

impl Offload for Front {
    fn start(&mut self, queue: u16, ring: OffloadedRing) -> Result<(), OffloadError> {
        let table = self.table.get_or_insert_with(|| Table::of(&ring.memory));
        let size = u64::from(ring.size);
        table.check(ring.descriptors, 16 * size)?;
        table.check(ring.driver, 6 + 2 * size)?;
        table.check(ring.device, 6 + 8 * size)?;
        let next = ring.next;
        if let Some(slot) = self.rings.get_mut(usize::from(queue)) {
            *slot = Some(Ring { track: Track::new(&ring, next), ring });
        }
        if let Some(session) = &mut self.session {
            session.begin();
        }
        self.start_ring(queue, next);
        Ok(())
    }

    fn stop(&mut self, queue: u16) -> u16 {
        let ring = self.rings.get_mut(usize::from(queue)).and_then(Option::take);
        let stopped = self.talk(|back| back.stop(queue));
        let noted = self.inflight.is_some();
        stopped.or_else(|| Some(ring?.resume(noted))).unwrap_or(0)
    }

    fn called(&mut self, queue: u16) {
        if self.inflight.is_none()
            && let Some(Some(kept)) = self.rings.get_mut(usize::from(queue))
        {
            kept.track.follow(&kept.ring);
        }
    }

    fn ready(&mut self) -> Result<(), OffloadError> {
        let mut events = [EpollEvent::default(); 4];
        let count = self.events.wait(0, &mut events).unwrap_or(0);
        for event in events.iter().take(count) {
            match event.data() {
                SOCKET => {
                    if let Some(error) = self.session.as_ref().and_then(Session::unasked) {
                        self.lose(&error);
                    }
                }
                CHANNEL => self.heed(),
                FOUND => self.find()?,
                _ => self.look(),
            }
        }
        Ok(())
    }
}

/// An error and what is behind it, for a log line.
fn chain(error: &BackendError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("socket", &self.search.socket())
            .field("settings", &self.settings)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
