//! Times how soon a death is noticed, for each state that a client can be in.

mod roles;
mod trial;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

pub use self::roles::{ClientOptions, ServerOptions, client, serve};
use self::roles::{STATES, State};
use self::trial::Trials;
use crate::command_line;
use ringpost::cli::cpu;
use ringpost::cli::exit::Outcome;
use ringpost::cli::out::{self, Progress};
use ringpost::cli::place::TempDir;
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Summary, Times, nanoseconds};
use ringpost::cli::table::Table;

#[derive(Debug, Args)]
pub struct DeathOptions {
    /// Time this many deaths in each state of a client, in place of chaos
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        conflicts_with_all = ["minutes", "seed", "clients", "round", "fault"]
    )]
    pub deaths: Option<u32>,

    /// Only these states, separated by commas
    #[arg(long, value_name = "STATES", value_delimiter = ',', requires = "deaths")]
    pub states: Vec<State>,
}

#[derive(Serialize)]
struct Object {
    harness: &'static str,
    version: &'static str,
    command: Vec<String>,
    cpus: usize,
    kernel: Option<String>,
    count: u32,
    states: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    state: State,
    /// From SIGKILL to the server until the client's operation has returned.
    server_death_ns: Summary,
    /// From SIGKILL to the client (or, if the server stood still, from its going on) until its name is
    /// another's.
    client_death_ns: Summary,
}

pub fn run(socket: Option<PathBuf>, options: &DeathOptions, json: bool) -> Outcome {
    let count = options.deaths.unwrap_or(1);
    let interrupt = Interrupt::install()?;
    let directory = TempDir::new("death")?;
    let socket = socket.unwrap_or_else(|| directory.path().join("bus.sock"));
    let mut trials = Trials::new(&socket, &interrupt)?;
    let mut progress = Progress::new();
    let chosen = if options.states.is_empty() { &STATES[..] } else { &options.states };
    let mut states = Vec::new();
    for &state in chosen {
        let (mut servers, mut clients) = (Times::new(), Times::new());
        for number in 0..count {
            progress.show(format_args!("{}: {number} of {count}", state.word()));
            servers.record(trials.server_death(state)?);
            clients.record(trials.client_death(state)?);
        }
        states.push(Row { state, server_death_ns: servers.summary(), client_death_ns: clients.summary() });
    }
    drop(progress);
    let object = Object {
        harness: "death",
        version: env!("CARGO_PKG_VERSION"),
        command: command_line(),
        cpus: cpu::allowed().len(),
        kernel: cpu::kernel(),
        count,
        states,
    };
    if json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

impl Object {
    fn text(&self) -> String {
        let mut table =
            Table::new("the client is | server's death p50 | p99 | max | client's death p50 | p99 | max");
        for row in &self.states {
            let times =
                |times: &Summary| [times.p50, times.p99, times.max].map(|time| nanoseconds(time as f64));
            let cells = times(&row.server_death_ns).into_iter().chain(times(&row.client_death_ns));
            table.row(std::iter::once(row.state.word()).chain(cells));
        }
        format!(
            "{} deaths each; {} CPUs, Linux {}\nfrom the server's death until the client's operation has returned, and from \
             the client's death until its name is another's\n{}",
            self.count,
            self.cpus,
            self.kernel.as_deref().unwrap_or("of an unknown release"),
            table.text()
        )
    }
}
