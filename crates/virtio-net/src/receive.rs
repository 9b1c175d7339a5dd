//! Packets for the guest.

use std::io::{self, Write};

use net::HEADER;
use virtio::{Chain, Served, Writer};

use crate::{
    feature::MRG_RXBUF,
    header::Header,
    pair::{Pair, Shared},
    straight::Read,
};

/// Packets of at most so many bytes are small.
pub(crate) const SMALL: usize = 2048;
/// How many packets may be dropped for one chain: then the chain goes.
const DROPS: usize = 64;

impl Pair {
    /// Gives the guest the next packet: straight into its buffers if it is going to be a large one, else
    /// by way of the link's, because it is cheaper to copy a small one than to collect buffers for a
    /// large one.
    pub(crate) fn receive(&mut self, shared: &mut Shared, chain: &mut Chain<'_>) -> Served {
        if self.goes_straight(shared) {
            let merges = shared.features & MRG_RXBUF != 0;
            match self.straight.read(self.link.fd(), merges, chain) {
                Read::Packet(total) => {
                    let bytes = usize::try_from(total).unwrap_or(usize::MAX);
                    shared.counters.receive(bytes.saturating_sub(HEADER));
                    return Served::Used(total);
                }
                Read::Nothing => return Served::Stall,
                Read::Gather(bytes) => return Served::Gather(bytes),
                Read::Otherwise => {}
            }
        }
        let served = self.receive_by_copy(shared, chain);
        if let Served::Used(total) = served {
            self.straight.note(usize::try_from(total).unwrap_or(usize::MAX));
        }
        served
    }

    /// Whether the next packet is to be read into the guest's buffers. How long it is shows too late for
    /// a limit.
    fn goes_straight(&self, shared: &Shared) -> bool {
        let can = self.abilities.direct && self.abilities.header;
        can && self.straight.is_expected()
            && !self.shown
            && shared.plugged
            && !shared.receive.is_limited()
    }

    fn receive_by_copy(&mut self, shared: &mut Shared, chain: &mut Chain<'_>) -> Served {
        let header = self.abilities.header;
        for _ in 0..DROPS {
            // A link that is down has nothing any more, and says so in its status.
            let Some(mut packet) = self.packet() else { return Served::Stall };
            let mut work = Header::PLAIN;
            if header && let Some((first, rest)) = packet.split_first_chunk() {
                (work, packet) = (Header(*first), rest);
            }
            let room = chain.writer.available_bytes();
            let (len, bytes) = (packet.len(), HEADER + packet.len());
            match u32::try_from(bytes) {
                Ok(total) if shared.plugged && bytes <= room => {
                    if !shared.receive.take(1, u64::from(total).saturating_sub(HEADER as u64)) {
                        return Served::Stall;
                    }
                    let work = work.with_buffers(chain.chains_for(bytes));
                    let written = deliver(&mut shared.bounce, work, packet, &mut chain.writer);
                    shared.counters.receive(len);
                    self.pop();
                    return Served::Used(written.map_or(0, |()| total));
                }
                Ok(total) if shared.plugged && shared.features & MRG_RXBUF != 0 => {
                    return Served::Merge(total);
                }
                _ => {
                    let dropped = &mut shared.counters.receive_dropped;
                    *dropped = dropped.saturating_add(1);
                    self.pop();
                }
            }
        }
        Served::Used(0)
    }

    /// The next packet, with a header if the link has one.
    fn packet(&mut self) -> Option<&[u8]> {
        let Self { link, straight, shown, .. } = self;
        straight.packet().or_else(|| {
            let packet = link.peek().ok();
            *shown = packet.is_some();
            packet
        })
    }

    fn pop(&mut self) {
        if !self.straight.drop_packet() {
            self.shown = false;
            self.link.pop();
        }
    }
}

/// Gives a packet and its header to the guest. Small ones in one piece: what costs is each access to guest
/// memory, not the bytes.
fn deliver(
    bounce: &mut [u8],
    header: Header,
    packet: &[u8],
    writer: &mut Writer<'_>,
) -> io::Result<()> {
    let whole = bounce.get_mut(..HEADER + packet.len()).filter(|_| packet.len() <= SMALL);
    match whole.and_then(|whole| whole.split_first_chunk_mut()) {
        Some((first, rest)) => {
            *first = header.0;
            rest.copy_from_slice(packet);
            writer.write_all(bounce.get(..HEADER + packet.len()).unwrap_or_default())
        }
        None => {
            writer.write_obj(header.0)?;
            writer.write_all(packet)
        }
    }
}
