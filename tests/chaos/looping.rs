//! What a client does that waits by epoll: the same operations, with the waits outside.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringpost::{CallError, Caller, CloseReason, Inbox, Link, Message, ReadinessError, Ready, RecvError};

use super::common::by_epoll::{ByEpoll, Vain};
use super::history::{Op, Outcome, Writer};
use super::plan::Waits;

/// How long a client may take to get something to wait by: the time-out of its operations.
const GETTING: Duration = Duration::from_secs(2);

/// An end that gets responses.
pub trait Asks: Ready {
    /// The response to the oldest call, if it is there.
    fn look(&mut self) -> Option<Response>;
}

pub type Response = Result<Vec<u8>, CallError>;

macro_rules! asks {
    ($($end:ident)+) => { $(
        impl Asks for $end {
            fn look(&mut self) -> Option<Response> {
                match self.try_response() {
                    Ok(reply) => reply.map(|reply| Ok(reply.to_vec())),
                    Err(CallError::NothingOutstanding) => None,
                    Err(error) => Some(Err(error)),
                }
            }
        }
    )+ };
}

asks!(Caller Link);

/// Waits for one end by epoll. A readiness that is missed is a broken promise, or a wait in vain, which the
/// harness notices.
pub struct Looping<'a> {
    by: ByEpoll,
    history: &'a Writer,
    thread: u8,
}

impl<'a> Looping<'a> {
    /// If this end is to be waited for so, and it is not for lack of something.
    pub fn of(history: &'a Writer, thread: u8, end: &mut impl Ready, waits: Waits) -> Option<Looping<'a>> {
        let Waits::ByEpoll { edge } = waits else { return None };
        let words = [GETTING.as_nanos() as u64, 0, 0, 0, 0, 0];
        history.begin(thread, Op::Ask, words);
        let by = ByEpoll::of(end, edge);
        let outcome = match &by {
            Ok(_) => Outcome::Ok,
            Err(ReadinessError::Disconnected(_)) => Outcome::Disconnected,
            Err(ReadinessError::TimedOut) => Outcome::TimedOut,
            // The server has no descriptor, or this process has none.
            Err(ReadinessError::Refused(_)) => Outcome::Refused,
            Err(ReadinessError::System { .. }) => Outcome::System,
            Err(error) => history.violation(thread, Op::Ask, &format!("readiness: {error:?}")),
        };
        history.end(thread, Op::Ask, outcome, words);
        Some(Looping { by: by.ok()?, history, thread })
    }

    fn until<E: Ready, T>(
        &self,
        end: &mut E,
        until: Option<Instant>,
        look: impl FnMut(&mut E) -> Option<T>,
    ) -> Result<T, Option<CloseReason>> {
        match self.by.until(end, until, look) {
            Ok(found) => Ok(found),
            Err(Vain::TimedOut) => Err(None),
            Err(Vain::Ended(ReadinessError::Disconnected(reason))) => Err(Some(reason)),
            Err(Vain::Ended(error)) => self.wrong(&format!("armed: {error:?}")),
            Err(Vain::Missed) => self.wrong("something was there, and its descriptor was not readable"),
        }
    }

    fn wrong(&self, what: &str) -> ! {
        self.history.violation(self.thread, Op::None, what)
    }

    /// Submits a call. Without room it waits, and puts the responses that are there into `early`: the other
    /// side may not go on before it has room for more.
    pub fn submit(
        &self,
        caller: &mut Caller,
        request: &[u8],
        early: &mut VecDeque<Response>,
    ) -> Result<(), CallError> {
        let submitted = self.until(caller, None, |caller| match caller.try_submit(request) {
            Err(CallError::Full) => {
                early.extend(std::iter::from_fn(|| caller.look()).take(1 << 10));
                None
            }
            submitted => Some(submitted),
        });
        submitted.unwrap_or_else(|ended| Err(CallError::NotSent(ended.unwrap_or(CloseReason::Local))))
    }

    /// The response to the oldest call.
    pub fn response<A: Asks>(&self, end: &mut A, until: Option<Instant>) -> Response {
        self.until(end, until, A::look)
            .unwrap_or_else(|ended| Err(ended.map_or(CallError::TimedOut, CallError::Disconnected)))
    }

    /// Whatever a look finds first.
    pub fn wait_for<E: Ready, T>(
        &self,
        end: &mut E,
        until: Option<Instant>,
        look: impl FnMut(&mut E) -> Option<T>,
    ) -> Result<T, Option<CloseReason>> {
        self.until(end, until, look)
    }

    /// The next message.
    pub fn receive(&self, inbox: &mut Inbox, until: Option<Instant>) -> Result<Message, RecvError> {
        self.until(inbox, until, |inbox| inbox.try_recv().transpose())
            .unwrap_or_else(|ended| Err(ended.map_or(RecvError::TimedOut, RecvError::Disconnected)))
    }
}
