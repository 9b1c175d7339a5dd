//! The commands of the control queue (virtio 1.3 §5.1.6.5).

use net::Mac;
use virtio::Reader;

use crate::feature::{CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_RX, GUEST_OFFLOADS, MQ};

/// The answer to a command that was followed.
pub(crate) const OK: u8 = 0;
/// The answer to any other.
pub(crate) const ERR: u8 = 1;

/// Class and command, in one number.
const RX_PROMISC: [u8; 2] = [0, 0];
const RX_ALLMULTI: [u8; 2] = [0, 1];
const MAC_TABLE_SET: [u8; 2] = [1, 0];
const MAC_ADDR_SET: [u8; 2] = [1, 1];
const MQ_PAIRS_SET: [u8; 2] = [4, 0];
const GUEST_OFFLOADS_SET: [u8; 2] = [5, 0];

/// What a driver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// To receive more packets, or fewer. It gets all that come: which ones do is the host's matter.
    Filter,
    /// Another address.
    Mac(Mac),
    /// To use this many pairs of queues.
    Pairs(u16),
    /// To receive packets that need this work.
    Offloads(u64),
}

/// Reads a command of a driver that has accepted `features`, of a card with so many `pairs`. `None` if
/// it is none, or not one that was agreed on.
pub(crate) fn decode(reader: &mut Reader<'_>, features: u64, pairs: u16) -> Option<Command> {
    let agreed = |feature: u64| features & feature != 0;
    let command = reader.read_obj::<[u8; 2]>().ok()?;
    match command {
        RX_PROMISC | RX_ALLMULTI if agreed(CTRL_RX) => {
            (object::<1>(reader)? <= [1]).then_some(Command::Filter)
        }
        MAC_TABLE_SET if agreed(CTRL_RX) => {
            table(reader)?;
            table(reader)?;
            (reader.available_bytes() == 0).then_some(Command::Filter)
        }
        MAC_ADDR_SET if agreed(CTRL_MAC_ADDR) => Mac::new(object(reader)?).ok().map(Command::Mac),
        MQ_PAIRS_SET if agreed(MQ) => {
            let count = u16::from_le_bytes(object(reader)?);
            (1..=pairs).contains(&count).then_some(Command::Pairs(count))
        }
        GUEST_OFFLOADS_SET if agreed(CTRL_GUEST_OFFLOADS) => {
            let bits = u64::from_le_bytes(object(reader)?);
            (bits & !(features & GUEST_OFFLOADS) == 0).then_some(Command::Offloads(bits))
        }
        _ => None,
    }
}

/// The rest of a command, which must be `N` bytes.
fn object<const N: usize>(reader: &mut Reader<'_>) -> Option<[u8; N]> {
    if reader.available_bytes() != N {
        return None;
    }
    let mut bytes = [0; N];
    std::io::Read::read_exact(reader, &mut bytes).ok()?;
    Some(bytes)
}

/// Skips a table of addresses: their number, and six bytes for each.
fn table(reader: &mut Reader<'_>) -> Option<()> {
    let count = u32::from_le_bytes(reader.read_obj::<[u8; 4]>().ok()?);
    let bytes = usize::try_from(count).ok()?.checked_mul(6)?;
    *reader = reader.split_at(bytes).ok()?;
    Some(())
}
