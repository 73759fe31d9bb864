//! An open link, from the caller's side: its calls and posts, and the check of each answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringpost::{CallError, CloseReason, Link};

use super::super::content::REFUSAL;
use super::super::history::{Op, Outcome};
use super::super::looping::{Looping, Response};
use super::super::plan::Waits;
use super::super::random::Random;
use super::content::{self, Asked, Posts, Task, VOUCHER};
use super::{Linker, deadline};

/// The deadline of what is certain to be answered, unless the link ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request, and the posts that came before it.
struct Request {
    asked: Asked,
    bytes: Vec<u8>,
    posts: Posts,
}

/// A link that has ended.
pub struct Over;

pub struct Open<'a> {
    linker: &'a Linker,
    link: Link,
    /// What it is waited for by, if that is done by epoll.
    looping: Option<Looping<'a>>,
    id: u64,
    number: u64,
    posts: Posts,
    outstanding: VecDeque<Request>,
    /// Whether this side has closed it.
    closed: bool,
}

impl<'a> Open<'a> {
    pub fn new(linker: &'a Linker, mut link: Link, id: u64, waits: Waits) -> Open<'a> {
        let looping = Looping::of(&linker.history, 0, &mut link, waits);
        let (posts, outstanding) = (Posts::default(), VecDeque::new());
        Open { linker, link, looping, id, number: 0, posts, outstanding, closed: false }
    }

    /// One thing, or several, at random.
    pub fn step(&mut self, random: &mut Random) -> Result<(), Over> {
        match random.below(16) {
            0..=6 => self.call(random),
            7..=10 => (0..=random.below(12)).try_for_each(|_| self.post(random)),
            11..=13 => self.burst(random),
            _ => {
                (0..=random.below(3)).try_for_each(|_| self.post(random))?;
                self.call_in_time(random)
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn request(&mut self, random: &mut Random) -> Request {
        let most = self.link.limits().max_call - VOUCHER;
        let task = match random.below(64) {
            0 => Task::Panic,
            1 => Task::Fail,
            2..=3 => Task::Slowly,
            4..=12 => Task::Much,
            _ => Task::Turn,
        };
        let much = if task == Task::Slowly { random.below(2000) } else { random.length(most) as u64 };
        let asked = Asked { task, link: self.id, number: self.next(), much };
        let bytes = content::request(&asked, random.length(most));
        Request { asked, bytes, posts: self.posts }
    }

    /// Ends the process if this is neither the right response nor an error that may be.
    fn check(
        &self,
        op: Op,
        request: &Request,
        response: Result<Vec<u8>, CallError>,
    ) -> Result<Outcome, CallError> {
        let Request { asked, bytes, posts } = request;
        match response {
            Ok(body) if body == content::response(bytes, asked, posts) => Ok(Outcome::Ok),
            Ok(body) => {
                let voucher = body.len().checked_sub(VOUCHER).map(|at| &body[at..]);
                self.wrong(op, &format!("{asked:?} behind {posts:?}: {} bytes, {voucher:02x?}", body.len()))
            }
            Err(CallError::ServiceFailed(text)) => {
                let meant = asked.task == Task::Panic || asked.task == Task::Fail && text == REFUSAL;
                if meant { Ok(Outcome::ServiceFailed) } else { self.wrong(op, &text) }
            }
            Err(error) => Err(error),
        }
    }

    fn wrong(&self, op: Op, what: &str) -> ! {
        self.linker.history.violation(0, op, &format!("over link {:x}: {what}", self.id))
    }

    /// The outcome of an operation that failed, and whether the link goes on.
    fn failed(&self, op: Op, error: CallError) -> (Outcome, Result<(), Over>) {
        match error {
            CallError::TimedOut => (Outcome::TimedOut, Ok(())),
            CallError::Disconnected(reason) => {
                self.over(reason);
                (Outcome::Disconnected, Err(Over))
            }
            CallError::NotSent(reason) => {
                self.over(reason);
                (Outcome::NotSent, Err(Over))
            }
            error => self.wrong(op, &format!("{error:?}")),
        }
    }

    fn over(&self, reason: CloseReason) {
        if reason == CloseReason::Local && !self.closed {
            self.wrong(Op::CloseLink, "it was closed on this side, which nobody did");
        }
        self.linker.link_over(0, reason, self.link.peer().pid);
    }

    /// Records the end of an operation.
    fn ended(&self, op: Op, words: [u64; 6], outcome: Result<Outcome, CallError>) -> Result<(), Over> {
        let (outcome, goes_on) =
            outcome.map_or_else(|error| self.failed(op, error), |outcome| (outcome, Ok(())));
        self.linker.history.end(0, op, outcome, words);
        goes_on
    }

    fn call(&mut self, random: &mut Random) -> Result<(), Over> {
        let request = self.request(random);
        self.linker.history.begin(0, Op::LinkCall, [0; 6]);
        let outside = self.waits_outside(random);
        let response = match &self.looping {
            Some(looping) if outside && self.outstanding.is_empty() => {
                let submitted = self.link.submit(&request.bytes);
                submitted.and_then(|()| looping.response(&mut self.link, None))
            }
            _ => self.link.call(&request.bytes).map(|reply| reply.to_vec()),
        };
        let outcome = self.check(Op::LinkCall, &request, response);
        self.ended(Op::LinkCall, [0; 6], outcome)
    }

    fn call_in_time(&mut self, random: &mut Random) -> Result<(), Over> {
        let request = self.request(random);
        let time = match random.below(3) {
            0 => Duration::from_micros(20 + random.below(3000)),
            _ => PATIENCE,
        };
        self.linker.history.begin(0, Op::LinkCall, deadline(time));
        let response = self.link.call_timeout(&request.bytes, time).map(|reply| reply.to_vec());
        let outcome = self.check(Op::LinkCall, &request, response);
        self.ended(Op::LinkCall, deadline(time), outcome)
    }

    /// One way. A response that comes later vouches for it.
    fn post(&mut self, random: &mut Random) -> Result<(), Over> {
        let task = match random.below(32) {
            0 => Task::PostFail,
            1 => Task::PostPanic,
            _ => Task::Post,
        };
        let len = random.length(self.link.limits().max_call);
        let asked = Asked { task, link: self.id, number: self.next(), much: 0 };
        let bytes = content::request(&asked, len);
        self.linker.history.begin(0, Op::Post, [0; 6]);
        let posted = self.link.post(&bytes);
        if posted.is_ok() {
            self.posts.add(asked.number, bytes.len());
        }
        self.ended(Op::Post, [0; 6], posted.map(|()| Outcome::Ok))
    }

    /// Calls that are outstanding at once, some with posts between them.
    fn burst(&mut self, random: &mut Random) -> Result<(), Over> {
        let few = random.once_in(2);
        for _ in 0..=random.below(40) {
            let request = self.request(random);
            self.linker.history.begin(0, Op::LinkSubmit, [0; 6]);
            let submitted = self.link.submit(&request.bytes);
            self.outstanding.push_back(request);
            self.ended(Op::LinkSubmit, [0; 6], submitted.map(|()| Outcome::Ok))?;
            if few && random.once_in(4) {
                self.post(random)?;
            }
        }
        if self.link.outstanding() != self.outstanding.len() {
            self.wrong(Op::LinkSubmit, "not as many outstanding as were submitted");
        }
        if random.once_in(3) {
            self.call(random)?;
        }
        // Some are left to be collected later, or never.
        let left = if random.once_in(8) { random.below(4) as usize } else { 0 };
        while self.outstanding.len() > left {
            self.collect(random)?;
        }
        Ok(())
    }

    /// Whether an operation waits by epoll. Now and then it waits as others do.
    fn waits_outside(&self, random: &mut Random) -> bool {
        self.looping.is_some() && !random.once_in(4)
    }

    /// The response to the oldest call.
    fn response(&mut self, random: &mut Random) -> Response {
        let outside = self.waits_outside(random);
        match &self.looping {
            Some(looping) if outside => looping.response(&mut self.link, Some(Instant::now() + PATIENCE)),
            _ => self.link.response_timeout(PATIENCE).map(|reply| reply.to_vec()),
        }
    }

    fn collect(&mut self, random: &mut Random) -> Result<(), Over> {
        self.linker.history.begin(0, Op::LinkRespond, deadline(PATIENCE));
        let mut response = self.response(random);
        if response == Err(CallError::TimedOut) {
            // The whole machine may have stood still meanwhile.
            response = self.response(random);
        }
        let Some(request) = self.outstanding.pop_front() else { return Ok(()) };
        if response == Err(CallError::TimedOut) {
            self.wrong(Op::LinkRespond, "no response to a submitted call");
        }
        let outcome = self.check(Op::LinkRespond, &request, response);
        self.ended(Op::LinkRespond, deadline(PATIENCE), outcome)
    }

    /// Closes it, in one of the ways to do so.
    pub fn close(mut self, random: &mut Random) {
        let pid = self.link.peer().pid;
        if random.once_in(3) {
            self.closed = true;
            let closer = self.link.closer();
            closer.close();
            if closer.reason().is_none() {
                self.wrong(Op::CloseLink, "it was closed, and has no reason");
            }
            // What its watcher does and what this thread does may meet.
            if random.once_in(2) && self.call(random).is_ok() {
                self.wrong(Op::LinkCall, "a call after the close was answered");
            }
        }
        let closer = self.link.closer();
        drop(self.link);
        match closer.reason() {
            Some(reason) => self.linker.link_over(0, reason, pid),
            None => self.linker.history.violation(0, Op::CloseLink, "a link that was dropped has no reason"),
        }
    }

    /// Its client has left: it must end, for everybody who still uses it. `soon`: not at once.
    pub fn outlive(mut self, random: &mut Random, soon: bool) {
        self.closed = true;
        for _ in 0..10_000 {
            if self.call_in_time(random).is_err() {
                return;
            }
            if !soon {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.wrong(Op::LinkCall, "its client has left, and it goes on");
    }
}
