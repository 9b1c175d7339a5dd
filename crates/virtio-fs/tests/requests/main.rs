//! Requests of a guest, through real queues, to a real directory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bounds;
mod directories;
mod escape;
mod files;
mod guest;
mod names;
mod owners;
mod session;
mod xattrs;
