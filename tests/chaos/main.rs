//! Chaos and death: a server and its clients are killed, stopped and starved at random, and every promise is
//! checked; and it is timed how soon a death is noticed.
//!
//! Under `cargo test` this program runs its checks (`checks.rs`), and an argument is a filter, as everywhere.
//! With one of its own options it is the harness itself; `tests/README.md` tells how to use it. It starts
//! itself again as the servers and clients that are to die.

#[path = "../common/mod.rs"]
mod common;

mod census;
mod checks;
mod client;
mod client_process;
mod content;
mod death;
mod ending;
mod failpoints;
mod history;
mod judge;
mod linker;
mod looping;
mod plan;
mod random;
mod report;
mod round;
mod run;
mod server;
mod server_process;
mod stream;
mod topic_judge;
mod topics;
mod watch;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use ringpost::cli::exit::{self, Outcome};

/// Kills, stops and starves a server and its clients at random, and checks every promise
///
/// Processes register, call, send, receive and leave; others of them die in the midst of it, by SIGKILL or,
/// in a build with --cfg ringpost_failpoints, between any two stores. What each did and saw is judged after
/// every server's life: no acknowledged message is lost, doubled or out of order, every call ends, nothing
/// hangs, names become free, and after quiet nothing is left. A broken promise ends the run with status 1,
/// the history and the command that repeats it.
///
/// With --deaths it times how soon a death is noticed, whatever the client does at that moment: a server is
/// killed while a client waits, until the client's operation has returned; and a client is killed, until
/// another one is registered under its name. Where the client registers or unregisters, the server is stopped
/// until the client waits for its answer.
#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    max_term_width = 110,
    override_usage = "cargo test --profile checked --features cli --test chaos -- [OPTIONS]"
)]
struct Cli {
    /// Where the servers are to listen [default: in a private directory]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    chaos: run::ChaosOptions,

    #[command(flatten)]
    death: death::DeathOptions,

    /// Print one JSON object in place of the text
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What a process is that the harness starts.
#[derive(Debug, Subcommand)]
enum Role {
    /// A server that is to be killed
    #[command(name = "role-server", hide = true)]
    Server(server::ServerOptions),
    /// A client that is to be killed
    #[command(name = "role-client", hide = true)]
    Client(client::ClientOptions),
    /// A client with links that is to be killed
    #[command(name = "role-linker", hide = true)]
    Linker(linker::LinkerOptions),
    /// A client with topics that is to be killed
    #[command(name = "role-topics", hide = true)]
    Topics(topics::TopicsOptions),
    /// A writer of a channel that is to be killed
    #[command(name = "role-writer", hide = true)]
    Writer(stream::StreamOptions),
    /// A server that is to be killed once
    #[command(name = "role-death-server", hide = true)]
    DeathServer(death::ServerOptions),
    /// A client that waits
    #[command(name = "role-death-client", hide = true)]
    DeathClient(death::ClientOptions),
}

fn main() -> ExitCode {
    if has_own_options() { exit::run("chaos", dispatch) } else { checks::run() }
}

/// Whether the command line is for the harness, not for its checks.
fn has_own_options() -> bool {
    let command = Cli::command();
    let is_own = |argument: &str| {
        let long = argument.strip_prefix("--").map(|rest| rest.split('=').next().unwrap_or(rest));
        long == Some("help")
            || long.is_some() && command.get_arguments().any(|own| own.get_long() == long)
            || command.get_subcommands().any(|role| role.get_name() == argument)
    };
    std::env::args_os().skip(1).any(|argument| argument.to_str().is_some_and(is_own))
}

fn dispatch(options: Cli) -> Outcome {
    match options.role {
        None if options.death.deaths.is_some() => death::run(options.socket, &options.death, options.json),
        None => run::run(options.socket, &options.chaos, options.json),
        Some(Role::Server(options)) => server::serve(&options),
        Some(Role::Client(options)) => client::run(options),
        Some(Role::Linker(options)) => linker::run(options),
        Some(Role::Topics(options)) => topics::run(options),
        Some(Role::Writer(options)) => stream::write(&options),
        Some(Role::DeathServer(options)) => death::serve(&options),
        Some(Role::DeathClient(options)) => death::client(&options),
    }
}

/// This command line, whatever the program's file is called.
fn command_line() -> Vec<String> {
    std::iter::once("chaos".to_string()).chain(std::env::args().skip(1)).collect()
}

mod tests {
    use super::*;

    pub fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    pub fn wrong_values_are_refused() {
        for line in [
            ["--minutes", "0"],
            ["--clients", "1"],
            ["--links", "33"],
            ["--seed", "-1"],
            ["--deaths", "0"],
            ["--states", "parked"],
            ["--deaths=1", "--states=asleep"],
            ["--deaths=1", "--seed=1"],
        ] {
            assert!(Cli::try_parse_from(["chaos"].iter().chain(&line)).is_err(), "{line:?}");
        }
    }
}
