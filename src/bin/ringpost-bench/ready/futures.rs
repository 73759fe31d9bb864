//! Clients in tokio: beside calls that block, beside Unix stream sockets of tokio, and many of each.
//!
//! All runtimes are of one thread, here and in the process that echoes.

use std::ffi::OsString;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::place::{TempDir, this_program};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, Spread, ratios};
use ringpost::{Async, Client, Reply, WaitStrategy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};

use super::asleep::{self, in_places};
use super::kickable::spinning;
use super::wait::{Counts, Kicks};
use super::{Futures, Many, Soon};
use crate::callers::Turn;
use crate::calls::{IN_BLOCK, Requests, WARM, call_block, wrong};
use crate::idle::rest;
use crate::link::serving::{Another, on_cpu_of_server};
use crate::measurement::Session;
use crate::setup::{Plan, Setup};

const PATIENCE: Duration = Duration::from_secs(30);

fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_io().build().map_err(Failure::failed)
}

/// Registers a client whose operations are futures.
fn register(runtime: &Runtime, socket: &Path, name: &str) -> Result<Async<Client>, Failure> {
    let _inside = runtime.enter();
    let client = Client::builder(socket).timeout(PATIENCE).register(name).map_err(Failure::failed)?;
    Async::new(client).map_err(Failure::failed)
}

/// Makes a call, and counts how often its task was woken.
async fn call<'a>(
    client: &'a mut Async<Client>,
    request: &[u8],
    counts: &mut Counts,
) -> Result<Reply<'a>, Failure> {
    let mut polls = 0;
    let response = {
        let mut future = pin!(client.call(request));
        poll_fn(|context| {
            polls += 1;
            future.as_mut().poll(context)
        })
        .await
    };
    counts.calls += 1;
    counts.wakes += polls - 1;
    // The last one found the response.
    counts.fruitless += polls.saturating_sub(2);
    response.map_err(Failure::failed)
}

/// Makes `warm` calls and checks their responses, then times `count` calls, and returns the nanoseconds of
/// one.
fn block(
    runtime: &Runtime,
    client: &mut Async<Client>,
    requests: &mut Requests,
    (warm, count): (u32, u32),
    counts: &mut Counts,
) -> Result<f64, Failure> {
    runtime.block_on(async {
        for _ in 0..warm {
            let request = requests.next();
            let response = call(client, request, counts).await?;
            if response != request {
                return Err(wrong(request, &response));
            }
        }
        let request = requests.next();
        let start = Instant::now();
        for _ in 0..count {
            let response = call(client, request, counts).await?;
            if response.len() != request.len() {
                return Err(wrong(request, &response));
            }
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
    })
}

/// Measures calls to a server that spins; `None` if there are not two CPUs.
pub fn soon(session: &Session, size: usize) -> Result<Option<Soon>, Failure> {
    let Some(pin) = spinning(session) else { return Ok(None) };
    let plan = Plan { wait: WaitStrategy::Spin, pins: Some(pin), ..session.plan(size) };
    session.with(plan, |setup| {
        let mut another = setup.without_server(|setup| Another::start(setup, WaitStrategy::Spin, size))?;
        let runtime = runtime()?;
        let mut future =
            setup.without_server(|_| register(&runtime, &another.socket, "ringpost-bench-tokio"))?;
        another.aside(|| {
            let adaptive = Client::builder(setup.socket()).register("ringpost-bench-adaptive");
            setup.client = adaptive.map_err(Failure::failed)?;
            Ok(())
        })?;
        let closer = future.get_ref().closer();
        setup.end_waits_on_signals(move || closer.close());
        let mut requests = Requests::new(size);
        let (mut ours, mut blocking, mut counts) = (Vec::new(), Vec::new(), Counts::default());
        let mut kicks = Kicks::default();
        for number in setup.blocks() {
            setup.begin(number, "tokio, a spinning server")?;
            let calls = (WARM, IN_BLOCK);
            ours.push(setup.without_server(|_| {
                let measure = || block(&runtime, &mut future, &mut requests, calls, &mut counts);
                kicks.during(another.id(), measure)
            })?);
            let adaptive = || call_block(&mut setup.client, &mut requests, WARM, IN_BLOCK);
            blocking.push(another.aside(adaptive)?);
        }
        let (blocks, wakes) = (Beside::of(&ours, &blocking), counts.per_call(kicks.sum()));
        Ok(Some(Soon { pin, block_calls: IN_BLOCK, blocks, wakes }))
    })
}

/// Measures calls to a server that sleeps.
pub fn asleep(session: &Session, size: usize, count: u32) -> Result<Vec<Futures>, Failure> {
    in_places(session, size, |setup, place, pin| {
        let directory = TempDir::new("echo")?;
        let path = directory.path().join("echo.sock");
        let _echo = start_echo(setup, &path, size)?;
        let runtime = runtime()?;
        let mut future = register(&runtime, setup.socket(), "ringpost-bench-tokio")?;
        let mut stream = Stream::connect(&runtime, &path, size)?;
        let (closer, breaker) = (future.get_ref().closer(), stream.breaker()?);
        setup.end_waits_on_signals(move || {
            closer.close();
            breaker();
        });
        let calls = (asleep::WARM, count);
        let mut requests = Requests::new(size);
        let (mut ours, mut sockets, mut counts) = (Vec::new(), Vec::new(), Counts::default());
        let (mut kicks, server) = (Kicks::default(), setup.server());
        for number in setup.blocks() {
            setup.begin(number, format_args!("tokio, {place}"))?;
            sockets.push(stream.block(&runtime, &mut requests, calls)?);
            let measure = || block(&runtime, &mut future, &mut requests, calls, &mut counts);
            ours.push(kicks.during(server, measure)?);
        }
        let (blocks, wakes) = (Beside::of(&ours, &sockets), counts.per_call(kicks.sum()));
        Ok(vec![Futures { place, pin, block_calls: count, blocks, wakes }])
    })
}

/// Measures many clients that all call, with adaptive waiting, not pinned.
pub fn many(session: &Session, clients: u32, size: usize, time: Duration) -> Result<Many, Failure> {
    let plan =
        Plan { wait: WaitStrategy::Adaptive, pins: session.pin, others: clients, ..session.plan(size) };
    session.with(plan, |setup| many_in(setup, clients, size, time))
}

fn many_in(setup: &mut Setup, clients: u32, size: usize, time: Duration) -> Result<Many, Failure> {
    let directory = TempDir::new("echo")?;
    let path = directory.path().join("echo.sock");
    let _echo = start_echo(setup, &path, size)?;
    let runtime = runtime()?;
    let (mut futures, mut streams) = (Vec::new(), Vec::new());
    for index in 0..clients {
        futures.push(register(&runtime, setup.socket(), &format!("ringpost-bench-tokio-{index}"))?);
        streams.push(Stream::connect(&runtime, &path, size)?);
    }
    let (mut ours, mut sockets, mut counts) = (Vec::new(), Vec::new(), Counts::default());
    let (mut kicks, server) = (Kicks::default(), setup.server());
    for number in setup.blocks() {
        setup.begin(number, format_args!("{clients} clients in tokio"))?;
        let over_sockets = |mut stream: Stream, until: Until| async move {
            let request = Requests::new(size).next().to_vec();
            let mut calls = 0;
            while until.goes_on() {
                stream.call(&request).await?;
                calls += 1;
            }
            Ok((stream, Counts { calls, ..Counts::default() }))
        };
        sockets.push(turn(&runtime, &mut streams, time, &setup.interrupt, over_sockets)?.0);
        let over_rings = |mut client: Async<Client>, until: Until| async move {
            let request = Requests::new(size).next().to_vec();
            let mut counts = Counts::default();
            while until.goes_on() {
                let response = call(&mut client, &request, &mut counts).await?;
                if response != *request {
                    return Err(wrong(&request, &response));
                }
            }
            Ok((client, counts))
        };
        let measure = || turn(&runtime, &mut futures, time, &setup.interrupt, over_rings);
        let (ended, woken) = kicks.during(server, measure)?;
        ours.push(ended);
        counts = counts.and(woken);
    }
    let rates = |turns: &[Turn]| turns.iter().map(|turn| turn.per_second).collect::<Vec<_>>();
    let slowest =
        |turns: &[Turn]| Spread::of_ratios(&turns.iter().map(|turn| turn.slowest).collect::<Vec<_>>());
    Ok(Many {
        clients,
        block_seconds: time.as_secs_f64(),
        per_second: Spread::of(&rates(&ours)),
        socket_per_second: Spread::of(&rates(&sockets)),
        ratio: Spread::of_ratios(&ratios(&rates(&ours), &rates(&sockets))),
        slowest_to_mean: slowest(&ours),
        socket_slowest_to_mean: slowest(&sockets),
        wakes: counts.per_call(kicks.sum()),
    })
}

/// How long the tasks of a turn go on.
#[derive(Clone, Default)]
struct Until(Arc<AtomicBool>);

impl Until {
    fn goes_on(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Lets each of `ends` make calls for `time`, each in a task of its own. `calls` returns the end and how
/// often it called.
fn turn<E, F>(
    runtime: &Runtime,
    ends: &mut Vec<E>,
    time: Duration,
    interrupt: &Interrupt,
    calls: impl Fn(E, Until) -> F,
) -> Result<(Turn, Counts), Failure>
where
    E: Send + 'static,
    F: Future<Output = Result<(E, Counts), Failure>> + Send + 'static,
{
    let until = Until::default();
    let tasks: Vec<_> = ends.drain(..).map(|end| runtime.spawn(calls(end, until.clone()))).collect();
    let (start, clock) = (Instant::now(), interrupt.clone());
    let ended = std::thread::spawn(move || {
        let rested = rest(time, &clock);
        until.0.store(true, Ordering::Relaxed);
        rested
    });
    let mut each = Vec::with_capacity(tasks.len());
    let mut sum = Counts::default();
    for task in tasks {
        let (end, counts) = runtime.block_on(task).map_err(Failure::failed)??;
        ends.push(end);
        each.push(counts.calls);
        sum = sum.and(counts);
    }
    let nanoseconds = start.elapsed().as_nanos() as u64;
    ended.join().map_err(|_| Failure::failed("the clock's thread panicked"))??;
    let each: Vec<_> = each.into_iter().map(|calls| (calls, nanoseconds)).collect();
    Ok((Turn::of(&each), sum))
}

/// A client of the echo.
struct Stream {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Stream {
    fn connect(runtime: &Runtime, path: &Path, bytes: usize) -> Result<Stream, Failure> {
        let stream = runtime.block_on(UnixStream::connect(path)).map_err(broken)?;
        Ok(Stream { stream, buffer: vec![0; bytes] })
    }

    /// Returns a function that ends a wait for the echo.
    fn breaker(&self) -> Result<impl FnOnce() + Send + 'static, Failure> {
        use std::os::fd::AsFd;
        let socket = self.stream.as_fd().try_clone_to_owned().map_err(broken)?;
        Ok(move || _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both))
    }

    async fn call(&mut self, request: &[u8]) -> Result<&[u8], Failure> {
        self.stream.write_all(request).await.map_err(broken)?;
        self.stream.read_exact(&mut self.buffer).await.map_err(broken)?;
        Ok(&self.buffer)
    }

    fn block(
        &mut self,
        runtime: &Runtime,
        requests: &mut Requests,
        (warm, count): (u32, u32),
    ) -> Result<f64, Failure> {
        runtime.block_on(async {
            for _ in 0..warm {
                let request = requests.next();
                let response = self.call(request).await?;
                if response != request {
                    return Err(wrong(request, response));
                }
            }
            let request = requests.next();
            let start = Instant::now();
            for _ in 0..count {
                self.call(request).await?;
            }
            Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
        })
    }
}

fn broken(error: std::io::Error) -> Failure {
    Failure::failed(format!("the socket echo failed: {error}"))
}

/// The arguments of the echo.
#[derive(Debug, Args)]
pub struct EchoOptions {
    path: PathBuf,
    bytes: usize,
}

/// Starts the echo on the CPU of the setup's server.
fn start_echo(setup: &Setup, path: &Path, bytes: usize) -> Result<Helper, Failure> {
    let arguments: [OsString; 3] = ["tokio-echo".into(), path.into(), bytes.to_string().into()];
    let program = this_program()?;
    let mut echo = on_cpu_of_server(setup, || Helper::start(&program, arguments, Stdio::null()))?;
    echo.line(PATIENCE, &setup.interrupt)?;
    Ok(echo)
}

/// The echo process: returns each message, until it is killed.
pub fn echo(options: &EchoOptions) -> Outcome {
    die_with_parent();
    runtime()?.block_on(accept(&options.path, options.bytes)).map_err(broken)
}

async fn accept(path: &Path, bytes: usize) -> std::io::Result<()> {
    let listener = UnixListener::bind(path)?;
    out::line("ready").map_err(|failure| std::io::Error::other(failure.to_string()))?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            // The task ends with its connection.
            while stream.read_exact(&mut buffer).await.is_ok() && stream.write_all(&buffer).await.is_ok() {}
        });
    }
}
