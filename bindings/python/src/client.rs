//! `Client`: a registration with a server.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ringpost::{
    Address, Caller, Client as Registration, Inbox, Key, LinkOptions, Policy, Publisher as Topic, Ready,
    SendError, Subscriber as Subscription, WaitStrategy,
};

use crate::armed::Armed;
use crate::calls::Calls;
use crate::errors::{Raise, invalid_name, timed_out, word};
use crate::links::{Link, Serving};
use crate::listening::Listener;
use crate::payload::{Payload, bytes};
use crate::presence::Presence;
use crate::records::{ClientInfo, Message};
use crate::service;
use crate::topics::{Publisher, Subscriber};
use crate::turn::Turn;
use crate::waits::{Backoff, Limit, aside, until};

/// What a server is given to answer a question, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client of the bus, registered under a name.
///
/// Several threads may use it: one can receive while another calls. Two that call take turns. A ``with``
/// statement ends the registration. In a forked child every operation raises ``Forked``: register a client of
/// its own there.
///
/// >>> with ringpost.Server(path, service=lambda request, peer: request.upper()):
/// ...     with ringpost.Client("alice", path) as alice:
/// ...         alice.call(b"hello")
/// b'HELLO'
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct Client {
    calls: Turn<Calls<Caller>>,
    inbox: Turn<Armed<Inbox>>,
    #[pyo3(get)]
    /// The name that it is registered under.
    name: String,
    #[pyo3(get)]
    /// Its key, as text of 26 characters.
    key: String,
}

pub fn strategy(wait: &str) -> PyResult<WaitStrategy> {
    wait.parse().map_err(|_| PyValueError::new_err("wait is \"spin\", \"adaptive\" or \"park\""))
}

pub fn path_or_default(path: Option<PathBuf>) -> PyResult<PathBuf> {
    path.map_or_else(|| ringpost::default_path().map_err(Raise::raise), Ok)
}

fn address(to: &str) -> PyResult<Address> {
    to.parse().map_err(|error| SendError::InvalidName(error).raise())
}

#[pymethods]
impl Client {
    /// Registers with the server whose socket is at ``path``, or at the default path. Waits until the server
    /// has answered, ``timeout`` seconds at most. ``wait`` says how long its threads look before they
    /// sleep.
    #[new]
    #[pyo3(signature = (name, path=None, *, timeout=5.0, wait="adaptive"))]
    fn new(py: Python<'_>, name: &str, path: Option<PathBuf>, timeout: f64, wait: &str) -> PyResult<Client> {
        let path = path_or_default(path)?;
        let time = Limit::new(Some(timeout))?.left(PATIENCE);
        let builder = Registration::builder(path).timeout(time).wait(strategy(wait)?);
        let name = name.to_owned();
        let client = aside(py, move || builder.register(name.as_str()))?.map_err(Raise::raise)?;
        let (name, key) = (client.name().as_str().to_owned(), client.key().to_string());
        let closer = client.closer();
        let (caller, inbox) = client.split();
        Ok(Client {
            calls: Turn::new(Calls::new(caller), closer.clone()),
            inbox: Turn::new(Armed::new(inbox), closer),
            name,
            key,
        })
    }

    /// Calls the server's service and returns its response. Waits ``timeout`` seconds at most; ``None``: as
    /// long as it takes. After ``TimedOut`` the call may have been executed, and the client can be used
    /// as before.
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

    /// Sends a call without waiting for its response, which ``response`` collects. Waits for room only.
    #[pyo3(signature = (request, timeout=None))]
    fn submit(&self, py: Python<'_>, request: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let (limit, request) = (Limit::new(timeout)?, Payload::of(request)?);
        self.calls.with(py, &limit, |calls| calls.submit(py, request.bytes(), &limit))
    }

    /// As ``submit``, but never waits: raises ``Full`` if there is no room.
    fn try_submit(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let request = Payload::of(request)?;
        self.calls.with(py, &Limit::none(), |calls| calls.try_submit(py, request.bytes()))
    }

    /// Waits for the response to the oldest submitted call. After ``TimedOut`` it is still outstanding.
    #[pyo3(signature = (timeout=None))]
    fn response<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = Limit::new(timeout)?;
        self.calls.with(py, &limit, |calls| calls.response(py, &limit))
    }

    /// As ``response``, but never waits: ``None`` if it is not there yet.
    fn try_response<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.calls.with(py, &Limit::none(), |calls| calls.try_response(py))
    }

    /// How many submitted calls have responses that were not collected yet.
    #[getter]
    fn outstanding(&self, py: Python<'_>) -> PyResult<usize> {
        self.calls.with(py, &Limit::none(), |calls| Ok(calls.outstanding()))
    }

    /// Sends a message to another client, by its name or its key, and waits for room in its inbox. A message
    /// that waits looks for room every few milliseconds.
    #[pyo3(signature = (to, message, timeout=None))]
    fn send(
        &self,
        py: Python<'_>,
        to: &str,
        message: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let (limit, message, to) = (Limit::new(timeout)?, Payload::of(message)?, address(to)?);
        let message = message.bytes();
        self.calls.with(py, &limit, |calls| {
            calls.settle(py, &limit)?;
            let mut backoff = Backoff::new();
            loop {
                match py.detach(|| calls.line.try_send(to, message)) {
                    Err(SendError::InboxFull) => {
                        if !backoff.sleep(py, &limit)? {
                            return Err(timed_out(
                                "there was no room in the receiver's inbox before the deadline",
                            ));
                        }
                    }
                    sent => return sent.map_err(Raise::raise),
                }
            }
        })
    }

    /// As ``send``, but does not wait for room: raises ``Full`` if there is none.
    fn try_send(&self, py: Python<'_>, to: &str, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let (message, to) = (Payload::of(message)?, address(to)?);
        let message = message.bytes();
        self.calls.with(py, &Limit::none(), |calls| {
            calls.settle(py, &Limit::none())?;
            py.detach(|| calls.line.try_send(to, message)).map_err(Raise::raise)
        })
    }

    /// Sends a message, and does not wait for the server's answer: for event loops. ``response`` and
    /// ``try_response`` collect the answers in order with the responses to submitted calls: ``b""`` if
    /// the message is in the receiver's inbox, or an exception as of ``send``. ``to`` is a key:
    /// ``look_up`` finds it. While the inbox is full, the server waits for room for ``patience`` seconds
    /// at most, and answers nothing else of this client meanwhile. Raises ``Full`` if this client's
    /// requests fill its ring.
    #[pyo3(signature = (to, message, patience=0.0))]
    fn try_submit_send(
        &self,
        py: Python<'_>,
        to: &str,
        message: &Bound<'_, PyAny>,
        patience: f64,
    ) -> PyResult<()> {
        let patience = Limit::new(Some(patience))?.left(PATIENCE);
        let Ok(to) = to.parse::<Key>() else {
            return Err(invalid_name("this is no key: look_up finds that of a name"));
        };
        let message = Payload::of(message)?;
        self.calls.with(py, &Limit::none(), |calls| calls.try_submit_send(py, to, message.bytes(), patience))
    }

    /// Waits for the next message.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        let limit = Limit::new(timeout)?;
        self.inbox.with(py, &limit, |letters| {
            let found = until(py, &limit, |time| py.detach(|| letters.end.recv_timeout(time)))?;
            message(py, &found)
        })
    }

    /// The next message, or ``None`` if there is none now. Never waits.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        self.inbox.with(py, &Limit::none(), |letters| {
            let found = py.detach(|| letters.end.try_recv()).map_err(Raise::raise)?;
            found.map(|found| message(py, &found)).transpose()
        })
    }

    /// The key of the client with this name, or ``None``.
    #[pyo3(signature = (name, timeout=5.0))]
    fn look_up(&self, py: Python<'_>, name: &str, timeout: f64) -> PyResult<Option<String>> {
        let name = address(name)?;
        self.asking(py, timeout, |caller| caller.look_up(name).map_err(Raise::raise))
            .map(|key| key.map(|key| key.to_string()))
    }

    /// Waits until a client with this name is there, and returns its key.
    #[pyo3(signature = (name, timeout=None))]
    fn wait_for(&self, py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<String> {
        let (limit, name) = (Limit::new(timeout)?, address(name)?);
        self.calls.with(py, &limit, |calls| {
            calls.settle(py, &limit)?;
            loop {
                let (slice, last) = limit.slice();
                match py.detach(|| calls.line.wait_for(name, slice)) {
                    Ok(key) => return Ok(key.to_string()),
                    Err(error) if !error.is_timeout() => return Err(error.raise()),
                    Err(_) if last => {
                        return Err(timed_out("no client of this name came before the deadline"));
                    }
                    Err(_) => py.check_signals()?,
                }
            }
        })
    }

    /// All clients of the server.
    #[pyo3(signature = (timeout=5.0))]
    fn list(&self, py: Python<'_>, timeout: f64) -> PyResult<Vec<ClientInfo>> {
        let clients = self.asking(py, timeout, |caller| caller.list().map_err(Raise::raise))?;
        Ok(clients.into_iter().map(ClientInfo::from).collect())
    }

    /// Asks the server for a sign of life.
    #[pyo3(signature = (timeout=5.0))]
    fn ping(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        self.asking(py, timeout, |caller| caller.ping().map_err(Raise::raise))
    }

    /// The most bytes of a call, and of its response.
    #[getter]
    fn max_call(&self, py: Python<'_>) -> PyResult<usize> {
        self.calls.with(py, &Limit::none(), |calls| Ok(calls.line.limits().max_call))
    }

    /// The most bytes of a message.
    #[getter]
    fn max_message(&self, py: Python<'_>) -> PyResult<usize> {
        self.calls.with(py, &Limit::none(), |calls| Ok(calls.line.limits().max_message))
    }

    /// Opens a link to a client that serves, by its name or its key: calls to it that the server does not
    /// see. ``arms``: it can wait in an event loop. ``ring_size`` in bytes, a power of two.
    #[pyo3(signature = (to, timeout=5.0, *, arms=false, ring_size=None))]
    fn connect(
        &self,
        py: Python<'_>,
        to: &str,
        timeout: f64,
        arms: bool,
        ring_size: Option<usize>,
    ) -> PyResult<Link> {
        let (limit, to) = (Limit::new(Some(timeout))?, address(to)?);
        self.calls.with(py, &limit, |calls| {
            calls.settle(py, &limit)?;
            let mut options: LinkOptions = ringpost::Link::options().timeout(limit.left(PATIENCE));
            if arms {
                options = options.arms();
            }
            if let Some(ring_size) = ring_size {
                options = options.ring_size(ring_size);
            }
            let link = py.detach(|| options.connect(&mut calls.line, to)).map_err(Raise::raise)?;
            Link::new(link)
        })
    }

    /// Serves the links that others open to this client: calls ``service(request, peer)`` for each call, on a
    /// thread for each link. What it returns, ``bytes`` or another buffer or ``None``, is the response.
    /// Keep the result: it ends with it.
    #[pyo3(signature = (service, timeout=5.0))]
    fn serve(&self, py: Python<'_>, service: Py<PyAny>, timeout: f64) -> PyResult<Serving> {
        let service = service::of(service);
        self.asking(py, timeout, |caller| {
            let handle = caller.listen().and_then(|listener| listener.serve(service));
            handle.map(Serving::new).map_err(Raise::raise)
        })
    }

    /// Takes the links that others open to this client one by one: see ``Listener``. A client has one
    /// listener at a time.
    #[pyo3(signature = (timeout=5.0))]
    fn listen(&self, py: Python<'_>, timeout: f64) -> PyResult<Listener> {
        self.asking(py, timeout, |caller| caller.listen().map(Listener::new).map_err(Raise::raise))
    }

    /// Who is registered, and from now on each client that appears or vanishes: see ``Presence``. Four at a
    /// time.
    #[pyo3(signature = (timeout=5.0))]
    fn presence(&self, py: Python<'_>, timeout: f64) -> PyResult<Presence> {
        let closer = self.calls.closer().clone();
        self.asking(py, timeout, |caller| {
            caller.presence().map(|presence| Presence::new(presence, closer)).map_err(Raise::raise)
        })
    }

    /// Publishes a topic. ``reliable``: for how many seconds it waits for a reliable subscriber that makes no
    /// room, if at all. ``ring_size`` in bytes, a power of two; a sample takes at most a quarter of it.
    #[pyo3(signature = (topic, *, reliable=None, ring_size=None, arms=false, timeout=5.0))]
    fn publish(
        &self,
        py: Python<'_>,
        topic: &str,
        reliable: Option<f64>,
        ring_size: Option<usize>,
        arms: bool,
        timeout: f64,
    ) -> PyResult<Publisher> {
        let mut options = Topic::options();
        if let Some(budget) = reliable {
            options = options.reliable(Limit::new(Some(budget))?.left(PATIENCE));
        }
        if let Some(ring_size) = ring_size {
            options = options.ring_size(ring_size);
        }
        if arms {
            options = options.arms();
        }
        self.asking(py, timeout, |caller| {
            options.publish(caller, topic).map(Publisher::new).map_err(Raise::raise)
        })
    }

    /// Subscribes to the topics that match a pattern, such as ``"prices/*"`` or ``"sensors/**"``. ``policy``
    /// says what happens if it is too slow: ``"lossy"``, ``"latest"`` or ``"reliable"``. ``history``:
    /// begin with so many samples that are still there. ``arms``: it can wait in an event loop.
    #[pyo3(signature = (pattern, *, policy="lossy", history=0, arms=false, timeout=5.0))]
    fn subscribe(
        &self,
        py: Python<'_>,
        pattern: &str,
        policy: &str,
        history: u64,
        arms: bool,
        timeout: f64,
    ) -> PyResult<Subscriber> {
        let policy = match policy {
            "lossy" => Policy::Lossy,
            "latest" => Policy::Latest,
            "reliable" => Policy::Reliable,
            _ => return Err(PyValueError::new_err("policy is \"lossy\", \"latest\" or \"reliable\"")),
        };
        let mut options = Subscription::options().policy(policy).history(history);
        if arms {
            options = options.arms();
        }
        self.asking(py, timeout, |caller| {
            options.subscribe(caller, pattern).map(Subscriber::new).map_err(Raise::raise)
        })
    }

    /// The descriptor by which an event loop waits for responses. Never read from it: look by
    /// ``try_response``, then ``arm_caller``, then wait until it is readable.
    fn caller_fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.calls.with(py, &Limit::none(), |calls| calls.descriptor(py))
    }

    /// Announces a wait for responses. ``False``: look again now.
    fn arm_caller(&self, py: Python<'_>) -> PyResult<bool> {
        self.calls.with(py, &Limit::none(), |calls| calls.line.arm().map_err(Raise::raise))
    }

    /// The descriptor by which an event loop waits for messages.
    fn inbox_fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.inbox.with(py, &Limit::none(), |letters| letters.descriptor(py))
    }

    /// Announces a wait for messages. ``False``: look again now.
    fn arm_inbox(&self, py: Python<'_>) -> PyResult<bool> {
        self.inbox.with(py, &Limit::none(), Armed::arm)
    }

    /// Why the registration has ended, in a word, or ``None``.
    #[getter]
    fn closed(&self) -> Option<&'static str> {
        self.calls.reason().map(word)
    }

    /// Ends the registration, and with it the waits of other threads. May be called twice.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.inbox.is_busy() {
            self.calls.closer().close();
        }
        let calls = self.calls.take(py)?;
        let letters = self.inbox.take(py)?;
        py.detach(|| {
            // An end that came first says why it ended, which is no error of the one who leaves.
            let _ = calls.map(|calls| calls.line.unregister());
            drop(letters);
        });
        Ok(())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("Client({:?}, key={:?})", self.name, self.key)
    }
}

impl Client {
    /// Asks the server something that it answers at once, and waits for that in one piece.
    fn asking<T: Send>(
        &self,
        py: Python<'_>,
        timeout: f64,
        ask: impl FnOnce(&mut Caller) -> PyResult<T> + Send,
    ) -> PyResult<T> {
        let limit = Limit::new(Some(timeout))?;
        self.calls.with(py, &limit, |calls| {
            calls.settle(py, &limit)?;
            calls.line.set_timeout(limit.left(PATIENCE));
            py.detach(|| ask(&mut calls.line))
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let ends = (self.calls.take_now(), self.inbox.take_now());
        // Leaving waits for the server, which may wait for a service that wants the interpreter's lock.
        Python::try_attach(|py| py.detach(|| drop(ends)));
    }
}

fn message(py: Python<'_>, found: &ringpost::Message) -> PyResult<Message> {
    Ok(Message {
        payload: bytes(py, found.payload())?.unbind(),
        sender: found.sender().to_string(),
        sender_name: found.sender_name().as_str().to_owned(),
    })
}
