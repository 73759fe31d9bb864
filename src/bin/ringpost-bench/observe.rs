//! `ringpost-bench observe`: measures what it costs a call that somebody looks at the server's figures,
//! scrapes its metrics, taps it, or has it log every message; what that log costs a message; and what a look
//! and a scrape cost the server.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, Spread, nanoseconds, thousandths};
use ringpost::cli::table::Table;
use ringpost::cli::usage;
use ringpost::{Client, Observer, Subscriber, WaitStrategy};
use serde::Serialize;

use crate::calls::{IN_BLOCK, Requests, WARM, call_block};
use crate::link::serving::Another;
use crate::measurement::{About, Figures, Measurement, NoWaiting, Session};
use crate::rows::{ratio, ratios};
use crate::setup::{Plan, Setup};
use crate::wakeup::places_of;

/// The calls in a block where both ends sleep, and the untimed ones before it.
const SLEEPING: (u32, u32) = (200, 20);
/// The bytes of each payload that the tap wants.
const SNAP: usize = 512;
/// How often figures are looked at, and metrics scraped.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Observe {
    /// The size of request and response
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,

    /// Measure in so many rounds, each with servers and clients that are started anew
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), default_value = "6")]
    rounds: u32,

    /// The number of clients whose figures a look shows, and that a scraped server has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000), default_value = "100")]
    clients: u32,

    /// How many looks and scrapes are timed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "100")]
    looks: u32,
}

#[derive(Serialize)]
pub struct Observed {
    size: usize,
    calls: Vec<Calls>,
    look: Look,
    scrape: Look,
}

/// Calls to servers that somebody observes, beside the same calls to one that nobody does, whose times are in
/// place of the floor's.
#[derive(Serialize)]
struct Calls {
    wait: String,
    /// `same` (one CPU) or `across` (two CPUs).
    place: &'static str,
    pin: Pins,
    block_calls: u32,
    /// While figures are looked at, once a second.
    looked_at: Beside,
    /// While metrics are scraped, once a second.
    scraped: Beside,
    /// To a server that was started with `-v`, and logs messages, not calls.
    verbose: Beside,
    /// A message to oneself by way of that server, beside one by way of the server that logs none.
    messages: Beside,
    /// The part of these messages that is in the log.
    logged: f64,
    /// While a tap takes copies of all calls.
    tapped: Beside,
    /// The part of the copies that the tap got; it takes them between the blocks.
    received: f64,
}

/// One look at the figures, or one scrape.
#[derive(Serialize)]
struct Look {
    clients: u32,
    ns: Spread,
    /// The server's CPU time for it.
    server_cpu_ms: f64,
}

impl Measurement for Observe {
    const NAME: &'static str = "observe";
    const BLOCKS: u32 = 120;
    const WAIT: WaitStrategy = WaitStrategy::Adaptive;
    type Waiting = NoWaiting;
    type Figures = Observed;

    /// Measures both placements itself, so there is nothing to warn of.
    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        pins
    }

    fn measure(&self, session: &mut Session) -> Result<Observed, Failure> {
        let mut calls = Vec::new();
        for (place, pin) in places_of(session)? {
            // Where each end has a CPU of its own, neither sleeps; on one CPU both do.
            let wait = if place == "same" { WaitStrategy::Park } else { WaitStrategy::Adaptive };
            let mut measured = Measured::default();
            let rounds = self.rounds.min(session.about.blocks);
            for round in 0..rounds {
                let part =
                    session.about.blocks * (round + 1) / rounds - session.about.blocks * round / rounds;
                let plan = Plan { wait, pins: Some(pin), blocks: part, ..session.plan(self.size) };
                session.with(plan, |setup| measured.round(setup, wait, self.size))?;
            }
            calls.push(Calls {
                wait: wait.to_string(),
                place,
                pin,
                block_calls: in_block(wait).0,
                looked_at: Beside::of(&measured.looked_at, &measured.alone),
                scraped: Beside::of(&measured.scraped, &measured.alone),
                verbose: Beside::of(&measured.verbose, &measured.alone),
                messages: Beside::of(&measured.messages_verbose, &measured.messages),
                logged: thousandths(measured.lines as f64 / measured.sent.max(1) as f64),
                tapped: Beside::of(&measured.tapped, &measured.alone),
                received: thousandths(
                    measured.copies as f64 / (measured.copies + measured.missed).max(1) as f64,
                ),
            });
        }
        let plan = Plan { pins: None, ..session.plan(self.size) };
        let [look, scrape] = session.with(plan, |setup| self.looks(setup))?;
        Ok(Observed { size: self.size, calls, look, scrape })
    }
}

fn in_block(wait: WaitStrategy) -> (u32, u32) {
    if wait == WaitStrategy::Park { SLEEPING } else { (IN_BLOCK, WARM) }
}

/// Nanoseconds per call or message, one value for each block.
#[derive(Default)]
struct Measured {
    alone: Vec<f64>,
    looked_at: Vec<f64>,
    scraped: Vec<f64>,
    verbose: Vec<f64>,
    messages: Vec<f64>,
    messages_verbose: Vec<f64>,
    tapped: Vec<f64>,
    copies: u64,
    missed: u64,
    sent: u64,
    lines: u64,
}

impl Measured {
    /// Servers on one CPU, which sleep in each other's turns.
    fn round(&mut self, setup: &mut Setup, wait: WaitStrategy, size: usize) -> Outcome {
        let plain = || Another::start(setup, wait, size);
        let (alone, looked_at, tapped) = (plain()?, plain()?, plain()?);
        let scraped = Another::with(setup, wait, size, metrics)?;
        let verbose = Another::with(setup, wait, size, |directory| {
            vec![
                "-v".into(),
                "--log-file".into(),
                log(directory).into(),
                "--log-rotate".into(),
                "never".into(),
            ]
        })?;
        let written = log(verbose.directory());
        let client = |server: &Another| {
            Client::builder(&server.socket).wait(wait).register("ringpost-bench").map_err(Failure::failed)
        };
        let mut clients =
            [client(&alone)?, client(&looked_at)?, client(&scraped)?, client(&verbose)?, client(&tapped)?];
        let closers = clients.each_ref().map(Client::closer);
        let mut observer = Due::new(Observer::connect(&looked_at.socket).map_err(Failure::failed)?);
        let mut scraper = Due::new(metrics_socket(scraped.directory()));
        let mut tapper = Client::register(&tapped.socket, "ringpost-bench-tap").map_err(Failure::failed)?;
        let mut tap = tapper.tap(SNAP).map_err(Failure::failed)?;
        setup.end_waits_on_signals(move || closers.iter().for_each(ringpost::Closer::close));
        let mut requests = Requests::new(size);
        let (count, warm) = in_block(wait);
        let [first, second, third, fourth, fifth] = &mut clients;
        for block in setup.blocks() {
            setup.begin(block, "observed calls")?;
            self.alone.push(call_block(first, &mut requests, warm, count)?);
            self.messages.push(message_block(first, &mut requests, warm, count)?);
            observer.if_due(look)?;
            self.looked_at.push(call_block(second, &mut requests, warm, count)?);
            scraper.if_due(|path| scrape(path))?;
            self.scraped.push(call_block(third, &mut requests, warm, count)?);
            self.verbose.push(call_block(fourth, &mut requests, warm, count)?);
            self.messages_verbose.push(message_block(fourth, &mut requests, warm, count)?);
            self.sent += u64::from(warm + count);
            settle(&written, &setup.interrupt)?;
            self.tapped.push(call_block(fifth, &mut requests, warm, count)?);
            self.drain(&mut tap)?;
        }
        drop(clients);
        let _directory = verbose.stop()?;
        let text = std::fs::read_to_string(&written).map_err(Failure::failed)?;
        self.lines += text.lines().filter(|line| line.contains(" message ")).count() as u64;
        Ok(())
    }

    /// Takes all copies that are there.
    fn drain(&mut self, tap: &mut Subscriber) -> Outcome {
        while let Some(sample) = tap.try_recv().map_err(Failure::failed)? {
            self.copies += 1;
            self.missed += sample.missed();
        }
        Ok(())
    }
}

/// Makes `warm` messages to oneself, then times `count` as a whole. Returns the nanoseconds of one.
fn message_block(
    client: &mut Client,
    requests: &mut Requests,
    warm: u32,
    count: u32,
) -> Result<f64, Failure> {
    let (key, payload) = (client.key(), requests.next());
    let mut messages = |count| {
        let start = Instant::now();
        for _ in 0..count {
            client.send(key, payload).map_err(Failure::failed)?;
            let message = client.try_recv().map_err(Failure::failed)?;
            if message.is_none_or(|message| message.payload().len() != payload.len()) {
                return Err(Failure::failed(
                    "a message did not come as it was sent, so the measurement is invalid",
                ));
            }
        }
        Ok(start.elapsed())
    };
    messages(warm)?;
    Ok(messages(count)?.as_nanos() as f64 / f64::from(count))
}

/// The log in a server's directory.
fn log(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// Waits until the log grows no more: its writer shares a CPU with the blocks that follow.
fn settle(log: &Path, interrupt: &Interrupt) -> Outcome {
    let length = || std::fs::metadata(log).map(|metadata| metadata.len()).map_err(Failure::failed);
    let mut last = length()?;
    loop {
        interrupt.check()?;
        std::thread::sleep(Duration::from_millis(10));
        let now = length()?;
        if now == last {
            return Ok(());
        }
        last = now;
    }
}

/// The options of a server whose metrics can be scraped in its directory.
fn metrics(directory: &Path) -> Vec<OsString> {
    let mut place = OsString::from("unix:");
    place.push(metrics_socket(directory));
    vec!["--metrics".into(), place]
}

/// The socket of the metrics in a server's directory.
fn metrics_socket(directory: &Path) -> PathBuf {
    directory.join("metrics.sock")
}

/// Something that is done once a second.
struct Due<T> {
    with: T,
    last: Option<Instant>,
}

impl<T> Due<T> {
    fn new(with: T) -> Due<T> {
        Due { with, last: None }
    }

    fn if_due(&mut self, act: impl FnOnce(&T) -> Result<usize, Failure>) -> Outcome {
        if self.last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            act(&self.with)?;
            self.last = Some(Instant::now());
        }
        Ok(())
    }
}

/// Looks at the figures, and returns of how many clients they are.
fn look(observer: &Observer) -> Result<usize, Failure> {
    let figures = observer.figures().map_err(Failure::failed)?;
    if !figures.stamped {
        return Err(Failure::failed(
            "the server takes no times for this user, so the measurement is invalid: only its own user and root get them",
        ));
    }
    Ok(figures.clients.len())
}

/// Scrapes the metrics, and returns how many clients they tell of.
fn scrape(path: &Path) -> Result<usize, Failure> {
    let mut stream = UnixStream::connect(path).map_err(Failure::failed)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").map_err(Failure::failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(Failure::failed)?;
    let clients = answer.lines().find_map(|line| line.strip_prefix("ringpost_clients "));
    let invalid =
        || Failure::failed("a scrape did not show the number of clients, so the measurement is invalid");
    clients.and_then(|clients| clients.trim().parse().ok()).ok_or_else(invalid)
}

impl Observe {
    /// A look and a scrape.
    fn looks(&self, setup: &mut Setup) -> Result<[Look; 2], Failure> {
        setup.progress.show(format_args!("registering {} clients", self.clients));
        let clients = self.clients.to_string();
        let server = Another::with(setup, WaitStrategy::Adaptive, self.size, |directory| {
            let mut options = metrics(directory);
            options.extend(["--max-clients".into(), (self.clients + 16).to_string().into()]);
            options
        })?;
        let arguments: [&OsStr; 4] =
            ["idle-clients".as_ref(), server.socket.as_os_str(), clients.as_ref(), "adaptive".as_ref()];
        let _clients = setup.helper(&arguments, Duration::from_secs(120))?;
        let observer = Observer::connect(&server.socket).map_err(Failure::failed)?;
        let path = metrics_socket(server.directory());
        Ok([
            self.timed(setup, server.id(), || look(&observer))?,
            self.timed(setup, server.id(), || scrape(&path))?,
        ])
    }

    fn timed(
        &self,
        setup: &mut Setup,
        server: u32,
        act: impl Fn() -> Result<usize, Failure>,
    ) -> Result<Look, Failure> {
        let unknown = || Failure::failed("the kernel does not report the server's CPU time");
        let before = usage::cpu_time(server).ok_or_else(unknown)?;
        let mut times = Vec::new();
        for look in 0..self.looks {
            setup.progress.show(format_args!("look {look} of {}", self.looks));
            setup.interrupt.check()?;
            let start = Instant::now();
            let clients = act()?;
            times.push(start.elapsed().as_nanos() as f64);
            if clients < self.clients as usize {
                return Err(Failure::failed(
                    "a look did not show all clients, so the measurement is invalid",
                ));
            }
        }
        let after = usage::cpu_time(server).ok_or_else(unknown)?;
        let cpu = after.saturating_sub(before).as_secs_f64() * 1e3 / f64::from(self.looks);
        Ok(Look { clients: self.clients, ns: Spread::of(&times), server_cpu_ms: thousandths(cpu) })
    }
}

impl Figures for Observed {
    fn text(&self, about: &About) -> String {
        let mut table = Table::new("| floor: unobserved p50 | p50 | ratio p10 | p50 | p90");
        for calls in &self.calls {
            let name = match calls.place {
                "same" => "both ends sleep, one CPU",
                _ => "adaptive, two CPUs",
            };
            for (what, blocks) in [
                ("figures looked at", &calls.looked_at),
                ("metrics scraped", &calls.scraped),
                ("log with -v", &calls.verbose),
                ("log with -v, messages", &calls.messages),
                ("tapped", &calls.tapped),
            ] {
                let times = [blocks.floor_ns, blocks.ns].map(|times| nanoseconds(times.p50));
                table.row([format!("{what}; {name}")].into_iter().chain(times).chain(ratios(blocks.ratio)));
            }
        }
        let part = |of: fn(&Calls) -> f64| {
            let parts: Vec<String> =
                self.calls.iter().map(|calls| format!("{:.1} %", of(calls) * 100.0)).collect();
            parts.join(" and ")
        };
        let look = |what: &str, look: &Look| {
            format!(
                "{what} of {} clients: {}; the server's CPU time: {:.3} ms; of a CPU, with one a second: {} %\n",
                look.clients,
                nanoseconds(look.ns.p50),
                look.server_cpu_ms,
                ratio(look.server_cpu_ms / 10.0),
            )
        };
        format!(
            "{}\n{} blocks of each in turn\n{}The tap got {} of the copies, and the log has {} of the messages\n\n{}{}",
            about.heading(&format!("Calls of {} to a server that is observed", readable_bytes(self.size))),
            about.blocks,
            table.text(),
            part(|calls| calls.received),
            part(|calls| calls.logged),
            look("A look at the figures", &self.look),
            look("A scrape of the metrics", &self.scrape),
        )
    }
}
