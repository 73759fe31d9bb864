//! Ending a client from another thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::reconnect::{Reconnector, reconnector_of, show};
use super::session::Session;
use crate::ring::CloseReason;

/// Ends a client from any thread: every wait ends with `Disconnected`, and the registration with it. (A
/// server that works against its client can keep a wait without a deadline asleep, as it can by not
/// answering.)
///
/// [`close`](Self::close) may also be called in a signal's handler. A handle keeps the client's descriptor
/// and its memory until it is dropped, which is not for a handler to do.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, CloseReason, RecvError, Server};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("bus");
/// let _server = Server::builder(&path).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// let handle = client.close_handle();
/// let waiting = std::thread::spawn(move || client.recv());
/// handle.close();
/// assert_eq!(waiting.join().unwrap(), Err(RecvError::Disconnected(CloseReason::Local)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CloseHandle {
    session: Arc<Session>,
    reconnector: Option<Arc<Reconnector>>,
}

impl fmt::Debug for CloseHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("CloseHandle", &self.session, &self.reconnector, f)
    }
}

impl CloseHandle {
    pub(super) fn new(session: &Arc<Session>, reconnector: Option<&Arc<Reconnector>>) -> CloseHandle {
        CloseHandle { session: Arc::clone(session), reconnector: reconnector.cloned() }
    }

    /// Ends the client, also one that [registers again](crate::Reconnect). Idempotent. Messages that were
    /// committed before can still be received. Does not block; the server frees the name when it sees the
    /// end of the connection.
    ///
    /// It is async-signal-safe: it makes system calls, allocates nothing, waits for no lock, and leaves
    /// `errno` as it was. If a handler's own thread is changing what is to be closed, it closes that as
    /// soon as the handler has returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, CloseReason};
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.close_handle().close();
    /// assert_eq!(client.call(b"ping"), Err(CallError::NotSent(CloseReason::Local)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        match reconnector_of(&self.session, &self.reconnector) {
            Some(reconnector) => reconnector.close(),
            None => self.session.hang_up(CloseReason::Local),
        }
    }

    /// Why the client has ended, if it has. One that registers again has ended for as long as it is not
    /// registered. Does not block, but is not for a signal's handler.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, CloseReason, Server};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let server = Server::builder(&path).start()?;
    /// let client = Client::register(&path, "alice")?;
    /// let handle = client.close_handle();
    /// assert_eq!(handle.reason(), None);
    /// server.join_after_shutdown();
    /// assert_eq!(handle.reason(), Some(CloseReason::Shutdown));
    /// # drop(client);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reason(&self) -> Option<CloseReason> {
        match reconnector_of(&self.session, &self.reconnector) {
            Some(reconnector) => reconnector.newest().closer.reason(),
            None => self.session.closer.reason(),
        }
    }
}
