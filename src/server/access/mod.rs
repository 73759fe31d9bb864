//! Access: who may use the server and for what, and how that is replaced while the server runs.

mod checked;
mod control;
mod current;
mod error;
mod names;
mod rules;
#[cfg(test)]
mod tests;

pub(super) use checked::{CheckedAccess, Who};
pub use control::AccessControl;
pub(super) use current::{Current, Gate, socket_access};
pub use error::AccessError;
pub use rules::{Access, Act, Rule};
