//! Bytes between a queue and a port's other end.

use std::io::{ErrorKind, Read, Write};

use virtio::{Chain, Served};

use crate::port::{Line, Sent};

/// How much is moved at once, bytes.
const STEP: usize = 4096;
/// How much of one chain is sent before others have their turn, bytes.
const TURN: u64 = 64 << 10;

/// What became of a chain that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// All of it has gone.
    Done,
    /// The other end takes no more for now.
    Waits,
    /// It has had its turn.
    Yields,
    /// All of it is behind us, some of it lost: the other end failed.
    Failed(std::io::ErrorKind),
}

impl Line {
    /// Sends what is left of the chain at hand.
    pub(crate) fn send(&mut self, chain: &Chain<'_>) -> Sending {
        let of = u64::try_from(chain.reader.available_bytes()).unwrap_or(u64::MAX);
        if (self.sent.head, self.sent.of) != (chain.head, of) {
            self.sent = Sent { head: chain.head, of, bytes: 0 };
        }
        let sending = self.send_rest(chain);
        if matches!(sending, Sending::Done | Sending::Failed(_)) {
            self.sent = Sent::default();
        }
        sending
    }

    fn send_rest(&mut self, chain: &Chain<'_>) -> Sending {
        let mut bytes = [0; STEP];
        let end = self.sent.bytes.saturating_add(TURN);
        let before = usize::try_from(self.sent.bytes).unwrap_or(usize::MAX);
        let Ok(mut rest) = chain.reader.clone().split_at(before) else { return Sending::Done };
        while self.sent.bytes < end {
            // Read from a copy: what the other end does not take is read again.
            let Ok(read) = rest.clone().read(&mut bytes) else { return Sending::Done };
            let Some(data) = bytes.get(..read).filter(|data| !data.is_empty()) else {
                return Sending::Done;
            };
            let written = match self.stream.write(data) {
                Ok(0) => return Sending::Failed(ErrorKind::WriteZero),
                Ok(written) => written.min(read),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Sending::Waits,
                Err(error) => return Sending::Failed(error.kind()),
            };
            self.sent.bytes = self.sent.bytes.saturating_add(u64::try_from(written).unwrap_or(0));
            let Ok(next) = rest.split_at(written) else { return Sending::Done };
            rest = next;
        }
        if self.sent.bytes < self.sent.of { Sending::Yields } else { Sending::Done }
    }

    /// Fills the chain with what the other end says, or has it wait.
    pub(crate) fn receive(&mut self, chain: &mut Chain<'_>) -> Served {
        let room = chain.writer.available_bytes().min(STEP);
        if room == 0 {
            return Served::Used(0);
        }
        let mut bytes = [0; STEP];
        let Some(buffer) = bytes.get_mut(..room) else { return Served::Stall };
        let read = match self.stream.read(buffer) {
            Ok(read) if read > 0 => read.min(room),
            // The end, or not yet: the guest waits for either.
            _ => return Served::Stall,
        };
        let data = buffer.get(..read).unwrap_or_default();
        if chain.writer.write_all(data).is_err() {
            return Served::Used(0);
        }
        Served::Used(u32::try_from(read).unwrap_or(0))
    }
}
