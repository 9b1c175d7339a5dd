#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod component;
mod section;

pub use component::{Component, Persist, RestoreError, SaveError, Versioned};
pub use section::{Leftovers, Section, Snapshot};
pub use serde_json::Value;
