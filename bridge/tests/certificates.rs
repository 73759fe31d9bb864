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

    /// Whether it is told none of a node's tokens.
    fn hears_nothing(&self, node: &str) -> bool {
        self.runtime.block_on(async {
            let get = self.session.liveliness().get(format!("ringpost/1/{node}/**"));
            let replies = get.timeout(Duration::from_secs(2)).await.unwrap();
            !matches!(replies.recv_async().await.map(|reply| reply.result().is_ok()), Ok(true))
        })
    }
}
