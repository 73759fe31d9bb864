//! Compares what `docs/PROTOCOL.md` says about topics and presence with the datagrams that the code makes.

use super::*;
use crate::connect::topics::{
    Granted, Joined, OWN_PUBLISHER, PRESENCE_TOPIC, Part, PresenceSample, Publish, Source, Subscribe,
    Subscribed, TopicInfo, Waits, decode_topics, encode_topics,
};
use crate::connect::{Copied, TAP_TOPIC, TapKind, TapRecord};
use crate::ring::{Deadline, Kick};
use crate::shm::View;
use crate::topic::{Audience, MOST_LINE, Newcomer, Reader, Shape, Start, State, Writer};
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
    let joined = Joined {
        publication: 7,
        subscription: 8,
        line: 5,
        policy,
        waits,
        from_beginning: true,
        peer: peer(),
    };
    let bytes = Part::Joined(joined.clone()).encode();
    let [pid, uid, gid] = [1000_u32, 1001, 1002].map(u32::to_le_bytes);
    let values: [(&str, &[u8]); 12] = [
        ("kind", &[2]),
        ("publication", &7_u64.to_le_bytes()),
        ("subscription", &8_u64.to_le_bytes()),
        ("line", &5_u16.to_le_bytes()),
        ("policy", &[2]),
        ("flags", &[7]),
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
    let over = Part::Over { publication: 7, subscription: 8 }.encode();
    assert_eq!(over, [&[4][..], &8_u64.to_le_bytes(), &7_u64.to_le_bytes()].concat());
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
    for text in [PRESENCE_TOPIC, OWN_PUBLISHER] {
        assert!(section("Presence").iter().any(|line| line.contains(&format!("`{text}`"))), "{text}");
    }
}

#[test]
fn taps() {
    let from = peer();
    let (payload, response) = (b"ping!", b"pong");
    let copied = Copied {
        kind: TapKind::Call,
        status: Status::Ok,
        duration: Duration::from_micros(1),
        from: &from,
        to: Some(from.key),
        to_name: Some(&from.name),
        payload,
        response,
        response_len: 4,
    };
    let mut record = Vec::new();
    copied.encode(3, Duration::from_secs(1), &mut record);
    assert_eq!(example("tap"), record);
    let [pid, uid, gid] = [1000_u32, 1001, 1002].map(u32::to_le_bytes);
    let values: [(&str, &[u8]); 18] = [
        ("kind", &[1]),
        ("status", &[0; 2]),
        ("time", &1_000_000_000_u64.to_le_bytes()),
        ("duration", &1000_u64.to_le_bytes()),
        ("key", &key().to_bytes()),
        ("pid", &pid),
        ("uid", &uid),
        ("gid", &gid),
        ("receiver's key", &key().to_bytes()),
        ("bytes of the payload", &5_u64.to_le_bytes()),
        ("bytes of the response", &4_u64.to_le_bytes()),
        ("length of the name", &[5]),
        ("name", b"alice"),
        ("length of the receiver's name", &[5]),
        ("receiver's name", b"alice"),
        ("length of the head", &[3, 0]),
        ("head", b"pin"),
        ("response's head", b"pon"),
    ];
    compare("A record", &record, &[("N", 5), ("M", 5), ("H", 3)], &values);
    for status in 0..=16 {
        let status = Status::from_code(status).unwrap();
        let mut record = Vec::new();
        Copied { status, ..copied }.encode(3, Duration::ZERO, &mut record);
        let is_one = matches!(status as u16, 0 | 3..=11 | 15 | 16);
        assert_eq!(TapRecord::decode(&record).is_some(), is_one, "{status:?}");
    }
    let ask = Ask::Tap { proof: proof(), waits: subscribe().waits, most: 512 }.encode();
    assert_eq!(ask[16 + Proof::LEN..], [1, 0, 2]);
    assert!(section("Taps").iter().any(|line| line.contains(&format!("`{TAP_TOPIC}`"))));
}

/// By what a writer does there: 16 samples of one line, of a ring of 64 lines, and then one that ends it.
#[test]
fn a_topics_segment() {
    let shape = Shape::new(4096).unwrap();
    let segment = layout("A topic's segment", shape.segment_len(), &[("R", shape.ring_size())]);
    let entry = layout("An entry of the table", 128, &[]);
    let start = |fields: &[Field], name: &str| fields.iter().find(|field| field.name == name).unwrap().start;
    let view = View::new(Segment::anonymous(shape.segment_len()).unwrap());
    let word = |at: usize| view.word64(at).load(Ordering::Relaxed);
    let audience = Audience::new(None).unwrap();
    let mut writer = Writer::new(view.clone(), shape, 100, audience.clone(), WaitStrategy::Park);
    assert_eq!(word(start(&segment, "first")), 101);
    for sample in 0..16_u8 {
        writer.send(&[sample], Deadline::from(None)).unwrap();
    }
    let record = word(start(&segment, "data") + 5 * 64);
    assert_eq!(record, data_header(5 * 64, 1));
    assert_eq!(word(start(&segment, "last")), (15 * 64) | 1);
    assert_eq!(word(start(&segment, "first")), 100 + 1);
    // A sixteenth is 4 lines. The header behind the last record lies in the fifth one.
    assert_eq!(word(start(&segment, "intent")), 5 * 256);
    let table = start(&segment, "table");
    for nth in 0..4 {
        let at = table + nth * 128;
        assert_eq!(word(at + start(&entry, "position")), (nth * 256) as u64 | 1);
        assert_eq!(word(at + start(&entry, "sequence")), 100 + 4 * nth as u64);
    }
    assert_eq!(table + 16 * 128, segment.iter().find(|field| field.name == "table").unwrap().end);
    assert_eq!(word(start(&segment, "ended")), 0);
    assert_eq!(word(start(&segment, "new")), 0);
    let next = View::new(Segment::anonymous(shape.segment_len()).unwrap());
    audience.succeed(next.clone(), shape);
    writer.send(b"in another segment", Deadline::from(None)).unwrap();
    let word_there = |name: &str| next.word64(start(&segment, name)).load(Ordering::Relaxed);
    assert_eq!((word_there("first"), word_there("new")), (100 + 1, 116 + 1));
    assert_eq!(word(start(&segment, "ended")), 2);
    drop(writer);
    for field in segment.iter().filter(|field| field.name == "unused") {
        let mut bytes = vec![0; field.end - field.start];
        view.copy_out(field.start, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0), "{field:?}");
    }
    assert_eq!(shape.max_sample(), 4096 / 4 - 8);
}

/// By what both sides do there.
#[test]
fn a_page_of_a_pair() {
    const LINE: usize = 5;
    let shape = Shape::new(4096).unwrap();
    let [topic, page] = [shape.segment_len(), 4096].map(|len| View::new(Segment::anonymous(len).unwrap()));
    let offset = |name: &str, size: usize| {
        let row = table("A page of a pair").into_iter().find(|row| row[2] == name).unwrap();
        assert_eq!(number(&row[1], &[]), size);
        64 * LINE + number(&row[0], &[])
    };
    let word = |name: &str| page.word32(offset(name, 4)).load(Ordering::Relaxed);
    let audience = Audience::new(Some(Duration::from_secs(1))).unwrap();
    let mut writer = Writer::new(topic.clone(), shape, 0, audience.clone(), WaitStrategy::Park);
    let ends = (page.clone(), LINE as u16, Kick::default());
    let mut reader = Reader::new(topic, shape, ends, 0, Start::Beginning, Policy::Reliable);
    assert_eq!((word("state"), word("left")), (0, 0));
    page.word32(offset("parked", 4)).store(1, Ordering::Relaxed);
    audience.admit(Newcomer {
        id: 1,
        peer: peer(),
        page: page.clone(),
        line: LINE as u16,
        may_sleep: true,
        reliable: true,
        from_beginning: true,
        kick: Kick::default(),
        pipe: None,
    });
    assert_eq!((word("state"), word("parked")), (1, 0), "attached and woken");
    writer.send(b"sample", Deadline::from(None)).unwrap();
    page.word32(offset("publisher parked", 4)).store(1, Ordering::Relaxed);
    let mut sample = Vec::new();
    assert!(reader.try_take(&mut sample).unwrap().is_some());
    assert!(reader.try_take(&mut sample).unwrap().is_none());
    assert_eq!(page.word64(offset("cursor", 8)).load(Ordering::Relaxed), 64);
    assert_eq!(word("publisher parked"), 0, "woken");
    reader.leave();
    assert_eq!(word("left"), 1);
    let states: Vec<(usize, String)> =
        table("The state of a pair").iter().map(|row| (number(&row[0], &[]), row[1].clone())).collect();
    let known = [State::Attached, State::Stalled, State::Refused, State::BrokeRules];
    assert_eq!(states, known.map(|state| (state as usize, words(state))));
    assert!(section("A page of a pair").iter().any(|line| line.contains(&format!("at most {MOST_LINE}."))));
}
