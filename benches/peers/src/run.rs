//! All rounds: in each, one peer after the other, its processes started anew.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::cli::{Options, Part};
use crate::context::{MEASURED, READY};
use crate::failure::{Failure, OrFail, Outcome};
use crate::machine::{Machine, Pins};
use crate::measure::Measured;
use crate::output;
use crate::parts::Process;
use crate::peers::{ALL, Kind, Peer, Play, READERS, Version, shm_prefix};
use crate::result::{Entry, Round, finish};

/// How long a process may take until it can be reached, and, once it has answered its last request, to its
/// end.
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(2);

/// How much longer than its budget a client may measure.
const SLACK: Duration = Duration::from_secs(20);

/// By how many places each round begins later than the one before.
const STEP: usize = 7;

/// What is the same for all.
struct Run {
    program: PathBuf,
    budget: Duration,
    pins: Pins,
}

pub fn run(options: &Options) -> Outcome {
    if options.list {
        return output::list();
    }
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 10 });
    let milliseconds = options.milliseconds.unwrap_or(if options.quick { 40 } else { 200 });
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).or_fail("listen for signals")?;
    }
    let run = Run {
        program: std::env::current_exe().or_fail("find this program itself")?,
        budget: Duration::from_millis(milliseconds),
        pins: Pins::choose()?,
    };
    let mut entries = entries(options, run.pins)?;
    let mut done = 0;
    for round in 1..=rounds {
        eprintln!("peers: round {round} of {rounds}");
        // Another one goes first in each round, so that none always follows the same.
        let first = (round as usize - 1) * STEP % entries.len();
        for at in (first..entries.len()).chain(0..first) {
            let entry = &mut entries[at];
            if interrupted.load(Ordering::Relaxed) || entry.failure.is_some() {
                continue;
            }
            match run.one(entry.about, entry.size, entry.readers) {
                Ok(measured) => entry.rounds.push(Round { round, measured, ratio: None }),
                // The children get the terminal's signal, too.
                Err(_) if interrupted.load(Ordering::Relaxed) => {}
                Err(why) => entry.give_up(&why, round),
            }
        }
        if interrupted.load(Ordering::Relaxed) {
            return Err(Failure::new(format!("interrupted in round {round}; nothing is left running")));
        }
        done = round;
    }
    finish(&mut entries);
    output::print(options.json, &Machine::look(run.pins), done, milliseconds, &entries)
}

/// What is to be measured; what cannot be has its reason already.
fn entries(options: &Options, pins: Pins) -> Outcome<Vec<Entry>> {
    let named = |peer: &Peer| {
        options.only.is_empty() || options.only.iter().any(|part| peer.name.contains(part.as_str()))
    };
    // A floor comes with those that stand beside it.
    let wanted = |peer: &Peer| {
        named(peer)
            || peer.is_floor()
                && ALL.iter().any(|other| other.kind.floor() == Some(peer.name) && named(other))
    };
    let mut entries = Vec::new();
    for peer in ALL.iter().copied().filter(|peer| wanted(peer)) {
        let version = match peer.version {
            Version::None => Ok(None),
            Version::Of(name) => Ok(Some(output::locked(name))),
            Version::Asked(ask) => ask().map(Some),
        };
        let readers = if peer.kind == Kind::FanOut { READERS } else { &[1] };
        for (&size, &readers) in
            peer.sizes.iter().flat_map(|size| readers.iter().map(move |many| (size, many)))
        {
            let mut entry = Entry::new(peer, size, readers, version.clone().unwrap_or_default());
            if let Err(why) = &version {
                entry.give_up(why, 0);
            } else if !pins.differ() && peer.spins() {
                entry.give_up(
                    &Failure::new("both ends spin: that takes two CPUs, and this process may use one"),
                    0,
                );
            }
            entries.push(entry);
        }
    }
    match entries.is_empty() {
        false => Ok(entries),
        true => Err(Failure::new("no peer has such a name: see peers --list")),
    }
}

/// Shared memory that a peer made for one run, and may leave behind: removed when this is dropped.
struct Traces(String);

impl Traces {
    fn of(dir: &Path) -> Traces {
        Traces(shm_prefix(dir))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(&self.0) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Run {
    /// One peer once.
    fn one(&self, peer: &'static Peer, size: usize, readers: u32) -> Outcome<Measured> {
        let dir = tempfile::Builder::new().prefix("peers-").tempdir().or_fail("make a directory")?;
        let dir = dir.path();
        // They end in the opposite order, and what they left goes last.
        let _traces = Traces::of(dir);
        let process = |part: Part, address: &str| self.process(peer, size, readers, dir, part, address);
        if let Play::Broadcast { broker, .. } = peer.play {
            return self.broadcast(broker.is_some(), readers, process);
        }
        let mut broker = None;
        let mut server = None;
        let mut address = String::new();
        if let Play::Brokered { .. } | Play::Named { .. } = peer.play {
            let broker = broker.insert(process(Part::Broker, "")?);
            address = broker.hear(READY, START, &mut [])?;
        }
        if let Play::Brokered { .. } | Play::Named { .. } | Play::Pair { .. } = peer.play {
            let server = server.insert(process(Part::Server, &address)?);
            address = server.hear(READY, START, &mut Vec::from_iter(broker.as_mut()))?;
        }
        let mut client = process(Part::Client, &address)?;
        let mut others: Vec<&mut Process> = broker.as_mut().into_iter().chain(server.as_mut()).collect();
        let measured = client.hear(MEASURED, self.budget * 2 + SLACK, &mut others)?;
        client.let_end(END);
        if let Some(server) = server {
            server.let_end(END);
        }
        serde_json::from_str(&measured).or_fail("read what the client measured")
    }

    /// The publisher is first, and tells the readers where they find it.
    fn broadcast(
        &self,
        brokered: bool,
        readers: u32,
        process: impl Fn(Part, &str) -> Outcome<Process>,
    ) -> Outcome<Measured> {
        let mut broker = None;
        if brokered {
            broker.insert(process(Part::Broker, "")?).hear(READY, START, &mut [])?;
        }
        let mut client = process(Part::Client, "")?;
        let address = client.hear(READY, START, &mut Vec::from_iter(broker.as_mut()))?;
        let mut all = Vec::new();
        for _ in 0..readers {
            all.push(process(Part::Server, &address)?);
        }
        let mut others: Vec<&mut Process> = broker.as_mut().into_iter().chain(&mut all).collect();
        let measured = client.hear(MEASURED, self.budget * 2 + SLACK, &mut others)?;
        client.let_end(END);
        all.into_iter().for_each(|reader| reader.let_end(END));
        serde_json::from_str(&measured).or_fail("read what the client measured")
    }

    fn process(
        &self,
        peer: &Peer,
        size: usize,
        readers: u32,
        dir: &Path,
        part: Part,
        address: &str,
    ) -> Outcome<Process> {
        let mut command = Command::new(&self.program);
        command.arg("role").arg(part.name()).arg("--dir").arg(dir);
        for (option, value) in [
            ("--peer", peer.name.to_string()),
            ("--parent", std::process::id().to_string()),
            ("--address", address.to_string()),
            ("--size", size.to_string()),
            ("--readers", readers.to_string()),
            ("--milliseconds", self.budget.as_millis().to_string()),
            ("--client-cpu", self.pins.client.to_string()),
            ("--server-cpu", self.pins.server.to_string()),
        ] {
            command.arg(option).arg(value);
        }
        // For what they keep in files.
        command.env("TMPDIR", dir);
        // A broker serves until it is told to end.
        Process::start(part, command, (part == Part::Broker).then_some(Signal::TERM))
    }
}
