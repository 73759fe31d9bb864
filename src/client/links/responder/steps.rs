//! Serving in steps that do not wait, for a service that awaits.

use super::{Responder, UNKNOWN};
use crate::link::{End, ServiceError, Taken};
use crate::wire::{CloseReason, Status, Violation};

/// A request that was taken.
pub(crate) struct Given {
    pub(crate) payload: Vec<u8>,
    /// Under which number it is [answered](Responder::answer); a post is not.
    pub(crate) sequence: Option<u32>,
}

/// What is to be answered next.
pub(crate) enum Next {
    Given(Given),
    /// What this version does not know: [`answer_unknown`](Responder::answer_unknown).
    Unknown(u32),
}

impl Responder {
    /// The next request, if one is there. A call is to be answered before the next request is taken. Behind
    /// the caller's end, at most one ring of what it posted.
    ///
    /// # Errors
    ///
    /// How the link has ended.
    pub(crate) fn take(&mut self) -> Result<Option<Given>, Result<CloseReason, Violation>> {
        loop {
            match self.take_next()? {
                Some(Next::Given(given)) => return Ok(Some(given)),
                Some(Next::Unknown(sequence)) => self.answer_unknown(sequence),
                None => return Ok(None),
            }
        }
    }

    /// The same, for requests that are answered later, in their order.
    pub(crate) fn take_next(&mut self) -> Result<Option<Next>, Result<CloseReason, Violation>> {
        if let Some(ended) = self.ended {
            return Err(ended);
        }
        loop {
            let taken = self.responder.take_request().or_else(|end| match end {
                // Of a response that nobody reads any more; there may be posts.
                End::Closed(_) => self.responder.take_request(),
                end => Err(end),
            });
            let taken = match taken {
                Ok(Some(taken)) => taken,
                Ok(None) => return Ok(None),
                Err(end) => return Err(self.over(end)),
            };
            let closed = self.end.reason();
            if let Some(reason) = closed {
                if self.most_left == 0 || self.end.open.was_closed_here() {
                    return Err(self.over(End::Closed(reason)));
                }
                self.most_left -= 1;
            }
            let sequence = match taken {
                Taken::Call(sequence) if closed.is_none() => Some(sequence),
                Taken::Post => None,
                // Nobody reads an answer.
                Taken::Call(_) => continue,
                Taken::Other(header) => return Ok(Some(Next::Unknown(header.sequence.get()))),
            };
            return Ok(Some(Next::Given(Given { payload: self.responder.body().to_vec(), sequence })));
        }
    }

    /// Whether no answer waits for room, or none is needed any more. Sends one that waits, if there is room
    /// now.
    pub(crate) fn has_sent(&mut self) -> bool {
        // If the link has ended, the next look tells.
        self.responder.send_unsent().unwrap_or(true)
    }

    /// Answers what this version does not know.
    pub(crate) fn answer_unknown(&mut self, sequence: u32) {
        let _ = self.responder.answer(sequence, Status::UnknownOperation, UNKNOWN);
    }

    /// Ends the link; no post is left.
    fn over(&mut self, end: End) -> Result<CloseReason, Violation> {
        self.most_left = 0;
        self.end_by(end, &mut |_, _| Ok(()))
    }

    /// Answers a call that was taken. If the link has ended, the next look tells.
    pub(crate) fn answer(&mut self, sequence: u32, answer: Result<&[u8], ServiceError>) {
        let _ = self.responder.answer_call(sequence, answer);
    }

    /// Closes the link for this reason, and returns the one for which it was closed.
    pub(crate) fn end_as(&mut self, reason: CloseReason) -> CloseReason {
        self.end.close(reason);
        self.end.reason().unwrap_or(reason)
    }
}
