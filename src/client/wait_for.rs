//! Waiting for another client to register.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::caller::Caller;
use super::error::{CallError, no_response};
use super::topics::{Change, Presence, SampleError, Subscriber};
use crate::ring::Deadline;
use crate::shm::backend::now;
use crate::wire::{Address, Key, Name, NameError};

/// The pauses between two questions, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Behind a pause of this length a presence costs less than further questions.
const LAST_BEFORE_PRESENCE: Duration = Duration::from_millis(8);

/// How long to wait for a change before the client's registration is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Caller {
    /// Waits until a client with this name is registered, and gives its key. A key is given back as it is.
    ///
    /// Blocks until then, at most until the limit (a [`Deadline`]; `None` is no limit). It asks the server a
    /// few times, and then waits for it by a [presence](super::Client::presence). Where the server gives it
    /// none, it asks again and again, after pauses of 50 ms at most.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`TimedOut`](CallError::TimedOut) if there was no such client before the limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Client;
    /// use std::time::Duration;
    ///
    /// # let ((_server, path), mut alice) =
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
    /// let path = path.to_path_buf();
    /// let later = std::thread::spawn(move || Client::register(path, "bob"));
    /// let bob = alice.wait_for("bob", Duration::from_secs(30))?;
    /// assert_eq!(later.join().unwrap()?.key(), bob);
    /// assert!(alice.wait_for("carol", Duration::from_millis(5)).unwrap_err().is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for(
        &mut self,
        client: impl TryInto<Address, Error: Into<NameError>>,
        limit: impl Into<Deadline>,
    ) -> Result<Key, CallError> {
        match client.try_into().map_err(|error| CallError::InvalidName(error.into()))? {
            Address::Key(key) => Ok(key),
            Address::Name(name) => self.wait_for_name(&name, limit.into()),
        }
    }

    fn wait_for_name(&mut self, name: &Name, mut deadline: Deadline) -> Result<Key, CallError> {
        let until = deadline.start();
        let (mut pause, mut asks_for_presence) = (FIRST_PAUSE, true);
        self.repeating(&mut deadline, |caller, deadline| {
            loop {
                if let Some(key) = caller.look_up_once(name, deadline)? {
                    return Ok(key);
                }
                let now = now();
                if until.is_some_and(|until| until <= now) {
                    return Err(CallError::TimedOut);
                }
                if pause > LAST_BEFORE_PRESENCE && std::mem::take(&mut asks_for_presence) {
                    if let Some(key) = caller.wait_by_presence(name, until) {
                        return Ok(key);
                    }
                    continue;
                }
                let again = until.map_or(now + pause, |until| until.min(now + pause));
                pause = LONGEST_PAUSE.min(2 * pause);
                // Nothing comes but responses to calls that were submitted before, and the end.
                if let Err(stop) = caller.calls.requester.keep_until(again) {
                    let error = no_response(stop);
                    caller.calls.ended(&error, false);
                    return Err(error);
                }
            }
        })
    }

    /// Waits until somebody of this name is there. `None` if it is to be asked again: the time is over, the
    /// registration has ended, or there is no presence.
    fn wait_by_presence(&mut self, name: &Name, until: Option<Instant>) -> Option<Key> {
        let left = until.map_or(self.timeout, |until| until.saturating_duration_since(Instant::now()));
        let options = Subscriber::options().timeout(self.timeout.min(left));
        let mut presence = Presence::begin(self, &options).ok()?;
        loop {
            let look = Instant::now() + LOOK;
            match presence.recv_timeout(until.map_or(look, |until| until.min(look))) {
                Ok(Change::Present(peer) | Change::Appeared(peer)) if peer.name == *name => {
                    return Some(peer.key);
                }
                Ok(_) => {}
                Err(SampleError::TimedOut) if until.is_none_or(|until| Instant::now() < until) => {
                    self.session().closer.reason().is_none().then_some(())?;
                }
                Err(_) => return None,
            }
        }
    }
}
