//! Ringpost: a local message bus over lock-free shared-memory rings.
//!
//! A [`Server`] keeps a registry of names and keys. A [`Client`] registers a unique name, gets a key, a comm
//! channel of its own (three single-producer single-consumer rings in shared memory) and a worker thread of
//! its own in the server. From then on it *calls* the server's service, *sends* messages to other clients by
//! their keys, and *receives* its own, at the speed of two processors passing a cache line.
//!
//! ```
//! use ringpost::{Client, Server};
//!
//! # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
//! let server = Server::builder(&path)
//!     .service(|request, response| response.write(request.payload()))
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
//! - A **server** ([`Server`]) owns the registry of clients and a socket, the *connect channel*. Any program
//!   can run one; `ringpost-server` is one.
//! - A **client** ([`Client`]) registers under a **name**, which is unique while it is registered, and gets a
//!   **key** ([`Key`]), its address. A key is not a secret, and is never used twice.
//! - Each client has its own **channel**: a sealed segment of shared memory with three rings, for requests,
//!   responses and messages. Neither side trusts what the other one writes there.
//! - Each client has its own **worker**, a thread of the server that serves its requests in order. The
//!   **service** ([`Service`]) is the code that it runs for a call. So a slow call delays only its own
//!   client.
//! - A **message** goes to a key. The sender's worker puts it into the receiver's inbox ring, and then
//!   acknowledges it. It is lost if the receiver dies before reading it.
//! - A **link** ([`Link`]) is a direct channel between two clients, one of which calls and the other serves.
//!   The server introduces the two; the data goes past it, and the link goes on when the server dies.
//! - A **topic** ([`Publisher`], [`Subscriber`]) brings *samples* from one client to all who subscribe,
//!   through a ring that they can only read. The server introduces them, too. [All about topics](topics).
//! - **Presence** ([`Presence`]) tells a client who is registered, and each change.
//! - **Access** ([`Access`]) says who may use a server and for what. It can be replaced while the server
//!   runs.
//! - The connection stays open as a lifeline. When either side ends, even by SIGKILL, the kernel closes it.
//!   Then all waits of the other side end, and name, thread and memory are freed.
//!
//! A [`Client`] consists of a [`Caller`] and an [`Inbox`], which two threads can use. An [`Observer`] asks a
//! server for information without registering. Payloads are bytes, or [typed](codec). Rings also work without
//! a server: [`ring::local`] between threads, [`channel`] between processes. The [cookbook] has whole
//! programs.
//!
//! # Operations
//!
//! What each waits for, and how it fails besides the end of the connection. What waits for another party has
//! a plain form and a `_timeout` form with a [`Deadline`]: a duration, a point in time, or `None`. The clock
//! is read only if there is something to wait for. `try_` forms never wait.
//!
//! | operation | blocks until | errors |
//! | --- | --- | --- |
//! | [`register`] | the server answers | `InvalidName`, `NameTaken`, `NoServer`, `Full` … |
//! | [`call`], [`call_timeout`] | the response is there | `TooLarge`, `ServiceFailed`, `ResponseTooLarge` |
//! | [`submit`], [`submit_all`] | there is room in the request ring | `TooLarge`, `Uncollected` |
//! | [`try_submit`] | | the same, and `Full` |
//! | [`response`], [`response_timeout`] | the oldest response is there | as `call`; `NothingOutstanding` |
//! | [`try_response`] | | the same; `None` if it is not there yet |
//! | [`try_send`] | the server answers, at once | `NotFound`, `InboxFull`, `Gone`, `TooLarge` |
//! | [`try_submit_send`] | | as `try_submit` |
//! | [`try_sent`] | | as `try_send`; `None` if the answer is not there yet |
//! | [`send`], [`send_timeout`] | there is room in the inbox | `NotFound`, `NoAnswer`, `Gone`, `TooLarge` |
//! | [`try_recv`] | | `None` if no message is there |
//! | [`recv`], [`recv_timeout`] | a message is there | |
//! | [`confirm`] | the server answers, at once | |
//! | [`look_up`], [`list`], [`ping`], [`statistics`] | the server answers | |
//! | [`wait_for`] | a client with this name is registered | `InvalidName` |
//! | [`reconnect`] | the client is registered again | |
//! | [`connect`] | the other client has accepted | [`ConnectError`] |
//! | [`Link::call`], [`Link::call_timeout`] | the response is there | as `call` |
//! | [`Link::post`], [`Link::submit`], [`Link::submit_all`] | there is room in the ring | as `submit` |
//! | [`Link::response`], [`Link::response_timeout`] | the oldest response is there | as `response` |
//! | [`Link::try_response`] | | as `try_response` |
//! | [`listen`] | the server answers | [`ServeError`] |
//! | [`Listener::accept`], [`Listener::accept_timeout`] | a client asks for a link | [`AcceptError`] |
//! | [`Listener::try_accept`] | | the same; `None` if nobody asks now |
//! | [`Incoming::accept`] | | [`AcceptError`] |
//! | [`Responder::serve`] | the link has ended | [`Violation`] |
//! | [`Listener::serve`], [`ServeHandle::stop`] | | [`ServeError`] |
//! | [`ServeHandle::join`] | all links have ended | |
//! | [`publish`] | the server answers | [`PublishError`] |
//! | [`Publisher::send`], [`Publisher::send_timeout`], [`Publisher::grant`], [`Publisher::grant_timeout`] | a reliable subscriber has room, or is evicted | `TooLarge` |
//! | [`Publisher::try_send`] | | `TooLarge`, `Full` |
//! | [`Publisher::skip_to`] | as `Publisher::send` | `Sequence` |
//! | [`subscribe`] | the publishers that are there have been joined | [`SubscribeError`] |
//! | [`Subscriber::recv`], [`Subscriber::recv_timeout`], [`Subscriber::recv_ref`], [`Subscriber::recv_ref_timeout`] | a sample is there | [`SampleError`] |
//! | [`Subscriber::try_recv`], [`Subscriber::try_recv_ref`] | | the same; `None` if no sample is there |
//! | [`presence`], [`tap`] | the server answers | [`SubscribeError`] |
//! | [`Presence::recv`], [`Presence::recv_timeout`] | a client is in the list, or comes or goes | [`SampleError`] |
//! | [`unregister`] | the server answers | |
//! | dropping a [`Client`] or [`Caller`] | the server confirms, 1 s at most | |
//! | [`Closer::close`] | | |
//! | [`ServerBuilder::start`] | clients can connect | [`StartError`] |
//! | [`Server::join`], drop | the server has ended | |
//!
//! Calls and questions fail with a [`CallError`], messages with a [`SendError`] or a [`RecvError`], the first
//! registration with a [`RegisterError`], and later ones with a [`ReconnectError`]. A limit that passed is
//! `TimedOut`, a value that has no encoding `Encode`. What the server answers by itself is given 5 s, or what
//! [`ClientBuilder::timeout`] or [`Caller::set_timeout`] says.
//!
//! [`register`]: Client::register
//! [`call`]: Client::call
//! [`call_timeout`]: Client::call_timeout
//! [`submit`]: Caller::submit
//! [`submit_all`]: Caller::submit_all
//! [`try_submit`]: Caller::try_submit
//! [`response`]: Caller::response
//! [`response_timeout`]: Caller::response_timeout
//! [`try_response`]: Caller::try_response
//! [`try_send`]: Client::try_send
//! [`try_submit_send`]: Caller::try_submit_send
//! [`try_sent`]: Caller::try_sent
//! [`send`]: Client::send
//! [`send_timeout`]: Client::send_timeout
//! [`try_recv`]: Client::try_recv
//! [`recv`]: Client::recv
//! [`recv_timeout`]: Client::recv_timeout
//! [`confirm`]: Caller::confirm
//! [`look_up`]: Client::look_up
//! [`list`]: Client::list
//! [`ping`]: Caller::ping
//! [`statistics`]: Caller::statistics
//! [`wait_for`]: Client::wait_for
//! [`reconnect`]: Caller::reconnect
//! [`connect`]: Client::connect
//! [`listen`]: Client::listen
//! [`publish`]: Client::publish
//! [`subscribe`]: Client::subscribe
//! [`presence`]: Client::presence
//! [`tap`]: Client::tap
//! [`unregister`]: Client::unregister
//!
//! The operations of one client are served in order: while the server works on a call of it, or a `send`
//! waits for room, it answers nothing else that this client asks. To do two things at once, register two
//! clients.
//!
//! Errors say what asking again would do: `may_have_executed()`, `is_disconnected()`, `is_timeout()`.
//!
//! When the connection ends, each of them ends with a [`CloseReason`]: `Disconnected` if it was waiting,
//! `NotSent` if nothing was sent. What was committed before is received first. If the other side breaks a
//! rule, the channel is closed with a [`Violation`]. Nothing panics because of what another process does.
//!
//! The [`WaitStrategy`] of an end says how it waits.
//!
//! # Event loops
//!
//! A thread that waits for other things, too, does so by a descriptor of each end: [`Ready`]. With the
//! feature `tokio` or `async-io`, `Async` wraps an end and makes its operations futures. [Both
//! ways](event_loops), with whole programs.
//!
//! # Events
//!
//! A server reports [`tracing`] events with the target `ringpost`. The field `event` has their kind. Clients
//! report `fall_back` alone, on the thread that registers or publishes. Without a subscriber, the only cost
//! is one load of a word for each drain of up to 64 requests.
//!
//! | event | level | fields | when |
//! | --- | --- | --- | --- |
//! | `register` | info | `name`, `key`, `pid`, `uid` | a client registered |
//! | `unregister` | info | `name`, `key` | a client unregistered |
//! | `death` | warn | `name`, `key`, `pid` | a client ended without unregistering |
//! | `violation` | warn | `name`, `key`, `pid`, `what` | a client broke the protocol, and was disconnected |
//! | `refused` | warn | `reason`; if known `name`, `pid`, `uid`, `gid`, `error` | a connection was refused, or what a client asked for |
//! | `message` | debug | `from`, `from_key`, `to`, `to_key`, `bytes`, `outcome` | a message was sent |
//! | `introduction` | debug | `from`, `from_key`, `to`; `refusal` if refused | a client asked for a link |
//! | `topic` | debug | `topic`, `name`, `key`, `change`; `refusal` if refused | a topic was published, refused, or ended |
//! | `access` | info | `rules`, `users`, `groups`, `strangers` | the [`Access`] was replaced; so many clients would not be let in now |
//! | `call` | trace | `name`, `key`, `bytes_in`, `bytes_out` | a call to the service was answered |
//! | `control` | info | `command`, `pid`, `uid`; `error` if it failed | an operator gave a command |
//! | `limit` | warn | `needed`, `limit` | the limit of open files is too low |
//! | `unknown_user` | warn | `uid` | the server's user has no number in its user namespace |
//! | `fall_back` | warn | `call`, `error`, `instead` | the system refuses a call, and the library does without; once in a process |
//! | `registry` | error | `name`, `error` | an operation of the registry failed |
//! | `abandoned` | warn | `name`, `key`, `pid`, `workers` | a call did not return before the end |
//! | `failed` | error | `error` | the main thread panicked, which ended the server |
//! | `left_out` | warn | `of`, `uid`, `events` | too many events of a kind and user |
//! | `cut_off` | error | | this process closed the server's descriptors |
//! | `dropped` | warn | `lines`, `total` | the subscriber was too slow |
//!
//! Only one thread of the server, `rp-events`, hands these events to subscribers. It starts when there is
//! one. Events wait for it in a queue of 8192; those that do not fit are dropped and counted. So a subscriber
//! may panic (which is caught), be slow, register a client of the same server, or shut down, join or drop the
//! server. The server never waits for it, except that [`Server::join`] gives it up to a second to take the
//! remaining events. A thread that is still in a subscriber after that is abandoned. (With `panic = "abort"`,
//! a panic in a subscriber ends the process.)
//!
//! Nobody can fill a log: of each kind, each user has 200 events at once (100 of `refused`), and then ten
//! (two) a second. What goes beyond is counted, and `left_out` says every two seconds how many it were. One
//! user's events never take the place of another's.
//!
//! The subscriber is that of the thread that called [`ServerBuilder::start`], if it has one of its own
//! (`tracing::subscriber::with_default`), or else the one of the whole program, which may be set later.
//!
//! A subscriber that wants trace gets a span around each call that a service answers, the server's own or
//! that of a link: `call`, with the target `ringpost::service`, the `caller`'s name and the `number` of its
//! request (0 for a post). So events of the service's code tell for whom it works. The span is entered on the
//! thread that serves; the caller waits for what a subscriber does there, and nobody else. Its panics are
//! contained there, too. (`Async` makes no spans: its service is a future of the program.)
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
#[cfg(any(feature = "cli", feature = "internals", fuzzing))]
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod testing;
#[cfg(not(any(feature = "cli", feature = "internals", fuzzing)))]
#[forbid(unsafe_code)]
mod testing;

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
#[forbid(unsafe_code)]
mod ready;
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/COOKBOOK.md")]
pub mod cookbook {}
#[cfg(any(doc, all(doctest, feature = "tokio")))]
#[doc = include_str!("../docs/EVENT_LOOPS.md")]
pub mod event_loops {}
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/TOPICS.md")]
pub mod topics {}
mod registry;
#[forbid(unsafe_code)]
mod server;
#[forbid(unsafe_code)]
mod topic;
mod wire;

#[cfg(any(feature = "tokio", feature = "async-io"))]
pub use self::ready::{Async, OwnedRequest};
pub use self::{
    client::{
        AcceptError, CallError, Caller, Change, Client, ClientBuilder, Closer, ConnectError, ControlError,
        Eviction, Inbox, Incoming, Limits, Link, LinkOptions, Listener, Message, Observer, Overrun,
        OwnedSample, Presence, PublishError, PublishOptions, Publisher, Reconnect, ReconnectError,
        ReconnectEvent, RecvError, RegisterError, Responder, Sample, SampleError, SampleGrant, SampleView,
        SendError, ServeError, ServeHandle, SubscribeError, SubscribeOptions, Subscriber, Ticket,
    },
    codec::{EncodeError, FromPayload, Payload, PayloadError, Reply},
    connect::{
        ClientFigures, Figures, Fill, LinkFigures, LinkInfo, ListenError, PathError, Quotas, ServerFigures,
        ServerInfo, TapKind, TapOutcome, TapRecord, TopicFigures, TopicInfo, UserFigures, default_path,
    },
    link::{Request, Response, Service, ServiceError},
    ready::{Readiness, ReadinessError, Ready},
    registry::{ClientInfo, ClientState, Counters},
    ring::{Deadline, WaitStrategy},
    server::{
        Access, AccessControl, AccessError, Act, Rule, Server, ServerBuilder, ServerSummary, StartError,
        Stopper,
    },
    wire::{
        Address, CloseReason, Histogram, Key, Name, NameError, ParseKeyError, Pattern, Peer, Policy, Topic,
        TopicError, VanishReason, Violation,
    },
};

#[cfg(feature = "serde")]
pub use self::codec::Postcard;

#[cfg(feature = "metrics")]
pub use self::server::Metrics;

/// The crate whose traits the typed payloads take, version 0.8; see [`codec`].
pub use zerocopy;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
