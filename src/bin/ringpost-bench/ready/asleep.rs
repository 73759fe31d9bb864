//! Calls between ends that sleep, of which one or both wait in epoll.

use std::ffi::OsString;
use std::time::Instant;

use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::Failure;
use ringpost::cli::floor_epoll::Pipes;
use ringpost::cli::place::this_program;
use ringpost::cli::stats::Beside;
use ringpost::{Link, WaitStrategy};
use serde::Serialize;

use super::serving::{self, By};
use super::wait::{Asks, Counts, Kicks, Loop, Wakes};
use crate::calls::{Requests, call_block};
use crate::link::serving::Linked;
use crate::measurement::Session;
use crate::setup::{Plan, Setup};
use crate::wakeup::places_of;

/// The untimed round trips of a block.
pub const WARM: u32 = 20;

/// Calls of one end, in one place.
#[derive(Serialize)]
pub struct Calls {
    /// `across` two CPUs, or on the `same`.
    pub place: &'static str,
    pub pin: Pins,
    /// What was armed: a `caller`, a whole `client` or a `link`.
    pub by: &'static str,
    pub block_calls: u32,
    /// Compared with two processes over pipes and epoll.
    #[serde(flatten)]
    pub blocks: Beside,
    /// Compared with the same call that blocks and sleeps at once, whose times are in place of the floor's.
    pub blocking: Beside,
    /// How often this end's loop was woken.
    pub wakes: Wakes,
    /// How often the loop that serves was woken, if there is one.
    pub serving: Option<Wakes>,
}

/// One kind of call, measured in turn with others.
#[derive(Default)]
struct Kind {
    times: Vec<f64>,
    kicks: Kicks,
}

/// Measures calls to a server that sleeps.
pub fn calls(session: &Session, size: usize, count: u32) -> Result<Vec<Calls>, Failure> {
    in_places(session, size, |setup, place, pin| {
        let mut pipes = start_pipes(setup, size)?;
        setup.end_waits_on_signals(pipes.breaker());
        let mut requests = Requests::new(size);
        let (mut floor, mut blocking) = (Vec::new(), Vec::new());
        let (mut alone, mut whole) = (Kind::default(), Kind::default());
        let server = setup.server();
        let mut of_caller = Loop::of(setup.client.caller())?;
        let mut of_client = Loop::of(&mut setup.client)?;
        for block in setup.blocks() {
            setup.begin(block, format_args!("epoll, {place}"))?;
            floor.push(pipes.block(size, WARM, count, &setup.interrupt)?);
            let caller = setup.client.caller();
            alone.measure(server, caller, &mut of_caller, &mut requests, count)?;
            whole.measure(server, &mut setup.client, &mut of_client, &mut requests, count)?;
            blocking.push(call_block(&mut setup.client, &mut requests, WARM, count)?);
        }
        let calls = |by, kind: &Kind, counts: Counts| Calls {
            place,
            pin,
            by,
            block_calls: count,
            blocks: Beside::of(&kind.times, &floor),
            blocking: Beside::of(&kind.times, &blocking),
            wakes: counts.per_call(kind.kicks.sum()),
            serving: None,
        };
        Ok(vec![calls("caller", &alone, of_caller.counts), calls("client", &whole, of_client.counts)])
    })
}

/// Measures calls over a link that is served in an event loop.
pub fn loops(session: &Session, size: usize, count: u32) -> Result<Vec<Calls>, Failure> {
    in_places(session, size, |setup, place, pin| {
        let serve = |socket: &std::path::Path| serving::start(setup, socket, WaitStrategy::Park, By::Loop);
        let options = Link::options().arms();
        let mut linked = Linked::with(setup, WaitStrategy::Park, size, &options, serve)?;
        let mut pipes = start_pipes(setup, size)?;
        let (breaker, closer) = (pipes.breaker(), linked.link.closer());
        setup.end_waits_on_signals(move || {
            breaker();
            closer.close();
        });
        let mut requests = Requests::new(size);
        let (mut floor, mut blocking) = (Vec::new(), Vec::new());
        let (mut over_link, mut to_serving) = (Kind::default(), Kicks::default());
        let server = linked.process.id();
        let mut of_link = Loop::of(&mut linked.link)?;
        let mut served = Counts::default();
        for block in setup.blocks() {
            setup.begin(block, format_args!("both ends in epoll, {place}"))?;
            floor.push(pipes.block(size, WARM, count, &setup.interrupt)?);
            let before = serving::counts(&mut linked.link)?;
            to_serving.during(std::process::id(), || {
                over_link.measure(server, &mut linked.link, &mut of_link, &mut requests, count)
            })?;
            served = served.and(serving::counts(&mut linked.link)?.since(before));
            blocking.push(call_block(&mut linked.link, &mut requests, WARM, count)?);
        }
        Ok(vec![Calls {
            place,
            pin,
            by: "link",
            block_calls: count,
            blocks: Beside::of(&over_link.times, &floor),
            blocking: Beside::of(&over_link.times, &blocking),
            wakes: of_link.counts.per_call(over_link.kicks.sum()),
            serving: Some(served.per_call(to_serving.sum())),
        }])
    })
}

/// Measures in each place, with a setup of its own.
pub fn in_places<T>(
    session: &Session,
    size: usize,
    mut measure: impl FnMut(&mut Setup, &'static str, Pins) -> Result<Vec<T>, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    for (place, pin) in places_of(session)? {
        let wait = WaitStrategy::Park;
        let plan = Plan { wait, pins: Some(pin), floor_pins: Some(pin), ..session.plan(size) };
        all.extend(session.with(plan, |setup| measure(setup, place, pin))?);
    }
    Ok(all)
}

fn start_pipes(setup: &Setup, size: usize) -> Result<Pipes, Failure> {
    let mut arguments: Vec<OsString> = vec!["pipe-partner".into(), size.to_string().into()];
    if let Some(pins) = setup.floor_pins() {
        arguments.extend(["--cpu".into(), pins.server.to_string().into()]);
    }
    Pipes::start(&this_program()?, arguments)
}

impl Kind {
    /// Measures a block of calls. `server` answers them.
    fn measure(
        &mut self,
        server: u32,
        end: &mut impl Asks,
        of_end: &mut Loop,
        requests: &mut Requests,
        count: u32,
    ) -> Result<(), Failure> {
        let time = self.kicks.during(server, || {
            for _ in 0..WARM {
                of_end.call(end, requests.next())?;
            }
            let request = requests.next();
            let start = Instant::now();
            for _ in 0..count {
                of_end.call(end, request)?;
            }
            Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
        })?;
        self.times.push(time);
        Ok(())
    }
}
