//! `ringpost-bridge demo`: two nodes on this computer, each with a server and a bridge, and a client on
//! either.
//!
//! All are processes of this program, which end with it. Nothing is left behind.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringpost::{Change, Client, Server};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{Options, Part, Settings};

/// How long one step may take.
const STEP: Duration = Duration::from_secs(30);

type Failure = Box<dyn std::error::Error>;

/// A process of the demonstration. It ends when this is dropped.
struct Process {
    child: Child,
    printer: Option<JoinHandle<()>>,
    /// Whether it has said that it is ready.
    ready: Arc<AtomicBool>,
}

impl Process {
    /// Starts this program for a part. What it prints is printed, under its title.
    fn start(title: &str, arguments: &[&str]) -> Result<Process, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("demo-part").args(arguments);
        command.env("RINGPOST_PARENT_PID", std::process::id().to_string());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let ready = Arc::new(AtomicBool::new(false));
        let (title, tells) = (title.to_owned(), ready.clone());
        let printer = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match line == "ready" {
                    true => tells.store(true, Ordering::Release),
                    false => println!("{title:>9}: {line}"),
                }
            }
        });
        Ok(Process { child, printer: Some(printer), ready })
    }

    /// Waits until it is ready.
    fn await_ready(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        let ready = self.ready.clone();
        self.until(stop, || ready.load(Ordering::Acquire))
    }

    /// Waits until it has ended well, or `done`.
    fn until(&mut self, stop: &AtomicBool, done: impl Fn() -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP;
        while Instant::now() < deadline {
            if done() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return status
                    .success()
                    .then_some(())
                    .ok_or_else(|| format!("a process ended: {status}").into());
            }
            if stop.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("a process takes too long".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(5);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Some(printer) = self.printer.take() {
            let _ = printer.join();
        }
    }
}

/// Runs the demonstration.
pub fn run() -> Result<(), String> {
    play().map_err(|error| error.to_string())
}

fn play() -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let directory = tempfile::Builder::new().prefix("ringpost-bridge-demo-").tempdir()?;
    let socket = |node: &str| directory.path().join(node).display().to_string();
    let (a, b) = (socket("a"), socket("b"));
    // A port that is free now.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let endpoint = format!("tcp/127.0.0.1:{port}");

    println!("two nodes, a and b, each with a server and a bridge; the bridges meet at {endpoint}");
    let mut processes = Vec::new();
    for (title, arguments) in [
        ("server a", ["server", "a", &a, ""]),
        ("server b", ["server", "b", &b, ""]),
        ("bridge a", ["listen", "a", &a, &endpoint]),
        ("bridge b", ["connect", "b", &b, &endpoint]),
        ("bob", ["bob", "b", &b, ""]),
    ] {
        let mut process = Process::start(title, &arguments)?;
        if arguments[3].is_empty() {
            process.await_ready(&stop)?;
        }
        processes.insert(0, process); // the servers end last
    }
    let mut alice = Process::start("alice", &["alice", "a", &a, ""])?;
    alice.until(&stop, || false)?;
    drop(alice);
    drop(processes);
    println!("that was all; nothing is left of it");
    Ok(())
}

/// Plays one part, as a process of its own.
pub fn part(part: &Part) -> Result<(), String> {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = std::os::unix::process::parent_id().to_string();
    if std::env::var("RINGPOST_PARENT_PID").is_ok_and(|told| told != parent) {
        return Err("the demonstration has ended".into());
    }
    let played = match part.part.as_str() {
        "server" => server(&part.socket),
        "bob" => bob(&part.socket),
        "alice" => alice(&part.socket),
        how => return crate::bridge(settings(how, part)?),
    };
    played.map_err(|error| error.to_string())
}

fn settings(how: &str, part: &Part) -> Result<Settings, String> {
    let endpoints = |wanted: &str| if how == wanted { vec![part.endpoint.clone()] } else { Vec::new() };
    let other = if part.node == "a" { "b" } else { "a" };
    Settings::check(Options {
        node: Some(part.node.clone()),
        socket: Some(part.socket.clone()),
        listen: endpoints("listen"),
        connect: endpoints("connect"),
        allow: vec![other.into()],
        export: vec!["**".into()],
        import: vec!["**".into()],
        ..Options::default()
    })
}

fn server(socket: &Path) -> Result<(), Failure> {
    let server = Server::builder(socket).start()?;
    println!("ready");
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    signals.forever().next();
    server.shutdown();
    server.join();
    Ok(())
}

/// On the node b: answers calls, messages with messages, and publishes when it is asked to.
fn bob(socket: &Path) -> Result<(), Failure> {
    let mut bob = Client::register(socket, "bob")?;
    let _serves = bob.listen()?.serve(|request, response| {
        println!("{} calls: {}", request.peer().name, String::from_utf8_lossy(request.payload()));
        Ok(response.write(&request.payload().to_ascii_uppercase()[..])?)
    })?;
    let mut prices = bob.publish("prices/AAPL")?;
    println!("ready");
    loop {
        let message = bob.recv()?;
        println!("a message of {}: {}", message.sender_name(), String::from_utf8_lossy(message.payload()));
        match message.payload() {
            b"publish" => {
                while prices.subscribers() == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
                for price in ["181.20", "181.25", "181.30"] {
                    prices.send(price.as_bytes())?;
                }
            }
            b"leave" => return Ok(bob.unregister()?),
            _ => bob.send(message.sender_name(), b"I hear you")?,
        }
    }
}

/// On the node a: does all of it with `bob@b`.
fn alice(socket: &Path) -> Result<(), Failure> {
    let mut alice = Client::register(socket, "alice")?;
    let mut presence = alice.presence()?;
    loop {
        if let Change::Present(peer) | Change::Appeared(peer) = presence.recv_timeout(STEP)?
            && peer.name == "bob@b"
        {
            break;
        }
    }
    println!("bob@b is here");
    // This client appears there a moment later.
    let since = Instant::now();
    while let Err(error) = alice.send("bob@b", b"hello across") {
        if since.elapsed() > STEP {
            return Err(error.into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let answer = alice.recv_timeout(STEP)?;
    println!("a message of {}: {}", answer.sender_name(), String::from_utf8_lossy(answer.payload()));

    let mut link = alice.connect("bob@b")?;
    println!("a call of bob@b returned {}", String::from_utf8_lossy(&link.call(b"shout")?));
    drop(link);

    let mut prices = alice.subscribe("prices/*")?;
    alice.send("bob@b", b"publish")?;
    for _ in 0..3 {
        let sample = prices.recv_timeout(STEP)?;
        let price = String::from_utf8_lossy(sample.payload());
        println!("{} {price}, number {} of {}", sample.topic(), sample.sequence(), sample.publisher().name);
    }
    alice.send("bob@b", b"leave")?;
    loop {
        if let Change::Vanished { peer, .. } = presence.recv_timeout(STEP)?
            && peer.name == "bob@b"
        {
            println!("bob@b has left");
            return Ok(alice.unregister()?);
        }
    }
}
