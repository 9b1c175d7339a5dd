#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod chrome;
mod event;
mod recorder;
mod ring;
mod summary;

pub use chrome::write_chrome;
pub use event::{Event, Kind};
pub use recorder::{Mark, Track, disable, enable, enabled, mark, record, take};
pub use summary::{Row, summary};
