//! Looking for a back end without keeping others waiting: connecting and introducing take as long as the
//! back end likes, so they have a thread of their own.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use device::EventFd;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

use crate::{BackendError, Settings, session::Session};

/// A back end that has introduced itself, and the configuration space of the device.
pub(crate) type Found = (Session, Vec<u8>);

/// What looks for a back end, one attempt at a time.
#[derive(Debug)]
pub(crate) struct Search {
    socket: PathBuf,
    settings: Settings,
    done: EventFd,
    attempt: Option<Receiver<Result<Found, BackendError>>>,
}

impl Search {
    pub(crate) fn new(socket: &Path, settings: &Settings) -> io::Result<Self> {
        let done = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Self { socket: socket.to_owned(), settings: settings.clone(), done, attempt: None })
    }

    /// The socket at which the back end listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes an attempt here and now.
    pub(crate) fn now(&self) -> Result<Found, BackendError> {
        look(&self.socket, &self.settings)
    }

    /// Begins an attempt, unless one is being made.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if self.attempt.is_some() {
            return Ok(());
        }
        let (socket, settings) = (self.socket.clone(), self.settings.clone());
        let done = self.done.try_clone()?;
        let (sender, attempt) = sync_channel(1);
        let look = move || {
            // Nobody is there to take it if the device is gone.
            drop(sender.send(look(&socket, &settings)));
            drop(done.write(1));
        };
        thread::Builder::new().name("vhost-user".to_owned()).spawn(look)?;
        self.attempt = Some(attempt);
        Ok(())
    }

    /// What came of the attempt, if it is over.
    pub(crate) fn take(&mut self) -> Option<Result<Found, BackendError>> {
        drop(self.done.read());
        let result = self.attempt.as_ref()?.try_recv().ok()?;
        self.attempt = None;
        Some(result)
    }

    /// Readable when an attempt is over.
    pub(crate) fn source(&self) -> RawFd {
        self.done.as_raw_fd()
    }
}

/// Connects, and looks at what the back end has for a device with `settings`.
fn look(socket: &Path, settings: &Settings) -> Result<Found, BackendError> {
    let mut session = Session::open(socket)?;
    let Settings { queues, space, .. } = settings;
    // One that cannot tell has as many as each device of the type.
    let (wanted, offered) = match session.queues()? {
        Some(offered) => (space.counted(*queues), Some(offered)),
        None => (*queues, space.fewest().map(u64::from)),
    };
    if let Some(offered) = offered.filter(|offered| *offered < u64::from(wanted)) {
        return Err(BackendError::Queues { wanted, offered });
    }
    let config = space.read(&mut session, *queues)?;
    Ok((session, config))
}
