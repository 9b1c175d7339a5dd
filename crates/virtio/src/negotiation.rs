//! The device status field: who may set what, when (virtio 1.3 §2.1, §3.1).

use crate::feature;

/// The bits of the device status field (virtio 1.3 §2.1).
pub mod status {
    /// The guest has noticed the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The guest knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready; the device may work.
    pub const DRIVER_OK: u8 = 4;
    /// The driver has accepted features, and the device them.
    pub const FEATURES_OK: u8 = 8;
    /// The device is broken beyond what but a reset repairs. Set by the device only.
    pub const NEEDS_RESET: u8 = 64;
    /// The guest has given up on the device.
    pub const FAILED: u8 = 128;
}

use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET};

/// The bits that the driver owns.
const DRIVERS: u8 = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED;

/// The steps of initialization: a bit, and the one that must be set before.
const STEPS: [(u8, u8); 4] =
    [(ACKNOWLEDGE, 0), (DRIVER, ACKNOWLEDGE), (FEATURES_OK, DRIVER), (DRIVER_OK, FEATURES_OK)];

/// What a write to the status field did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The driver wrote 0: everything starts over.
    Reset,
    /// These bits are set that were not before; perhaps none.
    Gained(u8),
}

/// Where driver and device stand: the status field and the features.
///
/// The device is strict where the standard binds the driver. A write that would clear a bit is
/// dropped. A step whose predecessor is missing is not taken: its bit reads 0, as does
/// `FEATURES_OK` when the features are not acceptable, which is how a driver learns of it. Several
/// steps may come in one write, and steps already taken may be repeated. After `FAILED`, or when
/// the device needs a reset, only a reset leads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    offered: u64,
    accepted: u64,
    status: u8,
}

/// Why a saved negotiation cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// No driver can bring a device there.
    #[error("the device status {0:#x} cannot be reached by any driver")]
    Status(u8),
    /// More was accepted than is offered, or not enough.
    #[error(
        "features {accepted:#x} were accepted; the device offers {offered:#x} and needs VERSION_1"
    )]
    Features {
        /// What the driver had accepted.
        accepted: u64,
        /// What the device offers.
        offered: u64,
    },
}

impl Negotiation {
    /// A device after reset that offers `offered`.
    pub fn new(offered: u64) -> Self {
        Self { offered, accepted: 0, status: 0 }
    }

    /// A device as it was saved.
    ///
    /// # Errors
    /// No driver can have brought this device there.
    pub fn restored(offered: u64, accepted: u64, status: u8) -> Result<Self, NegotiationError> {
        if !reachable(status) {
            return Err(NegotiationError::Status(status));
        }
        let restored = Self { offered, accepted, status };
        if status & FEATURES_OK != 0 && !restored.acceptable() {
            return Err(NegotiationError::Features { accepted, offered });
        }
        Ok(restored)
    }

    /// The status field.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// What the device offers.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// What the driver has written so far, acceptable or not.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// What both sides have agreed on; 0 before.
    pub fn features(&self) -> u64 {
        if self.status & FEATURES_OK == 0 { 0 } else { self.accepted }
    }

    /// The driver accepts features: word number `word` of them, least significant first. Dropped
    /// before `DRIVER`, after `FEATURES_OK`, and beyond word 1.
    pub fn accept(&mut self, word: u32, bits: u32) {
        if self.status & (FEATURES_OK | FAILED | NEEDS_RESET | DRIVER) != DRIVER {
            return;
        }
        match word {
            0 => self.accepted = self.accepted & !u64::from(u32::MAX) | u64::from(bits),
            1 => self.accepted = self.accepted & u64::from(u32::MAX) | u64::from(bits) << 32,
            _ => {}
        }
    }

    /// The driver writes the status field.
    pub fn write(&mut self, value: u8) -> Change {
        let old = self.status;
        self.status = next(old, value, self.acceptable());
        if value == 0 {
            self.accepted = 0;
            return Change::Reset;
        }
        Change::Gained(self.status & !old)
    }

    /// The device finds itself broken. Whether the driver must be told: it must once it is ready.
    pub fn fail(&mut self) -> bool {
        let news = self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK;
        self.status |= NEEDS_RESET;
        news
    }

    /// Whether queues may be set up.
    pub fn is_agreed(&self) -> bool {
        self.status & (FEATURES_OK | FAILED | NEEDS_RESET) == FEATURES_OK
    }

    /// Whether the device may look at its queues.
    pub fn is_running(&self) -> bool {
        self.is_agreed() && self.status & DRIVER_OK != 0
    }

    fn acceptable(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & feature::VERSION_1 != 0
    }
}

/// The whole state machine: the status after `value` is written to `old`.
fn next(old: u8, value: u8, acceptable: bool) -> u8 {
    if value == 0 {
        return 0;
    }
    if old & DRIVERS & !value != 0 || old & FAILED != 0 {
        return old;
    }
    if value & FAILED != 0 {
        return old | FAILED;
    }
    if old & NEEDS_RESET != 0 {
        return old;
    }
    STEPS.iter().fold(old, |status, &(bit, before)| {
        let taken = value & bit != 0 && status & before == before;
        let taken = taken && (bit != FEATURES_OK || acceptable || status & bit != 0);
        if taken { status | bit } else { status }
    })
}

/// Whether the steps taken are a beginning of the steps there are.
fn reachable(status: u8) -> bool {
    let known = status & !(DRIVERS | NEEDS_RESET) == 0;
    known && STEPS.iter().all(|&(bit, before)| status & bit == 0 || status & before == before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 5] = [
        0,
        ACKNOWLEDGE,
        ACKNOWLEDGE | DRIVER,
        ACKNOWLEDGE | DRIVER | FEATURES_OK,
        ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
    ];

    /// Every status that can be: how far the steps went, with and without the two ends.
    fn reachable_by_hand() -> Vec<u8> {
        let ends = [0, NEEDS_RESET, FAILED, NEEDS_RESET | FAILED];
        PLAIN.iter().flat_map(|plain| ends.map(|end| plain | end)).collect()
    }

    /// Every status, every value written, acceptable or not.
    fn every_write() -> impl Iterator<Item = (u8, u8, bool, u8)> {
        reachable_by_hand().into_iter().flat_map(|old| {
            (0..=u8::MAX).flat_map(move |value| {
                [false, true].map(|good| (old, value, good, next(old, value, good)))
            })
        })
    }

    fn negotiated() -> Negotiation {
        let mut negotiation = Negotiation::new(feature::VERSION_1 | 1);
        negotiation.write(ACKNOWLEDGE);
        negotiation.write(ACKNOWLEDGE | DRIVER);
        negotiation.accept(1, 1);
        negotiation.write(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        negotiation
    }

    #[test]
    fn no_write_leads_to_a_status_that_cannot_be() {
        let known = reachable_by_hand();
        assert!(every_write().all(|(.., new)| known.contains(&new)));
        assert!((0..=u8::MAX).all(|status| reachable(status) == known.contains(&status)));
    }

    #[test]
    fn writing_0_resets_from_everywhere() {
        assert!(every_write().filter(|write| write.1 == 0).all(|(.., new)| new == 0));
    }

    #[test]
    fn no_write_but_0_clears_a_bit() {
        assert!(every_write().filter(|write| write.1 != 0).all(|(old, .., new)| old & !new == 0));
    }

    #[test]
    fn a_write_that_would_clear_a_bit_does_nothing() {
        let clearing =
            |&(old, value, ..): &(u8, u8, bool, u8)| value != 0 && old & !value & !NEEDS_RESET != 0;
        assert!(every_write().filter(clearing).count() > 1000);
        assert!(every_write().filter(clearing).all(|(old, .., new)| old == new));
    }

    #[test]
    fn no_write_sets_a_bit_that_it_does_not_hold_nor_the_device_s() {
        assert!(every_write().all(|(old, value, _, new)| new & !old & !value == 0));
        assert!(every_write().all(|(old, .., new)| new & !old & NEEDS_RESET == 0));
    }

    #[test]
    fn features_ok_is_gained_only_with_acceptable_features() {
        let gained = |old: u8, new: u8| new & !old & FEATURES_OK != 0;
        assert!(every_write().any(|(old, _, good, new)| good && gained(old, new)));
        assert!(!every_write().any(|(old, _, good, new)| !good && gained(old, new)));
    }

    #[test]
    fn after_failed_or_broken_no_step_is_taken() {
        let ended = |old: u8| old & (FAILED | NEEDS_RESET) != 0;
        let writes = every_write().filter(|write| ended(write.0) && write.1 != 0);
        assert!(writes.map(|(old, .., new)| new & !old & !FAILED).all(|gained| gained == 0));
    }

    #[test]
    fn the_steps_are_taken_one_by_one_repeated_and_at_once() {
        for pair in PLAIN.windows(2) {
            assert_eq!(next(pair[0], pair[1], true), pair[1]);
            assert_eq!(next(pair[1], pair[1], false), pair[1]);
        }
        assert_eq!(next(0, PLAIN[4], true), PLAIN[4]);
        assert_eq!(next(0, PLAIN[4], false), PLAIN[2]);
        assert_eq!(next(0, PLAIN[4] | 0x30, true), PLAIN[4]);
    }

    #[test]
    fn a_skipped_step_is_not_taken() {
        assert_eq!(next(0, DRIVER, true), 0);
        assert_eq!(next(0, ACKNOWLEDGE | FEATURES_OK, true), ACKNOWLEDGE);
        assert_eq!(next(PLAIN[2], PLAIN[2] | DRIVER_OK, true), PLAIN[2]);
    }

    #[test]
    fn features_beyond_the_offer_or_without_version_1_are_refused() {
        for bad in [0b10, 0, 1] {
            let mut negotiation = Negotiation::new(feature::VERSION_1 | 1);
            negotiation.write(ACKNOWLEDGE | DRIVER);
            negotiation.accept(0, bad);
            negotiation.accept(1, u32::from(bad == 0b10));
            assert_eq!(negotiation.write(PLAIN[3]), Change::Gained(0));
            assert_eq!(negotiation.features(), 0);
        }
    }

    #[test]
    fn features_are_accepted_between_driver_and_features_ok_only() {
        let mut negotiation = Negotiation::new(feature::VERSION_1 | 1);
        negotiation.accept(0, 1);
        assert_eq!(negotiation.accepted(), 0);
        negotiation = negotiated();
        negotiation.accept(0, 1);
        negotiation.accept(2, 1);
        assert_eq!(negotiation.features(), feature::VERSION_1);
    }

    #[test]
    fn a_reset_forgets_the_features() {
        let mut negotiation = negotiated();
        assert_eq!(negotiation.write(0), Change::Reset);
        assert_eq!(negotiation, Negotiation::new(feature::VERSION_1 | 1));
    }

    #[test]
    fn a_broken_device_tells_a_ready_driver_once() {
        let mut negotiation = negotiated();
        assert!(!negotiation.clone().fail());
        negotiation.write(PLAIN[4]);
        assert!(negotiation.is_running());
        assert!(negotiation.fail());
        assert!(!negotiation.fail());
        assert!(!negotiation.is_running() && !negotiation.is_agreed());
    }

    #[test]
    fn what_is_restored_must_be_reachable() {
        let saved = |accepted, status| Negotiation::restored(feature::VERSION_1, accepted, status);
        assert!(saved(feature::VERSION_1, PLAIN[4]).is_ok());
        assert_eq!(saved(0, DRIVER), Err(NegotiationError::Status(DRIVER)));
        assert!(matches!(saved(1, PLAIN[3]), Err(NegotiationError::Features { .. })));
        assert!(saved(1, PLAIN[2]).is_ok());
    }
}
