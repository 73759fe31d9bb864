//! Posts over a link, and links that are opened and closed.

use std::time::Instant;

use ringpost::cli::exit::Failure;
use ringpost::cli::floor::Look;
use ringpost::cli::stats::{Beside, tenths};
use ringpost::{Client, WaitStrategy};
use serde::Serialize;

use super::serving::{Linked, NAME, start};
use crate::measurement::Session;
use crate::register::timed;
use crate::setup::{Plan, Setup};

/// The smallest piece of the raw copy; smaller ones would mostly measure the word that announces each piece.
const PIECE: usize = 4096;

/// Posts: requests that nobody answers.
#[derive(Serialize)]
pub struct Posts {
    pub size: usize,
    pub block_posts: u32,
    /// Times per post, compared with the raw copy of as many cache lines in one direction.
    #[serde(flatten)]
    pub blocks: Beside,
    pub per_second: f64,
}

/// Measures posts of `size` bytes. The last one of a block is known to be served because a call after it was
/// answered.
pub fn posts(session: &Session, size: usize, count: u32) -> Result<Posts, Failure> {
    session.with(session.plan(size), |setup| {
        let mut linked = Linked::open(setup, session.wait, size)?;
        let look = Look::usual(setup.floor_pins());
        // A block has 16 bytes of headers.
        let lines = (size + 16).div_ceil(64) as f64;
        let piece_lines = (PIECE + 8).div_ceil(64) as f64;
        let pieces = (f64::from(count) * lines / piece_lines).clamp(50.0, 1e6) as u32;
        let payload = vec![0x5a; size];
        let (mut posts, mut floor) = (Vec::new(), Vec::new());
        for block in setup.blocks() {
            setup.begin(block, "posts")?;
            let time = linked.aside(|| {
                setup.beside(|floor, interrupt| {
                    floor.one_way_block(look, PIECE, pieces / 4, pieces, interrupt)
                })
            })?;
            floor.push(time * lines / piece_lines);
            posts.push(setup.without_server(|_| {
                post_block(&mut linked, &payload, count / 4 + 1)?;
                post_block(&mut linked, &payload, count)
            })?);
        }
        let blocks = Beside::of(&posts, &floor);
        Ok(Posts { size, block_posts: count, blocks, per_second: tenths(1e9 / blocks.ns.p50) })
    })
}

fn post_block(linked: &mut Linked, payload: &[u8], count: u32) -> Result<f64, Failure> {
    let start = Instant::now();
    for _ in 0..count {
        linked.link.post(payload).map_err(Failure::failed)?;
    }
    linked.link.call(b"served").map_err(Failure::failed)?;
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

/// Links that are opened and closed, one after the other.
#[derive(Serialize)]
pub struct Opened {
    pub block_links: u32,
    /// Compared with registering and unregistering a client.
    #[serde(flatten)]
    pub blocks: Beside,
    pub per_second: f64,
}

/// Measures that, without pinning anything: several threads are at work.
pub fn opened(session: &Session, count: u32) -> Result<Opened, Failure> {
    let plan = Plan { wait: WaitStrategy::Adaptive, pins: session.pin, ..session.plan(0) };
    session.with(plan, |setup| open_in(setup, count))
}

fn open_in(setup: &mut Setup, count: u32) -> Result<Opened, Failure> {
    let socket = setup.socket().to_owned();
    let _serving = start(setup, &socket, WaitStrategy::Adaptive)?;
    let register = || {
        let client = Client::register(&socket, "ringpost-bench-register").map_err(Failure::failed)?;
        client.unregister().map_err(Failure::failed)
    };
    let (mut ours, mut registered) = (Vec::new(), Vec::new());
    for block in setup.blocks() {
        setup.begin(block, "links opened and closed")?;
        registered.push(timed(count, &setup.interrupt, register)?);
        let client = &mut setup.client;
        let open = || client.connect(NAME).map(drop).map_err(Failure::failed);
        ours.push(timed(count, &setup.interrupt, open)?);
    }
    let blocks = Beside::of(&ours, &registered);
    Ok(Opened { block_links: count, blocks, per_second: tenths(1e9 / blocks.ns.p50) })
}
