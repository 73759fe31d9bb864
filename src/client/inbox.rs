//! The receiving half of a client.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handle::CloseHandle;
use super::reconnect::{Receiving, Reconnector, Stop, reconnector_of, show};
use super::session::Session;
use crate::codec::{FromPayload, PayloadError};
use crate::ring::{CloseReason, Consumer, Incoming, RecvError, RecvTimeoutError, TryRecvError, Violation};
use crate::wire::{BLOCK_HEADER, BlockHeader, KEY, Key, MESSAGE, Name};

/// The receiving half of a [`Client`](super::Client).
///
/// It can be moved to another thread, and has `&mut self` where it receives. When the
/// [`Caller`](super::Caller) unregisters or is dropped, it gives out what was committed before, and then
/// `Disconnected`.
///
/// Dropping it while the caller lives on gives the inbox up, for good and also for later registrations of a
/// client with [`ClientBuilder::reconnect`](super::ClientBuilder::reconnect). Whoever sends to this client is
/// told [`SendError::Gone`](super::SendError::Gone) from then on, and so is at once who waits for room. What
/// was delivered and not yet received is lost, though its senders were told `Ok`. The caller goes on as
/// before. The drop does not wait. An inbox that is leaked (`std::mem::forget`) is not given up, and fills.
///
/// # Examples
///
/// ```
/// use ringpost::{CloseReason, RecvError};
///
/// # use ringpost::{Client, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// # let mut alice = Client::register(&path, "alice")?;
/// # let bob = Client::register(&path, "bob")?;
/// alice.send(bob.key(), b"last words")?;
/// let (caller, mut inbox) = bob.split();
/// caller.unregister()?;
/// assert_eq!(inbox.recv()?.payload(), b"last words");
/// assert_eq!(inbox.recv(), Err(RecvError::Disconnected(CloseReason::Unregistered)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Inbox {
    ring: Consumer,
    session: Arc<Session>,
    /// Who sent the last message.
    last_sender: Option<(Key, Name)>,
    /// Of a client that registers again.
    reconnector: Option<Arc<Reconnector>>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Inbox", &self.session, &self.reconnector, f)
    }
}

/// A message from another client, copied out of the inbox: it is all this client's.
///
/// # Examples
///
/// ```
/// # use ringpost::{Client, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// # let mut alice = Client::register(&path, "alice")?;
/// # let mut bob = Client::register(&path, "bob")?;
/// alice.send(bob.key(), b"hello")?;
/// let message = bob.recv()?;
/// assert_eq!((message.from(), message.from_name().as_str()), (alice.key(), "alice"));
/// assert_eq!(message.payload(), b"hello");
/// // Whoever sent it gets the answer.
/// bob.send(message.from(), b"hello back")?;
/// assert_eq!(alice.recv()?.into_payload(), b"hello back");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send(bob.key(), b"hello")?;
    /// let message = bob.recv()?;
    /// bob.send(message.from(), b"hello back")?;
    /// assert_eq!(alice.recv()?.payload(), b"hello back");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from(&self) -> Key {
        self.from
    }

    /// The sender's name when it sent this.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send(bob.key(), b"hello")?;
    /// assert_eq!(bob.recv()?.from_name().as_str(), "alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_name(&self) -> &Name {
        &self.name
    }

    /// What it sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send(bob.key(), b"hello")?;
    /// assert_eq!(bob.recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What it sent, as a value: of a fixed layout, or in a `Postcard`.
    ///
    /// # Errors
    ///
    /// The bytes are not a value of this type. The message stays readable.
    pub fn read<'a, T: FromPayload<'a>>(&'a self) -> Result<T, PayloadError> {
        T::from_payload(&self.payload)
    }

    /// What it sent, to keep.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send(bob.key(), b"hello")?;
    /// let bytes: Vec<u8> = bob.recv()?.into_payload();
    /// assert_eq!(bytes, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

impl Inbox {
    pub(super) fn new(ring: Consumer, session: Arc<Session>) -> Inbox {
        Inbox { ring, session, last_sender: None, reconnector: None }
    }

    /// From now on it goes on with another channel when its own has ended.
    pub(super) fn settle(&mut self, reconnector: Arc<Reconnector>) {
        self.reconnector = Some(reconnector);
    }

    /// This client's key. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// let (_bob, mut inbox) = Client::register(&path, "bob")?.split();
    /// alice.send(inbox.key(), b"hello")?;
    /// assert_eq!(inbox.recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key(&self) -> Key {
        reconnector_of(&self.session, &self.reconnector)
            .map_or(self.session.key, |reconnector| reconnector.newest().key)
    }

    /// This client's name. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// let (_bob, mut inbox) = Client::register(&path, "bob")?.split();
    /// assert_eq!(inbox.name().as_str(), "bob");
    /// # alice.ping()?;
    /// # assert!(inbox.try_recv().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &Name {
        &self.session.name
    }

    /// A handle that ends this client's waits from another thread, and with them the registration. Does not
    /// block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// let (_bob, mut inbox) = Client::register(&path, "bob")?.split();
    /// let handle = inbox.close_handle();
    /// let waiting = std::thread::spawn(move || inbox.recv());
    /// handle.close();
    /// assert!(waiting.join().unwrap().is_err());
    /// # alice.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_handle(&self) -> CloseHandle {
        CloseHandle::new(&self.session, self.reconnector.as_ref())
    }

    /// The next message, if one is there. Does not block.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty); [`Disconnected`](TryRecvError::Disconnected) when nothing is there and
    /// nothing can come any more; [`Violation`](TryRecvError::Violation) if the server broke a rule.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::TryRecvError;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// let (_bob, mut inbox) = Client::register(&path, "bob")?.split();
    /// assert_eq!(inbox.try_recv(), Err(TryRecvError::Empty));
    /// alice.send(inbox.key(), b"hello")?; // it is there when this returns
    /// assert_eq!(inbox.try_recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        loop {
            return match self.ring.try_incoming() {
                Ok(incoming) => match read(incoming, &mut self.last_sender) {
                    Ok(message) => Ok(message),
                    Err(Malformed) => {
                        Err(TryRecvError::Violation(self.ring.reject(Violation::MalformedBlock)))
                    }
                },
                Err(TryRecvError::Disconnected(reason)) => {
                    match self.renew(reason, Reconnector::renew_inbox_now) {
                        Ok(()) => continue,
                        Err(stop) => Err(TryRecvError::Disconnected(stop.reason(reason).unwrap_or(reason))),
                    }
                }
                Err(error) => Err(error),
            };
        }
    }

    /// The next message. Those of one sender come in its order.
    ///
    /// Blocks until one is there, or the connection ends; messages committed before its end come first.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](RecvError::Disconnected) when nothing can come any more;
    /// [`Violation`](RecvError::Violation) if the server broke a rule.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// let (_bob, mut inbox) = Client::register(&path, "bob")?.split();
    /// alice.send(inbox.key(), b"hello")?;
    /// assert_eq!(inbox.recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        self.recv_until(None).map_err(RecvTimeoutError::untimed)
    }

    /// As [`recv`](Self::recv), but blocks at most this long. A time that the clock cannot hold is no limit.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv), and [`TimedOut`](RecvTimeoutError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::RecvTimeoutError;
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// let (_bob, mut inbox) = Client::register(&path, "bob")?.split();
    /// assert_eq!(inbox.recv_timeout(Duration::from_millis(5)), Err(RecvTimeoutError::TimedOut));
    /// # alice.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// As [`recv`](Self::recv), but blocks until the deadline at most.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// let (_bob, mut inbox) = Client::register(&path, "bob")?.split();
    /// alice.send(inbox.key(), b"hello")?;
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// assert_eq!(inbox.recv_deadline(deadline)?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Message, RecvTimeoutError> {
        loop {
            return match self.ring.incoming_until(deadline) {
                Ok(incoming) => match read(incoming, &mut self.last_sender) {
                    Ok(message) => Ok(message),
                    Err(Malformed) => {
                        Err(RecvTimeoutError::Violation(self.ring.reject(Violation::MalformedBlock)))
                    }
                },
                Err(RecvTimeoutError::Disconnected(reason)) => {
                    match self.renew(reason, |reconnector| reconnector.renew_inbox(deadline)) {
                        Ok(()) => continue,
                        Err(stop) => Err(stop
                            .reason(reason)
                            .map_or(RecvTimeoutError::TimedOut, RecvTimeoutError::Disconnected)),
                    }
                }
                Err(error) => Err(error),
            };
        }
    }

    /// The ring has ended, and gave out all it had: goes on with the next one, if this client registers
    /// again.
    #[cold]
    fn renew(
        &mut self,
        reason: CloseReason,
        next: impl FnOnce(&Reconnector) -> Result<Receiving, Stop>,
    ) -> Result<(), Stop> {
        match &self.reconnector {
            Some(reconnector) if reason != CloseReason::Forked => {
                (self.ring, self.session) = next(reconnector)?;
                Ok(())
            }
            _ => Err(Stop::Tell(reason)),
        }
    }
}

/// See [`Inbox`]. In a forked child nothing happens: the client is its parent's.
impl Drop for Inbox {
    fn drop(&mut self) {
        self.ring.give_up();
        if let Some(reconnector) = reconnector_of(&self.session, &self.reconnector) {
            reconnector.give_up_inbox();
        }
    }
}

struct Malformed;

/// Takes the block out of the ring and apart. The server wrote it, and it is not believed either. The next
/// message is often from the same sender, whose name was checked already.
fn read(incoming: Incoming<'_>, last_sender: &mut Option<(Key, Name)>) -> Result<Message, Malformed> {
    const PREFIX: usize = BLOCK_HEADER + KEY;
    if incoming.len() < PREFIX {
        return Err(Malformed);
    }
    let header = BlockHeader::of(&incoming).ok_or(Malformed)?;
    let mut key = [0; KEY];
    incoming.read_at(BLOCK_HEADER, &mut key);
    let key = Key::from_bytes(key);
    let name_len = usize::from(header.flags.get());
    if header.code.get() != MESSAGE || name_len > Name::MAX_LEN || incoming.len() < PREFIX + name_len {
        return Err(Malformed);
    }
    let mut name = [0; Name::MAX_LEN];
    let name = &mut name[..name_len];
    incoming.read_at(PREFIX, name);
    let name = match last_sender {
        Some((last, known)) if *last == key && known.as_bytes() == name => *known,
        _ => Name::from_bytes(name).map_err(|_| Malformed)?,
    };
    *last_sender = Some((key, name));
    let mut payload = Vec::new();
    incoming.append_to(PREFIX + name_len, &mut payload);
    incoming.release();
    Ok(Message { from: key, name, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::local;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn read_block(block: &[u8]) -> Option<Message> {
        let (mut producer, mut consumer) = local(4096).unwrap();
        producer.try_send(block).unwrap();
        read(consumer.try_incoming().unwrap(), &mut None).ok()
    }

    fn message(code: u16, name_len: u16, key: u128, name: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = BlockHeader::new(code, name_len, 7).to_word().to_ne_bytes();
        [&header[..], &Key::from_u128(key).to_bytes(), name, payload].concat()
    }

    proptest! {
        #[test]
        fn any_message_reads_back(key: u128, name in "[a-zé]{1,25}", payload in vec(any::<u8>(), 0..300)) {
            let read = read_block(&message(MESSAGE, name.len() as u16, key, name.as_bytes(), &payload)).unwrap();
            prop_assert_eq!(read, Message { from: Key::from_u128(key), name: Name::new(&name).unwrap(), payload });
        }

        /// Whatever the server writes is a message with all its parts, or refused.
        #[test]
        fn any_block_is_a_message_or_refused(
            code in prop_oneof![4 => Just(MESSAGE), 1 => any::<u16>()],
            name_len in prop_oneof![0..70u16, any::<u16>()],
            body in prop_oneof![vec(any::<u8>(), 0..120), "[a-z]{1,120}".prop_map(String::into_bytes)],
            cut in prop_oneof![4 => Just(usize::MAX), 1 => 0..24usize],
        ) {
            let mut block = message(code, name_len, 9, &body, &[]);
            block.truncate(cut);
            let name = body.get(..name_len.into()).filter(|_| cut > 24).and_then(|name| Name::from_bytes(name).ok());
            let expected = name.filter(|_| code == MESSAGE).map(|name| {
                Message { from: Key::from_u128(9), name, payload: body[name_len.into()..].to_vec() }
            });
            prop_assert_eq!(read_block(&block), expected);
        }
    }
}
