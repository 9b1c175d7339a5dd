//! The user's terminal while a guest has it.

mod ahead;
mod escape;
mod raw;
mod size;

pub use ahead::read_ahead;
pub use escape::{Escape, EscapeFilter};
pub use raw::{Terminal, lend, reapply, restore};
pub use size::size;
