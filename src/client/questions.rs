//! Questions that the server answers itself: who is registered, whether it serves, what it counted.
//!
//! Asking them again does no harm, so a client that registers again repeats them by itself after a
//! reconnection.

#![forbid(unsafe_code)]

use super::ask::Calls;
use super::caller::Caller;
use super::error::{CallError, refused};
use super::reconnect::passes;
use crate::connect::listing::decode_page;
use crate::registry::{ClientInfo, Counters};
use crate::ring::Deadline;
use crate::wire::{Address, KEY, Key, Name, NameError, Operation, Status, Violation, take};

/// What the answers to these questions say. The body is that of the response that was taken last.
impl Calls {
    pub(crate) fn key_in(&mut self, status: Status) -> Result<Option<Key>, CallError> {
        match status {
            Status::Ok => match take::<KEY>(self.requester.body()) {
                Some((key, [])) => Ok(Some(Key::from_bytes(key))),
                _ => Err(self.violation(Violation::MalformedBlock)),
            },
            Status::NotFound => Ok(None),
            status => Err(refused(status, self.requester.body())),
        }
    }

    /// A page of clients, and the slot with which the next one begins.
    pub(crate) fn page_in(
        &mut self,
        status: Status,
        from_slot: u32,
    ) -> Result<(Vec<ClientInfo>, Option<u32>), CallError> {
        self.done(status)?;
        decode_page(self.requester.body(), from_slot).ok_or_else(|| self.violation(Violation::MalformedBlock))
    }

    pub(crate) fn counters_in(&mut self, status: Status) -> Result<Counters, CallError> {
        match self.page_in(status, 0)? {
            (own, None) if own.len() == 1 => Ok(own[0].counters),
            _ => Err(self.violation(Violation::MalformedBlock)),
        }
    }
}

impl Caller {
    /// The key of the client that is registered under this name now, if there is one. A key is given back as
    /// it is, whether or not anybody has it: so text that people type may be either.
    ///
    /// Blocks until the server answers, at most for
    /// [`ClientBuilder::timeout`](super::ClientBuilder::timeout). A client that registers again repeats
    /// the question after a reconnection.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; asking again does no harm.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (_bus, mut alice, bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// assert_eq!(alice.look_up("bob")?, Some(bob.key()));
    /// assert_eq!(alice.look_up("nobody")?, None);
    /// assert_eq!(alice.look_up(bob.key())?, Some(bob.key()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn look_up(
        &mut self,
        client: impl TryInto<Address, Error: Into<NameError>>,
    ) -> Result<Option<Key>, CallError> {
        match client.try_into().map_err(|error| CallError::InvalidName(error.into()))? {
            Address::Key(key) => Ok(Some(key)),
            Address::Name(name) => self.look_up_until(&name, self.timeout.into()),
        }
    }

    pub(super) fn look_up_until(
        &mut self,
        name: &Name,
        mut deadline: Deadline,
    ) -> Result<Option<Key>, CallError> {
        self.repeating(&mut deadline, |caller, deadline| caller.look_up_once(name, deadline))
    }

    pub(super) fn look_up_once(&mut self, name: &Name, deadline: Deadline) -> Result<Option<Key>, CallError> {
        let status = self.calls.ask_rarely(Operation::LookUp, [name.as_bytes()], deadline)?;
        self.calls.key_in(status)
    }

    /// Who is registered now. Clients that come or go while a long list is fetched may or may not be in it.
    ///
    /// Blocks until the server has answered, at most for
    /// [`ClientBuilder::timeout`](super::ClientBuilder::timeout). A client that registers again repeats the
    /// question after a reconnection.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; asking again does no harm.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (_bus, mut alice, bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let list = alice.list()?;
    /// assert_eq!((list[0].name.as_str(), list[0].key), ("alice", alice.key()));
    /// assert_eq!((list[1].name.as_str(), list[1].key), ("bob", bob.key()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(&mut self) -> Result<Vec<ClientInfo>, CallError> {
        let mut deadline = self.timeout.into();
        self.repeating(&mut deadline, |caller, mut deadline| {
            // One limit for all pages.
            deadline.start();
            let mut clients = Vec::new();
            let mut from_slot = 0_u32;
            loop {
                let status =
                    caller.calls.ask_rarely(Operation::List, [&from_slot.to_le_bytes()], deadline)?;
                let (page, next) = caller.calls.page_in(status, from_slot)?;
                clients.extend(page);
                match next {
                    None => return Ok(clients),
                    Some(next) => from_slot = next,
                }
            }
        })
    }

    /// Asks the server whether it serves. The service is not involved.
    ///
    /// Blocks until the server answers, at most for
    /// [`ClientBuilder::timeout`](super::ClientBuilder::timeout). A client that registers again repeats
    /// the question after a reconnection.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`TimedOut`](CallError::TimedOut) if the server is stopped, or still busy with an
    /// earlier request of this client.
    pub fn ping(&mut self) -> Result<(), CallError> {
        let mut deadline = self.timeout.into();
        self.repeating(&mut deadline, |caller, deadline| {
            let status = caller.calls.ask_rarely::<0>(Operation::Ping, [], deadline)?;
            caller.calls.done(status)
        })
    }

    /// What the server counted for this client, since it was registered last. Blocks as [`ping`](Self::ping)
    /// does.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; asking again does no harm.
    pub fn statistics(&mut self) -> Result<Counters, CallError> {
        let mut deadline = self.timeout.into();
        self.repeating(&mut deadline, |caller, deadline| {
            let status = caller.calls.ask_rarely::<0>(Operation::Statistics, [], deadline)?;
            caller.calls.counters_in(status)
        })
    }

    /// Asks a question, and once more whenever the connection ended and this client registers again. The next
    /// request does so; after the deadline that fails.
    pub(super) fn repeating<T>(
        &mut self,
        deadline: &mut Deadline,
        mut ask: impl FnMut(&mut Caller, Deadline) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        if self.calls.registration().reconnector.is_some() {
            // One limit for all attempts.
            deadline.start();
        }
        loop {
            match ask(self, *deadline) {
                Err(CallError::Disconnected(reason) | CallError::NotSent(reason))
                    if self.calls.registration().reconnector.is_some() && passes(reason) => {}
                answered => return answered,
            }
        }
    }
}
