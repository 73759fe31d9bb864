//! `Inbox`: the receiving half of a client. `Message`: what it receives.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::error::RecvError;
use super::reconnect::{Receiving, Reconnector, Stop, reconnector_of, show};
use super::relay::Ticket;
use super::session::Session;
use crate::codec::{FromPayload, PayloadError};
use crate::ring::{self, Block, Consumer, Deadline, Ended, OwnPipe};
use crate::wire::{
    BLOCK_HEADER, BlockHeader, CloseReason, KEY, Key, MESSAGE, Name, RELAYED, TICKET, Violation,
};

/// The receiving half of a [`Client`](super::Client): [`Client::split`](super::Client::split).
///
/// It can be moved to another thread. After the [`Caller`](super::Caller) unregisters or is dropped, it
/// returns the messages that were delivered before, and then `Disconnected`.
///
/// Dropping the inbox while the caller lives closes it for good, also for later registrations of a client
/// with [`ClientBuilder::reconnect`](super::ClientBuilder::reconnect). From then on senders get
/// [`SendError::Gone`](super::SendError::Gone), including those that wait for room. Messages that were
/// delivered but not received are lost, although their senders got `Ok`. The caller is unaffected. The drop
/// does not block. A leaked inbox (`std::mem::forget`) is not closed: it fills.
///
/// # Examples
///
/// ```
/// use ringpost::{CloseReason, RecvError};
///
/// # let (_bus, mut alice, bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// alice.send(bob.key(), b"last words")?;
/// let (caller, mut inbox) = bob.split();
/// caller.unregister()?;
/// assert_eq!(inbox.recv()?.payload(), b"last words");
/// assert_eq!(inbox.recv(), Err(RecvError::Disconnected(CloseReason::Unregistered)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Inbox {
    pub(super) ring: Consumer,
    pub(super) session: Arc<Session>,
    /// What it waits by in an event loop, once it was asked for in this registration.
    pub(super) own: Option<OwnPipe>,
    /// The sender of the last message.
    last_sender: Option<(Key, Name)>,
    /// `Some` for a reconnecting client.
    reconnector: Option<Arc<Reconnector>>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Inbox", &self.session, &self.reconnector, f)
    }
}

/// A message from another client, copied out of the inbox.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// alice.send(bob.key(), &7_u32.to_ne_bytes())?;
/// let message = bob.recv()?;
/// assert_eq!((message.sender(), message.sender_name().as_str()), (alice.key(), "alice"));
/// assert_eq!(message.payload(), 7_u32.to_ne_bytes());
/// assert_eq!(message.read::<u32>()?, 7);
/// // The answer goes to whoever sent it.
/// bob.send(message.sender(), b"hello back")?;
/// assert_eq!(alice.recv()?.into_payload(), b"hello back");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    sender: Key,
    sender_name: Name,
    payload: Vec<u8>,
    ticket: Option<Ticket>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sender", &self.sender)
            .field("sender_name", &self.sender_name)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

impl Message {
    /// The sender's key. The server sets it, so a sender cannot pretend to be another client.
    pub fn sender(&self) -> Key {
        self.sender
    }

    /// The sender's name at the time of sending, also set by the server.
    pub fn sender_name(&self) -> &Name {
        &self.sender_name
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// By which this client, which is a [relay](super::ClientBuilder::relay), says what became of the
    /// message. `None` for every other client.
    pub fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    /// Reads the payload as a value: one of a fixed layout, or a `Postcard`. See [`codec`](crate::codec).
    ///
    /// # Errors
    ///
    /// The bytes are not a value of this type. The message stays readable.
    pub fn read<'a, T: FromPayload<'a>>(&'a self) -> Result<T, PayloadError> {
        T::from_payload(&self.payload)
    }

    /// Returns the payload, to keep it.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

impl Inbox {
    pub(super) fn new(ring: Consumer, session: Arc<Session>) -> Inbox {
        Inbox { ring, session, own: None, last_sender: None, reconnector: None }
    }

    /// Makes it continue with another channel after its own has ended.
    pub(super) fn settle(&mut self, reconnector: Arc<Reconnector>) {
        self.reconnector = Some(reconnector);
    }

    /// This client's key, to which others send. Does not block.
    pub fn key(&self) -> Key {
        reconnector_of(&self.session, &self.reconnector)
            .map_or(self.session.key, |reconnector| reconnector.newest().key)
    }

    /// Receives the next message, or returns `None` if there is none now. Never blocks.
    ///
    /// It does not register a reconnecting client again; it continues after another operation has done so.
    ///
    /// # Errors
    ///
    /// See [`RecvError`]; never [`TimedOut`](RecvError::TimedOut).
    pub fn try_recv(&mut self) -> Result<Option<Message>, RecvError> {
        loop {
            return match self.ring.next_block() {
                Ok(Some(block)) => match read(block, &mut self.last_sender) {
                    Ok(message) => Ok(Some(message)),
                    Err(Malformed) => Err(self.malformed()),
                },
                Ok(None) => Ok(None),
                Err(Ended::Fault(violation)) => Err(RecvError::Violation(violation.into())),
                Err(Ended::Closed(reason)) => {
                    let reason = reason.into();
                    match self.renew(reason, Reconnector::renew_inbox_now) {
                        Ok(()) => continue,
                        Err(stop) => Err(RecvError::Disconnected(stop.reason(reason).unwrap_or(reason))),
                    }
                }
            };
        }
    }

    /// Receives the next message. Messages of one sender arrive in order.
    ///
    /// Blocks until there is one or the connection ends. Messages that were delivered before the end come
    /// first.
    ///
    /// # Errors
    ///
    /// See [`RecvError`]; never [`TimedOut`](RecvError::TimedOut).
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Like [`recv`](Self::recv), but blocks at most until the [deadline](Deadline).
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Message, RecvError> {
        self.recv_until(deadline.into())
    }

    fn recv_until(&mut self, mut deadline: Deadline) -> Result<Message, RecvError> {
        loop {
            return match self.ring.wait_for_block(&mut deadline) {
                Ok(block) => match read(block, &mut self.last_sender) {
                    Ok(message) => Ok(message),
                    Err(Malformed) => Err(self.malformed()),
                },
                Err(ring::Stop::Deadline) => Err(RecvError::TimedOut),
                Err(ring::Stop::Fault(violation)) => Err(RecvError::Violation(violation.into())),
                Err(ring::Stop::Closed(reason)) => {
                    let reason = reason.into();
                    let until = deadline.start();
                    match self.renew(reason, |reconnector| reconnector.renew_inbox(until)) {
                        Ok(()) => continue,
                        Err(stop) => {
                            Err(stop.reason(reason).map_or(RecvError::TimedOut, RecvError::Disconnected))
                        }
                    }
                }
            };
        }
    }

    /// If the ring has ended and is empty: continues with the next one, if the other half has registered
    /// again.
    pub(super) fn go_on(&mut self) {
        if self.session.closer.reason().is_some()
            && let Err(Ended::Closed(reason)) = self.ring.try_find()
        {
            let _ = self.renew(reason.into(), Reconnector::renew_inbox_now);
        }
    }

    #[cold]
    fn malformed(&mut self) -> RecvError {
        self.ring.reject();
        RecvError::Violation(Violation::MalformedBlock)
    }

    /// Called when the ring has ended and is empty: continues with the next ring of a reconnecting client.
    #[cold]
    fn renew(
        &mut self,
        reason: CloseReason,
        next: impl FnOnce(&Reconnector) -> Result<Receiving, Stop>,
    ) -> Result<(), Stop> {
        match &self.reconnector {
            Some(reconnector) if reason != CloseReason::Forked => {
                (self.ring, self.session) = next(reconnector)?;
                self.own = None;
                Ok(())
            }
            _ => Err(Stop::Tell(reason)),
        }
    }
}

/// See [`Inbox`]. Does nothing in a forked child, where the client is the parent's.
impl Drop for Inbox {
    fn drop(&mut self) {
        self.ring.give_up();
        if let Some(reconnector) = reconnector_of(&self.session, &self.reconnector) {
            reconnector.give_up_inbox();
        }
    }
}

struct Malformed;

/// Bytes of a message before the ticket, if there is one, and the name.
const PREFIX: usize = BLOCK_HEADER + KEY;

/// Takes a block from the ring and decodes it. Every part is checked, although the server wrote it. The name
/// is not checked again if it is that of the last sender.
fn read(incoming: Block<'_>, last_sender: &mut Option<(Key, Name)>) -> Result<Message, Malformed> {
    if incoming.len() < PREFIX {
        return Err(Malformed);
    }
    let header = BlockHeader::of(&incoming).ok_or(Malformed)?;
    let mut key = [0; KEY];
    incoming.read_at(BLOCK_HEADER, &mut key);
    let key = Key::from_bytes(key);
    let name_len = usize::from(header.flags.get());
    let (ticket, prefix) = match header.code.get() {
        MESSAGE => (None, PREFIX),
        _ => (Some(read_ticket(&incoming, header)?), PREFIX + TICKET),
    };
    if name_len > Name::MAX_LEN || incoming.len() < prefix + name_len {
        return Err(Malformed);
    }
    let mut name = [0; Name::MAX_LEN];
    let name = &mut name[..name_len];
    incoming.read_at(prefix, name);
    let name = match last_sender {
        Some((last, known)) if *last == key && known.as_bytes() == name => *known,
        _ => {
            let name = Name::from_bytes(name).map_err(|_| Malformed)?;
            *last_sender = Some((key, name));
            name
        }
    };
    let mut payload = Vec::new();
    incoming.append_to(prefix + name_len, &mut payload);
    incoming.release_counted();
    Ok(Message { sender: key, sender_name: name, payload, ticket })
}

#[cold]
fn read_ticket(incoming: &Block<'_>, header: BlockHeader) -> Result<Ticket, Malformed> {
    let mut parts = [[0; 8]; 2];
    if header.code.get() != RELAYED || incoming.len() < PREFIX + TICKET {
        return Err(Malformed);
    }
    incoming.read_at(PREFIX, parts.as_flattened_mut());
    Ticket::new(parts[0], parts[1]).ok_or(Malformed)
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
        read(consumer.recv_ref().unwrap(), &mut None).ok()
    }

    fn message(code: u16, name_len: u16, key: u128, name: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = BlockHeader::new(code, name_len, 7).to_word().to_ne_bytes();
        [&header[..], &Key::from_u128(key).to_bytes(), name, payload].concat()
    }

    proptest! {
        #[test]
        fn any_message_reads_back(key: u128, name in "[a-zé]{1,25}", payload in vec(any::<u8>(), 0..300)) {
            let read = read_block(&message(MESSAGE, name.len() as u16, key, name.as_bytes(), &payload)).unwrap();
            let sender_name = Name::new(&name).unwrap();
            prop_assert_eq!(read, Message { sender: Key::from_u128(key), sender_name, payload, ticket: None });
        }

        #[test]
        fn any_message_with_a_ticket_reads_back_or_is_refused(
            number: u64, patience: u64, name in "[a-z]{1,25}", payload in vec(any::<u8>(), 0..300),
            cut in prop_oneof![4 => Just(usize::MAX), 1 => 0..60usize],
        ) {
            let rest = [&patience.to_le_bytes()[..], name.as_bytes(), &payload].concat();
            let mut block = message(RELAYED, name.len() as u16, 9, &number.to_le_bytes(), &rest);
            block.truncate(cut);
            let ticket = Ticket::new(number.to_le_bytes(), patience.to_le_bytes());
            let found = read_block(&block);
            if ticket.is_none() || block.len() < 40 + name.len() {
                prop_assert_eq!(found, None);
            } else {
                let found = found.unwrap();
                prop_assert_eq!(found.ticket(), ticket);
                prop_assert_eq!(found.payload(), &block[40 + name.len()..]);
            }
        }

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
                let payload = body[name_len.into()..].to_vec();
                Message { sender: Key::from_u128(9), sender_name: name, payload, ticket: None }
            });
            prop_assert_eq!(read_block(&block), expected);
        }
    }
}
