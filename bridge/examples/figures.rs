//! What a bridge costs, on one computer, in one run:
//!
//! ```text
//! cargo build --profile figures && cargo run --profile figures --example figures
//! ```
//!
//! Calls over a bridge alternate with queries of bare Zenoh and with echoes over TCP, of the same size. Each
//! other end is a process of its own. With a number: how long so many remote clients take to appear, and what
//! they cost the server.
//!
//! Then samples over a bridge alternate with those of bare Zenoh: the publisher and the subscriber are
//! processes of their own, which live for one round. Zenoh's publisher puts each sample by itself and blocks
//! at a full queue; Zenoh batches them. A bridge holds no publisher up, so there are two figures. *In step*,
//! the subscriber publishes how far it has come, over the bridge, and the publisher is never more than
//! `WINDOW` samples ahead, which is less than a ring has room for: that is as fast as all of it together
//! follows, and next to nothing may be missed. *Not held up*, the publisher publishes without a pause, as
//! fast as it can, and most of what it publishes nobody could carry.
//!
//! Last, calls of two clients of one node, with nothing beside, beside these samples in step, and beside
//! those of bare Zenoh. All share the CPUs, so the last two are to be held against each other.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpost::{Client, SampleError, Server};
use zenoh::Wait;
use zenoh::qos::CongestionControl;

type Failure = Box<dyn Error + Send + Sync>;

const LONG: Duration = Duration::from_secs(30);
/// Bytes of a call and of a sample.
const SIZE: usize = 48;
const ROUNDS: usize = 30;
const CALLS: usize = 50;
/// How far a publisher in step may be ahead.
const WINDOW: u64 = 3072;
/// How long one load is measured, and how long it runs before.
const MEASURED: Duration = Duration::from_millis(600);
const BEFORE: Duration = Duration::from_millis(300);

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &Path, arguments: &[&str]) -> Result<Process, Failure> {
    Ok(Process(Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?))
}

fn free() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["tcp", port] => tcp(port),
        ["query", endpoint] => query(endpoint),
        ["bare-publisher", endpoint] => bare_publisher(endpoint),
        ["bare-subscriber", endpoint] => bare_subscriber(endpoint),
        ["publisher", socket, how] => publisher(socket, how == "in step"),
        ["subscriber", socket] => subscriber(socket),
        ["bob", socket] => bob(socket, "bob"),
        ["neighbour", socket] => bob(socket, "neighbour"),
        ["samples"] => {
            let nodes = nodes(64)?;
            samples(&nodes)?;
            neighbours(&nodes)
        }
        ["server", socket, most] => {
            let server = Server::builder(socket).max_clients(most.parse()?).start()?;
            server.join();
            Ok(())
        }
        [count] => many(count.parse()?),
        _ => figures(),
    }
}

fn session(side: &str, endpoint: &str) -> Result<zenoh::Session, Failure> {
    let mut config = zenoh::Config::default();
    config.insert_json5("listen/endpoints", "[]")?;
    config.insert_json5(&format!("{side}/endpoints"), &format!("[{endpoint:?}]"))?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    config.insert_json5("scouting/gossip/enabled", "false")?;
    zenoh::open(config).wait()
}

fn tcp(port: &str) -> Result<(), Failure> {
    let (mut stream, _) = TcpListener::bind(format!("127.0.0.1:{port}"))?.accept()?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; SIZE];
    loop {
        stream.read_exact(&mut buffer)?;
        stream.write_all(&buffer)?;
    }
}

fn query(endpoint: &str) -> Result<(), Failure> {
    let session = session("listen", endpoint)?;
    let queryable = session.declare_queryable("echo").wait()?;
    while let Ok(query) = queryable.recv() {
        let payload = query.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
        query.reply("echo", payload).wait()?;
    }
    Ok(())
}

fn bare_publisher(endpoint: &str) -> Result<(), Failure> {
    let session = session("listen", endpoint)?;
    let publisher =
        session.declare_publisher("samples").congestion_control(CongestionControl::Block).wait()?;
    while !publisher.matching_status().wait()?.matching() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for number in 0_u64.. {
        let mut sample = [0; SIZE];
        sample[..8].copy_from_slice(&number.to_le_bytes());
        publisher.put(&sample[..]).wait()?;
    }
    Ok(())
}

/// What a subscriber has taken and missed so far, and tells whenever it is asked.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static MISSED: AtomicU64 = AtomicU64::new(0);

fn tells_counts() -> Result<(), Failure> {
    for _ in std::io::stdin().lines() {
        println!("{} {}", TAKEN.load(Ordering::Relaxed), MISSED.load(Ordering::Relaxed));
    }
    Ok(())
}

fn bare_subscriber(endpoint: &str) -> Result<(), Failure> {
    let session = session("connect", endpoint)?;
    let heard = |_| _ = TAKEN.fetch_add(1, Ordering::Relaxed);
    let _subscriber = session.declare_subscriber("samples").callback(heard).wait()?;
    tells_counts()
}

fn publisher(socket: &str, in_step: bool) -> Result<(), Failure> {
    let mut client = Client::register(socket, "publisher")?;
    client.wait_for("subscriber@a", LONG)?;
    let mut taken = client.subscribe("taken")?;
    let mut samples = client.publish("samples")?;
    let mut ahead_of = 0;
    for number in 1_u64.. {
        let mut sample = [0; SIZE];
        sample[..8].copy_from_slice(&number.to_le_bytes());
        samples.send(&sample[..])?;
        while in_step && number >= ahead_of + WINDOW {
            match taken.recv_timeout(Duration::from_millis(50)) {
                Ok(sample) => ahead_of = u64::from_le_bytes(sample.payload().try_into()?),
                // The last samples got lost, so the subscriber has nothing to say.
                Err(SampleError::TimedOut) => ahead_of = number,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn subscriber(socket: &str) -> Result<(), Failure> {
    let mut client = Client::register(socket, "subscriber")?;
    let mut samples = client.subscribe("samples")?;
    let mut taken = client.publish("taken")?;
    std::thread::spawn(move || {
        let mut told = 0;
        loop {
            let sample = samples.recv()?;
            TAKEN.fetch_add(1, Ordering::Relaxed);
            MISSED.fetch_add(sample.missed(), Ordering::Relaxed);
            if sample.sequence() >= told + WINDOW / 4 {
                told = sample.sequence();
                taken.send(&told.to_le_bytes())?;
            }
        }
        #[allow(unreachable_code)]
        Ok::<(), Failure>(())
    });
    tells_counts()
}

fn bob(socket: &str, name: &str) -> Result<(), Failure> {
    let mut bob = Client::register(socket, name)?;
    let serves = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
    while bob.recv().is_ok() {}
    drop(serves);
    Ok(())
}

/// Two nodes: their sockets, servers and bridges.
struct Nodes {
    _processes: Vec<Process>,
    sockets: [PathBuf; 2],
    servers: [u32; 2],
    _directory: tempfile::TempDir,
}

fn nodes(most: usize) -> Result<Nodes, Failure> {
    let directory = tempfile::tempdir()?;
    let sockets = ["a", "b"].map(|node| directory.path().join(node));
    let this = std::env::current_exe()?;
    let bridge = this.parent().and_then(Path::parent).ok_or("no directory")?.join("ringpost-bridge");
    let endpoint = format!("tcp/127.0.0.1:{}", free()?);
    let (mut processes, mut servers, most) = (Vec::new(), Vec::new(), most.to_string());
    for socket in &sockets {
        let server = start(&this, &["server", socket.to_str().ok_or("path")?, &most])?;
        servers.push(server.0.id());
        processes.push(server);
        while !socket.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for (node, other, side, socket) in
        [("a", "b", "--listen", &sockets[0]), ("b", "a", "--connect", &sockets[1])]
    {
        let socket = socket.to_str().ok_or("path")?;
        let allow = ["--allow", other, "--export", "**", "--import", "**", "--max-clients", &most];
        let arguments = [&["--node", node, "--socket", socket, side, &endpoint], &allow[..]].concat();
        processes.insert(0, start(&bridge, &arguments)?);
    }
    Ok(Nodes { _processes: processes, sockets, servers: [servers[0], servers[1]], _directory: directory })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn figures() -> Result<(), Failure> {
    let this = std::env::current_exe()?;
    let port = free()?;
    let _tcp = start(&this, &["tcp", &port.to_string()])?;
    let endpoint = format!("tcp/127.0.0.1:{}", free()?);
    let _query = start(&this, &["query", &endpoint])?;
    let nodes = nodes(64)?;
    let _bob = start(&this, &["bob", nodes.sockets[1].to_str().ok_or("path")?])?;

    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    stream.set_nodelay(true)?;
    let bare = session("connect", &endpoint)?;
    let mut alice = Client::register(&nodes.sockets[0], "alice")?;
    alice.wait_for("bob@b", LONG)?;
    let since = Instant::now();
    let mut link = loop {
        match alice.connect("bob@b") {
            Ok(link) => break link,
            Err(error) if since.elapsed() > LONG => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let payload = [7; SIZE];
    let ask = || -> Result<bool, Failure> {
        let replies = bare.get("echo").payload(&payload[..]).wait()?;
        Ok(replies.recv().is_ok_and(|reply| reply.result().is_ok()))
    };
    while !ask()? {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut tcp, mut query, mut bridged) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + 2 {
        for _ in 0..CALLS {
            let times = [
                timed(|| {
                    stream.write_all(&payload)?;
                    Ok(stream.read_exact(&mut [0; SIZE])?)
                })?,
                timed(|| ask()?.then_some(()).ok_or_else(|| "no reply".into()))?,
                timed(|| {
                    link.call(&payload[..])?;
                    Ok(())
                })?,
            ];
            if round >= 2 {
                tcp.push(times[0]);
                query.push(times[1]);
                bridged.push(times[2]);
            }
        }
    }
    let (tcp, query, bridged) = (median(tcp), median(query), median(bridged));
    println!(
        "call of {SIZE} bytes, median: TCP echo {tcp:?}, bare query {query:?}, over the bridge {bridged:?}"
    );
    println!("bridge to query: {:.2}", bridged.as_secs_f64() / query.as_secs_f64());
    println!("bridge to TCP echo: {:.2}", bridged.as_secs_f64() / tcp.as_secs_f64());

    samples(&nodes)?;
    neighbours(&nodes)
}

/// A publisher, and a subscriber that takes what it publishes.
struct Load {
    processes: [Process; 2],
    ask: ChildStdin,
    counts: BufReader<ChildStdout>,
}

#[derive(Clone, Copy)]
enum How {
    Bare,
    InStep,
    NotHeldUp,
}

impl Load {
    /// Starts it, and lets it run for a while.
    fn start(nodes: &Nodes, how: How) -> Result<Load, Failure> {
        let this = std::env::current_exe()?;
        let endpoint = format!("tcp/127.0.0.1:{}", free()?);
        let [a, b] = nodes.sockets.each_ref().map(|socket| socket.to_str().unwrap_or_default());
        let (publisher, subscriber) = match how {
            How::Bare => (vec!["bare-publisher", &endpoint], vec!["bare-subscriber", &endpoint]),
            How::InStep => (vec!["publisher", b, "in step"], vec!["subscriber", a]),
            How::NotHeldUp => (vec!["publisher", b, "not held up"], vec!["subscriber", a]),
        };
        let mut command = Command::new(&this);
        command.args(subscriber).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let publisher = start(&this, &publisher)?;
        let mut subscriber = Process(command.spawn()?);
        let ask = subscriber.0.stdin.take().ok_or("no pipe")?;
        let counts = BufReader::new(subscriber.0.stdout.take().ok_or("no pipe")?);
        let mut load = Load { processes: [publisher, subscriber], ask, counts };
        let since = Instant::now();
        while load.counts()?.0 == 0 {
            if since.elapsed() > LONG {
                return Err("no samples".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(BEFORE);
        Ok(load)
    }

    /// What was taken and missed so far.
    fn counts(&mut self) -> Result<(u64, u64), Failure> {
        self.ask.write_all(b"\n")?;
        let mut line = String::new();
        self.counts.read_line(&mut line)?;
        let (taken, missed) = line.trim_end().split_once(' ').ok_or("no counts")?;
        Ok((taken.parse()?, missed.parse()?))
    }

    /// What is taken in a second, the share of what is missed, and how many CPUs it takes, while this runs.
    fn during(
        &mut self,
        others: &[u32],
        run: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<[f64; 3], Failure> {
        let own = self.processes.each_ref().map(|process| process.0.id());
        let all = [others, &own].concat();
        let cpu = || all.iter().map(|pid| cpu(*pid)).sum::<Result<f64, Failure>>();
        let (since, before, used) = (Instant::now(), self.counts()?, cpu()?);
        run()?;
        let (after, seconds, used) = (self.counts()?, since.elapsed().as_secs_f64(), cpu()? - used);
        let (taken, missed) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
        Ok([taken / seconds, missed / (taken + missed), used / seconds])
    }
}

/// Seconds of CPU that a process has used.
fn cpu(pid: u32) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn samples(nodes: &Nodes) -> Result<(), Failure> {
    let nodes_pids: Vec<u32> = nodes._processes.iter().map(|process| process.0.id()).collect();
    let loads = [How::Bare, How::InStep, How::NotHeldUp];
    let mut all = loads.map(|_| [const { Vec::new() }; 3]);
    for _ in 0..5 {
        for (load, all) in loads.iter().zip(&mut all) {
            let others = if matches!(load, How::Bare) { &[] } else { &nodes_pids[..] };
            let measured = Load::start(nodes, *load)?.during(others, || {
                std::thread::sleep(MEASURED);
                Ok(())
            })?;
            all.iter_mut().zip(measured).for_each(|(all, one)| all.push(one));
        }
    }
    let [bare, in_step, flood] = all.map(|load| load.map(middle));
    println!("samples of {SIZE} bytes that are taken in a second, medians:");
    println!("bare: {:.0} ({:.1} CPUs)", bare[0], bare[2]);
    for (how, one) in [("in step", in_step), ("not held up", flood)] {
        let [rate, missed, cpus] = one;
        println!(
            "over the bridge, {how}: {rate:.0}, {:.2} of bare ({:.2} % missed, {cpus:.1} CPUs)",
            rate / bare[0],
            100.0 * missed
        );
    }
    Ok(())
}

/// Calls between two clients of node a.
fn neighbours(nodes: &Nodes) -> Result<(), Failure> {
    let socket = nodes.sockets[0].to_str().ok_or("path")?;
    let _serves = start(&std::env::current_exe()?, &["neighbour", socket])?;
    let mut client = Client::register(socket, "caller")?;
    client.wait_for("neighbour", LONG)?;
    let mut link = loop {
        match client.connect("neighbour") {
            Ok(link) => break link,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut calls = || -> Result<Vec<f64>, Failure> {
        let (mut times, since) = (Vec::new(), Instant::now());
        while since.elapsed() < MEASURED {
            let taken = timed(|| link.call(&[7; SIZE][..]).map(|_| ()).map_err(Into::into))?;
            times.push(taken.as_secs_f64() * 1e6);
            // Callers that never sleep would be a load of their own.
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(times)
    };
    let (mut alone, mut bare, mut bridge) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        alone.extend(calls()?);
        let _load = Load::start(nodes, How::Bare)?;
        bare.extend(calls()?);
        drop(_load);
        let _load = Load::start(nodes, How::InStep)?;
        bridge.extend(calls()?);
    }
    let at = |times: &mut Vec<f64>, part: f64| {
        times.sort_by(f64::total_cmp);
        times[(times.len() as f64 * part) as usize]
    };
    for (name, part) in [("median", 0.5), ("99 of 100 within", 0.99)] {
        let [alone, bare, bridge] = [&mut alone, &mut bare, &mut bridge].map(|times| at(times, part));
        println!(
            "call of a neighbour, {name}: {alone:.1} µs alone, {bare:.1} µs beside bare Zenoh, {bridge:.1} µs beside the bridge ({:.2} of bare)",
            bridge / bare
        );
    }
    Ok(())
}

fn timed(run: impl FnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let since = Instant::now();
    run()?;
    Ok(since.elapsed())
}

/// Many clients of node b on node a.
fn many(count: usize) -> Result<(), Failure> {
    let nodes = nodes(count + 64)?;
    let before = usage(nodes.servers[0])?;
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(Client::register(&nodes.sockets[1], format!("client-{number}"))?);
    }
    let since = Instant::now();
    let mut alice = Client::register(&nodes.sockets[0], "alice")?;
    for number in 0..count {
        alice.wait_for(&format!("client-{number}@b"), LONG)?;
    }
    println!("{count} remote clients were there {:?} after the last had registered", since.elapsed());
    let after = usage(nodes.servers[0])?;
    println!(
        "the server: {} KiB and {} threads before, {} KiB and {} after",
        before.0, before.1, after.0, after.1
    );
    let since = Instant::now();
    drop(clients);
    let mut presence = alice.presence()?;
    let mut left = alice.list()?.iter().filter(|client| client.name.as_str().ends_with("@b")).count();
    while left > 2 && since.elapsed() < LONG {
        let _ = presence.recv_timeout(Duration::from_millis(200));
        left = alice.list()?.iter().filter(|client| client.name.as_str().ends_with("@b")).count();
    }
    println!("they were gone after {:?}", since.elapsed());
    Ok(())
}

/// Resident memory in KiB, and threads.
fn usage(pid: u32) -> Result<(u64, u64), Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok((field("VmRSS:"), field("Threads:")))
}
