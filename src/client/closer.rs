//! Ending a client or a link from another thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::links::{LinkEnd, OpenLink};
use super::reconnect::{Reconnector, reconnector_of, show};
use super::session::Session;
use crate::wire::CloseReason;

/// Ends a client or one of its links from any thread: [`Client::closer`](super::Client::closer),
/// [`Link::closer`](super::Link::closer).
///
/// [`close`](Self::close) ends every wait there with `Disconnected`, and a client's registration. (A server
/// that works against its client can keep a wait without a deadline asleep, as it can by not answering.)
/// It may be called in a signal handler.
///
/// It keeps the memory, and a client's descriptor, until it is dropped; do not drop it in a signal handler.
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
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Of::Client { session, reconnector } => show("Closer", session, reconnector, f),
            Of::Link(link) => link.show("Closer", f),
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

    /// Ends the client, also one that [registers again](crate::Reconnect), with its links; or that link only.
    /// Idempotent. Messages that were delivered before can still be received. Does not block; the server
    /// frees the name when it sees the end of the connection.
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
        }
    }

    /// Why the client or the link has ended, if it has. A client that registers again counts as ended while
    /// it is not registered. Does not block, but is not for a signal handler.
    pub fn reason(&self) -> Option<CloseReason> {
        match &self.0 {
            Of::Client { session, reconnector } => match reconnector_of(session, reconnector) {
                Some(reconnector) => reconnector.newest().closer.reason(),
                None => session.closer.reason(),
            }
            .map(CloseReason::from),
            Of::Link(link) => link.reason(),
        }
    }
}
