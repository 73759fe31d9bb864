//! What the bus hands out: peers, messages, samples, and what is known of clients.

use std::time::UNIX_EPOCH;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use ringpost::ClientState;

/// A client as the server knows it. What it is called and who it is, it did not choose to say: the server
/// says so.
#[pyclass(frozen, get_all, module = "ringpost")]
pub struct Peer {
    /// Its name.
    name: String,
    /// Its key, as text of 26 characters: the address of this one registration.
    key: String,
    /// Its process.
    pid: u32,
    /// Its user.
    uid: u32,
    /// Its group.
    gid: u32,
}

impl From<&ringpost::Peer> for Peer {
    fn from(peer: &ringpost::Peer) -> Peer {
        Peer {
            name: peer.name.as_str().to_owned(),
            key: peer.key.to_string(),
            pid: peer.pid,
            uid: peer.uid,
            gid: peer.gid,
        }
    }
}

#[pymethods]
impl Peer {
    #[pyo3(name = "__repr__")]
    pub fn repr(&self) -> String {
        format!("Peer(name={:?}, key={:?}, pid={}, uid={})", self.name, self.key, self.pid, self.uid)
    }
}

/// A message of another client.
#[pyclass(frozen, get_all, module = "ringpost")]
pub struct Message {
    /// What it says.
    pub payload: Py<PyBytes>,
    /// The sender's key: where an answer goes.
    pub sender: String,
    /// The sender's name.
    pub sender_name: String,
}

#[pymethods]
impl Message {
    fn __bytes__(&self, py: Python<'_>) -> Py<PyBytes> {
        self.payload.clone_ref(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let len = self.payload.bind(py).as_bytes().len();
        format!("Message({len} bytes from {:?})", self.sender_name)
    }
}

/// A sample of a topic. It was copied out of the publisher's ring once, into ``payload``, and is this
/// object's own: views of it (``memoryview``, ``numpy.frombuffer``) copy nothing and stay valid as long as
/// anybody holds them.
#[pyclass(frozen, get_all, module = "ringpost")]
pub struct Sample {
    /// What was published.
    pub payload: Py<PyBytes>,
    /// The topic.
    pub topic: Py<PyString>,
    /// Who published it.
    pub publisher: Py<Peer>,
    /// Its number among the samples of this publisher, from 1.
    pub sequence: u64,
    /// How many samples of this publisher were left out just before this one.
    pub missed: u64,
}

#[pymethods]
impl Sample {
    fn __bytes__(&self, py: Python<'_>) -> Py<PyBytes> {
        self.payload.clone_ref(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let len = self.payload.bind(py).as_bytes().len();
        format!("Sample({len} bytes of '{}', sequence={}, missed={})", self.topic, self.sequence, self.missed)
    }
}

/// A client in the server's list.
#[pyclass(frozen, get_all, module = "ringpost")]
pub struct ClientInfo {
    /// Its name.
    name: String,
    /// Its key.
    key: String,
    /// Its process.
    pid: u32,
    /// Its user.
    uid: u32,
    /// Its group.
    gid: u32,
    /// Since when, in seconds since 1970.
    registered: f64,
    /// Whether it listens for links.
    serves: bool,
    /// How many links it has.
    links: u32,
    /// Whether it is leaving.
    leaving: bool,
    /// How many calls it made.
    calls: u64,
    /// How many messages it sent.
    sent: u64,
    /// How many messages were delivered to its inbox.
    delivered: u64,
    /// How many it has taken out of its inbox, as it says itself.
    received: u64,
}

impl From<ringpost::ClientInfo> for ClientInfo {
    fn from(client: ringpost::ClientInfo) -> ClientInfo {
        let since = client.registered.duration_since(UNIX_EPOCH).unwrap_or_default();
        ClientInfo {
            name: client.name.as_str().to_owned(),
            key: client.key.to_string(),
            pid: client.pid,
            uid: client.uid,
            gid: client.gid,
            registered: since.as_secs_f64(),
            serves: client.serves,
            links: client.links,
            leaving: client.state == ClientState::Leaving,
            calls: client.counters.calls,
            sent: client.counters.sent,
            delivered: client.counters.delivered,
            received: client.counters.received,
        }
    }
}

#[pymethods]
impl ClientInfo {
    fn __repr__(&self) -> String {
        format!("ClientInfo(name={:?}, key={:?}, pid={}, uid={})", self.name, self.key, self.pid, self.uid)
    }
}
