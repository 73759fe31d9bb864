//! The tap: what is copied, for whom, what is missed, and that nobody waits for it.

mod common;

use common::server::{self, start_server};
use common::users::{is_root, leave_root};
use common::{Bus, LIMIT, Place, begin, eventually, role};
use ringpost::{
    Access, Act, Client, Key, Ready, Reconnect, Rule, SampleError, SendError, ServiceError, SubscribeError,
    Subscriber, TapKind, TapOutcome, TapRecord,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, SystemTime};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => server::serve(server::as_set(), &stage),
        "tries to tap" => {
            leave_root(role::setting("UID").unwrap(), 65_534, &[]);
            let mut eve = Client::register(role::setting::<String>("PATH").unwrap(), "eve").unwrap();
            match eve.tap(100) {
                Err(SubscribeError::NotAllowed(why)) => role::say(format_args!("answer {why}")),
                other => role::say(format_args!("answer {other:?}")),
            }
            stage.await_order("leave");
        }
        other => panic!("no role {other:?}"),
    }
}

fn next(tap: &mut Subscriber) -> TapRecord {
    tap.recv_timeout(LIMIT).unwrap().read().unwrap()
}

/// A server whose service echoes, fails at `fail` and panics at `panic`.
fn bus() -> Bus {
    Bus::with(|builder| {
        builder.service(|request, response| match request.payload() {
            b"fail" => Err(ServiceError::new("as the test wants it")),
            b"panic" => panic!("as the test wants it"),
            payload => response.write(payload),
        })
    })
}

#[test]
fn each_call_and_message_is_copied_with_what_became_of_it() {
    let bus = bus();
    let [mut alice, bob, mut carol] = ["alice", "bob", "carol"].map(|name| bus.client(name));
    let before = SystemTime::now();
    let mut tap = carol.tap(8).unwrap();
    alice.call(b"0123456789").unwrap();
    alice.call(b"fail").unwrap_err();
    alice.call(b"panic").unwrap_err();
    alice.send(bob.key(), b"hello, bob").unwrap();
    let nobody: Key = "00000000000000000000000001".parse().unwrap();
    assert_eq!(alice.send(nobody, b"hello"), Err(SendError::NotFound));

    let record = next(&mut tap);
    assert_eq!((record.kind, record.outcome), (TapKind::Call, TapOutcome::Ok));
    assert_eq!((record.from.key, record.from.name.as_str()), (alice.key(), "alice"));
    assert_eq!((record.from.pid, record.to, record.to_name), (std::process::id(), None, None));
    assert_eq!((&record.payload[..], record.payload_len), (&b"01234567"[..], 10));
    assert_eq!((&record.response[..], record.response_len), (&b"01234567"[..], 10));
    assert!(before <= record.time && record.time <= SystemTime::now());
    let record = next(&mut tap);
    assert_eq!((record.outcome, &record.payload[..]), (TapOutcome::ServiceFailed, &b"fail"[..]));
    assert_eq!((&record.response[..], record.response_len), (&b"as the t"[..], 20));
    let record = next(&mut tap);
    assert_eq!((record.outcome, &record.payload[..]), (TapOutcome::ServiceFailed, &b"panic"[..]));
    let record = next(&mut tap);
    assert_eq!((record.kind, record.outcome), (TapKind::Message, TapOutcome::Ok));
    assert_eq!((record.to, record.to_name), (Some(bob.key()), Some("bob".parse().unwrap())));
    assert_eq!((&record.payload[..], record.payload_len), (&b"hello, b"[..], 10));
    assert_eq!((record.response.len(), record.response_len), (0, 0));
    let record = next(&mut tap);
    assert_eq!((record.outcome, record.to, record.to_name), (TapOutcome::NotFound, Some(nobody), None));
    assert!(tap.try_recv().unwrap().is_none(), "what a client asks the server itself is not shown");
}

#[test]
fn a_message_that_is_refused_or_waits_is_copied_when_that_is_over() {
    let (mut rule, mut access) = (Rule::default(), Access::default());
    (rule.acts, rule.what) = (vec![Act::Send], vec!["bob".into()]);
    access.rules = vec![rule];
    let bus = Bus::with(|builder| builder.ring_size(4096).access(access));
    let [mut alice, mut bob, carol, mut dora] =
        ["alice", "bob", "carol", "dora"].map(|name| bus.client(name));
    let mut tap = dora.tap(0).unwrap();
    assert!(matches!(alice.send(bob.key(), b"no"), Err(SendError::NotAllowed(_))));
    let record = next(&mut tap);
    assert_eq!((record.outcome, record.payload_len), (TapOutcome::NotAllowed, 2));
    assert!(record.payload.is_empty(), "no bytes were wanted");
    let message = [7; 1500];
    while bob.try_send(carol.key(), &message).is_ok() {}
    while next(&mut tap).outcome != TapOutcome::InboxFull {}
    common::finds_no_room(&mut bob, carol.key(), &message, Duration::from_millis(20));
    let record = next(&mut tap);
    assert_eq!(record.outcome, TapOutcome::TimedOut);
    assert!(record.duration >= Duration::from_millis(5), "{:?}", record.duration);
}

/// The payload of each record is as long as the tap wants that wants most.
#[test]
fn several_tap_at_once_and_the_last_that_leaves_ends_the_copying() {
    let bus = bus();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut short = bob.tap(2).unwrap();
    let mut long = bob.tap(1_000_000).unwrap();
    alice.call(b"ping").unwrap();
    for tap in [&mut short, &mut long] {
        assert_eq!(next(tap).payload, b"ping");
    }
    drop(long);
    alice.call(b"ping").unwrap();
    assert_eq!(next(&mut short).payload_len, 4);
    drop(short);
    alice.call(b"unseen").unwrap();
    // It is another topic, which begins anew.
    let mut again = bob.tap(2).unwrap();
    eventually("a call is copied", || {
        alice.call(b"seen").unwrap();
        again.try_recv().unwrap().is_some_and(|sample| {
            assert_eq!((sample.sequence(), sample.missed()), (1, 0));
            sample.read::<TapRecord>().unwrap().payload == b"se"
        })
    });
    let _four: Vec<_> = (0..3).map(|_| bob.tap(2).unwrap()).collect();
    assert!(matches!(bob.tap(2), Err(SubscribeError::Quota(why)) if why.contains("taps 4 times")));
}

#[test]
fn nobody_waits_for_a_tap_and_it_is_told_what_it_missed() {
    let bus = bus();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut tap = bob.tap(65_535).unwrap();
    let payload = vec![7; 20_000];
    for _ in 0..300 {
        alice.call(&payload).unwrap();
    }
    let (mut came, mut missed) = (0, 0);
    while let Some(sample) = tap.try_recv().unwrap() {
        came += 1;
        missed += sample.missed();
        let record: TapRecord = sample.read().unwrap();
        assert_eq!((record.payload.len(), record.response.len()), (20_000, 20_000));
    }
    assert!(missed > 0 && came > 10, "{came} came, {missed} were missed");
    assert_eq!(came + missed, 300);
}

/// Workers share the ring: nothing is torn, and the order of each client is kept.
#[test]
fn copies_of_many_clients_are_whole_and_each_ones_are_in_order() {
    const CLIENTS: usize = 4;
    const CALLS: u32 = 500;
    let bus = bus();
    let mut tapper = bus.client("tapper");
    let mut tap = tapper.tap(64).unwrap();
    let path = bus.path().to_owned();
    let callers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let path = path.clone();
            begin(move || {
                let mut client = Client::register(&path, format!("client {number}")).unwrap();
                for call in 0..CALLS {
                    client.call(&call.to_le_bytes()).unwrap();
                }
            })
        })
        .collect();
    let mut calls = [0; CLIENTS];
    while calls.iter().sum::<u32>() < CLIENTS as u32 * CALLS {
        let sample = tap.recv_timeout(LIMIT).unwrap();
        assert_eq!(sample.missed(), 0, "all of them fit into the ring");
        let record: TapRecord = sample.read().unwrap();
        let number: usize = record.from.name.as_str().strip_prefix("client ").unwrap().parse().unwrap();
        assert_eq!(
            (&record.payload, &record.response),
            (&calls[number].to_le_bytes().to_vec(), &record.payload)
        );
        calls[number] += 1;
    }
    for caller in callers {
        caller.end("its calls are answered");
    }
}

#[test]
fn another_user_may_not_tap() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    std::fs::set_permissions(place.directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let uid = 70_002;
    let mut server = start_server(&place, &[("ALLOW", &uid.to_string())]);
    let settings = [("PATH", place.path.to_str().unwrap()), ("UID", "70002")];
    let mut eve = role::Role::start("tries to tap", &settings);
    let why = eve.hear("answer");
    assert!(why.contains("user 70002 may not tap") && why.contains("root"), "{why}");
    eve.tell("leave");
    server.tell("shutdown");
}

#[test]
fn a_tap_waits_in_an_event_loop() {
    let bus = bus();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut tap = bob.tap(9).unwrap();
    let readiness = tap.readiness().unwrap();
    // Something besides the calls may have to be looked at first.
    eventually("it waits", || tap.try_recv().unwrap().is_none() && tap.arm().unwrap());
    alice.call(b"wakes").unwrap();
    let time = Timespec::try_from(LIMIT).unwrap();
    assert_eq!(poll(&mut [PollFd::new(&readiness, PollFlags::IN)], Some(&time)), Ok(1));
    assert_eq!(next(&mut tap).payload, b"wakes");
}

/// A tap that registers again goes on at the next server.
#[test]
fn a_tap_goes_on_at_the_next_server() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut tapper = Client::builder(&place.path).reconnect(Reconnect::default()).register("tapper").unwrap();
    let mut tap = tapper.tap(9).unwrap();
    let is_copied = |tap: &mut Subscriber, text: &[u8]| {
        let mut alice = Client::register(&place.path, "alice").unwrap();
        eventually("a call is copied", || {
            alice.call(text).unwrap();
            tap.recv_timeout(Duration::from_millis(20)).is_ok_and(|sample| {
                let record: TapRecord = sample.read().unwrap();
                record.payload == text
            })
        });
    };
    is_copied(&mut tap, b"first");
    server::shut_down(server);
    let _server = start_server(&place, &[]);
    is_copied(&mut tap, b"second");
}

#[test]
fn a_tap_ends_with_its_client_and_with_its_server() {
    let bus = bus();
    let [mut alice, bob] = ["alice", "bob"].map(|name| bus.client(name));
    let (mut caller, _inbox) = bob.split();
    let mut tap = caller.tap(9).unwrap();
    alice.call(b"last").unwrap();
    drop(caller);
    drop(_inbox);
    assert!(matches!(tap.recv(), Err(SampleError::Disconnected(_))));
    let mut tap = alice.tap(9).unwrap();
    bus.server.shutdown();
    assert!(matches!(tap.recv_timeout(LIMIT), Err(SampleError::Disconnected(_))));
}

/// Takes calls over a link until one is copied, and returns that copy.
fn first_copy(calls: &mut impl FnMut(), tap: &mut Subscriber) -> TapRecord {
    let mut found = None;
    eventually("a call is copied", || {
        calls();
        found = tap.try_recv().unwrap().map(|sample| sample.read().unwrap());
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_link_is_tapped_if_its_owner_lets_it_be() {
    let bus = Bus::start();
    let [mut alice, mut bob, mut carol] = ["alice", "bob *", "carol"].map(|name| bus.client(name));
    let service =
        |request: ringpost::Request<'_>, response: &mut ringpost::Response<'_>| match request.payload() {
            b"fail" => Err(ServiceError::new("as the test wants it")),
            payload => response.write(payload),
        };
    let listener = bob.caller().listen_tappable().unwrap();
    let serving = listener.serve(service).unwrap();
    let mut link = alice.connect("bob *").unwrap();
    link.call(b"unseen").unwrap();
    let mut tap = carol.subscribe("@ringpost/tap/bob ~2a").unwrap();
    let record = first_copy(&mut || assert_eq!(link.call(&[7; 600]).unwrap(), [7; 600]), &mut tap);
    assert_eq!((record.kind, record.outcome), (TapKind::Call, TapOutcome::Ok));
    assert_eq!((record.from.key, record.from.pid), (alice.key(), std::process::id()));
    assert_eq!((record.to, record.to_name), (Some(bob.key()), Some("bob *".parse().unwrap())));
    assert_eq!((&record.payload[..], record.payload_len), (&[7; 512][..], 600));
    assert_eq!((&record.response[..], record.response_len), (&[7; 512][..], 600));
    while tap.try_recv().unwrap().is_some() {}
    link.post(b"post").unwrap();
    link.call(b"fail").unwrap_err();
    let record = next(&mut tap);
    assert_eq!((record.kind, &record.payload[..]), (TapKind::Post, &b"post"[..]));
    let record = next(&mut tap);
    assert_eq!(
        (record.outcome, &record.response[..]),
        (TapOutcome::ServiceFailed, &b"as the test wants it"[..])
    );
    drop(tap);
    link.call(b"unseen").unwrap();
    serving.stop();
    serving.join();
    // Nobody serves any more, so nobody publishes copies.
    let mut tap = carol.subscribe("@ringpost/tap/bob ~2a").unwrap();
    assert!(tap.publishers().is_empty());
}

#[test]
fn links_are_served_in_every_way_and_tapped() {
    let bus = Bus::start();
    let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(|name| bus.client(name));
    let mut listener = bob.caller().listen_tappable().unwrap();
    let serves = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        responder.serve(|request, response| response.write(request.payload())).unwrap();
    });
    let mut link = alice.connect("bob").unwrap();
    let mut tap = carol.subscribe("@ringpost/tap/*").unwrap();
    let record = first_copy(&mut || assert_eq!(link.call(b"ping").unwrap(), b"ping"), &mut tap);
    assert_eq!((&record.payload[..], &record.response[..]), (&b"ping"[..], &b"ping"[..]));
    drop(link);
    serves.end("the link has ended");
}
