//! The C interface of Ringpost: opaque handles and error codes over the library's public interface.

#![allow(non_camel_case_types, reason = "these are the names in the header")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the header has no headings: its functions say what they require"
)]

// The header has its functions in this order.
mod error;

mod server;
mod service;

mod client;

mod ask;
mod text;

mod closer;
mod link;
mod serving;

mod publish;
mod subscribe;

mod ending;
mod handle;
mod ready;
