//! Room for the one packet that a link shows.

use std::{fmt, io};

use crate::{HEADER, MAX_PACKET};

/// Room for one packet.
pub(crate) struct Slot {
    room: Box<[u8]>,
    len: Option<usize>,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self { room: vec![0; HEADER + MAX_PACKET].into_boxed_slice(), len: None }
    }

    /// The packet that is here, or the one that `receive` puts into the room.
    pub(crate) fn peek(
        &mut self,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<&[u8]> {
        let len = match self.len {
            Some(len) => len,
            None => *self.len.insert(receive(&mut self.room)?),
        };
        Ok(self.room.get(..len).unwrap_or_default())
    }

    pub(crate) fn pop(&mut self) {
        self.len = None;
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("len", &self.len).finish_non_exhaustive()
    }
}
