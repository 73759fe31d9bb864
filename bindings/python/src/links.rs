//! Links: calls from client to client.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ringpost::{CallError, ServeHandle};

use crate::calls::Calls;
use crate::errors::{Raise, timed_out, word};
use crate::payload::Payload;
use crate::records::Peer;
use crate::turn::Turn;
use crate::waits::{Backoff, Limit};

/// A link to a client that serves: ``Client.connect``. It goes on when the server ends.
///
/// >>> server, bob = ringpost.Server(path), ringpost.Client("bob", path)
/// >>> with server, bob, bob.serve(lambda request, peer: b"hello " + request):
/// ...     with ringpost.Client("alice", path) as alice, alice.connect("bob") as link:
/// ...         link.call(b"alice")
/// b'hello alice'
#[pyclass(frozen, module = "ringpost")]
pub struct Link {
    calls: Turn<Calls<ringpost::Link>>,
    /// The client at the other end.
    #[pyo3(get)]
    peer: Py<Peer>,
}

impl Link {
    pub fn new(link: ringpost::Link) -> PyResult<Link> {
        let peer = Python::attach(|py| Py::new(py, Peer::from(link.peer())))?;
        let closer = link.closer();
        Ok(Link { calls: Turn::new(Calls::new(link), closer), peer })
    }
}

#[pymethods]
impl Link {
    /// Calls the other client's service and returns its response. See ``Client.call``.
    #[pyo3(signature = (request, timeout=None))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (limit, request) = (Limit::new(timeout)?, Payload::of(request)?);
        self.calls.with(py, &limit, |calls| calls.call(py, request.bytes(), &limit))
    }

    /// See ``Client.submit``.
    #[pyo3(signature = (request, timeout=None))]
    fn submit(&self, py: Python<'_>, request: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let (limit, request) = (Limit::new(timeout)?, Payload::of(request)?);
        self.calls.with(py, &limit, |calls| calls.submit(py, request.bytes(), &limit))
    }

    /// See ``Client.try_submit``.
    fn try_submit(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let request = Payload::of(request)?;
        self.calls.with(py, &Limit::none(), |calls| calls.try_submit(py, request.bytes()))
    }

    /// See ``Client.response``.
    #[pyo3(signature = (timeout=None))]
    fn response<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = Limit::new(timeout)?;
        self.calls.with(py, &limit, |calls| calls.response(py, &limit))
    }

    /// See ``Client.try_response``.
    fn try_response<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.calls.with(py, &Limit::none(), |calls| calls.try_response(py))
    }

    /// How many submitted calls have responses that were not collected yet.
    #[getter]
    fn outstanding(&self, py: Python<'_>) -> PyResult<usize> {
        self.calls.with(py, &Limit::none(), |calls| Ok(calls.outstanding()))
    }

    /// Sends a message that is not answered. Waits for room only.
    #[pyo3(signature = (message, timeout=None))]
    fn post(&self, py: Python<'_>, message: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let (limit, message) = (Limit::new(timeout)?, Payload::of(message)?);
        let message = message.bytes();
        self.calls.with(py, &limit, |calls| {
            calls.settle(py, &limit)?;
            let mut backoff = Backoff::new();
            loop {
                match py.detach(|| calls.line.try_post(message)) {
                    Err(CallError::Full) => {
                        if !backoff.sleep(py, &limit)? {
                            return Err(timed_out("there was no room for the message before the deadline"));
                        }
                    }
                    posted => return posted.map_err(Raise::raise),
                }
            }
        })
    }

    /// As ``post``, but never waits: raises ``Full`` if there is no room.
    fn try_post(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let message = Payload::of(message)?;
        let message = message.bytes();
        self.calls.with(py, &Limit::none(), |calls| {
            py.detach(|| calls.line.try_post(message)).map_err(Raise::raise)
        })
    }

    /// The descriptor by which an event loop waits for responses, if the link was opened with ``arms``.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.calls.with(py, &Limit::none(), |calls| calls.descriptor(py))
    }

    /// Announces a wait. ``False``: look again now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        use ringpost::Ready;
        self.calls.with(py, &Limit::none(), |calls| calls.line.arm().map_err(Raise::raise))
    }

    /// Why the link has ended, in a word, or ``None``.
    #[getter]
    fn closed(&self) -> Option<&'static str> {
        self.calls.reason().map(word)
    }

    /// Ends the link, and the waits of other threads for it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let calls = self.calls.take(py)?;
        py.detach(|| drop(calls.map(|calls| calls.line)));
        Ok(())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}

/// The serving of a client's links: ``Client.serve``. It ends with ``stop``, with a ``with`` statement, or
/// when this object is dropped.
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct Serving(Mutex<Option<ServeHandle>>);

impl Serving {
    pub fn new(handle: ServeHandle) -> Serving {
        Serving(Mutex::new(Some(handle)))
    }
}

#[pymethods]
impl Serving {
    /// The clients whose links are served now.
    fn links(&self) -> Vec<Peer> {
        self.0
            .lock()
            .as_ref()
            .map(|handle| handle.links().iter().map(Peer::from).collect())
            .unwrap_or_default()
    }

    /// Ends all links, and waits until their calls are answered. May be called twice.
    fn stop(&self, py: Python<'_>) {
        let handle = self.0.lock().take();
        py.detach(|| {
            if let Some(handle) = handle {
                handle.stop();
                handle.join();
            }
        });
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.stop(py);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let handle = self.0.get_mut().take();
        Python::try_attach(|py| py.detach(|| drop(handle)));
    }
}
