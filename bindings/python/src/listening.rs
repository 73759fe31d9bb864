//! Links accepted by hand: who may call, and on which thread it is served.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use ringpost::{CloseReason, Request, Response, ServiceError};

use crate::armed::Armed;
use crate::errors::{Raise, timed_out, word};
use crate::records::Peer;
use crate::service::{self, Stopped};
use crate::turn::Turn;
use crate::waits::{Limit, until};

/// Accepts the links that other clients open to this one, one by one: ``Client.listen``. Their ``connect``
/// waits meanwhile, 128 of them. ``Client.serve`` accepts all of them, and serves them on threads of its own.
///
/// >>> import threading
/// >>> def serve(listener):
/// ...     incoming = listener.accept(timeout=10)
/// ...     if incoming.peer.name != "alice":
/// ...         incoming.refuse("only alice may call")
/// ...     else:
/// ...         with incoming.accept() as responder:
/// ...             responder.serve(lambda request, peer: request.upper())
/// >>> server, bob = ringpost.Server(path), ringpost.Client("bob", path)
/// >>> with server, bob, bob.listen() as listener, ringpost.Client("alice", path) as alice:
/// ...     thread = threading.Thread(target=serve, args=[listener])
/// ...     thread.start()
/// ...     with alice.connect("bob") as link:
/// ...         link.call(b"hello")
/// ...     thread.join()
/// b'HELLO'
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct Listener {
    end: Turn<Armed<ringpost::Listener>>,
}

impl Listener {
    pub fn new(listener: ringpost::Listener) -> Listener {
        let closer = listener.closer();
        Listener { end: Turn::new(Armed::new(listener), closer) }
    }
}

#[pymethods]
impl Listener {
    /// Waits for the next client that opens a link.
    #[pyo3(signature = (timeout=None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Incoming> {
        let limit = Limit::new(timeout)?;
        self.end.with(py, &limit, |armed| {
            let found = until(py, &limit, |time| py.detach(|| armed.end.accept_timeout(time)))?;
            Incoming::new(py, found)
        })
    }

    /// The next client that opens a link, or ``None`` if there is none now. Never waits.
    fn try_accept(&self, py: Python<'_>) -> PyResult<Option<Incoming>> {
        self.end.with(py, &Limit::none(), |armed| {
            let found = armed.end.try_accept().map_err(Raise::raise)?;
            found.map(|found| Incoming::new(py, found)).transpose()
        })
    }

    /// The descriptor by which an event loop waits for links.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.end.with(py, &Limit::none(), |armed| armed.descriptor(py))
    }

    /// Announces a wait. ``False``: look again now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        self.end.with(py, &Limit::none(), Armed::arm)
    }

    /// Why it has ended, in a word, or ``None``.
    #[getter]
    fn closed(&self) -> Option<&'static str> {
        self.end.reason().map(word)
    }

    /// Takes no more links. Those that were accepted go on. May be called twice.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let end = self.end.take(py)?;
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

impl Drop for Listener {
    fn drop(&mut self) {
        let end = self.end.take_now();
        // To tell the server may take a moment.
        Python::try_attach(|py| py.detach(|| drop(end)));
    }
}

/// A client that opens a link, and waits to be accepted or refused. If this object is dropped instead, its
/// ``connect`` raises ``errors.Gone``.
#[pyclass(frozen, module = "ringpost")]
pub struct Incoming {
    link: Mutex<Option<ringpost::Incoming>>,
    /// Who it is. The server says so: a client cannot pretend to be another.
    #[pyo3(get)]
    peer: Py<Peer>,
}

impl Incoming {
    fn new(py: Python<'_>, link: ringpost::Incoming) -> PyResult<Incoming> {
        let peer = Py::new(py, Peer::from(link.peer()))?;
        Ok(Incoming { link: Mutex::new(Some(link)), peer })
    }

    fn take(&self) -> PyResult<ringpost::Incoming> {
        let link = self.link.lock().take();
        link.ok_or_else(|| PyValueError::new_err("this link was accepted or refused before"))
    }
}

#[pymethods]
impl Incoming {
    /// Accepts the link. Does not wait.
    fn accept(&self, py: Python<'_>) -> PyResult<Responder> {
        // The library has no limit for serving without a descriptor, so not even Ctrl-C could end it.
        let link = self.take()?.arms();
        let responder = py.detach(|| link.accept()).map_err(Raise::raise)?;
        let closer = responder.closer();
        let end = Turn::new(Armed::new(responder), closer);
        Ok(Responder { end, peer: self.peer.clone_ref(py) })
    }

    /// Refuses the link: the caller's ``connect`` raises ``errors.Refused`` with this text, at most 1,024
    /// bytes of it. Does not wait.
    #[pyo3(signature = (why=""))]
    fn refuse(&self, py: Python<'_>, why: &str) -> PyResult<()> {
        let link = self.take()?;
        py.detach(|| link.refuse(why));
        Ok(())
    }
}

/// The serving end of a link: ``Incoming.accept``.
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct Responder {
    end: Turn<Armed<ringpost::Responder>>,
    /// Who calls.
    #[pyo3(get)]
    peer: Py<Peer>,
}

#[pymethods]
impl Responder {
    /// Answers the caller's requests on this thread, by ``service(request, peer)`` as ``Client.serve`` does,
    /// until the link ends. Returns why, in a word. After ``errors.TimedOut`` the link goes on: call it
    /// again.
    #[pyo3(signature = (service, timeout=None))]
    fn serve(&self, py: Python<'_>, service: Py<PyAny>, timeout: Option<f64>) -> PyResult<&'static str> {
        let limit = Limit::new(timeout)?;
        self.end.with(py, &limit, |armed| {
            armed.descriptor(py)?;
            let stopped = Stopped::default();
            let mut service = service::until_stopped(&service, &stopped);
            loop {
                let (slice, last) = limit.slice();
                let ended = py.detach(|| serve_some(armed, &mut service, slice));
                stopped.check()?;
                match ended? {
                    Some(reason) => return Ok(word(reason)),
                    None if last => return Err(timed_out("the link did not end in time")),
                    None => py.check_signals()?,
                }
            }
        })
    }

    /// Answers the requests that are there, at most 64, and waits for nothing: for an event loop. Returns
    /// ``None`` if the link goes on: ``arm``, or serve the next ones. Otherwise why it ended, in a word.
    fn serve_ready(&self, py: Python<'_>, service: Py<PyAny>) -> PyResult<Option<&'static str>> {
        self.end.with(py, &Limit::none(), |armed| {
            let stopped = Stopped::default();
            let service = service::until_stopped(&service, &stopped);
            let ended = py.detach(|| armed.end.serve_ready(service));
            stopped.check()?;
            Ok(ended.map_err(Raise::raise)?.map(word))
        })
    }

    /// The descriptor by which an event loop waits for requests.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.end.with(py, &Limit::none(), |armed| armed.descriptor(py))
    }

    /// Announces a wait. ``False``: serve now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        self.end.with(py, &Limit::none(), Armed::arm)
    }

    /// Why the link has ended, in a word, or ``None``.
    #[getter]
    fn closed(&self) -> Option<&'static str> {
        self.end.reason().map(word)
    }

    /// Ends the link, and ``serve`` on another thread. May be called twice.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let end = self.end.take(py)?;
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

/// For how long an end looks before it sleeps: as long as it takes to wake up.
const LOOKS: Duration = Duration::from_micros(50);

/// Serves what there is, and then waits, until the time is over or the link has ended. Returns why it ended.
fn serve_some(
    armed: &mut Armed<ringpost::Responder>,
    service: &mut (impl FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send),
    time: Duration,
) -> PyResult<Option<CloseReason>> {
    let until = Instant::now() + time;
    loop {
        let looks = Instant::now() + LOOKS;
        loop {
            if let Some(reason) = armed.end.serve_ready(&mut *service).map_err(Raise::raise)? {
                return Ok(Some(reason));
            }
            if Instant::now() > looks {
                break;
            }
            std::hint::spin_loop();
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        if armed.arm()? {
            armed.sleep(left)?;
        }
    }
}
