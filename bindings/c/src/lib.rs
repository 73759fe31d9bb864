//! The C interface of Ringpost: opaque handles and error codes over the library's public interface.

#![allow(non_camel_case_types, reason = "these are the names in the header")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the header has no headings: its functions say what they require"
)]

mod ask;
mod client;
mod closer;
mod ending;
mod error;
mod handle;
mod link;
mod publish;
mod ready;
mod server;
mod service;
mod serving;
mod subscribe;
mod text;
