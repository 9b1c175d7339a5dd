//! The user's terminal while a guest has it.

mod escape;
mod raw;

pub use escape::{Escape, EscapeFilter};
pub use raw::{Terminal, lend, reapply, restore};
