//! What a bridge costs, on one computer, in one run:
//!
//! ```text
//! cargo build --profile figures && cargo run --profile figures --example figures
//! ```
//!
//! Calls over a bridge alternate with queries of bare Zenoh and with echoes over TCP, of the same size; then
//! samples over a bridge with those of bare Zenoh. Each other end is a process of its own. With a number: how
//! long so many remote clients take to appear, and what they cost the server.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringpost::{Client, Server};
use zenoh::Wait;
use zenoh::qos::CongestionControl;

type Failure = Box<dyn Error + Send + Sync>;

const LONG: Duration = Duration::from_secs(30);
/// Bytes of a call and of a sample.
const SIZE: usize = 48;
const ROUNDS: usize = 30;
const CALLS: usize = 50;
const SAMPLES: u64 = 200_000;

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
        ["samples", endpoint] => bare_samples(endpoint),
        ["bob", socket] => bob(socket),
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

fn bare_samples(endpoint: &str) -> Result<(), Failure> {
    let session = session("listen", endpoint)?;
    let publisher =
        session.declare_publisher("samples").congestion_control(CongestionControl::Block).wait()?;
    while !publisher.matching_status().wait()?.matching() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for number in 0..SAMPLES {
        let mut sample = [0; SIZE];
        sample[..8].copy_from_slice(&number.to_le_bytes());
        publisher.put(&sample[..]).wait()?;
    }
    std::thread::sleep(LONG);
    Ok(())
}

fn bob(socket: &str) -> Result<(), Failure> {
    let mut bob = Client::register(socket, "bob")?;
    let serves = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
    let mut samples = bob.publish("samples")?;
    while bob.recv()?.payload() != b"publish" {}
    for number in 0..SAMPLES {
        let mut sample = [0; SIZE];
        sample[..8].copy_from_slice(&number.to_le_bytes());
        samples.send(&sample[..])?;
        // In batches, as fast as the bridge may follow.
        if number % 64 == 63 {
            std::thread::sleep(Duration::from_micros(1));
        }
    }
    std::thread::sleep(LONG);
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

    // Samples.
    let bare_endpoint = format!("tcp/127.0.0.1:{}", free()?);
    let _samples = start(&this, &["samples", &bare_endpoint])?;
    let subscribing = session("connect", &bare_endpoint)?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let heard = move |_| _ = sender.send(Instant::now());
    let _subscriber = subscribing.declare_subscriber("samples").callback(heard).wait()?;
    let first = receiver.recv_timeout(LONG)?;
    let (mut last, mut taken) = (first, 1);
    while taken < SAMPLES {
        match receiver.recv_timeout(Duration::from_secs(2)) {
            Ok(time) => (last, taken) = (time, taken + 1),
            Err(_) => break,
        }
    }
    let bare = taken as f64 / (last - first).as_secs_f64();
    let mut samples = alice.subscribe("samples")?;
    alice.send("bob@b", b"publish")?;
    let mut first = None;
    let (mut last, mut taken, mut missed) = (Instant::now(), 0_u64, 0);
    while taken + missed < SAMPLES {
        match samples.recv_timeout(Duration::from_secs(2)) {
            Ok(sample) => {
                last = Instant::now();
                first.get_or_insert(last);
                (taken, missed) = (taken + 1, missed + sample.missed());
            }
            Err(_) => break,
        }
    }
    let bridged = taken as f64 / (last - first.ok_or("no sample")?).as_secs_f64();
    println!("samples of {SIZE} bytes: bare {bare:.0}/s, over the bridge {bridged:.0}/s ({missed} missed)");
    println!("bridge to bare: {:.2}", bridged / bare);
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
