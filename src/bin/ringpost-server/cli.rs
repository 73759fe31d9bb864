//! The command line of `ringpost-server`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::log;
use crate::options::Options;
use ringpost::cli::args::SocketOption;
use ringpost::cli::generate::Generate;

/// Server of a local message bus over shared memory.
///
/// Clients register under a name and get a key. They call the server's service (here: echo) and send each
/// other messages. On SIGTERM or SIGINT the server answers all outstanding requests and ends. On SIGHUP it
/// opens its log file anew and loads the access rules of its configuration.
#[derive(Debug, Clone, Parser)]
#[command(name = "ringpost-server", version, max_term_width = 110, after_long_help = log::help())]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub socket: SocketOption,

    /// Read settings from this file (TOML). The command line wins; allowed users and groups are those of
    /// both
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration and the command line, and start nothing
    #[arg(long)]
    pub check_config: bool,

    /// Write a line to this descriptor and close it as soon as clients can connect
    #[arg(long, value_name = "N")]
    pub ready_fd: Option<i32>,

    #[command(flatten)]
    pub options: Options,

    /// The path of the socket that a service manager passed.
    #[arg(skip)]
    pub passed: Option<PathBuf>,

    /// End when the parent process ends
    #[arg(long, hide = true)]
    pub with_parent: bool,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    Generate(Generate),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_accepts_the_definitions() {
        Cli::command().debug_assert();
    }
}
