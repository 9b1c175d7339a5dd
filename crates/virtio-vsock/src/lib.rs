#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backlog;
mod config;
mod connection;
mod credit;
mod device;
mod host;
mod packet;
mod sockets;
mod state;
mod table;

pub use config::{Cid, CidError, Patience, VsockConfig};
pub use device::Vsock;
pub use host::{BindError, Endpoint};
pub use state::VsockState;
