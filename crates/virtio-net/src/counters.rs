//! What a card has done.

/// What a [`Net`](crate::Net) has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that the guest got.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets that the guest did not get: it had no room for one so large, or the link was down.
    pub receive_dropped: u64,
    /// Packets that the guest sent.
    pub transmitted: u64,
    /// Their bytes.
    pub transmitted_bytes: u64,
    /// Packets that went nowhere: they were no packets, the host refused them, or the link was down.
    pub transmit_dropped: u64,
}

impl Counters {
    pub(crate) fn receive(&mut self, bytes: usize) {
        add(&mut self.received, &mut self.received_bytes, bytes);
    }

    pub(crate) fn transmit(&mut self, bytes: usize) {
        add(&mut self.transmitted, &mut self.transmitted_bytes, bytes);
    }
}

fn add(packets: &mut u64, total: &mut u64, bytes: usize) {
    *packets = packets.saturating_add(1);
    *total = total.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
}
