//! How much memory a running machine has.

use virtio::Handle;
use virtio_mem::{Mem, RequestedError};

/// The size of a running machine's memory: what it started with, and what has been plugged in since.
/// Clones speak of the same machine, from any thread. All sizes are in bytes.
#[derive(Clone, Debug)]
pub struct MemorySize {
    boot: u64,
    plugged: Handle<Mem>,
}

impl MemorySize {
    pub(super) fn new(boot: u64, plugged: Handle<Mem>) -> Self {
        Self { boot, plugged }
    }

    /// How much there is now.
    pub fn now(&self) -> u64 {
        self.boot.saturating_add(self.plugged.with(|mem| mem.plugged()))
    }

    /// How much the guest is asked to have.
    pub fn requested(&self) -> u64 {
        self.boot.saturating_add(self.plugged.with(|mem| mem.requested()))
    }

    /// The most that there can be.
    pub fn most(&self) -> u64 {
        self.boot.saturating_add(self.plugged.with(|mem| mem.most()))
    }

    /// Asks the guest to have `bytes`. It is told at once and does what it can:
    /// [`now`](Self::now) tells how far it has come. A guest without a driver does nothing, and one
    /// that is asked for less gives back what it can do without.
    ///
    /// # Errors
    /// The machine cannot have that much or that little, or it is not the size that it started with
    /// and whole steps of [`MEMORY_STEP`](crate::config::MEMORY_STEP).
    pub fn request(&self, bytes: u64) -> Result<(), MemorySizeError> {
        let boot = self.boot;
        let most = self.most();
        let wrong = MemorySizeError { bytes, boot, most };
        let plugged = bytes.checked_sub(boot).ok_or(wrong)?;
        self.plugged.with(|mem| mem.set_requested(plugged)).map_err(|RequestedError { .. }| wrong)
    }
}

/// Why a machine's memory does not get another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory of {bytes} bytes; this machine can have from {boot} to {most} bytes, in steps of {} bytes",
    crate::config::MEMORY_STEP
)]
pub struct MemorySizeError {
    /// The size asked for.
    pub bytes: u64,
    /// What the machine started with.
    pub boot: u64,
    /// The most that it can have.
    pub most: u64,
}

#[cfg(test)]
mod tests {
    use device::FakeWiring;
    use memory::{Backing, GuestAddress, Ram};
    use virtio_mem::MemConfig;

    use super::*;

    const STEP: u64 = crate::config::MEMORY_STEP;
    const BOOT: u64 = 5 << 20;

    fn size() -> (MemorySize, FakeWiring) {
        let start = GuestAddress(1 << 32);
        let ram = Ram::new(&[(start, 4 << 21)], Backing::Anonymous).unwrap();
        let mem = Mem::new(ram.memory(), MemConfig::new(start, 4 * STEP)).unwrap();
        let mut wiring = FakeWiring::new().unwrap();
        let handle = wiring.attach(::virtio::mmio(mem)).unwrap();
        (MemorySize::new(BOOT, handle), wiring)
    }

    #[test]
    fn a_size_counts_what_the_machine_started_with() {
        let (size, _wiring) = size();
        assert_eq!((size.now(), size.requested(), size.most()), (BOOT, BOOT, BOOT + 4 * STEP));
        size.request(BOOT + 3 * STEP).unwrap();
        assert_eq!((size.now(), size.requested()), (BOOT, BOOT + 3 * STEP));
        size.request(BOOT).unwrap();
        assert_eq!(size.requested(), BOOT);
    }

    #[test]
    fn a_size_that_cannot_be_is_refused_with_what_can() {
        let (size, _wiring) = size();
        for bytes in [0, BOOT - STEP, BOOT + 1, BOOT + 5 * STEP, u64::MAX] {
            let error = size.request(bytes).unwrap_err();
            let can = "from 5242880 to 13631488 bytes, in steps of 2097152 bytes";
            assert!(error.to_string().contains(can), "{error}");
        }
        assert_eq!(size.requested(), BOOT);
    }
}
