#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod console;
mod control;
mod port;
mod state;
mod transfer;

pub use console::{Console, ConsoleError, MAX_PORTS};
pub use port::Port;
pub use state::{ConsoleState, PortState};
