//! A device for tests that looks at its own registers while it serves: a lock in the way would never
//! return.

use device::{Persist, RestoreError, SaveError};
use purlin_virtio::{Chain, Device, Served};

use crate::echo::{Echo, EchoState, Fault};

pub(crate) struct Slow {
    echo: Echo,
    /// What is done under the worker's lock.
    pub(crate) probe: Option<Box<dyn FnMut() -> u32 + Send>>,
    /// What it found.
    pub(crate) seen: Option<u32>,
}

impl Slow {
    pub(crate) fn new() -> Self {
        Self { echo: Echo::new(Fault::None), probe: None, seen: None }
    }
}

impl Persist for Slow {
    type State = EchoState;

    fn save(&mut self) -> Result<EchoState, SaveError> {
        self.echo.save()
    }

    fn restore(&mut self, state: EchoState) -> Result<(), RestoreError> {
        self.echo.restore(state)
    }
}

impl Device for Slow {
    const ID: u32 = 42;

    fn queues(&self) -> &[u16] {
        &[8]
    }

    fn serve(&mut self, _: u16, _: &mut Chain<'_>) -> Served {
        self.seen = self.probe.as_mut().map(|probe| probe());
        Served::Used(0)
    }
}
