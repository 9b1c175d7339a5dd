#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blocks;
mod config;
mod mem;
mod region;
mod request;
mod state;

pub use config::{BLOCK, MemConfig, MemError, RequestedError};
pub use mem::Mem;
pub use state::MemState;
