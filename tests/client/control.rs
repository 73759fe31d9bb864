//! Commands of an operator: how they run, end and fail, and that nobody waits for them.

use crate::common::raw::{self, Heard, SERVER, VERSION, datagram};
use crate::common::{Bus, Gate, LIMIT, begin, eventually, within_limit};
use ringpost::{Client, ControlError, Observer, RegisterError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CONTROL: u16 = 18;

/// A server whose command "wait" ends when the gate is opened.
fn gated_for(grace: Duration) -> (Gate, Bus) {
    let gate = Gate::default();
    let inside = gate.clone();
    let bus = Bus::with(move |builder| {
        builder.grace(grace).control(move |command| match command {
            "wait" => {
                inside.pass();
                Ok("waited".into())
            }
            "panic" => panic!("as the test wants it"),
            "fail" => Err("it failed".into()),
            other => Ok(other.to_uppercase()),
        })
    });
    (gate, bus)
}

fn gated() -> (Gate, Bus) {
    gated_for(LIMIT)
}

#[test]
fn a_command_is_answered_with_what_the_program_says() {
    let (_gate, bus) = gated();
    let operator = Observer::connect(bus.path()).unwrap();
    assert_eq!(operator.control("a\nb ü").unwrap(), "A\nB Ü");
    assert!(matches!(operator.control("fail"), Err(ControlError::Failed(why)) if why == "it failed"));
    let Err(ControlError::Failed(why)) = operator.control("panic") else { panic!() };
    assert!(why.contains("as the test wants it"), "{why}");
    let longest = "x".repeat(4096);
    assert_eq!(operator.control(&longest).unwrap(), longest.to_uppercase());
    for wrong in ["", &(longest + "x")] {
        assert!(matches!(operator.control(wrong), Err(ControlError::Length(found)) if found == wrong.len()));
    }
    assert_eq!(operator.server().unwrap().clients, 0, "questions go on");
}

#[test]
fn a_server_without_commands_says_so() {
    let bus = Bus::start();
    let operator = Observer::connect(bus.path()).unwrap();
    assert!(matches!(operator.control("x"), Err(ControlError::NoCommands)));
}

#[test]
fn everyone_else_goes_on_while_a_command_runs() {
    let (gate, bus) = gated();
    let path = bus.path().to_owned();
    let command = begin(move || Observer::connect(&path).unwrap().control("wait"));
    gate.wait_for(1);
    let mut alice = bus.client("alice");
    assert_eq!(alice.call(b"ping").unwrap(), b"ping");
    // The next one waits for it, and its operator gives up.
    let hasty = Observer::connect_timeout(bus.path(), Duration::from_millis(200));
    let given_up = hasty.map_err(ControlError::Asking).and_then(|operator| operator.control("next"));
    assert!(matches!(given_up, Err(ControlError::Asking(RegisterError::TimedOut { .. }))), "{given_up:?}");
    assert!(!command.is_over());
    gate.open();
    assert_eq!(command.end("the command").unwrap(), "waited");
}

#[test]
fn too_many_commands_are_refused_and_the_others_run_in_turn() {
    let (gate, bus) = gated();
    let wait = |command: &'static str| {
        let path = bus.path().to_owned();
        begin(move || Observer::connect(&path).unwrap().control(command))
    };
    let first = wait("wait");
    gate.wait_for(1);
    // One runs, 16 wait, and each of the others is refused.
    let refused = Arc::new(AtomicUsize::new(0));
    let others: Vec<_> = (0..20)
        .map(|_| {
            let (path, refused) = (bus.path().to_owned(), Arc::clone(&refused));
            begin(move || match Observer::connect_timeout(&path, LIMIT).unwrap().control("x") {
                Err(ControlError::Busy) => _ = refused.fetch_add(1, Ordering::Relaxed),
                answer => assert_eq!(answer.unwrap(), "X"),
            })
        })
        .collect();
    eventually("four are refused", || refused.load(Ordering::Relaxed) == 4);
    gate.open();
    assert_eq!(first.end("the first").unwrap(), "waited");
    others.into_iter().for_each(|other| other.end("one of the others"));
    assert_eq!(refused.load(Ordering::Relaxed), 4);
}

#[test]
fn whoever_says_more_before_the_answer_is_refused() {
    let (gate, bus) = gated();
    let socket = raw::dial(bus.path());
    raw::say(&socket, &datagram(VERSION, CONTROL, b"wait"));
    gate.wait_for(1);
    raw::say(&socket, &datagram(VERSION, SERVER, b""));
    assert!(matches!(raw::hear(&socket), Heard::Reply { status: 3, .. }));
    gate.open();
    // Its answer goes nowhere, and the next command finds the thread at work.
    assert_eq!(Observer::connect(bus.path()).unwrap().control("x").unwrap(), "X");
}

#[test]
fn a_command_that_runs_at_the_end_is_answered() {
    let (gate, bus) = gated();
    let path = bus.path().to_owned();
    let runs = begin(move || Observer::connect(&path).unwrap().control("wait"));
    gate.wait_for(1);
    let mut alice = bus.client("alice");
    bus.server.shutdown();
    assert!(alice.recv().is_err(), "the shutdown has begun");
    gate.open();
    assert_eq!(runs.end("the command").unwrap(), "waited");
}

/// The command ends the server that runs it.
#[test]
fn a_command_may_shut_the_server_down() {
    let stopper = Arc::new(std::sync::OnceLock::<ringpost::Stopper>::new());
    let by_command = Arc::clone(&stopper);
    let bus = Bus::with(move |builder| {
        builder.control(move |_| {
            by_command.get().unwrap().shutdown();
            Ok("bye".into())
        })
    });
    stopper.set(bus.server.stopper()).unwrap();
    let mut alice = bus.client("alice");
    assert_eq!(Observer::connect(bus.path()).unwrap().control("stop").unwrap(), "bye");
    assert!(alice.recv().is_err());
    within_limit("the server ends", move || drop(bus));
}

/// The server's end does not wait for ever for a command.
#[test]
fn a_command_that_never_ends_holds_up_no_shutdown() {
    let (gate, bus) = gated_for(Duration::ZERO);
    let path = bus.path().to_owned();
    let command = begin(move || Observer::connect(&path).unwrap().control("wait").map(drop));
    gate.wait_for(1);
    let (_keep, path) = (Client::register(bus.path(), "alice").unwrap(), bus.path().to_owned());
    within_limit("the server ends", move || drop(bus));
    assert!(!path.exists());
    assert!(command.end("its operator is told").is_err());
    gate.open();
}
