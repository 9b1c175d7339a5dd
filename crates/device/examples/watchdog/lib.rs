//! A watchdog: what a crate with a device of its own looks like.
//!
//! `docs/WRITING_A_DEVICE.md` tells how it is made; its code there comes from here.
#![forbid(unsafe_code)]

// In a crate of its own, Cargo.toml gives purlin-device this short name.
extern crate purlin_device as device;

#[cfg(test)]
mod tests;
mod watchdog;

pub use watchdog::{SavedWatchdog, Watchdog};
