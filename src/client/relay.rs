//! `Ticket`: what a relay gets with a message. `Caller::confirm`: by which it says what became of that.

#![forbid(unsafe_code)]

use std::num::NonZeroU64;
use std::time::Duration;

use super::caller::Caller;
use super::error::{CallError, SendError, refused};
use crate::ring::Deadline;
use crate::wire::{LONGEST_REFUSAL, Operation, Status, beginning};

/// By which a relay says what became of a message: [`Caller::confirm`]. Given by
/// [`Message::ticket`](crate::Message::ticket).
///
/// The sender waits until the relay has confirmed the ticket, and so do its next requests. It is told
/// [`Unconfirmed`](SendError::Unconfirmed) if the relay ends before, or has not confirmed within the limit:
/// the sender's own, or 5 s after the message was put into the relay's inbox if it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    number: NonZeroU64,
    patience: u64,
}

impl Ticket {
    pub(crate) fn new(number: [u8; 8], patience: [u8; 8]) -> Option<Ticket> {
        let number = NonZeroU64::new(u64::from_le_bytes(number))?;
        Some(Ticket { number, patience: u64::from_le_bytes(patience) })
    }

    /// How long the sender waits for room in the inbox in which the message is to lie, from the moment on at
    /// which it was put into the relay's. Zero for [`try_send`](Caller::try_send), and never more than 5 s
    /// for a sender without a limit.
    ///
    /// A sender with a limit is told nothing after that: take off what the way back needs.
    pub fn patience(&self) -> Duration {
        Duration::from_nanos(self.patience)
    }
}

impl Caller {
    /// Says what became of a message that this client received as a [relay](crate::ClientBuilder::relay):
    /// `Ok` if it lies in the inbox for which it is meant, or the error with which a relay further on failed
    /// to send it there. The sender gets that: of an error after which the message may have been delivered,
    /// [`Unconfirmed`](SendError::Unconfirmed), and of a text at most 1,024 bytes.
    ///
    /// Returns whether the sender hears it. It does not if it waits no longer, if this was said before, or if
    /// the ticket is not one of this registration; then nothing happens.
    ///
    /// Blocks until the server has answered, which it does at once: after the requests that were submitted
    /// before. Do not let it wait behind a [`send`](Self::send) for which there is no room.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn confirm(&mut self, ticket: Ticket, outcome: Result<(), SendError>) -> Result<bool, CallError> {
        let body = confirmation(ticket, &outcome);
        let status = self.calls.ask_rarely(Operation::Confirm, [&body], Deadline::from(self.timeout))?;
        self.confirmed(status)
    }

    /// What the server answers to a confirmation.
    pub(crate) fn confirmed(&self, status: Status) -> Result<bool, CallError> {
        match status {
            Status::Ok => Ok(true),
            Status::NotFound => Ok(false),
            status => Err(refused(status, self.calls.requester.body())),
        }
    }
}

/// The body of a confirmation.
pub(crate) fn confirmation(ticket: Ticket, outcome: &Result<(), SendError>) -> Vec<u8> {
    let (status, text) = match outcome {
        Ok(()) => (Status::Ok, Vec::new()),
        Err(error) => in_parts(error),
    };
    [&ticket.number.get().to_le_bytes()[..], &(status as u16).to_le_bytes(), &text].concat()
}

/// The status and the text by which a sender is told of an error that another one met.
fn in_parts(error: &SendError) -> (Status, Vec<u8>) {
    let status = match error {
        _ if error.may_have_executed() => Status::Unconfirmed,
        SendError::NotFound | SendError::InvalidName(_) => Status::NotFound,
        SendError::InboxFull => Status::InboxFull,
        SendError::TimedOut => Status::TimedOut,
        SendError::Gone => Status::Gone,
        SendError::TooLarge { len, max } => {
            let text = [*len as u64, *max as u64].map(u64::to_le_bytes).concat();
            return (Status::TooLarge, text);
        }
        SendError::NotAllowed(why) => return (Status::NotAllowed, cut(why)),
        SendError::Server(why) => return (Status::Internal, cut(why)),
        other => return (Status::Internal, cut(&other.to_string())),
    };
    (status, Vec::new())
}

fn cut(text: &str) -> Vec<u8> {
    beginning(text, LONGEST_REFUSAL).as_bytes().to_vec()
}

/// What a sender is told whose message is too large for the inbox in which it is to lie.
pub(super) fn too_large(body: &[u8]) -> Option<SendError> {
    let (sizes, []) = body.as_chunks::<8>() else { return None };
    let [len, max] = <[[u8; 8]; 2]>::try_from(sizes).ok()?.map(u64::from_le_bytes);
    Some(SendError::TooLarge { len: usize::try_from(len).ok()?, max: usize::try_from(max).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::CloseReason;

    /// What a sender is told is what the relay was told, or less.
    #[test]
    fn an_error_is_told_as_it_is_or_as_not_known() {
        let ticket = Ticket::new(7_u64.to_le_bytes(), [0; 8]).unwrap();
        assert_eq!(confirmation(ticket, &Ok(())), [7, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let long = "é".repeat(600);
        for (error, status, text) in [
            (SendError::NotFound, Status::NotFound, &b""[..]),
            (SendError::InboxFull, Status::InboxFull, b""),
            (SendError::NoAnswer, Status::Unconfirmed, b""),
            (SendError::Unconfirmed, Status::Unconfirmed, b""),
            (SendError::Disconnected(CloseReason::Died), Status::Unconfirmed, b""),
            (SendError::NotAllowed("no".into()), Status::NotAllowed, b"no"),
            (SendError::Server(long.clone()), Status::Internal, &long.as_bytes()[..1024]),
            (SendError::ShuttingDown, Status::Internal, SendError::ShuttingDown.to_string().as_bytes()),
        ] {
            assert_eq!(in_parts(&error), (status, text.to_vec()), "{error:?}");
        }
        let error = SendError::TooLarge { len: 9, max: 8 };
        assert_eq!(too_large(&in_parts(&error).1), Some(error));
        assert_eq!(too_large(b"too large"), None);
        assert_eq!(Ticket::new([0; 8], [1; 8]), None);
    }
}
