//! Mutual TLS: who may join, and as whom. With `--features quic` over QUIC.

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use common::{Bridge, Bus, LONG, Poser, bridge, endpoint};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ringpost::Client;
use serde_json::json;

/// What carries TLS: the tests of a program with the feature are those of QUIC.
const PROTOCOL: &str = if cfg!(feature = "quic") { "quic" } else { "tls" };

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
        self.issue_until(node, 4000)
    }

    /// The same, with the year of its end.
    fn issue_until(&self, node: &str, year: i32) -> Vec<String> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.distinguished_name.push(DnType::CommonName, node);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        // Another year, another file: programs read it again when they connect again.
        let (pem, of_key) = (format!("{node}-{year}.pem"), format!("{node}-{year}.key"));
        std::fs::write(self.file(&pem), certificate.pem()).unwrap();
        std::fs::write(self.file(&of_key), key.serialize_pem()).unwrap();
        let files = [("--ca", "ca.pem".into()), ("--certificate", pem), ("--key", of_key)];
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

/// Settings of TLS for a program of our own: whom it trusts, and what it shows.
fn shows(trusted: &Authority, files: Option<&[String]>) -> serde_json::Value {
    let mut tls = json!({
        "root_ca_certificate": text(&trusted.file("ca.pem")),
        "verify_name_on_connect": false,
    });
    if let Some(files) = files {
        tls["enable_mtls"] = json!(true);
        tls["connect_certificate"] = json!(files[3]);
        tls["connect_private_key"] = json!(files[5]);
    }
    tls
}

/// Two nodes with certificates, of which a has these options besides. Between the start of the two,
/// `meanwhile` does what it likes. In the end they speak with each other, whatever that was.
fn meet<T>(
    authority: &Authority,
    options: &[&str],
    meanwhile: impl FnOnce(&str, &mut Client) -> T,
) -> (Met, T) {
    let (a, b, at) = (Bus::start(), Bus::start(), endpoint(PROTOCOL));
    let mut files = authority.issue("a");
    files.extend(options.iter().map(|option| (*option).to_owned()));
    let mut bridge_a = secured("a", "b", &a, ["--listen", &at], &files);
    bridge_a.says("joined the server");
    let mut alice = a.client("alice");
    let done = meanwhile(&at, &mut alice);
    let mut bridge_b = secured("b", "a", &b, ["--connect", &at], &authority.issue("b"));
    bridge_b.says("knows this node as b");
    let mut bob = b.client("bob");
    alice.wait_for("bob@b", LONG).unwrap();
    bob.wait_for("alice@a", LONG).unwrap();
    // It is the bob of the node whose name the certificate has.
    alice.send("bob@b", b"to the true one").unwrap();
    assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"to the true one");
    assert_eq!(alice.look_up("eve@b").unwrap(), None, "only b gives names of b");
    (Met { alice, _buses: (a, b), _bridges: (bridge_a, bridge_b) }, done)
}

struct Met {
    alice: Client,
    _buses: (Bus, Bus),
    _bridges: (Bridge, Bridge),
}

#[test]
fn whoever_has_no_certificate_of_the_authority_that_is_valid_is_not_taken() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let (expired, foreigns) = (authority.issue_until("b", 2024), foreign.issue("b"));
    let (_met, posers) = meet(&authority, &[], |at, _| {
        [("none", None), ("expired", Some(&expired)), ("foreign", Some(&foreigns))].map(|(what, files)| {
            let poser = Poser::connect(at, shows(&authority, files.map(Vec::as_slice)));
            poser.claims("b");
            poser.shows("b", "bob", 1);
            poser.shows("b", "eve", 2);
            (what, poser)
        })
    });
    for (what, poser) in &posers {
        assert!(!poser.is_connected(), "{what}");
    }
}

#[test]
fn a_node_that_is_not_allowed_gets_nothing() {
    let authority = Authority::new();
    let files = authority.issue("c");
    let (_met, poser) = meet(&authority, &[], |at, _| {
        let poser = Poser::connect(at, shows(&authority, Some(&files)));
        poser.connects();
        for node in ["b", "c"] {
            poser.claims(node);
            poser.shows(node, "eve", 1);
            assert_eq!(poser.asks("a", node, "claim", b""), None, "{node}");
        }
        poser
    });
    assert_eq!(poser.hears_of("a"), 0);
    assert!(poser.is_connected());
}

/// What c does in its own name, it is believed, and not what it does in that of b, before or after.
#[test]
fn an_allowed_node_speaks_for_itself_only() {
    let authority = Authority::new();
    let files = authority.issue("c");
    let (mut met, (poser, mut news, asked)) = meet(&authority, &["--allow", "c"], |at, alice| {
        let news = alice.subscribe("news").unwrap();
        let poser = Poser::connect(at, shows(&authority, Some(&files)));
        poser.connects();
        let asked = ["b", "c"].map(|node| {
            poser.claims(node);
            poser.shows(node, "bob", 1);
            poser.shows(node, "eve", 2);
            poser.offers_to_answer_for(node)
        });
        alice.wait_for("eve@c", LONG).unwrap();
        assert_eq!(poser.asks("a", "b", "claim", b""), None);
        assert_eq!(poser.asks("a", "c", "claim", b""), Some(0));
        assert_eq!(alice.look_up("eve@b").unwrap(), None);
        (poser, news, asked)
    });
    poser.publishes("b", "eve", "news", 1);
    poser.publishes("b", "bob", "news", 1);
    poser.publishes("c", "eve", "news", 1);
    let sample = news.recv_timeout(LONG).unwrap();
    assert_eq!((sample.publisher().name.as_str(), sample.payload()), ("eve@c", &b"c"[..]));
    assert_eq!(poser.asks("a", "b", "claim", b""), None);
    // The message to bob@b went to b alone. One to c goes to c.
    met.alice.try_send("eve@c", b"psst").unwrap_err();
    assert_eq!((asked[0].load(Ordering::Relaxed), asked[1].load(Ordering::Relaxed) > 0), (0, true));
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
    let poser = Poser::connect(&at, shows(&authority, Some(&authority.issue("c"))));
    poser.claims("c");
    let heard = poser.listens("a", "c", &["ringpost/1/b/from/a/link", "ringpost/1/a/from/b/link"]);
    let instance = poser.instance_of("a");
    let mut link = alice.connect("bob@b").unwrap();
    link.submit(b"who are you?").unwrap();
    of_called.recv_timeout(LONG).unwrap();
    for number in 0..100_u64 {
        let numbers = [instance, number, 1].map(u64::to_le_bytes).concat();
        poser.puts("ringpost/1/a/from/b/link", &[&numbers[..], b"\x02from carol"].concat());
    }
    // What it said before has arrived, and what was told to it.
    poser.is_heard("a", "c");
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
    let poser = Poser::connect(&at, json!({}));
    poser.claims("c");
    poser.shows("c", "carol", 1);
    bridge_a.says("carol@c is here");
    let heard = poser.listens("a", "c", &["ringpost/1/c/from/a/link"]);
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
    let (authority, bus, at) = (Authority::new(), Bus::start(), endpoint(PROTOCOL));
    let mut wrong = secured("a", "b", &bus, ["--listen", &at], &authority.issue("b"));
    wrong.says("is for the node \"b\", and this is a");
    assert_eq!(wrong.end().code(), Some(1));
    let mut files = authority.issue("a");
    files[3] = text(&authority.file("nowhere.pem"));
    let mut none = secured("a", "b", &bus, ["--listen", &at], &files);
    none.says("nowhere.pem");
    assert_eq!(none.end().code(), Some(1));
}
