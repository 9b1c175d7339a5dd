//! Who may send how much (virtio 1.3 §5.10.6.3).

/// The credit of one connection, both ways. All counts are modulo 2^32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    /// Bytes that the guest has room for, as it said last.
    guest_room: u32,
    /// Bytes that the guest has taken out of its room.
    guest_taken: u32,
    /// Bytes sent to the guest.
    sent: u32,
    /// Bytes that the guest may have in our room.
    room: u32,
    /// Bytes that came from the guest.
    received: u32,
    /// Bytes of those that left our room.
    taken: u32,
    /// The last `taken` that the guest was told.
    told: u32,
}

impl Credit {
    /// Of a connection of which the guest knows nothing yet, with `room` bytes for what it sends.
    pub(crate) fn new(room: u32) -> Self {
        let (guest_room, guest_taken, sent) = (0, 0, 0);
        Self { guest_room, guest_taken, sent, room, received: 0, taken: 0, told: 0 }
    }

    /// The guest has said how much room it has and how much it has taken. That runs neither backwards
    /// nor ahead of what it was sent; what does is old (two threads of a guest may overtake each
    /// other) or nonsense, and changes nothing.
    pub(crate) fn update(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        let in_flight = self.sent.wrapping_sub(self.guest_taken);
        if self.sent.wrapping_sub(fwd_cnt) <= in_flight {
            self.guest_taken = fwd_cnt;
            self.guest_room = buf_alloc;
        }
    }

    /// How many bytes the guest can be sent.
    pub(crate) fn sendable(&self) -> u32 {
        self.guest_room.saturating_sub(self.sent.wrapping_sub(self.guest_taken))
    }

    /// `count` bytes were sent to the guest.
    pub(crate) fn sent(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }

    /// The guest sends `count` bytes; false, and nothing changes, if it has not the credit.
    pub(crate) fn receive(&mut self, count: u32) -> bool {
        let held = self.received.wrapping_sub(self.taken);
        if count > self.room.saturating_sub(held) {
            return false;
        }
        self.received = self.received.wrapping_add(count);
        true
    }

    /// `count` bytes of what the guest sent are out of our room.
    pub(crate) fn took(&mut self, count: u32) {
        self.taken = self.taken.wrapping_add(count);
    }

    /// Whether the guest has to be told, because it knows of less than half of our room.
    pub(crate) fn owes_update(&self) -> bool {
        let known = self.room.saturating_sub(self.received.wrapping_sub(self.told));
        self.told != self.taken && known < self.room / 2
    }

    /// Our room and what has left it, as each packet tells the guest.
    pub(crate) fn tell(&mut self) -> (u32, u32) {
        self.told = self.taken;
        (self.room, self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_sent_what_it_has_room_for() {
        let mut credit = Credit::new(100);
        assert_eq!(credit.sendable(), 0);
        credit.update(10, 0);
        credit.sent(7);
        assert_eq!(credit.sendable(), 3);
        credit.update(10, 5);
        assert_eq!(credit.sendable(), 8);
        credit.update(1, 5);
        assert_eq!(credit.sendable(), 0);
    }

    #[test]
    fn what_runs_backwards_or_ahead_changes_nothing() {
        let mut credit = Credit::new(100);
        credit.update(10, 0);
        credit.sent(6);
        credit.update(10, 4);
        for nonsense in [3, 7, u32::MAX, 1 << 31] {
            credit.update(u32::MAX, nonsense);
            assert_eq!(credit.sendable(), 8, "{nonsense}");
        }
    }

    #[test]
    fn counts_run_around_their_end() {
        let mut credit = Credit::new(100);
        for _ in 0..5 {
            credit.update(u32::MAX, credit.sent);
            credit.sent(0x4000_0000);
            credit.update(10, credit.sent);
        }
        assert_eq!(credit.sendable(), 10);
        for _ in 0..5 {
            (credit.received, credit.taken) = (credit.received ^ 1 << 31, credit.taken ^ 1 << 31);
            assert!(credit.receive(100) && !credit.receive(1));
            credit.took(100);
        }
    }

    #[test]
    fn a_guest_cannot_send_more_than_it_was_given() {
        let mut credit = Credit::new(100);
        assert!(credit.receive(60));
        assert!(!credit.receive(41));
        assert!(credit.receive(40));
        credit.took(1);
        assert!(credit.receive(1) && !credit.receive(1));
        assert!(!credit.receive(u32::MAX));
    }

    #[test]
    fn a_guest_is_told_when_it_knows_of_less_than_half() {
        let mut credit = Credit::new(100);
        assert!(credit.receive(50));
        credit.took(50);
        assert!(!credit.owes_update());
        assert!(credit.receive(1));
        assert!(credit.owes_update());
        assert_eq!(credit.tell(), (100, 50));
        assert!(!credit.owes_update());
    }
}
