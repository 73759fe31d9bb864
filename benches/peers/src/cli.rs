//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Times the same work over ringpost and over its peers, in interleaved rounds, and prints one table.
///
/// Each round starts every peer's processes anew, one peer after the other. The client runs on the first CPU
/// that this process may use, the other end on the second.
#[derive(Debug, Parser)]
#[command(name = "peers", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args)]
pub struct Options {
    /// Rounds: each peer is measured once in each [default: 10, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Milliseconds of measuring for each peer in each round [default: 200, with --quick 40]
    #[arg(long, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub milliseconds: Option<u64>,
    /// Few and short rounds: to see that everything works, not for figures
    #[arg(long)]
    pub quick: bool,
    /// Only the peers whose name contains this, and the floors; may be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Name the peers, and measure nothing
    #[arg(long)]
    pub list: bool,
    /// Print one JSON object with every round instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// One process of one peer, started by this program itself.
    #[command(hide = true)]
    Role(RoleArgs),
}

#[derive(Debug, Args)]
pub struct RoleArgs {
    /// Which process of the peer.
    #[arg(value_enum)]
    pub part: Part,
    #[arg(long)]
    pub peer: String,
    /// The process that started this one, which does not outlive it.
    #[arg(long)]
    pub parent: i32,
    /// A private directory for sockets and the like.
    #[arg(long)]
    pub dir: PathBuf,
    /// Where the other end is, as it said itself.
    #[arg(long, default_value = "")]
    pub address: String,
    #[arg(long)]
    pub size: usize,
    #[arg(long)]
    pub readers: u32,
    #[arg(long)]
    pub milliseconds: u64,
    #[arg(long)]
    pub client_cpu: usize,
    #[arg(long)]
    pub server_cpu: usize,
}

/// A process of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Stands between the two ends, where there is one.
    Broker,
    /// Answers.
    Server,
    /// Asks, and measures.
    Client,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Broker => "broker",
            Part::Server => "server",
            Part::Client => "client",
        }
    }
}
