//! Serving in steps: a request is taken now, and answered later.

use super::{End, Responder, is_post};
use crate::link::ServiceError;
use crate::wire::{BlockHeader, Operation, Status, beginning};

/// A request that was taken; its body is [`Responder::body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A call, to be [answered](Responder::answer) under this number.
    Call(u32),
    /// It gets no response.
    Post,
    Other(BlockHeader),
}

impl Responder {
    /// Takes the next request if it is there, for a handler that answers later: with
    /// [`answer`](Self::answer), before the next one is taken. Does not block.
    pub(crate) fn take_request(&mut self) -> Result<Option<Taken>, End> {
        if !self.send_unsent()? {
            return Ok(None);
        }
        let Some(found) = self.requests.try_find().map_err(End::from)? else { return Ok(None) };
        let taken = self.take(found, |_, header, _| {
            Ok(Some(match header.code.get() {
                code if code == Operation::Call as u16 => Taken::Call(header.sequence.get()),
                _ if is_post(&header) => Taken::Post,
                _ => Taken::Other(header),
            }))
        })?;
        self.notify();
        Ok(taken)
    }

    /// Answers a call that was taken, as [`answer`](Self::answer) does, with what a service returns.
    pub(crate) fn answer_call(
        &mut self,
        sequence: u32,
        answer: Result<&[u8], ServiceError>,
    ) -> Result<(), End> {
        let max = self.max_body();
        let error = match answer {
            Ok(body) if body.len() <= max => return self.answer(sequence, Status::Ok, body),
            Ok(_) => ServiceError::too_large(max),
            Err(error) => error,
        };
        let (status, text) = error.into_parts();
        self.answer(sequence, status, beginning(&text, max).as_bytes())
    }
}
