//! The host's side: Unix sockets.

mod endpoint;
mod greeting;
mod watch;

pub use endpoint::{BindError, Endpoint};
pub(crate) use greeting::{Greeting, Heard, accept};
pub(crate) use watch::{Event, Ready, Watch};
