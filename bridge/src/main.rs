//! `ringpost-bridge`: joins the Ringpost servers of several computers over Zenoh.
//!
//! See README.md for what crosses and how, `wire` for the bytes, and `node` for the claim of a name and the
//! priorities.

mod cli;
mod demo;
mod links;
mod local;
mod log;
mod messages;
mod node;
mod presence;
mod relay;
mod tls;
mod topics;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use cli::{Cli, Command, Settings};
use node::Node;

/// Between two attempts to register at the server.
const PAUSE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let done = match cli.command.take() {
        Some(Command::Demo) => demo::run(),
        Some(Command::DemoPart(part)) => demo::part(&part),
        None => Settings::of(cli).and_then(bridge),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringpost-bridge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bridge(settings: Settings) -> Result<(), String> {
    let log = log::begin();
    // A few more than CPUs: one may be waiting for a slow node (see `node::Way`).
    let threads = std::thread::available_parallelism().map_or(1, usize::from) + 2;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start threads: {error}"))?;
    let done = runtime.block_on(async {
        tokio::spawn(log.tell());
        tokio::spawn(run(settings)).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.map_err(|error| error.to_string())?
}

async fn run(settings: Settings) -> Result<(), String> {
    let stop = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut term, mut int) = (stop(SignalKind::terminate())?, stop(SignalKind::interrupt())?);
    let (fatal, mut fatals) = mpsc::channel(1);
    let (node, claim) = Node::open(settings, fatal).await?;
    info!("node {} is ready", node.name());
    let serves = async {
        let mut told = String::new();
        loop {
            let ended = local::serve(&node).await;
            if ended != told {
                warn!("{ended}; trying again");
                told = ended;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let done = tokio::select! {
        () = serves => Ok(()),
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        Some(error) = fatals.recv() => Err(error),
    };
    // Names of this node vanish elsewhere at once, and those of others here.
    node.end();
    drop(claim);
    let _ = tokio::time::timeout(Duration::from_secs(2), node.session.close()).await;
    done
}
