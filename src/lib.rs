//! Ringpost: a local message bus over lock-free shared-memory rings.
//!
//! A [`Server`] keeps a registry of names and keys. A [`Client`] registers a unique name, gets a key, a comm
//! channel of its own (three single-producer single-consumer rings in shared memory) and a worker thread of
//! its own in the server. From then on it *calls* the server's service, *sends* messages to other clients by
//! their keys, and *receives* its own, at the speed of two processors passing a cache line.
//!
//! ```
//! use ringpost::{Client, Request, Response, Server};
//!
//! # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
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
//! # The model
//!
//! - A **server** ([`Server`]) owns the registry and a socket, the *connect channel*. Any program can be one;
//!   `ringpost-server` is.
//! - A **client** ([`Client`]) registers a **name** there, unique while it is registered, and gets a **key**
//!   ([`Key`]), its address for others. A key is not a secret, and is never given twice.
//! - Each client has a **channel** of its own: one sealed piece of shared memory with three rings, for
//!   requests, responses and messages. Neither side believes what the other writes there.
//! - Each client has a **worker** of its own, a thread of the server that serves its requests in their order.
//!   A **service** ([`Service`]) is the code that it runs for a call. So a slow call delays its own client
//!   only.
//! - A **message** goes by the receiver's key through the sender's worker into the receiver's inbox ring.
//!   When it is acknowledged it lies there, and is lost with a receiver that dies before it reads it.
//! - The connection stays open as a lifeline. When either side ends, even by SIGKILL, the kernel closes it:
//!   all waits of the other side end, and name, thread and memory are freed.
//!
//! A [`Client`] is one [`Caller`] and one [`Inbox`], for two threads. An [`Observer`] looks at a server
//! without registering. Payloads are bytes, or [typed](codec). Rings work without a server, too:
//! [`ring::local`] between threads, [`channel`] over a descriptor between processes. The [cookbook] has whole
//! programs.
//!
//! # Operations
//!
//! What each waits for, and how it fails besides the end of the connection. Nothing waits for another client,
//! except where a message waits for room.
//!
//! | operation | blocks until | errors of its own |
//! | --- | --- | --- |
//! | [`Client::register`] | the server answers, 5 s at most ([`ClientBuilder::timeout`]) | [`RegisterError`]: `InvalidName`, `NameTaken`, `NoServer`, `Full` … |
//! | [`call`](Client::call) | the response is there | [`CallError`]: `TooLarge`, `ServiceFailed`, `ResponseTooLarge` |
//! | [`call_timeout`](Client::call_timeout), `_deadline` | the same, or the deadline | the same, and `TimedOut` |
//! | [`submit`](Client::submit), [`submit_all`](Client::submit_all) | there is room in the request ring | `TooLarge`, `Uncollected` |
//! | [`response`](Client::response) | the oldest outstanding response is there; `_timeout` | those of a call, `NothingOutstanding` |
//! | [`send`](Client::send) | the server answers, at once | [`SendError`]: `UnknownKey`, `InboxFull`, `Gone`, `TooLarge` |
//! | [`send_timeout`](Client::send_timeout), `_deadline` | there is room in the receiver's inbox, or the deadline | `UnknownKey`, `TimedOut`, `NoAnswer`, `Gone`, `TooLarge` |
//! | [`try_recv`](Client::try_recv) | | [`TryRecvError`]: `Empty` |
//! | [`recv`](Client::recv) | a message is there | [`RecvError`] |
//! | [`recv_timeout`](Client::recv_timeout), `_deadline` | the same, or the deadline | [`RecvTimeoutError`]: `TimedOut` |
//! | [`look_up`](Client::look_up), [`resolve`](Client::resolve), [`list`](Client::list), [`ping`](Client::ping), [`statistics`](Client::statistics) | the server answers; `_timeout` | [`CallError`] |
//! | [`unregister`](Client::unregister) | the server confirms; `_timeout` | [`CallError`] |
//! | dropping a [`Client`] or [`Caller`] | the server confirms, 1 s at most | |
//! | [`CloseHandle::close`] | | |
//! | [`ServerBuilder::start`] | clients can connect | [`StartError`] |
//! | [`Server::shutdown`], [`Stopper::shutdown`] | | |
//! | [`Server::join`], dropping a [`Server`] | everything is gone: after a shutdown, the grace period and 2 s at most | |
//! | a service's [`Response::write`] | | the response is too large, or cannot be encoded |
//! | rings | [see there](ring) | |
//!
//! When the connection ends, each of them ends with a [`CloseReason`]: `Disconnected` if it was waiting,
//! `NotSent` if nothing was sent. What was committed before is received first. If the other side breaks a
//! rule the channel is closed with a [`Violation`]. Nothing panics on what another process does.
//!
//! How an end waits is its [`WaitStrategy`].
//!
//! # Events
//!
//! A server tells what happens to it as [`tracing`] events, all with the target `ringpost` and a field
//! `event`, their kind. A client tells nothing. A program that sets no subscriber pays one look at a word for
//! each message, and nothing else.
//!
//! | event | level | fields | when |
//! | --- | --- | --- | --- |
//! | `register` | info | `name`, `key`, `pid`, `uid` | a client registered |
//! | `unregister` | info | `name`, `key` | a client unregistered |
//! | `death` | warn | `name`, `key`, `pid` | a client went without unregistering |
//! | `violation` | warn | `name`, `key`, `pid`, `what` | a client broke the protocol, and was disconnected |
//! | `refused` | warn | `reason`, and what is known of `name`, `pid`, `uid`, `gid`, `error` | a connection or a registration was refused |
//! | `message` | debug | `from`, `from_key`, `to`, `to_key`, `bytes`, `outcome` | a message was delivered, or could not be |
//! | `limit` | warn | `needed`, `limit` | the process may have too few open files for that many clients |
//! | `unknown_user` | warn | `uid` | the server's user has no number in its user namespace |
//! | `registry` | error | `name`, `error` | the registry is in trouble |
//! | `abandoned` | warn | `name`, `key`, `pid`, `workers` | a call did not return from the service before the end |
//! | `failed` | error | `error` | a thread of the server panicked, and ended it |
//! | `left_out` | warn | `of`, `uid`, `events` | one user brought about so many events of one kind that these were only counted |
//! | `cut_off` | error | | this process closed the server's descriptors, and that ended it |
//! | `dropped` | warn | `lines`, `total` | events were left out, because the subscriber was too slow for them |
//!
//! Subscribers are called on one thread of the server, `rp-events`, and on no other; it starts when there is
//! one. Events wait for it in a queue of 8192; those that do not fit are left out and counted. So a
//! subscriber may do what it likes: it may panic, which is caught; it may be slow; it may register
//! a client of the same server, shut the server down, join it or drop it. Nothing of the server waits for it,
//! except that [`Server::join`] gives it up to a second to take what is left. A thread that is still in a
//! subscriber then is left behind. (Where a panic aborts the process, as with `panic = "abort"`, one of a
//! subscriber does so too.)
//!
//! Nobody can fill a log: of each kind, each user has 200 events at once (100 of `refused`), and then ten
//! (two) a second. What goes beyond is counted, and `left_out` says every two seconds how many it were. One
//! user's events never take the place of another's.
//!
//! The subscriber is that of the thread that called [`ServerBuilder::start`], if it has one of its own
//! (`tracing::subscriber::with_default`), or else the one of the whole program, which may be set later.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | (none) | the library, typed payloads of a fixed layout included |
//! | `serde` | calls and messages of all types that serde knows, encoded with `postcard`; see [`codec`] |
//! | `cli` | what the three programs need; the library has nothing more with it |
//!
//! The first two lines of a program that uses it all: `ringpost = { version = "0.1", features = ["serde"] }`
//! and, for deriving, `serde = { version = "1", features = ["derive"] }`.
//!
//! How the library is built, and where its unsafe code is, is in `ARCHITECTURE.md` and `SECURITY.md`.

#![deny(unsafe_code)]
#![cfg_attr(any(fuzzing, loom), allow(dead_code, unused_imports))]

#[forbid(unsafe_code)]
mod link;
mod os;
#[forbid(unsafe_code)]
pub mod ring;
mod shm;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod testing;

#[forbid(unsafe_code)]
pub mod channel;
#[cfg(feature = "cli")]
#[doc(hidden)]
#[forbid(unsafe_code)]
#[path = "bin/common/mod.rs"]
pub mod cli;
#[forbid(unsafe_code)]
mod client;
pub mod codec;
#[forbid(unsafe_code)]
mod connect;
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/COOKBOOK.md")]
pub mod cookbook {}
mod registry;
#[forbid(unsafe_code)]
mod server;
mod wire;

pub use self::{
    client::{
        CallError, Caller, Client, ClientBuilder, Closer, Inbox, Limits, Message, Observer, Reconnect,
        ReconnectError, ReconnectEvent, RecvError, RegisterError, SendError,
    },
    codec::{EncodeError, FromPayload, Payload, PayloadError, Reply},
    connect::{ListenError, PathError, Quotas, ServerInfo, default_path},
    link::{Request, Response, Service, ServiceError},
    registry::{ClientInfo, ClientState, Counters, RegistryError},
    ring::{Deadline, WaitStrategy},
    server::{Server, ServerBuilder, ServerSummary, StartError, Stopper},
    shm::SegmentError,
    wire::{Address, CloseReason, Key, Name, NameError, ParseKeyError, Peer, Violation},
};

#[cfg(feature = "serde")]
pub use self::codec::Postcard;

/// The crate whose traits the typed payloads take, version 0.8; see [`codec`].
pub use zerocopy;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
