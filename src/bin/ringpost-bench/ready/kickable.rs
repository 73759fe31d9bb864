//! What it costs that the other end may be armed: spinning calls, of which none arms anything.

use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::Failure;
use ringpost::cli::stats::Beside;
use ringpost::{Client, Link, Ready, WaitStrategy};
use serde::Serialize;

use super::serving::{self, By};
use crate::calls::{IN_BLOCK, Requests, WARM, call_block};
use crate::link::serving::{Another, Linked};
use crate::measurement::{Session, apart, warn_too_few};
use crate::setup::{Plan, Setup};

/// Calls while the ends may be armed, compared with the same calls while they may not, whose times are in
/// place of the floor's.
#[derive(Serialize)]
pub struct Kickable {
    pub pin: Pins,
    pub block_calls: u32,
    /// Over a link, both of whose ends may be armed.
    pub link: Beside,
    /// To the server, after the client has asked for its readiness.
    pub server: Beside,
}

/// Measures that; `None` if there are not two CPUs.
pub fn kickable(session: &Session, size: usize) -> Result<Option<Kickable>, Failure> {
    let Some(pin) = spinning(session) else { return Ok(None) };
    let plan = Plan { wait: WaitStrategy::Spin, pins: Some(pin), ..session.plan(size) };
    let link = session.with(plan.clone(), |setup| over_links(setup, size))?;
    let server = session.with(plan, |setup| to_servers(setup, size))?;
    Ok(Some(Kickable { pin, block_calls: IN_BLOCK, link, server }))
}

/// The CPUs for two ends that spin, if there are two.
pub fn spinning(session: &Session) -> Option<Pins> {
    warn_too_few("ends that spin", 2, "they are left out");
    session.about.pin.filter(|&pin| apart(Some(pin)))
}

fn over_links(setup: &mut Setup, size: usize) -> Result<Beside, Failure> {
    let spin = WaitStrategy::Spin;
    let mut plain = Linked::open(setup, spin, size)?;
    let serve = |socket: &std::path::Path| serving::start(setup, socket, spin, By::Threads);
    // Two serving ends share a CPU.
    let mut armable = plain.aside(|| Linked::with(setup, spin, size, &Link::options().arms(), serve))?;
    let closers = [plain.link.closer(), armable.link.closer()];
    setup.end_waits_on_signals(move || closers.iter().for_each(ringpost::Closer::close));
    let mut requests = Requests::new(size);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for block in setup.blocks() {
        setup.begin(block, "links that may be armed")?;
        setup.without_server(|_| {
            with.push(plain.aside(|| call_block(&mut armable.link, &mut requests, WARM, IN_BLOCK))?);
            without.push(armable.aside(|| call_block(&mut plain.link, &mut requests, WARM, IN_BLOCK))?);
            Ok(())
        })?;
    }
    Ok(Beside::of(&with, &without))
}

fn to_servers(setup: &mut Setup, size: usize) -> Result<Beside, Failure> {
    let mut another = setup.without_server(|setup| Another::start(setup, WaitStrategy::Spin, size))?;
    let mut client = setup.without_server(|_| {
        let client = Client::builder(&another.socket).wait(WaitStrategy::Spin).register("ringpost-bench");
        let mut client = client.map_err(Failure::failed)?;
        client.readiness().map_err(Failure::failed)?;
        Ok(client)
    })?;
    let closer = client.closer();
    setup.end_waits_on_signals(move || closer.close());
    let mut requests = Requests::new(size);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for block in setup.blocks() {
        setup.begin(block, "clients that may be armed")?;
        with.push(setup.without_server(|_| call_block(&mut client, &mut requests, WARM, IN_BLOCK))?);
        without.push(another.aside(|| call_block(&mut setup.client, &mut requests, WARM, IN_BLOCK))?);
    }
    Ok(Beside::of(&with, &without))
}
