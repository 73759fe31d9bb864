//! Asking the server something under the registration of a client.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Caller;
use super::error::CallError;
use super::reconnect::passes;
use super::session::Session;
use crate::connect::Refusal;
use crate::connect::dial::DialError;
use crate::ring::Deadline;
use crate::wire::CloseReason;

/// How long to wait for the end of a registration that the server at its place does not know.
const NOTICE: Duration = Duration::from_secs(1);

/// Why the server gave no answer.
pub(super) enum Unanswered {
    /// The client is not registered any more.
    Ended(CloseReason),
    TimedOut,
    Dial(DialError),
}

impl Caller {
    /// Asks the server, under a registration that it knows. A client that registers again does so first if
    /// its registration has ended. Blocks at most until the deadline.
    pub(super) fn ask_registered<T>(
        &mut self,
        deadline: Instant,
        mut ask: impl FnMut(&Arc<Session>) -> Result<T, DialError>,
    ) -> Result<(Arc<Session>, T), Unanswered> {
        loop {
            let session = self.registered(deadline)?;
            let error = match ask(&session) {
                Ok(answer) => return Ok((session, answer)),
                Err(error) => error,
            };
            let server_has_gone = matches!(
                error,
                DialError::NoServer(_)
                    | DialError::Refused(Refusal::NotRegistered | Refusal::ShuttingDown, _)
            );
            if server_has_gone && self.ends_before(deadline.min(Instant::now() + NOTICE)) {
                continue;
            }
            return Err(match error {
                DialError::TimedOut => Unanswered::TimedOut,
                error => Unanswered::Dial(error),
            });
        }
    }

    /// The registration, if it stands; otherwise another one, if the client registers again.
    fn registered(&mut self, deadline: Instant) -> Result<Arc<Session>, Unanswered> {
        let mut deadline = Deadline::from(deadline);
        loop {
            let session = self.session();
            let Some(reason) = session.closer.reason() else { return Ok(Arc::clone(session)) };
            let registers_again = self.calls.registration().reconnector.is_some();
            match self.calls.renew(reason.into(), &mut deadline) {
                Ok(()) => {}
                // The end was to be told first. To ask again does no harm, so this goes on.
                Err(CallError::NotSent(reason)) if registers_again && passes(reason) => {}
                Err(CallError::NotSent(reason)) => return Err(Unanswered::Ended(reason)),
                Err(_) => return Err(Unanswered::TimedOut),
            }
        }
    }

    /// Whether the registration ends before this time.
    fn ends_before(&mut self, until: Instant) -> bool {
        // Nothing comes but responses to calls that were submitted before, and the end.
        self.calls.requester.keep_until(until).is_err()
    }
}
