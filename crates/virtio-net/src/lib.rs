#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod control;
mod counters;
mod device;
mod feature;
mod header;
mod pair;
mod receive;
mod space;
mod state;
mod straight;

pub use config::{MAX_PAIRS, NetConfig, NetError};
pub use counters::Counters;
pub use device::Net;
pub use state::NetState;
