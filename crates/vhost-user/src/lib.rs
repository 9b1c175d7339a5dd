#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod channel;
mod device;
mod error;
mod front;
mod grave;
mod inflight;
mod message;
mod pace;
mod patience;
mod resume;
mod retry;
mod search;
mod session;
mod settings;
mod socket;
mod space;
mod state;
mod table;

pub use device::VhostUser;
pub use error::BackendError;
pub use settings::{Settings, SettingsError};
pub use state::VhostUserState;
