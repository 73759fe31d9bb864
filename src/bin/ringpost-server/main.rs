//! `ringpost-server`: runs a server whose service is an echo, with a log and an orderly end on signals.

#![forbid(unsafe_code)]

mod accounts;
mod cli;
mod log;
mod quotas;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ringpost::{Quotas, Server, ServerSummary, StartError};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use signal_hook::consts::SIGXFSZ;

use cli::{Cli, Command};
use ringpost::cli::args::readable_time;
use ringpost::cli::child;
use ringpost::cli::exit::{self, Failure, Outcome};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::thousands;

fn main() -> ExitCode {
    exit::run("ringpost-server", serve)
}

fn serve(options: Cli) -> Outcome {
    if let Some(Command::Generate(generate)) = &options.command {
        return generate.run::<Cli>();
    }
    if options.with_parent {
        child::die_with_parent();
    }
    // This process maps every client's channel, so other processes of the same user must not read its memory
    // or trace it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
        Failure::failed(format!("cannot protect this process's memory from other processes: {error}"))
    })?;
    let path = options.socket.path()?;
    options.check(&path)?;
    let interrupt = Interrupt::install()?;
    // A log file that reaches the size limit (ulimit -f) must only cause a write error, not end the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())
        .map_err(|error| Failure::failed(format!("cannot handle signals: {error}")))?;
    raise_descriptor_limit();
    let mut log = log::start(&options.log)?;

    let mut builder = Server::builder(&path);
    if let Some(clients) = options.max_clients {
        builder = builder.max_clients(clients);
    }
    if let Some(bytes) = options.ring_size {
        builder = builder.ring_size(bytes);
    }
    if let Some(bytes) = options.max_block {
        builder = builder.max_block(bytes);
    }
    if let Some(cpu) = options.pin {
        builder = builder.pin(cpu);
    }
    for user in &options.allow_user {
        builder = builder.allow_user(*user);
    }
    for group in &options.allow_group {
        builder = builder.allow_group(*group);
    }
    let mut quotas = Quotas::default();
    for quota in &options.quota {
        quota.set(&mut quotas);
    }
    let server = match builder.quotas(quotas).wait(options.wait).start() {
        Ok(server) => server,
        Err(error) => {
            log.finish();
            return Err(match error {
                StartError::MaxClients(_)
                | StartError::Geometry(_)
                | StartError::Pin { .. }
                | StartError::Access(_) => Failure::usage(error),
                _ => Failure::failed(error),
            });
        }
    };
    let stopper = server.stopper();
    interrupt.then(move || stopper.shutdown());
    let files = [path.clone(), lock_of(&path)].map(|path| (inode_of(&path), path));
    interrupt.at_last(move || {
        for (_, path) in files.iter().filter(|(inode, path)| inode.is_some() && inode_of(path) == *inode) {
            let _ = std::fs::remove_file(path);
        }
    });
    // Printed before the log's first line. The signal handlers are already installed.
    if log.leaves_stderr {
        exit::note(format_args!("listening on {}", exit::one_line(&path.display().to_string())));
    }
    log.begin();
    if !(log.on_stderr && log.leaves_stderr) {
        tracing::info!(
            target: "ringpost",
            event = "listening",
            socket = %path.display(),
            pid = std::process::id(),
            version = env!("CARGO_PKG_VERSION"),
        );
    }

    let summary = server.join();
    tracing::info!(
        target: "ringpost",
        event = "stopped",
        signal = interrupt.caught(),
        clients = summary.registered,
        calls = summary.calls,
        messages = summary.messages,
        bytes_in = summary.bytes_in,
        bytes_out = summary.bytes_out,
        refused = summary.refused,
        violations = summary.violations,
        abandoned = summary.abandoned,
        seconds = seconds(summary.uptime),
    );
    if !log.on_stderr {
        exit::note(in_words(&summary, interrupt.caught()));
    }
    log.finish();
    if summary.failed {
        return Err(Failure::failed(
            "the server ended because its main thread panicked: start it again, and report this bug with the log",
        ));
    }
    Ok(())
}

/// Raises the limit of open files as far as allowed, because each client needs a descriptor. The library does
/// not change the limit; it only warns if it is too low for the largest number of clients.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// The lock file beside the socket.
fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Identifies the file at a path, to notice if it is replaced.
fn inode_of(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Formats the summary for stderr, if the log is elsewhere.
fn in_words(summary: &ServerSummary, signal: Option<&str>) -> String {
    let counts = [
        (summary.registered, "client", "clients"),
        (summary.calls, "call", "calls"),
        (summary.messages, "message", "messages"),
        (summary.bytes_in, "byte in", "bytes in"),
        (summary.bytes_out, "byte out", "bytes out"),
        (summary.refused, "refusal", "refusals"),
        (summary.violations, "violation", "violations"),
    ]
    .map(|(count, one, many)| format!("{} {}", thousands(count), if count == 1 { one } else { many }));
    let by = signal.map(|signal| format!(" by {signal}")).unwrap_or_default();
    format!("stopped{by} after {}: {}", readable_time(summary.uptime), counts.join(", "))
}

/// A time in seconds, rounded to milliseconds.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
