//! Why there is no tap device.

use std::{io, os::fd::RawFd};

/// Why there is no tap device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// No interface has such a name.
    #[error(
        "`{0}` cannot be the name of a tap; a name has 1 to 15 characters, without / and spaces"
    )]
    Name(String),
    /// A tap without queues, or with more than the host has.
    #[error("a tap with {0} queues; it has 1 to 256")]
    Count(usize),
    /// The host has no taps.
    #[error(
        "cannot open /dev/net/tun; the host's kernel needs its `tun` module, a container the device"
    )]
    Device(#[source] io::Error),
    /// This user may not.
    #[error(
        "no permission to use tap `{0}`; this takes CAP_NET_ADMIN, or a tap that was made for this \
         user: ip tuntap add {0} mode tap user NAME"
    )]
    Permission(String),
    /// An interface of another kind.
    #[error("`{0}` is no tap but another network interface; give the name of a tap, or a new one")]
    Kind(String),
    /// Made for another number of queues.
    #[error(
        "tap `{name}` cannot have {count} queues; for several it must be made so: ip tuntap add {name} \
         mode tap multi_queue"
    )]
    Queues {
        /// The tap.
        name: String,
        /// How many queues were asked for.
        count: usize,
    },
    /// Somebody else has it.
    #[error("tap `{0}` is in use; stop the program that has it, or use another tap")]
    Busy(String),
    /// Not an inherited tap.
    #[error(
        "descriptor {fd} is no tap; the program that starts this one must open /dev/net/tun, attach \
         it with IFF_TAP and IFF_NO_PI, and leave it open"
    )]
    Descriptor {
        /// Its number.
        fd: RawFd,
        /// What the host said.
        source: io::Error,
    },
    /// The host refuses something else.
    #[error("tap `{name}` cannot be set up")]
    Setup {
        /// The tap.
        name: String,
        /// What the host said.
        source: io::Error,
    },
}
