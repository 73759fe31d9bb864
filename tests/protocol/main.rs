//! Tests that `docs/PROTOCOL.md` is enough to write a client: `client.rs` and `link.rs` were written from it
//! alone.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod event_loop;
mod link;
mod links;
mod pages;

use client::{
    CALL, Client, Closed, Connection, LIST, LIST_CLIENTS, LOOK_UP, Message, PING, PROTOCOL, REGISTER, Reply,
    SEND, SERVER, STATISTICS, UNREGISTER, WAITS, datagram, u32_at, u64_at,
};
use common::payload::{Random, content};
use common::{Bus, begin, eventually};
use event_loop::Pipes;
use ringpost::{Key, Request, Response, ServerBuilder, ServiceError, WaitStrategy};
use std::time::Duration;

const OK: u16 = 0;

/// A server with rings of one page, which wrap soon, and workers that park.
fn small(builder: ServerBuilder) -> ServerBuilder {
    builder.ring_size(4096).wait(WaitStrategy::Park).service(echo)
}

fn echo(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    match request.payload() {
        b"fail" => Err(ServiceError::new("as asked")),
        payload => response.write(payload),
    }
}

fn bytes_of(key: Key) -> [u8; 16] {
    u128::from_le_bytes(key.to_bytes()).to_le_bytes()
}

#[test]
fn the_client_shares_no_code_with_the_library() {
    let of = |text: &str| text.replace("super::client::", "").replace("super::event_loop::", "");
    for text in [
        include_str!("client.rs").to_owned(),
        of(include_str!("link.rs")),
        of(include_str!("pages.rs")),
        of(include_str!("event_loop.rs")),
    ] {
        for path in ["ringpost::", "super::", "crate::", "mod "] {
            assert!(!text.contains(path), "{path}");
        }
    }
}

#[test]
fn it_registers_calls_and_unregisters() {
    let bus = Bus::with(small);
    let mut client = Client::register(bus.path(), "alice").unwrap();
    let listed = &bus.server.clients().unwrap()[0];
    assert_eq!((listed.name.as_str(), bytes_of(listed.key)), ("alice", client.key));
    assert_eq!(client.ask(CALL, 0, b"hello"), (OK, b"hello".to_vec()));
    let largest = vec![7; client.largest - 8];
    assert_eq!(client.ask(CALL, 0, &largest), (OK, largest));
    assert_eq!(client.ask(CALL, 0, b""), (OK, vec![]));
    let (status, text) = client.ask(CALL, 0, b"fail");
    assert!(status == 8 && String::from_utf8(text).unwrap().contains("as asked"));
    assert_eq!(client.ask(PING, 0, b"ignored"), (OK, vec![]));
    let (status, text) = client.ask(99, 0, b"");
    assert!(status == 1 && !text.is_empty(), "an unknown operation");
    assert_eq!(client.ask(LIST_CLIENTS, 0, b"too long").0, 2, "a malformed request");
    assert_eq!(client.ask(UNREGISTER, 0, b""), (OK, vec![]));
    assert_eq!(client.response(), Err(Closed(3)));
    assert_eq!(client.receive(), Err(Closed(3)));
    client.connection.ends();
    Client::register(bus.path(), "alice").unwrap();
}

/// Both rings wrap many times, with padding, and always contain blocks.
#[test]
fn calls_on_their_way_are_answered_in_order() {
    const CALLS: u64 = 3000;
    let bus = Bus::with(small);
    let mut client = Client::register(bus.path(), "alice").unwrap();
    let max = client.largest - 8;
    let (mut taken, mut numbers) = (Vec::new(), Vec::new());
    for seed in 0..CALLS {
        numbers.push(client.request(CALL, 0, &content(seed, max), &mut taken));
    }
    while taken.len() < numbers.len() {
        taken.push(client.response().unwrap());
    }
    for (seed, (response, number)) in taken.into_iter().zip(numbers).enumerate() {
        assert_eq!((response.status, response.number), (OK, number));
        assert_eq!(response.body, content(seed as u64, max), "call {seed}");
    }
}

/// Client and server agree on the room in a ring: filling it to the last allowed line is not a violation.
#[test]
fn a_full_request_ring_is_served() {
    let bus = Bus::with(small);
    let mut client = Client::register(bus.path(), "alice").unwrap();
    for round in 0..50 {
        let mut requests = 0;
        let mut random = Random::new(round);
        while client.try_request(PING, 0, &vec![0; random.size(200)]).is_some() {
            requests += 1;
        }
        assert!(requests > 0);
        for _ in 0..requests {
            assert_eq!(client.response().unwrap().status, OK);
        }
    }
}

/// Each lost wake would cost the client 50 ms of sleep, so that these calls would exceed the time limit.
#[test]
fn ends_that_sleep_wake_each_other() {
    let bus = Bus::with(small);
    let mut client = Client::register(bus.path(), "alice").unwrap();
    for call in 0..3000_u32 {
        assert_eq!(client.ask(CALL, 0, &call.to_le_bytes()), (OK, call.to_le_bytes().to_vec()));
    }
}

/// Each lost kick would cost the time limit.
#[test]
fn it_waits_in_an_event_loop() {
    let bus = Bus::with(small);
    let mut client = Client::register(bus.path(), "alice").unwrap();
    let pipes = Pipes::of(bus.path(), &mut client);
    for call in 0..3000_u32 {
        let number = client.try_request(CALL, 0, &call.to_le_bytes()).unwrap();
        let response = pipes.response(&mut client).unwrap();
        assert_eq!(
            (response.number, response.status, response.body),
            (number, OK, call.to_le_bytes().to_vec())
        );
    }
    // Many on their way, so that it waits for room.
    let (mut taken, max) = (Vec::new(), client.largest - 8);
    for seed in 0..2000 {
        pipes.request(&mut client, CALL, &content(seed, max), &mut taken);
    }
    while taken.len() < 2000 {
        taken.push(pipes.response(&mut client).unwrap());
    }
    for (seed, response) in taken.into_iter().enumerate() {
        assert_eq!(response.body, content(seed as u64, max));
    }
    let (mut bob, key) = (bus.client("bob"), Key::from_bytes(client.key));
    let sends = begin(move || (0..1000_u32).for_each(|count| bob.send(key, &count.to_le_bytes()).unwrap()));
    for count in 0..1000_u32 {
        assert_eq!(pipes.receive(&mut client).payload, count.to_le_bytes());
    }
    sends.end("the messages");
    bus.server.shutdown();
    assert_eq!(pipes.response(&mut client), Err(Closed(4)));
}

#[test]
fn messages_go_both_ways() {
    let bus = Bus::with(small);
    let mut client = Client::register(bus.path(), "alice").unwrap();
    let mut other = bus.client("bob");
    let (status, key) = client.ask(LOOK_UP, 0, b"bob");
    assert_eq!((status, &key[..]), (OK, &bytes_of(other.key())[..]));
    assert_eq!(client.ask(LOOK_UP, 0, b"nobody"), (3, vec![]));
    assert_eq!(client.ask(LOOK_UP, 0, b" bob").0, 2);

    assert_eq!(client.ask(SEND, 0, &[&key[..], b"hi"].concat()), (OK, vec![]));
    let message = other.recv().unwrap();
    assert_eq!((message.sender_name().as_str(), message.payload()), ("alice", &b"hi"[..]));
    assert_eq!(bytes_of(message.sender()), client.key);
    for count in 0..200_u32 {
        let payload = content(count.into(), 1000);
        let sender = begin({
            let (key, payload) = (Key::from_bytes(client.key), payload.clone());
            move || {
                other.send(key, &payload).unwrap();
                other
            }
        });
        let expected = Message { count, key: key[..].try_into().unwrap(), name: "bob".into(), payload };
        assert_eq!(client.receive(), Ok(expected));
        other = sender.end("a message");
    }

    let own = pages::page(&client.ask(STATISTICS, 0, b"").1, 0).0;
    assert_eq!(own[0].counters, [0, 1, 200, 200, 2, 0]);

    let message = |time: Option<Duration>, payload: &[u8]| {
        let time = time.map(|time| u64::try_from(time.as_nanos()).unwrap().to_le_bytes());
        [&key[..], time.as_ref().map_or(&[], |time| &time[..]), payload].concat()
    };
    let mut lying = 0;
    while client.ask(SEND, 0, &message(None, b"")).0 == OK {
        lying += 1;
    }
    assert_eq!(client.ask(SEND, 0, &message(None, b"")), (4, vec![]), "full");
    let short = Some(Duration::from_millis(5));
    assert_eq!(client.ask(SEND, WAITS, &message(short, b"")), (5, vec![]), "still full");
    let long = Some(Duration::from_secs(60));
    let receiver = begin(move || {
        (0..lying).for_each(|_| assert!(other.recv().unwrap().payload().is_empty()));
        assert_eq!(other.recv().unwrap().payload(), b"waited");
        other
    });
    assert_eq!(client.ask(SEND, WAITS, &message(long, b"waited")), (OK, vec![]));
    let mut other = receiver.end("the messages");

    // The header of 8 bytes, the key and the sender's name also need room.
    let largest = client.largest - 8 - 16 - "alice".len();
    assert_eq!(client.ask(SEND, 0, &message(None, &vec![1; largest])), (OK, vec![]));
    assert_eq!(other.recv().unwrap().payload(), vec![1; largest]);
    assert_eq!(client.ask(SEND, 0, &message(None, &vec![1; largest + 1])), (7, vec![]));
    drop(other);
    assert_eq!(client.ask(SEND, 0, &message(None, b"late")), (3, vec![]));
}

#[test]
fn it_lists_clients_and_their_statistics() {
    // One client fits into a page on the rings.
    let bus = Bus::with(|builder| small(builder).max_block(256));
    let mut client = Client::register(bus.path(), "alice").unwrap();
    let others: Vec<_> = (0..5).map(|n| bus.client(&format!("other {n}"))).collect();
    client.ask(CALL, 0, b"four");
    client.ask(SEND, 0, &[&bytes_of(others[0].key())[..], b"seven b"].concat());
    let on_the_ring = pages::pages(|from| client.ask(LIST_CLIENTS, 0, from).1);
    assert_eq!(on_the_ring.len(), 6);
    for entry in &on_the_ring {
        let found = bus.server.clients().unwrap();
        let found = found.iter().find(|found| found.name.as_str() == entry.name).unwrap();
        let since = found.registered.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!((bytes_of(found.key), u128::from(entry.registered)), (entry.key, since.as_nanos()));
        assert_eq!(([found.pid, found.uid, found.gid], 0), (entry.owner, entry.state));
    }
    let (status, own) = client.ask(STATISTICS, 0, b"");
    let (own, next) = pages::page(&own, 0);
    assert_eq!((status, own.len(), next), (OK, 1, None));
    assert_eq!((own[0].key, own[0].counters), (client.key, [1, 1, 0, 0, 11, 4]));

    let observer = Connection::to(bus.path());
    let on_the_socket = pages::pages(|from| observer.ask(LIST, from).body());
    let names = |entries: &[pages::Entry]| entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&on_the_socket), names(&on_the_ring));
    let description = observer.ask(SERVER, b"").body();
    let info = bus.server.info();
    assert_eq!([0, 4, 8, 12].map(|at| u32_at(&description, at)), [info.pid, info.uid, 6, info.max_clients]);
    assert_eq!([24, 32].map(|at| u64_at(&description, at)), [4096, 256]);
    let text = String::from_utf8(description[41..].to_vec()).unwrap();
    let (version, quotas) = text.split_once('\0').unwrap();
    assert_eq!((description[40], version), (2, info.version.as_str()));
    let asking = format!("asking={}", info.quotas.unwrap().asking);
    assert!(quotas.split(' ').any(|quota| quota == asking), "{quotas}");
    // An observer may register.
    assert_eq!(Client::register_on(observer, "late").unwrap().ask(PING, 0, b"").0, OK);
}

#[test]
fn refusals_have_their_codes() {
    let bus = Bus::with(|builder| small(builder).max_clients(2));
    let say = |datagram: &[u8]| {
        let connection = Connection::to(bus.path());
        connection.send(datagram);
        let code = connection.receive().refusal();
        connection.ends();
        code
    };
    assert_eq!(say(b"RINGPOS?\x01\0\0\0\x03\0\0\0"), 1);
    assert_eq!(say(&datagram(PROTOCOL, SERVER, b"")[..15]), 1);
    assert_eq!(say(&datagram(PROTOCOL, REGISTER, &[b'a'; 16_400])), 1);
    assert_eq!(say(&datagram(PROTOCOL + 1, SERVER, b"")), 2);
    assert_eq!(say(&datagram(PROTOCOL, 99, b"")), 3);
    assert_eq!(say(&datagram(PROTOCOL, SERVER, b"x")), 3);
    assert_eq!(say(&datagram(PROTOCOL, LIST, b"abc")), 3);
    for name in ["", " a", "a\n", "0040180g7zzzzzzzzzzzzzzzzz", &"a".repeat(65)] {
        assert_eq!(say(&datagram(PROTOCOL, REGISTER, name.as_bytes())), 4, "{name:?}");
    }
    let _held = [64, 5].map(|bytes| Client::register(bus.path(), &"a".repeat(bytes)).unwrap());
    assert_eq!(say(&datagram(PROTOCOL, REGISTER, b"aaaaa")), 5);
    assert_eq!(say(&datagram(PROTOCOL, REGISTER, b"b")), 6);
    let silent = Connection::to(bus.path());
    assert_eq!(silent.receive().refusal(), 3, "nothing was asked");
}

#[test]
fn ends_are_told_with_their_reasons() {
    let bus = Bus::with(small);
    let mut talks = Client::register(bus.path(), "talks").unwrap();
    talks.connection.send(b"anything");
    assert_eq!(talks.receive(), Err(Closed(6)));
    talks.connection.ends();

    let gone = Client::register(bus.path(), "gone").unwrap();
    drop(gone);
    eventually("the name is free", || Client::register(bus.path(), "gone").is_ok());

    let mut client = Client::register(bus.path(), "alice").unwrap();
    let mut other = bus.client("bob");
    other.send(Key::from_bytes(client.key), b"last").unwrap();
    let sleeper = begin(move || {
        let last = client.receive().unwrap();
        (last.payload, client.receive(), client.response(), client.connection.receive())
    });
    bus.server.join_after_shutdown();
    let (last, inbox, responses, connection) = sleeper.end("the shutdown");
    assert_eq!((&last[..], inbox, responses), (&b"last"[..], Err(Closed(4)), Err(Closed(4))));
    assert!(matches!(connection, Reply::End));
}
