//! Ringpost: a local message bus over lock-free shared-memory rings.
//!
//! A [`Server`] keeps a registry of names and keys. A [`Client`] registers a unique name, gets a key, a comm channel of its own
//! (three single-producer single-consumer rings in shared memory) and a worker thread of its own in the server. From then on it *calls*
//! the server's service, *sends* messages to other clients by their keys, and *receives* its own, at the speed
//! of two processors passing a cache line.
//!
//! ```
//! use ringpost::{Client, Request, Response, Server};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("bus");
//! let server = Server::builder(&path)
//!     .service(|request: Request<'_>, response: &mut Response<'_>| response.write(request.payload()))
//!     .start()?;
//!
//! let mut alice = Client::register(&path, "alice")?;
//! let mut bob = Client::register(&path, "bob")?;
//! assert_eq!(alice.call(b"ping")?, b"ping");
//! alice.send(bob.key(), b"hello")?;
//! assert_eq!(bob.recv()?.payload(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rings work without a server, too: [`ring::local`] between threads, [`channel`] over a descriptor between
//! processes.
//!
//! # Layers
//!
//! Each imports only those below it.
//!
//! ```text
//! bin/                            ringpost-server · ringpost · ringpost-bench
//! server/  client/                acceptor, workers, delivery | register, call, send, receive, watcher
//! connect/                        the handshake
//! registry/                       the entries
//! protocol/                       keys, names, block headers, status codes
//! channel/                        one client's comm channel: three rings in one segment, open and closed
//! ring/                           the SPSC ring: layout, producer, consumer, waiting
//! shm/                            sealed segments, the copy in and out of shared memory, the futex
//! sys                             the socket options that no safe wrapper offers
//! sync                            the standard library's atomics or loom's
//! ```
//!
//! `unsafe` lives in `shm/`, `sys` and the registry's mutex; the rest of the crate denies it.

#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod sync;

#[cfg(not(loom))]
mod sys;

pub mod ring;
pub mod shm;

#[cfg(not(loom))]
pub mod channel;
#[cfg(not(loom))]
mod client;
#[cfg(not(loom))]
mod connect;
#[cfg(all(feature = "internals", not(loom)))]
#[doc(hidden)]
pub mod internals;
#[cfg(not(loom))]
pub mod payload;
#[cfg(not(loom))]
mod protocol;
#[cfg(not(loom))]
mod registry;
#[cfg(not(loom))]
mod server;

#[cfg(not(loom))]
pub use self::{
    client::{
        CallAsError, CallError, Caller, Client, ClientBuilder, CloseHandle, Inbox, Limits, Message,
        MessageOf, Observer, RecvAsError, RegisterError, SendError,
    },
    connect::{ListenError, PathError, ServerInfo, default_path},
    payload::PayloadError,
    protocol::{Address, Key, Name, NameError, ParseKeyError},
    registry::{ClientInfo, ClientState, Counters, RegistryError},
    ring::{CloseReason, Closer, RecvError, RecvTimeoutError, TryRecvError, Violation, WaitStrategy},
    server::{
        DEFAULT_MAX_CLIENTS, DEFAULT_RING_SIZE, MOST_CLIENTS, Request, Response, Server, ServerBuilder,
        ServerSummary, Service, ServiceError, StartError, Stopper,
    },
};

#[cfg(all(feature = "serde", not(loom)))]
pub use self::{
    client::{CallSerdeError, SendSerdeError},
    payload::EncodeError,
};

/// The crate whose traits the typed payloads take, version 0.8; see [`payload`].
pub use zerocopy;

#[cfg(all(doctest, not(loom)))]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
