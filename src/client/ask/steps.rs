//! The operations in steps that do not wait, for futures: begin a request, look for its response.
//!
//! None of them registers again: a future belongs to one registration.

use super::{Calls, unsendable};
use crate::client::error::no_response;
use crate::client::{CallError, Caller};
use crate::codec::Reply;
use crate::link::{NoRoom, Stop};
use crate::ring::NotSent;
use crate::wire::{Operation, Status};

impl Caller {
    pub(crate) fn own_calls(&mut self) -> &mut Calls {
        &mut self.calls
    }
}

impl Calls {
    /// Publishes a request and returns its number, if there is room for it now. The peer may still have to be
    /// woken: by a look for the response, or by [`wake`](Self::wake).
    pub(crate) fn begin<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
    ) -> Result<Option<u32>, CallError> {
        let published = self.requester.try_publish(operation, flags, body);
        self.or_no_room(published, body.iter().map(|part| part.len()).sum())
    }

    /// The same for a request that gets no response. It wakes the peer.
    pub(crate) fn begin_post(&mut self, message: &[u8]) -> Result<Option<()>, CallError> {
        let posted = self.requester.try_post(message);
        self.or_no_room(posted, message.len())
    }

    /// Without room, the responses that are there are kept: the peer may wait for their place.
    fn or_no_room<T>(&mut self, published: Result<T, NotSent>, len: usize) -> Result<Option<T>, CallError> {
        let error = match published {
            Ok(published) => {
                self.wanted = None;
                return Ok(Some(published));
            }
            Err(NotSent::Full) => match self.requester.keep_arrived() {
                Ok(()) => {
                    self.wanted = Some(len);
                    return Ok(None);
                }
                Err(NoRoom::Uncollected { most }) => CallError::Uncollected { most },
                Err(NoRoom::Stopped(stop)) => self.stopped(stop, false),
            },
            Err(error) => unsendable(error),
        };
        self.wanted = None;
        Err(error)
    }

    /// Wakes the peer if it sleeps and was not told of every request.
    pub(crate) fn wake(&mut self) {
        self.wake_peer();
    }

    /// The response to this request, if it is there or comes within a few looks.
    pub(crate) fn look_for(&mut self, sequence: u32) -> Result<Option<Status>, CallError> {
        self.requester.try_await(sequence).map_err(|stop| {
            self.requester.abandon(sequence);
            self.stopped(stop, false)
        })
    }

    /// The response to the oldest submitted call, if it is there.
    pub(crate) fn look_for_oldest(&mut self) -> Result<Option<Status>, CallError> {
        if let Some(status) = self.kept_response()? {
            return Ok(Some(status));
        }
        self.requester.try_receive().map_err(|stop| self.stopped(stop, true))
    }

    /// Nobody waits for this response any more.
    pub(crate) fn abandon(&mut self, sequence: u32) {
        self.requester.abandon(sequence);
    }

    /// What a call returns whose response was taken just now.
    pub(crate) fn replied(&mut self, status: Status) -> Result<Reply<'_>, CallError> {
        self.reply(status)
    }

    fn stopped(&mut self, stop: Stop, collecting: bool) -> CallError {
        let error = no_response(stop);
        self.ended(&error, collecting);
        error
    }
}
