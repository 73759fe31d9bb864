//! Nodes for the tests: a server in this process, and bridges as processes of their own.

#![allow(dead_code)] // each test file uses a part of it

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Change, Client, Key, Presence, Server};
use serde_json::json;
use tempfile::TempDir;
use zenoh::liveliness::LivelinessToken;

/// Nothing takes so long.
pub const LONG: Duration = Duration::from_secs(30);

/// An endpoint of this computer that is free now.
pub fn endpoint(protocol: &str) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("{protocol}/127.0.0.1:{port}")
}

/// A server of one node.
pub struct Bus {
    pub directory: TempDir,
    ring_size: usize,
    pub server: Option<Server>,
}

impl Bus {
    pub fn start() -> Bus {
        Bus::with_rings(1 << 16)
    }

    pub fn with_rings(ring_size: usize) -> Bus {
        let mut bus = Bus { directory: tempfile::tempdir().unwrap(), ring_size, server: None };
        bus.serve();
        bus
    }

    pub fn serve(&mut self) {
        self.server = Some(Server::builder(self.path()).ring_size(self.ring_size).start().unwrap());
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("bus.sock")
    }

    pub fn client(&self, name: &str) -> Client {
        Client::register(self.path(), name).unwrap()
    }
}

/// A bridge, as a process.
pub struct Bridge {
    node: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Bridge {
    pub fn start(node: &str, socket: &Path, arguments: &[&str]) -> Bridge {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost-bridge"));
        command.args(["--node", node, "--socket"]).arg(socket).args(arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stderr.take().unwrap());
        let began = Instant::now();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(format!("{:7.3} {line}", began.elapsed().as_secs_f64()));
            }
        });
        Bridge { node: node.into(), child, lines, seen: Vec::new() }
    }

    /// Waits for a line of the log that has this text, from where the last wait ended.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        let deadline = Instant::now() + LONG;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line);
                    if self.seen[self.seen.len() - 1].contains(text) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("the bridge {} did not say {text:?}", self.node)
                }
            }
        }
    }

    /// How many lines it has written so far.
    pub fn lines(&mut self) -> usize {
        self.seen.extend(self.lines.try_iter());
        self.seen.len()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the bridge goes on");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.seen.extend(self.lines.iter());
            eprintln!("the bridge {} said:\n{}", self.node, self.seen.join("\n"));
        }
    }
}

/// Two nodes whose bridges know each other.
pub struct Pair {
    pub a: Bus,
    pub b: Bus,
    pub bridge_a: Bridge,
    pub bridge_b: Bridge,
    pub endpoint: String,
}

impl Pair {
    /// Both export and import these patterns; imports have the other node's name before them.
    pub fn start(export: &[&str]) -> Pair {
        Pair::of(Bus::start(), Bus::start(), export, &[])
    }

    /// With these servers, and more options for the bridge of a.
    pub fn of(a: Bus, b: Bus, export: &[&str], options: &[&str]) -> Pair {
        let endpoint = endpoint("tcp");
        let mut bridge_a = bridge("a", "b", &a, &[&["--listen", &endpoint], options].concat(), export);
        bridge_a.says("joined the server");
        let mut bridge_b = bridge("b", "a", &b, &["--connect", &endpoint], export);
        bridge_b.says("knows this node as b");
        bridge_a.says("knows this node as a");
        Pair { a, b, bridge_a, bridge_b, endpoint }
    }

    /// Two clients that know each other: alice on a and bob on b.
    pub fn clients(&self) -> (Client, Client) {
        let (mut alice, mut bob) = (self.a.client("alice"), self.b.client("bob"));
        alice.wait_for("bob@b", LONG).unwrap();
        bob.wait_for("alice@a", LONG).unwrap();
        (alice, bob)
    }
}

pub fn bridge(node: &str, other: &str, bus: &Bus, network: &[&str], export: &[&str]) -> Bridge {
    let mut arguments = network.to_vec();
    arguments.extend(["--allow", other, "--import", "**"]);
    arguments.extend(export.iter().flat_map(|pattern| ["--export", pattern]));
    Bridge::start(node, &bus.path(), &arguments)
}

/// Watches who is there, from when this client is.
pub fn watch(client: &mut Client, name: &str) -> Presence {
    let mut presence = client.presence().unwrap();
    loop {
        if let Change::Present(peer) | Change::Appeared(peer) = presence.recv_timeout(LONG).unwrap()
            && peer.name == name
        {
            return presence;
        }
    }
}

/// Waits until it vanishes.
pub fn vanishes(presence: &mut Presence, name: &str) {
    loop {
        if let Change::Vanished { peer, .. } = presence.recv_timeout(LONG).unwrap()
            && peer.name == name
        {
            return;
        }
    }
}

/// A program that speaks Zenoh and keeps to no rule of ours.
pub struct Poser {
    runtime: tokio::runtime::Runtime,
    session: zenoh::Session,
    tokens: RefCell<HashMap<String, LivelinessToken>>,
}

/// The number of its bridge's run, wherever it says that it is a node: older than any true one.
const INSTANCE: u64 = 1;

impl Poser {
    /// Connects to a bridge, with these settings of Zenoh for TLS. Returns before it is connected.
    pub fn connect(endpoint: &str, tls: serde_json::Value) -> Poser {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut config = zenoh::Config::default();
        let mut set =
            |key: &str, value: serde_json::Value| config.insert_json5(key, &value.to_string()).unwrap();
        set("mode", json!("peer"));
        set("listen/endpoints", json!([]));
        set("connect/endpoints", json!([endpoint]));
        set("connect/timeout_ms", json!(-1));
        set("connect/exit_on_failure", json!(false));
        set("scouting/multicast/enabled", json!(false));
        set("transport/link/tls", tls);
        let session = runtime.block_on(async { zenoh::open(config).await }).unwrap();
        Poser { runtime, session, tokens: RefCell::default() }
    }

    pub fn is_connected(&self) -> bool {
        self.runtime.block_on(async { self.session.info().peers_zid().await.next().is_some() })
    }

    /// Waits until the bridge has taken it, as whomever.
    #[track_caller]
    pub fn connects(&self) {
        let deadline = Instant::now() + LONG;
        while !self.is_connected() {
            assert!(Instant::now() < deadline, "the bridge does not take it");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Says that it is a node.
    pub fn claims(&self, node: &str) {
        self.says(node, "node");
    }

    /// Says that a client of a node is there, under this key.
    pub fn shows(&self, node: &str, client: &str, key: u128) {
        self.says(node, &client_token(client, key));
    }

    pub fn hides(&self, node: &str, client: &str, key: u128) {
        self.takes_back(node, &client_token(client, key));
    }

    /// Takes its claim back.
    pub fn leaves(&self, node: &str) {
        self.takes_back(node, "node");
    }

    fn takes_back(&self, node: &str, what: &str) {
        let token = self.tokens.borrow_mut().remove(&key_of(node, what)).unwrap();
        self.runtime.block_on(async { token.undeclare().await }).unwrap();
    }

    fn says(&self, node: &str, what: &str) {
        let key = key_of(node, what);
        let token = self.runtime.block_on(async { self.session.liveliness().declare_token(&key).await });
        self.tokens.borrow_mut().insert(key, token.unwrap());
    }

    /// Publishes a sample as a client of a node.
    pub fn publishes(&self, node: &str, client: &str, topic: &str, number: u64) {
        let key = key_of(node, &format!("topic/{client}/{topic}"));
        let sample = [&number.to_le_bytes()[..], &[node.len() as u8], node.as_bytes()].concat();
        self.runtime.block_on(async { self.session.put(key, sample).await }).unwrap();
    }

    /// Asks a node, as the bridge of another. The answer's outcome, if there is an answer.
    pub fn asks(&self, to: &str, from: &str, verb: &str, question: &[u8]) -> Option<u8> {
        let question = [&INSTANCE.to_le_bytes()[..], question].concat();
        self.runtime.block_on(async {
            let get = self.session.get(format!("ringpost/1/{to}/from/{from}/{verb}")).payload(question);
            let replies = get.timeout(Duration::from_secs(2)).await.unwrap();
            let reply = replies.recv_async().await.ok()?;
            reply.result().ok()?.payload().to_bytes().last().copied()
        })
    }

    /// Takes questions for a node, and drops them. Returns how many.
    pub fn offers_to_answer_for(&self, node: &str) -> Arc<AtomicUsize> {
        let heard = Arc::new(AtomicUsize::new(0));
        let counted = heard.clone();
        self.runtime.block_on(async {
            let queryable = self.session.declare_queryable(format!("ringpost/1/{node}/**")).complete(true);
            let count = move |_| _ = counted.fetch_add(1, Ordering::Relaxed);
            queryable.callback(count).background().await.unwrap();
        });
        heard
    }

    /// Waits until a node has answered it, and so has heard all that it said before.
    pub fn is_heard(&self, to: &str, from: &str) {
        while self.asks(to, from, "claim", b"").is_none() {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Hears what is said to these keys, from the time at which a node knows.
    pub fn listens(&self, to: &str, from: &str, keys: &[&'static str]) -> Receiver<String> {
        let (sender, heard) = channel();
        for &key in keys {
            let sender = sender.clone();
            let hears = move |_| _ = sender.send(key.to_owned());
            self.runtime.block_on(async {
                self.session.declare_subscriber(key).callback(hears).background().await.unwrap();
            });
        }
        self.is_heard(to, from);
        heard
    }

    pub fn puts(&self, key: &str, bytes: &[u8]) {
        let put = self.session.put(key, bytes).congestion_control(zenoh::qos::CongestionControl::Block);
        let put = put.allowed_destination(zenoh::sample::Locality::Remote);
        self.runtime.block_on(async { put.await.unwrap() });
    }

    /// Asks what stays open, and returns at the first answer what waits until there is none any more.
    pub fn keeps_asking(&self, key: &str, bytes: Vec<u8>) -> impl FnOnce() {
        let next = |replies: &zenoh::handlers::FifoChannelHandler<zenoh::query::Reply>| {
            let next = async { tokio::time::timeout(LONG, replies.recv_async()).await };
            self.runtime.block_on(next).expect("an answer, or the end")
        };
        let get = self.session.get(key).payload(bytes).timeout(2 * LONG);
        let get = get.consolidation(zenoh::query::ConsolidationMode::None);
        let replies = self.runtime.block_on(async { get.await.unwrap() });
        let first = next(&replies).unwrap();
        assert_eq!(&*first.result().unwrap().payload().to_bytes(), [0], "it was not opened");
        move || assert!(next(&replies).is_err(), "there was another answer")
    }

    /// Which run of a node's bridge it is told of.
    pub fn instance_of(&self, node: &str) -> u64 {
        let key = self.runtime.block_on(async {
            let replies = self.session.liveliness().get(format!("ringpost/1/{node}/*/node")).await.unwrap();
            replies.recv_async().await.unwrap().result().unwrap().key_expr().to_string()
        });
        u64::from_str_radix(key.split('/').nth(3).unwrap(), 16).unwrap()
    }

    /// How many of a node's tokens it is told.
    pub fn hears_of(&self, node: &str) -> usize {
        self.runtime.block_on(async {
            let get = self.session.liveliness().get(format!("ringpost/1/{node}/**"));
            let replies = get.timeout(Duration::from_secs(2)).await.unwrap();
            let mut heard = 0;
            while let Ok(reply) = replies.recv_async().await {
                heard += usize::from(reply.result().is_ok());
            }
            heard
        })
    }
}

fn client_token(client: &str, key: u128) -> String {
    format!("client/*/{client}/{}", Key::from_bytes(key.to_le_bytes()))
}

fn key_of(node: &str, what: &str) -> String {
    format!("ringpost/1/{node}/{INSTANCE:016x}/{what}")
}
