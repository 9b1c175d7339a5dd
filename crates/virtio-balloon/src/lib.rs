#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod balloon;
mod config;
mod pages;
mod statistics;

pub use balloon::{Balloon, BalloonState};
pub use config::BalloonConfig;
pub use statistics::Statistics;
