//! Access: who may use the server and for what, and how that is replaced while the server runs.

mod control;
mod current;
mod error;
mod names;
mod policy;
mod rules;
#[cfg(test)]
mod tests;

pub use control::AccessControl;
pub(super) use current::{Current, Gate, socket_access};
pub use error::AccessError;
pub(super) use policy::{Policy, Who};
pub use rules::{Access, Act, Rule};
