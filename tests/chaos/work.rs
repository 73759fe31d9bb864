//! What a registered client does, at random.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringpost::{CallError, Caller, Inbox, Key, Name, RecvError, SendError};

use super::client::{ChaosClient, Keys, Way, name_of};
use super::content::{self, REFUSAL, Task};
use super::history::{Gate, Op, Outcome, about};
use super::looping::{Looping, Response};
use super::random::Random;

/// The deadline of a request that has none of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// An error ends the registration, in this way.
type Goes = Result<(), Way>;

/// An inbox, and what it is waited for by.
type Receives<'a> = (&'a mut Inbox, Option<Looping<'a>>);

/// The work of one registration.
pub struct Work<'a> {
    client: &'a ChaosClient,
    caller: Caller,
    /// What its responses are waited for by, if it waits by epoll.
    looping: Option<Looping<'a>>,
    inbox: Option<Receives<'a>>,
    random: Random,
    keys: Keys,
    /// The last number of a request or message; numbers only grow.
    number: u64,
    /// Whether everything that others were told had arrived can still be received.
    whole: bool,
}

/// The outcome of a request. An error that must not occur is recorded and ends the process.
pub fn outcome_of_call(client: &ChaosClient, op: Op, error: Option<&CallError>) -> Outcome {
    match error {
        None => Outcome::Ok,
        Some(CallError::TimedOut) => Outcome::TimedOut,
        Some(CallError::Disconnected(_)) => Outcome::Disconnected,
        Some(CallError::NotSent(_)) => Outcome::NotSent,
        Some(CallError::ShuttingDown) => Outcome::ShuttingDown,
        Some(CallError::ServiceFailed(_)) => Outcome::ServiceFailed,
        Some(CallError::ResponseTooLarge(_)) => Outcome::TooLarge,
        Some(error) => client.history.violation(0, op, &format!("{op:?}: {error:?}")),
    }
}

/// The outcome of sending.
fn outcome_of_sending(client: &ChaosClient, op: Op, sent: &Result<(), SendError>) -> Outcome {
    match sent {
        Ok(()) => Outcome::Ok,
        Err(SendError::NotFound) => Outcome::UnknownKey,
        Err(SendError::InboxFull) => Outcome::InboxFull,
        Err(SendError::Gone) => Outcome::Gone,
        Err(SendError::TimedOut) => Outcome::TimedOut,
        Err(SendError::NoAnswer) => Outcome::NoAnswer,
        Err(SendError::Disconnected(_)) => Outcome::Disconnected,
        Err(SendError::NotSent(_)) => Outcome::NotSent,
        Err(SendError::ShuttingDown) => Outcome::ShuttingDown,
        Err(error) => client.history.violation(0, op, &format!("{op:?}: {error:?}")),
    }
}

fn timeout(time: Duration) -> [u64; 6] {
    [time.as_nanos() as u64, 0, 0, 0, 0, 0]
}

impl<'a> Work<'a> {
    pub fn new(
        client: &'a ChaosClient,
        (caller, looping): (Caller, Option<Looping<'a>>),
        inbox: Option<Receives<'a>>,
        random: Random,
    ) -> Work<'a> {
        Work { client, caller, looping, inbox, random, keys: Keys::default(), number: 0, whole: true }
    }

    /// Works for a random number of steps, until it is told to leave, or until the registration ends.
    pub fn run(mut self) -> (Way, bool, Caller) {
        // Short registrations are as frequent as long ones.
        let most = 4 << self.random.below(7);
        let mut left = 1 + self.random.below(most);
        let way = loop {
            match self.client.history.gate() {
                Gate::Leave(_) => break Way::Unregister,
                gate @ Gate::Hold(_) => {
                    self.client.stand_still(gate);
                    continue;
                }
                Gate::Open(_) | Gate::Closed(_) => {}
            }
            if left == 0 {
                break match self.random.below(6) {
                    0 => Way::Drop,
                    1 => Way::Closer,
                    _ => Way::Unregister,
                };
            }
            left -= 1;
            if let Err(way) = self.step() {
                break way;
            }
        };
        (way, self.whole, self.caller)
    }

    fn step(&mut self) -> Goes {
        match self.random.below(32) {
            0..=7 => self.call(),
            8..=10 => self.burst(),
            11..=18 => self.send(),
            19..=20 => self.flood(),
            21..=27 => self.receive(),
            28 => self.rest(),
            _ => self.ask(),
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// A request whose own length and whose response's length both fit.
    fn request(&mut self) -> (Task, Vec<u8>) {
        let most = self.caller.limits().max_call - 16;
        let number = self.next();
        let task = match self.random.below(64) {
            0 => Task::Panic,
            1 => Task::Fail,
            2..=3 => Task::Slowly,
            4..=12 => Task::Much,
            _ => Task::Turn,
        };
        let much = match task {
            Task::Slowly => self.random.below(2000),
            _ => self.random.length(most) as u64,
        };
        let len = self.random.length(most);
        (task, content::request(task, number, much, len))
    }

    /// Checks that it is the right response.
    fn check(&self, op: Op, task: Task, request: &[u8], response: &Result<&[u8], CallError>) -> Outcome {
        match response {
            Ok(body) if *body == content::response(request, self.caller.key()) => Outcome::Ok,
            Ok(body) => self.wrong(op, &format!("{task:?} of {} bytes: {} bytes", request.len(), body.len())),
            Err(CallError::ServiceFailed(text)) => {
                let meant = task == Task::Panic || task == Task::Fail && text == REFUSAL;
                if meant { Outcome::ServiceFailed } else { self.wrong(op, text) }
            }
            Err(error) => outcome_of_call(self.client, op, Some(error)),
        }
    }

    fn wrong(&self, op: Op, what: &str) -> ! {
        self.client.history.violation(0, op, &format!("the wrong response: {what}"))
    }

    /// Decides by the outcome whether the registration goes on.
    fn after(&mut self, outcome: Outcome) -> Goes {
        match outcome {
            Outcome::Disconnected | Outcome::NotSent => Err(Way::Ended),
            // The server is shutting down; what it has committed can still be received.
            Outcome::ShuttingDown => Err(Way::Unregister),
            _ => Ok(()),
        }
    }

    fn call(&mut self) -> Goes {
        let (task, request) = self.request();
        let patience = match self.random.below(3) {
            0 => None,
            // By epoll only the oldest response can be waited for, and one that is given up must still come.
            _ if self.waits_outside() => None,
            1 => Some(Duration::from_micros(50 + self.random.below(5000))),
            _ => Some(PATIENCE),
        };
        let words = timeout(patience.unwrap_or_default());
        self.client.history.begin(0, Op::Call, words);
        // Copied, for the response borrows the caller.
        let response = match (patience, &self.looping) {
            (None, Some(looping)) if self.caller.outstanding() == 0 => {
                let submitted = looping.submit(&mut self.caller, &request, &mut VecDeque::new());
                submitted.and_then(|()| looping.response(&mut self.caller, None))
            }
            (None, _) => self.caller.call(&request).map(|reply| reply.to_vec()),
            (Some(patience), _) => self.caller.call_timeout(&request, patience).map(|reply| reply.to_vec()),
        };
        let response = response.as_ref().map(Vec::as_slice).map_err(Clone::clone);
        let outcome = self.check(Op::Call, task, &request, &response);
        self.client.history.end(0, Op::Call, outcome, words);
        self.after(outcome)
    }

    /// Whether this operation waits by epoll. Now and then it waits as others do.
    fn waits_outside(&mut self) -> bool {
        self.looping.is_some() && !self.random.once_in(4)
    }

    /// Submits calls. Returns the responses that had to be taken before.
    fn submit(&mut self, requests: &[(Task, Vec<u8>)]) -> (Result<(), CallError>, VecDeque<Response>) {
        let outside = self.waits_outside();
        let mut early = VecDeque::new();
        let mut all = requests.iter().map(|(_, request)| request.as_slice());
        let submitted = match &self.looping {
            Some(looping) if outside => {
                all.try_for_each(|request| looping.submit(&mut self.caller, request, &mut early))
            }
            _ => self.caller.submit_all(all),
        };
        (submitted, early)
    }

    /// The response to the oldest call.
    fn response(&mut self) -> Response {
        let outside = self.waits_outside();
        match &self.looping {
            Some(looping) if outside => looping.response(&mut self.caller, Some(Instant::now() + PATIENCE)),
            _ => self.caller.response_timeout(PATIENCE).map(|reply| reply.to_vec()),
        }
    }

    fn burst(&mut self) -> Goes {
        let count = 1 + self.random.below(64);
        let requests: Vec<_> = (0..count).map(|_| self.request()).collect();
        let before = self.caller.outstanding();
        self.client.history.begin(0, Op::Submit, timeout(PATIENCE));
        let (submitted, mut early) = self.submit(&requests);
        let outcome = outcome_of_call(self.client, Op::Submit, submitted.as_ref().err());
        self.client.history.end(0, Op::Submit, outcome, timeout(PATIENCE));
        self.after(outcome)?;
        if self.caller.outstanding() + early.len() - before != count as usize {
            self.client.history.violation(0, Op::Submit, "not as many outstanding as were submitted");
        }
        if self.random.once_in(4) {
            // So that the responses fill their ring.
            std::thread::sleep(Duration::from_micros(self.random.below(3000)));
        }
        if self.random.once_in(3) {
            self.call()?;
        }
        for (task, request) in &requests {
            self.client.history.begin(0, Op::Respond, timeout(PATIENCE));
            let mut response = early.pop_front().unwrap_or_else(|| self.response());
            if response == Err(CallError::TimedOut) {
                // The whole machine may have stood still meanwhile.
                response = self.response();
            }
            let response = response.as_ref().map(Vec::as_slice).map_err(Clone::clone);
            let outcome = self.check(Op::Respond, *task, request, &response);
            self.client.history.end(0, Op::Respond, outcome, timeout(PATIENCE));
            if outcome == Outcome::TimedOut {
                self.client.history.violation(0, Op::Respond, "no response to a submitted call");
            }
            self.after(outcome)?;
        }
        Ok(())
    }

    /// The key of another client, or of this one.
    fn receiver(&mut self) -> Result<Option<(u64, Key)>, Way> {
        let slot = self.random.below(self.client.options.slots);
        if let Some(key) = self.keys.get(slot) {
            return Ok(Some((slot, key)));
        }
        let Ok(name) = Name::try_from(&*name_of(slot)) else { return Ok(None) };
        self.client.history.begin(0, Op::Ask, timeout(PATIENCE));
        let found = self.caller.look_up(name);
        let outcome = outcome_of_call(self.client, Op::Ask, found.as_ref().err());
        self.client.history.end(0, Op::Ask, outcome, timeout(PATIENCE));
        self.after(outcome)?;
        let Ok(Some(key)) = found else { return Ok(None) };
        self.keys.set(slot, key);
        Ok(Some((slot, key)))
    }

    fn send(&mut self) -> Goes {
        let Some((slot, key)) = self.receiver()? else { return Ok(()) };
        let waits = self.random.once_in(3) && key != self.caller.key();
        self.send_to(slot, key, waits).map(drop)
    }

    fn send_to(&mut self, slot: u64, key: Key, waits: bool) -> Result<Outcome, Way> {
        let number = self.next();
        let len = self.random.length(self.caller.limits().max_message);
        let message = content::message(self.caller.key(), number, len);
        let history = &self.client.history;
        let (op, patience) = if waits {
            (Op::SendWaiting, Duration::from_micros(self.random.below(20_000)))
        } else {
            (Op::Send, Duration::ZERO)
        };
        let words = about(patience.as_nanos() as u64, key, number);
        history.begin(0, op, words);
        let sent = if waits {
            self.caller.send_timeout(key, &message, patience)
        } else {
            self.caller.try_send(key, &message)
        };
        let outcome = outcome_of_sending(self.client, op, &sent);
        history.end(0, op, outcome, words);
        if matches!(outcome, Outcome::UnknownKey | Outcome::Gone) {
            self.keys.forget(slot);
        }
        self.after(outcome)?;
        Ok(outcome)
    }

    /// Fills one inbox, then waits for room with the last message.
    fn flood(&mut self) -> Goes {
        let Some((slot, key)) = self.receiver()? else { return Ok(()) };
        for _ in 0..200 {
            match self.send_to(slot, key, false)? {
                Outcome::Ok => {}
                Outcome::InboxFull if key != self.caller.key() => {
                    return self.send_to(slot, key, true).map(drop);
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Goes {
        let Some((inbox, looping)) = &mut self.inbox else { return Ok(()) };
        for _ in 0..64 {
            match inbox.try_recv() {
                Ok(Some(message)) => self.client.received(0, &message),
                Ok(None) => break,
                Err(RecvError::Disconnected(_)) => return Err(Way::Ended),
                Err(error) => self.client.history.violation(0, Op::Receive, &format!("{error:?}")),
            }
        }
        let patience = Duration::from_micros(self.random.below(3000));
        let (words, began) = (timeout(patience), Instant::now());
        self.client.history.begin(0, Op::Receive, words);
        let received = match looping {
            Some(looping) if !self.random.once_in(4) => looping.receive(inbox, Some(began + patience)),
            _ => inbox.recv_timeout(patience),
        };
        let outcome = match received {
            Ok(message) => {
                self.client.received(0, &message);
                Outcome::Ok
            }
            Err(RecvError::TimedOut) if began.elapsed() < patience => {
                self.client.history.violation(0, Op::Receive, "timed out before its time")
            }
            Err(RecvError::TimedOut) => Outcome::TimedOut,
            Err(RecvError::Disconnected(_)) => Outcome::Disconnected,
            Err(error) => self.client.history.violation(0, Op::Receive, &format!("{error:?}")),
        };
        self.client.history.end(0, Op::Receive, outcome, words);
        self.after(outcome)
    }

    /// Does nothing for a while, so that its inbox fills.
    fn rest(&mut self) -> Goes {
        std::thread::sleep(Duration::from_micros(self.random.below(10_000)));
        Ok(())
    }

    fn ask(&mut self) -> Goes {
        self.client.history.begin(0, Op::Ask, timeout(PATIENCE));
        let error = match self.random.below(3) {
            0 => self.caller.ping().err(),
            1 => self.caller.statistics().err(),
            _ => match self.caller.list() {
                Ok(clients) => {
                    let own = self.caller.key();
                    if !clients.iter().any(|client| client.key == own) {
                        self.client.history.violation(0, Op::Ask, "a list of clients without this one");
                    }
                    None
                }
                Err(error) => Some(error),
            },
        };
        let outcome = outcome_of_call(self.client, Op::Ask, error.as_ref());
        self.client.history.end(0, Op::Ask, outcome, timeout(PATIENCE));
        self.after(outcome)
    }
}
