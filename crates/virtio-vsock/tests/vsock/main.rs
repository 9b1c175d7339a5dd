//! The device as a driver and host programs meet it: real Unix sockets, and packets written by hand.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod conformance;
mod connect;
mod crowd;
mod flow;
mod guest;
mod hostile;
