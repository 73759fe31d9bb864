//! Messages: sizes, full inboxes, waiting senders and their order, receivers and senders that go away
//! meanwhile.

use crate::common::payload::content;
use crate::common::proc::{worker_is_gone, worker_sleeps};
use crate::common::raw::{RawClient, SEND};
use crate::common::{Bus, LIMIT, begin, eventually, finds_no_room, slot_of, within_limit};
use ringpost::{CallError, Caller, Client, Key, SendError};
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(20);

/// Sends until the receiver's inbox takes no more of these; how many it took.
fn fill(sender: &mut Client, to: Key, message: &[u8]) -> usize {
    for sent in 0.. {
        match sender.try_send(to, message) {
            Ok(()) => {}
            Err(SendError::InboxFull) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

/// A sender by hand that waits for room in the receiver's inbox: when this returns, it stands in the queue.
fn waiting_sender(bus: &Bus, name: &str, to: Key, message: &[u8]) -> RawClient {
    let mut sender = RawClient::register(bus.path(), name);
    let mut body = to.to_bytes().to_vec();
    body.extend_from_slice(&(LIMIT.as_nanos() as u64).to_le_bytes());
    body.extend_from_slice(message);
    sender.request(SEND, 1, &body);
    // Its worker has taken the request and then went to sleep over it.
    eventually("the worker takes the request", || sender.all_taken());
    eventually("the sender waits", || worker_sleeps(name));
    sender
}

/// The answer to the message that was submitted first.
fn answer(caller: &mut Caller) -> Result<(), SendError> {
    let mut answer = None;
    eventually("an answer comes", || {
        answer = caller.try_sent().transpose();
        answer.is_some()
    });
    answer.unwrap()
}

/// Calls and messages that were submitted are answered in their order, each of the messages with what became
/// of it.
#[test]
fn messages_that_are_submitted_are_answered_in_order_with_the_calls() {
    let bus = Bus::with(|builder| {
        builder.ring_size(4096).service(|request, response| response.write(request.payload()))
    });
    let (mut bob, mut gone, carol) = (bus.client("bob"), bus.client("gone"), bus.client("carol"));
    let (mut caller, _inbox) = bus.client("alice").split();
    assert_eq!(
        caller.try_submit_send(bob.key(), &[7; 4096], MOMENT),
        Err(CallError::TooLarge { len: 4096, max: caller.limits().max_message })
    );
    let gone_key = gone.key();
    gone.caller().ping().unwrap();
    gone.unregister().unwrap();
    carol.split().0.ping().unwrap();
    for patience in [Duration::ZERO, MOMENT, Duration::MAX] {
        caller.try_submit(b"one").unwrap();
        caller.try_submit_send(bob.key(), b"first", patience).unwrap();
        caller.try_submit_send(gone_key, b"nobody", patience).unwrap();
        caller.try_submit_send(bob.key(), b"", patience).unwrap();
        caller.try_submit(b"two").unwrap();
        assert_eq!(caller.outstanding(), 5);
        // One that is waited for comes last of all, and what came before it is kept.
        assert_eq!(caller.call(b"three").unwrap(), b"three");
        assert_eq!(caller.response().unwrap(), b"one");
        assert_eq!(answer(&mut caller), Ok(()));
        assert_eq!(answer(&mut caller), Err(SendError::NotFound));
        assert_eq!(answer(&mut caller), Ok(()));
        assert_eq!(caller.response().unwrap(), b"two");
        assert_eq!(bob.recv().unwrap().payload(), b"first");
        assert_eq!(bob.recv().unwrap().payload(), b"");
        assert!(bob.try_recv().unwrap().is_none());
    }
    assert!(matches!(caller.try_sent(), Err(SendError::Server(_))), "nothing is outstanding");
    // The inbox is full.
    let mut sent = 0;
    let full = loop {
        caller.try_submit_send(bob.key(), &[7; 1000], Duration::ZERO).unwrap();
        match answer(&mut caller) {
            Ok(()) => sent += 1,
            Err(full) => break full,
        }
    };
    assert_eq!((full, sent > 1), (SendError::InboxFull, true));
    caller.try_submit_send(bob.key(), &[7; 1000], MOMENT).unwrap();
    assert_eq!(answer(&mut caller), Err(SendError::TimedOut));
    // The server waits for room on its behalf.
    caller.try_submit_send(bob.key(), &[8; 1000], LIMIT).unwrap();
    assert_eq!(caller.try_sent(), Ok(None));
    for _ in 0..sent {
        assert_eq!(bob.recv().unwrap().payload(), [7; 1000]);
    }
    assert_eq!((answer(&mut caller), bob.recv().unwrap().payload()), (Ok(()), &[8; 1000][..]));
    // What was submitted when the connection ended may have been delivered.
    caller.try_submit_send(bob.key(), b"x", MOMENT).unwrap();
    eventually("it is answered", || bob.try_recv().unwrap().is_some());
    caller.try_submit_send(bob.key(), b"x", MOMENT).unwrap();
    caller.closer().close();
    let ended = caller.try_submit_send(bob.key(), b"x", MOMENT).unwrap_err();
    assert!(ended.is_disconnected() && !ended.may_have_executed(), "{ended}");
}

/// A sender that waits with the largest message, where one unread line is in its way, does not close the
/// inbox to others; and it is not starved by them once the receiver reads.
#[test]
fn small_messages_pass_a_large_one_that_waits_and_do_not_starve_it() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut bob, mut alice) = (bus.client("bob"), bus.client("alice"));
    let small = |alice: &mut Client, bob: &Client| alice.try_send(bob.key(), b"small");
    for _ in 0..32 {
        small(&mut alice, &bob).unwrap();
        bob.recv().unwrap();
    }
    small(&mut alice, &bob).unwrap();
    let large = vec![b'L'; 2000];
    let mut mallory = waiting_sender(&bus, "mallory", bob.key(), &large);
    let also_waits = waiting_sender(&bus, "mallory's friend", bob.key(), &large[..1990]);
    for _ in 0..20 {
        small(&mut alice, &bob).unwrap();
        alice.send_timeout(bob.key(), b"small", LIMIT).unwrap();
    }
    // From here on a small one comes for each that is read.
    let mut read = 0;
    loop {
        let message = bob.recv().unwrap();
        if message.payload()[0] == b'L' {
            break;
        }
        read += 1;
        assert!(read < 200, "the large one is starved");
        match small(&mut alice, &bob) {
            Ok(()) | Err(SendError::InboxFull) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(mallory.response().unwrap().0, 0);
    // One that gives up leaves nothing behind.
    drop(also_waits);
    eventually("it is gone", || worker_is_gone("mallory's friend"));
    while bob.try_recv().unwrap().is_some() {}
    small(&mut alice, &bob).unwrap();
}

#[test]
fn every_size_arrives_with_its_sender() {
    let bus = Bus::with(|b| b.ring_size(4096));
    // The longest name leaves the least room.
    let name = "ä".repeat(32);
    let mut alice = bus.client(&name);
    let mut bob = bus.client("bob");
    let max = alice.limits().max_message;
    assert_eq!(max, 2040 - 8 - 16 - 64);
    for size in 0..=max {
        let message: Vec<u8> = (0..size).map(|i| (i ^ size) as u8).collect();
        alice.try_send(bob.key(), &message).unwrap();
        let received = bob.recv().unwrap();
        assert_eq!(received.sender(), alice.key());
        assert_eq!(received.sender_name().as_str(), name);
        assert!(received.into_payload() == message, "{size} bytes");
    }
    let over = vec![0; max + 1];
    let too_large = Err(SendError::TooLarge { len: max + 1, max });
    assert_eq!(alice.try_send(bob.key(), &over), too_large);
    assert_eq!(alice.send_timeout(bob.key(), &over, LIMIT), too_large);
    assert_eq!(bob.try_recv(), Ok(None));
}

#[test]
fn a_key_that_nobody_has_is_refused() {
    let bus = Bus::with(|b| b.max_clients(2));
    let mut alice = bus.client("alice");
    let bob = bus.client("bob");
    let stale = bob.key();
    bob.unregister().unwrap();
    assert_eq!(alice.try_send(stale, b"x"), Err(SendError::NotFound));
    // Whoever comes next gets the same slot, but not the same key.
    let mut carol = bus.client("carol");
    assert_eq!(slot_of(carol.key()), slot_of(stale));
    assert_eq!(alice.try_send(stale, b"x"), Err(SendError::NotFound));
    assert_eq!(alice.send_timeout(stale, b"x", LIMIT), Err(SendError::NotFound));
    let near = Key::from_bytes(u128::to_le_bytes(u128::from_le_bytes(carol.key().to_bytes()) ^ 1));
    assert_eq!(alice.try_send(near, b"x"), Err(SendError::NotFound));
    assert_eq!(alice.try_send(Key::from_bytes(u128::to_le_bytes(0)), b"x"), Err(SendError::NotFound));
    assert_eq!(alice.try_send(Key::from_bytes(u128::to_le_bytes(u128::MAX)), b"x"), Err(SendError::NotFound));
    assert_eq!(carol.try_recv(), Ok(None));
    alice.try_send(carol.key(), b"y").unwrap();
    assert_eq!(carol.recv().unwrap().payload(), b"y");
}

#[test]
fn a_client_can_write_to_itself() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    alice.try_send(alice.key(), b"note").unwrap();
    let message = alice.recv().unwrap();
    assert_eq!((message.sender(), message.payload()), (alice.key(), &b"note"[..]));
}

#[test]
fn a_full_inbox_is_an_error_at_once_and_loses_nothing() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    for _ in 0..3 {
        // 24 bytes before the payload and 5 of name: one line each, and one line stays zero.
        assert_eq!(fill(&mut alice, bob.key(), b"message"), 63);
        finds_no_room(&mut alice, bob.key(), b"lost", MOMENT);
        for _ in 0..63 {
            assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"message");
        }
        assert_eq!(bob.try_recv(), Ok(None));
    }
    let counters = alice.caller().statistics().unwrap();
    assert_eq!((counters.sent, counters.bytes_in), (3 * 63, 3 * 63 * 7));
    let inbox = bob.caller().statistics().unwrap();
    assert_eq!((inbox.delivered, inbox.received), (3 * 63, 3 * 63));
}

#[test]
fn a_sender_waits_for_room_and_gets_it() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let (key, max) = (bob.key(), alice.limits().max_message);
    let full = fill(&mut alice, key, b"small");
    let waiting = {
        let large = vec![9; max];
        begin(move || alice.send_timeout(key, &large, LIMIT))
    };
    for _ in 0..full {
        assert_eq!(bob.recv().unwrap().payload(), b"small");
    }
    assert_eq!(bob.recv_timeout(LIMIT).unwrap().payload(), vec![9; max]);
    waiting.end("a sender for whom there is room").unwrap();
}

#[test]
fn waiting_senders_are_served_in_their_order() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let full = fill(&mut alice, bob.key(), b"x");
    let names: Vec<String> = (0..8).map(|i| format!("in order {i}")).collect();
    let mut waiting: Vec<RawClient> =
        names.iter().map(|name| waiting_sender(&bus, name, bob.key(), name.as_bytes())).collect();
    // Whoever does not want to wait does not overtake those who do.
    for _ in 0..10 {
        bob.recv().unwrap();
    }
    let late = alice.try_send(bob.key(), b"late");
    for _ in 10..full {
        assert_eq!(bob.recv().unwrap().payload(), b"x");
    }
    for name in &names {
        let message = bob.recv_timeout(LIMIT).unwrap();
        assert_eq!(message.sender_name().as_str(), name);
        assert_eq!(message.payload(), name.as_bytes());
    }
    if late.is_ok() {
        assert_eq!(bob.recv_timeout(LIMIT).unwrap().payload(), b"late");
    }
    for sender in &mut waiting {
        assert_eq!(sender.response().map(|(status, ..)| status), Some(0));
    }
    assert_eq!(bob.try_recv(), Ok(None));
}

/// One who gives up in the middle of the queue, or at its front, leaves it to those behind.
#[test]
fn senders_that_give_up_leave_the_queue() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let key = bob.key();
    let full = fill(&mut alice, key, b"x");
    let first = waiting_sender(&bus, "q-first", key, b"first");
    let mut second = waiting_sender(&bus, "q-second", key, b"second");
    let third = waiting_sender(&bus, "q-third", key, b"third");
    let mut fourth = waiting_sender(&bus, "q-fourth", key, b"fourth");
    drop((third, first));
    eventually("the dead's workers are gone", || worker_is_gone("q-first") && worker_is_gone("q-third"));
    for _ in 0..full {
        assert_eq!(bob.recv().unwrap().payload(), b"x");
    }
    assert_eq!(bob.recv_timeout(LIMIT).unwrap().payload(), b"second");
    assert_eq!(bob.recv_timeout(LIMIT).unwrap().payload(), b"fourth");
    assert_eq!(second.response().unwrap().0, 0);
    assert_eq!(fourth.response().unwrap().0, 0);
    assert_eq!(bob.try_recv(), Ok(None));
}

#[test]
fn senders_learn_that_the_receiver_left_while_they_waited() {
    for way in ["unregister", "drop", "close"] {
        let bus = Bus::with(|b| b.ring_size(4096));
        let (mut alice, bob) = (bus.client("alice"), bus.client("bob"));
        let key = bob.key();
        fill(&mut alice, key, b"x");
        let mut queued: Vec<RawClient> =
            (0..3).map(|i| waiting_sender(&bus, &format!("{way} {i}"), key, b"y")).collect();
        match way {
            "unregister" => bob.unregister().unwrap(),
            "drop" => drop(bob),
            _ => {
                bob.closer().close();
                drop(bob);
            }
        }
        for sender in &mut queued {
            let (status, ..) = sender.response().unwrap();
            assert_eq!(status, 6, "gone: {way}");
        }
        eventually("the key is unknown", || alice.try_send(key, b"z") == Err(SendError::NotFound));
    }
}

/// A sender that dies while it waits is no fault of the receiver's, however often it happens.
#[test]
fn the_deaths_of_waiting_senders_are_not_held_against_the_receiver() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let full = fill(&mut alice, bob.key(), b"x");
    for i in 0..100 {
        let name = format!("mortal {i}");
        drop(waiting_sender(&bus, &name, bob.key(), b"never"));
        eventually("its worker is gone", || worker_is_gone(&name));
    }
    bob.caller().ping().expect("the receiver did nothing wrong");
    for _ in 0..full {
        assert_eq!(bob.recv().unwrap().payload(), b"x");
    }
    alice.try_send(bob.key(), b"after").unwrap();
    assert_eq!(bob.recv().unwrap().payload(), b"after");
}

#[test]
fn an_inbox_that_nobody_reads_delays_nobody_else() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let lazy = bus.client("lazy");
    fill(&mut alice, lazy.key(), b"x");
    let _queued = waiting_sender(&bus, "patient", lazy.key(), b"y");
    for i in 0..1000_u32 {
        assert_eq!(alice.call(&i.to_le_bytes()).unwrap(), i.to_le_bytes());
        assert_eq!(alice.try_send(lazy.key(), b"z"), Err(SendError::InboxFull));
        alice.try_send(bob.key(), &i.to_le_bytes()).unwrap();
        assert_eq!(bob.recv().unwrap().payload(), i.to_le_bytes());
    }
}

/// Two halves on two threads each: everything sent arrives, once and in order, while calls go on.
#[test]
fn halves_work_on_their_own_threads() {
    within_limit("two split clients", || {
        let bus = Bus::with(|b| b.ring_size(8192));
        let (mut a_calls, mut a_inbox) = bus.client("a").split();
        let (mut b_calls, mut b_inbox) = bus.client("b").split();
        let (a, b) = (a_calls.key(), b_calls.key());
        std::thread::scope(|scope| {
            for (calls, to, seed) in [(&mut a_calls, b, 1_u64), (&mut b_calls, a, 2)] {
                scope.spawn(move || {
                    let max = calls.limits().max_message;
                    for i in 0..5000 {
                        let message = content(seed << 32 | i, max);
                        calls.send_timeout(to, &message, LIMIT).unwrap();
                        assert!(calls.call(&message).unwrap() == message);
                    }
                });
            }
            for (inbox, from, seed) in [(&mut a_inbox, b, 2_u64), (&mut b_inbox, a, 1)] {
                scope.spawn(move || {
                    let max = 8192 / 2 - 8 - 8 - 16 - 64;
                    for i in 0..5000 {
                        let message = inbox.recv().unwrap();
                        assert_eq!(message.sender(), from);
                        assert!(message.payload() == content(seed << 32 | i, max), "message {i}");
                    }
                });
            }
        });
        assert_eq!(a_inbox.try_recv(), Ok(None));
        assert_eq!(b_inbox.try_recv(), Ok(None));
    });
}
