//! `Figures`: what one look at a server tells about its bus.

use std::time::Duration;

use super::super::{LinkInfo, TopicInfo};
use crate::registry::ClientInfo;
use crate::wire::Histogram;

/// What the bus counts about itself, at one look. [`Observer::figures`](crate::Observer::figures) and
/// [`Server::figures`](crate::Server::figures) return it.
///
/// Counts only grow. The difference of two looks, divided by the difference of their
/// [`uptime`](Self::uptime), is a rate. What the clients say about themselves, and about their links, is what
/// their processes wrote: it may be wrong, and then it may also shrink. Counts are not read at one instant.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Observer, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path).start()?;
/// let mut alice = Client::register(&path, "alice")?;
/// let observer = Observer::connect(&path)?;
/// let before = observer.figures()?;
/// (0..100).try_for_each(|_| alice.call(b"ping").map(drop))?;
/// alice.caller().ping()?; // now the calls are counted
/// let after = observer.figures()?;
/// let calls = after.server.calls - before.server.calls;
/// let seconds = (after.uptime - before.uptime).as_secs_f64();
/// println!("{:.0} calls a second", calls as f64 / seconds);
/// assert_eq!(calls, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// How long the server has been up, at this look.
    pub uptime: Duration,
    /// Whether durations are measured now. They are while the server's own user or root looks, and for ten
    /// seconds after each of their looks. So the first look finds none.
    pub stamped: bool,
    /// The server as a whole.
    pub server: ServerFigures,
    /// Its clients, in the order of [`Observer::list`](crate::Observer::list).
    pub clients: Vec<ClientFigures>,
    /// The links between them, in the order of [`Observer::links`](crate::Observer::links).
    pub links: Vec<LinkFigures>,
    /// The topics that they publish, in the order of [`Observer::topics`](crate::Observer::topics).
    pub topics: Vec<TopicFigures>,
}

/// The figures of a server as a whole: totals since its start, of clients that left too.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// Client::register(&path, "alice")?.unregister()?;
/// let figures = server.figures()?.server;
/// assert_eq!((figures.registered, figures.died), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFigures {
    /// Calls answered.
    pub calls: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Payload bytes of calls and of delivered messages.
    pub bytes_in: u64,
    /// Payload bytes of responses, including the texts of failures.
    pub bytes_out: u64,
    /// Clients that registered.
    pub registered: u64,
    /// Clients that ended without unregistering.
    pub died: u64,
    /// Clients that broke the protocol.
    pub violations: u64,
    /// Connections that were refused, and what clients asked for and were refused.
    pub refused: u64,
    /// The processor time that the server's process has used.
    pub cpu: Duration,
    /// Busy workers that run hot now: those that the scheduler gave a slot.
    pub workers_hot: u32,
    /// How many may run hot at once.
    pub workers_most: u32,
    /// What users have of their quotas. The server's own user and root are told all, others only their own.
    pub users: Vec<UserFigures>,
}

/// What one user has of its quotas. Each field is named as the quota in [`Quotas`](crate::Quotas) that limits
/// it.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let _alice = Client::register(&path, "alice")?;
/// let users = server.figures()?.server.users;
/// assert_eq!((users.len(), users[0].clients), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserFigures {
    /// The user's id.
    pub uid: u32,
    /// Connections that have not registered.
    pub asking: u32,
    /// Registered clients.
    pub clients: u32,
    /// Bytes of rings.
    pub ring_bytes: u64,
    /// Workers that spin without pause.
    pub spinning: u32,
    /// Links that its clients opened.
    pub links: u32,
    /// Topics that its clients publish.
    pub topics: u32,
    /// Subscriptions of its clients.
    pub subscriptions: u32,
}

/// The figures of one client.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut alice = Client::register(&path, "alice")?;
/// alice.send(alice.key(), b"a note to myself")?;
/// let figures = &server.figures()?.clients[0];
/// assert_eq!(figures.info.counters.sent, 1);
/// assert!(figures.inbox.used > 0 && figures.inbox.used < figures.inbox.size);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientFigures {
    /// Its name, key, process, user and counters. Its name was chosen by the client, but has no control
    /// characters.
    pub info: ClientInfo,
    /// Its requests that the server has not taken yet.
    pub requests: Fill,
    /// Responses that it has not taken yet.
    pub responses: Fill,
    /// Messages that it has not taken yet.
    pub inbox: Fill,
    /// Senders that wait for room in its inbox.
    pub waiting_senders: u32,
    /// The processor time of its worker. `None` if the system does not tell.
    pub cpu: Option<Duration>,
    /// How long the service took for its calls; some of them, and only while durations are
    /// [measured](Figures::stamped).
    pub service: Histogram,
    /// How long its sleeping worker took to wake up when it called; only while durations are measured.
    pub wake: Histogram,
    /// How long the client itself took to wake up for responses, as it says; only while durations are
    /// measured.
    pub own_wake: Histogram,
    /// How long its service took for calls on links that it serves, as it says; some of them, and only while
    /// durations are measured.
    pub link_service: Histogram,
    /// Samples of topics that it received, as it says.
    pub taken: u64,
    /// Samples of topics that it missed, as it says.
    pub missed: u64,
    /// Samples that it published, as it says.
    pub published: u64,
}

/// The figures of one link, as its two clients say. A client that has very many links may not count on all.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut bob = Client::register(&path, "bob")?;
/// let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
/// let mut alice = Client::register(&path, "alice")?;
/// let mut link = alice.connect("bob")?;
/// link.call(b"ping")?;
/// let links = server.figures()?.links;
/// assert_eq!((links[0].info.caller.as_str(), links[0].info.callee.as_str()), ("alice", "bob"));
/// println!("{} requests", links[0].requests);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkFigures {
    /// Its two clients.
    pub info: LinkInfo,
    /// Requests that the caller sent.
    pub requests: u64,
    /// Bytes that they took in the ring.
    pub bytes_out: u64,
    /// Requests that the callee served.
    pub served: u64,
    /// Bytes that the callee's responses took in the ring.
    pub bytes_in: u64,
}

/// The figures of one topic of one publisher.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut alice = Client::register(&path, "alice")?;
/// let mut prices = alice.publish("prices/AAPL")?;
/// prices.send(b"201.5")?;
/// let topics = server.figures()?.topics;
/// assert_eq!((topics[0].info.topic.as_str(), topics[0].samples), ("prices/AAPL", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicFigures {
    /// Its name, its publisher and its subscriptions.
    pub info: TopicInfo,
    /// Samples that were published.
    pub samples: u64,
    /// Bytes that they took in the ring, with their headers.
    pub bytes: u64,
}

/// How full a ring is, in bytes.
///
/// # Examples
///
/// ```
/// assert_eq!(ringpost::Fill::default().used, 0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fill {
    /// Bytes in use, with headers and padding.
    pub used: u64,
    /// Bytes of the ring.
    pub size: u64,
}
