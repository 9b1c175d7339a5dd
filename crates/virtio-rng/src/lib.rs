#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    os::fd::RawFd,
    path::Path,
};

use device::{Persist, RestoreError, SaveError, Versioned};
use rate::{Rates, Throttle};
use serde::{Deserialize, Serialize};
use virtio::{Chain, Device, Served};

/// The most that one request gets, bytes.
const MOST: usize = 4096;

/// The entropy device.
pub struct Rng {
    source: Box<dyn Read + Send>,
    throttle: Option<Throttle>,
    failures: u64,
}

impl Rng {
    /// A device that gives out what `source` reads, which should not block: its reads keep the other
    /// devices of the I/O thread waiting. A source that ends has failed.
    pub fn new(source: impl Read + Send + 'static) -> Self {
        Self { source: Box::new(source), throttle: None, failures: 0 }
    }

    /// A device that gives out what the file at `path` holds, `/dev/urandom` for one.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(File::open(path)?))
    }

    /// Gives out no more than `rates` allow; requests beyond them wait.
    ///
    /// # Errors
    /// The host has no timer left.
    pub fn limit(self, rates: Rates) -> io::Result<Self> {
        Ok(Self { throttle: Some(Throttle::new(rates)?), ..self })
    }

    /// Answers a request if the rates allow it: with how much, or `None` if it must wait.
    fn answer(&mut self, chain: &mut Chain<'_>) -> Result<Option<usize>, io::Error> {
        let wanted = chain.writer.available_bytes().min(MOST);
        let Some(throttle) = &mut self.throttle else { return self.fill(chain, wanted).map(Some) };
        if !throttle.take(1, bytes(wanted)) {
            return Ok(None);
        }
        let result = self.fill(chain, wanted);
        if let Some(throttle) = &mut self.throttle {
            match &result {
                Ok(done) => throttle.give_back(0, bytes(wanted.saturating_sub(*done))),
                Err(_) => throttle.give_back(1, bytes(wanted)),
            }
        }
        result.map(Some)
    }

    /// Copies from the source until the chain has what is wanted or the source fails: how much.
    fn fill(&mut self, chain: &mut Chain<'_>, wanted: usize) -> Result<usize, io::Error> {
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

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Device for Rng {
    const ID: u32 = 4;

    fn queues(&self) -> &[u16] {
        &[64]
    }

    fn serve(&mut self, _: u16, chain: &mut Chain<'_>) -> Served {
        match self.answer(chain) {
            Ok(Some(done)) => Served::Used(u32::try_from(done).unwrap_or(u32::MAX)),
            Ok(None) => Served::Stall,
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

    fn sources(&self) -> Vec<RawFd> {
        self.throttle.iter().map(Throttle::source).collect()
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
    use std::{
        num::NonZeroU64,
        time::{Duration, Instant},
    };

    use rate::Rate;
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

    fn limited(source: impl Read + Send + 'static, per_second: u64, size: u64) -> Rng {
        let rate = Rate::new(NonZeroU64::new(per_second).unwrap()).size(size);
        Rng::new(source).limit(Rates { ops: None, bytes: Some(rate) }).unwrap()
    }

    #[test]
    fn a_limited_device_conforms() {
        conformance::device(|| limited(Counter(0), 1 << 40, 1 << 40));
    }

    #[test]
    fn requests_beyond_the_rate_wait_for_their_time_and_then_come_back() {
        let start = Instant::now();
        let mut driver = Driver::new(virtio::mmio(limited(Counter(0), 20_000, 100)));
        driver.start(driver.offered());
        for _ in 0..4 {
            driver.queues[0].offer(&[(BUFFERS, 100, true)]);
        }
        driver.kick_and_run(0);
        let mut used = driver.queues[0].used();
        while used.len() < 4 {
            driver.run();
            used.extend(driver.queues[0].used());
        }
        assert!(used.iter().all(|(_, len)| *len == 100));
        // The first was in the bucket, each other takes 5 ms to earn.
        assert!(start.elapsed() >= Duration::from_millis(15));
    }

    #[test]
    fn what_the_source_did_not_give_is_not_charged() {
        // Ten bytes are there, and no more for a second.
        let mut driver = Driver::new(virtio::mmio(limited(Sips(false), 1, 10)));
        driver.start(driver.offered());
        for _ in 0..3 {
            driver.queues[0].offer(&[(BUFFERS, 6, true)]);
        }
        driver.kick_and_run(0);
        let lengths: Vec<u32> = driver.queues[0].used().iter().map(|used| used.1).collect();
        assert_eq!(lengths, [3, 3]);
    }

    #[test]
    fn a_source_that_was_interrupted_is_read_again() {
        struct Interrupted(bool);

        impl Read for Interrupted {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0 = !self.0;
                if self.0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(buf.len().min(3)) }
            }
        }

        let mut driver = driver(Interrupted(false));
        driver.queues[0].offer(&[(BUFFERS, 8, true)]);
        driver.kick_and_run(0);
        assert_eq!(driver.queues[0].used(), [(0, 8)]);
    }

    #[test]
    fn a_source_that_failed_is_not_charged() {
        /// Fails once.
        struct Late(bool);

        impl Read for Late {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Ok(buf.len());
                }
                Err(io::ErrorKind::Other.into())
            }
        }

        // Ten bytes are there, and no more for a second.
        let (mut driver, handle) = Driver::with_handle(virtio::mmio(limited(Late(false), 1, 10)));
        driver.start(driver.offered());
        driver.queues[0].offer(&[(BUFFERS, 10, true)]);
        driver.kick_and_run(0);
        assert_eq!(driver.queues[0].used(), []);
        // Has it tried again.
        handle.with(|_| ());
        driver.run();
        assert_eq!(driver.queues[0].used(), [(0, 10)]);
    }

    /// Three bytes, nothing, three bytes, nothing.
    struct Sips(bool);

    impl Read for Sips {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 = !self.0;
            Ok(if self.0 { buf.len().min(3) } else { 0 })
        }
    }

    #[test]
    fn a_source_that_is_not_there_is_refused() {
        let error = Rng::open("/there/is/no/such/file").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
