#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blk;
mod config;
mod request;
mod space;
mod state;

pub use blk::Blk;
pub use config::{BlkConfig, Cache, Identity, IdentityError};
pub use state::BlkState;
