//! `ringpost-server`: runs a server whose service is an echo, with a log and an orderly end on signals.

#![forbid(unsafe_code)]

mod cli;
mod config;
mod end;
mod files;
mod log;
mod manual;
mod metrics;
mod operator;
mod options;
mod quotas;
mod ready;
mod sandbox;
mod settings;
mod signals;
mod supervise;
mod table;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use ringpost::{ListenError, Server, StartError};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use cli::{Cli, Command};
use files::{Files, Removed, lock_of};
use metrics::Scraped;
use operator::Operator;
use ready::Ready;
use ringpost::cli::child;
use ringpost::cli::exit::{self, Failure, Outcome};
use ringpost::cli::out;
use settings::Settings;
use supervise::Manager;

fn main() -> ExitCode {
    exit::run("ringpost-server", run)
}

fn run(mut cli: Cli) -> Outcome {
    if let Some(Command::Generate(generate)) = &cli.command {
        return generate.run::<Cli>(&manual::MANUAL, &[]);
    }
    if cli.with_parent {
        child::die_with_parent();
    }
    // This process maps every client's channel, so other processes of the same user must not read its memory
    // or trace it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
        Failure::failed(format!("cannot protect this process's memory from other processes: {error}"))
    })?;
    // Before this process opens descriptors of its own.
    let ready = Ready::through(cli.ready_fd)?;
    let (passed, path) = supervise::passed_socket()?.unzip();
    cli.passed = path;
    let settings = Settings::load(&cli)?;
    if cli.check_config {
        return settings.builder().check().map_err(cannot_start).and_then(|()| out::line("valid"));
    }
    serve(cli, &settings, passed, ready)
}

/// Serves until a signal ends it.
fn serve(cli: Cli, settings: &Settings, passed: Option<OwnedFd>, ready: Ready) -> Outcome {
    let sandboxed = settings.options.sandbox;
    // A sandbox does not allow to listen at a port.
    let scraped = settings.options.metrics.as_ref().map(Scraped::at).transpose()?;
    let metrics = settings.options.metrics.as_ref().and_then(|address| address.file().cloned());
    let _removed = Removed(Files::of(metrics.clone()));
    if sandboxed {
        let (log, config) = (settings.options.log.log_file.as_deref(), cli.config.as_deref());
        let metrics = metrics.as_deref();
        sandbox::limit_files(&sandbox::Files { socket: &settings.socket, log, config, metrics })?;
    }
    let caught = signals::catch()?;
    raise_descriptor_limit();
    let mut log = log::start(&settings.options.log)?;
    let operator = Arc::new(Operator::new(cli, settings.clone(), log.logger()));
    let commands = Arc::clone(&operator);
    let mut builder = settings.builder().control(move |command| commands.obey(command));
    // The files of a socket that was passed are not ours.
    let has_files = passed.is_none();
    if let Some(socket) = passed {
        builder = builder.socket(socket);
    }
    let server = match builder.start() {
        Ok(server) => server,
        Err(error) => {
            log.finish();
            return Err(cannot_start(error));
        }
    };
    let stopper = server.stopper();
    let interrupt = caught.interrupt.clone();
    let manager = Manager::new(!has_files);
    let told = manager.clone();
    interrupt.then(move || {
        // Before the server can have ended.
        told.stopping();
        stopper.shutdown();
    });
    let own = has_files.then(|| [settings.socket.clone(), lock_of(&settings.socket)]);
    let files = Files::of(own.into_iter().flatten().chain(metrics));
    interrupt.at_last(move || files.remove());
    if sandboxed && let Err(failure) = sandbox::limit_calls() {
        log.finish();
        return Err(failure);
    }
    // Printed before the log's first line. The signal handlers are already installed.
    if log.leaves_stderr {
        exit::note(format_args!("listening on {}", exit::one_line(&settings.socket.display().to_string())));
    }
    log.begin();
    // The log can be opened anew from now on.
    operator.serves(server.access_control());
    caught.at_hangup(move || _ = operator.reload())?;
    if !(log.on_stderr && log.leaves_stderr) {
        tracing::info!(
            target: "ringpost",
            event = "listening",
            socket = %settings.socket.display(),
            pid = std::process::id(),
            version = env!("CARGO_PKG_VERSION"),
        );
    }
    if let Some(scraped) = scraped {
        tracing::info!(target: "ringpost", event = "metrics", address = %scraped.address());
        scraped.serve(server.metrics())?;
    }
    ready.tell();
    manager.ready(&settings.socket)?;
    let failed = wait(server, &log, || interrupt.caught());
    log.finish();
    if failed {
        return Err(Failure::failed(
            "the server ended because its main thread panicked: start it again, and report this bug with the log",
        ));
    }
    Ok(())
}

/// Waits for the server's end, and tells it. Returns whether the server failed.
fn wait(server: Server, log: &log::Log, signal: impl Fn() -> Option<&'static str>) -> bool {
    let summary = server.join();
    end::log(&summary, signal());
    if !log.on_stderr {
        exit::note(end::in_words(&summary, signal()));
    }
    summary.failed
}

fn cannot_start(error: StartError) -> Failure {
    match error {
        StartError::MaxClients(_)
        | StartError::Geometry(_)
        | StartError::Pin { .. }
        | StartError::Listen(ListenError::Unfit(_))
        | StartError::Access(_) => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

/// Raises the limit of open files as far as allowed, because each client needs a descriptor. The library does
/// not change the limit; it only warns if it is too low for the largest number of clients.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
