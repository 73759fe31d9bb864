//! Links: direct channels between two clients, one of which calls and the other serves.

#![allow(dead_code, unused_imports, reason = "until clients have links")]

mod end;
mod error;
mod handshake;
mod link;
mod options;
mod set;

pub(super) use end::{LinkEnd, OpenLink, PeerDescriptors};
pub use error::ConnectError;
pub use link::Link;
pub use options::LinkOptions;
pub(super) use set::Links;
