#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use device::{Persist, RestoreError, SaveError, Versioned};
use serde::{Deserialize, Serialize};
use virtio::{Chain, Device, Served};

/// The most that one request gets, bytes.
const MOST: usize = 4096;

/// The entropy device.
pub struct Rng {
    source: Box<dyn Read + Send>,
    failures: u64,
}

impl Rng {
    /// A device that gives out what `source` reads, which should not block: its reads keep the other
    /// devices of the I/O thread waiting. A source that ends has failed.
    pub fn new(source: impl Read + Send + 'static) -> Self {
        Self { source: Box::new(source), failures: 0 }
    }

    /// A device that gives out what the file at `path` holds, `/dev/urandom` for one.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(File::open(path)?))
    }

    /// Copies from the source until the chain is full, has enough or the source fails: how much.
    fn fill(&mut self, chain: &mut Chain<'_>) -> Result<usize, io::Error> {
        let wanted = chain.writer.available_bytes().min(MOST);
        let mut bytes = [0; 256];
        let mut done = 0;
        while done < wanted {
            let step = bytes.len().min(wanted - done);
            let Some(step) = bytes.get_mut(..step) else { break };
            match self.source.read(step) {
                Ok(0) if done == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if done == 0 => return Err(error),
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    chain.writer.write_all(step.get(..read).unwrap_or_default())?;
                    done += read;
                }
            }
        }
        Ok(done)
    }
}

impl Device for Rng {
    const ID: u32 = 4;

    fn queues(&self) -> &[u16] {
        &[64]
    }

    fn serve(&mut self, _: u16, chain: &mut Chain<'_>) -> Served {
        match self.fill(chain) {
            Ok(done) => Served::Used(u32::try_from(done).unwrap_or(u32::MAX)),
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures.is_power_of_two() {
                    let count = self.failures;
                    log::warn!("the source of random bytes fails: {error} ({count} so far)");
                }
                Served::Stall
            }
        }
    }
}

/// The saved form of [`Rng`], which is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngState {}

impl Versioned for RngState {
    const KIND: &'static str = "virtio.rng";
    const VERSION: u32 = 1;
}

impl Persist for Rng {
    type State = RngState;

    fn save(&mut self) -> Result<RngState, SaveError> {
        Ok(RngState {})
    }

    fn restore(&mut self, _: RngState) -> Result<(), RestoreError> {
        Ok(())
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rng").field("failures", &self.failures).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use virtio::conformance::{self, BUFFERS, Driver, Request};

    use super::*;

    /// Gives a few bytes at a time, out of step with any buffer.
    struct Counter(u8);

    impl Read for Counter {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let len = buf.len().min(7);
            for byte in &mut buf[..len] {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
            Ok(len)
        }
    }

    fn request(room: u32, len: u32) -> Request {
        Request { queue: 0, readable: Vec::new(), room, answer: None, len }
    }

    fn driver(source: impl Read + Send + 'static) -> Driver {
        let mut driver = Driver::new(virtio::mmio(Rng::new(source)));
        driver.start(driver.offered());
        driver
    }

    #[test]
    fn it_conforms() {
        conformance::device(|| Rng::new(Counter(0)));
    }

    #[test]
    fn a_request_is_filled_up_to_4_kib() {
        for (room, len) in [(1, 1), (300, 300), (4096, 4096), (0x8000, 4096)] {
            conformance::serves(|| Rng::new(Counter(0)), &request(room, len));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_source() {
        let answer = (1..=100).collect();
        let request = Request { answer: Some(answer), ..request(100, 100) };
        conformance::serves(|| Rng::new(Cycle(Counter(0))), &request);
    }

    /// The same hundred bytes again and again.
    struct Cycle(Counter);

    impl Read for Cycle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let len = buf.len().min(usize::from(100 - self.0.0));
            let read = self.0.read(&mut buf[..len])?;
            self.0.0 %= 100;
            Ok(read)
        }
    }

    #[test]
    fn a_request_without_room_comes_back_empty() {
        let mut driver = driver(Counter(0));
        driver.queues[0].offer(&[(BUFFERS, 8, false)]);
        driver.kick_and_run(0);
        assert_eq!(driver.queues[0].used(), [(0, 0)]);
    }

    #[test]
    fn a_request_waits_while_the_source_fails() {
        let mut driver = driver(io::empty());
        driver.queues[0].offer(&[(BUFFERS, 8, true)]);
        driver.kick_and_run(0);
        assert_eq!(driver.queues[0].used(), []);
    }

    #[test]
    fn what_a_failing_source_still_gave_is_given() {
        let mut driver = driver(Read::take(Counter(0), 5));
        driver.queues[0].offer(&[(BUFFERS, 8, true)]);
        driver.kick_and_run(0);
        assert_eq!(driver.queues[0].used(), [(0, 5)]);
    }

    #[test]
    fn a_source_that_is_not_there_is_refused() {
        let error = Rng::open("/there/is/no/such/file").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
