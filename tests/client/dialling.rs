//! Connections to a server: many at once, to one that is busy, and those that an observer keeps or gives up.

use crate::common::proc::raise_descriptor_limit;
use crate::common::raw::{
    self, Heard, LIST, REGISTER, SERVER, VERSION, accept, datagram, hear, listen_at, say,
};
use crate::common::{Bus, LIMIT, Place, begin};
use ringpost::channel;
use ringpost::{Client, Observer, RegisterError, WaitStrategy};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const BUSY: u16 = 9;

/// So many threads register at once that the backlog of the socket is full. The server lets them in in their
/// order.
#[test]
fn a_crowd_registers() {
    const CROWD: usize = 1500;
    raise_descriptor_limit();
    let bus = Bus::with(|b| b.max_clients(CROWD as u32).ring_size(4096));
    let path: Arc<Path> = bus.path().into();
    let (all, registered) = (Arc::new(Barrier::new(CROWD)), Arc::new(Barrier::new(CROWD)));
    let threads: Vec<_> = (0..CROWD)
        .map(|n| {
            let (path, all, registered) = (Arc::clone(&path), Arc::clone(&all), Arc::clone(&registered));
            let one = move || {
                all.wait();
                let client = Client::builder(&*path).timeout(LIMIT / 2).register(format!("one of many {n}"));
                registered.wait();
                client.map(|mut client| client.call(b"x").map(|reply| reply.to_vec()))
            };
            std::thread::Builder::new().stack_size(256 << 10).spawn(one).unwrap()
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().unwrap().unwrap(), b"x");
    }
}

/// A backlog that nobody takes from: the deadline holds.
#[test]
fn nobody_waits_for_a_full_backlog_longer_than_it_wants() {
    let place = Place::new();
    let _socket = listen_at(&place.path);
    // As many as fit.
    let path = place.path.clone();
    let waiting: Vec<_> = (0..8)
        .map(|n| {
            let path = path.clone();
            begin(move || {
                Client::builder(&path).timeout(Duration::from_millis(300)).register(format!("n{n}")).map(drop)
            })
        })
        .collect();
    for one in waiting {
        let error = one.end_within("a wait for the backlog", LIMIT / 2).unwrap_err();
        assert!(matches!(error, RegisterError::TimedOut { .. }), "{error}");
    }
}

/// Answers the first questions as being busy.
fn busy_at_first(socket: &OwnedFd, times: usize) {
    for _ in 0..times {
        let line = accept(socket);
        say(&line, &datagram(VERSION, BUSY, b"busy"));
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let place = Place::new();
    let socket = listen_at(&place.path);
    let path = place.path.clone();
    let registering = begin(move || Client::builder(&path).timeout(LIMIT / 2).register("alice"));
    busy_at_first(&socket, 4);
    let line = accept(&socket);
    assert!(matches!(hear(&line), Heard::Reply { status: REGISTER, .. }));
    let (_host, channel) = channel::create(4096, WaitStrategy::Park).unwrap();
    raw::say_with(&line, &datagram(VERSION, 0, &[7; 32]), &[&channel]);
    registering.end("a registration with a busy server").unwrap();
    // An observer's questions, too.
    let path = place.path.clone();
    let asking = begin(move || Observer::connect_timeout(&path, LIMIT / 2).unwrap().list());
    busy_at_first(&socket, 2);
    let line = accept(&socket);
    assert!(matches!(hear(&line), Heard::Reply { status: LIST, .. }));
    say(&line, &datagram(VERSION, 0, &[255; 4]));
    assert!(asking.end("a question to a busy server").unwrap().is_empty());
}

#[test]
fn a_server_that_stays_busy_is_told_in_time() {
    let place = Place::new();
    let socket = listen_at(&place.path);
    let path = place.path.clone();
    let registering = begin(move || {
        let builder = Client::builder(&path).timeout(Duration::from_millis(300));
        // On a busy machine the last answer may come too late.
        let error = loop {
            match builder.register("alice").unwrap_err() {
                RegisterError::TimedOut { .. } => {}
                error => break error,
            }
        };
        // Ends the other side's wait.
        let _ = raw::try_dial(&path).map(|line| raw::say(&line, b"over"));
        error
    });
    loop {
        let line = accept(&socket);
        let mut request = [0; 16];
        let _ = rustix::net::send(&line, &datagram(VERSION, BUSY, b"busy"), SendFlags::NOSIGNAL);
        // A side that closes without reading the answer resets the connection, which is told once, ahead of
        // what it sent.
        let read = match rustix::io::read(&line, &mut request) {
            Err(Errno::CONNRESET) => rustix::io::read(&line, &mut request),
            read => read,
        };
        if read == Ok(4) {
            break;
        }
    }
    let error = registering.end("a registration with a server that is always busy");
    assert!(matches!(&error, RegisterError::Refused(why) if why == "busy"), "{error}");
}

/// What a server tells about itself.
fn description(pid: u32) -> Vec<u8> {
    let mut body = vec![0; 41];
    body[..4].copy_from_slice(&pid.to_le_bytes());
    datagram(VERSION, 0, &body)
}

fn asked(line: &OwnedFd, what: u16) {
    match hear(line) {
        Heard::Reply { status, .. } => assert_eq!(status, what),
        Heard::End => panic!("the connection ended"),
    }
}

/// The answer to a question that was given up is not that to the next one.
#[test]
fn an_observer_gives_a_connection_up_with_a_question() {
    let place = Place::new();
    let socket = listen_at(&place.path);
    let path = place.path.clone();
    let timeout = Duration::from_secs(2);
    let asking = begin(move || {
        let observer = Observer::connect_timeout(&path, timeout).unwrap();
        assert!(matches!(observer.list(), Err(RegisterError::TimedOut { .. })));
        loop {
            match observer.server() {
                Ok(info) => break info.pid,
                // On a busy machine.
                Err(error) => assert!(matches!(error, RegisterError::TimedOut { .. }), "{error}"),
            }
        }
    });
    let first = accept(&socket);
    asked(&first, LIST);
    // A time-out later come other connections. Ends with the process.
    std::thread::spawn(move || {
        loop {
            let line = accept(&socket);
            let _ = rustix::net::send(&first, &datagram(VERSION, 0, &[255; 4]), SendFlags::NOSIGNAL);
            while let Heard::Reply { status: SERVER, .. } = hear(&line) {
                let _ = rustix::net::send(&line, &description(1), SendFlags::NOSIGNAL);
            }
        }
    });
    assert_eq!(asking.end("an observer's questions"), 1);
}

/// What comes without being asked for makes a connection unfit, and so do its end and an error.
#[test]
fn an_observer_dials_anew() {
    let place = Place::new();
    let socket = listen_at(&place.path);
    let path = place.path.clone();
    let asking = begin(move || {
        let observer = Observer::connect_timeout(&path, LIMIT / 2).unwrap();
        (observer.server().map(|info| info.pid), observer)
    });
    let second = accept(&socket);
    asked(&second, SERVER);
    say(&second, &description(1));
    let (pid, observer) = asking.end("an observer's question");
    assert_eq!(pid.unwrap(), 1);
    say(&second, &description(2));
    let asking = begin(move || (observer.server().map(|info| info.pid), observer));
    let third = accept(&socket);
    asked(&third, SERVER);
    say(&third, &description(3));
    let (pid, observer) = asking.end("a question behind an answer to none");
    assert_eq!(pid.unwrap(), 3);
    say(&third, &datagram(VERSION, 3, b"nothing asked in time"));
    drop(third);
    let asking = begin(move || (observer.server().map(|info| info.pid), observer));
    let fourth = accept(&socket);
    asked(&fourth, SERVER);
    say(&fourth, &description(4));
    let (pid, observer) = asking.end("a question after the end of the connection");
    assert_eq!(pid.unwrap(), 4);
    // An error in the middle of a list is told, and then there is a new connection.
    let asking = begin(move || (observer.list().map(|list| list.len()), observer));
    asked(&fourth, LIST);
    say(&fourth, &datagram(VERSION, 0, &[9, 0, 0, 0]));
    asked(&fourth, LIST);
    say(&fourth, &datagram(VERSION, 0, b"nonsense"));
    let (listed, observer) = asking.end("a list with an error");
    assert!(matches!(listed, Err(RegisterError::NotRingpost { .. })));
    let asking = begin(move || observer.server().map(|info| info.pid));
    let fifth = accept(&socket);
    asked(&fifth, SERVER);
    say(&fifth, &description(5));
    assert_eq!(asking.end("a question after an error").unwrap(), 5);
}

/// A list's pages share one deadline, however slowly a server deals them out.
#[test]
fn a_list_has_one_deadline() {
    let place = Place::new();
    let socket = listen_at(&place.path);
    let path = place.path.clone();
    let timeout = Duration::from_secs(3);
    let asking = begin(move || {
        let observer = Observer::connect_timeout(&path, timeout).unwrap();
        (Instant::now(), observer.list().map(drop))
    });
    let line = accept(&socket);
    for page in 1_u32.. {
        if matches!(hear(&line), Heard::End) {
            break;
        }
        std::thread::sleep(timeout / 5);
        let next = (page * 2).to_le_bytes();
        if rustix::net::send(&line, &datagram(VERSION, 0, &next), SendFlags::NOSIGNAL).is_err() {
            break;
        }
    }
    let (_, listed) = asking.end_within("a list without an end", LIMIT / 2);
    assert!(matches!(listed, Err(RegisterError::TimedOut { .. })));
}

/// Each thread's question is answered, and with its own answer.
#[test]
fn threads_share_an_observer() {
    let bus = Bus::start();
    let _alice = bus.client("alice");
    let observer = Observer::connect(bus.path()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(observer.list().unwrap()[0].name.as_str(), "alice");
                    assert_eq!(observer.server().unwrap().pid, std::process::id());
                }
            });
        }
    });
}
