//! The tables of figures.

use std::time::Duration;

use super::{client, compare, compare_codes, example, table};
use crate::connect::figures::{Entry, Look, Page, Section};
use crate::connect::listing::encode_page;
use crate::connect::{Ask, ClientFigures, Figures, Fill, ServerFigures, UserFigures};
use crate::wire::Histogram;

/// An entry as it stands in a page.
fn entry(entry: &impl Entry) -> Vec<u8> {
    let page = Page::new(7, usize::MAX).with(std::slice::from_ref(entry), None);
    assert_eq!(page[..16], [7, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    page[16..].to_vec()
}

fn eight(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn sections() {
    compare_codes("A page of figures", |code| Section::from_code(u8::try_from(code).ok()?));
    assert_eq!(table("A page of figures").len(), 5);
    let ask = Ask::Figures { section: Section::Clients, from: 256 }.encode();
    assert_eq!(example("figures"), ask);
    assert_eq!(Ask::decode(&ask), Ok(Ask::Figures { section: Section::Clients, from: 256 }));
}

#[test]
fn figures_of_a_server() {
    let server = ServerFigures {
        calls: 2,
        messages: 3,
        bytes_in: 4,
        bytes_out: 5,
        registered: 6,
        died: 7,
        violations: 8,
        refused: 9,
        cpu: Duration::from_nanos(10),
        workers_hot: 11,
        workers_most: 12,
        users: Vec::new(),
    };
    let figures = Figures { uptime: Duration::from_nanos(1), stamped: true, server, ..Figures::default() };
    let numbers: [[u8; 8]; 11] = std::array::from_fn(|number| eight(number as u64));
    let values: [(&str, &[u8]); 13] = [
        ("time since its start", &numbers[1]),
        ("durations are measured", &[1]),
        ("calls", &numbers[2]),
        ("messages", &numbers[3]),
        ("bytes in", &numbers[4]),
        ("bytes out", &numbers[5]),
        ("registered", &numbers[6]),
        ("died", &numbers[7]),
        ("violations", &numbers[8]),
        ("refused", &numbers[9]),
        ("processor time", &numbers[10]),
        ("workers that have a slot", &11_u32.to_le_bytes()),
        ("slots", &12_u32.to_le_bytes()),
    ];
    compare("The server's figures", &entry(&Look(figures)), &[], &values);
}

#[test]
fn figures_of_a_user() {
    let user = UserFigures {
        uid: 1001,
        asking: 1,
        clients: 2,
        ring_bytes: 3,
        spinning: 4,
        links: 5,
        topics: 6,
        subscriptions: 7,
    };
    let numbers = [1001_u32, 1, 2, 4, 5, 6, 7].map(u32::to_le_bytes);
    let values: [(&str, &[u8]); 8] = [
        ("user", &numbers[0]),
        ("connections that ask", &numbers[1]),
        ("clients", &numbers[2]),
        ("spinning workers", &numbers[3]),
        ("links", &numbers[4]),
        ("topics", &numbers[5]),
        ("subscriptions", &numbers[6]),
        ("bytes of rings", &eight(3)),
    ];
    compare("A user's figures", &entry(&user), &[], &values);
}

#[test]
fn figures_of_a_client() {
    let counted = |bucket: usize, count| {
        let counts = std::iter::repeat_n(0, bucket).chain([count]);
        Histogram::of(counts)
    };
    let figures = ClientFigures {
        info: client(),
        requests: Fill { used: 1, size: 2 },
        responses: Fill { used: 3, size: 4 },
        inbox: Fill { used: 5, size: 6 },
        waiting_senders: 7,
        cpu: None,
        service: Histogram::default(),
        wake: counted(0, 1),
        own_wake: counted(119, 300),
        link_service: counted(5, 127),
        taken: 8,
        missed: 9,
        published: 10,
    };
    let bytes = entry(&figures);
    let listed = encode_page(&[client()], None)[4..].to_vec();
    assert!(bytes.starts_with(&listed));
    let numbers: [[u8; 8]; 11] = std::array::from_fn(|number| eight(number as u64));
    let values: [(&str, &[u8]); 15] = [
        ("bytes in use of the ring of requests", &numbers[1]),
        ("bytes of that ring", &numbers[2]),
        ("bytes in use of the ring of responses", &numbers[3]),
        ("bytes of that ring", &numbers[4]),
        ("bytes in use of the inbox", &numbers[5]),
        ("bytes of that ring", &numbers[6]),
        ("senders that wait for room in the inbox", &7_u32.to_le_bytes()),
        ("processor time of its worker", &[0xff; 8]),
        ("samples taken", &numbers[8]),
        ("samples missed", &numbers[9]),
        ("samples published", &numbers[10]),
        ("durations of the service", &[0]),
        ("durations of the worker's wakes", &[1, 0, 1]),
        ("durations of the client's wakes", &[1, 119, 0xac, 2]),
        ("durations of the service of its links", &[1, 5, 0x7f]),
    ];
    let lengths = [("A", 1), ("B", 3), ("C", 4), ("D", 3)];
    compare("A client's figures", &bytes[listed.len()..], &lengths, &values);
}
