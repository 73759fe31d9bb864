//! `ringpost-bench forward`: a message from A through the server to B, and B's answer the same way back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::{Client, Key, Name, RecvError, WaitStrategy};
use serde::Serialize;

use crate::calls::Requests;
use crate::ends::{About, Common, Waiting, warn_too_few};
use crate::latency::summary_row;
use crate::rig::{Plan, Rig, ways};
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::cpu::{self, Pins};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::Blocks;
use ringpost::cli::out::{self, Progress};
use ringpost::cli::place::this_program;
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, Summary, Times, nanoseconds};
use ringpost::cli::table::Table;

const BLOCKS: u32 = 60;
const WARM: u32 = 50;
const FLOOR: u32 = 500;
/// A, B and their workers.
const THREADS: usize = 4;
const ECHO: &str = "ringpost-bench-echo";

#[derive(Debug, Args)]
pub struct ForwardOptions {
    /// The size of the messages
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    pub size: usize,

    /// Round trips in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "300")]
    pub count: u32,

    #[command(flatten)]
    pub waiting: Waiting,

    #[command(flatten)]
    pub common: Common,
}

/// B's process.
#[derive(Debug, Args)]
pub struct EchoOptions {
    socket: PathBuf,
    wait: WaitStrategy,
}

#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    about: About,
    size: usize,
    block_round_trips: u32,
    /// Beside twice the round trip of a cache line.
    #[serde(flatten)]
    words: Beside,
    /// Beside twice the round trip of a raw futex pair.
    futex: Beside,
    rtt_ns: Summary,
    distribution: Vec<(f64, u64)>,
}

pub fn run(socket: Option<PathBuf>, options: &ForwardOptions) -> Outcome {
    let floor_pins = options.common.pins()?;
    // The ends run where the system puts them unless that is asked for: four threads are at work.
    let pins = options.common.pin.and(floor_pins);
    let wait = options.waiting.or(WaitStrategy::Adaptive, floor_pins)?;
    let mut about = About::new("forward", wait, pins, options.common.blocks_or(BLOCKS));
    about.too_few_cpus |= wait == WaitStrategy::Spin
        && warn_too_few("A, B and their two workers, spinning,", THREADS, "they are in each other's way");
    let plan = Plan { floor_pins, ..Plan::new(socket, options.size, wait, pins) };
    let (measured, times) =
        Rig::new(&Interrupt::install()?, plan)?.run(|rig| measure(rig, options, &about, floor_pins))?;
    let object = Object {
        about,
        size: options.size,
        block_round_trips: options.count,
        words: measured.0,
        futex: measured.1,
        rtt_ns: times.summary(),
        distribution: times.distribution(),
    };
    if options.common.json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

fn measure(
    rig: &mut Rig,
    options: &ForwardOptions,
    about: &About,
    floor_pins: Option<Pins>,
) -> Result<((Beside, Beside), Times), Failure> {
    let most = rig.client.limits().max_message;
    if options.size > most {
        return Err(Failure::usage(format!(
            "--size {}: a message has at most {most} bytes here",
            options.size
        )));
    }
    let wait: WaitStrategy = about.wait.parse().map_err(Failure::failed)?;
    let arguments = ["echo-client".into(), rig.socket().to_owned().into_os_string(), wait.to_string().into()];
    // Not kept where this thread is.
    let mut echo = {
        let _freedom = cpu::Freedom::remember();
        if let Some(pins) = about.pin {
            cpu::pin(pins.server).map_err(Failure::Failed)?;
        }
        Helper::start(&this_program()?, arguments, Stdio::null())?
    };
    echo.line(Duration::from_secs(10), &rig.interrupt)?;
    let name = Name::new(ECHO).map_err(Failure::failed)?;
    let found = rig.client.look_up(&name).map_err(Failure::failed)?;
    let echo_key = found.ok_or_else(|| Failure::failed("the echoing client is not registered"))?;

    let mut progress = Progress::new();
    let mut messages = Requests::new(options.size);
    let mut words = Blocks::new(ways(floor_pins));
    let (mut futex, mut ours, mut times) = (Vec::new(), Vec::new(), Times::new());
    for block in 0..about.blocks {
        progress.show(format_args!("block {block} of {}", about.blocks));
        rig.interrupt.check()?;
        echo.check()?;
        rig.floor(&mut words, WARM, FLOOR)?;
        futex.push(2.0 * rig.beside(|floor, interrupt| floor.futex_block(20, 100, interrupt))?);
        for _ in 0..WARM {
            forward(&mut rig.client, echo_key, &mut messages)?;
        }
        let start = Instant::now();
        for _ in 0..options.count {
            forward(&mut rig.client, echo_key, &mut messages)?;
        }
        ours.push(start.elapsed().as_nanos() as f64 / f64::from(options.count));
        for _ in 0..options.count {
            let start = Instant::now();
            forward(&mut rig.client, echo_key, &mut messages)?;
            times.record(start.elapsed());
        }
    }
    let twice: Vec<f64> = words.faster().1.iter().map(|floor| 2.0 * floor).collect();
    Ok(((Beside::of(&ours, &twice), Beside::of(&ours, &futex)), times))
}

/// There and back.
fn forward(client: &mut Client, to: Key, messages: &mut Requests) -> Outcome {
    let message = messages.next();
    client.send(to, message).map_err(Failure::failed)?;
    let answer = client.recv().map_err(Failure::failed)?;
    if answer.payload() == message {
        Ok(())
    } else {
        Err(Failure::failed("an answer is not what was sent: the measurement is void"))
    }
}

/// B: sends back whatever comes, until it is killed or the server ends.
pub fn echo(options: &EchoOptions) -> Outcome {
    die_with_parent();
    let mut client = register(&options.socket, options.wait)?;
    out::line("ready")?;
    loop {
        let message = match client.recv() {
            Ok(message) => message,
            Err(RecvError::Disconnected(_)) => return Ok(()),
            Err(error) => return Err(Failure::failed(error)),
        };
        client.send(message.from(), message.payload()).map_err(Failure::failed)?;
    }
}

fn register(socket: &Path, wait: WaitStrategy) -> Result<Client, Failure> {
    Client::builder(socket).wait(wait).register(ECHO).map_err(Failure::failed)
}

impl Object {
    fn text(&self) -> String {
        let mut table = Table::new(&["", "p10", "p50", "p90", "ratio"]);
        let spread = |name: &str, spread: ringpost::cli::stats::Spread, ratio: Option<f64>| {
            let times = [spread.p10, spread.p50, spread.p90].map(nanoseconds);
            let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            std::iter::once(name.to_string()).chain(times).chain([ratio]).collect::<Vec<_>>()
        };
        table.row(spread("A, server, B and back", self.words.ns, None));
        table.row(spread(
            "two round trips of two bare words",
            self.words.floor_ns,
            Some(self.words.ratio.p50),
        ));
        table.row(spread(
            "two round trips of a raw futex pair",
            self.futex.floor_ns,
            Some(self.futex.ratio.p50),
        ));
        let mut each = Table::new(&["", "min", "p50", "p90", "p99", "p99.9", "max"]);
        each.row(summary_row("there and back", self.rtt_ns));
        let size = readable_bytes(self.size);
        format!(
            "{}\n{} blocks of {} there and back, beside two floors\n{}\nEach timed\n{}",
            self.about.heading(&format!("A message of {size} to another client, and its answer")),
            self.about.blocks,
            self.block_round_trips,
            table.text(),
            each.text(),
        )
    }
}
