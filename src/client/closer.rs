//! Ending a client from another thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::reconnect::{Reconnector, reconnector_of, show};
use super::session::Session;
use crate::wire::CloseReason;

/// Ends a client from any thread: [`Client::closer`](super::Client::closer).
///
/// [`close`](Self::close) ends every wait of the client with `Disconnected`, and its registration. (A server
/// that works against its client can keep a wait without a deadline asleep, as it can by not answering.)
/// It may be called in a signal handler.
///
/// It keeps the client's descriptor and memory until it is dropped; do not drop it in a signal handler.
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
pub struct Closer {
    session: Arc<Session>,
    reconnector: Option<Arc<Reconnector>>,
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Closer", &self.session, &self.reconnector, f)
    }
}

impl Closer {
    pub(super) fn new(session: &Arc<Session>, reconnector: Option<&Arc<Reconnector>>) -> Closer {
        Closer { session: Arc::clone(session), reconnector: reconnector.cloned() }
    }

    /// Ends the client, also one that [registers again](crate::Reconnect). Idempotent. Messages that were
    /// delivered before can still be received. Does not block; the server frees the name when it sees the end
    /// of the connection.
    ///
    /// It is async-signal-safe: it makes system calls only, allocates nothing, waits for no lock, and leaves
    /// `errno` as it was. If it interrupts a thread that is just registering this client again, the new
    /// connection is closed when the handler has returned.
    pub fn close(&self) {
        match reconnector_of(&self.session, &self.reconnector) {
            Some(reconnector) => reconnector.close(),
            None => self.session.hang_up(CloseReason::Local),
        }
    }

    /// Why the client has ended, if it has. A client that registers again counts as ended while it is not
    /// registered. Does not block, but is not for a signal handler.
    pub fn reason(&self) -> Option<CloseReason> {
        match reconnector_of(&self.session, &self.reconnector) {
            Some(reconnector) => reconnector.newest().closer.reason(),
            None => self.session.closer.reason(),
        }
        .map(CloseReason::from)
    }
}
