//! What the server's log says of refusals and of another access.

use super::common::{Bus, Place, eventually};
use super::{closed, only, with_rules};
use ringpost::{Act, Client, Server};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Level, Metadata, Subscriber};

type Fields = BTreeMap<String, String>;

/// Keeps the fields of each event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Fields>>>);

#[derive(Default)]
struct Seen(Fields);

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.0.insert(field.name().to_owned(), text.trim_matches('"').to_owned());
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        self.0.lock().unwrap().push(seen.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Log {
    /// A server whose events come here.
    fn serve(&self, access: ringpost::Access) -> Bus {
        let place = Place::new();
        let start = || Server::builder(&place.path).access(access).start().unwrap();
        let server = with_default(self.clone(), start);
        Bus { server, place }
    }

    /// The texts of a kind of events, of one reason if they have any.
    fn texts(&self, event: &str, field: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let its = all.iter().filter(|fields| fields.get("event").is_some_and(|found| found == event));
        its.filter_map(|fields| fields.get(field).cloned()).collect()
    }
}

#[test]
fn each_refusal_is_an_event_that_says_who_may_not_do_what() {
    let log = Log::default();
    let acts = [Act::Serve, Act::Call, Act::Send, Act::Publish, Act::Subscribe];
    let bus = log.serve(with_rules([closed(&[Act::Register], &["admin"]), closed(&acts, &["alice", "bob"])]));
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    assert!(Client::register(bus.path(), "admin").is_err());
    assert!(alice.listen().is_err() && bob.connect("alice").is_err() && bob.send("alice", b"x").is_err());
    assert!(alice.publish("bob").is_err() && alice.subscribe("bob").is_err());
    let expected = [
        "may not register as \\\"admin\\\"",
        "may not serve calls as \\\"alice\\\"",
        "may not call \\\"alice\\\"",
        "may not send messages to \\\"alice\\\"",
        "may not publish \\\"bob\\\"",
        "may not subscribe to \\\"bob\\\"",
    ];
    eventually("all refusals are told", || log.texts("refused", "error").len() >= expected.len());
    let found = log.texts("refused", "error");
    for what in expected {
        let plain = what.replace('\\', "");
        let times = found.iter().filter(|text| text.contains(what) || text.contains(&plain)).count();
        assert_eq!(times, 1, "{what} in {found:?}");
    }
    assert_eq!(log.texts("refused", "reason"), ["rule"; 6]);
    assert_eq!(log.texts("refused", "uid").len(), 6);
}

/// A client that goes on asking for what is closed does not fill the log.
#[test]
fn a_flood_of_refusals_is_counted() {
    let log = Log::default();
    let bus = log.serve(with_rules([closed(&[Act::Send], &["*"])]));
    let [mut alice, bob] = ["alice", "bob"].map(|name| bus.client(name));
    for _ in 0..3000 {
        assert!(alice.send(bob.key(), b"x").is_err());
    }
    eventually("what was left out is told", || !log.texts("left_out", "events").is_empty());
    let told = || log.texts("refused", "reason").len();
    eventually("the first ones are told", || told() >= 100);
    assert!(told() < 1500, "{}", told());
}

/// Events for which nobody listens at one server are still told of another. `tracing` would note for the
/// whole process that nobody wants them, if the first one were emitted on a thread without a subscriber.
#[test]
fn a_server_without_a_subscriber_takes_nothing_from_anothers_log() {
    let log = Log::default();
    let rules = || with_rules([closed(&[Act::Register], &["admin"])]);
    let bus = log.serve(rules());
    let place = Place::new();
    let unheard = Server::builder(&place.path).access(rules()).start().unwrap();
    assert!(Client::register(&place.path, "admin").is_err());
    // Its events are handed over before it ends.
    drop(unheard);
    assert!(Client::register(bus.path(), "admin").is_err());
    eventually("the refusal is told", || log.texts("refused", "reason") == ["rule"]);
}

#[test]
fn another_access_is_an_event_with_the_number_of_those_who_would_not_be_let_in() {
    let log = Log::default();
    let bus = log.serve(with_rules([]));
    let _clients = ["alice", "admin 1", "admin 2"].map(|name| bus.client(name));
    let mut access =
        with_rules([closed(&[Act::Register], &["admin*"]), only(&[Act::Register], &["*2"], &["admin*"])]);
    (access.users, access.groups) = (vec![1000, 1001], vec![1002]);
    bus.server.access_control().replace(access).unwrap();
    eventually("it is told", || !log.texts("access", "strangers").is_empty());
    let found = ["rules", "users", "groups", "strangers"].map(|field| log.texts("access", field));
    assert_eq!(found.concat(), ["2", "2", "1", "1"]);
}
