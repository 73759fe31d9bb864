//! `ringpost-bench wakeup`: round trips between ends that sleep, on one CPU and across two.

use std::path::PathBuf;

use clap::Args;
use ringpost::WaitStrategy;
use serde::Serialize;

use crate::calls::{Requests, call_block, verified_call};
use crate::ends::{About, Common, apart, warn_too_few};
use crate::latency::summary_row;
use crate::rig::{Plan, Rig};
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::cpu::{Pins, allowed};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out::{self, Progress};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, Summary, Times, nanoseconds};
use ringpost::cli::table::Table;

const BLOCKS: u32 = 60;
const WARM: u32 = 20;

#[derive(Debug, Args)]
pub struct WakeupOptions {
    /// The size of request and response
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    pub size: usize,

    /// Round trips in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "200")]
    pub count: u32,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    about: About,
    size: usize,
    block_round_trips: u32,
    places: Vec<Place>,
}

#[derive(Serialize)]
struct Place {
    /// `same` CPU or `across` two.
    place: &'static str,
    pin: Pins,
    #[serde(flatten)]
    blocks: Beside,
    /// Calls timed one by one, as many as in all blocks.
    rtt_ns: Summary,
}

pub fn run(socket: Option<PathBuf>, options: &WakeupOptions) -> Outcome {
    let places = places(&options.common)?;
    let blocks = options.common.blocks_or(BLOCKS);
    let about = About::new("wakeup", WaitStrategy::Park, options.common.pins()?, blocks);
    let interrupt = Interrupt::install()?;
    let mut measured = Vec::new();
    for (place, pin) in places {
        let plan = Plan::new(socket.clone(), options.size, WaitStrategy::Park, Some(pin));
        let (blocks, rtt_ns) = Rig::new(&interrupt, plan)?.run(|rig| measure(rig, options, place, blocks))?;
        measured.push(Place { place, pin, blocks, rtt_ns });
    }
    let object = Object { about, size: options.size, block_round_trips: options.count, places: measured };
    if options.common.json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

/// Both places, or the one that was asked for.
fn places(common: &Common) -> Result<Vec<(&'static str, Pins)>, Failure> {
    let name = |pins: Pins| if apart(Some(pins)) { "across" } else { "same" };
    if let (Some(_), Some(pins)) = (common.pin, common.pins()?) {
        return Ok(vec![(name(pins), pins)]);
    }
    let cpus = allowed();
    let &first = cpus.first().ok_or_else(|| Failure::failed("cannot tell which CPUs may be used"))?;
    let mut places = vec![("same", Pins { client: first, server: first })];
    warn_too_few("the way across CPUs", 2, "it is left out");
    places.extend(Pins::default_pins().map(|pins| ("across", pins)));
    Ok(places)
}

fn measure(
    rig: &mut Rig,
    options: &WakeupOptions,
    place: &str,
    blocks: u32,
) -> Result<(Beside, Summary), Failure> {
    let mut progress = Progress::new();
    let mut requests = Requests::new(options.size);
    let (mut floor, mut calls, mut times) = (Vec::new(), Vec::new(), Times::new());
    for block in 0..blocks {
        progress.show(format_args!("{place}: block {block} of {blocks}"));
        rig.interrupt.check()?;
        floor.push(rig.beside(|floor, interrupt| floor.futex_block(WARM, options.count, interrupt))?);
        calls.push(call_block(&mut rig.client, &mut requests, WARM, options.count)?);
        for _ in 0..options.count {
            times.record(verified_call(&mut rig.client, &mut requests)?);
        }
    }
    Ok((Beside::of(&calls, &floor), times.summary()))
}

impl Object {
    fn text(&self) -> String {
        let mut blocks = Table::new(&["", "floor p50", "call p50", "ratio p10", "p50", "p90"]);
        let mut each = Table::new(&["", "min", "p50", "p90", "p99", "p99.9", "max"]);
        for Place { place, pin, blocks: beside, rtt_ns } in &self.places {
            let name = match *place {
                "same" => format!("both on CPU {}", pin.client),
                _ => format!("CPUs {} and {}", pin.client, pin.server),
            };
            let ratios = [beside.ratio.p10, beside.ratio.p50, beside.ratio.p90];
            blocks.row(
                [name.clone(), nanoseconds(beside.floor_ns.p50), nanoseconds(beside.ns.p50)]
                    .into_iter()
                    .chain(ratios.map(|ratio| format!("{ratio:.2}"))),
            );
            each.row(summary_row(&name, *rtt_ns));
        }
        let what = format!("Round trip of a call of {} between ends that sleep", readable_bytes(self.size));
        format!(
            "{}\n{} pairs of blocks of {} round trips; the floor: a raw futex pair, two processes\n{}\
             \nEach call timed\n{}",
            self.about.heading(&what),
            self.about.blocks,
            self.block_round_trips,
            blocks.text(),
            each.text(),
        )
    }
}
