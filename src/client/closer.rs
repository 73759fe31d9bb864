//! Ending a client from another thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::links::{Intake, LinkEnd, OpenLink};
use super::reconnect::{Reconnector, reconnector_of, show};
use super::session::Session;
use super::topics::{Publication, Subscription};
use crate::wire::CloseReason;

/// Ends a client, a link, a listener, a publisher or a subscriber from any thread:
/// [`Client::closer`](super::Client::closer), [`Link::closer`](super::Link::closer),
/// [`Responder::closer`](super::Responder::closer), [`Listener::closer`](super::Listener::closer),
/// [`Publisher::closer`](super::Publisher::closer), [`Subscriber::closer`](super::Subscriber::closer).
///
/// [`close`](Self::close) ends every wait with `Disconnected`; that of a client ends its registration, its
/// links, its listener, its publishers and its subscribers, too. (A server that works against its client can
/// keep a wait for it without a deadline asleep, as it can by not answering.) It may be called in a signal
/// handler.
///
/// It keeps descriptors and memory until it is dropped; do not drop it in a signal handler.
///
/// # Examples
///
/// ```
/// use ringpost::{CloseReason, RecvError};
///
/// # let (_bus, mut client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let closer = client.closer();
/// let waiting = std::thread::spawn(move || client.recv());
/// assert_eq!(closer.reason(), None);
/// closer.close();
/// assert_eq!(waiting.join().unwrap(), Err(RecvError::Disconnected(CloseReason::Local)));
/// assert_eq!(closer.reason(), Some(CloseReason::Local));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Closer(Of);

/// What a closer ends.
#[derive(Clone)]
enum Of {
    Client { session: Arc<Session>, reconnector: Option<Arc<Reconnector>> },
    Link(Arc<OpenLink>),
    Listener { intake: Arc<Intake>, reconnector: Option<Arc<Reconnector>> },
    Publisher(Arc<Publication>),
    Subscriber(Arc<Subscription>),
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Of::Client { session, reconnector } => show("Closer", session, reconnector, f),
            Of::Link(link) => link.show("Closer", f),
            Of::Listener { .. } | Of::Publisher(_) | Of::Subscriber(_) => {
                f.debug_struct("Closer").field("closed", &self.reason()).finish_non_exhaustive()
            }
        }
    }
}

impl Closer {
    pub(super) fn new(session: &Arc<Session>, reconnector: Option<&Arc<Reconnector>>) -> Closer {
        Closer(Of::Client { session: Arc::clone(session), reconnector: reconnector.cloned() })
    }

    /// For one end of a link.
    pub(super) fn of_link(end: &LinkEnd) -> Closer {
        Closer(Of::Link(Arc::clone(&end.open)))
    }

    /// For a listener.
    pub(super) fn of_listener(intake: &Arc<Intake>, reconnector: Option<&Arc<Reconnector>>) -> Closer {
        Closer(Of::Listener { intake: Arc::clone(intake), reconnector: reconnector.cloned() })
    }

    /// For a publisher.
    pub(super) fn of_publisher(publication: &Arc<Publication>) -> Closer {
        Closer(Of::Publisher(Arc::clone(publication)))
    }

    /// For a subscriber.
    pub(super) fn of_subscriber(subscription: &Arc<Subscription>) -> Closer {
        Closer(Of::Subscriber(Arc::clone(subscription)))
    }

    /// Ends the client, also one that [registers again](crate::Reconnect), or the link, the publisher or the
    /// subscriber, or the listener, whose links go on. The server is told of the end of a publisher or a
    /// subscriber when that is dropped. Idempotent. Messages and responses that were delivered before can
    /// still be received. Does not block; the server frees a client's name when it sees the end of the
    /// connection.
    ///
    /// It is async-signal-safe: it makes system calls only, allocates nothing, waits for no lock, and leaves
    /// `errno` as it was. If it interrupts a thread that is just registering this client again, the new
    /// connection is closed when the handler has returned.
    pub fn close(&self) {
        match &self.0 {
            Of::Client { session, reconnector } => match reconnector_of(session, reconnector) {
                Some(reconnector) => reconnector.close(),
                None => session.hang_up(CloseReason::Local),
            },
            Of::Link(link) => link.hang_up(),
            Of::Listener { intake, reconnector } => {
                intake.close(CloseReason::Local);
                if let Some(reconnector) = reconnector.as_ref().filter(|_| !intake.is_forked()) {
                    reconnector.tell_change();
                }
            }
            Of::Publisher(publication) => publication.close(CloseReason::Local),
            Of::Subscriber(subscription) => subscription.close(CloseReason::Local),
        }
    }

    /// Why it has ended, if it has. A client that registers again counts as ended while it is not registered.
    /// Does not block, but is not for a signal handler.
    pub fn reason(&self) -> Option<CloseReason> {
        match &self.0 {
            Of::Client { session, reconnector } => match reconnector_of(session, reconnector) {
                Some(reconnector) => reconnector.newest().closer.reason(),
                None => session.closer.reason(),
            }
            .map(CloseReason::from),
            Of::Link(link) => link.reason(),
            Of::Listener { intake, .. } => intake.reason(),
            Of::Publisher(publication) => publication.reason(),
            Of::Subscriber(subscription) => subscription.reason(),
        }
    }
}
