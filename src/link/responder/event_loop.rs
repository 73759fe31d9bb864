//! Serving in an event loop, where nothing may wait: neither for a request, nor for a slot, nor for room.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{End, Handler, Responder};
use crate::ring::OwnPipe;
use crate::wire::{BLOCK_HEADER, Status};

impl Responder {
    /// Serves the requests that are there, at most `most`, and waits for nothing: neither for a request, nor
    /// for a slot, nor for room. Returns how many. A response without room is sent by a later call, and until
    /// then no request is served.
    pub(crate) fn serve_ready(&mut self, handler: &mut impl Handler, most: usize) -> Result<usize, End> {
        let mut served = 0;
        self.in_event_loop = true;
        let drained = catch_unwind(AssertUnwindSafe(|| self.drain_ready(handler, most, &mut served)));
        let ended = match drained {
            Ok(drained) => drained,
            Err(panic) => match self.serving.take() {
                Some(sequence) => self.answer_panic(handler, sequence, panic),
                None => resume_unwind(panic),
            },
        };
        self.in_event_loop = false;
        ended?;
        self.notify();
        Ok(served)
    }

    fn drain_ready(
        &mut self,
        handler: &mut impl Handler,
        most: usize,
        served: &mut usize,
    ) -> Result<(), End> {
        while *served < most && self.send_unsent()? {
            let Some(found) = self.requests.try_find().map_err(End::from)? else { break };
            *served += 1;
            self.serve(handler, found)?;
            if self.wakes_after_each || self.responses.consumer_looks_parked() {
                self.notify();
            }
            self.requests.settle();
        }
        Ok(())
    }

    /// Answers a call that was taken. A response without room is sent by a later call of this or of
    /// [`send_unsent`](Self::send_unsent). Does not block.
    pub(crate) fn answer(&mut self, sequence: u32, status: Status, body: &[u8]) -> Result<(), End> {
        let within = std::mem::replace(&mut self.in_event_loop, true);
        let answered = self.respond(sequence, status, body);
        self.in_event_loop = within;
        self.notify();
        answered
    }

    /// Sends the response for which there was no room. Returns whether none is left. Does not block.
    pub(crate) fn send_unsent(&mut self) -> Result<bool, End> {
        let Some((sequence, status)) = self.unsent.take() else { return Ok(true) };
        let body = std::mem::take(&mut self.spare);
        let sent = self.answer(sequence, status, &body);
        if self.unsent.is_none() {
            self.spare = body;
        }
        sent.map(|()| self.unsent.is_none())
    }

    /// The same, and waits for room: before a handler that may wait serves again.
    pub(crate) fn await_unsent(&mut self) -> Result<(), End> {
        let Some((sequence, status)) = self.unsent.take() else { return Ok(()) };
        let body = std::mem::take(&mut self.spare);
        let sent = self.respond(sequence, status, &body);
        self.spare = body;
        sent
    }

    /// Announces that this end waits in an event loop: for a request, or for room if a response had none.
    /// Returns false if that is there already: then serve again.
    #[must_use]
    pub(crate) fn arm(&mut self, pipe: &mut OwnPipe) -> bool {
        self.notify();
        match self.unsent {
            Some(_) => {
                let len = self.spare.len().min(self.max_body());
                self.responses.arm_for_room(BLOCK_HEADER + len, pipe)
            }
            None => self.requests.arm(pipe),
        }
    }
}
