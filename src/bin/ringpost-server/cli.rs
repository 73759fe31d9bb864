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

/// Server of a local message bus over shared memory.
///
/// Clients register under a name and get a key. They call the server's service (here: echo) and send each
/// other messages. On SIGTERM or SIGINT the server answers all outstanding requests and ends.
#[derive(Debug, Parser)]
#[command(name = "ringpost-server", version, max_term_width = 110, after_long_help = log::help())]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub socket: SocketOption,

    /// The largest number of clients: 1 to 65536 [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_clients: Option<u32>,

    /// The size of each of the three rings of a client: a power of two from 4K to 1G [default: 256K]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub ring_size: Option<usize>,

    /// The largest request, response or message, including a header of 8 bytes: 256 to half the ring size
    /// minus 8 [default: the largest]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_block: Option<usize>,

    /// How a worker waits for its client: spin (fastest, but keeps a CPU busy for each client; not allowed
    /// under a real-time policy), adaptive, or park
    #[arg(long, value_name = "HOW", default_value_t)]
    pub wait: WaitStrategy,

    /// Pin the workers to this CPU
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,

    /// Allow this user (name or number) to connect; may be repeated
    #[arg(long, value_name = "USER", value_parser = user)]
    pub allow_user: Vec<u32>,

    /// Allow the members of this group (name or number) to connect; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub allow_group: Vec<u32>,

    /// A limit for each user except the server's own and root: asking=N (unregistered connections),
    /// clients=N, ring-bytes=BYTES, spinning=N (workers), registrations=N (per second), links=N,
    /// topics=N or subscriptions=N; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = quota)]
    pub quota: Vec<Quota>,

    #[command(flatten)]
    pub log: LogOptions,

    /// End when the parent process ends
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
    /// Checks options that depend on each other.
    pub fn check(&self, socket: &Path) -> Outcome {
        if self.socket.is_default() && !(self.allow_user.is_empty() && self.allow_group.is_empty()) {
            return Err(Failure::usage(
                "--allow-user and --allow-group need --socket PATH, in a directory that the allowed users can access: \
                 only its owner can access the default one",
            ));
        }
        // "./bus" is the same path as "bus".
        let place = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some(log) = &self.log.log_file {
            for (what, path) in [("socket", socket), ("socket's lock file", &lock_of(socket))] {
                if place(log) == place(path) {
                    return Err(Failure::usage(format!(
                        "--log-file {}: this is the path of the {what}; choose another one for the log",
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
    fn clap_accepts_the_definitions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_log_file_must_not_be_the_socket_or_its_lock_file() {
        let socket = Path::new("bus");
        let check = |log: &str| Cli::parse_from(["ringpost-server", "--log-file", log]).check(socket);
        for log in ["bus", "./bus", "bus.lock", ".//bus.lock"] {
            assert!(check(log).is_err(), "{log}");
        }
        assert!(check("bus.log").is_ok());
    }
}
