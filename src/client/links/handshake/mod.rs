//! How a caller opens a link: asks the server for an introduction, says hello, and waits for the answer.
//!
//! The server's answer has the caller's part of the link. Then the caller says hello as its first block, and
//! waits for the hello of the other client and for its decision. Whoever gives up closes its end, by which
//! the other one learns of it, and the server is told that the link has ended for this client: by the drop of
//! its [`LinkEnd`], or here if there is none yet.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::end::{LinkEnd, PeerDescriptors};
use super::error::ConnectError;
use super::link::Link;
use super::options::LinkOptions;
use crate::channel::{Geometry, LinkEnds, Side, open_link};
use crate::client::error::printable;
use crate::client::reconnect::passes;
use crate::client::session::{Session, ask_anew, deadline_in, explain};
use crate::client::{CallError, Caller};
use crate::connect::dial::{Answer, DialError, Line};
use crate::connect::disposal::close_elsewhere;
use crate::connect::{Ask, Introduction, Refusal, Role};
use crate::link::Stop;
use crate::ring::{Consumer, Deadline, NotSent, WaitStrategy};
use crate::testing::failpoints::failpoint;
use crate::wire::{
    Address, BLOCK_HEADER, BlockHeader, CloseReason, HELLO_TIME, LONGEST_REFUSAL, Operation, Status,
    Violation,
};

/// How long to wait for the end of a registration that the server at its place does not know.
const NOTICE: Duration = Duration::from_secs(1);

/// Opens a link. Blocks until the other client has accepted or refused.
pub(super) fn connect(caller: &mut Caller, to: Address, options: &LinkOptions) -> Result<Link, ConnectError> {
    let ring_size = options.ring_size.map(Geometry::new).transpose()?.map_or(0, |sizes| sizes.ring_size());
    let deadline = deadline_in(options.timeout.unwrap_or(caller.timeout));
    let (session, answer) = be_introduced(caller, to, ring_size, deadline)?;
    failpoint!("connect.introduced", [link], seldom);
    let since = Instant::now();
    let strategy = options.wait.unwrap_or(session.links.place.wait);
    let (ends, geometry, end) = begin(&session, answer, strategy)?;
    greet(ends, &geometry, end, deadline.min(since + HELLO_TIME), deadline)
}

/// The caller's half of what the two clients say to each other before the first call. The other one's hello
/// must come before `soon`. If there is no link, the end closes what there is.
pub(in crate::client) fn greet(
    mut ends: LinkEnds,
    geometry: &Geometry,
    end: LinkEnd,
    soon: Instant,
    deadline: Instant,
) -> Result<Link, ConnectError> {
    say_hello(&mut ends)?;
    failpoint!("connect.hello", [link], seldom);
    match hear(&mut ends.consumer, &mut soon.into())? {
        (Status::Hello, _) => {}
        _ => return Err(broken(&mut ends.consumer)),
    }
    failpoint!("connect.greeted", [link], seldom);
    match hear(&mut ends.consumer, &mut deadline.into())? {
        (Status::Ok, _) => Ok(Link::new(end, ends, geometry)),
        (Status::Refused, mut text) => {
            text.truncate(LONGEST_REFUSAL);
            let text = Some(printable(&text)).filter(|text| !text.trim().is_empty());
            Err(ConnectError::Refused(text.unwrap_or_else(|| "it gave no reason".into())))
        }
        (Status::Busy, _) => {
            Err(ConnectError::Busy("too many callers wait for it to accept them: try again later".into()))
        }
        _ => Err(broken(&mut ends.consumer)),
    }
}

/// Asks the server, under a registration that it knows. A client that registers again does so first if its
/// registration has ended.
fn be_introduced(
    caller: &mut Caller,
    to: Address,
    ring_size: usize,
    deadline: Instant,
) -> Result<(Arc<Session>, Answer), ConnectError> {
    loop {
        let session = registered(caller, deadline)?;
        let ask = Ask::Connect { proof: session.proof(), ring_size: ring_size as u64, to };
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
        return Err(match error {
            DialError::TimedOut => ConnectError::TimedOut,
            DialError::Refused(Refusal::NotFound, _) => ConnectError::NotFound,
            DialError::Refused(Refusal::NotServing, _) => ConnectError::NotServing,
            DialError::Refused(Refusal::Busy | Refusal::Backlog, why) => ConnectError::Busy(why),
            DialError::Refused(Refusal::Quota, why) => ConnectError::Quota(why),
            error => ConnectError::Server(explain(error, path, None)),
        });
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
    let place = &session.links.place;
    let answer = ask_on(line, ask, session, deadline)
        .map_err(|error| ConnectError::Server(explain(error, &place.path, None)))?;
    let (ends, geometry, end) = begin(session, answer, place.wait)?;
    greet(ends, &geometry, end, deadline, deadline)
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
pub(super) fn note_unused(session: &Session, answer: &Answer) {
    if let Some(introduction) = Introduction::decode(&answer.body) {
        session.words.flip(introduction.index);
    }
}

/// Opens what the server sent, and begins to watch the other client.
fn begin(
    session: &Session,
    answer: Answer,
    strategy: WaitStrategy,
) -> Result<(LinkEnds, Geometry, LinkEnd), ConnectError> {
    let place = &session.links.place;
    let not_ringpost = || ConnectError::Server(explain(DialError::NotRingpost, &place.path, None));
    let introduction = Introduction::decode(&answer.body).ok_or_else(not_ringpost)?;
    let unused = |error| {
        session.words.flip(introduction.index);
        error
    };
    let Some([segment, own, peers, process]) = answer.descriptors.exactly() else {
        return Err(unused(not_ringpost()));
    };
    let descriptors = PeerDescriptors::check(own, peers, process);
    let geometry = Geometry::new(introduction.ring_size)
        .and_then(|geometry| geometry.with_max_block(introduction.max_block));
    let opened =
        geometry.and_then(|geometry| Ok((open_link(&segment, &geometry, strategy, Side::Caller)?, geometry)));
    let (ends, geometry) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            close_elsewhere(segment);
            return Err(unused(error.into()));
        }
    };
    // It is what it should be, so that its close takes no time; the mapping stays.
    drop(segment);
    failpoint!("connect.mapped", [link], seldom);
    let Some(descriptors) = descriptors else {
        ends.closer.close_as(CloseReason::Local);
        return Err(unused(not_ringpost()));
    };
    let closer = ends.closer.clone();
    let end = LinkEnd::begin(&session.links, session, Role::Caller, &introduction, descriptors, closer)
        .map_err(|source| ConnectError::System { action: "watch the other client", source })?;
    Ok((ends, geometry, end))
}

/// Says hello. If the link is closed already, what the other client said before is still to be heard.
fn say_hello(ends: &mut LinkEnds) -> Result<(), ConnectError> {
    let hello = BlockHeader::new(Operation::Hello as u16, 0, 0).to_word();
    match ends.producer.try_publish(Some(hello), &[]) {
        Ok(()) => ends.producer.notify(),
        Err(NotSent::Closed(_)) => {}
        Err(NotSent::Fault(violation)) => return Err(ConnectError::Violation(violation.into())),
        // An empty ring has room for the smallest block.
        Err(NotSent::Full | NotSent::TooLarge { .. }) => {
            return Err(ConnectError::Violation(Violation::MalformedBlock));
        }
    }
    Ok(())
}

/// Waits for the next block of the handshake.
fn hear(responses: &mut Consumer, deadline: &mut Deadline) -> Result<(Status, Vec<u8>), ConnectError> {
    let found = responses.find(deadline).map_err(|stop| match stop.into() {
        Stop::Deadline => ConnectError::TimedOut,
        Stop::Closed(reason) => ConnectError::Gone(reason),
        Stop::Fault(violation) => ConnectError::Violation(violation),
    })?;
    let block = responses.take(found);
    let header = BlockHeader::of(&block).filter(|header| header.sequence.get() == 0);
    let status = header.and_then(|header| Status::from_code(header.code.get()));
    let mut body = Vec::new();
    if status.is_some() {
        block.append_to(BLOCK_HEADER, &mut body);
    }
    block.release();
    status.map(|status| (status, body)).ok_or_else(|| broken(responses))
}

#[cold]
fn broken(responses: &mut Consumer) -> ConnectError {
    responses.reject();
    ConnectError::Violation(Violation::MalformedBlock)
}
