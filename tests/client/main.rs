//! The library through its public face, server and clients in one process.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod cancel;
mod connect;
mod control;
mod deadlines;
mod dialling;
mod endings;
mod given_up;
mod left;
mod messages;
mod registry;
mod services;
mod shown;
mod user_code;
mod waiting;
mod waits;
