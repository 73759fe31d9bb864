//! A client's process as the harness sees it: starts, stops, kills it and reads its history.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use ringpost::Key;
use ringpost::testing::Segment;
use rustix::process::{Pid, Signal, kill_process};

use super::failpoints::{self, Armed, Side};
use super::history::{BYTES, Event, Gate, Kind, Reader, now};
use super::plan::Waits;
use ringpost::cli::child::bound;
use ringpost::cli::exit::Failure;

/// How many records are kept to be shown after a failure.
const SHOWN: usize = 60;

/// The process in a slot.
pub struct ClientProcess {
    /// A client, or one with links.
    pub side: Side,
    pub slot: u64,
    /// How many processes its slot had before it in this round.
    pub life: u64,
    child: Child,
    pub reader: Reader,
    pub point: Option<Armed>,
    /// The operation that each of its two threads has begun and not ended.
    pub open: [Option<Event>; 2],
    /// Its key, while it is registered.
    pub key: Option<Key>,
    /// The word of the gate that it waits at.
    pub idle: Option<u64>,
    /// Since when its registrations have failed because the name is taken.
    pub taken_since: Option<u64>,
    /// When it was stopped, and when it was resumed.
    stops: Vec<(u64, Option<u64>)>,
    /// When the process before it died, if that was registered.
    pub predecessor_died: Option<u64>,
    pub killed_at: Option<u64>,
    pub recent: VecDeque<Event>,
}

/// What every client's process is started with.
pub struct Launch<'a> {
    pub program: &'a Path,
    pub socket: &'a Path,
    pub seed: u64,
    /// How many clients there are, and how many with links, whose slots come behind.
    pub clients: u64,
    pub links: u64,
    pub topics: u64,
    /// What is to go wrong in a client with links or topics.
    pub fault: Option<&'a str>,
    /// Whether the server may lack descriptors.
    pub scarce: bool,
}

impl Launch<'_> {
    /// Who is in this slot, and the role's arguments: its number among its like, and how many these are.
    fn role(&self, slot: u64) -> (Side, &'static str, [u64; 2]) {
        match slot.checked_sub(self.clients) {
            None => (Side::Client, "role-client", [slot, self.clients]),
            Some(slot) if slot < self.links => (Side::Link, "role-linker", [slot, self.links]),
            Some(slot) => (Side::Topic, "role-topics", [slot - self.links, self.topics]),
        }
    }

    /// Whether it has links.
    pub fn side(&self, slot: u64) -> Side {
        self.role(slot).0
    }
}

impl ClientProcess {
    pub fn start(
        launch: &Launch<'_>,
        slot: u64,
        life: u64,
        point: Option<Armed>,
        gate: Gate,
    ) -> Result<ClientProcess, Failure> {
        let (segment, descriptor) = Segment::create("ringpost-history", BYTES).map_err(Failure::failed)?;
        let reader = Reader::new(segment);
        reader.set_life(life);
        reader.set_scarce(launch.scarce);
        reader.set_gate(gate);
        let (side, role, [number, of]) = launch.role(slot);
        let mut command = Command::new(launch.program);
        bound(&mut command).arg(role).arg(launch.socket);
        command.args([launch.seed, number, of].map(|number| number.to_string()));
        command.stdin(Stdio::from(descriptor)).stdout(Stdio::null());
        command.env_remove(failpoints::VARIABLE).env_remove(failpoints::FAULT);
        if let (Side::Link | Side::Topic, Some(fault)) = (side, launch.fault) {
            command.env(failpoints::FAULT, fault);
        }
        if let Some(point) = &point {
            command.env(failpoints::VARIABLE, point.told());
        }
        let child = command.spawn().map_err(Failure::failed)?;
        Ok(ClientProcess {
            side,
            slot,
            life,
            child,
            reader,
            point,
            open: [None; 2],
            key: None,
            idle: None,
            taken_since: None,
            stops: Vec::new(),
            predecessor_died: None,
            killed_at: None,
            recent: VecDeque::new(),
        })
    }

    /// Reads its next record.
    pub fn hear(&mut self) -> Option<Event> {
        let event = self.reader.next()?;
        if self.recent.len() == SHOWN {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
        match event.kind {
            Kind::Begin => self.open[usize::from(event.thread) % 2] = Some(event),
            Kind::End => self.open[usize::from(event.thread) % 2] = None,
            _ => {}
        }
        Some(event)
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It has not been waited for, so its number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    pub fn kill(&mut self) {
        if self.killed_at.is_none() {
            self.killed_at = Some(now());
            self.signal(Signal::KILL);
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stops.last().is_some_and(|(_, until)| until.is_none())
    }

    pub fn stop(&mut self) {
        if !self.is_stopped() {
            self.stops.push((now(), None));
            self.signal(Signal::STOP);
        }
    }

    pub fn resume(&mut self) {
        if let Some((_, until @ None)) = self.stops.last_mut() {
            *until = Some(now());
            self.signal(Signal::CONT);
        }
    }

    /// How long it was stopped after `since`.
    pub fn still_since(&self, since: u64) -> u64 {
        let end = now();
        self.stops.iter().map(|&(from, to)| to.unwrap_or(end).saturating_sub(from.max(since))).sum()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it is called in what is told of it.
    pub fn name(&self) -> String {
        let kind = match self.side {
            Side::Link => "client with links",
            Side::Topic => "client with topics",
            _ => "client",
        };
        format!("{kind} {}", self.slot)
    }

    /// Its last records as lines of text, oldest first.
    pub fn story(&self, waits: Waits) -> Vec<String> {
        let begin = self.recent.front().map_or(0, |event| event.time);
        let mut lines = vec![format!(
            "{} life {} pid {} key {} point {} waits {waits:?}",
            self.name(),
            self.life,
            self.child.id(),
            self.key.map_or_else(|| "none".into(), |key| key.to_string()),
            self.point.as_ref().map_or_else(|| "none".into(), Armed::told),
        )];
        lines.extend(self.recent.iter().map(|event| {
            format!(
                "  {:>9.3} ms  {} {:?} {:?} {:?} {} {}",
                event.time.saturating_sub(begin) as f64 / 1e6,
                event.thread,
                event.kind,
                event.op,
                event.outcome,
                event.key(),
                event.number(),
            )
        }));
        lines
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
