//! Tests of `ringpost-server --metrics`: what is scraped is true and well formed, and who asks wrongly,
//! slowly or too often hinders nobody.

use crate::common::{LIMIT, Place, becomes, eventually};
use crate::program::*;
use ringpost::Client;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A server with a log, and where its metrics are: `127.0.0.1:PORT`.
struct Scraped {
    server: Program,
    place: Place,
    address: String,
}

impl Scraped {
    fn start(more: &[&str]) -> Scraped {
        let place = Place::new();
        let log = place.directory.path().join("log");
        let options = ["--metrics", "127.0.0.1:0", "--log-file", text(&log)];
        let server = start_server(&place, &[&options, more].concat());
        let found = || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let (_, rest) = log.split_once(" metrics address=http://")?;
            Some(rest.split_once("/metrics\n")?.0.to_owned())
        };
        eventually("the log says where", || found().is_some());
        Scraped { server, address: found().unwrap(), place }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// The values on a page.
    fn values(&self, page: &str) -> BTreeMap<String, f64> {
        values(&body(&get(self.connect(), page)))
    }
}

/// Sends this, and returns the whole answer.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(stream: impl Read + Write, page: &str) -> String {
    ask(stream, &format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// The body of an answer, whose length must be as its head says.
fn body(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(length.parse(), Ok(body.len()), "{head}");
    body.to_owned()
}

/// The values by name and labels. Checks the form of each line: Prometheus's text format, in which each
/// metric has its lines together, behind what it is and of which type.
fn values(text: &str) -> BTreeMap<String, f64> {
    let (mut values, mut seen, mut now) = (BTreeMap::new(), BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap();
            assert!(!text.is_empty() && seen.insert(name.to_owned()), "{line}");
            name.clone_into(&mut now);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!([format!("{now} counter"), format!("{now} gauge")].contains(&rest.to_owned()), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(name, now, "{line}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            assert!(labels.ends_with('}'), "{line}");
            assert!(values.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    values
}

#[test]
fn what_is_scraped_is_what_was_done() {
    let scraped = Scraped::start(&["--max-clients", "9", "--quota", "topics=5"]);
    let path = &scraped.place.path;
    let mut alice = Client::register(path, "alice \"quoted\"").unwrap();
    let mut bob = Client::register(path, "bob").unwrap();
    for _ in 0..3 {
        assert_eq!(alice.call(b"four").unwrap(), b"four");
    }
    alice.send("bob", b"hello").unwrap();
    let mut topic = bob.publish("prices").unwrap();
    topic.send(b"1").unwrap();
    let _serving =
        bob.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
    let mut link = alice.connect("bob").unwrap();
    link.call(b"x").unwrap();
    alice.caller().ping().unwrap();
    let of = |name: &str| scraped.values("/metrics").get(name).copied();
    becomes("the calls are counted", || of("ringpost_calls_total"), &Some(3.0));
    becomes("the message is counted", || of("ringpost_messages_total"), &Some(1.0));
    let all = scraped.values("/metrics");
    for (name, value) in [
        ("ringpost_clients", 2.0),
        ("ringpost_clients_most", 9.0),
        ("ringpost_registrations_total", 2.0),
        ("ringpost_deaths_total", 0.0),
        ("ringpost_links", 1.0),
        ("ringpost_topics", 1.0),
        ("ringpost_quota_topics", 5.0),
    ] {
        assert_eq!(all.get(name), Some(&value), "{name}");
    }
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(all.get(&format!("ringpost_user_clients{{uid=\"{uid}\"}}")), Some(&2.0));
    assert!(all["ringpost_ring_used_bytes{ring=\"inbox\"}"] > 0.0, "the message lies there");
    assert!(all["ringpost_uptime_seconds"] > 0.0 && !all.keys().any(|name| name.contains("alice")));

    let each = scraped.values("/metrics/clients");
    assert_eq!(each["ringpost_client_calls_total{client=\"alice \\\"quoted\\\"\"}"], 3.0);
    assert_eq!(each["ringpost_client_delivered_total{client=\"bob\"}"], 1.0);
    assert_eq!(each["ringpost_topic_samples_total{topic=\"prices\",publisher=\"bob\"}"], 1.0);
    assert_eq!(each["ringpost_left_out{what=\"clients\"}"], 0.0);
    // Who has left is not there any more; what they did is.
    drop((link, topic, alice, bob));
    becomes("they have left", || of("ringpost_clients"), &Some(0.0));
    assert_eq!(of("ringpost_calls_total"), Some(3.0));
    let left = || scraped.values("/metrics/clients").keys().any(|name| name.contains("client=\""));
    eventually("nothing of them is told", || !left());
    scraped.server.signal(Signal::TERM);
    scraped.server.end().well();
}

/// The page lists what is told, and nothing else.
#[test]
fn the_document_lists_all_metrics() {
    let scraped = Scraped::start(&[]);
    let _alice = Client::register(&scraped.place.path, "alice").unwrap();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).unwrap();
    let mut listed = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `ringpost_")) {
        let names: Vec<&str> = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        let stem = names[0].rsplit_once('_').unwrap().0;
        for name in &names {
            let name = if name.starts_with('_') { format!("{stem}{name}") } else { (*name).to_owned() };
            for kind in ["service", "worker_wake", "client_wake", "link_service"] {
                listed.insert(name.replace("KIND", kind));
            }
        }
    }
    let told: BTreeSet<String> = ["/metrics", "/metrics/clients"]
        .iter()
        .flat_map(|page| {
            let text = body(&get(scraped.connect(), page));
            text.lines()
                .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<_> = told.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/METRICS.md does not list {missing:?}");
    // A metric without a value, such as those of links where there are none, is not told.
    let unknown: Vec<_> = listed.difference(&told).filter(|name| !is_of_none(name)).collect();
    assert!(unknown.is_empty(), "docs/METRICS.md lists what is not told: {unknown:?}");
}

fn is_of_none(name: &str) -> bool {
    let prefixes = ["ringpost_link_", "ringpost_topic_"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) && !name.starts_with("ringpost_link_service_")
        || name.starts_with("ringpost_client_")
            && name.ends_with("_seconds")
            && name != "ringpost_client_cpu_seconds"
}

#[test]
fn who_asks_wrongly_is_told_and_who_asks_slowly_hinders_nobody() {
    let scraped = Scraped::start(&[]);
    let status =
        |request: &str| ask(scraped.connect(), request).lines().next().unwrap_or_default().to_owned();
    assert_eq!(status("GET /nothing HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(status("DELETE /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status("nonsense\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(
        status("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        "HTTP/1.1 421 Misdirected Request"
    );
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let mut stream = scraped.connect();
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    // The rest of the request may be answered with a reset.
    let _ = stream.read_to_end(&mut answer);
    let head = get(scraped.connect(), "/");
    assert!(head.contains("/metrics/clients"), "{head}");
    let only_head = ask(scraped.connect(), "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(only_head.starts_with("HTTP/1.1 200 OK\r\n") && only_head.ends_with("\r\n\r\n"), "{only_head}");

    // More than there is room for connect and say nothing, or half of it, or do not read.
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = scraped.connect();
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHos");
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        assert!(scraped.values("/metrics").contains_key("ringpost_clients"));
    }
    let mut alice = Client::register(&scraped.place.path, "alice").unwrap();
    assert_eq!(alice.call(b"x").unwrap(), b"x");
    drop(idle);
}

/// A connection that says nothing is closed after a while, whoever else is there.
#[test]
fn who_says_nothing_is_cut_off() {
    let scraped = Scraped::start(&[]);
    let mut rest = Vec::new();
    let mut stream = scraped.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert_eq!(rest, b""),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_unix_socket_is_for_the_servers_user_and_group_and_is_removed() {
    let place = Place::new();
    let path = place.directory.path().join("metrics");
    let address = format!("unix:{}", text(&path));
    for end in [Signal::KILL, Signal::TERM] {
        let server = start_server(&place, &["--metrics", &address]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let scrape = || values(&body(&get(UnixStream::connect(&path).unwrap(), "/metrics")));
        assert_eq!(scrape()["ringpost_clients"], 0.0);
        // Another server does not take it away.
        let other = Place::new();
        let why = run(SERVER, &["--socket", text(&other.path), "--metrics", &address]).failed();
        assert!(why.contains("--metrics: cannot listen at unix:") && other.is_clean(), "{why}");
        assert_eq!(scrape()["ringpost_clients"], 0.0);
        server.signal(end);
        drop(server.end());
        // What a killed one leaves, the next one replaces.
        assert_eq!(path.exists(), end == Signal::KILL);
    }
    assert!(place.is_clean());
}

#[test]
fn metrics_are_served_where_it_is_said_and_a_change_needs_a_new_start() {
    let place = Place::new();
    let refused = |at: &str| run(SERVER, &["--socket", text(&place.path), "--metrics", at]).refused(2);
    assert!(refused("0.0.0.0:0").contains("public:0.0.0.0:0"));
    assert!(refused("9464").contains("127.0.0.1:9464"));
    assert!(refused(&format!("unix:{}", text(&place.path))).contains("the path of the socket"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let why = run(SERVER, &["--socket", text(&place.path), "--metrics", &at]).failed();
    assert!(why.contains(&at) && why.contains("choose another one"), "{why}");
    assert!(place.is_clean());

    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("bus.toml");
    let metrics = format!("unix:{}", text(&directory.path().join("metrics")));
    fs::write(&config, format!("metrics = {metrics:?}\n")).unwrap();
    let server = start_server(&place, &["--config", text(&config)]);
    UnixStream::connect(directory.path().join("metrics")).unwrap();
    fs::write(&config, "metrics = \"127.0.0.1:1\"\n").unwrap();
    let answer = run(CLIENT, &["reload", "--socket", text(&place.path)]).quiet();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.ends_with("; after a new start also metrics\n"), "{answer}");
    let public = Place::new();
    let open = start_server(&public, &["--metrics", "public:127.0.0.1:0"]);
    for server in [server, open] {
        server.signal(Signal::TERM);
        server.end().well();
    }
}
