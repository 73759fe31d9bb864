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
use std::time::{Duration, Instant};

use super::error::ConnectError;
use super::link::Link;
use super::options::LinkOptions;
use crate::client::reconnect::passes;
use crate::client::session::{Session, ask_anew, deadline_in, explain};
use crate::client::{CallError, Caller};
use crate::connect::dial::{Answer, DialError, Line};
use crate::connect::{Ask, Introduction, Refusal};
use crate::ring::Deadline;
use crate::testing::failpoints::failpoint;
use crate::wire::Address;

/// How long to wait for the end of a registration that the server at its place does not know.
const NOTICE: Duration = Duration::from_secs(1);

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
    loop {
        let session = registered(caller, deadline)?;
        let ask = Ask::Connect { proof: session.proof(), ring_size, to };
        let path = &session.links.place.path;
        let answered = ask_anew(path, deadline, |line| ask_on(&line, &ask, &session, deadline));
        let error = match answered {
            Ok(answer) => return Ok((session, answer)),
            Err(error) => error,
        };
        let server_has_gone = matches!(
            error,
            DialError::NoServer(_) | DialError::Refused(Refusal::NotRegistered | Refusal::ShuttingDown, _)
        );
        if server_has_gone && ends_before(caller, deadline.min(Instant::now() + NOTICE)) {
            continue;
        }
        return Err(not_introduced(error, path));
    }
}

/// Why the server made no introduction.
fn not_introduced(error: DialError, path: &Path) -> ConnectError {
    match error {
        DialError::TimedOut => ConnectError::TimedOut,
        DialError::Refused(Refusal::NotFound, _) => ConnectError::NotFound,
        DialError::Refused(Refusal::NotServing, _) => ConnectError::NotServing,
        DialError::Refused(Refusal::Busy | Refusal::Backlog, why) => ConnectError::Busy(why),
        DialError::Refused(Refusal::Quota, why) => ConnectError::Quota(why),
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

/// The caller's registration, if it stands; otherwise another one, if the client registers again.
fn registered(caller: &mut Caller, deadline: Instant) -> Result<Arc<Session>, ConnectError> {
    let mut deadline = Deadline::from(deadline);
    loop {
        let session = caller.session();
        let Some(reason) = session.closer.reason() else { return Ok(Arc::clone(session)) };
        let registers_again = caller.calls.registration().reconnector.is_some();
        match caller.calls.renew(reason.into(), &mut deadline) {
            Ok(()) => {}
            // The end was to be told first. To ask again does no harm, so this goes on.
            Err(CallError::NotSent(reason)) if registers_again && passes(reason) => {}
            Err(CallError::NotSent(reason)) => return Err(ConnectError::ServerGone(reason)),
            Err(_) => return Err(ConnectError::TimedOut),
        }
    }
}

/// Whether the caller's registration ends before this time.
fn ends_before(caller: &mut Caller, until: Instant) -> bool {
    // Nothing comes but responses to calls that were submitted before, and the end.
    caller.calls.requester.keep_until(until).is_err()
}

/// An introduction came that nobody uses: the server is told that the link has ended for this client.
pub(in crate::client) fn note_unused(session: &Session, answer: &Answer) {
    if let Some(introduction) = Introduction::decode(&answer.body) {
        session.words.flip(introduction.index);
    }
}
