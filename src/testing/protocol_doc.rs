//! Compares `docs/PROTOCOL.md` with the code: its tables with constants and encoders, its examples with
//! encoded bytes.
//!
//! A table is found by the heading above it, an example by the name behind the ```` ```hex ````. A table of a
//! layout is compared field by field with bytes that the code wrote, so that a number which changes on one
//! side only fails.
//!
//! Long because it has a test for each table of the rings and the connect channel.

#![forbid(unsafe_code)]

mod figures;
mod links;
mod memory;
mod relays;
mod topics;

use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::channel::{
    self, Durations, FiguresPage, Geometry, Guest, Host, LAYOUT_VERSION, LinkCounts, LinkWords, MIN_BLOCK,
    Samples, Side,
};
use crate::connect::control::Obeyed;
use crate::connect::figures::Section;
use crate::connect::listing::{decode_page, encode_page};
use crate::connect::topics::MOST_USERS;
use crate::connect::{
    Ask, Half, MOST_BYTES, MOST_REPORTED, Proof, Quotas, Refusal, Reply, Secret, ServerInfo,
};
use crate::link::{DRAIN, SLICE};
use crate::registry::{ClientInfo, ClientState, Counters};
use crate::ring::layout::{data_header, gap_header, padding_header};
use crate::ring::{Consumer, Producer, SPACE_SLICE, SPARE_HINTS, WaitStrategy};
use crate::server::{
    AT_ONE_CLIENT, AT_ONE_PUBLISHER, GREETING_TIME, MOST_ASKS, MOST_GREETING, OBSERVING_TIME,
    OF_ONE_SUBSCRIBER, OF_ONE_USER, OWN_AT_ONE_CLIENT, parse_send,
};
use crate::shm::Segment;
use crate::wire::{
    BlockHeader, CloseReason, HELLO_TIME, Histogram, KEY, Key, MESSAGE, MESSAGE_OVERHEAD, Name, Operation,
    PROTOCOL_VERSION, RELAYED, Status, Topic, WAITS,
};

const TEXT: &str = include_str!("../../docs/PROTOCOL.md");

/// The headings of all tables. Those at the end contain prose, which this test cannot compare.
const TABLES: [&str; 45] = [
    "Versions",
    "Key",
    "Datagram header",
    "Requests",
    "Refusals",
    "Channel",
    "Control block",
    "Figures of a client",
    "A link's segment",
    "Record header",
    "Kinds of records",
    "Closing",
    "Block header",
    "Operations",
    "SEND",
    "Message",
    "Relays",
    "Statuses",
    "CONNECT",
    "Introduction",
    "REPORT",
    "A page of links",
    "PUBLISH",
    "SUBSCRIBE",
    "A part for a subscriber",
    "A part for a publisher",
    "A topic's segment",
    "An entry of the table",
    "A page of a pair",
    "The state of a pair",
    "CONTROL",
    "A page of topics",
    "A sample of presence",
    "A record",
    "Why a client vanished",
    "Entry",
    "A page of figures",
    "The server's figures",
    "A user's figures",
    "A client's figures",
    "The server's description",
    "Quotas",
    "Limits",
    "Orderings",
    "Violations",
];

/// The names of all examples.
const EXAMPLES: [&str; 24] = [
    "call",
    "channel",
    "connect",
    "control",
    "description",
    "figures",
    "introduction",
    "links",
    "message",
    "observing",
    "padding",
    "page",
    "part",
    "presence",
    "publish",
    "records",
    "refused",
    "register",
    "relay",
    "report",
    "send",
    "subscribe",
    "tap",
    "topics",
];

// ---- reading the document

/// The text of a line that is a heading, of any level.
fn heading_in(line: &str) -> Option<&str> {
    line.starts_with('#').then(|| line.trim_start_matches('#').trim())
}

/// The lines below a heading, down to the next one.
fn section(heading: &str) -> Vec<&'static str> {
    let mut lines = TEXT.lines().skip_while(|line| heading_in(line) != Some(heading));
    assert!(lines.next().is_some(), "docs/PROTOCOL.md has no heading {heading:?}");
    lines.take_while(|line| heading_in(line).is_none()).collect()
}

/// The cells of a table, without its heading row. A section has one table.
fn table(heading: &str) -> Vec<Vec<String>> {
    let rows = section(heading).into_iter().filter(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let row = row.trim_matches('|');
        row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(rows.len() > 2 && rows[1][0] == "---", "no table below {heading:?}");
    rows[2..].to_vec()
}

/// The bytes of an example.
fn example(name: &str) -> Vec<u8> {
    let head = format!("```hex {name}");
    let mut lines = TEXT.lines().skip_while(|line| *line != head);
    assert!(lines.next().is_some(), "docs/PROTOCOL.md has no example {name:?}");
    let bytes = lines.take_while(|line| *line != "```").flat_map(|line| {
        line.split('#').next().unwrap_or_default().split_whitespace().map(|byte| {
            assert_eq!(byte.len(), 2, "two digits a byte");
            u8::from_str_radix(byte, 16).unwrap()
        })
    });
    bytes.collect()
}

/// A number, or a sum of numbers and multiples of named values: `4096 + 2R`.
fn number(cell: &str, named: &[(&str, usize)]) -> usize {
    let term = |term: &str| {
        let term = term.trim();
        if let Some(digits) = term.strip_prefix("0x") {
            return usize::from_str_radix(digits, 16).unwrap();
        }
        let digits = term.len() - term.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let factor = if digits == 0 { 1 } else { term[..digits].parse().unwrap() };
        match &term[digits..] {
            "" => factor,
            name => {
                let value = named.iter().find(|(known, _)| *known == name);
                factor * value.unwrap_or_else(|| panic!("{name:?} in {cell:?}")).1
            }
        }
    };
    cell.split('+').map(term).sum()
}

/// A row of a table of a layout.
#[derive(Debug)]
struct Field {
    name: String,
    start: usize,
    end: usize,
}

/// The fields of a layout of `whole` bytes. They must be adjacent; a field without a size has the remaining
/// bytes.
fn layout(heading: &str, whole: usize, named: &[(&str, usize)]) -> Vec<Field> {
    let mut behind = 0;
    let fields = table(heading).into_iter().map(|row| {
        let start = number(&row[0], named);
        assert_eq!(start, behind, "{heading}: {row:?} does not follow what is before it");
        behind = if row[1].is_empty() { whole } else { start + number(&row[1], named) };
        Field { name: row[2].clone(), start, end: behind }
    });
    let fields: Vec<Field> = fields.collect();
    assert_eq!(behind, whole, "{heading}: the table ends elsewhere");
    fields
}

/// Compares each field of `bytes` with what was encoded there. The values stand in the order of the table.
fn compare(heading: &str, bytes: &[u8], named: &[(&str, usize)], values: &[(&str, &[u8])]) {
    let found = layout(heading, bytes.len(), named);
    let found: Vec<(&str, &[u8])> =
        found.iter().map(|field| (field.name.as_str(), &bytes[field.start..field.end])).collect();
    assert_eq!(found, values, "{heading}; left: bytes where the table says, right: what was encoded");
}

/// `NameTaken` as it is written in the document: `name taken`.
fn words(variant: impl Debug) -> String {
    let mut words = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Compares the first two columns of a table with all numbers that the code knows, and their names.
fn compare_codes<T: Debug>(heading: &str, known: impl Fn(u16) -> Option<T>) {
    let found: Vec<(usize, String)> =
        table(heading).iter().map(|row| (number(&row[0], &[]), row[1].to_lowercase())).collect();
    let known: Vec<(usize, String)> =
        (0..=u16::MAX).filter_map(|code| known(code).map(|name| (code.into(), words(name)))).collect();
    assert_eq!(found, known, "{heading}; left: the document, right: the code");
}

/// The number of bytes that a cell states in brackets.
fn in_brackets(cell: &str) -> usize {
    cell.split(['(', ')']).nth(1).unwrap().parse().unwrap()
}

// ---- what the examples are about

fn key() -> Key {
    let mut random = [0; 10];
    random[0] = 1;
    Key::new(3, 9, random)
}

fn proof() -> Proof {
    Proof { key: key(), secret: Secret::new([0x55; 16]) }
}

fn name() -> Name {
    Name::new("alice").unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn client() -> ClientInfo {
    ClientInfo {
        name: name(),
        key: key(),
        state: ClientState::Live,
        pid: 1000,
        uid: 1001,
        gid: 1002,
        registered: at(1_000_000_000),
        counters: Counters { calls: 1, sent: 2, delivered: 7, received: 3, bytes_in: 4, bytes_out: 5 },
        serves: true,
        links: 6,
    }
}

fn server() -> ServerInfo {
    ServerInfo {
        pid: 1000,
        uid: 1001,
        version: "0.1.0".into(),
        protocol: PROTOCOL_VERSION,
        started: at(1_000_000_000),
        clients: 2,
        max_clients: 1024,
        ring_size: 65_536,
        max_block: 32_760,
        wait: WaitStrategy::Adaptive,
        quotas: Some(Quotas {
            asking: 256,
            clients: 256,
            ring_bytes: 268_435_456,
            spinning: 0,
            registrations: 500,
            links: 1024,
            topics: 64,
            subscriptions: 1024,
        }),
    }
}

/// A block as the rings carry it.
fn block(code: u16, flags: u16, sequence: u32, body: &[&[u8]]) -> Vec<u8> {
    let header = BlockHeader::new(code, flags, sequence).to_word().to_ne_bytes();
    [&header[..], &body.concat()].concat()
}

/// A channel as a server makes it, its client's ends, and its memory.
fn smallest_channel() -> (Host, Guest, Segment) {
    let geometry = Geometry::new(4096).unwrap();
    let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
    let guest = channel::open_for_client(&descriptor, WaitStrategy::Park).unwrap();
    (host, guest, Segment::open(&descriptor).unwrap())
}

fn bytes_of(segment: &Segment, start: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    segment.copy_out(start, &mut bytes);
    bytes
}

fn receive_all(consumer: &mut Consumer) {
    while consumer.try_recv(&mut Vec::new()).unwrap().is_some() {}
}

// ---- the tests

#[test]
fn every_table_and_every_example_is_compared() {
    let mut heading = "";
    let (mut tables, mut examples) = (Vec::new(), Vec::new());
    for line in TEXT.lines() {
        if let Some(found) = heading_in(line) {
            heading = found;
        } else if line.starts_with("| ---") {
            tables.push(heading);
        } else if let Some(name) = line.strip_prefix("```hex ") {
            examples.push(name);
        }
    }
    let sorted = |names: &[&'static str]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(&tables), sorted(&TABLES));
    assert_eq!(sorted(&examples), sorted(&EXAMPLES));
}

#[test]
fn versions() {
    let numbers: Vec<u32> = table("Versions").iter().map(|row| row[1].parse().unwrap()).collect();
    assert_eq!(numbers, [PROTOCOL_VERSION, LAYOUT_VERSION]);
}

/// The rows of a table of bits, from the lowest on: first bit, last bit, what stands there. They cover all
/// bits of a number.
fn bits(heading: &str, whole: u32) -> Vec<(u32, u32, String)> {
    let rows = table(heading).into_iter().map(|row| {
        let (first, last) = row[0].split_once(" to ").unwrap();
        (first.parse().unwrap(), last.parse().unwrap(), row[1].clone())
    });
    let mut rows: Vec<(u32, u32, String)> = rows.collect();
    rows.sort_unstable();
    let behind = rows.iter().fold(0, |behind, (first, last, name)| {
        assert_eq!(*first, behind, "{heading}: {name:?} does not follow what is before it");
        last + 1
    });
    assert_eq!(behind, whole, "{heading}: the table ends elsewhere");
    rows
}

/// The field of that name of a number.
fn field_of(number: u128, whole: u32, heading: &str, name: &str) -> u128 {
    let (first, last, _) = bits(heading, whole).into_iter().find(|(_, _, found)| found == name).unwrap();
    number >> first & ((1 << (last + 1 - first)) - 1)
}

#[test]
fn keys() {
    let key_of = |slot, generation, byte| Key::new(slot, generation, [byte; 10]).to_u128();
    let fields = |number| ["slot", "generation", "random"].map(|name| field_of(number, 128, "Key", name));
    let all = |bits: u32| (1_u128 << bits) - 1;
    assert_eq!(fields(key_of(u16::MAX, 0, 0)), [all(16), 0, 0]);
    assert_eq!(fields(key_of(0, u32::MAX, 0)), [0, all(32), 0]);
    assert_eq!(fields(key_of(0, 0, u8::MAX)), [0, 0, all(80)]);
}

#[test]
fn datagrams() {
    let ask = Ask::Register(name()).encode();
    let version = PROTOCOL_VERSION.to_le_bytes();
    let fields = |code: u16| {
        [b"RINGPOST".to_vec(), version.to_vec(), code.to_le_bytes().to_vec(), vec![0; 2]].map(|bytes| bytes)
    };
    for (datagram, code) in [(&ask, 1), (&Reply::refused(Refusal::Busy, ""), Refusal::Busy as u16)] {
        let [magic, version, code, unused] = fields(code);
        let values: [(&str, &[u8]); 4] =
            [("magic", &magic), ("version", &version), ("code", &code), ("unused", &unused)];
        compare("Datagram header", &datagram[..16], &[], &values);
    }
    assert_eq!(example("register"), [ask, Reply::registered(&proof())].concat());
    assert_eq!(example("observing"), [Ask::List { from_slot: 256 }.encode(), Ask::Server.encode()].concat());
    assert_eq!(example("refused"), Reply::refused(Refusal::NameTaken, "taken"));
}

#[test]
fn requests_and_refusals() {
    let proof = proof();
    let asks = [
        ("REGISTER", Ask::Register(name())),
        ("LIST", Ask::List { from_slot: 0 }),
        ("SERVER", Ask::Server),
        ("CONNECT", Ask::Connect { proof, ring_size: 0, to: name().into() }),
        ("LISTEN", Ask::Listen(proof)),
        ("TAKE", Ask::Take(proof)),
        ("REPORT", Ask::Report { proof, links: Vec::new() }),
        ("LINKS", Ask::Links { from: 0 }),
        ("KICK", Ask::Kick { proof, half: Half::Inbox }),
        ("PUBLISH", Ask::Publish { proof, publish: topics::publish() }),
        ("PUBLISHED", Ask::Published { proof, publication: 7 }),
        ("SUBSCRIBE", Ask::Subscribe { proof, subscribe: topics::subscribe() }),
        ("LEAVE", Ask::Leave { proof, id: 7 }),
        ("ATTEND", Ask::Attend(proof)),
        ("PART", Ask::Part(proof)),
        ("TOPICS", Ask::Topics { from: 0 }),
        ("PRESENCE", Ask::Presence { proof, waits: topics::subscribe().waits }),
        ("CONTROL", Ask::Control("reload".into())),
        ("FIGURES", Ask::Figures { section: Section::Clients, from: 0 }),
        ("TAP", Ask::Tap { proof, waits: topics::subscribe().waits, most: 512 }),
        ("RELAY", Ask::RegisterRelay(name())),
    ];
    let code = |ask: &Ask| u16::from_le_bytes([ask.encode()[12], ask.encode()[13]]);
    let known: Vec<_> = asks.iter().map(|(name, ask)| (usize::from(code(ask)), *name)).collect();
    let rows = table("Requests");
    let found: Vec<_> = rows.iter().map(|row| (number(&row[0], &[]), row[1].as_str())).collect();
    assert_eq!(found, known);
    assert_eq!(in_brackets(&rows[0][3]), Reply::registered(&proof).len() - 16);
    assert_eq!(in_brackets(&rows[1][2]), asks[1].1.encode().len() - 16);
    let kick = |half| Ask::Kick { proof, half }.encode()[16..].to_vec();
    assert_eq!(kick(Half::Caller), [&proof.encode()[..], &[0]].concat());
    assert_eq!(kick(Half::Inbox), [&proof.encode()[..], &[1]].concat());
    compare_codes("Refusals", Refusal::from_code);
}

#[test]
fn answers_to_commands() {
    use Obeyed::{Busy, Done, Failed, NoCommands, NotPermitted};
    let answers = [Done(String::new()), Failed(String::new()), NotPermitted, NoCommands, Busy];
    let found: Vec<_> = table("CONTROL").iter().map(|row| number(&row[0], &[])).collect();
    assert_eq!(found, answers.map(|answer| usize::from(answer.encode()[0])));
    assert_eq!(
        example("control"),
        [Ask::Control("reload".into()).encode(), Reply::done(&Done("ok".into()).encode())].concat()
    );
}

#[test]
fn close_reasons() {
    let found: Vec<(u32, String)> =
        table("Closing").into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect();
    // All close reasons; unknown numbers mean the second one.
    let said: Vec<(u32, String)> = (1..1000)
        .map(|word| (word, CloseReason::from_told(word)))
        .filter(|(word, reason)| *word == *reason as u32)
        .map(|(word, reason)| (word, words(reason)))
        .collect();
    assert_eq!(found, said);
}

#[test]
fn blocks() {
    let bytes = block(0x1234, 0x5678, 0x9abc_def0, &[]);
    let values: [(&str, &[u8]); 3] =
        [("code", &[0x34, 0x12]), ("flags", &[0x78, 0x56]), ("sequence", &[0xf0, 0xde, 0xbc, 0x9a])];
    compare("Block header", &bytes, &[], &values);
    let codes = format!("{MESSAGE:#x}; {RELAYED:#x} with a [ticket](#relays)");
    assert_eq!(table("Block header")[0][5], codes);
    compare_codes("Operations", Operation::from_code);
    let operations = table("Operations");
    assert_eq!((in_brackets(&operations[2][3]), in_brackets(&operations[3][2])), (KEY, size_of::<u32>()));
    compare_codes("Statuses", Status::from_code);
    let call = block(Operation::Call as u16, 0, 7, &[b"hi"]);
    assert_eq!(example("call"), [call, block(Status::Ok as u16, 0, 7, &[b"ok"])].concat());
}

/// As a client encodes it and a worker takes it apart.
#[test]
fn sending() {
    let (key_bytes, timeout) = (key().to_bytes(), 1_000_000_000_u64.to_le_bytes());
    let send = Operation::Send as u16;
    let plain = block(send, 0, 8, &[&key_bytes, b"hi"]);
    let waiting = block(send, WAITS, 9, &[&key_bytes, &timeout, b"hi"]);
    assert_eq!(example("send"), [&plain[..], &waiting].concat());
    let fields = layout("SEND", 24, &[]);
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["receiver's key", &format!("time-out, with flag {WAITS} only")]);
    assert_eq!(parse_send(&plain[8..], 0), Some((key(), None, fields[0].end)));
    let patience = Some(Duration::from_secs(1));
    assert_eq!(parse_send(&waiting[8..], WAITS), Some((key(), patience, fields[1].end)));
}

#[test]
fn messages() {
    let (key, name) = (key().to_bytes(), name());
    let message = block(MESSAGE, 5, 2, &[&key, name.as_bytes(), b"hi"]);
    assert_eq!(example("message"), message);
    let values: [(&str, &[u8]); 3] =
        [("sender's key", &key), ("sender's name", name.as_bytes()), ("payload", b"hi")];
    compare("Message", &message[8..], &[("flags", 5)], &values);
    assert!(TEXT.contains(&format!("the largest block − {MESSAGE_OVERHEAD}.")));
}

#[test]
fn pages() {
    let page = encode_page(&[client()], Some(4));
    assert_eq!(example("page"), page);
    assert_eq!(decode_page(&page, 3), Some((vec![client()], Some(4))));
    let key = key().to_bytes();
    let [pid, uid, gid] = [1000_u32, 1001, 1002].map(u32::to_le_bytes);
    let registered = 1_000_000_000_000_000_000_u64.to_le_bytes();
    let [calls, sent, delivered, received, bytes_in, bytes_out] =
        [1_u64, 2, 7, 3, 4, 5].map(u64::to_le_bytes);
    let links = 6_u32.to_le_bytes();
    let values: [(&str, &[u8]); 16] = [
        ("key", &key),
        ("state", &[0]),
        ("pid", &pid),
        ("uid", &uid),
        ("gid", &gid),
        ("registered", &registered),
        ("calls", &calls),
        ("sent", &sent),
        ("delivered", &delivered),
        ("received", &received),
        ("bytes in", &bytes_in),
        ("bytes out", &bytes_out),
        ("serves", &[1]),
        ("links", &links),
        ("length of the name", &[5]),
        ("name", b"alice"),
    ];
    compare("Entry", &page[4..], &[], &values);
    let leaving = encode_page(&[ClientInfo { state: ClientState::Leaving, ..client() }], None);
    assert_eq!((&leaving[..4], leaving[4 + KEY]), (&[0xff; 4][..], 1));
}

#[test]
fn descriptions() {
    let bytes = server().encode();
    assert_eq!(example("description"), bytes);
    let [pid, uid, clients, most] = [1000_u32, 1001, 2, 1024].map(u32::to_le_bytes);
    let started = 1_000_000_000_000_000_000_u64.to_le_bytes();
    let [ring_size, max_block] = [65_536_u64, 32_760].map(u64::to_le_bytes);
    let quotas = server().quotas.unwrap().encode();
    let text = format!("0.1.0\0{quotas}");
    let values: [(&str, &[u8]); 9] = [
        ("pid", &pid),
        ("uid", &uid),
        ("clients", &clients),
        ("most clients", &most),
        ("started", &started),
        ("ring size", &ring_size),
        ("largest block", &max_block),
        ("wait", &[1]),
        ("version and quotas", text.as_bytes()),
    ];
    compare("The server's description", &bytes, &[], &values);
    let names: Vec<&str> = quotas.split(' ').map(|quota| quota.split('=').next().unwrap()).collect();
    assert_eq!(table("Quotas").iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), names);
    let wait_at = layout("The server's description", bytes.len(), &[])[7].start;
    for (code, wait) in
        [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park].into_iter().enumerate()
    {
        assert_eq!(usize::from(ServerInfo { wait, ..server() }.encode()[wait_at]), code);
    }
}

#[test]
fn limits() {
    let ring = |size: usize| Geometry::new(size).is_ok();
    let smallest = (0..63).map(|shift| 1 << shift).find(|size| ring(*size)).unwrap();
    let largest = (0..63).rev().map(|shift| 1 << shift).find(|size| ring(*size)).unwrap();
    let known = [
        ("bytes of a datagram", MOST_BYTES.to_string()),
        ("bytes of a name", Name::MAX_LEN.to_string()),
        ("bytes of a topic or a pattern", Topic::MAX_LEN.to_string()),
        ("users to whom a topic is restricted", MOST_USERS.to_string()),
        ("bytes of a ring, at least", smallest.to_string()),
        ("bytes of a ring, at most", largest.to_string()),
        ("bytes of the largest block, at least", MIN_BLOCK.to_string()),
        ("connections that have not asked yet", MOST_GREETING.to_string()),
        ("time in which a connection must ask", format!("{GREETING_TIME:?}")),
        ("time in which an observer may ask on", format!("{OBSERVING_TIME:?}")),
        ("answers to an observer", MOST_ASKS.to_string()),
        ("time in which an introduction is taken", format!("{HELLO_TIME:?}")),
        ("introductions that wait for one client", AT_ONE_CLIENT.to_string()),
        ("of these of one user's callers", OF_ONE_USER.to_string()),
        ("subscriptions that wait for one publisher", AT_ONE_PUBLISHER.to_string()),
        ("of these of one user's subscribers", OF_ONE_SUBSCRIBER.to_string()),
        ("subscriptions to presence of one client, and its taps", OWN_AT_ONE_CLIENT.to_string()),
        ("links of one client", LinkWords::MOST.to_string()),
        ("links in one report", MOST_REPORTED.to_string()),
        ("responses before a fence", DRAIN.to_string()),
        ("a server's sleep for room", format!("{SPACE_SLICE:?}")),
        ("a client's sleep with several requests outstanding", format!("{SLICE:?}")),
        (
            "returns from a sleep for nothing, and bytes in a pipe for nothing, fewer than",
            SPARE_HINTS.to_string(),
        ),
    ]
    .map(|(limit, value)| (limit.to_owned(), value));
    // Durations are written like their `Debug` format: `2s`.
    let found: Vec<(String, String)> =
        table("Limits").into_iter().map(|row| (row[0].clone(), row[1].replace(' ', ""))).collect();
    assert_eq!(found, known);
}
