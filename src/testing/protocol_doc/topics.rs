//! Compares what `docs/PROTOCOL.md` says about topics and presence with the datagrams that the code makes.

use super::*;
use crate::connect::topics::{
    Granted, Joined, PRESENCE_PUBLISHER, PRESENCE_TOPIC, Part, PresenceSample, Publish, Source, Subscribe,
    Subscribed, TopicInfo, Waits, decode_topics, encode_topics,
};
use crate::wire::{Pattern, Peer, Policy, VanishReason};

const TOPIC: &str = "prices/AAPL";

const EPOCH: u64 = 0x2222_2222_2222_2222;

fn topic() -> Topic {
    Topic::new(TOPIC).unwrap()
}

fn peer() -> Peer {
    Peer { name: name(), key: key(), pid: 1000, uid: 1001, gid: 1002 }
}

pub(super) fn publish() -> Publish {
    Publish { epoch: EPOCH, first: 0, ring_size: 0, reliable: true, users: vec![1001], topic: topic() }
}

pub(super) fn subscribe() -> Subscribe {
    let waits = Waits { may_sleep: true, arms: false };
    Subscribe { policy: Policy::Latest, waits, pattern: Pattern::new("prices/*").unwrap() }
}

#[test]
fn publishing() {
    let ask = Ask::Publish { proof: proof(), publish: publish() }.encode();
    let granted = Granted { publication: 7, ring_size: 65_536 };
    assert_eq!(example("publish"), [&ask[..], &Reply::done(&granted.encode())].concat());
    let values: [(&str, &[u8]); 8] = [
        ("proof", &proof().encode()),
        ("epoch", &EPOCH.to_le_bytes()),
        ("first", &[0; 8]),
        ("ring size", &[0; 8]),
        ("reliable", &[1]),
        ("count of users", &[1]),
        ("users", &1001_u32.to_le_bytes()),
        ("topic", TOPIC.as_bytes()),
    ];
    compare("PUBLISH", &ask[16..], &[("U", 4)], &values);
    let answer = table("Requests")[9][3].clone();
    assert!(answer.starts_with("publication (8), ring size (8)") && granted.encode().len() == 16);
    let published = Ask::Published { proof: proof(), publication: 7 }.encode();
    assert_eq!(published[16 + Proof::LEN..], 7_u64.to_le_bytes());
    let leave = Ask::Leave { proof: proof(), id: 7 }.encode();
    assert_eq!(leave[16 + Proof::LEN..], 7_u64.to_le_bytes());
}

#[test]
fn subscribing() {
    let key = Key::new(4, 10, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let bob = Proof { key, secret: Secret::new([0x55; 16]) };
    let ask = Ask::Subscribe { proof: bob, subscribe: subscribe() }.encode();
    let subscribed = Subscribed { subscription: 8, publishers: 1 };
    assert_eq!(example("subscribe"), [&ask[..], &Reply::done(&subscribed.encode())].concat());
    let values: [(&str, &[u8]); 4] =
        [("proof", &bob.encode()), ("policy", &[1]), ("flags", &[1]), ("pattern", b"prices/*")];
    compare("SUBSCRIBE", &ask[16..], &[], &values);
    let codes = [Policy::Lossy, Policy::Latest, Policy::Reliable].map(|policy| policy as u8);
    assert_eq!(codes, [0, 1, 2]);
    let arms = Waits { may_sleep: false, arms: true };
    assert_eq!(Ask::Presence { proof: bob, waits: arms }.encode()[16 + Proof::LEN..], [2]);
}

fn source() -> Source {
    Source {
        subscription: 8,
        publication: 7,
        epoch: EPOCH,
        first: 0,
        ring_size: 65_536,
        line: 5,
        from_beginning: false,
        offers_reliable: true,
        peer: peer(),
        topic: topic(),
    }
}

#[test]
fn parts_for_a_subscriber() {
    let bytes = Part::Source(source()).encode();
    assert_eq!(example("part"), Reply::done(&bytes));
    let [pid, uid, gid] = [1000_u32, 1001, 1002].map(u32::to_le_bytes);
    let values: [(&str, &[u8]); 15] = [
        ("kind", &[1]),
        ("subscription", &8_u64.to_le_bytes()),
        ("publication", &7_u64.to_le_bytes()),
        ("epoch", &EPOCH.to_le_bytes()),
        ("first", &0_u64.to_le_bytes()),
        ("ring size", &65_536_u64.to_le_bytes()),
        ("line", &5_u16.to_le_bytes()),
        ("flags", &[2]),
        ("key", &key().to_bytes()),
        ("pid", &pid),
        ("uid", &uid),
        ("gid", &gid),
        ("length of the name", &[5]),
        ("name", b"alice"),
        ("topic", TOPIC.as_bytes()),
    ];
    compare("A part for a subscriber", &bytes, &[("N", 5)], &values);
    let from_beginning = Source { from_beginning: true, offers_reliable: false, ..source() };
    assert_eq!(Part::Source(from_beginning).encode()[43], 1);
    // As the document numbers the descriptors.
    let arms = Waits { may_sleep: true, arms: true };
    assert_eq!(source().descriptors(Policy::Lossy, Waits::default()), 3);
    assert_eq!(source().descriptors(Policy::Lossy, arms), 5);
    assert_eq!(source().descriptors(Policy::Reliable, arms), 6);
}

#[test]
fn parts_for_a_publisher() {
    let (policy, waits) = (Policy::Reliable, Waits { may_sleep: true, arms: true });
    let joined = Joined { publication: 7, subscription: 8, line: 5, policy, waits, peer: peer() };
    let bytes = Part::Joined(joined.clone()).encode();
    let [pid, uid, gid] = [1000_u32, 1001, 1002].map(u32::to_le_bytes);
    let values: [(&str, &[u8]); 12] = [
        ("kind", &[2]),
        ("publication", &7_u64.to_le_bytes()),
        ("subscription", &8_u64.to_le_bytes()),
        ("line", &5_u16.to_le_bytes()),
        ("policy", &[2]),
        ("flags", &[3]),
        ("key", &key().to_bytes()),
        ("pid", &pid),
        ("uid", &uid),
        ("gid", &gid),
        ("length of the name", &[5]),
        ("name", b"alice"),
    ];
    compare("A part for a publisher", &bytes, &[], &values);
    assert_eq!((joined.descriptors(false), joined.descriptors(true)), (2, 4));
    let left = Part::Left { publication: 7, subscription: 8 }.encode();
    assert_eq!(left, [&[3][..], &7_u64.to_le_bytes(), &8_u64.to_le_bytes()].concat());
}

#[test]
fn pages_of_topics() {
    let info = TopicInfo {
        id: 7,
        topic: topic(),
        publisher: name(),
        subscriptions: 3,
        age: Duration::from_millis(1500),
        ring_size: 65_536,
    };
    let page = encode_topics(std::slice::from_ref(&info), None);
    assert_eq!(example("topics"), page);
    assert_eq!(decode_topics(&page, 0), Some((vec![info], None)));
    let values: [(&str, &[u8]); 8] = [
        ("number", &7_u64.to_le_bytes()),
        ("length of the topic", &[11]),
        ("topic", TOPIC.as_bytes()),
        ("length of the name", &[5]),
        ("publisher", b"alice"),
        ("subscriptions", &3_u32.to_le_bytes()),
        ("age", &1500_u64.to_le_bytes()),
        ("ring size", &65_536_u64.to_le_bytes()),
    ];
    compare("A page of topics", &page[8..], &[("T", 11), ("N", 5)], &values);
}

#[test]
fn presence() {
    let sample = PresenceSample::Vanished { peer: peer(), reason: VanishReason::Died }.encode();
    assert_eq!(example("presence"), sample);
    let [pid, uid, gid] = [1000_u32, 1001, 1002].map(u32::to_le_bytes);
    let values: [(&str, &[u8]); 7] = [
        ("kind", &[2]),
        ("key", &key().to_bytes()),
        ("pid", &pid),
        ("uid", &uid),
        ("gid", &gid),
        ("reason", &[1]),
        ("name", b"alice"),
    ];
    compare("A sample of presence", &sample, &[], &values);
    let appeared = PresenceSample::Appeared(peer()).encode();
    assert_eq!((appeared[0], appeared[29]), (1, 0));
    compare_codes("Why a client vanished", |code| VanishReason::from_code(u8::try_from(code).ok()?));
    for text in [PRESENCE_TOPIC, PRESENCE_PUBLISHER] {
        assert!(section("Presence").iter().any(|line| line.contains(&format!("`{text}`"))), "{text}");
    }
}

/// The table of entries has room for each sixteenth of a ring.
#[test]
fn a_topics_segment() {
    let (ring_size, entries) = (4096, 16);
    let segment = layout("A topic's segment", 4096 + ring_size, &[("R", ring_size)]);
    let entry = layout("An entry of the table", 128, &[]);
    let found = segment.iter().find(|field| field.name == "table").unwrap();
    assert_eq!(found.end - found.start, entries * entry.last().unwrap().end);
}
