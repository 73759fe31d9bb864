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

impl Responder {
    /// The next request, if one is there. A call is to be answered before the next request is taken. Behind
    /// the caller's end, at most one ring of what it posted.
    ///
    /// # Errors
    ///
    /// How the link has ended.
    pub(crate) fn take(&mut self) -> Result<Option<Given>, Result<CloseReason, Violation>> {
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
                Taken::Other(header) => {
                    // If that fails, the next look tells.
                    let _ = self.responder.answer(header.sequence.get(), Status::UnknownOperation, UNKNOWN);
                    continue;
                }
            };
            return Ok(Some(Given { payload: self.responder.body().to_vec(), sequence }));
        }
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
