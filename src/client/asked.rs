//! `Asked`: a question to a server whose answer may take a while. The asker waits for it, or comes back.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::links::note_unused;
use super::session::Session;
use crate::connect::Ask;
use crate::connect::dial::{Answer, DialError, Line};

/// How long one step may wait for the server: to connect, or for what has arrived already.
const STEP: Duration = Duration::from_millis(1);

/// A question on a connection of its own. Dropping it gives the answer up; a link that came with it ends.
pub(crate) struct Asked {
    line: Line,
    ask: Ask,
    pub(super) session: Arc<Session>,
    answered: bool,
}

impl Asked {
    /// Asks under a registration. Blocks for a millisecond at most, if the server has many who connect.
    pub(super) fn begin(session: &Arc<Session>, ask: Ask) -> Result<Asked, DialError> {
        let line = Line::connect(&session.links.place.path, Instant::now() + STEP)?;
        line.send(&ask)?;
        Ok(Asked { line, ask, session: Arc::clone(session), answered: false })
    }

    /// The answer, if it is there. To be called when the descriptor is readable: it may block for a
    /// millisecond if nothing is there.
    pub(super) fn look(&mut self) -> Result<Option<Answer>, DialError> {
        let answer = match self.line.answer(&self.ask, Instant::now() + STEP) {
            Err(DialError::TimedOut) => return Ok(None),
            answer => answer,
        };
        self.answered = true;
        answer.map(Some)
    }
}

/// It is readable when the answer is there, or the server is gone.
impl AsFd for Asked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.answered || !self.line.is_ours() {
            return;
        }
        if let Some(answer) = self.line.give_up()
            && matches!(self.ask, Ask::Connect { .. })
        {
            note_unused(&self.session, &answer);
        }
    }
}
