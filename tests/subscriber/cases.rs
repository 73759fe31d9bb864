//! The cases: what the subscriber does, and what must hold for the server's clients.

use crate::common::raw;
use crate::common::role::say;
use crate::common::{Bus, Gate, Place, eventually, within_limit};
use crate::kinds::{Log, does};
use ringpost::{Client, CloseReason, RecvError, Server, Stopper};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use tracing::Level;

static LOG: Log = Log::new();

/// Longer than the server waits for a subscriber at its end, but short enough to detect hanging.
const PROMPT: Duration = Duration::from_secs(20);

/// Sends an invalid datagram, which the server logs.
fn junk(path: &Path) {
    let socket = raw::dial(path);
    raw::say(&socket, b"junk");
    raw::hear(&socket);
}

/// Lets clients register, call, send, receive, die and leave, and sends invalid datagrams.
fn traffic(path: &Path) {
    let mut alice = Client::register(path, "alice").unwrap();
    let mut bob = Client::register(path, "bob").unwrap();
    for _ in 0..3 {
        junk(path);
        assert_eq!(alice.call(b"x").unwrap(), b"x");
        alice.send(bob.key(), b"y").unwrap();
        assert_eq!(bob.recv().unwrap().payload(), b"y");
    }
    assert!(Client::register(path, "alice").is_err(), "the name is taken");
    alice.unregister().unwrap();
    let alice = Client::register(path, "alice").unwrap();
    drop((alice, bob));
    Client::register(path, "bob").unwrap();
}

fn set(subscriber: impl tracing::Subscriber + Send + Sync) {
    tracing::subscriber::set_global_default(subscriber).unwrap();
}

/// Shuts down, and checks that this did not wait long for the subscriber.
fn end(bus: Bus) {
    let began = Instant::now();
    let summary = bus.server.join_after_shutdown();
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    assert_eq!((summary.failed, summary.abandoned), (false, 0));
    assert!(summary.registered >= 4 && summary.refused >= 4, "{summary:?}");
    assert!(bus.place.is_clean());
}

pub fn panics() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again, when what it panicked with is dropped");
        }
    }
    set(does(Level::TRACE, |_| {
        if PANICS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            panic!("a subscriber that panics");
        }
        std::panic::panic_any(Bomb);
    }));
    let bus = Bus::start();
    traffic(bus.path());
    eventually("the subscriber panicked again and again", || PANICS.load(Ordering::Relaxed) > 8);
    end(bus);
    say("done");
}

pub fn is_stuck() {
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    set(does(Level::TRACE, |_| {
        GATE.pass();
    }));
    let bus = Bus::start();
    junk(bus.path());
    GATE.wait_for(1);
    traffic(bus.path());
    let mut carol = bus.client("carol");
    let path = bus.path().to_owned();
    let began = Instant::now();
    bus.server.shutdown();
    assert_eq!(carol.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    eventually("the path is free", || !path.exists());
    assert!(began.elapsed() < PROMPT);
    end(bus);
    GATE.open();
    say("done");
}

pub fn registers() {
    static PLACE: LazyLock<Place> = LazyLock::new(Place::new);
    static GOT: Mutex<Option<Client>> = Mutex::new(None);
    set(does(Level::TRACE, |seen| {
        if seen["event"] == "refused" && GOT.lock().unwrap().is_none() {
            let mut client = Client::register(&PLACE.path, "log").unwrap();
            assert_eq!(client.call(b"from the log").unwrap(), b"from the log");
            *GOT.lock().unwrap() = Some(client);
        }
        LOG.push(seen);
    }));
    let server = Server::builder(&PLACE.path).start().unwrap();
    traffic(&PLACE.path);
    eventually("the log has registered", || GOT.lock().unwrap().is_some());
    let mut alice = Client::register(&PLACE.path, "alice").unwrap();
    let to = GOT.lock().unwrap().as_ref().unwrap().key();
    alice.send(to, b"hello").unwrap();
    assert_eq!(GOT.lock().unwrap().as_mut().unwrap().recv().unwrap().payload(), b"hello");
    let summary = within_limit("the end", move || server.join_after_shutdown());
    assert!(!summary.failed);
    assert!(LOG.of("register").iter().any(|seen| seen["name"] == "log"));
    say("done");
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// The subscriber does something with the server at its first event; then the server ends.
fn with_the_server(act: fn(Server)) {
    static DONE: AtomicBool = AtomicBool::new(false);
    set(does(Level::WARN, move |_| {
        let server = SERVER.lock().unwrap().take();
        if let Some(server) = server {
            let began = Instant::now();
            act(server);
            assert!(began.elapsed() < PROMPT);
            DONE.store(true, Ordering::Relaxed);
        }
    }));
    let place = Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let mut alice = Client::register(&place.path, "alice").unwrap();
    *SERVER.lock().unwrap() = Some(server);
    junk(&place.path);
    assert_eq!(alice.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    eventually("the subscriber is done with it", || DONE.load(Ordering::Relaxed));
    assert!(place.is_clean());
    say("done");
}

pub fn drops_the_server() {
    with_the_server(drop);
}

pub fn joins_the_server() {
    with_the_server(|server| {
        let summary = server.join_after_shutdown();
        assert_eq!((summary.registered, summary.failed), (1, false));
    });
}

pub fn stops_the_server() {
    static STOPPER: Mutex<Option<Stopper>> = Mutex::new(None);
    set(does(Level::TRACE, |seen| {
        if seen["event"] == "refused"
            && let Some(stopper) = STOPPER.lock().unwrap().take()
        {
            stopper.shutdown();
        }
        LOG.push(seen);
    }));
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    *STOPPER.lock().unwrap() = Some(bus.server.stopper());
    junk(bus.path());
    assert_eq!(alice.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    within_limit("the end", move || bus.server.join());
    assert_eq!((LOG.of("register").len(), LOG.of("refused").len()), (1, 1));
    say("done");
}

pub fn comes_late() {
    let bus = Bus::start();
    set(does(Level::TRACE, |seen| LOG.push(seen)));
    traffic(bus.path());
    end(bus);
    // The join returned after the last event.
    let all = LOG.all();
    let count = |event| LOG.of(event).len();
    assert_eq!((count("register"), count("unregister"), count("refused")), (4, 4, 4), "{all:?}");
    assert_eq!(count("message"), 3, "{all:?}");
    assert!(all.iter().all(|seen| seen["thread"] == "rp-events"), "{all:?}");
    for taken in LOG.of("refused").iter().filter(|seen| seen["reason"] == "NameTaken") {
        assert_eq!((&taken["name"][..], &taken["pid"]), ("alice", &std::process::id().to_string()));
    }
    say("done");
}

pub fn is_slow() {
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    /// More than fit into the queue of events.
    const MESSAGES: u64 = 20_000;
    set(does(Level::DEBUG, |seen| {
        GATE.pass();
        LOG.push(seen);
    }));
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    GATE.wait_for(1);
    let own = alice.key();
    for _ in 0..MESSAGES {
        alice.send(own, b"x").unwrap();
        alice.recv().unwrap();
    }
    GATE.open();
    eventually("it is told", || !LOG.of("dropped").is_empty());
    let told: u64 = LOG.of("dropped").iter().map(|seen| seen["lines"].parse::<u64>().unwrap()).sum();
    assert_eq!(LOG.of("message").len() as u64 + told, MESSAGES);
    assert!(told > 1000);
    say("done");
}

pub fn wants_no_messages() {
    static WANTED: AtomicBool = AtomicBool::new(false);
    struct Changing;
    impl tracing::Subscriber for Changing {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= Level::INFO || WANTED.load(Ordering::Relaxed)
        }
        fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
            tracing::subscriber::Interest::sometimes()
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn event(&self, event: &tracing::Event<'_>) {
            does(Level::DEBUG, |seen| LOG.push(seen)).event(event);
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    set(Changing);
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let own = alice.key();
    let mut talk = || {
        alice.send(own, b"x").unwrap();
        alice.recv().unwrap();
    };
    for _ in 0..100 {
        talk();
    }
    assert!(LOG.of("message").is_empty());
    WANTED.store(true, Ordering::Relaxed);
    eventually("messages are told", || {
        talk();
        !LOG.of("message").is_empty()
    });
    say("done");
}

pub fn of_one_thread() {
    static OWN: Log = Log::new();
    static OTHER: Log = Log::new();
    let own = tracing::subscriber::with_default(does(Level::TRACE, |seen| OWN.push(seen)), Bus::start);
    let other = Bus::start();
    let _here = tracing::subscriber::set_default(does(Level::TRACE, |seen| OTHER.push(seen)));
    junk(own.path());
    junk(other.path());
    drop(own.client("alice"));
    drop(other.client("bob"));
    for bus in [own, other] {
        bus.server.join_after_shutdown();
    }
    let events: Vec<_> = OWN.all().iter().map(|seen| seen["event"].clone()).collect();
    assert_eq!(events, ["refused", "register", "unregister"]);
    assert!(OTHER.all().is_empty(), "it was not there when that server began");
}
