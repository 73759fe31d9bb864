//! Who is registered, and each change of it.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use ringpost::{Closer, VanishReason};

use crate::armed::Armed;
use crate::errors::Raise;
use crate::records::Peer;
use crate::turn::Turn;
use crate::waits::Limit;

/// Tells who is registered, and then each client that appears or vanishes: ``Client.presence``. Iterating
/// over it waits for one change after the other. First come all who are there, this client too.
///
/// >>> with ringpost.Server(path), ringpost.Client("alice", path) as alice, alice.presence() as presence:
/// ...     here = presence.recv(timeout=10)
/// ...     with ringpost.Client("bob", path):
/// ...         came = presence.recv(timeout=10)
/// ...     left = presence.recv(timeout=10)
/// >>> [(change.kind, change.peer.name, change.reason) for change in (here, came, left)]
/// [('present', 'alice', None), ('appeared', 'bob', None), ('vanished', 'bob', 'unregistered')]
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct Presence {
    /// The closer is the client's: a presence has none of its own. So `recv` gives its turn up between its
    /// waits, and `close` needs none.
    end: Turn<Armed<ringpost::Presence>>,
}

impl Presence {
    pub fn new(presence: ringpost::Presence, client: Closer) -> Presence {
        Presence { end: Turn::new(Armed::new(presence), client) }
    }
}

#[pymethods]
impl Presence {
    /// Waits for the next change.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Change> {
        let limit = Limit::new(timeout)?;
        loop {
            let (slice, last) = limit.slice();
            let found =
                self.end.with(py, &limit, |armed| match py.detach(|| armed.end.recv_timeout(slice)) {
                    Err(error) if error.is_timeout() && !last => Ok(None),
                    found => found.map(Some).map_err(Raise::raise),
                })?;
            match found {
                Some(change) => return Change::new(py, &change),
                None => py.check_signals()?,
            }
        }
    }

    /// The next change, or ``None`` if there is none now. Never waits.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        self.end.with(py, &Limit::none(), |armed| {
            let found = armed.end.try_recv().map_err(Raise::raise)?;
            found.map(|change| Change::new(py, &change)).transpose()
        })
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Change> {
        self.recv(py, None)
    }

    /// The descriptor by which an event loop waits for changes.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.end.with(py, &Limit::none(), |armed| armed.descriptor(py))
    }

    /// Announces a wait. ``False``: look again now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        self.end.with(py, &Limit::none(), Armed::arm)
    }

    /// Ends it, and the waits of other threads for it. May be called twice.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let end = self.end.take_in_turn(py)?;
        py.detach(|| drop(end));
        Ok(())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let end = self.end.take_now();
        // To tell the server may take a moment.
        Python::try_attach(|py| py.detach(|| drop(end)));
    }
}

/// A change that a ``Presence`` tells.
#[pyclass(frozen, get_all, module = "ringpost")]
pub struct Change {
    /// ``"present"``: it was there already. ``"appeared"``: it has registered. ``"vanished"``: it is not
    /// registered any more.
    kind: &'static str,
    /// The client.
    peer: Py<Peer>,
    /// Why it vanished: ``"unregistered"``, ``"died"``, ``"protocol-violation"``, ``"server-ended"`` or
    /// ``"unseen"``; else ``None``.
    reason: Option<&'static str>,
}

impl Change {
    fn new(py: Python<'_>, change: &ringpost::Change) -> PyResult<Change> {
        let (kind, reason) = match change {
            ringpost::Change::Present(_) => ("present", None),
            ringpost::Change::Vanished { reason, .. } => ("vanished", Some(why(*reason))),
            _ => ("appeared", None),
        };
        Ok(Change { kind, peer: Py::new(py, Peer::from(change.peer()))?, reason })
    }
}

#[pymethods]
impl Change {
    fn __repr__(&self) -> String {
        let reason = self.reason.map(|reason| format!(", reason={reason:?}")).unwrap_or_default();
        format!("Change({:?}, {}{reason})", self.kind, self.peer.get().repr())
    }
}

fn why(reason: VanishReason) -> &'static str {
    match reason {
        VanishReason::Unregistered => "unregistered",
        VanishReason::Died => "died",
        VanishReason::Violation => "protocol-violation",
        VanishReason::ServerEnded => "server-ended",
        _ => "unseen",
    }
}
