//! Tests of protocol violations: each rule is broken once, by a client and by a server.
//!
//! A client that breaks a rule is disconnected with a violation; calls of another client go on, and the
//! server shuts down in time. If a server breaks a rule, its client reports that.

mod common;

use common::noise;
use common::payload::Random;
use common::raw::{
    CALL, DATA_RECORD, Heard, LINE, LIST_CLIENTS, LOOK_UP, PADDING_RECORD, PING, RawClient, Ring, SEND,
    VERSION, accept, block, datagram, header, hear, listen_at, say_with,
};
use common::{Begun, Bus, LIMIT, Place, begin, eventually, within_limit};
use ringpost::channel::{self, Host};
use ringpost::testing::futex_wake;
use ringpost::{CallError, Client, Name, RecvError, SendError, Violation, WaitStrategy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RING: u64 = 4096;
const MAX_BLOCK: u64 = RING / 2 - 8;
/// The value in a channel's closed word.
const VIOLATION: u32 = 6;

/// A well-behaved client that calls without pause.
struct Honest {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    calling: Begun<()>,
}

impl Honest {
    fn start(mut client: Client) -> Honest {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&calls));
        let calling = begin(move || {
            for call in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                assert_eq!(client.call(&call.to_le_bytes()).unwrap(), call.to_le_bytes());
                count.store(call + 1, Ordering::Relaxed);
            }
            client.unregister().unwrap();
        });
        Honest { stop, calls, calling }
    }

    /// Ends it, after checking that its calls still succeed.
    fn end(self) {
        let calls = self.calls.load(Ordering::Relaxed);
        eventually("the honest client's calls go on", || {
            self.calls.load(Ordering::Relaxed) > calls + 10 || self.calling.is_over()
        });
        self.stop.store(true, Ordering::Relaxed);
        self.calling.end("the honest client's calls");
    }
}

fn ping(offender: &mut RawClient) {
    let sequence = offender.request(PING, 0, &[]);
    assert_eq!(offender.response(), Some((0, sequence, vec![])));
}

/// Lets a client that was valid until then commit `offence`, and checks what follows.
fn offend(what: &str, offence: impl FnOnce(&mut RawClient, &Bus)) {
    let bus = Bus::with(|b| b.ring_size(RING as usize));
    let honest = Honest::start(bus.client("honest"));
    let mut offender = RawClient::register(bus.path(), "offender");
    assert_eq!(offender.ring_size(), RING);
    offence(&mut offender, &bus);
    eventually(what, || offender.closed() != 0);
    assert_eq!(offender.closed(), VIOLATION, "{what}");
    assert!(matches!(hear(&offender.line), Heard::End), "{what}");
    // Its name is free again, and a new client of this name is served.
    eventually("the name is free", || Client::register(bus.path(), "offender").is_ok());
    honest.end();
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!((summary.violations, summary.abandoned), (1, 0), "{what}");
}

#[test]
fn headers_that_break_the_rules() {
    type Word = fn(u64) -> u64;
    let cases: [(&str, Word); 9] = [
        ("another position", |at| header(at + 7 * LINE, DATA_RECORD, 8)),
        ("the position of an earlier lap", |at| header(at + RING, DATA_RECORD, 8)),
        ("no kind", |at| header(at, 0, 8)),
        ("both kinds", |at| header(at, 3, 8)),
        ("one byte too long", |at| header(at, DATA_RECORD, MAX_BLOCK + 1)),
        ("the longest length", |at| header(at, DATA_RECORD, u32::MAX.into())),
        ("padding that ends too early", |at| header(at, PADDING_RECORD, 8)),
        ("padding that goes on too long", |at| header(at, PADDING_RECORD, RING - at % RING)),
        ("all ones", |_| u64::MAX),
    ];
    for (what, word) in cases {
        offend(what, |offender, _| {
            ping(offender);
            offender.put_header(word(offender.tail));
        });
    }
    offend("padding at the start of the ring", |offender, _| {
        offender.put_header(header(0, PADDING_RECORD, RING - 8));
    });
    offend("a record past the end of the ring", |offender, _| {
        while offender.tail % RING != RING - LINE {
            ping(offender);
        }
        offender.put_header(header(offender.tail, DATA_RECORD, 57));
    });
}

#[test]
fn blocks_without_a_header() {
    for len in [0, 1, 7] {
        offend("a short block", |offender, _| {
            ping(offender);
            offender.publish(&[1; 8][..len]);
        });
    }
}

/// Sends requests without reading responses, until the server looks at the head again.
fn ask_on(offender: &mut RawClient) {
    for sequence in 1000.. {
        if offender.closed() != 0 {
            return;
        }
        assert!(sequence < 1200, "the server never looked at the head");
        offender.publish(&block(PING, 0, sequence, &[]));
        eventually("the request is taken", || offender.all_taken() || offender.closed() != 0);
    }
}

#[test]
fn heads_of_the_response_ring_that_cannot_be() {
    for head in [1, 63, 1 << 20, u64::MAX, u64::MAX - 63] {
        offend("a head that cannot be", |offender, _| {
            offender.head(Ring::Response).store(head, Ordering::Release);
            ask_on(offender);
        });
    }
    offend("a head that goes back", |offender, _| {
        for _ in 0..100 {
            ping(offender);
        }
        offender.head(Ring::Response).store(0, Ordering::Release);
        ask_on(offender);
    });
}

#[test]
fn heads_of_the_inbox_that_cannot_be() {
    for head in [1, RING * 2, u64::MAX - 63] {
        offend("a head that cannot be", |offender, bus| {
            let mut sender = bus.client("sender");
            offender.head(Ring::Inbox).store(head, Ordering::Release);
            let mut sent = 0;
            let error = loop {
                match sender.send(offender.key, b"x") {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
                assert!(sent < 100, "the server never looked at the head");
            };
            assert_eq!(error, SendError::Gone);
            sender.caller().ping().unwrap();
        });
    }
}

/// Wakes the sleeper on a word without a reason, until the channel is closed.
fn wake_for_nothing(offender: &RawClient, spoil: bool, pick: impl Fn(&RawClient) -> &AtomicU32) {
    let deadline = Instant::now() + LIMIT;
    while offender.closed() == 0 {
        assert!(Instant::now() < deadline, "wakes for nothing are never held against it");
        if spoil {
            pick(offender).store(0, Ordering::Relaxed);
        }
        futex_wake(pick(offender), 1);
        std::thread::yield_now();
    }
}

#[test]
fn wakes_for_nothing_on_the_request_ring() {
    for spoil in [false, true] {
        offend("waking the worker for nothing", |offender, _| {
            ping(offender);
            wake_for_nothing(offender, spoil, |offender| offender.consumer_parked(Ring::Request));
        });
    }
}

#[test]
fn wakes_for_nothing_on_the_response_ring() {
    offend("waking the worker that waits for room", |offender, _| {
        // 63 responses fill the ring; then the worker sleeps until there is room.
        for _ in 0..64 {
            offender.request(PING, 0, &[]);
            eventually("the request is taken", || offender.all_taken());
        }
        wake_for_nothing(offender, true, |offender| offender.producer_parked(Ring::Response));
    });
}

#[test]
fn wakes_for_nothing_on_the_inbox() {
    offend("waking a sender that waits for room", |offender, bus| {
        let mut sender = bus.client("sender");
        let key = offender.key;
        let full = (0..).find(|_| sender.try_send(key, b"x").is_err()).unwrap();
        assert_eq!(full, 63);
        let waiting = begin(move || {
            let sent = sender.send_timeout(key, b"y", LIMIT);
            sender.caller().ping().unwrap();
            sent
        });
        wake_for_nothing(offender, true, |offender| offender.producer_parked(Ring::Inbox));
        assert_eq!(waiting.end("the sender"), Err(SendError::Gone));
    });
}

/// Sets and clears the word by which a client drops its inbox, with various values, with and without a wake.
/// Such a client gets no more messages, and nothing else happens. One wake for that is allowed.
#[test]
fn inboxes_given_up_by_hand() {
    const GONE: Result<(), SendError> = Err(SendError::Gone);
    let bus = Bus::with(|b| b.ring_size(RING as usize));
    let honest = Honest::start(bus.client("honest"));
    let mut sender = bus.client("sender");
    for (value, full, wakes) in
        [(1, false, false), (2, true, true), (1 << 31, true, false), (u32::MAX, true, true)]
    {
        let mut deaf = RawClient::register(bus.path(), "deaf");
        let (key, word) = (deaf.key, deaf.given_up(Ring::Inbox));
        deaf.given_up(Ring::Request).store(u32::MAX, Ordering::Release);
        deaf.given_up(Ring::Response).store(u32::MAX, Ordering::Release);
        sender.send(key, b"x").unwrap();
        if full {
            while sender.try_send(key, b"x").is_ok() {}
            let mut waits = bus.client("waits");
            let waiting = begin(move || waits.send_timeout(key, b"y", 600 * LIMIT));
            eventually("it waits", || deaf.producer_parked(Ring::Inbox).load(Ordering::Relaxed) == 1);
            word.store(value, Ordering::Release);
            if wakes && deaf.producer_parked(Ring::Inbox).swap(0, Ordering::SeqCst) == 1 {
                futex_wake(deaf.producer_parked(Ring::Inbox), 1);
            }
            assert_eq!(waiting.end("who waits"), GONE, "{value}");
        }
        word.store(value, Ordering::Release);
        assert_eq!(sender.send(key, b"x"), GONE, "{value}");
        for _ in 0..1000 {
            word.store(0, Ordering::Release);
            assert_eq!(sender.send(key, b"x"), GONE, "{value}: for good");
            word.store(value, Ordering::Release);
        }
        ping(&mut deaf);
        assert_eq!(deaf.closed(), 0);
        drop(deaf);
        eventually("it is gone", || bus.server.info().clients == 2);
    }
    drop(sender);
    honest.end();
    assert_eq!(within_limit("the shutdown", move || bus.server.join_after_shutdown()).violations, 0);
}

/// Requests with invalid contents are answered with an error, and the client stays connected.
#[test]
fn requests_that_make_no_sense_are_answered() {
    let bus = Bus::with(|b| b.ring_size(RING as usize));
    let mut client = RawClient::register(bus.path(), "odd");
    let key = client.key.to_bytes();
    let with_time = |time: &[u8]| [&key[..], time].concat();
    let cases: [(&str, u16, u16, Vec<u8>, u16); 10] = [
        ("operation 0", 0, 0, vec![], 1),
        ("an unknown operation", 999, 0xffff, vec![1; 48], 1),
        ("the operation of a message", 0x100, 0, vec![0; 40], 1),
        ("a message without a key", SEND, 0, vec![], 2),
        ("half a key", SEND, 0, key[..15].to_vec(), 2),
        ("a wait without a time", SEND, 1, key.to_vec(), 2),
        ("a wait with half a time", SEND, 1, with_time(&[0; 7]), 2),
        ("a name that is none", LOOK_UP, 0, b"\xff".to_vec(), 2),
        ("a list of nothing", LIST_CLIENTS, 0, vec![], 2),
        ("a list beyond all slots", LIST_CLIENTS, 0, vec![0xff; 4], 0),
    ];
    for (what, operation, flags, body, expected) in cases {
        let sequence = client.request(operation, flags, &body);
        let (status, number, _) = client.response().unwrap_or_else(|| panic!("closed over {what}"));
        assert_eq!((status, number), (expected, sequence), "{what}");
    }
    // A send that would wait for ever, but there is room. The server does not check sequence numbers.
    client.request(SEND, 1, &with_time(&[0xff; 8]));
    assert_eq!(client.response().unwrap().0, 0);
    client.publish(&block(CALL, 0, 77, b"x"));
    assert_eq!(client.response(), Some((0, 77, b"x".to_vec())));
    client.publish(&block(CALL, 0, 77, b"y"));
    assert_eq!(client.response(), Some((0, 77, b"y".to_vec())));
    // The server does not read the shared closed word, so writing it changes nothing.
    client.segment.word32(128).store(u32::MAX, Ordering::Release);
    client.publish(&block(CALL, 0, 78, b"z"));
    eventually("it is answered all the same", || {
        client.record(Ring::Response, client.taken).load(Ordering::Acquire) != 0
    });
    drop(client);
    eventually("it is gone", || bus.server.info().clients == 0);
    assert_eq!(bus.server.join_after_shutdown().violations, 0);
}

/// A message that fits into a request, but not into an inbox together with its sender's name.
#[test]
fn a_message_that_fits_no_inbox_is_refused() {
    let bus = Bus::with(|b| b.ring_size(RING as usize).max_block(256));
    let mut client = RawClient::register(bus.path(), &"n".repeat(64));
    let room = 256 - 8 - 16;
    for (len, status) in [(room - 64, 0), (room - 63, 7), (room, 7)] {
        let mut body = client.key.to_bytes().to_vec();
        body.resize(16 + len, 0x33);
        client.request(SEND, 0, &body);
        assert_eq!(client.response().unwrap().0, status, "{len} bytes");
    }
}

/// Overwrites random words of the segment at full speed while the server uses it.
#[test]
fn a_segment_full_of_noise() {
    let bus = Bus::with(|b| b.ring_size(RING as usize));
    let honest = Honest::start(bus.client("honest"));
    let mut sender = bus.client("sender");
    let mut violations = 0;
    for seed in 0..20 {
        let noisy = RawClient::register(bus.path(), "noisy");
        let mut random = Random::new(seed);
        let until = Instant::now() + Duration::from_millis(100);
        while noisy.closed() != VIOLATION && Instant::now() < until {
            noise::rewrite(&noisy.segment, RING, &mut random, 200);
            noisy.wake();
            // Its inbox may be full, and nobody takes anything out of it.
            let _ = sender.send_timeout(noisy.key, b"hello", Duration::from_millis(100));
        }
        violations += u64::from(noisy.closed() == VIOLATION);
        sender.caller().ping().unwrap();
        drop(noisy);
        eventually("it is gone", || bus.server.info().clients == 2);
    }
    assert!(violations > 0, "the noise was never noticed");
    drop(sender);
    honest.end();
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!(summary.abandoned, 0);
}

/// A shutdown stays within its time limit while clients break the rules.
#[test]
fn shutdown_with_malicious_clients() {
    let bus = Bus::with(|b| b.ring_size(RING as usize).grace(Duration::from_millis(300)));
    let mut honest = bus.client("honest");
    let mut floods = Vec::new();
    let stop = Arc::new(AtomicBool::new(false));
    for i in 0..3 {
        let mut flooder = RawClient::register(bus.path(), &format!("flooder {i}"));
        let stop = Arc::clone(&stop);
        floods.push(begin(move || {
            // Sends requests without end: either reading no response, or all of them.
            while !stop.load(Ordering::Relaxed) {
                if flooder.tail - flooder.head(Ring::Request).load(Ordering::Acquire) < RING - 2 * LINE {
                    flooder.request(PING, 0, &[]);
                }
                if i > 0 {
                    let free = flooder.record(Ring::Response, flooder.taken).load(Ordering::Acquire) == 0;
                    if !free {
                        flooder.response();
                    }
                }
            }
            flooder.closed()
        }));
    }
    assert_eq!(honest.call(b"x").unwrap(), b"x");
    let Bus { server, place } = bus;
    let summary = within_limit("the shutdown", move || server.join_after_shutdown());
    assert_eq!(summary.abandoned, 0);
    assert!(place.is_clean());
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        assert_eq!(flood.end("a flooder"), 4, "shut down");
    }
}

// ---- a server that breaks the rules

/// Registers a client with a hand-written server, and lets `serve` misuse the channel.
fn with_false_server<T: Send + 'static>(
    serve: impl FnOnce(&mut Host) + Send + 'static,
    meet: impl FnOnce(&mut Client) -> T + Send + 'static,
) -> T {
    within_limit("a client of a false server", move || {
        let place = Place::new();
        let socket = listen_at(&place.path);
        let server = begin(move || {
            let line = accept(&socket);
            let _ = rustix::io::read(&line, &mut [0; 100]).unwrap();
            let (mut host, descriptor) = channel::create(RING as usize, WaitStrategy::Park).unwrap();
            say_with(&line, &datagram(VERSION, 0, &[7; 32]), &[&descriptor]);
            serve(&mut host);
            // Wait until the client closes the connection.
            let _ = rustix::io::read(&line, &mut [0; 1]);
        });
        let mut client = Client::register(&place.path, "alice").unwrap();
        let result = meet(&mut client);
        drop(client);
        server.end("the false server");
        result
    })
}

/// Answers the first request with this block.
fn answer(block: Vec<u8>) -> impl FnOnce(&mut Host) + Send + 'static {
    move |host| {
        host.requests.recv(&mut Vec::new()).unwrap();
        host.responses.send(&block).unwrap();
    }
}

#[test]
fn responses_that_break_the_rules() {
    let cases: [(&str, Vec<u8>, Violation); 5] = [
        ("the next number", block(0, 0, 1, b"x"), Violation::ResponseOrder),
        ("the number before", block(0, 0, u32::MAX, b"x"), Violation::ResponseOrder),
        ("no header", vec![], Violation::MalformedBlock),
        ("half a header", vec![0; 7], Violation::MalformedBlock),
        ("an unknown status", block(999, 0, 0, b"x"), Violation::MalformedBlock),
    ];
    for (what, response, violation) in cases {
        let (first, second) = with_false_server(answer(response), |client| {
            (client.call(b"x").map(|reply| reply.to_vec()), client.call(b"y").map(|reply| reply.to_vec()))
        });
        assert_eq!(first, Err(CallError::Violation(violation)), "{what}");
        assert!(second.is_err(), "{what}: it goes on");
    }
}

#[test]
fn answers_without_the_form_of_their_question() {
    let malformed = Violation::MalformedBlock;
    for body in [&[][..], &[1; 15], &[1; 17]] {
        let looked_up = with_false_server(answer(block(0, 0, 0, body)), |client| {
            client.look_up(Name::try_from("bob").unwrap())
        });
        assert_eq!(looked_up, Err(CallError::Violation(malformed)));
    }
    // No page; half a client; an endless list.
    for body in [&[][..], &[0xff; 50], &[0; 4]] {
        let list = with_false_server(answer(block(0, 0, 0, body)), Client::list);
        assert_eq!(list, Err(CallError::Violation(malformed)), "{body:?}");
    }
    let nobody = [0xff; 4];
    let statistics =
        with_false_server(answer(block(0, 0, 0, &nobody)), |client| client.caller().statistics());
    assert_eq!(statistics, Err(CallError::Violation(malformed)));
}

#[test]
fn messages_that_break_the_rules() {
    const MESSAGE: u16 = 0x100;
    let message = |name_len: u16, rest: &[u8]| block(MESSAGE, name_len, 0, &[&[9; 16][..], rest].concat());
    let honest = message(3, b"bobhello");
    let cases: [(&str, Vec<u8>); 7] = [
        ("nothing", vec![]),
        ("no key", block(MESSAGE, 0, 0, &[9; 15])),
        ("no message", block(1, 3, 0, &[9; 40])),
        ("a name beyond the block", message(4, b"bob")),
        ("a name too long", message(65, &[b'x'; 100])),
        ("no name", message(0, b"hello")),
        ("a name that is none", message(3, b"b\nbhello")),
    ];
    for (what, bad) in cases {
        let honest = honest.clone();
        let serve = move |host: &mut Host| {
            host.inbox.send(&honest).unwrap();
            host.inbox.send(&bad).unwrap();
        };
        let (first, second, third) =
            with_false_server(serve, |client| (client.recv(), client.recv(), client.try_recv()));
        let first = first.unwrap();
        assert_eq!((first.sender_name().as_str(), first.payload()), ("bob", &b"hello"[..]));
        assert_eq!(second, Err(RecvError::Violation(Violation::MalformedBlock)), "{what}");
        assert!(third.is_err(), "{what}");
    }
}
