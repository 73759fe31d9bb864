//! What all operations of a caller share: one request, its response, and a new channel when the old one
//! ended.

#![forbid(unsafe_code)]

use super::caller::Caller;
use super::error::{CallError, no_response, refused};
use super::reconnect::Half;
use crate::link::NoRoom;
use crate::ring::{Deadline, NotSent};
use crate::wire::{BLOCK_HEADER, CloseReason, Operation, Status, Violation};

impl Caller {
    /// One request and its response, whose body the requester then has.
    // Always: with its result in memory, a call takes 23 instructions more. The limit is borrowed because
    // most requests never look at it.
    #[inline(always)]
    pub(super) fn ask<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: &mut Deadline,
    ) -> Result<Status, CallError> {
        let sequence = match self.requester.try_publish(operation, flags, body) {
            Ok(sequence) => sequence,
            // A copy of the body, so that the body itself need not lie in memory for the usual case.
            Err(error) => self.publish_after(error, operation, flags, body.map(|part| part), deadline)?,
        };
        self.await_response(sequence, deadline)
    }

    /// The same, not inlined: for requests of which there are few.
    #[inline(never)]
    pub(super) fn ask_rarely<const N: usize>(
        &mut self,
        operation: Operation,
        body: [&[u8]; N],
        mut deadline: Deadline,
    ) -> Result<Status, CallError> {
        self.ask(operation, 0, body, &mut deadline)
    }

    /// The response to the request that was published last.
    #[inline(always)]
    pub(super) fn await_response(
        &mut self,
        sequence: u32,
        deadline: &mut Deadline,
    ) -> Result<Status, CallError> {
        match self.requester.await_response(sequence, deadline, no_response) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.ended(&error, false);
                Err(error)
            }
        }
    }

    /// After a first attempt that failed: waits for room, or for another channel if that is what was missing,
    /// and sends the request.
    #[cold]
    pub(super) fn publish_after<const N: usize>(
        &mut self,
        mut error: NotSent,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: &mut Deadline,
    ) -> Result<u32, CallError> {
        loop {
            self.clear_the_way(error, deadline)?;
            match self.requester.try_publish(operation, flags, body) {
                Ok(sequence) => return Ok(sequence),
                Err(again) => error = again,
            }
        }
    }

    /// Does what it takes to try once more to send a request, if anything can be done.
    #[cold]
    pub(super) fn clear_the_way(&mut self, error: NotSent, deadline: &mut Deadline) -> Result<(), CallError> {
        match error {
            NotSent::Full => match self.requester.make_room(deadline) {
                Ok(()) => Ok(()),
                Err(NoRoom::Uncollected { most }) => Err(CallError::Uncollected { most }),
                Err(NoRoom::Stopped(stop)) => {
                    let error = no_response(stop);
                    self.ended(&error, false);
                    Err(error)
                }
            },
            NotSent::Closed(reason) => self.renew(reason.into(), deadline),
            error => Err(unsendable(error)),
        }
    }

    /// The channel has ended, and a request was not sent: goes on with another one if this client registers
    /// again.
    #[cold]
    fn renew(&mut self, reason: CloseReason, deadline: &mut Deadline) -> Result<(), CallError> {
        match &self.reconnector {
            Some(reconnector) if reason != CloseReason::Forked => {
                match reconnector.renew_caller(false, deadline.start()) {
                    Ok(asking) => {
                        self.install(asking);
                        Ok(())
                    }
                    Err(stop) => Err(stop.reason(reason).map_or(CallError::TimedOut, CallError::NotSent)),
                }
            }
            _ => Err(CallError::NotSent(reason)),
        }
    }

    /// The same without waiting: goes on with another channel only if the other half has made one.
    #[cold]
    pub(super) fn renew_now(&mut self, reason: CloseReason) -> Result<(), CallError> {
        match &self.reconnector {
            Some(reconnector) if reason != CloseReason::Forked => match reconnector.renew_caller_now() {
                Ok(asking) => {
                    self.install(asking);
                    Ok(())
                }
                Err(stop) => Err(CallError::NotSent(stop.reason(reason).unwrap_or(reason))),
            },
            _ => Err(CallError::NotSent(reason)),
        }
    }

    /// A wait for a response failed. If this client registers again and has lost its channel, the outstanding
    /// calls end, too; `collecting` is for a wait for the oldest of them, which this error reports already.
    #[cold]
    pub(super) fn ended(&mut self, error: &CallError, collecting: bool) {
        if let CallError::Disconnected(reason) = *error
            && reason != CloseReason::Forked
            && let Some(reconnector) = &self.reconnector
        {
            self.requester.end_outstanding(reason);
            if collecting {
                let _ = self.requester.take_kept();
            }
            // Last, because this runs the user's code, which may panic.
            reconnector.tell(Half::Caller, &self.session, reason);
        }
    }

    /// The result of a request that has none but its status.
    pub(super) fn done(&self, status: Status) -> Result<(), CallError> {
        match status {
            Status::Ok => Ok(()),
            status => Err(refused(status, self.requester.body())),
        }
    }

    #[cold]
    pub(super) fn violation(&mut self, violation: Violation) -> CallError {
        self.requester.reject();
        CallError::Violation(violation)
    }
}

/// Why a request cannot be sent, now or at all.
#[cold]
pub(super) fn unsendable(error: NotSent) -> CallError {
    match error {
        NotSent::Full => CallError::Full,
        NotSent::TooLarge { len, max } => {
            CallError::TooLarge { len: len - BLOCK_HEADER, max: max - BLOCK_HEADER }
        }
        NotSent::Closed(reason) => CallError::NotSent(reason.into()),
        NotSent::Fault(violation) => CallError::Violation(violation.into()),
    }
}
