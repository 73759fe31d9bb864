//! What armed clients cost that nobody uses.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::cpu::SavedAffinity;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor_epoll::Epoll;
use ringpost::cli::out;
use ringpost::cli::stats::thousandths;
use ringpost::cli::usage::cpu_time;
use ringpost::{Client, Ready, WaitStrategy};
use serde::Serialize;

use crate::idle::rest;
use crate::link::serving::raise_limit;
use crate::measurement::Session;
use crate::setup::{Plan, Setup};

/// What they cost, all in one process, which waits for all of them in one epoll instance.
#[derive(Serialize)]
pub struct Idle {
    pub clients: u32,
    pub seconds: f64,
    /// How often their loop was woken for nothing.
    pub fruitless: u64,
    pub clients_cpu_ms: f64,
    pub server_cpu_ms: f64,
    /// Threads of the clients' process beside its own, and those of the server for each client.
    pub threads: Option<usize>,
    pub server_threads_per_client: Option<f64>,
    /// Descriptors for each client, both of whose halves are armed.
    pub descriptors_per_client: Option<f64>,
    pub server_descriptors_per_client: Option<f64>,
}

/// How many threads and descriptors a process has.
struct Process {
    threads: Option<usize>,
    descriptors: Option<usize>,
}

impl Process {
    fn look(pid: u32) -> Process {
        let entries = |what| Some(fs::read_dir(format!("/proc/{pid}/{what}")).ok()?.count());
        Process { threads: entries("task"), descriptors: entries("fd") }
    }
}

/// Measures that with adaptive waiting, not pinned.
pub fn idle(session: &Session, clients: u32, time: Duration) -> Result<Idle, Failure> {
    let plan = Plan { wait: WaitStrategy::Adaptive, pins: None, others: clients, ..session.plan(0) };
    session.with(plan, |setup| idle_in(setup, clients, time))
}

fn idle_in(setup: &mut Setup, clients: u32, time: Duration) -> Result<Idle, Failure> {
    // One client alone, so that what a process needs once is not counted.
    setup.progress.show("one armed client");
    let one = start(setup, 1)?;
    let alone = [one.id(), setup.server()].map(Process::look);
    drop(one);
    setup.progress.show(format_args!("registering {clients} clients"));
    let mut many = start(setup, clients)?;
    let ids = [many.id(), setup.server()];
    let among = ids.map(Process::look);
    setup.progress.show(format_args!("{clients} armed clients"));
    rest(Duration::from_millis(500).min(time), &setup.interrupt)?;
    let before = ids.map(cpu_time);
    rest(time, &setup.interrupt)?;
    let after = ids.map(cpu_time);
    let used = |index: usize| {
        let time = after[index].unwrap_or_default().saturating_sub(before[index].unwrap_or_default());
        thousandths(time.as_secs_f64() * 1e3)
    };
    // They were armed all the while.
    setup.client.send(&*name(clients - 1, clients), b"wake").map_err(Failure::failed)?;
    let woken = many.line(Duration::from_secs(10), &setup.interrupt)?;
    let fruitless = woken.parse().map_err(|_| Failure::failed(format!("the armed clients said: {woken}")))?;
    let each = |index: usize, of: fn(&Process) -> Option<usize>| {
        let (now, before) = (of(&among[index])?, of(&alone[index])?);
        Some(thousandths((now as f64 - before as f64) / f64::from(clients.max(2) - 1)))
    };
    Ok(Idle {
        clients,
        seconds: time.as_secs_f64(),
        fruitless,
        clients_cpu_ms: used(0),
        server_cpu_ms: used(1),
        threads: among[0].threads.map(|threads| threads.saturating_sub(1)),
        server_threads_per_client: each(1, |process| process.threads),
        descriptors_per_client: each(0, |process| process.descriptors),
        server_descriptors_per_client: each(1, |process| process.descriptors),
    })
}

/// The name of one of `count` clients. The server may not have noticed yet that another process's are gone.
fn name(index: u32, count: u32) -> String {
    format!("ringpost-bench-armed-{index}-of-{count}")
}

/// The arguments of the armed clients' process.
#[derive(Debug, Args)]
pub struct ArmedClientsOptions {
    socket: PathBuf,
    count: u32,
}

/// Starts the armed clients, and returns when all are armed.
fn start(setup: &Setup, count: u32) -> Result<Helper, Failure> {
    let count = count.to_string();
    let arguments = ["armed-clients".as_ref(), setup.socket().as_os_str(), count.as_ref()];
    setup.helper(&arguments, Duration::from_secs(600))
}

/// The armed clients' process.
pub fn armed_clients(options: &ArmedClientsOptions) -> Outcome {
    die_with_parent();
    let _freedom = SavedAffinity::save();
    raise_limit();
    let builder = Client::builder(&options.socket).timeout(Duration::from_secs(30));
    let mut epoll = Epoll::new()?;
    let mut clients = Vec::with_capacity(options.count as usize);
    for index in 0..options.count {
        let why = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("armed client {} of {}: {error}", index + 1, options.count))
        };
        let mut client = builder.register(name(index, options.count)).map_err(|error| why(&error))?;
        client.call(b"once").map_err(|error| why(&error))?;
        let readiness = client.readiness().map_err(|error| why(&error))?;
        epoll.add(&readiness, index.into())?;
        arm(&mut client).map_err(|error| why(&error))?;
        clients.push((client, readiness));
    }
    out::line("ready")?;
    let mut fruitless = 0_u64;
    loop {
        for number in epoll.wait()? {
            let Some((client, _)) = clients.get_mut(number as usize) else { continue };
            match client.try_recv().map_err(Failure::failed)? {
                Some(_) => out::line(&fruitless.to_string())?,
                None => fruitless += 1,
            }
            arm(client)?;
        }
    }
}

/// Nobody sends anything to a client while it is not armed.
fn arm(client: &mut Client) -> Outcome {
    while !client.arm().map_err(Failure::failed)? {
        if client.try_recv().map_err(Failure::failed)?.is_some() {
            return Err(Failure::failed("a message came, though nobody sent one"));
        }
    }
    Ok(())
}
