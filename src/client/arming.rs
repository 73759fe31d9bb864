//! What the ends of a client do to wait in an event loop.

#![forbid(unsafe_code)]

use rustix::fs::OFlags;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::ask::Calls;
use super::caller::Caller;
use super::error::CallError;
use super::inbox::Inbox;
use super::links::is_pipe_end;
use super::readiness_error::ReadinessError;
use super::session::{Session, ask_anew, deadline_in};
use crate::connect::dial::DialError;
use crate::connect::disposal::close_elsewhere;
use crate::connect::{Ask, Half, Refusal};
use crate::ring::{Kick, OwnPipe};
use crate::shm::backend::{PipeReader, PipeWriter};
use crate::testing::failpoints::failpoint;
use crate::wire::{CloseReason, Operation};

impl Caller {
    /// What to wait by in an event loop. The first time it asks the server, and tells the worker that this
    /// end may wait so.
    pub(crate) fn pipe(&mut self) -> Result<Arc<PipeReader>, ReadinessError> {
        if let Some(reason) = self.session().closer.reason() {
            // The other half may have registered again.
            let _ = self.calls.renew_now(reason.into());
        }
        let session = Arc::clone(self.session());
        if let Some(reason) = session.closer.reason() {
            return Err(ReadinessError::Disconnected(reason.into()));
        }
        let deadline = deadline_in(self.timeout);
        if self.calls.own.is_none() {
            let own = ask_for_pipe(&session, Half::Caller, &session.kicks.caller, deadline)?;
            self.calls.own = Some(own);
            self.calls.is_heard = false;
        }
        if !self.calls.is_heard {
            let heard = self.calls.ask_rarely::<0>(Operation::Arms, [], deadline.into());
            heard.and_then(|status| self.calls.done(status)).map_err(not_heard)?;
            failpoint!("arm.heard", [client], seldom);
            self.calls.is_heard = true;
        }
        self.calls.pipe()
    }

    /// Announces a wait by the pipe. Returns false if there is something to look at.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        self.calls.arm()
    }
}

impl Calls {
    /// What to wait by in an event loop.
    pub(super) fn pipe(&self) -> Result<Arc<PipeReader>, ReadinessError> {
        if let Some(reason) = self.closer.reason() {
            return Err(ReadinessError::Disconnected(reason.into()));
        }
        Ok(Arc::clone(self.own.as_ref().ok_or(ReadinessError::NotArmable)?.reader()))
    }

    /// Announces that this end waits by its pipe: for responses, and for room if the last request that did
    /// not wait for any found none. Returns false if there is something to look at.
    pub(super) fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_if(!self.requester.has_kept())
    }

    /// The same, without those responses that were taken off the ring and kept.
    #[cfg(any(feature = "tokio", feature = "async-io"))]
    pub(crate) fn arm_for_arrivals(&mut self) -> Result<bool, ReadinessError> {
        self.arm_if(true)
    }

    /// The same, if nothing is there that does not lie in the ring.
    fn arm_if(&mut self, nothing_is_kept: bool) -> Result<bool, ReadinessError> {
        if self.closer.is_forked() {
            return Ok(false);
        }
        let without =
            if self.has_registration() { ReadinessError::NotAsked } else { ReadinessError::NotArmable };
        let own = self.own.as_mut().filter(|_| self.is_heard).ok_or(without)?;
        if let Some(reason) = self.closer.reason() {
            return self.arm_after_end(reason.into());
        }
        // Responses to calls that were given up are for nobody, so nobody else takes them.
        if self.requester.outstanding() == 0 && self.requester.try_receive().is_err() {
            return Ok(false);
        }
        Ok(nothing_is_kept && self.requester.arm(&mut self.wanted, own))
    }

    /// A look for a response tells the end if there is one to come. Without one this does.
    #[cold]
    fn arm_after_end(&mut self, reason: CloseReason) -> Result<bool, ReadinessError> {
        if self.outstanding() > 0 {
            return Ok(false);
        }
        self.ended(&CallError::Disconnected(reason), false);
        Err(ReadinessError::Disconnected(reason))
    }
}

impl Inbox {
    /// What to wait by in an event loop. The first time it asks the server.
    pub(crate) fn pipe(&mut self) -> Result<Arc<PipeReader>, ReadinessError> {
        self.go_on();
        if let Some(reason) = self.session.closer.reason() {
            return Err(ReadinessError::Disconnected(reason.into()));
        }
        let own = match self.own.take() {
            Some(own) => own,
            None => {
                let deadline = deadline_in(self.session.links.place.timeout);
                ask_for_pipe(&self.session, Half::Inbox, &self.session.kicks.inbox, deadline)?
            }
        };
        Ok(Arc::clone(self.own.insert(own).reader()))
    }

    /// Announces a wait by the pipe. Returns false if there is something to look at.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        if self.session.is_forked() {
            return Ok(false);
        }
        let own = self.own.as_mut().ok_or(ReadinessError::NotAsked)?;
        Ok(self.ring.arm(own))
    }
}

/// Asks the server for the pipe of one half, for which `kick` waits. Blocks at most until the deadline.
fn ask_for_pipe(
    session: &Session,
    half: Half,
    kick: &Kick,
    deadline: Instant,
) -> Result<OwnPipe, ReadinessError> {
    let ask = Ask::Kick { proof: session.proof(), half };
    // It is given once, so one that comes too late is taken, too.
    let asked = ask_anew(&session.links.place.path, deadline, |line| {
        line.ask(&ask, deadline).or_else(|error| line.give_up().ok_or(error))
    });
    let answer = asked.map_err(|error| not_given(error, session))?;
    let Some([read, write]) = answer.descriptors.exactly() else {
        return Err(not_given(DialError::NotRingpost, session));
    };
    if !is_pipe_end(read.as_fd(), OFlags::RDONLY) || !is_pipe_end(write.as_fd(), OFlags::WRONLY) {
        [read, write].into_iter().for_each(close_elsewhere);
        return Err(not_given(DialError::NotRingpost, session));
    }
    failpoint!("arm.given", [client], seldom);
    kick.set(PipeWriter::new(write));
    failpoint!("arm.kickable", [client], seldom);
    Ok(OwnPipe::new(Arc::new(PipeReader::new(read)), kick.clone()))
}

/// Why the server gave no pipe.
#[cold]
fn not_given(error: DialError, session: &Session) -> ReadinessError {
    let ended = session.closer.reason().map(CloseReason::from);
    match (ended, error) {
        (Some(reason), _) => ReadinessError::Disconnected(reason),
        (None, DialError::TimedOut) => ReadinessError::TimedOut,
        (None, DialError::Refused(Refusal::ShuttingDown, _)) => {
            ReadinessError::Disconnected(CloseReason::Shutdown)
        }
        (None, DialError::NoServer(_) | DialError::Refused(Refusal::NotRegistered, _)) => {
            ReadinessError::Disconnected(CloseReason::Died)
        }
        (None, DialError::Refused(_, why)) => ReadinessError::Refused(why),
        (None, DialError::Io(source)) => {
            ReadinessError::System { action: "ask the server for a pipe", source }
        }
        (None, error) => ReadinessError::Refused(error.to_string()),
    }
}

/// Why the worker was not told.
#[cold]
fn not_heard(error: CallError) -> ReadinessError {
    match error {
        CallError::TimedOut => ReadinessError::TimedOut,
        CallError::Disconnected(reason) | CallError::NotSent(reason) => ReadinessError::Disconnected(reason),
        error => ReadinessError::Refused(error.to_string()),
    }
}
