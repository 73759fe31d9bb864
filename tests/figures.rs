//! The figures of the bus: they agree with what was done, nobody is harmed by what a client says of itself,
//! and durations are measured only while an operator looks.

mod common;

use common::proc::raise_descriptor_limit;
use common::raw::{Heard, RawClient, Ring, VERSION, datagram, dial, hear, say};
use common::role::{self, Role, setting};
use common::users::{is_root, leave_root};
use common::{Bus, Gate, LIMIT, Place, begin, eventually, registered};
use ringpost::{
    Client, ClientFigures, Figures, Histogram, Key, Observer, Server, ServerFigures, WaitStrategy,
};
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "stranger" => {
            leave_root(setting("UID").unwrap(), 65_534, &[]);
            let path: PathBuf = setting("PATH").unwrap();
            let observer = Observer::connect(&path).unwrap();
            let figures = observer.figures().unwrap();
            let users: Vec<u32> = figures.server.users.iter().map(|user| user.uid).collect();
            role::say(format_args!("sees {} {} {users:?}", figures.stamped, figures.clients.len()));
            stage.await_order("again");
            role::say(format_args!("sees {}", observer.figures().unwrap().stamped));
        }
        "dies" => {
            let _client = Client::register(setting::<PathBuf>("PATH").unwrap(), "mortal").unwrap();
            role::say("registered");
            stage.await_order("leave");
        }
        other => panic!("no role {other:?}"),
    }
}

fn look(path: &Path) -> Figures {
    Observer::connect(path).unwrap().figures().unwrap()
}

fn client<'a>(figures: &'a Figures, name: &str) -> &'a ClientFigures {
    figures.clients.iter().find(|client| client.info.name.as_str() == name).unwrap()
}

#[test]
fn counts_agree_with_what_was_done() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    for _ in 0..100 {
        alice.call(b"four").unwrap();
    }
    alice.send(bob.key(), b"hello").unwrap();
    bob.recv().unwrap();
    alice.caller().ping().unwrap(); // what came before is counted now
    let figures = look(bus.path());
    let ServerFigures { calls, messages, bytes_in, bytes_out, registered, died, .. } = figures.server;
    assert_eq!((calls, messages, bytes_in, bytes_out, registered, died), (100, 1, 405, 400, 2, 0));
    assert!(figures.server.workers_hot <= figures.server.workers_most);
    assert!(figures.uptime > Duration::ZERO && figures.server.cpu > Duration::ZERO);
    let info = &client(&figures, "alice").info;
    assert_eq!((info.counters.calls, info.counters.sent, info.key), (100, 1, alice.key()));
    assert!(client(&figures, "alice").cpu.unwrap() > Duration::ZERO);
    let users = &figures.server.users;
    let own = rustix::process::geteuid().as_raw();
    assert_eq!((users.len(), users[0].uid, users[0].clients, users[0].asking), (1, own, 2, 1));
    assert!(users[0].ring_bytes > 0 && users[0].topics == 0);

    // The totals keep what clients did that have left.
    alice.unregister().unwrap();
    drop(bob);
    eventually("both are gone", || look(bus.path()).clients.is_empty());
    let later = bus.server.figures().unwrap();
    assert_eq!((later.server.calls, later.server.messages, later.server.bytes_in), (100, 1, 405));
    assert!(later.uptime > figures.uptime);
    assert_eq!(later.server.users.iter().map(|user| user.clients).sum::<u32>(), 0);
    let summary = bus.server.join_after_shutdown();
    assert_eq!((summary.calls, summary.bytes_out, summary.registered), (100, 400, 2));
}

/// While clients come and go, no total ever shrinks: what a worker did is in one sum or the other.
#[test]
fn totals_only_grow() {
    let bus = Bus::start();
    let path = bus.path().to_owned();
    let traffic = begin(move || {
        for _ in 0..100 {
            let mut client = Client::register(&path, "alice").unwrap();
            (0..20).for_each(|_| _ = client.call(b"x").unwrap());
            client.unregister().unwrap();
        }
    });
    let mut last = 0;
    while !traffic.is_over() {
        let calls = bus.server.figures().unwrap().server.calls;
        assert!(calls >= last, "{calls} after {last}");
        last = calls;
    }
    traffic.end("the traffic");
    eventually("all is counted", || bus.server.figures().unwrap().server.calls == 2000);
}

#[test]
fn what_happened_to_clients_is_counted() {
    let bus = Bus::start();
    let path = bus.path().to_str().unwrap();
    let mut mortal = Role::start("dies", &[("PATH", path)]);
    mortal.hear("registered");
    mortal.kill();
    eventually("the death is counted", || look(bus.path()).server.died == 1);
    let raw = RawClient::register(bus.path(), "rascal");
    raw.put_header(u64::MAX);
    raw.wake();
    eventually("the violation is counted", || look(bus.path()).server.violations == 1);
    let refused = look(bus.path()).server.refused;
    let _first = bus.client("twice");
    Client::register(bus.path(), "twice").unwrap_err();
    assert_eq!(look(bus.path()).server.refused, refused + 1);
    assert_eq!(look(bus.path()).server.registered, 3);
}

#[test]
fn fills_and_waiting_senders_are_seen() {
    let gate = Gate::default();
    let held = gate.clone();
    let bus = Bus::with(|builder| {
        builder.ring_size(4096).service(move |_, _| {
            held.pass();
            Ok(())
        })
    });
    let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(|name| bus.client(name));
    let figures = look(bus.path());
    let idle = client(&figures, "alice");
    assert_eq!((idle.requests.used, idle.responses.used, idle.inbox.used), (0, 0, 0));
    assert_eq!([idle.requests, idle.responses, idle.inbox].map(|fill| fill.size), [4096; 3]);

    // The service holds the first call, the others wait in the ring: a line each.
    (0..5).for_each(|_| alice.caller().submit(b"x").unwrap());
    gate.wait_for(1);
    assert_eq!(client(&look(bus.path()), "alice").requests.used, 4 * 64);
    gate.open();
    // Nobody takes the responses.
    eventually("all are answered", || client(&look(bus.path()), "alice").responses.used == 5 * 64);
    (0..5).for_each(|_| _ = alice.caller().response().unwrap());
    assert_eq!(client(&look(bus.path()), "alice").responses.used, 0);

    while bob.try_send(carol.key(), &[7; 500]).is_ok() {}
    let full = client(&look(bus.path()), "carol").inbox;
    assert!(full.used > full.size / 2 && full.used <= full.size, "{full:?}");
    let to = carol.key();
    let waits = begin(move || {
        let sent = bob.send_timeout(to, &[7; 500], LIMIT);
        (bob, sent)
    });
    eventually("a sender waits", || client(&look(bus.path()), "carol").waiting_senders == 1);
    eventually("there is room", || {
        carol.try_recv().unwrap();
        waits.is_over()
    });
    let (_bob, sent) = waits.end("the send");
    assert_eq!(sent, Ok(()));
    while carol.try_recv().unwrap().is_some() {}
    let seen = look(bus.path());
    assert_eq!((client(&seen, "carol").waiting_senders, client(&seen, "carol").inbox.used), (0, 0));
}

#[test]
fn links_and_topics_have_their_figures() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let _serving =
        bob.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
    let mut link = alice.connect("bob").unwrap();
    (0..10).for_each(|_| _ = link.call(b"ping").unwrap());
    let mut prices = alice.publish("prices/AAPL").unwrap();
    (0..7).for_each(|_| prices.send(b"201.5").unwrap());
    let figures = look(bus.path());
    let topic = &figures.topics[0];
    assert_eq!((topic.info.topic.as_str(), topic.samples, topic.bytes), ("prices/AAPL", 7, 7 * 64));
    let shown = &figures.links[0];
    assert_eq!((shown.info.caller.as_str(), shown.info.callee.as_str()), ("alice", "bob"));
    // Each end tells what it did when it has time for it.
    eventually("both ends tell", || {
        link.call(b"ping").unwrap();
        let shown = &look(bus.path()).links[0];
        let lines = |requests: u64| 64 * requests;
        shown.requests >= 10
            && shown.served >= 10
            && shown.bytes_out >= lines(shown.requests)
            && shown.bytes_in >= lines(shown.served)
    });
    assert_eq!((figures.server.users[0].links, figures.server.users[0].topics), (1, 1));
    prices.send(b"202").unwrap();
    assert_eq!(bus.server.figures().unwrap().topics[0].samples, 8);
}

/// The word *stamps* of a client's figures.
fn stamps(client: &RawClient) -> u32 {
    client.segment.word32(FIGURES).load(Ordering::Relaxed)
}

/// Where a channel's figures lie.
const FIGURES: usize = 4096;

#[test]
fn durations_are_measured_from_an_operators_look_until_ten_seconds_after_the_last() {
    let bus = Bus::start();
    let raw = RawClient::register(bus.path(), "raw");
    let mut alice = bus.client("alice");
    let mut calls = || (0..50).for_each(|_| _ = alice.call(b"x").unwrap());
    calls();
    assert_eq!(stamps(&raw), 0);
    let first = look(bus.path());
    assert!(first.stamped && stamps(&raw) > 0);
    assert_eq!(client(&first, "alice").service, Histogram::default(), "nothing was measured before");
    calls();
    let looked = Instant::now();
    let second = look(bus.path());
    let measured = &client(&second, "alice").service;
    assert!((1..=50).contains(&measured.count()), "{measured:?}");
    assert!(measured.percentile(100.0).unwrap() < LIMIT);
    let newcomer = RawClient::register(bus.path(), "newcomer");
    assert!(stamps(&newcomer) > 0, "who comes later measures, too");
    let observer = Observer::connect(bus.path()).unwrap();
    eventually("it ends", || {
        observer.list().unwrap(); // which is no look
        stamps(&raw) == 0 && stamps(&newcomer) == 0
    });
    assert!(looked.elapsed() > Duration::from_secs(9), "{:?}", looked.elapsed());
    calls();
    let third = bus.server.figures().unwrap();
    assert_eq!(client(&third, "alice").service.count(), measured.count());
    assert!(stamps(&raw) > 0, "the program of the server is an operator, too");
    bus.server.shutdown();
    eventually("the end of the server ends it", || stamps(&raw) == 0);
}

/// A worker that slept says how long it took to wake, if its client says when it woke it.
#[test]
fn a_wake_is_measured_by_what_the_client_says_if_that_can_be() {
    let bus = Bus::with(|builder| builder.wait(WaitStrategy::Park));
    let mut raw = RawClient::register(bus.path(), "raw");
    look(bus.path());
    // It sleeps before each call. Then the client says when it wakes it.
    let mut call = |at: Option<fn() -> u64>| {
        eventually("it sleeps", || raw.consumer_parked(Ring::Request).load(Ordering::SeqCst) != 0);
        if let Some(at) = at {
            raw.segment.word64(FIGURES + 64).store(at(), Ordering::Relaxed);
        }
        raw.request(1, 0, b"x");
        raw.wake();
        eventually("it is answered", || raw.response().is_some());
    };
    let wakes = || client(&look(bus.path()), "raw").wake.count();
    call(None); // it fell asleep when nobody looked
    call(None);
    assert_eq!(wakes(), 0, "nothing was said");
    // A look at the ring may come between the word that it sleeps and the sleep; then there was no wake.
    eventually("a wake is counted", || {
        call(Some(now));
        wakes() > 0
    });
    let counted = wakes();
    call(None);
    assert_eq!(wakes(), counted, "what was said belongs to an earlier sleep");
    for lie in [|| 1, || u64::MAX, || now() + 3_600_000_000_000] {
        call(Some(lie));
    }
    assert_eq!(wakes(), counted);
}

/// The clock of the stamps.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn what_a_client_writes_about_itself_harms_nobody() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let raw = RawClient::register(bus.path(), "rascal");
    let words = |value: u64| {
        (FIGURES..FIGURES + 4096)
            .step_by(8)
            .for_each(|at| raw.segment.word64(at).store(value, Ordering::Relaxed));
    };
    for value in [u64::MAX, 1, 1 << 63, 0x0101_0101_0101_0101] {
        words(value);
        for head in [0, 64, u64::MAX, 1 << 40] {
            [Ring::Request, Ring::Response, Ring::Inbox]
                .iter()
                .for_each(|ring| raw.head(*ring).store(head, Ordering::Relaxed));
            let figures = look(bus.path());
            let rascal = client(&figures, "rascal");
            assert_eq!((rascal.taken, rascal.own_wake.buckets().count()), (value, 120));
            for fill in [rascal.requests, rascal.responses, rascal.inbox] {
                assert!(fill.used <= fill.size, "{fill:?}");
            }
            assert_eq!(client(&figures, "alice").taken, 0);
            alice.call(b"still served").unwrap();
        }
    }
}

/// Everyone may look. Only a look of the server's own user or root lets anybody measure, and only they are
/// told what others have of their quotas.
#[test]
fn a_strangers_look_turns_nothing_on() {
    if !is_root() {
        return;
    }
    const STRANGER: u32 = 70_001;
    let place = Place::new();
    let server = Server::builder(&place.path).allow_user(STRANGER).start().unwrap();
    std::fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let raw = RawClient::register(&place.path, "raw");
    let uid = STRANGER.to_string();
    let mut stranger = Role::start("stranger", &[("PATH", place.path.to_str().unwrap()), ("UID", &uid)]);
    assert_eq!(stranger.hear("sees"), format!("false 1 [{STRANGER}]"));
    assert_eq!(stamps(&raw), 0);
    let users = server.figures().unwrap().server.users;
    assert_eq!(users.iter().map(|user| user.uid).collect::<Vec<_>>(), [0, STRANGER]);
    stranger.tell("again");
    assert_eq!(stranger.hear("sees"), "true", "it sees what is measured for others");
    assert!(stranger.end().success());
}

/// A request that makes no sense is refused, and one for what is not there is answered with nothing.
#[test]
fn requests_for_figures_are_checked() {
    let bus = Bus::start();
    let asked = |body: &[u8]| {
        let line = dial(bus.path());
        say(&line, &datagram(VERSION, 19, body));
        match hear(&line) {
            Heard::Reply { status, body, .. } => (status, body.get(8..).unwrap_or_default().to_vec()),
            other => panic!("{other:?}"),
        }
    };
    for malformed in [&[0; 8][..], &[0; 10], &[5, 0, 0, 0, 0, 0, 0, 0, 0], &[]] {
        assert_eq!(asked(malformed).0, 3, "{malformed:?}");
    }
    for section in 1..5 {
        let far = [&[section][..], &[0xff; 8]].concat();
        assert_eq!(asked(&far), (0, vec![0xff; 8]), "section {section}");
    }
}

/// The program that embeds the server is told when nobody answers it any more.
#[test]
fn a_server_that_ends_leaves_nobody_waiting_for_figures() {
    let bus = Bus::start();
    let asking = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            while asking.load(Ordering::Relaxed) {
                if let Err(error) = bus.server.figures() {
                    return error;
                }
            }
            panic!("it was always answered");
        });
        look(bus.path());
        bus.server.shutdown();
        eventually("the thread is told", || thread.is_finished());
        asking.store(false, Ordering::Relaxed);
        assert_eq!(thread.join().unwrap().kind(), std::io::ErrorKind::NotConnected);
    });
}

#[test]
fn a_full_house_comes_in_pages() {
    raise_descriptor_limit();
    let bus = Bus::with(|builder| builder.max_clients(600).ring_size(4096));
    let clients: Vec<Client> = (0..600).map(|number| bus.client(&format!("client {number}"))).collect();
    let figures = look(bus.path());
    assert_eq!(figures.clients.len(), 600);
    let found: HashSet<Key> = figures.clients.iter().map(|client| client.info.key).collect();
    assert!(clients.iter().all(|client| found.contains(&client.key())));
    assert_eq!(registered(bus.path()), 600);
}
