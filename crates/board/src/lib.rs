#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alloc;
mod board;
mod builder;
mod hotplug;
mod interrupts;
mod registry;
mod serve;

pub use board::{Board, ServeError};
pub use builder::{BoardBuilder, BoardError};
pub use hotplug::{Hotplug, RemoveError};
