//! The operations that send a request: over any channel, and those of a server.

use std::future::poll_fn;
use std::time::Duration;

use super::asynchronous::Async;
use super::runtime::{MOST_TURNS, poll_until};
use super::waits::{Asks, AsksServer};
use crate::client::{CallError, Link, SendError, Ticket, confirmation};
use crate::codec::{Payload, Reply};
use crate::registry::{ClientInfo, Counters};
use crate::wire::{Address, KEY, Key, Name, NameError, Operation, Status, WAITS};

/// How long the server waits for room on behalf of a [`send`](Async::send), the first time and at most. A
/// future that is dropped leaves the server waiting, and this client's next request behind it.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);
const MOST_PATIENCE: Duration = Duration::from_secs(1);

/// A request that was encoded.
enum Begun {
    /// It was published under this number.
    Sent(u32),
    /// It is to be published.
    Kept(Vec<u8>),
}

/// A request whose response is awaited. If nobody does any more, that is discarded.
struct Awaited<'a, T: Asks> {
    end: &'a mut T,
    sequence: u32,
    answered: bool,
}

impl<T: Asks> Drop for Awaited<'_, T> {
    fn drop(&mut self) {
        if !self.answered {
            let calls = self.end.calls();
            calls.wake();
            calls.abandon(self.sequence);
        }
    }
}

impl<T: Asks> Async<T> {
    /// Calls the service and waits for its response, which stays readable until the next operation: as
    /// [`Caller::call`](crate::Caller::call) and [`Link::call`](crate::Link::call).
    ///
    /// Dropped before its end, the call was sent wholly or not at all. If it was, it may be executed, and its
    /// response is discarded.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn call(&mut self, request: impl Payload) -> Result<Reply<'_>, CallError> {
        let sequence = match self.encode(request)? {
            Begun::Sent(sequence) => sequence,
            Begun::Kept(bytes) => self.publish(Operation::Call, 0, &bytes).await?,
        };
        let status = self.answered(sequence).await?;
        self.end.calls().replied(status)
    }

    /// Sends a call without waiting for its response, which [`response`](Self::response) collects: as
    /// [`Caller::submit`](crate::Caller::submit) and [`Link::submit`](crate::Link::submit). Waits only for
    /// room in the ring.
    ///
    /// Dropped before its end, the call was not sent.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        match self.encode(request)? {
            Begun::Sent(_) => self.turns += 1,
            Begun::Kept(bytes) => _ = self.publish(Operation::Call, 0, &bytes).await?,
        }
        self.end.calls().wake();
        Ok(())
    }

    /// Waits for the response to the oldest submitted call: as
    /// [`Caller::response`](crate::Caller::response) and [`Link::response`](crate::Link::response).
    ///
    /// Dropped before its end, the response is still outstanding.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn response(&mut self) -> Result<Reply<'_>, CallError> {
        let Async { end, watch, turns, .. } = &mut *self;
        let status = poll_fn(|cx| {
            poll_until(cx, watch, turns, end, |end| end.calls().look_for_oldest(), T::arm_calls)
        });
        let status = status.await?;
        self.end.calls().replied(status)
    }

    /// Encodes a call, and publishes it if there is room and it is this task's turn.
    fn encode(&mut self, request: impl Payload) -> Result<Begun, CallError> {
        let (calls, due) = (self.end.calls(), self.turns >= MOST_TURNS);
        request.encode(calls.limits.max_call, |bytes| {
            if !due && let Some(sequence) = calls.begin(Operation::Call, 0, [bytes])? {
                return Ok(Begun::Sent(sequence));
            }
            Ok(Begun::Kept(bytes.to_vec()))
        })?
    }

    /// Publishes a request when there is room.
    async fn publish(&mut self, operation: Operation, flags: u16, body: &[u8]) -> Result<u32, CallError> {
        let Async { end, watch, turns, .. } = self;
        let begin = |end: &mut T| end.calls().begin(operation, flags, [body]);
        poll_fn(|cx| poll_until(cx, watch, turns, end, begin, T::arm_calls)).await
    }

    /// Waits for the response to the request that was published last.
    async fn answered(&mut self, sequence: u32) -> Result<Status, CallError> {
        let Async { end, watch, turns, .. } = self;
        let mut awaited = Awaited { end, sequence, answered: false };
        let look = |end: &mut T| end.calls().look_for(sequence);
        let status =
            poll_fn(|cx| poll_until(cx, watch, turns, &mut *awaited.end, look, T::arm_calls)).await?;
        awaited.answered = true;
        Ok(status)
    }

    /// One request and its response.
    pub(super) async fn ask(
        &mut self,
        operation: Operation,
        flags: u16,
        body: &[u8],
    ) -> Result<Status, CallError> {
        let sequence = self.publish(operation, flags, body).await?;
        self.answered(sequence).await
    }
}

impl Async<Link> {
    /// Sends one way: as [`Link::post`]. Waits only for room in the ring.
    ///
    /// Dropped before its end, nothing was sent.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn post(&mut self, message: impl Payload) -> Result<(), CallError> {
        let (calls, due) = (self.end.calls(), self.turns >= MOST_TURNS);
        let kept = message.encode(calls.limits.max_call, |bytes| {
            let sent = !due && calls.begin_post(bytes)?.is_some();
            Ok::<_, CallError>((!sent).then(|| bytes.to_vec()))
        })??;
        let Some(bytes) = kept else {
            self.turns += 1;
            return Ok(());
        };
        let Async { end, watch, turns, .. } = self;
        let begin = |end: &mut Link| end.calls().begin_post(&bytes);
        poll_fn(|cx| poll_until(cx, watch, turns, end, begin, Link::arm_calls)).await
    }
}

impl<T: AsksServer> Async<T> {
    /// Sends a message to another client, and waits for room in its inbox: as
    /// [`Caller::send`](crate::Caller::send).
    ///
    /// Dropped before its end, the message was sent wholly or not at all, and may be delivered. If the
    /// receiver's inbox is full, the server goes on waiting for room on behalf of this client, and answers
    /// its next request only then: not longer than this future had waited, or 50 ms, and at most for a
    /// second. A future that waits longer asks again after each second, behind those that wait, too. To a
    /// relay, the server waits for at most 5 s more, until it is known what became of the message.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub async fn send(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
        message: impl Payload,
    ) -> Result<(), SendError> {
        let to = to.try_into().map_err(|error| SendError::InvalidName(error.into()))?;
        let max = self.end.calls().limits.max_message;
        let body = message.encode(max, |bytes| {
            let fits = bytes.len() <= max;
            fits.then(|| [&[0; KEY + 8], bytes].concat()).ok_or(SendError::TooLarge { len: bytes.len(), max })
        })??;
        self.send_body(to, body).await
    }

    async fn send_body(&mut self, to: Address, mut body: Vec<u8>) -> Result<(), SendError> {
        let key = match to {
            Address::Key(key) => Some(key),
            Address::Name(name) => self.key_of(name).await.map_err(SendError::of_look_up)?,
        };
        body[..KEY].copy_from_slice(&key.ok_or(SendError::NotFound)?.to_bytes());
        let mut patience = FIRST_PATIENCE;
        loop {
            body[KEY..KEY + 8].copy_from_slice(&(patience.as_nanos() as u64).to_le_bytes());
            match self.ask(Operation::Send, WAITS, &body).await? {
                Status::TimedOut => patience = MOST_PATIENCE.min(2 * patience),
                status => return self.end.as_caller().sent(status),
            }
        }
    }

    /// Says what became of a message that this client received as a relay: as
    /// [`Caller::confirm`](crate::Caller::confirm).
    ///
    /// Dropped before its end, it may have been said.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn confirm(
        &mut self,
        ticket: Ticket,
        outcome: Result<(), SendError>,
    ) -> Result<bool, CallError> {
        let status = self.ask(Operation::Confirm, 0, &confirmation(ticket, &outcome)).await?;
        self.end.as_caller().confirmed(status)
    }

    /// The key of the client that is registered under this name, if there is one: as
    /// [`Caller::look_up`](crate::Caller::look_up).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn look_up(
        &mut self,
        client: impl TryInto<Address, Error: Into<NameError>>,
    ) -> Result<Option<Key>, CallError> {
        match client.try_into().map_err(|error| CallError::InvalidName(error.into()))? {
            Address::Key(key) => Ok(Some(key)),
            Address::Name(name) => self.key_of(name).await,
        }
    }

    async fn key_of(&mut self, name: Name) -> Result<Option<Key>, CallError> {
        let status = self.ask(Operation::LookUp, 0, name.as_bytes()).await?;
        self.end.calls().key_in(status)
    }

    /// Who is registered now: as [`Caller::list`](crate::Caller::list).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn list(&mut self) -> Result<Vec<ClientInfo>, CallError> {
        let (mut clients, mut next) = (Vec::new(), Some(0_u32));
        while let Some(from_slot) = next {
            let status = self.ask(Operation::List, 0, &from_slot.to_le_bytes()).await?;
            let page;
            (page, next) = self.end.calls().page_in(status, from_slot)?;
            clients.extend(page);
        }
        Ok(clients)
    }

    /// Asks the server whether it serves: as [`Caller::ping`](crate::Caller::ping).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn ping(&mut self) -> Result<(), CallError> {
        let status = self.ask(Operation::Ping, 0, &[]).await?;
        self.end.calls().done(status)
    }

    /// What the server counted for this client: as [`Caller::statistics`](crate::Caller::statistics).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn statistics(&mut self) -> Result<Counters, CallError> {
        let status = self.ask(Operation::Statistics, 0, &[]).await?;
        self.end.calls().counters_in(status)
    }

    /// Leaves the bus. When this returns `Ok`, the name is free: as
    /// [`Caller::unregister`](crate::Caller::unregister).
    ///
    /// To drop a client that is registered blocks for a moment; after this it does not. Dropped before its
    /// end, the registration ends all the same, and it is not known when the name becomes free.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn unregister(mut self) -> Result<(), CallError> {
        self.end.as_caller().begin_to_leave();
        let status = self.ask(Operation::Unregister, 0, &[]).await?;
        self.end.as_caller().has_left(status)
    }
}
