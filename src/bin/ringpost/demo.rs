//! `ringpost demo`: runs a server and two clients as processes, which send messages and publish a topic,
//! reports what they do, and measures calls: to the server and from client to client.
//!
//! This process gives the clients their commands, and measures the floor between their blocks of calls.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::WaitStrategy;

use crate::demo_client::{SIZE, Timed};
use ringpost::cli::child::{ServerChild, end};
use ringpost::cli::cpu::{self, Pins};
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::floor::{Blocks, Floor, Look};
use ringpost::cli::out;
use ringpost::cli::place::{TempDir, sibling, this_program};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Summary, clock, nanoseconds, quantile, thousands};

/// The calls of each client: first blocks, which are timed as a whole and alternate with blocks of the floor,
/// then calls that are timed one by one. A slow computer makes fewer of them.
const CALLS: u64 = 50_000;
const BLOCKS: u64 = 25;
const BLOCKS_TIME: Duration = Duration::from_secs(2);
const TIMED_SECONDS: u64 = 2;

/// The untimed and timed round trips of a block; fewer on one CPU, where each takes much longer.
const BLOCK: (u32, u32) = (100, 900);
const BLOCK_ON_ONE: (u32, u32) = (20, 180);

/// How long a client may take for one command.
const STEP: Duration = Duration::from_secs(30);

pub fn run(socket: Option<&Path>) -> Outcome {
    let server_program = sibling("ringpost-server")?;
    let this_program = this_program()?;
    let interrupt = Interrupt::install()?;
    let start = Instant::now();

    // Drops happen in reverse order: first the server, then the directory.
    let directory = TempDir::new("demo")?;
    let socket = socket.map_or_else(|| directory.path().join("bus.sock"), Path::to_path_buf);
    let pins = Pins::default_pins();
    if pins.is_none() {
        note("this process may use only one CPU: both ends of a call share it, so the times are much longer");
    }

    let mut server = ServerChild::start(&server_program, &socket, &server_options(pins), &interrupt, |_| {})?;
    tell("server", server.id(), &format!("listens on {}", socket.display()))?;
    let measured = match play(&this_program, &socket, pins, &interrupt) {
        // If a signal came or the server ended, report that as the reason.
        Err(Failure::Failed(why)) => {
            return interrupt.check().and_then(|()| server.check()).and(Err(Failure::Failed(why)));
        }
        played => played?,
    };
    let id = server.id();
    server.stop()?;
    tell("server", id, "has shut down")?;
    out::line("")?;
    out::put(measured.report(start).as_bytes())
}

/// Runs the two clients from start to end.
fn play(
    program: &Path,
    socket: &Path,
    pins: Option<Pins>,
    interrupt: &Interrupt,
) -> Result<Measured, Failure> {
    let mut floor = Floor::start(program, partner_options(pins))?;
    let mut alice = DemoClient::start(program, socket, "alice", pins, interrupt)?;
    let mut bob = DemoClient::start(program, socket, "bob", pins, interrupt)?;
    converse(&mut alice, &mut bob)?;
    converse(&mut bob, &mut alice)?;
    share(&mut alice, &mut bob)?;

    // Measure the floor from the CPU on which the clients run.
    if let Some(pins) = pins {
        cpu::pin(pins.client).map_err(Failure::Failed)?;
    }
    let mut measured = Measured::new(pins);
    for client in [&mut alice, &mut bob] {
        measured.client(client, Whom::Server, &mut floor, interrupt)?;
    }
    bob.order(&format!("serve {}", pins.map_or("-".into(), |pins| pins.server.to_string())))?;
    bob.tell("serves calls")?;
    alice.order("connect bob")?;
    alice.tell("opens a link to bob")?;
    measured.client(&mut alice, Whom::Link, &mut floor, interrupt)?;
    for client in [&mut alice, &mut bob] {
        client.order("unregister")?;
        client.tell("has unregistered")?;
    }
    Ok(measured)
}

/// All ends wait adaptively: the workers, the server of the link and the floor's partner share one CPU, and
/// one that has nothing to do sleeps.
fn server_options(pins: Option<Pins>) -> Vec<OsString> {
    let mut options = vec!["--wait".into(), WaitStrategy::Adaptive.to_string().into()];
    if let Some(pins) = pins {
        options.extend(["--pin".into(), pins.server.to_string().into()]);
    }
    options
}

fn partner_options(pins: Option<Pins>) -> Vec<OsString> {
    let mut options = vec!["floor-partner".into()];
    if let Some(pins) = pins {
        options.extend(["--cpu".into(), pins.server.to_string().into()]);
    }
    options
}

/// One line of the transcript.
fn tell(who: &str, pid: u32, what: &str) -> Outcome {
    out::line(&format!("{who:<6} (pid {pid})  {what}"))
}

/// Lets `from` look up the key of `to` and send it a message.
fn converse(from: &mut DemoClient, to: &mut DemoClient) -> Outcome {
    let key = from.order(&format!("find {}", to.name))?;
    from.tell(&format!("asks the server for {}: {key}", to.name))?;
    let text = format!("Hello {}, this is {}.", to.name, from.name);
    from.order(&format!("send {key} {text}"))?;
    from.tell(&format!("sends to that key: \"{text}\""))?;
    let received = to.order("receive")?;
    let mut parts = received.splitn(3, ' ');
    let (name, sender, got) = (parts.next(), parts.next(), parts.next());
    match (name, sender, got) {
        (Some(name), Some(sender), Some(got)) if name == from.name && sender == from.key && got == text => {
            to.tell(&format!("receives from {name} ({sender}): \"{got}\""))
        }
        _ => Err(Failure::failed(format!(
            "{} received something other than what was sent: {received}",
            to.name
        ))),
    }
}

/// Lets `from` publish a sample, and `to` read it.
fn share(from: &mut DemoClient, to: &mut DemoClient) -> Outcome {
    to.order("subscribe demo/*")?;
    to.tell("subscribes to demo/*")?;
    let text = "It is noon.";
    from.order(&format!("publish demo/news {text}"))?;
    from.tell(&format!("publishes on demo/news: \"{text}\""))?;
    let sample = to.order("sample")?;
    if sample != format!("{} demo/news {text}", from.name) {
        return Err(Failure::failed(format!(
            "{} read something other than what was published: {sample}",
            to.name
        )));
    }
    to.tell(&format!("reads it from {}'s memory, past the server", from.name))
}

/// A client process, and the pipes for its commands and answers.
struct DemoClient {
    name: &'static str,
    key: String,
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    interrupt: Interrupt,
}

impl DemoClient {
    fn start(
        program: &Path,
        socket: &Path,
        name: &'static str,
        pins: Option<Pins>,
        interrupt: &Interrupt,
    ) -> Result<DemoClient, Failure> {
        let cannot = |error| Failure::failed(format!("cannot start {}: {error}", program.display()));
        let mut command = Command::new(program);
        command.arg("demo-client").arg(name).arg("--socket").arg(socket);
        if let Some(pins) = pins {
            command.arg("--cpu").arg(pins.client.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(cannot)?;
        let (orders, stdout) = (child.stdin.take(), child.stdout.take());
        let (lines, answers) = mpsc::channel();
        let interrupt = interrupt.clone();
        let mut client = DemoClient { name, key: String::new(), child, orders, answers, interrupt };
        if let Some(stdout) = stdout {
            let read = move || {
                BufReader::new(stdout)
                    .lines()
                    .map_while(Result::ok)
                    .try_for_each(|line| lines.send(line).ok())
            };
            thread::Builder::new().name(name.into()).spawn(read).map_err(cannot)?;
        }
        client.key = client.answer()?;
        client.tell(&format!("registers as {name} and gets the key {}", client.key))?;
        Ok(client)
    }

    fn tell(&self, what: &str) -> Outcome {
        tell(self.name, self.child.id(), what)
    }

    fn order(&mut self, line: &str) -> Result<String, Failure> {
        let written = self.orders.as_mut().map(|orders| orders.write_all(format!("{line}\n").as_bytes()));
        match written {
            Some(Ok(())) => self.answer(),
            _ => Err(self.lost()),
        }
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let deadline = Instant::now() + STEP;
        loop {
            self.interrupt.check()?;
            match self.answers.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    return match line.split_once(' ').unwrap_or((&line, "")) {
                        ("ok", value) => Ok(value.to_string()),
                        ("error", why) => Err(Failure::failed(format!("{}: {why}", self.name))),
                        _ => Err(Failure::failed(format!("{} answered {line:?}", self.name))),
                    };
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = STEP.as_secs();
                    return Err(Failure::failed(format!(
                        "{} did not answer within {seconds} seconds",
                        self.name
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.lost()),
            }
        }
    }

    fn lost(&mut self) -> Failure {
        Failure::failed(format!("the process of {} (pid {}) ended unexpectedly", self.name, self.child.id()))
    }
}

impl Drop for DemoClient {
    fn drop(&mut self) {
        // At the end of its input the client unregisters and ends.
        self.orders = None;
        end(&mut self.child, Duration::from_secs(2));
    }
}

/// Whom a client calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    Server,
    Link,
}

struct Measured {
    pins: Option<Pins>,
    floor: Blocks,
    /// Nanoseconds per call, one value for each block of the floor.
    blocks: Vec<(Whom, f64)>,
    calls: u64,
    times: Vec<(String, Summary)>,
}

impl Measured {
    fn new(pins: Option<Pins>) -> Measured {
        Measured {
            pins,
            floor: Blocks::new(Look::ways(pins)),
            blocks: Vec::new(),
            calls: 0,
            times: Vec::new(),
        }
    }

    fn client(
        &mut self,
        client: &mut DemoClient,
        whom: Whom,
        floor: &mut Floor,
        interrupt: &Interrupt,
    ) -> Outcome {
        let (word, to) = match whom {
            Whom::Server => ("server", "the server"),
            Whom::Link => ("link", "bob over a link"),
        };
        let (warm, count) = if self.pins.is_some() { BLOCK } else { BLOCK_ON_ONE };
        let start = Instant::now();
        let mut calls = 0;
        for block in 0..BLOCKS {
            if block >= 3 && start.elapsed() > BLOCKS_TIME {
                break;
            }
            self.floor.measure(floor, warm, count, interrupt)?;
            let answer = client.order(&format!("block {word} {warm} {count}"))?;
            let time = answer.parse().map_err(|_| Failure::failed(format!("{answer:?} is not a time")))?;
            self.blocks.push((whom, time));
            calls += u64::from(warm) + u64::from(count);
        }
        let answer = client.order(&format!("timed {word} {} {TIMED_SECONDS}", CALLS - calls))?;
        let timed: Timed =
            serde_json::from_str(&answer).map_err(|error| Failure::failed(format!("{answer:?}: {error}")))?;
        calls += timed.calls;
        self.times.push((format!("{} to {to}, each timed", client.name), timed.times));
        self.calls += calls;
        let short = if calls < CALLS { " (this computer is slow or busy)" } else { "" };
        client.tell(&format!("has made {} calls to {to}{short}", thousands(calls)))
    }

    fn report(&self, start: Instant) -> String {
        let mut text = format!("Round trip of a call ({SIZE} bytes there and back; {})\n", placed(self.pins));
        let mut row = |name: &str, cells: [String; 5]| {
            let [a, b, c, d, e] = cells;
            text.push_str(&format!("  {name:<38}{a:>10}{b:>10}{c:>10}{d:>10}{e:>10}\n"));
        };
        row("", ["p50", "p90", "p99", "p99.9", "max"].map(String::from));
        for (name, times) in &self.times {
            let cells = [times.p50, times.p90, times.p99, times.p999, times.max];
            row(name, cells.map(|time| nanoseconds(time as f64)));
        }
        let (look, floor) = self.floor.faster();
        let none = || String::from("-");
        let blocks = |values: &[f64]| {
            [nanoseconds(quantile(values, 0.5)), nanoseconds(quantile(values, 0.9)), none(), none(), none()]
        };
        let pairs = |whom| self.blocks.iter().zip(floor).filter(move |((to, _), _)| *to == whom);
        let times = |whom| pairs(whom).map(|((_, time), _)| *time).collect::<Vec<_>>();
        row("calls to the server, timed in blocks", blocks(&times(Whom::Server)));
        row("calls over the link, timed in blocks", blocks(&times(Whom::Link)));
        row("bare round trips, timed in blocks", blocks(floor));
        let to_floor =
            |whom| quantile(&pairs(whom).map(|((_, call), floor)| call / floor).collect::<Vec<_>>(), 0.5);
        let clock = clock();
        text.push_str(&format!(
            "A call to the server takes {:.2} times, one over the link {:.2} times as long as a\nbare shared-memory round \
             trip between the same CPUs{}. Reading the clock takes {:.0} ns.\n{} calls, 2 messages and a sample between 3 processes in \
             {:.1} s.\n",
            to_floor(Whom::Server),
            to_floor(Whom::Link),
            match look {
                Look::Pause => ", with `pause`",
                Look::Plain => ", without `pause`",
                Look::Yield => ", yielding",
            },
            clock.cost,
            thousands(self.calls),
            start.elapsed().as_secs_f64(),
        ));
        text
    }
}

fn placed(pins: Option<Pins>) -> String {
    match pins {
        Some(pins) => {
            format!("the caller on CPU {}, who answers on CPU {}", pins.client, pins.server)
        }
        None => "one CPU for both ends".to_string(),
    }
}
