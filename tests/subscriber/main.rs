//! Tests of `tracing` subscribers in a server's process: whatever one does, the server's clients are
//! unaffected.
//!
//! A process has one global subscriber, so each case runs in a separate process.

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod kinds;
mod spans;

use common::role::Role;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, _stage)) = common::role::role() else { return };
    match role.as_str() {
        "panics" => cases::panics(),
        "is stuck" => cases::is_stuck(),
        "registers" => cases::registers(),
        "drops the server" => cases::drops_the_server(),
        "joins the server" => cases::joins_the_server(),
        "stops the server" => cases::stops_the_server(),
        "comes late" => cases::comes_late(),
        "is slow" => cases::is_slow(),
        "wants no messages" => cases::wants_no_messages(),
        "wants spans" => spans::carry_the_caller(),
        "panics at new spans" => spans::panics_there(&["new_span"]),
        "panics in spans" => spans::panics_there(&["enter"]),
        "panics behind spans" => spans::panics_there(&["exit", "try_close"]),
        other => panic!("no role {other:?}"),
    }
}

fn play(role: &str) {
    let mut server = Role::start(role, &[]);
    server.hear("done");
    assert!(server.end().success());
}

#[test]
fn one_that_panics_ends_nobody() {
    play("panics");
}

#[test]
fn one_that_never_returns_delays_nobody() {
    play("is stuck");
}

#[test]
fn one_that_registers_a_client_of_the_server_gets_one() {
    play("registers");
}

#[test]
fn one_that_drops_the_server_does_not_wait_for_itself() {
    play("drops the server");
}

#[test]
fn one_that_joins_the_server_does_not_wait_for_itself() {
    play("joins the server");
}

#[test]
fn one_that_stops_the_server_hears_of_the_rest() {
    play("stops the server");
}

#[test]
fn one_that_comes_after_the_server_hears_all_on_one_thread() {
    play("comes late");
}

#[test]
fn one_that_is_slow_is_told_how_many_events_it_missed() {
    play("is slow");
}

#[test]
fn one_that_wants_no_messages_is_asked_again_now_and_then() {
    play("wants no messages");
}

#[test]
fn one_that_wants_spans_gets_one_around_each_call() {
    play("wants spans");
}

#[test]
fn one_that_panics_around_a_call_harms_no_call() {
    play("panics at new spans");
    play("panics in spans");
    play("panics behind spans");
}

/// Runs in the main process, because it sets no global subscriber.
#[test]
fn one_of_the_starting_thread_only_hears_of_that_server_only() {
    cases::of_one_thread();
}
