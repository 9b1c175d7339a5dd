#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod fs;
mod handles;
mod inodes;
mod server;
mod session;
mod state;
mod wire;

pub use config::{Cache, FsConfig, Tag, TagError};
pub use fs::{Fs, OpenError};
pub use state::{FsState, Opened, Place};
