//! The connect channel: refusals, limits, strangers that say anything or nothing, and servers that are none.

use crate::common::filter::refuse_to_refuse_descriptors;
use crate::common::proc::raise_descriptor_limit;
use crate::common::raw::{
    Heard, LIST, REGISTER, RawClient, SERVER, VERSION, accept, datagram, dial, hear, listen_at, say,
    say_with, try_dial, try_say_with,
};
use crate::common::{Bus, LIMIT, Place, begin, eventually, within_limit};
use ringpost::{Client, Observer, RegisterError, Server, StartError};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_taken_name_is_refused_and_its_owner_undisturbed() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let error = Client::register(bus.path(), "alice").unwrap_err();
    assert!(matches!(&error, RegisterError::NameTaken { name } if name == "alice"), "{error:?}");
    alice.caller().ping().unwrap();
    assert_eq!(bus.server.info().clients, 1);
    assert_eq!(bus.server.join_after_shutdown().refused, 1);
}

#[test]
fn a_name_that_cannot_be_is_refused_on_either_side() {
    let bus = Bus::start();
    let key = bus.client("alice").key().to_string();
    for name in ["", " x", "x ", "a\nb", "\x1b", &"x".repeat(65), key.as_str()] {
        let error = Client::register(bus.path(), name).unwrap_err();
        assert!(matches!(error, RegisterError::InvalidName { .. }), "{name:?}: {error}");
        let line = dial(bus.path());
        say(&line, &datagram(VERSION, REGISTER, name.as_bytes()));
        assert_eq!(hear(&line).refusal().0, 4, "{name:?}");
        assert!(matches!(hear(&line), Heard::End));
    }
    let line = dial(bus.path());
    say(&line, &datagram(VERSION, REGISTER, b"\xff\xfe"));
    assert_eq!(hear(&line).refusal().0, 4);
    // The drop of the first one waited for a second at most.
    eventually("nobody is registered", || bus.server.info().clients == 0);
    Client::register(bus.path(), "x".repeat(64)).unwrap();
}

#[test]
fn a_full_server_says_so_and_has_room_again() {
    let bus = Bus::with(|b| b.max_clients(2));
    let alice = bus.client("alice");
    let _bob = bus.client("bob");
    let error = Client::register(bus.path(), "carol").unwrap_err();
    assert!(matches!(error, RegisterError::Full(_)), "{error:?}");
    alice.unregister().unwrap();
    bus.client("carol");
}

#[test]
fn settings_out_of_their_limits_are_refused() {
    let place = Place::new();
    let builder = || Server::builder(&place.path);
    assert!(matches!(builder().max_clients(0).start(), Err(StartError::MaxClients(0))));
    assert!(matches!(builder().max_clients(65_537).start(), Err(StartError::MaxClients(_))));
    for ring_size in [0, 1, 2048, 5000, 3 << 20, 2 << 30] {
        assert!(
            matches!(builder().ring_size(ring_size).start(), Err(StartError::Geometry(_))),
            "{ring_size}"
        );
    }
    for max_block in [0, 255, 2041, 4096, usize::MAX] {
        let refused = builder().ring_size(4096).max_block(max_block).start();
        assert!(matches!(refused, Err(StartError::Geometry(_))), "{max_block}");
    }
    for cpu in [1 << 9, usize::MAX] {
        assert!(matches!(builder().pin(cpu).start(), Err(StartError::Pin { .. })), "{cpu}");
    }
    assert!(place.is_clean());
    let nowhere = Server::builder(place.directory.path().join("missing/bus")).start();
    assert!(matches!(nowhere, Err(StartError::Listen(_))));
}

#[test]
fn strangers_are_answered_and_dropped() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut wrong_magic = datagram(VERSION, SERVER, &[]);
    wrong_magic[0] ^= 1;
    let cases: [(&str, Vec<u8>, u16); 10] = [
        ("a wrong magic", wrong_magic, 1),
        ("garbage", vec![0xa5; 100], 1),
        ("one byte", vec![0], 1),
        ("a header cut short", datagram(VERSION, SERVER, &[])[..15].to_vec(), 1),
        ("more than any request", datagram(VERSION, REGISTER, &[b'x'; 100_000]), 1),
        ("an older version", datagram(0, REGISTER, b"bob"), 2),
        ("a newer version", datagram(VERSION + 1, REGISTER, b"bob"), 2),
        ("an unknown wish", datagram(VERSION, 77, &[]), 3),
        ("a list without a slot", datagram(VERSION, LIST, &[]), 3),
        ("a list with too much", datagram(VERSION, LIST, &[0; 5]), 3),
    ];
    let count = cases.len() as u64;
    for (what, datagram, status) in cases {
        let line = dial(bus.path());
        say(&line, &datagram);
        let (found, why) = hear(&line).refusal();
        assert_eq!(found, status, "{what}: {why}");
        assert!(!why.is_empty());
        assert!(matches!(hear(&line), Heard::End), "{what}: still connected");
        alice.caller().ping().unwrap();
    }
    // Nothing at all, and then nobody.
    drop(dial(bus.path()));
    let line = dial(bus.path());
    say(&line, &[]);
    assert!(matches!(hear(&line), Heard::End));
    assert_eq!(bus.server.info().clients, 1);
    drop(alice);
    assert_eq!(bus.server.join_after_shutdown().refused, count);
}

/// Descriptors that nobody asked for do not come in, or are closed: the other end of a pipe notices when its
/// last holder is gone.
fn descriptors_do_not_stay(bus: &Bus) {
    for what in [REGISTER, SERVER, 99] {
        let (mut read, write) = std::io::pipe().unwrap();
        let write = OwnedFd::from(write);
        let line = dial(bus.path());
        let datagram = datagram(VERSION, what, b"carrier");
        match try_say_with(&line, &datagram, &vec![&write; 253]) {
            Ok(_) => {
                let (status, why) = hear(&line).refusal();
                assert_eq!(status, 1);
                assert!(why.contains("descriptors"), "{why}");
                assert!(matches!(hear(&line), Heard::End));
            }
            // Since Linux 6.16. What is sent without any is heard as ever.
            Err(Errno::PERM) => {
                say(&line, &datagram);
                assert!(matches!(hear(&line), Heard::Reply { .. }));
            }
            Err(errno) => panic!("{errno}"),
        }
        drop(write);
        let ended = begin(move || read.read(&mut [0; 1]).unwrap());
        assert_eq!(ended.end("the pipe stays open"), 0);
    }
}

#[test]
fn descriptors_that_come_along_are_refused_or_closed() {
    descriptors_do_not_stay(&Bus::start());
}

#[test]
fn descriptors_that_come_along_are_closed_on_an_older_kernel() {
    match std::thread::spawn(|| refuse_to_refuse_descriptors().then(Bus::start)).join().unwrap() {
        Some(bus) => descriptors_do_not_stay(&bus),
        None => eprintln!("skipped: no filter of system calls can be had here"),
    }
}

#[test]
fn silent_connections_are_dropped_and_delay_no_one() {
    let bus = Bus::start();
    let silent: Vec<OwnedFd> = (0..50).map(|_| dial(bus.path())).collect();
    let mut alice = bus.client("alice");
    alice.caller().ping().unwrap();
    Observer::connect(bus.path()).unwrap().list().unwrap();
    // Each hears why after a while, and that is its end; those who are served stay.
    for line in &silent {
        hear(line).refusal();
        assert!(matches!(hear(line), Heard::End));
    }
    alice.caller().ping().unwrap();
}

#[test]
fn too_many_connections_at_once_are_told_so() {
    raise_descriptor_limit();
    within_limit("a thousand connections", || {
        let bus = Bus::start();
        let mut alice = bus.client("alice");
        // The first of the silent are dropped after a while: on a slow machine it takes more than one
        // attempt.
        let mut told = None;
        for _ in 0..20 {
            let _silent: Vec<OwnedFd> = (0..1024).map(|_| dial(bus.path())).collect();
            alice.caller().ping().unwrap();
            // It asks again for as long as it has time.
            match Client::builder(bus.path()).timeout(Duration::from_millis(300)).register("bob") {
                Err(RegisterError::Refused(why)) => {
                    told = Some(why);
                    break;
                }
                // On a slow machine.
                Err(RegisterError::TimedOut { .. }) => {}
                Err(error) => panic!("refused in the wrong words: {error:?}"),
                Ok(_) => {}
            }
        }
        let told = told.expect("the limit was never reached");
        assert!(told.contains("too many"), "{told}");
        eventually("there is room again", || Client::register(bus.path(), "bob").is_ok());
    });
}

#[test]
fn whoever_talks_on_its_lifeline_is_closed_and_others_go_on() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut talker = RawClient::register(bus.path(), "talker");
    say(&talker.line, &datagram(VERSION, REGISTER, b"another"));
    assert!(talker.response().is_none());
    assert_eq!(talker.closed(), 6, "a violation");
    assert!(matches!(hear(&talker.line), Heard::End));
    assert_eq!(alice.call(b"x").unwrap(), b"x");
    assert_eq!(alice.list().unwrap().len(), 1);
    bus.client("talker");
    drop(alice);
    assert_eq!(bus.server.join_after_shutdown().violations, 1);
}

/// A connection may ask questions again and again, but registers once.
#[test]
fn an_observer_may_register_in_the_end() {
    let bus = Bus::start();
    let line = dial(bus.path());
    for _ in 0..10 {
        say(&line, &datagram(VERSION, LIST, &[0; 4]));
        assert!(matches!(hear(&line), Heard::Reply { status: 0, .. }));
    }
    say(&line, &datagram(VERSION, REGISTER, b"late"));
    assert!(matches!(hear(&line), Heard::Reply { status: 0, descriptor: Some(_), .. }));
    assert_eq!(bus.server.info().clients, 1);
    drop(line);
    eventually("it is gone", || bus.server.info().clients == 0);
}

// ---- servers that are none

/// Listens at the path and answers the first request with what it is told, after which it hangs up.
fn pretend(place: &Place, reply: Option<(Vec<u8>, Option<OwnedFd>)>) -> crate::common::Begun<()> {
    let socket = listen_at(&place.path);
    begin(move || {
        let line = accept(&socket);
        let _ = rustix::io::read(&line, &mut [0; 100]).unwrap();
        match reply {
            Some((bytes, Some(fd))) => say_with(&line, &bytes, &[&fd]),
            Some((bytes, None)) => say(&line, &bytes),
            // Says nothing until the other side goes.
            None => drop(rustix::io::read(&line, &mut [0; 1])),
        }
    })
}

fn registered_by(reply: Option<(Vec<u8>, Option<OwnedFd>)>) -> RegisterError {
    let place = Place::new();
    let patience = if reply.is_some() { LIMIT } else { Duration::from_millis(300) };
    let server = pretend(&place, reply);
    let error = Client::builder(&place.path).timeout(patience).register("alice").unwrap_err();
    // The server may still wait for somebody, if the time was over before the connection was made.
    let _ = try_dial(&place.path);
    server.end("the pretended server");
    error
}

#[test]
fn what_is_not_a_server_is_found_out() {
    let place = Place::new();
    let register = |path: &Path| Client::register(path, "alice").unwrap_err();
    assert!(matches!(register(&place.path), RegisterError::NoServer { .. }));
    let stale = UnixListener::bind(&place.path).unwrap();
    assert!(matches!(register(&place.path), RegisterError::NotRingpost { .. }));
    drop(stale);
    let error = register(&place.path);
    assert!(matches!(error, RegisterError::NoServer { .. } | RegisterError::NotRingpost { .. }), "{error:?}");
    assert!(register(Path::new(&"x".repeat(200))).to_string().contains("xxx"));
    let file = place.directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(register(&file), RegisterError::NoServer { .. }));
}

#[test]
fn a_server_that_answers_nonsense_is_not_believed() {
    let memory = |sealed: bool| {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, 1 << 20).unwrap();
        if sealed {
            use rustix::fs::SealFlags;
            rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        }
        Some(fd)
    };
    let done = |body: &[u8]| datagram(VERSION, 0, body);
    assert!(matches!(registered_by(None), RegisterError::TimedOut { .. }));
    let error = registered_by(Some((b"HTTP/1.1 400 Bad Request".to_vec(), None)));
    assert!(matches!(error, RegisterError::NotRingpost { .. }));
    let error = registered_by(Some((datagram(VERSION + 1, 2, b"no"), None)));
    let RegisterError::VersionMismatch { server, own } = error else { panic!("{error:?}") };
    assert_eq!((server, own), (VERSION + 1, VERSION));
    assert!(matches!(registered_by(Some((done(&[1; 32]), None))), RegisterError::NotRingpost { .. }));
    let error = registered_by(Some((done(&[1; 15]), memory(true))));
    assert!(matches!(error, RegisterError::NotRingpost { .. }));
    // A segment that could be shrunk under our feet; one that is no channel.
    let error = registered_by(Some((done(&[1; 32]), memory(false))));
    assert!(matches!(error, RegisterError::Channel(_)), "{error:?}");
    let error = registered_by(Some((done(&[1; 32]), memory(true))));
    assert!(matches!(error, RegisterError::Channel(_)), "{error:?}");
    // A refusal without a known number is still a refusal, and its words steer no terminal.
    let error = registered_by(Some((datagram(VERSION, 999, b"\x1b[2Jgo away"), None)));
    assert!(matches!(&error, RegisterError::Refused(why) if why == "[2Jgo away"), "{error:?}");
}
