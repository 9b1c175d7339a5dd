#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod datagram;
mod link;
mod mac;
mod passt;
mod slot;
mod stream;
mod sys;
mod tap;

pub use datagram::Datagram;
pub use link::{Abilities, HEADER, Link, MAX_PACKET, MIN_PACKET, Offloads};
pub use mac::{Mac, MacError};
pub use passt::{Passt, PasstConfig, PasstError};
pub use stream::{Stream, StreamError};
pub use tap::{Tap, TapError};
