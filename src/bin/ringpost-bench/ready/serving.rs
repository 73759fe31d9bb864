//! The process that serves links which are armed: in an event loop, or each on a thread of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor_epoll::Epoll;
use ringpost::cli::out;
use ringpost::{
    Client, Link, Listener, Readiness, ReadinessError, Ready, Request, Responder, Response, ServiceError,
    WaitStrategy,
};

use super::wait::Counts;
use crate::link::serving::{NAME, raise_limit};
use crate::setup::Setup;

const PATIENCE: Duration = Duration::from_secs(30);

/// A call with this is answered with the counts of the loop.
const COUNTS: &[u8] = b"ringpost-bench counts";

/// How links are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// All in one event loop.
    Loop,
    /// Each on a thread of its own, which blocks.
    Threads,
}

/// The arguments of the serving process.
#[derive(Debug, Args)]
pub struct ServingOptions {
    socket: PathBuf,
    wait: WaitStrategy,
    by: By,
}

/// Starts the serving process of the server on `socket`.
pub fn start(setup: &Setup, socket: &Path, wait: WaitStrategy, by: By) -> Result<Helper, Failure> {
    let (wait, by) = (wait.to_string(), if by == By::Loop { "loop" } else { "threads" });
    setup.helper(&["ready-server".as_ref(), socket.as_os_str(), wait.as_ref(), by.as_ref()], PATIENCE)
}

/// The counts of the loop that serves a link, without this call.
pub fn counts(link: &mut Link) -> Result<Counts, Failure> {
    let reply = link.call(COUNTS).map_err(Failure::failed)?;
    let number = |index: usize| {
        let bytes = reply.get(8 * index..8 * index + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or_else(|| Failure::failed("who serves sent no counts"))
    };
    Ok(Counts { calls: number(0)?, wakes: number(1)?, fruitless: number(2)? })
}

/// The serving process: answers every call with its request, until it is killed.
pub fn serve(options: &ServingOptions) -> Outcome {
    die_with_parent();
    raise_limit();
    let mut client = Client::builder(&options.socket)
        .wait(options.wait)
        .timeout(PATIENCE)
        .register(NAME)
        .map_err(Failure::failed)?;
    let listener = client.listen().map_err(Failure::failed)?;
    match options.by {
        By::Loop => in_a_loop(listener),
        By::Threads => by_threads(listener),
    }
}

fn by_threads(mut listener: Listener) -> Outcome {
    out::line("ready")?;
    loop {
        let incoming = listener.accept().map_err(Failure::failed)?;
        // Its caller may have given up.
        let Ok(mut responder) = incoming.arms().accept() else { continue };
        let serve = move || responder.serve(|request, response| response.write(request.payload()));
        std::thread::Builder::new().spawn(serve).map_err(Failure::failed)?;
    }
}

/// The number of the listener in the epoll instance. Links have those from 0 on.
const LISTENER: u64 = u64::MAX;

fn in_a_loop(mut listener: Listener) -> Outcome {
    let mut epoll = Epoll::new()?;
    let calls = listener.readiness().map_err(Failure::failed)?;
    epoll.add(&calls, LISTENER)?;
    let mut links: Vec<Option<(Responder, Readiness)>> = Vec::new();
    let mut counts = Counts::default();
    out::line("ready")?;
    // Those who called before are there already.
    let mut woken = vec![LISTENER];
    loop {
        for number in woken.drain(..) {
            if number == LISTENER {
                accept(&mut listener, &epoll, &mut links)?;
                continue;
            }
            let Some(place) = links.get_mut(number as usize) else { continue };
            let Some((responder, _)) = place else { continue };
            let before = counts.calls;
            if !serve_all(responder, &mut counts)? {
                *place = None;
            } else if counts.calls == before {
                counts.fruitless += 1;
            }
        }
        woken.extend(epoll.wait()?);
        counts.wakes += 1;
    }
}

/// Accepts all who have called, and arms.
fn accept(
    listener: &mut Listener,
    epoll: &Epoll,
    links: &mut Vec<Option<(Responder, Readiness)>>,
) -> Outcome {
    loop {
        while let Some(incoming) = listener.try_accept().map_err(Failure::failed)? {
            // Its caller may have given up.
            let Ok(mut responder) = incoming.arms().accept() else { continue };
            let readiness = responder.readiness().map_err(Failure::failed)?;
            epoll.add(&readiness, links.len() as u64)?;
            if serve_all(&mut responder, &mut Counts::default())? {
                links.push(Some((responder, readiness)));
            }
        }
        if listener.arm().map_err(Failure::failed)? {
            return Ok(());
        }
    }
}

/// Serves what is there, and arms. Returns false if the link has ended.
fn serve_all(responder: &mut Responder, counts: &mut Counts) -> Result<bool, Failure> {
    let mut service = |request: Request<'_>, response: &mut Response<'_>| answer(request, response, counts);
    loop {
        if responder.serve_ready(&mut service).map_err(Failure::failed)?.is_some() {
            return Ok(false);
        }
        match responder.arm() {
            Ok(true) => return Ok(true),
            // The next look says how it has ended.
            Ok(false) | Err(ReadinessError::Disconnected(_)) => {}
            Err(error) => return Err(Failure::failed(error)),
        }
    }
}

fn answer(
    request: Request<'_>,
    response: &mut Response<'_>,
    counts: &mut Counts,
) -> Result<(), ServiceError> {
    let numbers = [counts.calls, counts.wakes, counts.fruitless].map(u64::to_le_bytes);
    counts.calls += 1;
    if request.payload() == COUNTS {
        return response.write(numbers.as_flattened());
    }
    response.write(request.payload())
}
