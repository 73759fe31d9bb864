//! One process of one peer: what it knows, and how it talks to the program that started it.
//!
//! It prints one line on stdout for each thing to say: `ready ADDRESS` once it can be reached, `measured
//! JSON` when it has measured, `failed WHY` if it cannot go on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::cli::{Part, RoleArgs};
use crate::failure::{Failure, Outcome};
use crate::machine::{Pins, pin};
use crate::peers::{self, Play};

pub const READY: &str = "ready";
pub const MEASURED: &str = "measured";
pub const FAILED: &str = "failed";

/// How long an end tries to reach a broker that has just been started.
const REACH: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Context {
    pub dir: PathBuf,
    pub address: String,
    pub size: usize,
    pub readers: u32,
    pub budget: Duration,
    pub pins: Pins,
}

impl Context {
    /// A path in the private directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the other end said that it is.
    pub fn other(&self) -> &Path {
        Path::new(&self.address)
    }

    /// Tells that this process can be reached.
    pub fn ready(&self, address: impl AsRef<Path>) -> Outcome {
        say(READY, &address.as_ref().display())
    }

    /// Tries until something that was just started can be reached.
    pub fn reach<T>(&self, mut reach: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        let deadline = Instant::now() + REACH;
        loop {
            match reach() {
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                done => return done,
            }
        }
    }
}

fn say(word: &str, what: &dyn std::fmt::Display) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {what}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("cannot tell the program that started this process: {error}")))
}

/// Runs as one process of a peer.
pub fn play(role: RoleArgs) -> ExitCode {
    match try_play(role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody to tell means nobody to mind.
            let _ = say(FAILED, &failure);
            ExitCode::FAILURE
        }
    }
}

fn try_play(role: RoleArgs) -> Outcome {
    let cannot = |error| Failure::new(format!("cannot ask to end with the parent process: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(cannot)?;
    // It may have ended before it could be asked for.
    if getppid() != Pid::from_raw(role.parent) {
        return Err(Failure::new("the program that started this process has ended"));
    }
    let peer = peers::find(&role.peer).ok_or_else(|| Failure::new(format!("no peer {}", role.peer)))?;
    let context = Context {
        dir: role.dir,
        address: role.address,
        size: role.size,
        readers: role.readers,
        budget: Duration::from_millis(role.milliseconds),
        pins: Pins { client: role.client_cpu, server: role.server_cpu },
    };
    match (role.part, &peer.play) {
        (Part::Client, play) => {
            pin(context.pins.client)?;
            let measured = play.client()(&context)?;
            let json = serde_json::to_string(&measured)
                .map_err(|error| Failure::new(format!("cannot write the result: {error}")))?;
            say(MEASURED, &json)
        }
        (
            Part::Server,
            Play::Pair { server, .. } | Play::Named { server, .. } | Play::Broadcast { reader: server, .. },
        ) => {
            pin(context.pins.server)?;
            server(&context)
        }
        // Both ends stand on one side of the broker.
        (Part::Server, Play::Brokered { server, .. }) => {
            pin(context.pins.client)?;
            server(&context)
        }
        (
            Part::Broker,
            Play::Brokered { broker, .. }
            | Play::Named { broker, .. }
            | Play::Broadcast { broker: Some(broker), .. },
        ) => {
            pin(context.pins.server)?;
            broker(&context)
        }
        (part, _) => Err(Failure::new(format!("{} has no {}", peer.name, part.name()))),
    }
}
