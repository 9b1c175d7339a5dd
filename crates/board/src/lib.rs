#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alloc;
mod board;
mod builder;
mod msi;
mod serve;

pub use board::{Board, ServeError};
pub use builder::{BoardBuilder, BoardError};
