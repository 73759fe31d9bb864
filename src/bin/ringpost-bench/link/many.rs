//! Many links of one serving client: all busy, or all idle.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::cpu::SavedAffinity;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::stats::{Spread, ratios, thousandths};
use ringpost::cli::usage::{Memory, cpu_time, memory};
use ringpost::{Client, WaitStrategy};
use serde::Serialize;

use super::serving::{NAME, raise_limit, start};
use crate::callers::{Beside, Callers, Over, Turn};
use crate::idle::rest;
use crate::measurement::Session;
use crate::setup::{Plan, Setup};

/// Clients that all call over links to one serving client, compared with the same calls to the server.
#[derive(Serialize)]
pub struct Busy {
    pub links: u32,
    pub block_seconds: f64,
    /// Calls per second of all clients together, over links.
    pub per_second: Spread,
    /// The same to the server.
    pub server_per_second: Spread,
    /// The ratio of the two.
    pub ratio: Spread,
    /// The rate of the slowest client as a fraction of the mean.
    pub slowest_to_mean: Spread,
    pub server_slowest_to_mean: Spread,
    /// The server's CPU time while the clients called over links, per second.
    pub server_cpu_ms_per_s: f64,
}

/// Measures that with adaptive waiting, not pinned.
pub fn busy(session: &Session, links: u32, size: usize, time: Duration) -> Result<Busy, Failure> {
    let plan =
        Plan { wait: WaitStrategy::Adaptive, pins: session.pin, others: links + 1, ..session.plan(size) };
    session.with(plan, |setup| busy_in(setup, links, size, time))
}

fn busy_in(setup: &mut Setup, links: u32, size: usize, time: Duration) -> Result<Busy, Failure> {
    let mut serving = start(setup, setup.socket(), WaitStrategy::Adaptive)?;
    setup.progress.show(format_args!("starting {links} clients"));
    let socket = setup.socket().to_owned();
    let count = links as usize;
    let mut callers = Callers::start(
        count,
        &socket,
        Beside::Serving(NAME),
        size,
        WaitStrategy::Adaptive,
        &setup.interrupt,
    )?;
    let (mut over_links, mut to_server, mut server_time) = (Vec::new(), Vec::new(), Duration::ZERO);
    for block in setup.blocks() {
        setup.begin(block, format_args!("{links} busy links"))?;
        serving.check()?;
        to_server.push(callers.turn(Over::Bus, count, time, &setup.interrupt)?);
        // The server's workers go to sleep.
        rest(Duration::from_millis(20), &setup.interrupt)?;
        let before = cpu_time(setup.server());
        over_links.push(callers.turn(Over::Link, count, time, &setup.interrupt)?);
        let after = cpu_time(setup.server());
        server_time += after.unwrap_or_default().saturating_sub(before.unwrap_or_default());
    }
    let rates = |turns: &[Turn]| turns.iter().map(|turn| turn.per_second).collect::<Vec<_>>();
    let slowest =
        |turns: &[Turn]| Spread::of_ratios(&turns.iter().map(|turn| turn.slowest).collect::<Vec<_>>());
    let seconds = time.as_secs_f64() * over_links.len() as f64;
    Ok(Busy {
        links,
        block_seconds: time.as_secs_f64(),
        per_second: Spread::of(&rates(&over_links)),
        server_per_second: Spread::of(&rates(&to_server)),
        ratio: Spread::of_ratios(&ratios(&rates(&over_links), &rates(&to_server))),
        slowest_to_mean: slowest(&over_links),
        server_slowest_to_mean: slowest(&to_server),
        server_cpu_ms_per_s: thousandths(server_time.as_secs_f64() * 1e3 / seconds),
    })
}

/// What idle links cost. All are those of one calling and one serving client, each in a process of its own.
#[derive(Serialize)]
pub struct Idle {
    pub links: u32,
    pub seconds: f64,
    pub caller_cpu_ms: f64,
    pub serving_cpu_ms: f64,
    pub server_cpu_ms: f64,
    /// Resident memory for each link beyond shared memory, on either side.
    pub caller_kib_per_link: Option<f64>,
    pub serving_kib_per_link: Option<f64>,
    /// Shared memory for each link: used pages of its rings.
    pub rings_kib_per_link: Option<f64>,
    /// The kernel's own memory for each link, on both sides together: slabs, stacks and page tables of the
    /// whole computer.
    pub kernel_kib_per_link: Option<f64>,
    pub caller_descriptors_per_link: Option<f64>,
    pub serving_descriptors_per_link: Option<f64>,
    /// How many more threads and descriptors the server has than with one link.
    pub server_threads: Option<i64>,
    pub server_descriptors: Option<i64>,
}

/// Measures that with adaptive waiting, not pinned.
pub fn idle(session: &Session, links: u32, time: Duration) -> Result<Idle, Failure> {
    let plan = Plan { wait: WaitStrategy::Adaptive, pins: None, others: 2, ..session.plan(0) };
    session.with(plan, |setup| idle_in(setup, links, time))
}

/// The state of one process.
struct Process {
    memory: Option<Memory>,
    threads: Option<usize>,
    descriptors: Option<usize>,
}

impl Process {
    fn look(pid: u32) -> Process {
        let entries = |what| Some(fs::read_dir(format!("/proc/{pid}/{what}")).ok()?.count());
        Process { memory: memory(pid), threads: entries("task"), descriptors: entries("fd") }
    }
}

/// The kernel's own memory, in KiB.
fn kernel_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(field("Slab:")? + field("KernelStack:")? + field("PageTables:")?)
}

fn idle_in(setup: &mut Setup, links: u32, time: Duration) -> Result<Idle, Failure> {
    let serving = start(setup, setup.socket(), WaitStrategy::Adaptive)?;
    // One link alone, so that what a process needs once is not counted.
    setup.progress.show("one link");
    let one = open(setup, 1)?;
    let alone = [one.id(), serving.id(), setup.server()].map(Process::look);
    drop(one);
    let kernel = kernel_memory();
    setup.progress.show(format_args!("opening {links} links"));
    let many = open(setup, links)?;
    let kernel_grown = kernel_memory().zip(kernel).map(|(now, before)| now as f64 - before as f64);
    let ids = [many.id(), serving.id(), setup.server()];
    let among = ids.map(Process::look);
    setup.progress.show(format_args!("{links} idle links"));
    rest(Duration::from_millis(500).min(time), &setup.interrupt)?;
    let before = ids.map(cpu_time);
    rest(time, &setup.interrupt)?;
    let after = ids.map(cpu_time);
    let used = |index: usize| {
        let time = after[index].unwrap_or_default().saturating_sub(before[index].unwrap_or_default());
        thousandths(time.as_secs_f64() * 1e3)
    };
    let more = f64::from(links.max(2) - 1);
    let each = |index: usize, of: fn(&Memory) -> u64| {
        let (now, before) = (of(among[index].memory.as_ref()?), of(alone[index].memory.as_ref()?));
        Some(thousandths((now as f64 - before as f64) / more))
    };
    let private = |memory: &Memory| memory.rss_kib.saturating_sub(memory.shared_kib);
    let descriptors = |index: usize| {
        let (now, before) = (among[index].descriptors?, alone[index].descriptors?);
        Some(thousandths((now as f64 - before as f64) / more))
    };
    let grown = |now: Option<usize>, before: Option<usize>| Some(now? as i64 - before? as i64);
    Ok(Idle {
        links,
        seconds: time.as_secs_f64(),
        caller_cpu_ms: used(0),
        serving_cpu_ms: used(1),
        server_cpu_ms: used(2),
        caller_kib_per_link: each(0, private),
        serving_kib_per_link: each(1, private),
        rings_kib_per_link: each(1, |memory| memory.shared_kib),
        kernel_kib_per_link: kernel_grown.map(|kib| thousandths(kib / f64::from(links))),
        caller_descriptors_per_link: descriptors(0),
        serving_descriptors_per_link: descriptors(1),
        server_threads: grown(among[2].threads, alone[2].threads),
        server_descriptors: grown(among[2].descriptors, alone[2].descriptors),
    })
}

/// The arguments of the process with idle links.
#[derive(Debug, Args)]
pub struct IdleLinksOptions {
    socket: PathBuf,
    count: u32,
}

fn open(setup: &Setup, count: u32) -> Result<Helper, Failure> {
    let count = count.to_string();
    let arguments = ["idle-links".as_ref(), setup.socket().as_os_str(), count.as_ref()];
    setup.helper(&arguments, Duration::from_secs(120))
}

/// The process with idle links. It makes one call over each, so that its rings are used, and sleeps.
pub fn idle_links(options: &IdleLinksOptions) -> Outcome {
    die_with_parent();
    let _freedom = SavedAffinity::save();
    raise_limit();
    let builder = Client::builder(&options.socket).timeout(Duration::from_secs(30));
    let mut client = builder.register("ringpost-bench-idle").map_err(Failure::failed)?;
    let mut links = Vec::with_capacity(options.count as usize);
    for index in 0..options.count {
        let why = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("idle link {} of {}: {error}", index + 1, options.count))
        };
        let mut link = client.connect(NAME).map_err(|error| why(&error))?;
        link.call(b"once").map_err(|error| why(&error))?;
        links.push(link);
    }
    out::line("ready")?;
    loop {
        std::thread::park();
    }
}
