//! Calls of a server, and its questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringpost::{Async, CallError, CloseReason, ReadinessError, ServiceError};
use tokio::{join, task};

use crate::common::{Bus, Gate, LIMIT, begin};
use crate::run::poll_times;

on_each_runtime! {
    each_operation_of_a_caller
    what_fails_says_why
    calls_wait_for_room_and_responses_come_in_order
    a_full_ring_of_uncollected_responses_does_not_block
    a_shutdown_ends_what_is_awaited
    a_closer_ends_what_is_awaited
    a_task_that_is_always_ready_lets_others_run
}

async fn each_operation_of_a_caller() {
    let bus = Bus::start();
    let mut alice = bus.wrapped("alice");
    let bob = bus.client("bob");
    assert_eq!(alice.call(b"ping").await.unwrap(), b"ping");
    alice.submit(b"one").await.unwrap();
    alice.submit("two").await.unwrap();
    assert_eq!(alice.call(b"three").await.unwrap(), b"three");
    assert_eq!(alice.response().await.unwrap(), b"one");
    assert_eq!(alice.response().await.unwrap(), b"two");
    assert_eq!(alice.response().await, Err(CallError::NothingOutstanding));
    alice.ping().await.unwrap();
    assert_eq!(alice.look_up("bob").await.unwrap(), Some(bob.key()));
    assert_eq!(alice.look_up(bob.key()).await.unwrap(), Some(bob.key()));
    assert_eq!(alice.look_up("carol").await.unwrap(), None);
    let names: Vec<_> = alice.list().await.unwrap().iter().map(|client| client.name.to_string()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(alice.statistics().await.unwrap().calls, 4);
    alice.unregister().await.unwrap();
    bus.client("alice");
    // A blocking end and a future by turns.
    let mut bob = Async::new(bob).unwrap();
    assert_eq!(bob.call(b"a").await.unwrap(), b"a");
    assert_eq!(bob.get_mut().call(b"b").unwrap(), b"b");
    assert_eq!(bob.call(b"c").await.unwrap(), b"c");
    let mut bob = bob.into_inner();
    assert_eq!(bob.call(b"d").unwrap(), b"d");
    let mut bob = Async::new(bob).unwrap();
    assert_eq!(bob.call(b"e").await.unwrap(), b"e");
}

async fn what_fails_says_why() {
    let bus = Bus::with(|builder| {
        builder.service(|request, response| match request.payload() {
            b"fail" => Err(ServiceError::new("out of order")),
            b"panic" => panic!("as asked"),
            other => response.write(other),
        })
    });
    let mut alice = bus.wrapped("alice");
    let max = alice.get_ref().limits().max_call;
    let large = vec![1; max + 1];
    assert_eq!(alice.call(&large).await, Err(CallError::TooLarge { len: max + 1, max }));
    assert_eq!(alice.submit(&large).await, Err(CallError::TooLarge { len: max + 1, max }));
    assert_eq!(alice.call(&large[1..]).await.unwrap(), &large[1..]);
    assert_eq!(alice.call(b"fail").await, Err(CallError::ServiceFailed("out of order".into())));
    assert!(matches!(alice.call(b"panic").await, Err(CallError::ServiceFailed(_))));
    assert!(matches!(alice.look_up(" x").await, Err(CallError::InvalidName(_))));
    assert_eq!(alice.call(b"go on").await.unwrap(), b"go on");
    let carol = bus.client("carol");
    carol.closer().close();
    assert!(matches!(Async::new(carol), Err(ReadinessError::Disconnected(CloseReason::Local))));
}

/// A server whose service waits until it is let go.
fn gated(gate: &Gate) -> Bus {
    let gate = gate.clone();
    Bus::with(|builder| {
        builder.ring_size(4096).grace(LIMIT).service(move |request, response| {
            gate.pass();
            response.write(request.payload())
        })
    })
}

async fn calls_wait_for_room_and_responses_come_in_order() {
    let gate = Gate::default();
    let bus = gated(&gate);
    let mut alice = bus.wrapped("alice");
    let payload = |number: u8| [number; 1000];
    // Without anybody who serves, the ring has room for a few.
    let mut sent = 0;
    while poll_times(1, alice.submit(&payload(sent))).await.is_some() {
        sent += 1;
    }
    assert!((2..10).contains(&sent), "{sent}");
    gate.open();
    for number in sent..100 {
        alice.submit(&payload(number)).await.unwrap();
    }
    assert_eq!(alice.call(&payload(100)).await.unwrap(), payload(100));
    for number in 0..100 {
        assert_eq!(alice.response().await.unwrap(), payload(number));
    }
}

/// Both rings are full, and whoever waits for room makes some in the other.
async fn a_full_ring_of_uncollected_responses_does_not_block() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let mut alice = bus.wrapped("alice");
    for number in 0..200_u8 {
        alice.submit(&[number; 900]).await.unwrap();
    }
    alice.ping().await.unwrap();
    for number in 0..200_u8 {
        assert_eq!(alice.response().await.unwrap(), [number; 900]);
    }
}

async fn a_shutdown_ends_what_is_awaited() {
    let gate = Gate::default();
    let bus = gated(&gate);
    let mut alice = bus.wrapped("alice");
    let mut bob = bus.wrapped("bob");
    let stopper = bus.server.stopper();
    let ending = begin({
        let gate = gate.clone();
        move || {
            gate.wait_for(1);
            stopper.shutdown();
            // What was being served is answered.
            gate.open();
        }
    });
    let (called, received) = join!(alice.call(b"last"), bob.recv());
    assert_eq!(called.unwrap(), b"last");
    assert_eq!(received, Err(ringpost::RecvError::Disconnected(CloseReason::Shutdown)));
    ending.end("the shutdown");
    let later = loop {
        match alice.call(b"later").await {
            Err(error) if error.is_disconnected() => break error,
            Err(CallError::ShuttingDown) | Ok(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(later, CallError::NotSent(CloseReason::Shutdown));
    assert!(bob.recv().await.unwrap_err().is_disconnected());
}

async fn a_closer_ends_what_is_awaited() {
    let gate = Gate::default();
    let bus = gated(&gate);
    let mut alice = bus.wrapped("alice");
    let mut bob = bus.wrapped("bob");
    let (of_alice, of_bob) = (alice.get_ref().closer(), bob.get_ref().closer());
    let closing = begin({
        let gate = gate.clone();
        move || {
            gate.wait_for(1);
            of_alice.close();
            of_bob.close();
        }
    });
    let (called, received) = join!(alice.call(b"x"), bob.recv());
    assert_eq!(called, Err(CallError::Disconnected(CloseReason::Local)));
    assert_eq!(received, Err(ringpost::RecvError::Disconnected(CloseReason::Local)));
    closing.end("the closes");
    gate.open();
}

async fn a_task_that_is_always_ready_lets_others_run() {
    let bus = Bus::start();
    let mut alice = bus.wrapped("alice");
    for _ in 0..500 {
        alice.send("alice", b"x").await.unwrap();
    }
    // Each is there already, so that no look finds nothing.
    let received = AtomicUsize::new(0);
    let receives = async {
        for _ in 0..500 {
            alice.recv().await.unwrap();
            received.fetch_add(1, Ordering::Relaxed);
        }
    };
    // Polled in this order.
    let ((), so_far) = join!(receives, async { received.load(Ordering::Relaxed) });
    assert!((1..500).contains(&so_far), "{so_far}");
}

/// Outside of tokio's runtimes it is async-io, also with both features on.
#[test]
fn the_runtime_is_the_one_that_is_there() {
    let bus = Bus::start();
    let mut alice = bus.wrapped("alice");
    assert_eq!(async_io::block_on(alice.call(b"async-io")).unwrap(), b"async-io");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // async-io has a thread of its own, so tokio may wait for it.
    assert_eq!(runtime.block_on(alice.call(b"tokio waits")).unwrap(), b"tokio waits");
    let mut alice = runtime.block_on(async { Async::new(alice.into_inner()).unwrap() });
    assert_eq!(runtime.block_on(alice.call(b"tokio")).unwrap(), b"tokio");
}

#[test]
fn a_runtime_that_has_ended_cannot_be_waited_in() {
    let gate = Gate::default();
    let bus = gated(&gate);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut alice = runtime.block_on(async { bus.wrapped("alice") });
    drop(runtime);
    assert_eq!(async_io::block_on(alice.call(b"x")), Err(CallError::CannotWait));
    assert_eq!(async_io::block_on(alice.recv()), Err(ringpost::RecvError::CannotWait));
    gate.open();
    let mut alice = alice.into_inner();
    assert_eq!(alice.call(b"y").unwrap(), b"y", "and not the response to x");
}

/// Counts how often a future is polled.
async fn counted<F: Future>(polls: Arc<AtomicUsize>, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(cx)
    })
    .await
}

/// A task that waits is not polled, also if responses are there that nobody has asked for yet.
#[test]
fn whoever_waits_is_left_alone() {
    let gate = Gate::default();
    let inner = gate.clone();
    let bus = Bus::with(|builder| {
        builder.service(move |request, response| {
            if request.payload() == b"wait" {
                inner.pass();
            }
            response.write(request.payload())
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut bob, mut carol) = (bus.wrapped("bob"), bus.wrapped("carol"));
        let polls = Arc::new(AtomicUsize::new(0));
        let receives = task::spawn(counted(Arc::clone(&polls), async move { bob.recv().await.unwrap() }));
        let calls = task::spawn(counted(Arc::clone(&polls), async move {
            carol.submit(b"kept").await.unwrap();
            carol.call(b"behind it").await.unwrap();
            carol.call(b"wait").await.unwrap();
            carol.response().await.unwrap().to_vec()
        }));
        while polls.load(Ordering::Relaxed) < 2 {
            task::yield_now().await;
        }
        let mut alice = bus.wrapped("alice");
        for _ in 0..1000 {
            alice.call(b"x").await.unwrap();
        }
        let so_far = polls.load(Ordering::Relaxed);
        assert!(so_far <= 20, "{so_far}");
        alice.send("bob", b"go").await.unwrap();
        assert_eq!(receives.await.unwrap().payload(), b"go");
        gate.open();
        assert_eq!(calls.await.unwrap(), b"kept");
    });
}
