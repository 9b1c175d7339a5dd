//! Feature bits that belong to no device type (virtio 1.3 §6), as masks.

/// Chains may consist of one descriptor that names a table of descriptors.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Notifications and interrupts are suppressed by index instead of by flag.
pub const EVENT_IDX: u64 = 1 << 29;
/// The device follows version 1 of the standard. A driver that does not accept it is refused.
pub const VERSION_1: u64 = 1 << 32;
/// One queue can be reset while the others go on.
pub const RING_RESET: u64 = 1 << 40;

/// What the worker and its transports implement for every device.
pub(crate) const OURS: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_RESET;

/// What can be offered for queues that are served elsewhere, if their server has it.
pub(crate) const OFFLOAD: u64 = INDIRECT_DESC | EVENT_IDX;

/// The bits that a device type may define: 0 to 23 and 50 to 127. The rest is about queues and
/// transports, of which a device knows nothing.
pub(crate) const DEVICE: u64 = !(((1 << 50) - 1) & !((1 << 24) - 1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_devices_and_of_queues_are_apart() {
        assert_eq!(DEVICE & OURS, 0);
        assert_eq!(DEVICE & (1 << 23), 1 << 23);
        assert_eq!(DEVICE & (1 << 24), 0);
        assert_eq!(DEVICE & (1 << 49), 0);
        assert_eq!(DEVICE & (1 << 50), 1 << 50);
    }
}
