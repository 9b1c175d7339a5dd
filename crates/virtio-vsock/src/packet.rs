//! The header of each packet (virtio 1.3 §5.10.6).

/// Length of a header, bytes.
pub(crate) const HEADER: usize = 44;
/// The same, as a chain counts.
pub(crate) const HEADER_LEN: u32 = 44;

/// The context identifier of the host.
pub(crate) const HOST: u64 = 2;
/// The only type of socket that there is here.
pub(crate) const STREAM: u16 = 1;

/// The sender of a `SHUTDOWN` receives no more.
pub(crate) const SHUTDOWN_RECEIVE: u32 = 1;
/// The sender of a `SHUTDOWN` sends no more.
pub(crate) const SHUTDOWN_SEND: u32 = 2;
/// Both.
pub(crate) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Asks for a connection.
    Request,
    /// Accepts one.
    Response,
    /// Refuses or ends one at once.
    Reset,
    /// Ends one direction or both.
    Shutdown,
    /// Carries data.
    Data,
    /// Carries credit, as every packet of a connection does.
    CreditUpdate,
    /// Asks for a `CreditUpdate`.
    CreditRequest,
}

impl Op {
    fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }

    fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// A header, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) src_cid: u64,
    pub(crate) dst_cid: u64,
    pub(crate) src_port: u32,
    pub(crate) dst_port: u32,
    /// Bytes of data that follow.
    pub(crate) len: u32,
    /// Type of socket.
    pub(crate) kind: u16,
    /// `None` for a number that the standard does not have.
    pub(crate) op: Option<Op>,
    pub(crate) flags: u32,
    /// How many bytes the sender has room for, on this connection.
    pub(crate) buf_alloc: u32,
    /// How many bytes the sender has taken out of that room, ever; modulo 2^32.
    pub(crate) fwd_cnt: u32,
}

impl Header {
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let mut rest = bytes.as_slice();
        Some(Self {
            src_cid: u64::from_le_bytes(take(&mut rest)?),
            dst_cid: u64::from_le_bytes(take(&mut rest)?),
            src_port: u32::from_le_bytes(take(&mut rest)?),
            dst_port: u32::from_le_bytes(take(&mut rest)?),
            len: u32::from_le_bytes(take(&mut rest)?),
            kind: u16::from_le_bytes(take(&mut rest)?),
            op: Op::of(u16::from_le_bytes(take(&mut rest)?)),
            flags: u32::from_le_bytes(take(&mut rest)?),
            buf_alloc: u32::from_le_bytes(take(&mut rest)?),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)?),
        })
    }

    pub(crate) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, self.src_cid.to_le_bytes());
        put(&mut rest, self.dst_cid.to_le_bytes());
        put(&mut rest, self.src_port.to_le_bytes());
        put(&mut rest, self.dst_port.to_le_bytes());
        put(&mut rest, self.len.to_le_bytes());
        put(&mut rest, self.kind.to_le_bytes());
        put(&mut rest, self.op.map_or(0, Op::number).to_le_bytes());
        put(&mut rest, self.flags.to_le_bytes());
        put(&mut rest, self.buf_alloc.to_le_bytes());
        put(&mut rest, self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The `Reset` that answers a packet that cannot be: from where that one was sent to.
    pub(crate) fn refusal(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            len: 0,
            op: Some(Op::Reset),
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
            ..*self
        }
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*first)
}

fn put<const N: usize>(into: &mut &mut [u8], value: [u8; N]) {
    if let Some((first, rest)) = std::mem::take(into).split_first_chunk_mut() {
        *first = value;
        *into = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Header = Header {
        src_cid: 3,
        dst_cid: HOST,
        src_port: 0x1122_3344,
        dst_port: 52,
        len: 7,
        kind: STREAM,
        op: Some(Op::Data),
        flags: SHUTDOWN_BOTH,
        buf_alloc: 0x4_0000,
        fwd_cnt: 0xffff_fff0,
    };

    #[test]
    fn fields_are_where_the_standard_has_them() {
        let mut expected = Vec::new();
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x44, 0x33, 0x22, 0x11, 52, 0, 0, 0, 7, 0, 0, 0]);
        expected.extend([1, 0, 5, 0, 3, 0, 0, 0]);
        expected.extend([0, 0, 4, 0, 0xf0, 0xff, 0xff, 0xff]);
        assert_eq!(SAMPLE.bytes()[..], expected);
        assert_eq!(Header::parse(&SAMPLE.bytes()), Some(SAMPLE));
    }

    #[test]
    fn numbers_that_are_no_operation_are_kept_apart() {
        for number in [0, 8, u16::MAX] {
            let mut bytes = SAMPLE.bytes();
            bytes[30..32].copy_from_slice(&number.to_le_bytes());
            assert_eq!(Header::parse(&bytes).unwrap().op, None);
        }
        assert!((1..=7).all(|number| Op::of(number).unwrap().number() == number));
    }

    #[test]
    fn a_refusal_goes_back_to_its_sender() {
        let refusal = SAMPLE.refusal();
        assert_eq!((refusal.src_cid, refusal.dst_cid), (HOST, 3));
        assert_eq!((refusal.src_port, refusal.dst_port), (52, 0x1122_3344));
        assert_eq!((refusal.op, refusal.kind, refusal.len), (Some(Op::Reset), STREAM, 0));
    }
}
