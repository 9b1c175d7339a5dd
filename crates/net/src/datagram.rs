//! Two cards on one wire, and nothing else: for tests, and for two machines of one host.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
};

use crate::{Abilities, HEADER, Link, Offloads, link::MAX_PACKET, slot::Slot};

/// One end of a wire: a socket that keeps packets apart (`SOCK_SEQPACKET`).
#[derive(Debug)]
pub struct Datagram {
    socket: OwnedFd,
    abilities: Abilities,
    offloads: Offloads,
    slot: Slot,
    up: bool,
}

impl Datagram {
    /// The two ends of a wire that carries bare packets.
    ///
    /// # Errors
    /// The host gives no sockets.
    pub fn pair() -> io::Result<(Self, Self)> {
        Self::with(Abilities { direct: true, ..Abilities::default() })
    }

    /// The two ends of a wire that carries packets with headers, from which either end understands
    /// what the other leaves to it.
    ///
    /// # Errors
    /// The host gives no sockets.
    pub fn pair_with_header() -> io::Result<(Self, Self)> {
        Self::with(Abilities { header: true, direct: true, offloads: Offloads::ALL })
    }

    fn with(abilities: Abilities) -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let end = |socket| {
            let (slot, offloads) = (Slot::new(), Offloads::NONE);
            Self { socket, abilities, offloads, slot, up: true }
        };
        Ok((end(a), end(b)))
    }

    /// What the other end may leave to this one, as it was set last.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }
}

impl Link for Datagram {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        self.offloads = offloads;
        Ok(())
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        let Self { socket, slot, up, .. } = self;
        slot.peek(|room| {
            match recv(socket.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
                // A packet of no bytes cannot be sent, so this is the end.
                Ok(0) | Err(Errno::ECONNRESET) => {
                    *up = false;
                    Err(io::ErrorKind::NotConnected.into())
                }
                other => Ok(other?),
            }
        })
    }

    fn pop(&mut self) {
        self.slot.pop();
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        if packet.is_empty() || packet.len() > HEADER + MAX_PACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), packet, flags) {
            Err(error @ (Errno::EPIPE | Errno::ECONNRESET)) => {
                self.up = false;
                Err(error.into())
            }
            other => other.map(drop).map_err(Into::into),
        }
    }

    fn is_up(&self) -> bool {
        self.up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_stay_apart_and_stay_until_popped() {
        let (mut a, mut b) = Datagram::pair().unwrap();
        a.send(b"first").unwrap();
        a.send(b"second").unwrap();
        assert_eq!(b.peek().unwrap(), b"first");
        assert_eq!(b.peek().unwrap(), b"first");
        b.pop();
        assert_eq!(b.peek().unwrap(), b"second");
        b.pop();
        assert_eq!(b.peek().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_largest_packet_fits_and_a_larger_one_is_refused() {
        let (mut a, mut b) = Datagram::pair().unwrap();
        let packet = vec![7; MAX_PACKET + HEADER];
        a.send(&packet).unwrap();
        assert_eq!(b.peek().unwrap(), packet);
        assert!(a.send(&vec![7; MAX_PACKET + HEADER + 1]).is_err());
    }

    #[test]
    fn a_full_wire_would_block_and_then_goes_on() {
        let (mut a, mut b) = Datagram::pair().unwrap();
        let mut sent = 0;
        let error = loop {
            match a.send(&[1; 1500]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        for _ in 0..sent {
            assert_eq!(b.peek().unwrap().len(), 1500);
            b.pop();
        }
        a.send(&[2; 1500]).unwrap();
        assert_eq!(b.peek().unwrap(), [2; 1500]);
    }

    #[test]
    fn without_its_other_end_a_wire_is_down() {
        let (mut a, b) = Datagram::pair().unwrap();
        assert!(a.is_up());
        drop(b);
        assert_eq!(a.peek().unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert!(!a.is_up());
        assert!(a.send(b"to nobody").is_err());
    }
}
