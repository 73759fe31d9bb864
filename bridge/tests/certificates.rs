//! Mutual TLS: who may join, and as whom.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Bridge, Bus, LONG, bridge, endpoint};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ringpost::Key;
use serde_json::json;

/// An authority, with a directory for certificates.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { directory, issuer: Issuer::new(params, key) }
    }

    /// Issues a certificate for a node. Returns the options of its bridge.
    fn issue(&self, node: &str) -> Vec<String> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, node);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{node}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{node}.key")), key.serialize_pem()).unwrap();
        let files = [
            ("--ca", "ca.pem".into()),
            ("--certificate", format!("{node}.pem")),
            ("--key", format!("{node}.key")),
        ];
        files.iter().flat_map(|(option, file)| [(*option).to_owned(), text(&self.file(file))]).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn secured(node: &str, other: &str, bus: &Bus, network: [&str; 2], files: &[String]) -> Bridge {
    let arguments: Vec<&str> = network.into_iter().chain(files.iter().map(String::as_str)).collect();
    bridge(node, other, bus, &arguments, &["**"])
}

#[test]
fn nodes_with_certificates_meet_and_others_get_nothing() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let (a, b, at) = (Bus::start(), Bus::start(), endpoint("tls"));
    let mut bridge_a = secured("a", "b", &a, ["--listen", &at], &authority.issue("a"));
    bridge_a.says("joined the server");

    // The same name, but of another authority; and no certificate at all.
    let other = Bus::start();
    let _impostor = other.client("bob");
    let _refused = secured("b", "a", &other, ["--connect", &at], &foreign.issue("b"));
    let plain = at.replace("tls/", "tcp/");
    let _plain = bridge("b", "a", &other, &["--connect", &plain], &["**"]);
    // A certificate of the authority, for a node that is not allowed, which poses as b.
    let files = authority.issue("c");
    let poser = Poser::connect(&at, &files);
    poser.claims("b", &["bob"]);

    let mut bridge_b = secured("b", "a", &b, ["--connect", &at], &authority.issue("b"));
    bridge_b.says("knows this node as b");
    let (mut alice, mut bob) = (a.client("alice"), b.client("bob"));
    alice.wait_for("bob@b", LONG).unwrap();
    bob.wait_for("alice@a", LONG).unwrap();
    // It is the bob of the node whose name the certificate has.
    alice.send("bob@b", b"to the true one").unwrap();
    assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"to the true one");
    assert!(poser.hears_nothing("a"), "a node that is not allowed must hear nothing");
}

#[test]
fn an_allowed_node_speaks_for_itself_only() {
    let authority = Authority::new();
    let (a, b, at) = (Bus::start(), Bus::start(), endpoint("tls"));
    let mut files = authority.issue("a");
    files.extend(["--allow".into(), "c".into()]);
    let mut bridge_a = secured("a", "b", &a, ["--listen", &at], &files);
    bridge_a.says("joined the server");
    let mut alice = a.client("alice");
    let poser = Poser::connect(&at, &authority.issue("c"));
    // Its own name works; so what is said for b below has arrived, too.
    poser.claims("b", &["bob", "eve"]);
    poser.offers_to_answer_for("b");
    poser.claims("c", &["carol"]);
    alice.wait_for("carol@c", LONG).unwrap();
    let mut bridge_b = secured("b", "a", &b, ["--connect", &at], &authority.issue("b"));
    bridge_b.says("knows this node as b");
    let mut bob = b.client("bob");
    alice.wait_for("bob@b", LONG).unwrap();
    bob.wait_for("alice@a", LONG).unwrap();
    alice.send("bob@b", b"not to c").unwrap();
    assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"not to c");
    assert_eq!(alice.look_up("eve@b").unwrap(), None, "c must not give names of b");
}

#[test]
fn calls_over_a_link_are_between_two_nodes() {
    let authority = Authority::new();
    let (a, b, at) = (Bus::start(), Bus::start(), endpoint("tls"));
    let mut files = authority.issue("a");
    files.extend(["--allow".into(), "c".into()]);
    let mut bridge_a = secured("a", "b", &a, ["--listen", &at], &files);
    bridge_a.says("joined the server");
    let mut bridge_b = secured("b", "a", &b, ["--connect", &at], &authority.issue("b"));
    bridge_b.says("knows this node as b");
    let (mut alice, mut bob) = (a.client("alice"), b.client("bob"));
    let (called, of_called) = std::sync::mpsc::channel();
    let (free, of_free) = std::sync::mpsc::channel();
    let of_free = std::sync::Mutex::new(of_free);
    let serves = bob.listen().unwrap().serve(move |_, response| {
        called.send(()).unwrap();
        of_free.lock().unwrap().recv().unwrap();
        response.write(b"from bob")
    });
    let _serves = serves.unwrap();
    alice.wait_for("bob@b", LONG).unwrap();
    bridge_a.says("bob@b is here");
    let poser = Poser::connect(&at, &authority.issue("c"));
    poser.claims("c", &[]);
    let heard = poser.listens(&["ringpost/1/b/from/a/link", "ringpost/1/a/from/b/link"]);
    let instance = poser.instance_of("a");
    let mut link = alice.connect("bob@b").unwrap();
    link.submit(b"who are you?").unwrap();
    of_called.recv_timeout(LONG).unwrap();
    for number in 0..100_u64 {
        let numbers = [instance, number, 1].map(u64::to_le_bytes).concat();
        poser.puts("ringpost/1/a/from/b/link", &[&numbers[..], b"\x02from carol"].concat());
    }
    // What it said before has arrived, and what was told to it.
    poser.asks("ringpost/1/a/from/c/claim");
    free.send(()).unwrap();
    assert_eq!(&*link.response().unwrap(), b"from bob");
    assert_eq!(heard.try_iter().next(), None, "c must not hear what a and b say");
}

/// A call that is missing, or comes again, ends its link: none is passed on late, or twice.
#[test]
fn calls_are_passed_on_by_their_numbers_only() {
    let (a, at) = (Bus::start(), endpoint("tcp"));
    let mut bridge_a = bridge("a", "c", &a, &["--listen", &at], &["**"]);
    bridge_a.says("joined the server");
    let mut bob = a.client("bob");
    let (called, of_called) = std::sync::mpsc::channel();
    let serves = bob.listen().unwrap().serve(move |request, response| {
        called.send(request.payload().to_vec()).unwrap();
        response.write(request.payload())
    });
    let _serves = serves.unwrap();
    let poser = Poser::connect(&at, &[]);
    poser.claims("c", &["carol"]);
    bridge_a.says("carol@c is here");
    let heard = poser.listens(&["ringpost/1/c/from/a/link"]);
    for (link, wrong) in [0_u64, 1, 3, u64::MAX].into_iter().enumerate() {
        let numbers = |sequence| [1, link as u64, sequence].map(u64::to_le_bytes).concat();
        let open = [&numbers(1000)[..], &bob.key().to_bytes(), b"\x05carol"].concat();
        let ended = poser.keeps_asking("ringpost/1/a/from/c/open", open);
        let call = |sequence, text: &[u8]| {
            poser.puts("ringpost/1/a/from/c/link", &[&numbers(sequence)[..], b"\0", text].concat());
        };
        call(1, b"first");
        assert_eq!(of_called.recv_timeout(LONG).unwrap(), b"first");
        call(wrong, b"wrong");
        call(2, b"later");
        ended();
    }
    assert!(of_called.try_iter().next().is_none(), "a call was passed on that has another number");
    assert!(heard.try_iter().count() <= 4, "there are more answers than calls");
}

#[test]
fn a_certificate_for_another_node_or_none_is_told_at_the_start() {
    let (authority, bus, at) = (Authority::new(), Bus::start(), endpoint("tls"));
    let mut wrong = secured("a", "b", &bus, ["--listen", &at], &authority.issue("b"));
    wrong.says("is for the node \"b\", and this is a");
    assert_eq!(wrong.end().code(), Some(1));
    let mut files = authority.issue("a");
    files[3] = text(&authority.file("nowhere.pem"));
    let mut none = secured("a", "b", &bus, ["--listen", &at], &files);
    none.says("nowhere.pem");
    assert_eq!(none.end().code(), Some(1));
}

/// A program with a certificate that keeps to no rule.
struct Poser {
    runtime: tokio::runtime::Runtime,
    session: zenoh::Session,
    tokens: std::cell::RefCell<Vec<zenoh::liveliness::LivelinessToken>>,
}

impl Poser {
    fn connect(endpoint: &str, files: &[String]) -> Poser {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut config = zenoh::Config::default();
        let mut set =
            |key: &str, value: serde_json::Value| config.insert_json5(key, &value.to_string()).unwrap();
        set("mode", json!("peer"));
        set("listen/endpoints", json!([]));
        set("connect/endpoints", json!([endpoint]));
        set("scouting/multicast/enabled", json!(false));
        if !files.is_empty() {
            set(
                "transport/link/tls",
                json!({
                    "root_ca_certificate": files[1],
                    "enable_mtls": true,
                    "connect_certificate": files[3],
                    "connect_private_key": files[5],
                    "verify_name_on_connect": false,
                }),
            );
        }
        let session = runtime.block_on(async { zenoh::open(config).await }).unwrap();
        Poser { runtime, session, tokens: Vec::new().into() }
    }

    /// Says that it is a node, and that these clients are there.
    fn claims(&self, node: &str, clients: &[&str]) {
        let key = Key::from_bytes([0xAB; 16]);
        let clients = clients.iter().map(|name| format!("client/*/{name}/{key}"));
        for what in std::iter::once("node".to_owned()).chain(clients) {
            let token = format!("ringpost/1/{node}/0000000000000001/{what}");
            let token = self.runtime.block_on(async { self.session.liveliness().declare_token(token).await });
            self.tokens.borrow_mut().push(token.unwrap());
        }
    }

    /// Takes questions for a node, and drops them.
    fn offers_to_answer_for(&self, node: &str) {
        self.runtime.block_on(async {
            let queryable = self.session.declare_queryable(format!("ringpost/1/{node}/**")).complete(true);
            queryable.callback(drop).background().await.unwrap();
        });
    }

    /// Hears what is said to these keys, from the time at which the other node knows.
    fn listens(&self, keys: &[&'static str]) -> std::sync::mpsc::Receiver<String> {
        let (sender, heard) = std::sync::mpsc::channel();
        for &key in keys {
            let sender = sender.clone();
            let hears = move |_| _ = sender.send(key.to_owned());
            self.runtime.block_on(async {
                self.session.declare_subscriber(key).callback(hears).background().await.unwrap();
            });
        }
        self.asks("ringpost/1/a/from/c/claim");
        heard
    }

    fn puts(&self, key: &str, bytes: &[u8]) {
        let put = self.session.put(key, bytes).congestion_control(zenoh::qos::CongestionControl::Block);
        let put = put.allowed_destination(zenoh::sample::Locality::Remote);
        self.runtime.block_on(async { put.await.unwrap() });
    }

    /// Asks what stays open, and returns at the first answer what waits until there is none any more.
    fn keeps_asking(&self, key: &str, bytes: Vec<u8>) -> impl FnOnce() {
        let next = |replies: &zenoh::handlers::FifoChannelHandler<zenoh::query::Reply>| {
            let next = async { tokio::time::timeout(LONG, replies.recv_async()).await };
            self.runtime.block_on(next).expect("an answer, or the end")
        };
        let get = self.session.get(key).payload(bytes).timeout(2 * LONG);
        let get = get.consolidation(zenoh::query::ConsolidationMode::None);
        let replies = self.runtime.block_on(async { get.await.unwrap() });
        let first = next(&replies).unwrap();
        assert_eq!(&*first.result().unwrap().payload().to_bytes(), [0], "it was not opened");
        move || assert!(next(&replies).is_err(), "there was another answer")
    }

    /// Asks until there is an answer, whatever that says.
    fn asks(&self, key: &str) {
        let answered = || {
            self.runtime.block_on(async { self.session.get(key).await.unwrap().recv_async().await.is_ok() })
        };
        while !answered() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Which run of a node's bridge it is told of.
    fn instance_of(&self, node: &str) -> u64 {
        let key = self.runtime.block_on(async {
            let replies = self.session.liveliness().get(format!("ringpost/1/{node}/*/node")).await.unwrap();
            replies.recv_async().await.unwrap().result().unwrap().key_expr().to_string()
        });
        u64::from_str_radix(key.split('/').nth(3).unwrap(), 16).unwrap()
    }

    /// Whether it is told none of a node's tokens.
    fn hears_nothing(&self, node: &str) -> bool {
        self.runtime.block_on(async {
            let get = self.session.liveliness().get(format!("ringpost/1/{node}/**"));
            let replies = get.timeout(Duration::from_secs(2)).await.unwrap();
            !matches!(replies.recv_async().await.map(|reply| reply.result().is_ok()), Ok(true))
        })
    }
}
