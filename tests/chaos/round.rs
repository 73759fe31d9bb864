//! Runs one round: one server's life, and what happens to it and to its clients.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Signal;

use super::client_process::{ClientProcess, Launch};
use super::failpoints::{self, Armed, Hits, Side};
use super::history::{Gate, now};
use super::judge::End;
use super::plan::{Act, LINKERS, Plan, TOPICS, WAITING, Waits};
use super::random::Random;
use super::server_process::ServerProcess;
use super::stream::Stream;
use super::watch::Watch;
use ringpost::cli::exit::Failure;
use ringpost::cli::place::this_program;
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::Times;

/// Memory that a quiet server may hold beyond what it held before its first client: its allocator keeps some
/// for each thread that ever ran.
pub const ALLOWANCE_KIB: u64 = 16 * 1024;

/// Why a run ends early.
#[derive(Debug)]
pub enum Broken {
    /// A promise was broken.
    Promise(String),
    /// The harness waited for something in vain.
    Vain(String),
    /// The harness itself failed.
    Failure(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        Broken::Failure(failure)
    }
}

impl From<String> for Broken {
    fn from(promise: String) -> Broken {
        Broken::Promise(promise)
    }
}

pub(super) type Done = Result<(), Broken>;

/// How processes ended.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub struct Deaths {
    /// By a signal from the harness.
    pub killed: u64,
    /// At a failpoint.
    pub at_failpoints: u64,
    /// In good order.
    pub in_order: u64,
}

/// The state that lasts from round to round.
pub struct Chaos {
    pub(super) program: PathBuf,
    pub(super) socket: PathBuf,
    pub seed: u64,
    /// How many clients, how many with links, and how many with topics.
    pub(super) slots: [u64; 3],
    pub(super) fault: Option<String>,
    pub(super) processes: Vec<ClientProcess>,
    pub(super) gate: Gate,
    /// That of the clients with links or topics.
    pub(super) link_gate: Gate,
    pub round: u32,
    pub watch: Watch,
    pub hits: Hits,
    pub clients: Deaths,
    pub links: Deaths,
    pub topics: Deaths,
    pub servers: Deaths,
    pub channels: Deaths,
    pub stops: u64,
    pub quiet_rounds: u64,
    pub blocks: u64,
    pub most_memory_kib: u64,
    pub margins: Times,
    pub(super) interrupt: Interrupt,
    /// The processes of clients that died.
    dead: HashSet<u32>,
}

/// What is still to be done in a round, and when.
pub(super) struct Due {
    began: Instant,
    acts: std::vec::IntoIter<(Duration, Act)>,
    next: Option<(Duration, Act)>,
    resumes: Vec<(Instant, u64)>,
    connections: Vec<(Instant, Vec<std::os::fd::OwnedFd>)>,
    /// How many processes each slot has had in this round.
    lives: Vec<u64>,
}

impl Chaos {
    pub fn new(
        socket: &Path,
        seed: u64,
        slots: [u64; 3],
        fault: Option<String>,
        interrupt: Interrupt,
    ) -> Result<Chaos, Failure> {
        Ok(Chaos {
            program: this_program()?,
            socket: socket.to_owned(),
            seed,
            slots,
            fault,
            processes: Vec::new(),
            gate: Gate::Closed(0),
            link_gate: Gate::Closed(0),
            round: 0,
            watch: Watch::new(),
            hits: Hits::none(),
            clients: Deaths::default(),
            links: Deaths::default(),
            topics: Deaths::default(),
            servers: Deaths::default(),
            channels: Deaths::default(),
            stops: 0,
            quiet_rounds: 0,
            blocks: 0,
            most_memory_kib: 0,
            margins: Times::new(),
            interrupt,
            dead: HashSet::new(),
        })
    }

    /// Runs the round of this number.
    pub fn run(&mut self, round: u32) -> Done {
        self.round = round;
        let plan = Plan::of(self.seed, round, self.slots);
        self.watch.scarce = plan.descriptors > 0;
        self.watch.begin(if plan.waiting { WAITING } else { Duration::ZERO });
        // A process that survived the last round counts as the first one of this round in its slot.
        for process in &mut self.processes {
            process.reader.set_life(0);
            process.reader.set_scarce(plan.descriptors > 0);
            (process.predecessor_died, process.taken_since) = (None, None);
        }
        self.set_gate(Gate::Closed(round + 1));
        if plan.quiet {
            self.set_link_gate(Gate::Closed(round + 1));
        }
        let mut due = Due {
            began: Instant::now(),
            acts: plan.acts.clone().into_iter(),
            next: None,
            resumes: Vec::new(),
            connections: Vec::new(),
            lives: (0..self.slots.iter().sum())
                .map(|slot| u64::from((slot as usize) < self.processes.len()))
                .collect(),
        };
        due.next = due.acts.next();
        for slot in self.processes.len() as u64..self.slots.iter().sum() {
            let process = self.start_client(slot, &mut due)?;
            self.processes.push(process);
        }
        if plan.quiet {
            self.await_idle(&mut due, None)?;
        }
        let mut server = ServerProcess::start(&self.program, &self.socket, &plan, self.fault.as_deref())?;
        let mut stream = Stream::start(
            &self.program,
            Random::of(&[self.seed, round.into(), 3]).next(),
            self.seed + u64::from(round),
        )?;
        let base = if plan.quiet { Some(self.await_server(&mut server, &mut due)?) } else { None };
        self.set_gate(Gate::Open(round + 1));
        self.set_link_gate(Gate::Open(round + 1));
        due.began = Instant::now();

        while due.began.elapsed() < plan.length && server.ended().is_none() {
            self.tick(&mut due)?;
            self.act(&mut due)?;
            self.read_stream(&mut stream)?;
        }
        due.connections.clear();
        for process in &mut self.processes {
            process.resume();
        }
        self.end_server(&plan, &mut server, base, &mut due)?;
        self.settle(&mut due)?;
        self.check_bereaved(&mut due)?;
        self.end_stream(stream)?;
        self.margins.record(self.watch.margin());
        match self.watch.judge.verdict() {
            Ok(messages) => self.watch.messages.add(messages),
            Err(broken) => return Err(Broken::Promise(broken.join("\n"))),
        }
        Ok(())
    }

    /// The last records of all clients as lines of text.
    pub fn stories(&self) -> Vec<String> {
        let waits = |process: &ClientProcess| Waits::of(self.seed, self.round + 1, self.number(process));
        self.processes.iter().flat_map(|process| process.story(waits(process))).collect()
    }

    /// A client's number by which its way to wait is chosen.
    fn number(&self, process: &ClientProcess) -> u64 {
        match process.side {
            Side::Link => LINKERS + process.slot - self.slots[0],
            Side::Topic => TOPICS + process.slot - self.slots[0] - self.slots[1],
            _ => process.slot,
        }
    }

    pub(super) fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
        for process in self.processes.iter_mut().filter(|process| process.side == Side::Client) {
            process.reader.set_gate(gate);
        }
    }

    pub(super) fn set_link_gate(&mut self, gate: Gate) {
        self.link_gate = gate;
        for process in self.processes.iter_mut().filter(|process| process.side != Side::Client) {
            process.reader.set_gate(gate);
        }
    }

    /// The gate of this process.
    pub(super) fn gate_of(&self, side: Side) -> Gate {
        if side == Side::Client { self.gate } else { self.link_gate }
    }

    fn start_client(&mut self, slot: u64, due: &mut Due) -> Result<ClientProcess, Failure> {
        let lives = &mut due.lives[slot as usize];
        let life = *lives;
        *lives += 1;
        let [clients, links, topics] = self.slots;
        let launch = Launch {
            program: &self.program,
            socket: &self.socket,
            seed: self.seed,
            clients,
            links,
            topics,
            fault: self.fault.as_deref(),
            scarce: self.watch.scarce,
        };
        let side = launch.side(slot);
        let mut random = Random::of(&[self.seed, self.round.into(), slot, life]);
        let point = if random.once_in(3) {
            None
        } else {
            let turn = random.next();
            failpoints::choose(side, turn, &mut random)
        };
        ClientProcess::start(&launch, slot, life, point, self.gate_of(side))
    }

    // ---- from moment to moment

    fn tick(&mut self, due: &mut Due) -> Done {
        self.interrupt.check()?;
        self.watch.pause()?;
        let time = now();
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            // Asked before reading, so that everything it wrote before its end is read.
            let ended = process.ended();
            self.watch.read(process)?;
            match ended {
                Some(status) => self.replace_dead(index, status, due)?,
                None => self.watch.check_patience(&self.processes[index], time)?,
            }
        }
        let resumed = Instant::now();
        let processes = &mut self.processes;
        due.resumes.retain(|(at, slot)| {
            if *at <= resumed {
                processes[*slot as usize].resume();
            }
            *at > resumed
        });
        due.connections.retain(|(until, _)| *until > resumed);
        Ok(())
    }

    /// Counts how a client's process ended and starts another in its slot.
    fn replace_dead(&mut self, index: usize, status: std::process::ExitStatus, due: &mut Due) -> Done {
        let process = &self.processes[index];
        let deaths = match process.side {
            Side::Link => &mut self.links,
            Side::Topic => &mut self.topics,
            _ => &mut self.clients,
        };
        match (status.signal(), &process.point, process.killed_at) {
            (Some(signal), _, Some(_)) if signal == Signal::KILL.as_raw() => deaths.killed += 1,
            (Some(signal), Some(point), _) if signal == Signal::USR2.as_raw() => {
                deaths.at_failpoints += 1;
                self.hits.add(process.side, point.name);
            }
            _ => {
                return Err(Broken::Promise(format!("{} ended by itself: {status}", process.name())));
            }
        }
        self.dead.insert(process.pid());
        self.watch.topics.died(process.pid(), &process.reader.published());
        let slot = process.slot;
        if let Some(key) = process.key {
            self.watch.judge.ended(key, End::Died);
        }
        let died = process.key.map(|_| process.killed_at.unwrap_or_else(now));
        let taken_since = process.taken_since;
        let mut next = self.start_client(slot, due)?;
        next.predecessor_died = died;
        next.taken_since = taken_since;
        self.processes[index] = next;
        Ok(())
    }

    /// Who was told that the process at the other end of a link had died must be right.
    fn check_bereaved(&mut self, due: &mut Due) -> Done {
        // Those that have died are noticed here at the latest. A link is told of it a moment before the dead
        // process can be waited for.
        self.tick(due)?;
        let noticed = self.until(due, "the dead are dead", Duration::ZERO, |chaos| {
            Ok(chaos.watch.bereaved.iter().all(|(_, pid)| chaos.dead.contains(pid)))
        });
        if let Err(broken @ (Broken::Promise(_) | Broken::Failure(_))) = noticed {
            return Err(broken);
        }
        match self.watch.bereaved.drain(..).find(|(_, pid)| !self.dead.contains(pid)) {
            None => Ok(()),
            Some((who, pid)) => Err(Broken::Promise(format!(
                "{who} was told that the process {pid} at the other end of a link had died, and it lives"
            ))),
        }
    }

    fn act(&mut self, due: &mut Due) -> Done {
        while let Some((at, act)) = due.next {
            if due.began.elapsed() < at {
                break;
            }
            due.next = due.acts.next();
            match act {
                Act::Kill(slot) => self.processes[slot as usize].kill(),
                Act::Stop(slot, time) => {
                    let process = &mut self.processes[slot as usize];
                    if process.killed_at.is_none() && !process.is_stopped() {
                        process.stop();
                        self.stops += 1;
                        due.resumes.push((Instant::now() + time, slot));
                    }
                }
                Act::Connect(count, time) => {
                    let sockets = (0..count).map_while(|_| dumb_connection(&self.socket)).collect();
                    due.connections.push((Instant::now() + time, sockets));
                }
            }
        }
        Ok(())
    }

    /// Waits until `holds`, and serves all processes meanwhile.
    pub(super) fn until(
        &mut self,
        due: &mut Due,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Chaos) -> Result<bool, Broken>,
    ) -> Done {
        let began = Instant::now();
        while !holds(self)? {
            // Read before the tick, which finds out whether this process itself was held up.
            let waited = began.elapsed();
            self.tick(due)?;
            if waited > limit + self.watch.margin() {
                return Err(Broken::Vain(format!("waited in vain until {what}")));
            }
        }
        Ok(())
    }

    // ---- the channel by itself

    fn read_stream(&mut self, stream: &mut Stream) -> Done {
        stream.read(256).map_err(|wrong| Broken::Promise(format!("a channel by itself: {wrong}")))?;
        Ok(())
    }

    fn end_stream(&mut self, mut stream: Stream) -> Done {
        // It is killed while it writes, unless it died at its failpoint.
        let status = match stream.child.try_wait().map_err(Failure::failed)? {
            Some(status) => status,
            None => {
                stream.child.kill().map_err(Failure::failed)?;
                stream.child.wait().map_err(Failure::failed)?
            }
        };
        match (status.signal(), &stream.point) {
            (Some(signal), _) if signal == Signal::KILL.as_raw() => self.channels.killed += 1,
            (Some(signal), Some(Armed { name, .. })) if signal == Signal::USR2.as_raw() => {
                self.channels.at_failpoints += 1;
                self.hits.add(Side::Channel, name);
            }
            _ => return Err(Broken::Promise(format!("the writer of a channel ended by itself: {status}"))),
        }
        stream.finish().map_err(|wrong| Broken::Promise(format!("a channel by itself: {wrong}")))?;
        self.blocks += stream.blocks;
        Ok(())
    }
}

/// A connection on which nothing is sent.
fn dumb_connection(socket: &Path) -> Option<std::os::fd::OwnedFd> {
    let address = SocketAddrUnix::new(socket).ok()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
    connect(&fd, &address).ok().map(|()| fd)
}
