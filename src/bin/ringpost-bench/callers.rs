//! `Callers`: client processes that all call in a loop at the same time: to the server, over sockets, or over
//! links to one serving client.
//!
//! They share a segment with this process. A *turn* says over what to call and how many processes take part.
//! These call until `stop` has the number of the turn. Then each stores the number of its calls and the time
//! they took, in its own cache lines.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::testing::{Segment, futex_wait, futex_wake};
use ringpost::{Client, WaitStrategy};

use crate::calls::Requests;
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor_socket::Echo;
use ringpost::cli::out;
use ringpost::cli::place::this_program;
use ringpost::cli::signals::Interrupt;

const TURN: usize = 0;
const OVER: usize = 128;
const ACTIVE: usize = 132;
const STOP: usize = 256;
const DONE: usize = 384;
const CALLERS: usize = 4096;
const CALLER: usize = 256;
// Offsets in a caller's part.
const COUNT: usize = 0;
const NANOSECONDS: usize = 8;

/// Wakes all sleepers: more than there can be.
const ALL: u32 = 1 << 20;

/// The transport of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Bus,
    Socket,
    Link,
}

impl Over {
    fn code(self) -> u32 {
        match self {
            Over::Bus => 0,
            Over::Socket => 1,
            Over::Link => 2,
        }
    }
}

/// The arguments of a caller process.
#[derive(Debug, Args)]
pub struct CallerOptions {
    socket: PathBuf,
    index: usize,
    size: usize,
    wait: WaitStrategy,

    /// The socket of an echo server.
    #[arg(long)]
    echo: Option<PathBuf>,

    /// The name of a client that serves links.
    #[arg(long)]
    serving: Option<String>,
}

/// What the callers call beside the server.
#[derive(Clone, Copy)]
pub enum Beside<'a> {
    /// An echo server on this socket.
    Echo(&'a Path),
    /// A client of this name that serves links.
    Serving(&'a str),
}

/// The result of one turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    /// Calls per second of all callers together.
    pub per_second: f64,
    /// The rate of the slowest caller as a fraction of the mean.
    pub slowest: f64,
}

impl Turn {
    /// `callers` are the number of calls of each, and the nanoseconds that they took.
    pub fn of(callers: &[(u64, u64)]) -> Turn {
        let rates: Vec<f64> =
            callers.iter().map(|&(count, time)| count as f64 * 1e9 / time.max(1) as f64).collect();
        let sum: f64 = rates.iter().sum();
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let slowest = if sum > 0.0 { least * rates.len() as f64 / sum } else { 0.0 };
        Turn { per_second: sum, slowest }
    }
}

/// The processes and their segment.
pub struct Callers {
    segment: Segment,
    processes: Vec<Helper>,
    turn: u32,
}

impl Callers {
    /// Starts `count` processes, and waits until all are registered and connected.
    pub fn start(
        count: usize,
        socket: &Path,
        beside: Beside<'_>,
        size: usize,
        wait: WaitStrategy,
        interrupt: &Interrupt,
    ) -> Result<Callers, Failure> {
        let (segment, descriptor) =
            Segment::create("ringpost-callers", CALLERS + count * CALLER).map_err(|error| {
                Failure::failed(format!("cannot make shared memory for the clients: {error}"))
            })?;
        let program = this_program()?;
        let mut processes = Vec::with_capacity(count);
        for index in 0..count {
            let (option, value) = match beside {
                Beside::Echo(path) => ("--echo", path.as_os_str()),
                Beside::Serving(name) => ("--serving", name.as_ref()),
            };
            let arguments: [OsString; 7] = [
                "loop-client".into(),
                socket.into(),
                index.to_string().into(),
                size.to_string().into(),
                wait.to_string().into(),
                option.into(),
                value.into(),
            ];
            let stdin = descriptor.try_clone().map_err(Failure::failed)?;
            processes.push(Helper::start(&program, arguments, Stdio::from(stdin))?);
        }
        for process in &mut processes {
            process.line(Duration::from_secs(60), interrupt)?;
        }
        Ok(Callers { segment, processes, turn: 0 })
    }

    /// Lets the first `active` processes call for `time`.
    pub fn turn(
        &mut self,
        over: Over,
        active: usize,
        time: Duration,
        interrupt: &Interrupt,
    ) -> Result<Turn, Failure> {
        let segment = &self.segment;
        self.turn += 1;
        segment.word32(OVER).store(over.code(), Ordering::Relaxed);
        segment.word32(ACTIVE).store(active as u32, Ordering::Relaxed);
        segment.word32(DONE).store(0, Ordering::Relaxed);
        segment.word32(TURN).store(self.turn, Ordering::Release);
        futex_wake(segment.word32(TURN), ALL);
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            interrupt.check()?;
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        segment.word64(STOP).store(self.turn.into(), Ordering::Release);
        let done = segment.word32(DONE);
        loop {
            let so_far = done.load(Ordering::Acquire);
            if so_far as usize == active {
                break;
            }
            interrupt.check()?;
            for process in &mut self.processes {
                process.check()?;
            }
            futex_wait(done, so_far, Some(Instant::now() + Duration::from_millis(100)));
        }
        let caller = |index| {
            let at = CALLERS + index * CALLER;
            let word = |offset| segment.word64(at + offset).load(Ordering::Relaxed);
            (word(COUNT), word(NANOSECONDS))
        };
        Ok(Turn::of(&(0..active).map(caller).collect::<Vec<_>>()))
    }
}

/// The body of a caller process.
pub fn caller(options: &CallerOptions) -> Outcome {
    die_with_parent();
    let segment = Segment::open(io::stdin()).map_err(|error| {
        Failure::failed(format!("standard input is not the clients' shared memory: {error}"))
    })?;
    let at = CALLERS + options.index * CALLER;
    if segment.len() < at + CALLER {
        return Err(Failure::failed("the clients' shared memory is too small"));
    }
    let mut client = Client::builder(&options.socket)
        .wait(options.wait)
        .timeout(Duration::from_secs(30))
        .register(format!("ringpost-bench-{}", options.index))
        .map_err(Failure::failed)?;
    let mut echo = options.echo.as_deref().map(|path| Echo::connect(path, options.size)).transpose()?;
    let mut link =
        options.serving.as_deref().map(|name| client.connect(name)).transpose().map_err(Failure::failed)?;
    let mut requests = Requests::new(options.size);
    out::line("ready")?;
    let word = segment.word32(TURN);
    let mut turn = 0;
    loop {
        while word.load(Ordering::Acquire) == turn {
            futex_wait(word, turn, None);
        }
        turn = word.load(Ordering::Acquire);
        if options.index >= segment.word32(ACTIVE).load(Ordering::Relaxed) as usize {
            continue;
        }
        let over = segment.word32(OVER).load(Ordering::Relaxed);
        let going = || segment.word64(STOP).load(Ordering::Acquire) != u64::from(turn);
        let request = requests.next();
        let start = Instant::now();
        let count = match (&mut echo, &mut link) {
            (Some(echo), _) if over == Over::Socket.code() => {
                count_calls(request, going, |request| Ok(echo.call(request)?.len()))
            }
            (_, Some(link)) if over == Over::Link.code() => {
                count_calls(request, going, |request| Ok(link.call(request).map_err(Failure::failed)?.len()))
            }
            _ => count_calls(request, going, |request| {
                Ok(client.call(request).map_err(Failure::failed)?.len())
            }),
        }?;
        let time = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        segment.word64(at + COUNT).store(count, Ordering::Relaxed);
        segment.word64(at + NANOSECONDS).store(time, Ordering::Relaxed);
        let done = segment.word32(DONE);
        done.fetch_add(1, Ordering::AcqRel);
        futex_wake(done, 1);
    }
}

/// Calls as long as `going` says so, and returns how often. `call` returns the length of the response.
fn count_calls(
    request: &[u8],
    going: impl Fn() -> bool,
    mut call: impl FnMut(&[u8]) -> Result<usize, Failure>,
) -> Result<u64, Failure> {
    let mut count = 0;
    while going() {
        let len = call(request)?;
        if len != request.len() {
            return Err(Failure::failed(format!("a response has {len} bytes instead of {}", request.len())));
        }
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_reports_the_total_and_the_slowest() {
        let turn = Turn::of(&[(100, 1_000_000_000), (300, 1_000_000_000)]);
        assert_eq!(turn, Turn { per_second: 400.0, slowest: 0.5 });
        assert_eq!(Turn::of(&[(0, 1), (0, 1)]).slowest, 0.0);
    }
}
