//! A network card on a link without an end: what is sent is gone, and there is always a packet.

use std::{
    error::Error,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use net::{Abilities, HEADER, Link, Mac, Offloads};
use virtio_net::{Net, NetConfig};

/// Bytes of a packet, without a header.
pub(crate) const FRAME: u32 = 1514;

/// The card.
pub(crate) fn card() -> Result<Net, Box<dyn Error>> {
    let (idle, _) = std::os::unix::net::UnixStream::pair()?;
    let packet = vec![0; HEADER + usize::try_from(FRAME)?];
    let mac = "02:00:00:00:00:01".parse::<Mac>()?;
    Ok(Net::new(Endless { idle: idle.into(), packet }, NetConfig::new(mac))?)
}

struct Endless {
    idle: OwnedFd,
    packet: Vec<u8>,
}

impl Link for Endless {
    fn fd(&self) -> BorrowedFd<'_> {
        self.idle.as_fd()
    }

    fn abilities(&self) -> Abilities {
        Abilities { header: true, direct: false, offloads: Offloads::ALL }
    }

    fn set_offloads(&mut self, _: Offloads) -> io::Result<()> {
        Ok(())
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        Ok(&self.packet)
    }

    fn pop(&mut self) {}

    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn is_up(&self) -> bool {
        true
    }
}
