#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cmdline;
mod error;
mod gdt;
mod image;
mod initrd;
mod kernel;
mod load;
mod paging;
mod params;
mod place;
mod pvh;
mod ram;
mod tables;
#[cfg(test)]
mod testing;

pub use cmdline::CmdlineError;
pub use error::BootError;
pub use image::{ImageError, Role};
pub use initrd::InitrdError;
pub use kernel::{
    BzImageError, ElfError, KernelError, KernelKind, Part, Protocol, SegmentError, probe,
};
pub use load::{Payload, Platform, load};
pub use tables::{Tables, TablesError};
