//! Asking in steps that do not wait, for futures.

use super::{MOST_KEPT, NoRoom, Requester};
use crate::link::Stop;
use crate::wire::Status;

impl Requester {
    /// The response to this request if it is there, or comes within the looks that a wait begins with.
    /// Earlier ones are kept. Does not block.
    pub(crate) fn try_await(&mut self, sequence: u32) -> Result<Option<Status>, Stop> {
        let mut found = match self.requests.consumer_looks_parked() {
            true => None,
            false => self.responses.find_soon(),
        };
        loop {
            let next = match found.take() {
                Some(found) => found,
                None => match self.responses.try_find() {
                    Ok(Some(found)) => found,
                    Ok(None) => {
                        self.notify();
                        return Ok(None);
                    }
                    Err(ended) => return Err(ended.into()),
                },
            };
            if let Some(status) = self.accept_if(sequence, next, |stop| stop)? {
                return Ok(Some(status));
            }
        }
    }

    /// Keeps the responses that are there: the responder may wait for their place. Does not block.
    pub(crate) fn keep_arrived(&mut self) -> Result<(), NoRoom> {
        while self.expected != self.next {
            if self.kept.len() >= MOST_KEPT {
                return Err(NoRoom::Uncollected { most: MOST_KEPT });
            }
            match self.try_receive().map_err(NoRoom::Stopped)? {
                Some(status) => self.keep(status),
                None => break,
            }
        }
        Ok(())
    }

    /// Gives a request up whose response did not come yet: that is discarded when it comes.
    pub(crate) fn abandon(&mut self, sequence: u32) {
        // It may have been answered, or have ended with its rings.
        if sequence.wrapping_sub(self.expected) < self.next.wrapping_sub(self.expected) {
            self.abandoned.insert(sequence);
        }
    }
}
