//! Presence: who is registered, and each change of it.

mod change;
mod handle;
mod lists;
mod roll_call;

pub use change::Change;
pub use handle::Presence;

pub(super) use lists::Lists;
