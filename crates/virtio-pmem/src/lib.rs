#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod image;
mod pmem;
mod state;

pub use image::{Image, ImageError, UNIT};
pub use pmem::Pmem;
pub use state::PmemState;
