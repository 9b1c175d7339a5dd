#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bucket;
mod limit;
mod throttle;
mod timer;

pub use bucket::{Bucket, Rate};
pub use limit::{Limit, Rates};
pub use throttle::Throttle;
pub use timer::Timer;
