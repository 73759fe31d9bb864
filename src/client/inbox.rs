//! The receiving half of a client.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::{CloseHandle, Session};
use crate::protocol::{BLOCK_HEADER, BlockHeader, KEY, Key, MESSAGE, Name};
use crate::ring::{Consumer, Incoming, RecvError, RecvTimeoutError, TryRecvError, Violation};

/// Receives a client's messages. One half of a [`Client`](super::Client).
#[derive(Debug)]
pub struct Inbox {
    ring: Consumer,
    session: Arc<Session>,
}

/// A message from another client.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    from: Key,
    name: Name,
    payload: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("from", &self.from)
            .field("name", &self.name)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

impl Message {
    /// The sender's key, as the server knows it: a sender cannot pretend to be another.
    pub fn from(&self) -> Key {
        self.from
    }

    /// The sender's name when it sent this.
    pub fn from_name(&self) -> &Name {
        &self.name
    }

    /// What it sent.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What it sent, to keep.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

impl Inbox {
    pub(super) fn new(ring: Consumer, session: Arc<Session>) -> Inbox {
        Inbox { ring, session }
    }

    /// This client's key.
    pub fn key(&self) -> Key {
        self.session.key
    }

    /// This client's name.
    pub fn name(&self) -> &Name {
        &self.session.name
    }

    /// A handle that ends this client's waits from another thread, and with them the registration.
    pub fn close_handle(&self) -> CloseHandle {
        CloseHandle::new(&self.session)
    }

    /// The next message, if one is there.
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        match read(self.ring.try_incoming()?) {
            Ok(message) => Ok(message),
            Err(Malformed) => Err(TryRecvError::Violation(self.ring.reject(Violation::MalformedBlock))),
        }
    }

    /// The next message, waiting as long as it takes. Messages committed before the end of the connection come first,
    /// then `Disconnected`.
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        self.recv_until(None).map_err(RecvTimeoutError::untimed)
    }

    /// The next message, waiting at most this long.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// The next message, waiting until the deadline.
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Message, RecvTimeoutError> {
        match read(self.ring.incoming_until(deadline)?) {
            Ok(message) => Ok(message),
            Err(Malformed) => Err(RecvTimeoutError::Violation(self.ring.reject(Violation::MalformedBlock))),
        }
    }
}

struct Malformed;

/// Takes the block out of the ring and apart. The server wrote it, and it is not believed either.
fn read(incoming: Incoming<'_>) -> Result<Message, Malformed> {
    const PREFIX: usize = BLOCK_HEADER + KEY;
    if incoming.len() < PREFIX {
        return Err(Malformed);
    }
    let mut header = [0; BLOCK_HEADER];
    incoming.read_at(0, &mut header);
    let header = BlockHeader::from_array(header);
    let mut key = [0; KEY];
    incoming.read_at(BLOCK_HEADER, &mut key);
    let name_len = usize::from(header.flags.get());
    if header.code.get() != MESSAGE || name_len > Name::MAX_LEN || incoming.len() < PREFIX + name_len {
        return Err(Malformed);
    }
    let mut name = [0; Name::MAX_LEN];
    let name = &mut name[..name_len];
    incoming.read_at(PREFIX, name);
    let name = Name::from_bytes(name).map_err(|_| Malformed)?;
    let mut payload = Vec::new();
    incoming.append_to(PREFIX + name_len, &mut payload);
    incoming.release();
    Ok(Message { from: Key::from_bytes(key), name, payload })
}
