//! A subscriber of the embedding program that panics: in the middle of a worker, outside of any service.

use crate::common::role::{Role, say};
use crate::common::{Bus, eventually};
use ringpost::{Client, CloseReason, SendError};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Panics at the first message that is logged.
struct Shaky(AtomicBool);

impl Subscriber for Shaky {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() == Level::DEBUG && !self.0.swap(true, Ordering::Relaxed) {
            panic!("a log that panics");
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

pub fn serve_with_a_log_that_panics() {
    tracing::subscriber::set_global_default(Shaky(AtomicBool::new(false))).unwrap();
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    assert_eq!(alice.send(bob.key(), b"x"), Err(SendError::Disconnected(CloseReason::Died)));
    eventually("its name is free", || Client::register(bus.path(), "alice").is_ok());
    assert_eq!(bob.call(b"y").unwrap(), b"y");
    let mut carol = bus.client("carol");
    carol.send(bob.key(), b"z").unwrap();
    assert_eq!(bob.recv().unwrap().payload(), b"x", "what was delivered before the panic is there");
    assert_eq!(bob.recv().unwrap().payload(), b"z");
    // Nobody waits for the worker that is gone.
    assert_eq!(bus.server.join_after_shutdown().abandoned, 0);
    say("served");
}

#[test]
fn a_log_that_panics_ends_one_client_and_nobody_waits_for_it() {
    let mut server = Role::start("panicking log", &[]);
    server.hear("served");
    assert!(server.end().success());
}
