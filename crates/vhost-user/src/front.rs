//! The front end of one device: what it has agreed on with its driver and has to bring home to a back
//! end, again and again if the back end is another one.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    time::Instant,
};

use virtio::{Offload, OffloadError, OffloadedRing, signal};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::{
    BackendError, Settings,
    channel::Channel,
    grave::Grave,
    inflight::Inflight,
    message,
    pace::Pace,
    patience::Patience,
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
const PACE: u64 = 4;

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
    /// A ring was taken back whose back end was gone and had requests in flight.
    unsure: bool,
    /// As the last back end left it.
    patience: Patience,
    pace: Pace,
    grave: Grave,
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
        let pace = Pace::new().map_err(BackendError::Host)?;
        let events = Epoll::new().map_err(BackendError::Host)?;
        let mut front = Self {
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
            unsure: false,
            patience: Patience::new(Instant::now()),
            pace,
            grave: Grave::default(),
            retry,
            events,
            settings,
        };
        let timer = EventSet::IN | EventSet::EDGE_TRIGGERED;
        front.watch(front.retry.source(), TIMER, timer).map_err(BackendError::Host)?;
        front.watch(front.pace.source(), PACE, timer).map_err(BackendError::Host)?;
        front.watch(front.search.source(), FOUND, EventSet::IN).map_err(BackendError::Host)?;
        front.watch_session(&session)?;
        front.session = Some(session);
        Ok(front)
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
        let result = talk(self.session.as_mut()?);
        result.map_err(|error| self.lose(&error)).ok()
    }

    /// Closes a connection.
    fn bury(&self, session: Session) {
        // Its files are open for a while: they are taken out of the events here.
        let channel = session.channel.as_ref().map(AsRawFd::as_raw_fd);
        for fd in channel.into_iter().chain([session.as_raw_fd()]) {
            drop(self.events.ctl(ControlOperation::Delete, fd, EpollEvent::default()));
        }
        self.grave.bury(session);
    }

    /// The back end is gone; the next is looked for.
    fn lose(&mut self, why: &BackendError) {
        if let Some(mut session) = self.session.take() {
            self.patience = *session.patience();
            self.bury(session);
        }
        let result = self.retry.lost(self.patience.recovery(Instant::now()));
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
            ring.call.signal();
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
        self.unsure = false;
        let fresh = self.fresh.clone();
        self.rewrite(&fresh);
        self.talk(Session::reset);
        self.config = fresh;
    }

    /// An error if requests are in flight of which only the notes of a back end tell that is gone.
    pub(crate) fn can_be_saved(&self) -> Result<(), BackendError> {
        let mut rings = self.rings.iter().flatten();
        let gone = self.session.is_none() && rings.any(|kept| !resume::is_idle(&kept.ring));
        if (self.unsure || gone) && self.inflight.is_some() {
            return Err(BackendError::Closed { request: None });
        }
        Ok(())
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
        let changed = self.talk(|back| back.channel.as_mut().map_or(Ok(false), Channel::read));
        if changed == Some(true) && self.pace.is_time(Instant::now()) {
            self.reread();
        }
    }

    /// Reads the configuration space, which has changed.
    fn reread(&mut self) {
        let settings = self.settings.clone();
        let config = self.talk(|back| settings.space.read(back, settings.queues));
        if let Some(config) = config {
            let fresh = std::mem::replace(&mut self.fresh, config.clone());
            if let Some((at, old)) = self.settings.space.written(&fresh) {
                space::put(&mut self.fresh, at, old);
            }
            self.config = config;
        }
    }

    /// Looks for a back end.
    fn look(&mut self) {
        if self.session.is_some() {
            return;
        }
        // One that cannot be got rid of has no successor.
        let begun = if self.grave.is_empty() { self.search.begin() } else { self.retry.again() };
        if let Err(error) = begun {
            self.miss(&BackendError::Host(error));
        }
    }

    /// What was found goes on where the last back end ended, if it can.
    fn find(&mut self) -> Result<(), OffloadError> {
        let Some(found) = self.search.take() else { return Ok(()) };
        let (session, config) = match found {
            Ok(found) => found,
            Err(error) => {
                self.miss(&error);
                return Ok(());
            }
        };
        let fits = self.check(&session, &config).and_then(|()| self.watch_session(&session));
        let Err(error) = fits else {
            self.adopt(session, config);
            return Ok(());
        };
        self.bury(session);
        self.miss(&error);
        if matches!(error, BackendError::Changed(_)) { Err(error.into()) } else { Ok(()) }
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

    fn adopt(&mut self, mut session: Session, config: Vec<u8>) {
        *session.patience() = self.patience;
        // As often as it was said that there is none.
        if self.retry.losses.is_power_of_two() {
            log::info!("virtio device type {} has a back end again", self.id);
        }
        self.session = Some(session);
        self.retry.found();
        self.fresh.clone_from(&config);
        let old = std::mem::replace(&mut self.config, config);
        self.rewrite(&old);
        // It may be gone again already.
        let Some(session) = &self.session else { return };
        // One that knows of no notes is given what is in flight by the rings.
        let noted = self.inflight.is_some() && session.has(message::INFLIGHT_SHMFD);
        for queue in 0..self.settings.queues {
            let Some(Some(kept)) = self.rings.get_mut(usize::from(queue)) else { continue };
            let (next, ring) = (kept.resume(noted), &kept.ring);
            // A kick that the last back end has read and not followed is not lost.
            signal(&ring.kick);
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
            self.unsure = false;
            *slot = Some(Ring { track: Track::new(&ring, next), ring });
        }
        self.start_ring(queue, next);
        Ok(())
    }

    fn stop(&mut self, queue: u16) -> u16 {
        let ring = self.rings.get_mut(usize::from(queue)).and_then(Option::take);
        let stopped = self.talk(|back| back.stop(queue));
        let Some(mut ring) = ring else { return stopped.unwrap_or(0) };
        if let Some(next) = stopped.filter(|next| resume::is_possible(&ring.ring, *next)) {
            return next;
        }
        // What was used and not told is told now.
        ring.ring.call.signal();
        self.unsure |= !resume::is_idle(&ring.ring);
        ring.resume(self.inflight.is_some())
    }

    fn called(&mut self, queue: u16) {
        if self.inflight.is_none()
            && let Some(Some(kept)) = self.rings.get_mut(usize::from(queue))
        {
            kept.track.follow(&kept.ring);
        }
    }

    fn ready(&mut self) -> Result<(), OffloadError> {
        let mut events = [EpollEvent::default(); 5];
        let count = self.events.wait(0, &mut events).unwrap_or(0);
        for event in events.iter().take(count) {
            match event.data() {
                SOCKET => {
                    if let Some(error) = self.session.as_mut().and_then(Session::unasked) {
                        self.lose(&error);
                    }
                }
                CHANNEL => self.heed(),
                FOUND => self.find()?,
                PACE => {
                    if self.pace.is_time(Instant::now()) {
                        self.reread();
                    }
                }
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

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.bury(session);
        }
    }
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
