//! A run: a server and its clients are killed, stopped and starved until the time is over, and every promise
//! is checked.
//!
//! One *round* is one server's life. Client processes register, call, send, receive and leave at random, all
//! of it from the seed; this process kills them, stops them and lets them go on, kills or stops the server or
//! lets it die at a failpoint, and takes another server process for the next round. Each client writes its
//! history into memory that outlives it. When a round is over all histories are judged together.
//!
//! Everything that is chosen comes from the seed and the round's number. What is not: how the processes are
//! scheduled, so how far each came when another was killed, and how many processes a round needs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out::{self, Progress};
use ringpost::cli::place::TempDir;
use ringpost::cli::signals::Interrupt;

use super::failpoints;
use super::history;
use super::report::Report;
use super::round::{Broken, Chaos};

#[derive(Debug, Args)]
pub struct ChaosOptions {
    /// How long to go on
    #[arg(long, value_name = "N", value_parser = minutes, default_value = "1")]
    pub minutes: Duration,

    /// What all choices come from [default: chosen, and shown]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// Client processes at a time: 2 to 32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=32), default_value = "12")]
    pub clients: u64,

    /// Client processes with links at a time: 0 to 32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=32), default_value = "5")]
    pub links: u64,

    /// Client processes with topics at a time: 0 to 32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=32), default_value = "4")]
    pub topics: u64,

    /// Only the round of this number, again and again: the one that a failure names
    #[arg(long, value_name = "R")]
    pub round: Option<u32>,

    /// Inject a fault at the Nth occurrence, which must be noticed: `lost` drops an acknowledged message,
    /// `twice` delivers one twice, `name` keeps a dead client's name, `post` loses a post over a link, `bit`
    /// does not tell the server of a link's end, `kick` loses a kick, `gap` does not count what a
    /// subscriber missed. Needs a build with --cfg
    /// ringpost_failpoints
    #[arg(long, value_name = "FAULT:N")]
    pub fault: Option<String>,
}

/// Minutes, which may be fractional.
fn minutes(text: &str) -> Result<Duration, String> {
    let wanted = || "a number of minutes from 0.01 to 10080 is wanted, such as 10 or 0.5".to_string();
    let number: f64 = text.parse().map_err(|_| wanted())?;
    if (0.01..=10_080.0).contains(&number) {
        Ok(Duration::from_secs_f64(60.0 * number))
    } else {
        Err(wanted())
    }
}

/// The command by which this program is started.
fn command() -> String {
    let build = if failpoints::are_built_in() { "RUSTFLAGS=\"--cfg ringpost_failpoints\" " } else { "" };
    format!("{build}cargo test --profile checked --features cli --test chaos --")
}

pub fn run(socket: Option<PathBuf>, options: &ChaosOptions, json: bool) -> Outcome {
    if options.fault.is_some() && !failpoints::are_built_in() {
        return Err(Failure::usage(
            "--fault: this program has no faults to inject: build it with RUSTFLAGS=\"--cfg ringpost_failpoints\"",
        ));
    }
    let interrupt = Interrupt::install()?;
    let directory = TempDir::new("chaos")?;
    let socket = socket.unwrap_or_else(|| directory.path().join("bus.sock"));
    let seed = options.seed.unwrap_or_else(|| history::now() % 1_000_000);
    let slots = [options.clients, options.links, options.topics];
    let mut chaos = Chaos::new(&socket, seed, slots, options.fault.clone(), interrupt)?;
    let began = Instant::now();
    let mut progress = Progress::new();
    let (mut rounds, mut broken) = (0_u64, None);
    while began.elapsed() < options.minutes {
        let round = options.round.unwrap_or(rounds as u32);
        progress.show(format_args!(
            "seed {seed}, round {round}; {} clients and {} servers died",
            chaos.clients.killed + chaos.clients.at_failpoints,
            chaos.servers.killed + chaos.servers.at_failpoints
        ));
        rounds += 1;
        match chaos.run(round) {
            Ok(()) => {}
            Err(Broken::Failure(failure)) => return Err(failure),
            Err(Broken::Promise(what) | Broken::Vain(what)) => {
                broken = Some(what);
                break;
            }
        }
    }
    drop(progress);
    let report = Report::of(&chaos, rounds, began.elapsed(), broken.as_deref());
    if json {
        out::json(&report)?;
    } else {
        out::put(report.text().as_bytes())?;
    }
    match broken {
        None => Ok(()),
        Some(what) => {
            for line in chaos.stories() {
                note(line);
            }
            Err(Failure::failed(format!(
                "round {} broke a promise: {what}; its history stands above, and this tries it again: {} --seed {seed} \
                 --round {} --clients {} --links {} --topics {}",
                chaos.round,
                command(),
                chaos.round,
                options.clients,
                options.links,
                options.topics
            )))
        }
    }
}
