//! What a device is made with.

use std::time::Duration;

/// A guest's address (virtio 1.3 §5.10.4): its context identifier, 3 to 0xfffffffe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(u32);

/// A context identifier that no guest can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be a guest's CID: 0 to 2 and 4294967295 are reserved; 3 is the usual one")]
pub struct CidError(u32);

impl Cid {
    /// The identifier `number`.
    ///
    /// # Errors
    /// It is reserved: 0, 1 (the guest itself), 2 (the host) or 0xffffffff (any).
    pub const fn new(number: u32) -> Result<Self, CidError> {
        match number {
            0..=2 | u32::MAX => Err(CidError(number)),
            _ => Ok(Self(number)),
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Cid {
    /// 3, the first that is free. Guests of one host do not reach each other, so they may all have
    /// it.
    fn default() -> Self {
        Self(3)
    }
}

/// The settings of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VsockConfig {
    /// The guest's address. Default: 3.
    pub cid: Cid,
    /// How many connections there can be at a time, each with a file descriptor. One more is
    /// refused. Default: 4096.
    pub connections: usize,
    /// How long is waited for what others should do soon.
    pub patience: Patience,
}

impl Default for VsockConfig {
    fn default() -> Self {
        Self { cid: Cid::default(), connections: 4096, patience: Patience::default() }
    }
}

/// How long is waited for what others should do soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a host program to say `CONNECT`. Default: 5 s.
    pub greeting: Duration,
    /// For the guest to accept or refuse a connection. Default: 2 s, as in Linux.
    pub answer: Duration,
    /// For the guest to confirm that a connection is over, once it was told that the host program is
    /// gone. Default: 10 s.
    pub farewell: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { greeting: seconds(5), answer: seconds(2), farewell: seconds(10) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_addresses_are_refused_with_those_that_are_not() {
        for number in [0, 1, 2, u32::MAX] {
            let error = Cid::new(number).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{number} cannot be a guest's CID")), "{error}");
        }
        assert_eq!(Cid::new(3), Ok(Cid::default()));
        assert_eq!(Cid::new(0xffff_fffe).unwrap().get(), 0xffff_fffe);
    }
}
