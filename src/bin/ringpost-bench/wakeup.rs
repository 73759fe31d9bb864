//! `ringpost-bench wakeup`: measures calls between ends that sleep, on one CPU and across two.

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::cpu::{Pins, allowed};
use ringpost::cli::exit::Failure;
use ringpost::cli::floor_futex::Sleep;
use ringpost::cli::stats::{Beside, Summary, Times, nanoseconds};
use ringpost::cli::table::Table;
use serde::Serialize;

use crate::calls::{Requests, call_block, verified_call};
use crate::measurement::{About, Figures, Measurement, NoWaiting, Session, apart, warn_too_few};
use crate::rows::{percentiles, ratios};
use crate::setup::{Plan, Setup};

const WARM: u32 = 20;

#[derive(Debug, Args)]
pub struct Wakeup {
    /// The size of request and response
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,

    /// Round trips in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "200")]
    count: u32,
}

#[derive(Serialize)]
pub struct Places {
    size: usize,
    block_round_trips: u32,
    places: Vec<Place>,
}

#[derive(Serialize)]
pub struct Place {
    /// `same` (one CPU) or `across` (two CPUs).
    place: &'static str,
    pin: Pins,
    #[serde(flatten)]
    blocks: Beside,
    /// Latencies of calls that were timed one by one, as many as in all blocks.
    rtt_ns: Summary,
}

impl Measurement for Wakeup {
    const NAME: &'static str = "wakeup";
    const BLOCKS: u32 = 60;
    const WAIT: WaitStrategy = WaitStrategy::Park;
    type Waiting = NoWaiting;
    type Figures = Places;

    /// Measures both placements itself, so there is nothing to warn of.
    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        pins
    }

    fn measure(&self, session: &mut Session) -> Result<Places, Failure> {
        let mut places = Vec::new();
        for (place, pin) in places_of(session)? {
            let plan = Plan { pins: Some(pin), floor_pins: Some(pin), ..session.plan(self.size) };
            let (blocks, rtt_ns) = session.with(plan, |setup| self.at(setup, place))?;
            places.push(Place { place, pin, blocks, rtt_ns });
        }
        Ok(Places { size: self.size, block_round_trips: self.count, places })
    }
}

/// Both placements, or that of --pin.
pub fn places_of(session: &Session) -> Result<Vec<(&'static str, Pins)>, Failure> {
    if let Some(pins) = session.pin {
        return Ok(vec![(if apart(Some(pins)) { "across" } else { "same" }, pins)]);
    }
    let cpus = allowed();
    let &first = cpus.first().ok_or_else(|| Failure::failed("cannot find out which CPUs may be used"))?;
    let mut places = vec![("same", Pins { client: first, server: first })];
    warn_too_few("round trips across CPUs", 2, "they are left out");
    places.extend(Pins::default_pins().map(|pins| ("across", pins)));
    Ok(places)
}

impl Wakeup {
    fn at(&self, setup: &mut Setup, place: &str) -> Result<(Beside, Summary), Failure> {
        let mut requests = Requests::new(self.size);
        let (mut floor, mut calls, mut times) = (Vec::new(), Vec::new(), Times::new());
        for block in setup.blocks() {
            setup.begin(block, place)?;
            floor.push(
                setup.beside(|floor, interrupt| {
                    floor.futex_block(Sleep::OneWord, WARM, self.count, interrupt)
                })?,
            );
            calls.push(call_block(&mut setup.client, &mut requests, WARM, self.count)?);
            for _ in 0..self.count {
                times.record(verified_call(&mut setup.client, &mut requests)?);
            }
        }
        Ok((Beside::of(&calls, &floor), times.summary()))
    }
}

impl Figures for Places {
    fn text(&self, about: &About) -> String {
        let mut blocks = Table::new("| floor p50 | call p50 | ratio p10 | p50 | p90");
        let mut each = Vec::new();
        for Place { place, pin, blocks: beside, rtt_ns } in &self.places {
            let name = match *place {
                "same" => format!("both on CPU {}", pin.client),
                _ => format!("CPUs {} and {}", pin.client, pin.server),
            };
            blocks.row(
                [name.clone(), nanoseconds(beside.floor_ns.p50), nanoseconds(beside.ns.p50)]
                    .into_iter()
                    .chain(ratios(beside.ratio)),
            );
            each.push((name, *rtt_ns));
        }
        let what = format!("Latency of a call of {} between ends that sleep", readable_bytes(self.size));
        format!(
            "{}\n{} pairs of blocks of {} round trips; floor: a raw futex pair between two processes\n{}\
             \nEach call timed\n{}",
            about.heading(&what),
            about.blocks,
            self.block_round_trips,
            blocks.text(),
            percentiles("", each),
        )
    }
}
