//! Reads the histories while the round runs: passes them to the judge, takes times, and notices a client that
//! hangs.

use std::time::{Duration, Instant};

use ringpost::CloseReason;

use super::client_process::ClientProcess;
use super::failpoints::Side;
use super::history::{Event, Kind, Op, Outcome};
use super::judge::{End, Judge, Messages};
use super::topic_judge::{TopicCounts, TopicJudge};
use ringpost::cli::stats::Times;

/// How much later than its deadline an operation may end; the limit itself where it has no deadline.
const PATIENCE: Duration = Duration::from_secs(3);

/// The margin grows by this many times the harness's own longest delay.
const PER_DELAY: u32 = 20;

/// What was done and seen, over all rounds.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub struct Counts {
    pub registrations: u64,
    pub unregistered: u64,
    pub calls: u64,
    pub bursts: u64,
    pub refused: u64,
    pub name_taken: u64,
    pub inbox_full: u64,
    pub timed_out: u64,
    pub starved: u64,
    pub service_failures: u64,
    pub links: Links,
    pub topics: TopicCounts,
}

/// What was done over links, and how they ended.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub struct Links {
    pub attempts: u64,
    pub opened: u64,
    /// Nobody was there, or it did not serve.
    pub not_serving: u64,
    /// By the other client, because too many waited, or for a quota.
    pub refused: u64,
    pub timed_out: u64,
    pub calls: u64,
    pub posts: u64,
    /// By this side, by the other, because a client left, or because its process died.
    pub local: u64,
    pub peer: u64,
    pub unregistered: u64,
    pub died: u64,
}

impl Links {
    fn attempted(&mut self, outcome: Outcome) {
        self.attempts += 1;
        match outcome {
            Outcome::Ok => self.opened += 1,
            Outcome::UnknownKey | Outcome::NotServing => self.not_serving += 1,
            Outcome::Refused | Outcome::Busy | Outcome::Quota => self.refused += 1,
            Outcome::TimedOut => self.timed_out += 1,
            _ => {}
        }
    }
}

pub struct Watch {
    pub judge: Judge,
    pub topics: TopicJudge,
    pub counts: Counts,
    pub messages: Messages,
    /// From the death of a registered client until the next process registers its name, its start included.
    pub again: Times,
    /// How much later than their deadline operations ended.
    pub late: Times,
    /// The harness's own longest delay between two looks, in all rounds and in this one.
    pub worst_delay: Duration,
    round_delay: Duration,
    last_look: Option<Instant>,
    /// Operations that ended late. They are judged after the next look, which shows whether the harness was
    /// late itself.
    suspects: Vec<(Duration, String)>,
    /// When, and in which slot, a client was told that the server had died.
    pub orphaned: Vec<(u64, u64)>,
    /// Who was told that the process at the other end of a link had died, and which.
    pub bereaved: Vec<(String, u32)>,
    /// Whether the server may lack descriptors in this round.
    pub scarce: bool,
    /// How much longer than usual operations may take in this round.
    pub more: Duration,
}

/// An error says which promise was broken.
pub type Promise = Result<(), String>;

impl Watch {
    pub fn new() -> Watch {
        Watch {
            judge: Judge::default(),
            topics: TopicJudge::default(),
            counts: Counts::default(),
            messages: Messages::default(),
            again: Times::new(),
            late: Times::new(),
            worst_delay: Duration::ZERO,
            round_delay: Duration::ZERO,
            last_look: None,
            suspects: Vec::new(),
            orphaned: Vec::new(),
            bereaved: Vec::new(),
            scarce: false,
            more: Duration::ZERO,
        }
    }

    /// How late an operation may end on this computer in this round.
    pub fn margin(&self) -> Duration {
        PATIENCE + self.more + PER_DELAY * self.round_delay
    }

    /// Sleeps for a moment, and measures how late this process came back.
    pub fn pause(&mut self) -> Promise {
        const MOMENT: Duration = Duration::from_micros(400);
        std::thread::sleep(MOMENT);
        let now = Instant::now();
        let since = self.last_look.replace(now).map_or(MOMENT, |last| now - last);
        self.round_delay = self.round_delay.max(since.saturating_sub(MOMENT));
        self.worst_delay = self.worst_delay.max(self.round_delay);
        let margin = self.margin();
        match self.suspects.drain(..).find(|(late, _)| *late > margin) {
            Some((_, what)) => Err(what),
            None => Ok(()),
        }
    }

    /// Begins another round. The time until the next look does not count as a delay.
    pub fn begin(&mut self, more: Duration) {
        self.more = more;
        (self.last_look, self.round_delay) = (None, Duration::ZERO);
        self.judge = Judge::default();
        self.topics.begin();
        self.orphaned.clear();
    }

    /// Reads all that a client has written.
    pub fn read(&mut self, process: &mut ClientProcess) -> Promise {
        loop {
            let before = process.open;
            let Some(event) = process.hear() else { return Ok(()) };
            self.note(process, &event, before[usize::from(event.thread) % 2])
                .map_err(|what| format!("{}: {what}", process.name()))?;
        }
    }

    fn note(&mut self, process: &mut ClientProcess, event: &Event, began: Option<Event>) -> Promise {
        if event.thread == 0 {
            process.idle = None;
        }
        match event.kind {
            Kind::Begin => {
                if let (true, Some(key)) = (is_message(event.op), process.key) {
                    self.judge.sends(key, event.key(), event.number());
                }
            }
            Kind::End => self.ended(process, event, began)?,
            Kind::Registered => self.registered(process, event)?,
            Kind::Received => match process.key {
                Some(key) => self.judge.received(key, event.key(), event.number()),
                None => return Err("received something without a registration".into()),
            },
            Kind::Over => {
                let end = if event.outcome == Outcome::Ok { End::Whole } else { End::Left };
                self.judge.ended(event.key(), end);
                process.key = None;
                match event.number() {
                    reason if reason == CloseReason::ProtocolViolation as u64 => {
                        return Err("its channel was closed for a broken rule".into());
                    }
                    reason if reason == CloseReason::Peer as u64 => {
                        return Err("its channel was closed without a reason".into());
                    }
                    reason if reason == CloseReason::Died as u64 => {
                        self.orphaned.push((event.time, process.slot));
                    }
                    _ => {}
                }
            }
            Kind::LinkOver => self.link_over(process, event),
            Kind::Published => self.topics.published(event.words[1], event.words[2]),
            Kind::Seen => {
                let [_, publisher, sequence, subscription, ..] = event.words;
                self.topics.seen((process.pid(), subscription), publisher, sequence);
            }
            Kind::Unsubscribed => self.topics.unsubscribed((process.pid(), event.words[3])),
            Kind::Idle => process.idle = Some(event.words[0]),
            Kind::Violation => return Err(process.reader.text()),
        }
        Ok(())
    }

    fn link_over(&mut self, process: &ClientProcess, event: &Event) {
        let links = &mut self.counts.links;
        match event.words[2] {
            reason if reason == CloseReason::Died as u64 => {
                links.died += 1;
                self.bereaved.push((process.name(), event.words[1] as u32));
            }
            reason if reason == CloseReason::Local as u64 => links.local += 1,
            reason if reason == CloseReason::Unregistered as u64 => links.unregistered += 1,
            _ => links.peer += 1,
        }
    }

    fn registered(&mut self, process: &mut ClientProcess, event: &Event) -> Promise {
        self.counts.registrations += 1;
        if let Some(died) = process.predecessor_died.take() {
            self.again.record(Duration::from_nanos(event.time.saturating_sub(died)));
        }
        process.taken_since = None;
        process.key = Some(event.key());
        if self.judge.registered(event.key()) { Ok(()) } else { Err("a key was given twice".into()) }
    }

    fn ended(&mut self, process: &mut ClientProcess, event: &Event, began: Option<Event>) -> Promise {
        let Some(began) = began else { return Ok(()) };
        if let (true, Some(key)) = (is_message(event.op), process.key) {
            self.judge.sent(key, event.key(), event.number(), event.outcome);
        }
        let counts = &mut self.counts;
        match event.op {
            Op::Call => counts.calls += 1,
            Op::Submit => counts.bursts += 1,
            Op::LinkCall | Op::LinkRespond => counts.links.calls += 1,
            Op::Post => counts.links.posts += 1,
            Op::Connect => counts.links.attempted(event.outcome),
            Op::SendSample if event.outcome == Outcome::Ok => counts.topics.samples += 1,
            Op::Publish if event.outcome == Outcome::Ok => counts.topics.published += 1,
            Op::Subscribe if event.outcome == Outcome::Ok => counts.topics.subscribed += 1,
            Op::Watch if event.outcome == Outcome::Ok => counts.topics.watched += 1,
            Op::Register if process.side != Side::Client && event.outcome == Outcome::Ok => {
                counts.registrations += 1;
            }
            Op::Unregister if event.outcome == Outcome::Ok => counts.unregistered += 1,
            Op::Starve if event.outcome != Outcome::Ok => counts.starved += 1,
            _ => {}
        }
        if event.op == Op::Watch && event.outcome == Outcome::NoAnswer && !self.scarce {
            let [_, more, less, ..] = event.words;
            return Err(format!("it knows of {more} who are not listed, and not of {less} who are"));
        }
        match event.outcome {
            Outcome::Refused => counts.refused += 1,
            Outcome::InboxFull => counts.inbox_full += 1,
            Outcome::TimedOut => counts.timed_out += 1,
            Outcome::ServiceFailed => counts.service_failures += 1,
            Outcome::NameTaken => {
                counts.name_taken += 1;
                process.taken_since.get_or_insert(event.time);
            }
            _ if event.op == Op::Register => process.taken_since = None,
            _ => {}
        }
        if event.words[0] > 0 {
            let took = event.time.saturating_sub(began.time);
            let took = took.saturating_sub(process.still_since(began.time));
            let late = Duration::from_nanos(took.saturating_sub(event.words[0]));
            self.late.record(late);
            if late > self.margin() {
                let what = format!("{}: {:?} came {late:?} after its deadline", process.name(), event.op);
                self.suspects.push((late, what));
            }
        }
        Ok(())
    }

    /// Checks that no operation of a client has taken too long.
    pub fn check_patience(&self, process: &ClientProcess, now: u64) -> Promise {
        if process.is_stopped() || process.killed_at.is_some() {
            return Ok(());
        }
        for event in process.open.iter().flatten() {
            // It may wait for a message as long as the server lives.
            if event.op == Op::ReceiveLong {
                continue;
            }
            let at_it = now.saturating_sub(event.time).saturating_sub(process.still_since(event.time));
            if at_it > event.words[0] + self.margin().as_nanos() as u64 {
                return Err(format!(
                    "{} hangs: {:?} for {} ms, its deadline after {} ms",
                    process.name(),
                    event.op,
                    at_it / 1_000_000,
                    event.words[0] / 1_000_000
                ));
            }
        }
        Ok(())
    }
}

fn is_message(op: Op) -> bool {
    matches!(op, Op::Send | Op::SendWaiting)
}
