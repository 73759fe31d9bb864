//! The command line of `ringpost-server`.

use std::path::Path;

use clap::{Parser, Subcommand};
use ringpost::WaitStrategy;

use crate::accounts::{group, user};
use crate::lock_of;
use crate::log::{self, LogOptions};
use crate::quotas::{Quota, quota};
use ringpost::cli::args::{SocketOption, bytes};
use ringpost::cli::cpu;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::generate::Generate;

/// The server of a local message bus over shared memory.
///
/// Clients register a name, get a key, call the server's service (here: echo) and send each other messages by
/// key. SIGTERM and SIGINT end it once everything that was asked of it has been answered.
#[derive(Debug, Parser)]
#[command(name = "ringpost-server", version, max_term_width = 110, after_long_help = log::help())]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub socket: SocketOption,

    /// The most clients that may be registered at once: 1 to 65536 [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_clients: Option<u32>,

    /// The size of each of a client's three rings: a power of two from 4K to 1G [default: 256K]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub ring_size: Option<usize>,

    /// The largest request, response or message, 8 bytes of header included: from 256 to half a ring less 8
    /// [default: that]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_block: Option<usize>,

    /// How a worker waits for its client: spin (fastest, a processor for each client; never under a
    /// real-time policy), adaptive, or park
    #[arg(long, value_name = "HOW", default_value_t)]
    pub wait: WaitStrategy,

    /// Keep the workers on this processor
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,

    /// Let this user connect too, by name or number; may be repeated
    #[arg(long, value_name = "USER", value_parser = user)]
    pub allow_user: Vec<u32>,

    /// Let this group's members connect too, by name or number; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub allow_group: Vec<u32>,

    /// What each user may have, other than the server's own and root: asking=N, clients=N, ring-bytes=BYTES,
    /// spinning=N or registrations=N (each second); may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = quota)]
    pub quota: Vec<Quota>,

    #[command(flatten)]
    pub log: LogOptions,

    /// End when the parent process does
    #[arg(long, hide = true)]
    pub with_parent: bool,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(hide = true)]
    Generate(Generate),
}

impl Cli {
    /// What the options cannot tell one by one.
    pub fn check(&self, socket: &Path) -> Outcome {
        if self.socket.is_default() && !(self.allow_user.is_empty() && self.allow_group.is_empty()) {
            return Err(Failure::usage(
                "--allow-user and --allow-group need --socket PATH, in a directory that those who are allowed may \
                 enter: the default one is closed to all but its owner",
            ));
        }
        // However it is spelled: "./bus" is "bus".
        let place = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some(log) = &self.log.log_file {
            for (what, path) in [("socket", socket), ("socket's lock file", &lock_of(socket))] {
                if place(log) == place(path) {
                    return Err(Failure::usage(format!(
                        "--log-file {}: the {what} is to lie there; give the log another path",
                        log.display()
                    )));
                }
            }
        }
        if let Some(cpu) = self.pin {
            cpu::can_pin(cpu).map_err(|why| Failure::usage(format!("--pin {cpu}: {why}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_log_does_not_lie_where_the_server_s_files_do() {
        let socket = Path::new("bus");
        let check = |log: &str| Cli::parse_from(["ringpost-server", "--log-file", log]).check(socket);
        for log in ["bus", "./bus", "bus.lock", ".//bus.lock"] {
            assert!(check(log).is_err(), "{log}");
        }
        assert!(check("bus.log").is_ok());
    }
}
