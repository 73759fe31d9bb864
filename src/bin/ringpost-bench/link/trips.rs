//! Single calls over a link: by way of waiting and place, by size, and with several outstanding.

use ringpost::WaitStrategy;
use ringpost::cli::args::readable_bytes;
use ringpost::cli::cpu::{Pins, allowed};
use ringpost::cli::exit::Failure;
use ringpost::cli::floor::{Blocks, Look};
use ringpost::cli::floor_futex::Sleep;
use ringpost::cli::stats::{Beside, Spread, Summary, Times, ratios, tenths};
use serde::Serialize;

use super::serving::Linked;
use crate::calls::{self, IN_BLOCK, Requests, WARM, call_block, calls_in_block, verified_call, window_block};
use crate::measurement::{Session, apart, warn_too_few};
use crate::setup::{Plan, Setup, ring_size, ways};

/// Round trips of a block between ends that sleep, and those before it.
const SLEEPING: (u32, u32) = (20, 200);

/// Calls of one way of waiting, in one place.
#[derive(Serialize)]
pub struct Calls {
    pub wait: String,
    /// `across` two CPUs, or on the `same`.
    pub place: &'static str,
    pub pin: Pins,
    pub block_calls: u32,
    /// `words`, or `futex` where both ends sleep.
    pub floor: &'static str,
    /// Compared with the floor.
    #[serde(flatten)]
    pub blocks: Beside,
    /// Compared with the same call to the server's service, whose times are in place of the floor's.
    pub server: Beside,
    /// Calls to the server, compared with the floor.
    pub server_to_floor: Spread,
    /// Where both ends sleep: compared with a futex pair whose ends sleep on two words.
    pub two_words: Option<Beside>,
    /// Calls over the link, each timed.
    pub rtt_ns: Summary,
}

/// Calls of one size.
#[derive(Serialize)]
pub struct Size {
    pub size: usize,
    pub block_calls: u32,
    /// Compared with raw copies.
    #[serde(flatten)]
    pub blocks: Beside,
    pub server: Beside,
}

/// Calls with some of them outstanding. Times are per call.
#[derive(Serialize)]
pub struct Window {
    pub window: u32,
    pub block_calls: u32,
    /// Compared with a bare round trip.
    #[serde(flatten)]
    pub blocks: Beside,
    pub server: Beside,
    pub per_second: f64,
}

/// A way of waiting and a place.
pub struct Mode {
    wait: WaitStrategy,
    place: &'static str,
    pin: Pins,
}

/// All ways of waiting across two CPUs, and those that sleep on one; only the place of --pin, if it is given.
pub fn modes(session: &Session) -> Result<Vec<Mode>, Failure> {
    let cpus = allowed();
    let &first = cpus.first().ok_or_else(|| Failure::failed("cannot find out which CPUs may be used"))?;
    let same = Pins { client: first, server: first };
    let pins = match session.pin {
        Some(pin) => vec![pin],
        None => {
            warn_too_few("calls across CPUs", 2, "they are left out");
            Pins::default_pins().into_iter().chain([same]).collect()
        }
    };
    let of = |pin: Pins| -> Vec<Mode> {
        let waits: &[WaitStrategy] = match apart(Some(pin)) {
            true => &[WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park],
            false => &[WaitStrategy::Adaptive, WaitStrategy::Park],
        };
        let place = if apart(Some(pin)) { "across" } else { "same" };
        waits.iter().map(|&wait| Mode { wait, place, pin }).collect()
    };
    Ok(pins.into_iter().flat_map(of).collect())
}

/// Measures calls of `size` bytes in one mode.
pub fn calls(session: &Session, mode: &Mode, size: usize) -> Result<Calls, Failure> {
    let plan =
        Plan { wait: mode.wait, pins: Some(mode.pin), floor_pins: Some(mode.pin), ..session.plan(size) };
    session.with(plan, |setup| calls_in(setup, mode, size))
}

fn calls_in(setup: &mut Setup, mode: &Mode, size: usize) -> Result<Calls, Failure> {
    let mut linked = Linked::open(setup, mode.wait, size)?;
    let asleep = mode.wait == WaitStrategy::Park || mode.place == "same";
    let (warm, count) = if asleep { SLEEPING } else { (WARM, calls_in_block(size)) };
    let mut requests = Requests::new(size);
    let mut words = Blocks::new(ways(setup.floor_pins()));
    let (mut one, mut two, mut server, mut link) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut times = Times::new();
    let what = format!("{}, {}", mode.wait, mode.place);
    for block in setup.blocks() {
        setup.begin(block, &what)?;
        linked.aside(|| {
            if asleep {
                let mut futex =
                    |sleep| setup.beside(|floor, interrupt| floor.futex_block(sleep, warm, count, interrupt));
                one.push(futex(Sleep::OneWord)?);
                two.push(futex(Sleep::TwoWords)?);
                return Ok(());
            }
            setup.floor(&mut words, WARM, IN_BLOCK)
        })?;
        // Each is first in turn.
        for step in 0..2 {
            if block % 2 == step {
                server.push(linked.aside(|| call_block(&mut setup.client, &mut requests, warm, count))?);
            } else {
                let over_link = |_: &mut Setup| call_block(&mut linked.link, &mut requests, warm, count);
                link.push(setup.without_server(over_link)?);
            }
        }
        setup.without_server(|_| {
            for _ in 0..count {
                times.record(verified_call(&mut linked.link, &mut requests)?);
            }
            Ok(())
        })?;
    }
    let floor = if asleep { &one[..] } else { words.faster().1 };
    Ok(Calls {
        wait: mode.wait.to_string(),
        place: mode.place,
        pin: mode.pin,
        block_calls: count,
        floor: if asleep { "futex" } else { "words" },
        blocks: Beside::of(&link, floor),
        server: Beside::of(&link, &server),
        server_to_floor: Spread::of_ratios(&ratios(&server, floor)),
        two_words: asleep.then(|| Beside::of(&link, &two)),
        rtt_ns: times.summary(),
    })
}

/// Measures calls by size, in the session's own way of waiting.
pub fn sizes(session: &Session, sizes: &[usize]) -> Result<Vec<Size>, Failure> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let largest = sizes.last().copied().unwrap_or(0);
    ring_size(largest)?;
    session.with(session.plan(largest), |setup| sizes_in(setup, session, &sizes))
}

fn sizes_in(setup: &mut Setup, session: &Session, sizes: &[usize]) -> Result<Vec<Size>, Failure> {
    let largest = sizes.last().copied().unwrap_or(0);
    let mut linked = Linked::open(setup, session.wait, largest)?;
    let look = Look::usual(setup.floor_pins());
    let mut blocks: Vec<[Vec<f64>; 3]> = vec![Default::default(); sizes.len()];
    let mut requests: Vec<Requests> = sizes.iter().map(|&size| Requests::new(size)).collect();
    // There are many sizes.
    let count = |size| calls_in_block(size) / 2;
    for block in setup.blocks() {
        for (requests, [link, server, floor]) in requests.iter_mut().zip(&mut blocks) {
            let size = requests.len();
            setup.begin(block, readable_bytes(size))?;
            let count = count(size);
            let warm = count.min(WARM);
            floor.push(linked.aside(|| {
                setup.beside(|floor, interrupt| floor.copy_block(look, size, warm, count, interrupt))
            })?);
            server.push(linked.aside(|| call_block(&mut setup.client, requests, warm, count))?);
            link.push(setup.without_server(|_| call_block(&mut linked.link, requests, warm, count))?);
        }
    }
    let size = |(&size, [link, server, floor]): (&usize, &[Vec<f64>; 3])| Size {
        size,
        block_calls: count(size),
        blocks: Beside::of(link, floor),
        server: Beside::of(link, server),
    };
    Ok(sizes.iter().zip(&blocks).map(size).collect())
}

/// Measures calls of `size` bytes with several outstanding, in the session's own way of waiting.
pub fn windows(session: &Session, windows: &[u32], size: usize, calls: u32) -> Result<Vec<Window>, Failure> {
    let mut windows = windows.to_vec();
    windows.sort_unstable();
    windows.dedup();
    session.with(session.plan(size), |setup| windows_in(setup, session, &windows, size, calls))
}

fn windows_in(
    setup: &mut Setup,
    session: &Session,
    windows: &[u32],
    size: usize,
    calls: u32,
) -> Result<Vec<Window>, Failure> {
    let mut linked = Linked::open(setup, session.wait, size)?;
    let mut floor = Blocks::new(ways(setup.floor_pins()));
    let mut requests = Requests::new(size);
    let mut blocks: Vec<[Vec<f64>; 2]> = vec![Default::default(); windows.len()];
    for block in setup.blocks() {
        setup.begin(block, "several outstanding")?;
        linked.aside(|| setup.floor(&mut floor, WARM, IN_BLOCK))?;
        for (&window, [link, server]) in windows.iter().zip(&mut blocks) {
            let request = requests.next();
            server.push(linked.aside(|| warm_window(&mut setup.client, request, window, calls))?);
            link.push(setup.without_server(|_| warm_window(&mut linked.link, request, window, calls))?);
        }
    }
    let floor = floor.faster().1;
    let window = |(&window, [link, server]): (&u32, &[Vec<f64>; 2])| {
        let beside = Beside::of(link, floor);
        Window {
            window,
            block_calls: calls,
            blocks: beside,
            server: Beside::of(link, server),
            per_second: tenths(1e9 / beside.ns.p50),
        }
    };
    Ok(windows.iter().zip(&blocks).map(window).collect())
}

/// A block of calls after some untimed ones: the other end may have been stopped.
fn warm_window(
    client: &mut impl calls::Calls,
    request: &[u8],
    window: u32,
    calls: u32,
) -> Result<f64, Failure> {
    window_block(client, request, window, WARM)?;
    window_block(client, request, window, calls)
}
