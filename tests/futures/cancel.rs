//! What a future leaves that is dropped, after each number of polls.

use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use ringpost::{Async, CallError, Client, Observer};
use tokio::join;

use crate::common::{Bus, Gate, eventually};
use crate::run::{poll_times, sleep};

on_each_runtime! {
    a_dropped_call_was_sent_wholly_or_not_at_all
    a_dropped_call_that_waits_for_room_was_not_sent
    a_dropped_response_is_there_for_the_next
    a_dropped_send_is_delivered_wholly_or_not_at_all
    a_dropped_send_does_not_hold_its_client
    a_dropped_recv_takes_no_message
    dropped_questions_leave_no_answers
    a_dropped_unregister_ends_the_registration
    a_future_may_go_on_in_another_task
}

/// A server that notes what it is called with.
fn noting() -> (Bus, Arc<Mutex<Vec<Vec<u8>>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    let bus = Bus::with(|builder| {
        builder.service(move |request, response| {
            notes.lock().unwrap().push(request.payload().to_vec());
            response.write(request.payload())
        })
    });
    (bus, noted)
}

/// What became of a request whose future was polled so often.
#[derive(PartialEq)]
enum Fate {
    Unsent,
    Unknown,
    Answered,
}

impl Fate {
    fn of<T>(polls: usize, output: &Option<T>) -> Fate {
        match output {
            Some(_) => Fate::Answered,
            None if polls == 0 => Fate::Unsent,
            None => Fate::Unknown,
        }
    }
}

/// Checks that each of these came once and whole, or not at all, in their order.
fn check(came: &[Vec<u8>], sent: &[(Vec<u8>, Fate)]) {
    let mut came = came.iter().peekable();
    for (bytes, fate) in sent {
        let is_there = came.next_if_eq(&bytes).is_some();
        assert!(is_there || *fate != Fate::Answered, "{bytes:?} is missing");
        assert!(!is_there || *fate != Fate::Unsent, "{bytes:?} was never sent");
    }
    assert_eq!(came.next(), None);
}

async fn a_dropped_call_was_sent_wholly_or_not_at_all() {
    let (bus, noted) = noting();
    let mut alice = bus.wrapped("alice");
    let mut sent = Vec::new();
    for round in 0..300_u32 {
        let request = [round.to_ne_bytes(); 20].concat();
        let polls = round as usize % 4;
        let called = poll_times(polls, alice.call(&request)).await;
        let fate = Fate::of(polls, &called);
        if let Some(reply) = called {
            assert_eq!(reply.unwrap(), request);
        }
        sent.push((request, fate));
        if round % 3 == 0 {
            let other = [b'x', round as u8];
            assert_eq!(alice.call(&other).await.unwrap(), other, "its own response");
            sent.push((other.to_vec(), Fate::Answered));
        }
    }
    alice.ping().await.unwrap();
    check(&noted.lock().unwrap(), &sent);
    // By turns with submitted calls, whose responses are kept.
    alice.submit(b"one").await.unwrap();
    let _ = poll_times(1, alice.call(b"two")).await;
    alice.submit(b"three").await.unwrap();
    let _ = poll_times(1, alice.call(b"four")).await;
    assert_eq!(alice.call(b"five").await.unwrap(), b"five");
    assert_eq!(alice.response().await.unwrap(), b"one");
    assert_eq!(alice.response().await.unwrap(), b"three");
    assert_eq!(alice.response().await, Err(CallError::NothingOutstanding));
}

async fn a_dropped_call_that_waits_for_room_was_not_sent() {
    let gate = Gate::default();
    let inner = gate.clone();
    let bus = Bus::with(|builder| {
        builder.ring_size(4096).service(move |request, response| {
            inner.pass();
            response.write(request.payload())
        })
    });
    let mut alice = bus.wrapped("alice");
    alice.submit(&[0; 1000]).await.unwrap();
    // The server has taken it, and takes no other.
    gate.wait_for(1);
    let mut sent = 1_u8;
    while poll_times(1, alice.submit(&[sent; 1000])).await.is_some() {
        sent += 1;
    }
    for polls in 0..2 {
        assert!(poll_times(polls, alice.call(&[99; 1000])).await.is_none());
        assert!(poll_times(polls, alice.submit(&[99; 1000])).await.is_none());
    }
    gate.open();
    for number in 0..sent {
        assert_eq!(alice.response().await.unwrap(), [number; 1000]);
    }
    assert_eq!(alice.response().await, Err(CallError::NothingOutstanding));
    assert_eq!(alice.statistics().await.unwrap().calls, u64::from(sent));
}

async fn a_dropped_response_is_there_for_the_next() {
    let gate = Gate::default();
    let inner = gate.clone();
    let bus = Bus::with(|builder| {
        builder.service(move |request, response| {
            inner.pass();
            response.write(request.payload())
        })
    });
    let mut alice = bus.wrapped("alice");
    for number in 0..10_u8 {
        alice.submit(&[number]).await.unwrap();
    }
    for polls in 0..2 {
        assert!(poll_times(polls, alice.response()).await.is_none());
    }
    gate.open();
    let mut next = 0;
    for polls in (0..3).cycle() {
        if let Some(reply) = poll_times(polls, alice.response()).await {
            assert_eq!(reply.unwrap(), [next]);
            next += 1;
            if next == 10 {
                break;
            }
        }
    }
    assert_eq!(alice.response().await, Err(CallError::NothingOutstanding));
}

async fn a_dropped_send_is_delivered_wholly_or_not_at_all() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let key = bob.get_ref().key();
    let mut sent = Vec::new();
    for round in 0..200_u32 {
        let message = [round.to_ne_bytes(); 30].concat();
        let polls = round as usize % 6;
        // A name is looked up first.
        let done = match round % 5 {
            0 => poll_times(polls, alice.send("bob", &message)).await,
            _ => poll_times(polls, alice.send(key, &message)).await,
        };
        sent.push((message, Fate::of(polls, &done)));
    }
    alice.send(key, b"last").await.unwrap();
    let mut came = Vec::new();
    while let Some(message) = bob.get_mut().try_recv().unwrap() {
        came.push(message.into_payload());
    }
    sent.push((b"last".to_vec(), Fate::Answered));
    check(&came, &sent);
}

async fn a_dropped_send_does_not_hold_its_client() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let key = bob.get_ref().key();
    let mut delivered = 0_u8;
    while bob_has_room(&mut alice, key, delivered) {
        delivered += 1;
    }
    assert!(poll_times(1, alice.send(key, &[77; 1000])).await.is_none());
    // The server answers this when it has given the message up, although bob receives nothing.
    assert_eq!(alice.call(b"go on").await.unwrap(), b"go on");
    for number in 0..delivered {
        assert_eq!(bob.recv().await.unwrap().payload(), [number; 1000]);
    }
    assert!(bob.get_mut().try_recv().unwrap().is_none());
}

fn bob_has_room(alice: &mut Async<Client>, bob: ringpost::Key, number: u8) -> bool {
    alice.get_mut().try_send(bob, &[number; 1000]).is_ok()
}

async fn a_dropped_recv_takes_no_message() {
    let bus = Bus::start();
    let mut bob = bus.wrapped("bob");
    let key = bob.get_ref().key();
    let mut alice = bus.client("alice");
    let sends = thread::spawn(move || {
        for number in 0..2000_u32 {
            alice.send(key, &number.to_ne_bytes()).unwrap();
        }
    });
    let mut next = 0_u32;
    let mut polls = 0;
    while next < 2000 {
        polls = (polls + 1) % 4;
        if let Some(message) = poll_times(polls, bob.recv()).await {
            assert_eq!(message.unwrap().read::<u32>().unwrap(), next);
            next += 1;
        }
        if polls == 0 {
            sleep(0).await;
        }
    }
    sends.join().unwrap();
    assert!(bob.get_mut().try_recv().unwrap().is_none());
}

async fn dropped_questions_leave_no_answers() {
    let bus = Bus::start();
    let mut alice = bus.wrapped("alice");
    for round in 0..60 {
        let polls = round % 3;
        let _ = poll_times(polls, alice.ping()).await;
        let _ = poll_times(polls, alice.look_up("alice")).await;
        let _ = poll_times(polls, alice.list()).await;
        let _ = poll_times(polls, alice.statistics()).await;
        assert_eq!(alice.call(&[round as u8]).await.unwrap(), [round as u8]);
        assert_eq!(alice.look_up("bob").await.unwrap(), None);
    }
}

async fn a_dropped_unregister_ends_the_registration() {
    let bus = Bus::start();
    for polls in 0..3 {
        let alice = bus.wrapped("alice");
        let _ = poll_times(polls, alice.unregister()).await;
        let path = bus.path().to_owned();
        eventually("the name is free", || Observer::connect(&path).unwrap().list().unwrap().is_empty());
    }
}

async fn a_future_may_go_on_in_another_task() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let mut receives = Box::pin(async move { bob.recv().await.unwrap().into_payload() });
    assert!(poll_times(1, &mut receives).await.is_none());
    // Its waker was this task's; from now on it is the join's.
    let (message, sent) = join!(receives, async {
        sleep(1).await;
        alice.send("bob", b"moved").await
    });
    sent.unwrap();
    assert_eq!(message, b"moved");
}
