//! A device for tests: queue 0 echoes, queue 1 waits for the host.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    os::fd::{AsRawFd, RawFd},
};

use device::{EventFd, Persist, RestoreError, SaveError, Versioned};
use purlin_virtio::{Chain, Device, Served};
use serde::{Deserialize, Serialize};

/// What is wrong with the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Says that it has written a byte more than it has.
    ClaimsTooMuch,
    /// Takes it for granted that a driver writes something.
    PanicsWithoutARequest,
    /// Restores all but its counter.
    ForgetsItsState,
    /// Takes a state that makes no sense.
    TakesGarbage,
    /// Its configuration grows when it is written.
    ConfigGrows,
    /// A reset leaves the configuration as it was.
    KeepsItsConfig,
    /// Has a queue of 3 entries.
    OddQueue,
    /// Offers nothing to talk about.
    NoQueue,
}

pub(crate) struct Echo {
    pub(crate) fault: Fault,
    pub(crate) count: u64,
    pub(crate) features: u64,
    pub(crate) resets: u32,
    /// Counts up from the host's side; its value is what queue 1 answers.
    pub(crate) input: EventFd,
    /// What queue 1 answers instead, at once.
    pub(crate) mailbox: Option<u64>,
    /// Whether an echo leaves something in the mailbox.
    pub(crate) posts: bool,
    /// 4 bytes of the host's, 4 of the driver's.
    pub(crate) config: Vec<u8>,
}

impl Echo {
    pub(crate) const FEATURE: u64 = 1 << 3;

    pub(crate) fn new(fault: Fault) -> Self {
        let input = EventFd::new(libc_nonblock()).unwrap();
        let config = vec![0; 8];
        let (mailbox, posts) = (None, false);
        Self { fault, count: 0, features: 0, resets: 0, input, mailbox, posts, config }
    }

    fn echo(&mut self, chain: &mut Chain<'_>) -> Served {
        let mut bytes = [0; 512];
        let len = chain.reader.read(&mut bytes).unwrap();
        assert!(len > 0 || self.fault != Fault::PanicsWithoutARequest, "there is a request");
        let len = chain.writer.write(&bytes[..len]).unwrap();
        self.count += 1;
        if self.posts {
            self.mailbox = Some(self.count);
        }
        let extra = u32::from(self.fault == Fault::ClaimsTooMuch);
        Served::Used(u32::try_from(len).unwrap() + extra)
    }
}

/// The value of `EFD_NONBLOCK`, which vmm-sys-util takes as a number.
const fn libc_nonblock() -> i32 {
    0o4000
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EchoState {
    count: u64,
    config: Vec<u8>,
}

impl Versioned for EchoState {
    const KIND: &'static str = "test.echo";
    const VERSION: u32 = 1;

    fn upgrade(from: u32, _: snapshot::Value) -> Result<Self, RestoreError> {
        // Version 0 is taken for an empty one, and checked when it is restored.
        match from {
            0 => Ok(Self { count: 0, config: Vec::new() }),
            found => Err(RestoreError::Version { kind: Self::KIND, found, supported: 1 }),
        }
    }
}

impl Persist for Echo {
    type State = EchoState;

    fn save(&mut self) -> Result<EchoState, SaveError> {
        Ok(EchoState { count: self.count, config: self.config.clone() })
    }

    fn restore(&mut self, state: EchoState) -> Result<(), RestoreError> {
        if state.config.len() != 8 {
            let why = format!("{} bytes of configuration; there are 8", state.config.len());
            let refused = RestoreError::Invalid { kind: EchoState::KIND, why };
            return if self.fault == Fault::TakesGarbage { Ok(()) } else { Err(refused) };
        }
        if self.fault != Fault::ForgetsItsState {
            self.count = state.count;
        }
        self.config = state.config;
        Ok(())
    }
}

impl Device for Echo {
    const ID: u32 = 42;

    fn features(&self) -> u64 {
        // Bit 34 belongs to the transport; the worker does not offer it for us.
        Self::FEATURE | 1 << 34
    }

    fn queues(&self) -> &[u16] {
        match self.fault {
            Fault::OddQueue => &[4, 3],
            Fault::NoQueue => &[],
            _ => &[8, 4, 1],
        }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if self.fault == Fault::ConfigGrows {
            self.config.push(0);
        }
        for (at, byte) in (offset..).zip(data).filter(|(at, _)| *at >= 4) {
            self.config[at] = *byte;
        }
    }

    fn negotiated(&mut self, features: u64) {
        self.features = features;
    }

    fn reset(&mut self) {
        self.features = 0;
        self.resets += 1;
        if self.fault != Fault::KeepsItsConfig {
            self.config[4..].fill(0);
        }
    }

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        if queue != 1 {
            return self.echo(chain);
        }
        match self.mailbox.take().map_or_else(|| self.input.read(), Ok) {
            Ok(value) => Served::Used(
                u32::try_from(chain.writer.write(&value.to_le_bytes()).unwrap()).unwrap(),
            ),
            Err(_) => Served::Stall,
        }
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.input.as_raw_fd()]
    }
}
