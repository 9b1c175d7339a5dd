//! What a slow reader on the host has not taken yet.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
};

/// Bytes go through here in pieces of this size.
const PIECE: usize = 4096;

/// Bytes from the guest for a host socket that is full. It has no bound of its own: the guest's credit
/// is one. Room that was needed once is kept until the connection ends, so that a steady flow
/// allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Backlog(VecDeque<u8>);

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next `count` bytes of `from`, which has them.
    pub(crate) fn fill(&mut self, from: &mut impl Read, count: usize) -> io::Result<()> {
        let mut piece = [0; PIECE];
        let mut left = count;
        self.0.reserve(count);
        while left > 0 {
            let Some(piece) = piece.get_mut(..left.min(PIECE)) else { break };
            from.read_exact(piece)?;
            self.0.extend(&*piece);
            left -= piece.len();
        }
        Ok(())
    }

    /// Writes to `into` until it takes no more: how many bytes went. That `into` is full is no error.
    pub(crate) fn flush(&mut self, mut into: impl Write) -> io::Result<usize> {
        let mut done = 0;
        loop {
            let (first, _) = self.0.as_slices();
            if first.is_empty() {
                return Ok(done);
            }
            match into.write(first) {
                Ok(0) => return Ok(done),
                Ok(count) => {
                    self.0.drain(..count);
                    done += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets everything: how many bytes that were.
    pub(crate) fn clear(&mut self) -> usize {
        let count = self.0.len();
        self.0.clear();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes, then none, then a few again.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if !self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(1000);
            self.0.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
        let (mut backlog, mut out) = (Backlog::default(), Slow(Vec::new(), false));
        for chunk in bytes.chunks(4097) {
            backlog.fill(&mut &*chunk, chunk.len()).unwrap();
            assert_eq!(backlog.flush(&mut out).unwrap(), 1000);
        }
        while !backlog.is_empty() {
            assert!(backlog.flush(&mut out).unwrap() <= 1000);
        }
        assert!(out.0 == bytes);
    }

    #[test]
    fn a_steady_flow_keeps_its_room() {
        let mut backlog = Backlog::default();
        backlog.fill(&mut &[0; 9000][..], 9000).unwrap();
        assert_eq!(backlog.clear(), 9000);
        let room = backlog.0.capacity();
        for _ in 0..100 {
            backlog.fill(&mut &[0; 9000][..], 9000).unwrap();
            assert_eq!(backlog.flush(io::sink()).unwrap(), 9000);
        }
        assert_eq!(backlog.0.capacity(), room);
    }
}
