//! The routing table: built once, then read without a lock.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{AccessError, Action, BusDevice, Range, Space};

/// Collects claims, then [freezes](BusBuilder::freeze) them into a [`Bus`].
pub struct BusBuilder<S: Space> {
    claims: Vec<Claim<S>>,
}

struct Claim<S: Space> {
    at: Range<S>,
    owner: String,
    device: Arc<dyn BusDevice>,
}

/// Two claims that share addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict<S: Space> {
    /// The claim made first: owner and range.
    pub first: (String, Range<S>),
    /// The claim made later: owner and range.
    pub second: (String, Range<S>),
}

/// Every conflict among the claims of one bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts<S: Space>(pub Vec<Conflict<S>>);

impl<S: Space> fmt::Display for Conflicts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Conflict { first, second }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(
                f,
                "{separator}{} range {} of `{}` overlaps {} of `{}`",
                S::NAME,
                second.1,
                second.0,
                first.1,
                first.0
            )?;
        }
        Ok(())
    }
}

impl<S: Space> std::error::Error for Conflicts<S> {}

impl<S: Space> BusBuilder<S> {
    /// A builder without claims.
    pub fn new() -> Self {
        Self { claims: Vec::new() }
    }

    /// Notes that `device` answers at `at`. `owner` is the name that messages use.
    ///
    /// Overlaps are found by [`freeze`](Self::freeze), which reports them all at once.
    pub fn claim(&mut self, owner: &str, at: Range<S>, device: Arc<dyn BusDevice>) {
        self.claims.push(Claim { at, owner: owner.to_owned(), device });
    }

    /// Turns the claims into a bus.
    ///
    /// # Errors
    /// Claims overlap: every pair, with both owners and both ranges.
    pub fn freeze(mut self) -> Result<Bus<S>, Conflicts<S>> {
        let conflicts = self.conflicts();
        if !conflicts.is_empty() {
            return Err(Conflicts(conflicts));
        }
        self.claims.sort_by_key(|claim| claim.at.first());
        let claims = self.claims.into_iter().map(|claim| (claim.at, claim.device)).collect();
        Ok(Bus { claims, unclaimed: Unclaimed::default() })
    }

    fn conflicts(&self) -> Vec<Conflict<S>> {
        let named = |claim: &Claim<S>| (claim.owner.clone(), claim.at);
        let pairs = self.claims.iter().enumerate().flat_map(|(index, second)| {
            self.claims.iter().take(index).map(move |first| (first, second))
        });
        pairs
            .filter(|(first, second)| first.at.overlaps(&second.at))
            .map(|(first, second)| Conflict { first: named(first), second: named(second) })
            .collect()
    }
}

impl<S: Space> Default for BusBuilder<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Space> fmt::Debug for BusBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims = self.claims.iter().map(|claim| (&claim.owner, claim.at));
        f.debug_map().entries(claims).finish()
    }
}

/// Accesses that no device took: counted always, logged at a rate that the guest cannot drive up
/// (the 1st, 2nd, 4th, 8th, ... of each bus).
#[derive(Debug, Default)]
pub struct Unclaimed {
    count: AtomicU64,
}

impl Unclaimed {
    /// How many accesses no device took.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    #[cold]
    fn note<S: Space>(&self, direction: &str, at: S::Addr, width: usize, why: Option<AccessError>) {
        let count = self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if !count.is_power_of_two() {
            return;
        }
        match why {
            None => log::debug!(
                "{} {direction} at {at:#x}, {width} bytes: unclaimed ({count} so far)",
                S::NAME
            ),
            Some(why) => log::debug!(
                "{} {direction} at {at:#x}, {width} bytes: {why} ({count} so far)",
                S::NAME
            ),
        }
    }
}

type Entry<S> = (Range<S>, Arc<dyn BusDevice>);

/// A frozen routing table from address to device: a sorted slice and a binary search, no lock.
pub struct Bus<S: Space> {
    claims: Box<[Entry<S>]>,
    unclaimed: Unclaimed,
}

impl<S: Space> Bus<S> {
    /// Reads from the device at `at`. `data` is all `0xff` where no device answers: unclaimed
    /// addresses, an access that leaves a claim, a device that refuses.
    pub fn read(&self, at: S::Addr, data: &mut [u8]) {
        data.fill(0xff);
        let result = match self.find(at, data.len()) {
            Some((device, offset)) => device.read(offset, data).map_err(Some),
            None => Err(None),
        };
        if let Err(why) = result {
            data.fill(0xff);
            self.unclaimed.note::<S>("read", at, data.len(), why);
        }
    }

    /// Writes to the device at `at`, and says what the machine has to do. A write that no device
    /// takes is dropped.
    pub fn write(&self, at: S::Addr, data: &[u8]) -> Action {
        let result = match self.find(at, data.len()) {
            Some((device, offset)) => device.write(offset, data).map_err(Some),
            None => Err(None),
        };
        result.unwrap_or_else(|why| {
            self.unclaimed.note::<S>("write", at, data.len(), why);
            Action::Continue
        })
    }

    /// The claimed ranges, in order of address.
    pub fn ranges(&self) -> impl Iterator<Item = Range<S>> + '_ {
        self.claims.iter().map(|(range, _)| *range)
    }

    /// What no device took so far.
    pub fn unclaimed(&self) -> &Unclaimed {
        &self.unclaimed
    }

    fn find(&self, at: S::Addr, len: usize) -> Option<(&dyn BusDevice, u64)> {
        let after = self.claims.partition_point(|(range, _)| range.first() <= at);
        let (range, device) = self.claims.get(after.checked_sub(1)?)?;
        Some((device.as_ref(), range.offset_of(at, len)?))
    }
}

impl<S: Space> Default for Bus<S> {
    /// A bus that nobody claims.
    fn default() -> Self {
        Self { claims: Box::default(), unclaimed: Unclaimed::default() }
    }
}

impl<S: Space> fmt::Debug for Bus<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Mmio, MutBusDevice, Pio};

    /// Answers with the offset it was asked at, and refuses offset 3.
    #[derive(Default)]
    struct Echo {
        written: Vec<(u64, Vec<u8>)>,
    }

    impl MutBusDevice for Echo {
        fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
            data.fill(u8::try_from(offset).unwrap());
            if offset == 3 { Err(AccessError::NoRegister) } else { Ok(()) }
        }

        fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
            self.written.push((offset, data.to_vec()));
            Ok(Action::Reset)
        }
    }

    fn bus_with_echo(first: u16, len: u16) -> (Bus<Pio>, Arc<Mutex<Echo>>) {
        let echo = Arc::new(Mutex::new(Echo::default()));
        let mut builder = BusBuilder::new();
        builder.claim("echo", Range::new(first, len).unwrap(), echo.clone());
        (builder.freeze().unwrap(), echo)
    }

    #[test]
    fn a_read_reaches_the_device_by_offset() {
        let (bus, _) = bus_with_echo(0x3f8, 8);
        let mut data = [0];
        bus.read(0x3fd, &mut data);
        assert_eq!(data, [5]);
    }

    #[test]
    fn a_write_reaches_the_device_and_returns_its_action() {
        let (bus, echo) = bus_with_echo(0x60, 8);
        let action = bus.write(0x64, &[0xfe]);
        assert_eq!(action, Action::Reset);
        assert_eq!(echo.lock().unwrap().written, [(4, vec![0xfe])]);
    }

    #[test]
    fn unclaimed_and_crossing_and_refused_reads_are_all_ones_and_counted() {
        let (bus, _) = bus_with_echo(0x10, 4);
        let mut data = [0; 4];
        bus.read(0x20, &mut data);
        assert_eq!(data, [0xff; 4]);
        bus.read(0x12, &mut data);
        assert_eq!(data, [0xff; 4]);
        bus.read(0x13, &mut data[..1]);
        assert_eq!(data[0], 0xff);
        assert_eq!(bus.unclaimed().count(), 3);
    }

    #[test]
    fn a_write_that_leaves_the_claim_never_reaches_the_device() {
        let (bus, echo) = bus_with_echo(0x10, 4);
        assert_eq!(bus.write(0x12, &[0; 4]), Action::Continue);
        assert_eq!(bus.write(0x0f, &[0]), Action::Continue);
        assert!(echo.lock().unwrap().written.is_empty());
    }

    #[test]
    fn freezing_reports_every_conflict_with_both_owners() {
        let device = || Arc::new(Mutex::new(Echo::default()));
        let mut builder = BusBuilder::<Mmio>::new();
        builder.claim("a", Range::new(0x1000, 0x100).unwrap(), device());
        builder.claim("b", Range::new(0x10ff, 1).unwrap(), device());
        builder.claim("c", Range::new(0x1000, 0x100).unwrap(), device());
        let conflicts = builder.freeze().unwrap_err();
        assert_eq!(
            conflicts.to_string(),
            "memory range 0x10ff-0x10ff of `b` overlaps 0x1000-0x10ff of `a`; \
             memory range 0x1000-0x10ff of `c` overlaps 0x1000-0x10ff of `a`; \
             memory range 0x1000-0x10ff of `c` overlaps 0x10ff-0x10ff of `b`"
        );
    }

    #[test]
    fn neighbours_do_not_conflict_and_are_found() {
        let mut builder = BusBuilder::<Pio>::new();
        for port in [0x30, 0x10, 0x20] {
            let device = Arc::new(Mutex::new(Echo::default()));
            builder.claim("echo", Range::new(port, 0x10).unwrap(), device);
        }
        let bus = builder.freeze().unwrap();
        let mut data = [0];
        bus.read(0x2f, &mut data);
        assert_eq!(data, [0xf]);
        bus.read(0x40, &mut data);
        assert_eq!(data, [0xff]);
    }
}
