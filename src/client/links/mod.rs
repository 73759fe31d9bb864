//! Links: direct channels between two clients, one of which calls and the other serves.

#![allow(dead_code, unused_imports, reason = "until clients have links")]

mod end;
mod set;

pub(super) use end::{LinkEnd, OpenLink, PeerDescriptors};
pub(super) use set::Links;
