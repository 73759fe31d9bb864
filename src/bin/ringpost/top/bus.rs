//! What `ringpost top` shows: the bus at one look, with rates since the look before.
//!
//! It is plain data, in the form in which `--json` prints it.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use ringpost::{
    ClientFigures, ClientState, Figures, Fill, Histogram, LinkFigures, ServerInfo, TopicFigures, UserFigures,
};
use serde::Serialize;

/// Durations are those of the last 5 to 10 seconds, so that what happens seldom can be seen, too.
const WINDOW: Duration = Duration::from_secs(5);

/// Two looks at the same link find beginnings that differ by less, because ages are not told at the instant
/// of the look.
const SAME: Duration = Duration::from_millis(500);

/// The bus at one look.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Bus {
    pub uptime_seconds: f64,
    /// The time since the look before. The first look has none, and so no rates.
    pub interval_seconds: Option<f64>,
    /// Whether the server measures durations.
    pub stamped: bool,
    pub server: Server,
    pub clients: Vec<Client>,
    pub links: Vec<Link>,
    pub topics: Vec<Topic>,
}

/// How often something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Count {
    pub total: u64,
    /// `None` if it was not there at the look before.
    pub per_second: Option<f64>,
}

/// How full a ring is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Ring {
    pub used: u64,
    pub size: u64,
}

/// Durations that were measured, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    pub count: u64,
    pub p50_ns: Option<u64>,
    pub p90_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    pub max_ns: Option<u64>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Server {
    pub pid: u32,
    pub version: String,
    pub clients: u32,
    pub max_clients: u32,
    pub calls: Count,
    pub messages: Count,
    pub bytes_in: Count,
    pub bytes_out: Count,
    pub registered: Count,
    pub died: Count,
    pub violations: Count,
    pub refused: Count,
    /// Of one processor.
    pub cpu_percent: Option<f64>,
    pub workers_hot: u32,
    pub workers_most: u32,
    pub users: Vec<User>,
}

/// What a user has of its quotas.
#[derive(Debug, Clone, Default, Serialize)]
pub struct User {
    pub uid: u32,
    pub asking: u32,
    pub clients: u32,
    pub ring_bytes: u64,
    pub spinning: u32,
    pub links: u32,
    pub topics: u32,
    pub subscriptions: u32,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Client {
    pub name: String,
    pub key: String,
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
    /// `live`, `serving` or `leaving`.
    pub state: String,
    /// How many links it has.
    pub links: u32,
    pub calls: Count,
    pub sent: Count,
    pub received: Count,
    pub unread: u64,
    pub bytes_in: Count,
    pub bytes_out: Count,
    pub requests: Ring,
    pub responses: Ring,
    pub inbox: Ring,
    pub waiting_senders: u32,
    /// Of one processor, by its worker.
    pub cpu_percent: Option<f64>,
    /// Of the server's service, for its calls.
    pub service: Times,
    /// How long its worker took to wake up.
    pub wake: Times,
    /// How long it took to wake up itself, as it says.
    pub own_wake: Times,
    /// Of its own service, for calls over links, as it says.
    pub link_service: Times,
    /// Samples, as it says.
    pub published: Count,
    pub taken: Count,
    pub missed: Count,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Link {
    pub caller: String,
    pub callee: String,
    pub age_seconds: f64,
    pub requests: Count,
    pub served: Count,
    pub bytes_out: Count,
    pub bytes_in: Count,
    /// Of the callee's service, on all its links, as it says.
    pub service: Times,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Topic {
    pub topic: String,
    pub publisher: String,
    pub subscriptions: u32,
    pub ring_size: u64,
    pub age_seconds: f64,
    pub samples: Count,
    pub bytes: Count,
}

/// The looks that are compared with the next one.
#[derive(Default)]
pub struct Looks {
    last: Option<Look>,
    /// From when on durations are shown, and from when on they will be.
    marks: Option<[Rc<Figures>; 2]>,
}

struct Look {
    /// Which server it was.
    server: ServerInfo,
    figures: Rc<Figures>,
}

impl Looks {
    /// Compares a look with those before, if they were at the same server.
    pub fn next(&mut self, server: ServerInfo, figures: Figures) -> Bus {
        let same = |last: &Look| {
            (last.server.pid, last.server.started) == (server.pid, server.started)
                && last.figures.uptime < figures.uptime
        };
        if !self.last.as_ref().is_some_and(same) {
            *self = Looks::default();
        }
        let now = Rc::new(figures);
        let [from, next] = self.marks.get_or_insert_with(|| [Rc::clone(&now), Rc::clone(&now)]);
        if now.uptime.saturating_sub(next.uptime) >= WINDOW {
            *from = std::mem::replace(next, Rc::clone(&now));
        }
        let then = self.last.as_ref().map(|look| &*look.figures);
        let bus = Bus::between(&server, then, from, &now);
        self.last = Some(Look { server, figures: now });
        bus
    }
}

impl Bus {
    /// Rates are those since `then`, durations those since `from`.
    fn between(server: &ServerInfo, then: Option<&Figures>, from: &Figures, now: &Figures) -> Bus {
        let seconds = then.map(|then| now.uptime.saturating_sub(then.uptime).as_secs_f64());
        let mut before = HashMap::new();
        let mut at_start = HashMap::new();
        for client in then.iter().flat_map(|then| &then.clients) {
            before.insert(client.info.key, client);
        }
        for client in &from.clients {
            at_start.insert(client.info.key, client);
        }
        let clients: Vec<Client> = now
            .clients
            .iter()
            .map(|client| {
                let key = &client.info.key;
                Client::new(client, before.get(key).copied(), at_start.get(key).copied(), seconds)
            })
            .collect();
        let services: HashMap<&str, Times> =
            clients.iter().map(|client| (client.name.as_str(), client.link_service)).collect();

        let began = |figures: &Figures, age: Duration| figures.uptime.saturating_sub(age);
        let (mut old_links, mut old_topics) = (Earlier::default(), Earlier::default());
        if let Some(then) = then {
            for link in &then.links {
                old_links.add((link.info.caller, link.info.callee), began(then, link.info.age), link);
            }
            for topic in &then.topics {
                let name = (topic.info.topic.as_str(), topic.info.publisher);
                old_topics.add(name, began(then, topic.info.age), topic);
            }
        }
        let links = now
            .links
            .iter()
            .map(|link| {
                let old = old_links.take((link.info.caller, link.info.callee), began(now, link.info.age));
                let service = services.get(link.info.callee.as_str()).copied();
                Link::new(link, old, service.unwrap_or_default(), seconds)
            })
            .collect();
        let topics = now
            .topics
            .iter()
            .map(|topic| {
                let name = (topic.info.topic.as_str(), topic.info.publisher);
                Topic::new(topic, old_topics.take(name, began(now, topic.info.age)), seconds)
            })
            .collect();
        Bus {
            uptime_seconds: rounded(now.uptime),
            interval_seconds: seconds,
            stamped: now.stamped,
            server: Server::new(server, now, then, seconds),
            clients,
            links,
            topics,
        }
    }
}

/// What has no number of its own, by its names and its beginning.
struct Earlier<'a, N, T>(HashMap<N, Vec<(Duration, &'a T)>>);

impl<N, T> Default for Earlier<'_, N, T> {
    fn default() -> Self {
        Earlier(HashMap::new())
    }
}

impl<'a, N: Hash + Eq, T> Earlier<'a, N, T> {
    fn add(&mut self, names: N, began: Duration, one: &'a T) {
        self.0.entry(names).or_default().push((began, one));
    }

    /// The one with these names whose beginning is nearest to this one.
    fn take(&mut self, names: N, began: Duration) -> Option<&'a T> {
        let all = self.0.get_mut(&names)?;
        let distance = |other: &Duration| began.abs_diff(*other);
        let nearest = (0..all.len()).min_by_key(|&at| distance(&all[at].0))?;
        (distance(&all[nearest].0) < SAME).then(|| all.swap_remove(nearest).1)
    }
}

impl Count {
    /// `then` is the count at the look before, so many seconds ago.
    fn new(total: u64, then: Option<u64>, seconds: Option<f64>) -> Count {
        let rate = |(then, seconds): (u64, f64)| total.saturating_sub(then) as f64 / seconds;
        Count { total, per_second: then.zip(seconds.filter(|seconds| *seconds > 0.0)).map(rate) }
    }

    /// Both together.
    pub fn plus(self, other: Count) -> Count {
        Count {
            total: self.total.saturating_add(other.total),
            per_second: self.per_second.zip(other.per_second).map(|(one, other)| one + other),
        }
    }
}

impl Ring {
    fn new(fill: Fill) -> Ring {
        // What a peer says it has used may be more than there is.
        Ring { used: fill.used.min(fill.size), size: fill.size }
    }

    /// From 0 to 1.
    pub fn fraction(&self) -> f64 {
        if self.size == 0 { 0.0 } else { self.used as f64 / self.size as f64 }
    }
}

impl Times {
    fn new(now: &Histogram, from: Option<&Histogram>) -> Times {
        // What was measured before the client was seen is left out.
        let Some(from) = from else { return Times::default() };
        let new = now.since(from);
        let at = |percent| {
            let time = new.percentile(percent)?;
            Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        Times { count: new.count(), p50_ns: at(50.0), p90_ns: at(90.0), p99_ns: at(99.0), max_ns: at(100.0) }
    }
}

impl Server {
    fn new(info: &ServerInfo, now: &Figures, then: Option<&Figures>, seconds: Option<f64>) -> Server {
        let (now, then) = (&now.server, then.map(|then| &then.server));
        let count = |of: fn(&ringpost::ServerFigures) -> u64| Count::new(of(now), then.map(of), seconds);
        Server {
            pid: info.pid,
            version: info.version.clone(),
            clients: info.clients,
            max_clients: info.max_clients,
            calls: count(|figures| figures.calls),
            messages: count(|figures| figures.messages),
            bytes_in: count(|figures| figures.bytes_in),
            bytes_out: count(|figures| figures.bytes_out),
            registered: count(|figures| figures.registered),
            died: count(|figures| figures.died),
            violations: count(|figures| figures.violations),
            refused: count(|figures| figures.refused),
            cpu_percent: percent(Some(now.cpu), then.map(|then| then.cpu), seconds),
            workers_hot: now.workers_hot,
            workers_most: now.workers_most,
            users: now.users.iter().map(User::new).collect(),
        }
    }
}

impl User {
    fn new(user: &UserFigures) -> User {
        let UserFigures { uid, asking, clients, ring_bytes, spinning, links, topics, subscriptions, .. } =
            *user;
        User { uid, asking, clients, ring_bytes, spinning, links, topics, subscriptions }
    }
}

impl Client {
    fn new(
        now: &ClientFigures,
        then: Option<&ClientFigures>,
        from: Option<&ClientFigures>,
        seconds: Option<f64>,
    ) -> Client {
        let info = &now.info;
        let counters = info.counters;
        let count = |of: fn(&ClientFigures) -> u64| Count::new(of(now), then.map(of), seconds);
        let times = |of: fn(&ClientFigures) -> &Histogram| Times::new(of(now), from.map(of));
        Client {
            name: info.name.to_string(),
            key: info.key.to_string(),
            pid: info.pid,
            uid: info.uid,
            gid: info.gid,
            state: match info.state {
                ClientState::Live if info.serves => "serving".to_owned(),
                state => state.to_string(),
            },
            links: info.links,
            calls: count(|client| client.info.counters.calls),
            sent: count(|client| client.info.counters.sent),
            received: count(|client| client.info.counters.received),
            unread: counters.delivered.saturating_sub(counters.received),
            bytes_in: count(|client| client.info.counters.bytes_in),
            bytes_out: count(|client| client.info.counters.bytes_out),
            requests: Ring::new(now.requests),
            responses: Ring::new(now.responses),
            inbox: Ring::new(now.inbox),
            waiting_senders: now.waiting_senders,
            cpu_percent: percent(now.cpu, then.and_then(|then| then.cpu), seconds),
            service: times(|client| &client.service),
            wake: times(|client| &client.wake),
            own_wake: times(|client| &client.own_wake),
            link_service: times(|client| &client.link_service),
            published: count(|client| client.published),
            taken: count(|client| client.taken),
            missed: count(|client| client.missed),
        }
    }
}

impl Link {
    fn new(now: &LinkFigures, then: Option<&LinkFigures>, service: Times, seconds: Option<f64>) -> Link {
        let count = |of: fn(&LinkFigures) -> u64| Count::new(of(now), then.map(of), seconds);
        Link {
            caller: now.info.caller.to_string(),
            callee: now.info.callee.to_string(),
            age_seconds: rounded(now.info.age),
            requests: count(|link| link.requests),
            served: count(|link| link.served),
            bytes_out: count(|link| link.bytes_out),
            bytes_in: count(|link| link.bytes_in),
            service,
        }
    }
}

impl Topic {
    fn new(now: &TopicFigures, then: Option<&TopicFigures>, seconds: Option<f64>) -> Topic {
        let count = |of: fn(&TopicFigures) -> u64| Count::new(of(now), then.map(of), seconds);
        Topic {
            topic: now.info.topic.to_string(),
            publisher: now.info.publisher.to_string(),
            subscriptions: now.info.subscriptions,
            ring_size: now.info.ring_size as u64,
            age_seconds: rounded(now.info.age),
            samples: count(|topic| topic.samples),
            bytes: count(|topic| topic.bytes),
        }
    }
}

/// The share of one processor, in percent.
fn percent(now: Option<Duration>, then: Option<Duration>, seconds: Option<f64>) -> Option<f64> {
    let used = now?.saturating_sub(then?).as_secs_f64();
    seconds.filter(|seconds| *seconds > 0.0).map(|seconds| used / seconds * 100.0)
}

/// In seconds, to a thousandth.
fn rounded(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ringpost::{Observer, Server};

    use super::*;

    /// A bus with clients, and an eye on it.
    struct Watched {
        _directory: tempfile::TempDir,
        path: std::path::PathBuf,
        server: Option<Server>,
        observer: Observer,
        looks: Looks,
    }

    impl Watched {
        fn new() -> Watched {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("bus");
            let server = Some(Server::builder(&path).start().unwrap());
            let observer = Observer::connect(&path).unwrap();
            Watched { _directory: directory, path, server, observer, looks: Looks::default() }
        }

        fn client(&self, name: &str) -> ringpost::Client {
            ringpost::Client::register(&self.path, name).unwrap()
        }

        fn look(&mut self) -> Bus {
            self.looks.next(self.observer.server().unwrap(), self.observer.figures().unwrap())
        }

        /// Looks until something is so.
        fn until(&mut self, wanted: impl Fn(&Bus) -> bool) -> Bus {
            let limit = Instant::now() + Duration::from_secs(30);
            loop {
                let bus = self.look();
                if wanted(&bus) {
                    return bus;
                }
                assert!(Instant::now() < limit, "{bus:?}");
            }
        }
    }

    /// How often it happened since the look before.
    fn since(count: Count, bus: &Bus) -> u64 {
        (count.per_second.unwrap() * bus.interval_seconds.unwrap()).round() as u64
    }

    #[test]
    fn a_rate_is_what_was_done_between_two_looks() {
        let mut bus = Watched::new();
        let mut alice = bus.client("alice");
        alice.call(b"before").unwrap();
        alice.caller().statistics().unwrap(); // the calls before are reported
        let first = bus.look();
        assert_eq!(first.interval_seconds, None);
        assert_eq!(first.clients[0].calls, Count { total: 1, per_second: None });
        for _ in 0..7 {
            alice.call(b"more").unwrap();
        }
        alice.caller().statistics().unwrap(); // the calls before are reported
        let second = bus.look();
        let calls = second.clients[0].calls;
        assert_eq!((calls.total, since(calls, &second)), (8, 7));
        let third = bus.look();
        assert_eq!(third.clients[0].calls, Count { total: 8, per_second: Some(0.0) });
    }

    #[test]
    fn a_client_that_came_anew_is_not_the_old_one() {
        let mut bus = Watched::new();
        let mut alice = bus.client("alice");
        alice.call(b"x").unwrap();
        alice.caller().statistics().unwrap(); // the calls before are reported
        bus.look();
        alice.unregister().unwrap();
        let mut alice = bus.client("alice");
        alice.call(b"x").unwrap();
        alice.caller().statistics().unwrap(); // the calls before are reported
        let anew = bus.look();
        assert_eq!(anew.clients[0].calls, Count { total: 1, per_second: None });
        assert!(anew.server.registered.total <= 2);
        assert_eq!(bus.look().clients[0].calls.per_second, Some(0.0));
    }

    #[test]
    fn another_server_is_compared_with_nothing() {
        let mut bus = Watched::new();
        bus.look();
        assert!(bus.look().interval_seconds.is_some());
        let first = bus.server.take().unwrap();
        first.shutdown();
        first.join();
        bus.server = Some(Server::builder(&bus.path).start().unwrap());
        assert_eq!(bus.look().interval_seconds, None);
    }

    #[test]
    fn links_and_topics_of_the_same_names_are_told_apart() {
        let (old, new) = ("old", "new");
        let mut earlier = Earlier::default();
        let at = Duration::from_secs;
        earlier.add("a", at(10), &new);
        earlier.add("a", at(5), &old);
        assert_eq!(earlier.take("b", at(5)), None);
        assert_eq!(earlier.take("a", at(5) + Duration::from_millis(3)), Some(&"old"));
        assert_eq!(earlier.take("a", at(5)), None, "it was taken, and the other is another");
        assert_eq!(earlier.take("a", at(10)), Some(&"new"));
    }

    #[test]
    fn links_and_topics_have_their_clients() {
        let mut bus = Watched::new();
        let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
        let _serving =
            bob.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
        let mut link = alice.connect("bob").unwrap();
        let mut topic = alice.publish("prices/AAPL").unwrap();
        bus.look();
        link.call(b"ping").unwrap();
        topic.send(b"201.5").unwrap();
        let shown = bus.until(|bus| bus.links.len() == 1 && bus.topics.len() == 1);
        assert_eq!((shown.links[0].caller.as_str(), shown.links[0].callee.as_str()), ("alice", "bob"));
        assert_eq!(
            (shown.topics[0].topic.as_str(), shown.topics[0].publisher.as_str()),
            ("prices/AAPL", "alice")
        );
        let bob = shown.clients.iter().find(|client| client.name == "bob").unwrap();
        assert_eq!((bob.state.as_str(), bob.links), ("serving", 1));
    }

    #[test]
    fn counts_that_shrink_and_rings_that_overflow_are_only_numbers() {
        assert_eq!(Count::new(1, Some(5), Some(2.0)).per_second, Some(0.0));
        assert_eq!(Count::new(u64::MAX, Some(0), Some(0.0)).per_second, None);
        let huge = Count { total: u64::MAX, per_second: Some(1e300) };
        assert_eq!(huge.plus(huge).total, u64::MAX);
        assert_eq!(Ring { used: 9, size: 0 }.fraction(), 0.0);
        let second = Duration::from_secs(1);
        assert_eq!(percent(Some(second), Some(2 * second), Some(1.0)), Some(0.0));
        assert_eq!(percent(Some(3 * second), Some(2 * second), Some(2.0)), Some(50.0));
    }
}
