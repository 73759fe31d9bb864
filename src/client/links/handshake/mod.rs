//! How a caller opens a link: asks the server for an introduction, says hello, and waits for the answer.
//!
//! The server's answer has the caller's part of the link. Then the caller says hello as its first block, and
//! waits for the hello of the other client and for its decision. Whoever gives up closes its end, by which
//! the other one learns of it, and the server is told that the link has ended for this client: by the drop of
//! its [`LinkEnd`](super::end::LinkEnd), or here if there is none yet.
//!
//! What two clients say to each other is in [`greeting`], in steps that look and do not wait; who waits for
//! them here is a thread, and in [`connecting`] an event loop.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "tokio", feature = "async-io"))]
mod connecting;
mod greeting;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "tokio", feature = "async-io"))]
pub(crate) use connecting::Connecting;
pub(crate) use greeting::Greeting;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::error::ConnectError;
use super::link::Link;
use super::options::LinkOptions;
use crate::client::Caller;
use crate::client::asking::Unanswered;
use crate::client::session::{Session, ask_anew, deadline_in, explain};
use crate::connect::dial::{Answer, DialError, Line};
use crate::connect::{Ask, Introduction, Refusal};
use crate::testing::failpoints::failpoint;
use crate::wire::Address;

/// Opens a link. Blocks until the other client has accepted or refused.
pub(super) fn connect(caller: &mut Caller, to: Address, options: &LinkOptions) -> Result<Link, ConnectError> {
    let ring_size = options.size_of_rings()?;
    let deadline = deadline_in(options.timeout.unwrap_or(caller.timeout));
    let (session, answer) = be_introduced(caller, to, ring_size, deadline)?;
    failpoint!("connect.introduced", [link], seldom);
    Greeting::begin(&session, answer, options)?.wait(deadline)
}

/// Asks the server, under a registration that it knows. A client that registers again does so first if its
/// registration has ended.
fn be_introduced(
    caller: &mut Caller,
    to: Address,
    ring_size: u64,
    deadline: Instant,
) -> Result<(Arc<Session>, Answer), ConnectError> {
    let asked = caller.ask_registered(deadline, |session| {
        let ask = Ask::Connect { proof: session.proof(), ring_size, to };
        ask_anew(&session.links.place.path, deadline, |line| ask_on(&line, &ask, session, deadline))
    });
    asked.map_err(|unanswered| match unanswered {
        Unanswered::TimedOut => ConnectError::TimedOut,
        Unanswered::Ended(reason) => ConnectError::ServerGone(reason),
        Unanswered::Dial(error) => not_introduced(error, &caller.session().links.place.path),
    })
}

/// Why the server made no introduction.
fn not_introduced(error: DialError, path: &Path) -> ConnectError {
    match error {
        DialError::TimedOut => ConnectError::TimedOut,
        DialError::Refused(Refusal::NotFound, _) => ConnectError::NotFound,
        DialError::Refused(Refusal::NotServing, _) => ConnectError::NotServing,
        DialError::Refused(Refusal::Busy | Refusal::Backlog, why) => ConnectError::Busy(why),
        DialError::Refused(Refusal::Quota, why) => ConnectError::Quota(why),
        DialError::Refused(Refusal::AgainstRules, why) => ConnectError::NotAllowed(why),
        error => ConnectError::Server(explain(error, path, None)),
    }
}

fn ask_on(line: &Line, ask: &Ask, session: &Session, deadline: Instant) -> Result<Answer, DialError> {
    line.ask(ask, deadline).inspect_err(|_| {
        if let Some(answer) = line.give_up() {
            note_unused(session, &answer);
        }
    })
}

/// Opens a link over a connection on which the answer lies already.
#[cfg(fuzzing)]
pub(in crate::client) fn connect_over(
    line: &Line,
    ask: &Ask,
    session: &Session,
    deadline: Instant,
) -> Result<Link, ConnectError> {
    let answer = ask_on(line, ask, session, deadline)
        .map_err(|error| ConnectError::Server(explain(error, &session.links.place.path, None)))?;
    Greeting::begin(session, answer, &LinkOptions::default())?.wait(deadline)
}

/// An introduction came that nobody uses: the server is told that the link has ended for this client.
pub(in crate::client) fn note_unused(session: &Session, answer: &Answer) {
    if let Some(introduction) = Introduction::decode(&answer.body) {
        session.words.flip(introduction.index);
    }
}
