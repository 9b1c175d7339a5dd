#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blk;
mod config;
mod request;
mod space;
mod state;
mod transfer;

pub use blk::Blk;
pub use config::{BlkConfig, Cache, Engine, EngineError, Identity, IdentityError};
pub use state::BlkState;
