//! `Greeting`: the caller's half of what the two clients say to each other before the first call.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use crate::channel::{Geometry, LinkEnds, Side, open_link};
use crate::client::error::printable;
use crate::client::links::end::LinkEnd;
use crate::client::links::error::ConnectError;
use crate::client::links::link::Link;
use crate::client::links::options::LinkOptions;
use crate::client::links::pipes::{LinkPipe, Pipes};
use crate::client::session::{Session, explain};
use crate::connect::dial::{Answer, DialError};
use crate::connect::disposal::close_elsewhere;
use crate::connect::{Introduction, Role};
use crate::link::Stop;
use crate::ring::{Ended, Found, NotSent, OwnPipe, WaitStrategy};
use crate::shm::backend::PipeReader;
use crate::testing::failpoints::failpoint;
use crate::wire::{
    BLOCK_HEADER, BlockHeader, CloseReason, HELLO_TIME, LONGEST_REFUSAL, MAY_ARM, Operation, Status,
    Violation,
};

/// A link on which this side has said hello. Dropping it closes the link.
pub(crate) struct Greeting {
    pub(super) ends: LinkEnds,
    geometry: Geometry,
    end: LinkEnd,
    /// What this side waits by if it may do so in an event loop.
    own: Option<OwnPipe>,
    /// Until when the other client must have said hello.
    until: Instant,
    /// Whether it has.
    greeted: bool,
}

impl Greeting {
    /// Opens what the server sent, begins to watch the other client, and says hello. Does not block.
    pub(in crate::client) fn begin(
        session: &Session,
        answer: Answer,
        options: &LinkOptions,
    ) -> Result<Greeting, ConnectError> {
        let until = Instant::now() + HELLO_TIME;
        let strategy = options.wait.unwrap_or(session.links.place.wait);
        let (ends, geometry, end, pipe) = open(session, answer, strategy)?;
        let own = options.arms.then(|| pipe.arms());
        Greeting::over(ends, geometry, end, own, until)
    }

    /// Says hello. If there is no link, the end closes what there is.
    pub(in crate::client) fn over(
        ends: LinkEnds,
        geometry: Geometry,
        end: LinkEnd,
        own: Option<OwnPipe>,
        until: Instant,
    ) -> Result<Greeting, ConnectError> {
        let mut greeting = Greeting { ends, geometry, end, own, until, greeted: false };
        greeting.say_hello()?;
        failpoint!("connect.hello", [link], seldom);
        Ok(greeting)
    }

    /// Whether the other client has accepted. Does not block.
    ///
    /// # Errors
    ///
    /// There will be no link: it refused, is gone, or has not said hello in time.
    #[allow(dead_code, reason = "for futures")]
    pub(crate) fn look(&mut self) -> Result<bool, ConnectError> {
        loop {
            let found = self.ends.consumer.try_find().map_err(|ended| match ended {
                Ended::Closed(reason) => ConnectError::Gone(reason.into()),
                Ended::Fault(violation) => ConnectError::Violation(violation.into()),
            })?;
            match found {
                Some(found) if self.hear(found)? => return Ok(true),
                Some(_) => {}
                None if !self.greeted && Instant::now() >= self.until => return Err(ConnectError::TimedOut),
                None => return Ok(false),
            }
        }
    }

    /// The link, after it was accepted.
    pub(crate) fn into_link(self) -> Link {
        Link::new(self.end, self.ends, &self.geometry, self.own)
    }

    /// What to wait by for the other client's answer, if the link was opened so that it may be.
    #[allow(dead_code, reason = "for futures")]
    pub(crate) fn pipe(&self) -> Option<Arc<PipeReader>> {
        self.own.as_ref().map(|own| Arc::clone(own.reader()))
    }

    /// Announces a wait by the pipe. Returns false if there is something to look at.
    #[allow(dead_code, reason = "for futures")]
    pub(crate) fn arm(&mut self) -> bool {
        let Some(own) = &mut self.own else { return false };
        self.ends.consumer.arm(own)
    }

    /// Waits until the other client has accepted.
    pub(in crate::client) fn wait(mut self, deadline: Instant) -> Result<Link, ConnectError> {
        loop {
            let until = if self.greeted { deadline } else { deadline.min(self.until) };
            let found = self.ends.consumer.find(&mut until.into()).map_err(|stop| match stop.into() {
                Stop::Deadline => ConnectError::TimedOut,
                Stop::Closed(reason) => ConnectError::Gone(reason),
                Stop::Fault(violation) => ConnectError::Violation(violation),
            })?;
            if self.hear(found)? {
                return Ok(self.into_link());
            }
        }
    }

    /// Says hello. If the link is closed already, what the other client said before is still to be heard.
    fn say_hello(&mut self) -> Result<(), ConnectError> {
        let flags = if self.own.is_some() { MAY_ARM } else { 0 };
        let hello = BlockHeader::new(Operation::Hello as u16, flags, 0).to_word();
        match self.ends.producer.try_publish(Some(hello), &[]) {
            Ok(()) => self.ends.producer.notify(),
            Err(NotSent::Closed(_)) => {}
            Err(NotSent::Fault(violation)) => return Err(ConnectError::Violation(violation.into())),
            // An empty ring has room for the smallest block.
            Err(NotSent::Full | NotSent::TooLarge { .. }) => {
                return Err(ConnectError::Violation(Violation::MalformedBlock));
            }
        }
        Ok(())
    }

    /// Heeds what the other client says next: hello, then its decision. Returns whether it has accepted.
    fn hear(&mut self, found: Found) -> Result<bool, ConnectError> {
        let block = self.ends.consumer.take(found);
        let header = BlockHeader::of(&block).filter(|header| header.sequence.get() == 0);
        let status = header.and_then(|header| Status::from_code(header.code.get()));
        let flags = header.map_or(0, |header| header.flags.get());
        let mut text = Vec::new();
        if status.is_some() {
            block.append_to(BLOCK_HEADER, &mut text);
        }
        block.release();
        match (self.greeted, status.filter(|_| flags == 0)) {
            (false, Some(Status::Hello)) => {
                self.greeted = true;
                failpoint!("connect.greeted", [link], seldom);
                Ok(false)
            }
            (true, Some(Status::Ok)) => Ok(true),
            (true, Some(Status::Refused)) => {
                text.truncate(LONGEST_REFUSAL);
                let text = Some(printable(&text)).filter(|text| !text.trim().is_empty());
                Err(ConnectError::Refused(text.unwrap_or_else(|| "it gave no reason".into())))
            }
            (true, Some(Status::NotAllowed)) => {
                text.truncate(LONGEST_REFUSAL);
                Err(ConnectError::NotAllowed(printable(&text)))
            }
            (true, Some(Status::NotFound)) => Err(ConnectError::NotFound),
            (true, Some(Status::Gone)) => Err(ConnectError::NotServing),
            (true, Some(Status::Busy)) => {
                Err(ConnectError::Busy("too many callers wait for it to accept them: try again later".into()))
            }
            (true, None) if status == Some(Status::Ok) && flags == MAY_ARM => {
                self.ends.consumer.release_aloud();
                Ok(true)
            }
            _ => {
                self.ends.consumer.reject();
                Err(ConnectError::Violation(Violation::MalformedBlock))
            }
        }
    }
}

/// Opens what the server sent, and begins to watch the other client.
fn open(
    session: &Session,
    answer: Answer,
    strategy: WaitStrategy,
) -> Result<(LinkEnds, Geometry, LinkEnd, LinkPipe), ConnectError> {
    let place = &session.links.place;
    let not_ringpost = || ConnectError::Server(explain(DialError::NotRingpost, &place.path, None));
    let introduction = Introduction::decode(&answer.body).ok_or_else(not_ringpost)?;
    let unused = |error| {
        session.words.flip(introduction.index);
        error
    };
    let Some([segment, pipes @ ..]) = answer.descriptors.exactly::<{ Introduction::DESCRIPTORS }>() else {
        return Err(unused(not_ringpost()));
    };
    let pipes = Pipes::check(pipes);
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
    let Some(pipes) = pipes else {
        ends.closer.close_as(CloseReason::Local);
        return Err(unused(not_ringpost()));
    };
    let (descriptors, pipe) = pipes.connect(&ends);
    let closer = ends.closer.clone();
    let end = LinkEnd::begin(&session.links, session, Role::Caller, &introduction, descriptors, closer)
        .map_err(|source| ConnectError::System { action: "watch the other client", source })?;
    Ok((ends, geometry, end, pipe))
}
