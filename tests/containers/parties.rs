//! The roles of a bus, and what each of them was told of calls that the system refuses.

use super::common::role::{Stage, say, setting};
use super::common::server::as_set;
use super::common::{LIMIT, eventually};
use ringpost::{Change, Client, Subscriber, VanishReason, WaitStrategy};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata};

fn register(name: &str) -> Client {
    tracing::subscriber::set_global_default(Told).unwrap();
    let path: PathBuf = setting("PATH").unwrap();
    // All that can sleep does, at once.
    Client::builder(path).timeout(LIMIT).wait(WaitStrategy::Park).register(name).unwrap()
}

pub fn serve(stage: &Stage) {
    tracing::subscriber::set_global_default(Told).unwrap();
    let server = as_set().wait(WaitStrategy::Park).start().unwrap();
    say("ready");
    obey(stage, |order| match order {
        "clients" => say(format_args!("clients {}", server.info().clients)),
        other => panic!("{other:?}"),
    });
    let summary = server.join_after_shutdown();
    say(format_args!("ended violations={}", summary.violations));
}

/// Serves links and publishes.
pub fn alice(stage: &Stage) {
    let mut alice = register("alice");
    let _serving = alice.listen().unwrap().serve(|request, response| response.write(request.payload()));
    let mut publisher = alice.publish("a/b").unwrap();
    say("ready");
    obey(stage, |order| match order {
        "publish" => {
            publisher.send(b"sample").unwrap();
            say("published");
        }
        "receive" => say(format_args!("got {:?}", alice.recv_timeout(LIMIT).unwrap().payload())),
        other => panic!("{other:?}"),
    });
}

/// Calls, sends, subscribes, and follows who comes and goes.
pub fn bob(stage: &Stage) {
    let mut bob = register("bob");
    assert_eq!(bob.call(b"to the server").unwrap(), b"to the server");
    let mut link = bob.connect("alice").unwrap();
    let mut sub: Subscriber = bob.subscribe("a/*").unwrap();
    let mut presence = bob.presence().unwrap();
    for _ in ["alice", "bob"] {
        assert!(matches!(presence.recv_timeout(LIMIT).unwrap(), Change::Present(_)));
    }
    say("ready");
    obey(stage, |order| match order {
        "call" => {
            assert_eq!(bob.call(b"again").unwrap(), b"again");
            assert_eq!(link.call(b"to alice").unwrap(), b"to alice");
            say("called");
        }
        "send" => {
            let to = bob.look_up("alice").unwrap().unwrap();
            bob.send(to, b"message").unwrap();
            say("sent");
        }
        "take" => say(format_args!("took {:?}", sub.recv_timeout(LIMIT).unwrap().payload())),
        // Alice has been killed.
        "mourn" => {
            eventually("the link has ended", || link.call(b"x").is_err_and(|error| error.is_disconnected()));
            eventually("the topic has ended", || {
                let _ = sub.try_recv();
                sub.publishers().is_empty()
            });
            match presence.recv_timeout(LIMIT).unwrap() {
                Change::Vanished { peer, reason: VanishReason::Died } => assert_eq!(peer.name, "alice"),
                other => panic!("{other:?}"),
            }
            say("mourned");
        }
        other => panic!("{other:?}"),
    });
}

/// Follows orders until the last one.
fn obey(stage: &Stage, mut follow: impl FnMut(&str)) {
    loop {
        match stage.order().as_str() {
            "end" => return,
            "told" => say(format_args!("told {}", TOLD.lock().unwrap().join(","))),
            order => follow(order),
        }
    }
}

/// The calls without which this process was told to go on.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Told;

#[derive(Default)]
struct Fields {
    event: String,
    call: String,
    instead: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let place = match field.name() {
            "event" => &mut self.event,
            "call" => &mut self.call,
            "instead" => &mut self.instead,
            _ => return,
        };
        *place = format!("{value:?}").trim_matches('"').to_owned();
    }
}

impl tracing::Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.event == "fall_back" {
            assert!(!fields.instead.is_empty());
            TOLD.lock().unwrap().push(fields.call);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
