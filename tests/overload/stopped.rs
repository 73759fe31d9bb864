//! Tests of processes that are stopped and resumed. `RINGPOST_STOP_SECONDS=60` runs the long form.

use super::common::proc::threads;
use super::common::role::Role;
use super::common::{LIMIT, Place, begin, eventually, finds_no_room, raw, slot_of};
use super::{Baseline, from_environment, shut_down, signal, start_client, start_server};
use ringpost::{CallError, Client, Name, Observer, RecvError, RegisterError, SendError, WaitStrategy};
use rustix::process::Signal;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn stop_time() -> Duration {
    Duration::from_secs(from_environment("RINGPOST_STOP_SECONDS").unwrap_or(2))
}

fn stop(process: &Role) {
    signal(process, Signal::STOP);
    eventually("it stands still", || {
        threads(&process.pid().to_string()).iter().all(|(_, state)| *state == 'T')
    });
}

/// A stopped client affects nobody, and nobody gets its slot, name, key, inbox or mapping. Senders to it are
/// told that there is no room, at once or at their deadline. When it is resumed, it receives every
/// acknowledged message exactly once and in order.
#[test]
fn a_stopped_client_keeps_what_is_its_and_goes_on() {
    for wait in [WaitStrategy::Adaptive, WaitStrategy::Park] {
        let place = Place::new();
        let wait = wait.to_string();
        let server = start_server(&place, &[("RING", "4096"), ("CLIENTS", "8"), ("WAIT", &wait)]);
        let baseline = Baseline::of(&server, &place.path);
        let (mut victim, key) = start_client(&place, "victim", &[("WAIT", &wait)]);
        // Stop it while it waits for its first message.
        victim.tell("receive");
        let mut alice = Client::register(&place.path, "alice").unwrap();
        stop(&victim);
        let mut acknowledged = 0;
        while alice.try_send(key, format!("message {acknowledged}").as_bytes()).is_ok() {
            acknowledged += 1;
        }
        let name = Name::try_from("victim").unwrap();
        let (began, stopped) = (Instant::now(), stop_time());
        let mut rounds = 0_u32;
        while began.elapsed() < stopped {
            rounds += 1;
            assert_eq!(alice.call(&rounds.to_le_bytes()).unwrap(), rounds.to_le_bytes());
            assert_eq!(alice.try_send(key, b"x"), Err(SendError::InboxFull));
            if rounds % 64 == 1 {
                finds_no_room(&mut alice, key, b"x", Duration::from_millis(20));
                // All other slots are reused several times.
                let mut others: Vec<Client> = (0..6)
                    .map(|n| Client::register(&place.path, format!("other {rounds} {n}")).unwrap())
                    .collect();
                assert!(others.iter().all(|other| slot_of(other.key()) != slot_of(key)));
                assert!(matches!(Client::register(&place.path, "one too many"), Err(RegisterError::Full(_))));
                let taken = Client::register(&place.path, "victim").unwrap_err();
                assert!(
                    matches!(taken, RegisterError::NameTaken { .. } | RegisterError::Full(_)),
                    "{taken:?}"
                );
                for other in &mut others {
                    alice.try_send(other.key(), b"hello").unwrap();
                    assert_eq!(other.recv().unwrap().payload(), b"hello");
                }
                eventually("everybody has a channel", || baseline.has_clients(8));
                others.into_iter().for_each(|other| other.unregister().unwrap());
                let taken = Client::register(&place.path, "victim").unwrap_err();
                assert!(matches!(taken, RegisterError::NameTaken { .. }), "{taken:?}");
                assert_eq!(alice.look_up(name).unwrap(), Some(key));
            }
        }
        signal(&victim, Signal::CONT);
        assert_eq!(victim.hear("got"), "message 0");
        for n in 1..acknowledged {
            victim.tell("receive");
            assert_eq!(victim.hear("got"), format!("message {n}"));
        }
        // It received nothing else, and it works as before.
        alice.send_timeout(key, b"the last", LIMIT).unwrap();
        victim.tell("receive");
        assert_eq!(victim.hear("got"), "the last");
        victim.tell("call on");
        assert_eq!(victim.hear("answer"), "on");
        victim.tell("unregister");
        victim.hear("bye");
        assert!(victim.end().success());
        alice.unregister().unwrap();
        baseline.await_restored();
        let sums = shut_down(server);
        assert_eq!((sums["violations"], sums["abandoned"]), (0, 0));
    }
}

/// A stopped server blames nobody for the time: requests from that time and right after it are answered,
/// however many there are.
#[test]
fn those_who_ask_a_stopped_server_are_answered_when_it_goes_on() {
    let mut found = None;
    eventually("all are accepted, and the server stands still, before their time is over", || {
        let place = Place::new();
        let server = start_server(&place, &[("RING", "4096"), ("CLIENTS", "300")]);
        let baseline = Baseline::of(&server, &place.path);
        let began = Instant::now();
        let is_late = || began.elapsed() > Duration::from_millis(1_500);
        // More than the server receives in one pass.
        let lines: Vec<_> = (0..200).map(|_| raw::dial(&place.path)).collect();
        let wanted = baseline.sockets + lines.len();
        eventually("all are accepted", || super::sockets(server.pid()) == wanted || is_late());
        stop(&server);
        found = Some((place, server, baseline, lines));
        !is_late()
    });
    let (_place, server, baseline, lines) = found.unwrap();
    let stopped = Instant::now();
    let register = |n: usize| {
        let name = format!("line {n}");
        raw::say(&lines[n], &raw::datagram(raw::VERSION, raw::REGISTER, name.as_bytes()));
    };
    (0..150).for_each(register);
    // Longer than the time after which idle connections are closed.
    eventually("their time is over", || stopped.elapsed() > Duration::from_millis(2_500));
    // Read at once: who leaves too many answers unread is refused after 2 s.
    let (heard, first_heard) = mpsc::channel();
    std::thread::scope(|scope| {
        let lines = &lines;
        scope.spawn(move || {
            for (n, line) in lines.iter().enumerate() {
                match raw::hear(line) {
                    raw::Heard::Reply { status: 0, descriptor: Some(_), .. } => {}
                    other => panic!("line {n} heard {other:?}"),
                }
                let _ = heard.send(());
            }
        });
        signal(&server, Signal::CONT);
        // The server is in its first pass, or has made it.
        first_heard.recv().unwrap();
        (150..200).for_each(register);
    });
    drop(lines);
    baseline.await_restored();
    assert_eq!(shut_down(server)["refused"], baseline.refused);
}

/// While the server is stopped, every wait with a deadline ends in time. Waits without one continue with the
/// server, and nothing is lost or done twice.
#[test]
fn the_deadlines_of_clients_hold_while_the_server_is_stopped() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096")]);
    let baseline = Baseline::of(&server, &place.path);
    let short = Duration::from_millis(100);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let mut bob = Client::register(&place.path, "bob").unwrap();
    let mut carol = Client::register(&place.path, "carol").unwrap();
    let observer = Observer::connect_timeout(&place.path, short).unwrap();
    let bob_key = bob.key();
    stop(&server);
    let patient = begin(move || {
        let answer = carol.call(b"patient").map(|reply| reply.to_vec());
        carol.unregister().unwrap();
        answer
    });
    let began = Instant::now();
    let (mut calls, mut sent) = (0_u64, 0_u64);
    while began.elapsed() < stop_time() || calls < 2 {
        // At first the ring has room for requests; later they are not even sent.
        let call = alice.call_timeout(&calls.to_le_bytes(), short).unwrap_err();
        assert!(matches!(call, CallError::TimedOut), "{call:?}");
        calls += 1;
        let send = alice.send_timeout(bob_key, &sent.to_le_bytes(), short).unwrap_err();
        assert!(matches!(send, SendError::NoAnswer | SendError::TimedOut), "{send:?}");
        sent += 1;
        assert_eq!(bob.recv_timeout(short).unwrap_err(), RecvError::TimedOut);
        let late = Client::builder(&place.path).timeout(short).register("late").unwrap_err();
        assert!(matches!(late, RegisterError::TimedOut { .. }), "{late:?}");
        assert!(matches!(observer.server(), Err(RegisterError::TimedOut { .. })));
    }
    assert!(!patient.is_over());
    signal(&server, Signal::CONT);
    assert_eq!(patient.end("the patient call").unwrap(), b"patient");
    // The answers to the earlier requests must be discarded.
    assert_eq!(alice.call(b"again").unwrap(), b"again");
    // The messages may have been delivered, but each at most once and in order.
    let mut last = None;
    while let Ok(Some(message)) = bob.try_recv() {
        let n = u64::from_le_bytes(message.payload().try_into().unwrap());
        assert!(n < sent && last < Some(n), "{n} after {last:?}");
        last = Some(n);
    }
    alice.try_send(bob_key, b"bye").unwrap();
    assert_eq!(bob.recv().unwrap().payload(), b"bye");
    drop((alice, bob, observer));
    baseline.await_restored();
    let sums = shut_down(server);
    assert_eq!((sums["violations"], sums["abandoned"]), (0, 0));
    assert!(place.is_clean());
}
