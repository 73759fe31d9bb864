//! A link whose requests are awaited several at once, and what a relay says as a future.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringpost::{Async, CallError, Client, CloseReason, OwnedRequest, SendError, ServiceError};
use tokio::join;
use tokio::sync::{Barrier, Notify};

use crate::common::Bus;
use crate::links::linked;
use crate::run::poll_times;

on_each_runtime! {
    as_many_are_awaited_at_once_as_may_be
    answers_keep_the_order_of_the_requests
    answers_without_room_are_sent_in_order
    a_service_that_is_dropped_answers_all
    posts_are_done_after_the_end
    a_relay_confirms
}

async fn as_many_are_awaited_at_once_as_may_be() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let (barrier, most) = (Arc::new(Barrier::new(4)), Arc::new(AtomicUsize::new(0)));
    let awaited = Arc::new(AtomicUsize::new(0));
    let service = |request: OwnedRequest| {
        let (barrier, most, awaited) = (Arc::clone(&barrier), Arc::clone(&most), Arc::clone(&awaited));
        async move {
            most.fetch_max(awaited.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // Only four together go on.
            barrier.wait().await;
            awaited.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, ServiceError>(request.payload().to_vec())
        }
    };
    let calls = async move {
        for number in 0..400_u32 {
            link.submit(&number.to_ne_bytes()).await.unwrap();
        }
        for number in 0..400_u32 {
            assert_eq!(link.response().await.unwrap(), number.to_ne_bytes());
        }
    };
    let (end, ()) = join!(responder.serve_pipelined(4, service), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
    assert_eq!(most.load(Ordering::Relaxed), 4);
}

async fn answers_keep_the_order_of_the_requests() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let done = Arc::new(Notify::new());
    let service = |request: OwnedRequest| {
        let done = Arc::clone(&done);
        async move {
            match request.payload() {
                b"first" => done.notified().await,
                b"fails" => return Err(ServiceError::new("as asked")),
                _ => done.notify_one(),
            }
            Ok(request.payload().to_vec())
        }
    };
    let calls = async move {
        for _ in 0..100 {
            for request in [&b"first"[..], b"fails", b"last"] {
                link.submit(request).await.unwrap();
            }
            assert_eq!(link.response().await.unwrap(), b"first");
            assert_eq!(link.response().await, Err(CallError::ServiceFailed("as asked".into())));
            assert_eq!(link.response().await.unwrap(), b"last");
        }
    };
    let (end, ()) = join!(responder.serve_pipelined(16, service), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn answers_without_room_are_sent_in_order() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let max = link.get_ref().limits().max_call;
    let service =
        |request: OwnedRequest| async move { Ok::<_, ServiceError>(vec![request.payload()[0]; max]) };
    let calls = async move {
        for round in 0..20 {
            for number in 0..10_u8 {
                link.submit(&[round + number]).await.unwrap();
            }
            for number in 0..10_u8 {
                assert_eq!(link.response().await.unwrap(), vec![round + number; max]);
            }
        }
    };
    let (end, ()) = join!(responder.serve_pipelined(3, service), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn a_service_that_is_dropped_answers_all() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    for number in 0..3_u8 {
        link.submit(&[number]).await.unwrap();
    }
    let never = |request: OwnedRequest| async move {
        if request.payload() != [1] {
            std::future::pending::<()>().await;
        }
        Ok::<_, ServiceError>(b"done".to_vec())
    };
    assert_eq!(poll_times(1, responder.serve_pipelined(2, never)).await, None);
    let given_up = |answer: Result<_, CallError>| matches!(answer, Err(CallError::ServiceFailed(_)));
    assert!(given_up(link.response().await.map(|_| ())));
    assert_eq!(link.response().await.unwrap(), b"done");
    // The third was not taken.
    let echo = |request: OwnedRequest| async move { Ok::<_, ServiceError>(request.payload().to_vec()) };
    let calls = async move {
        assert_eq!(link.response().await.unwrap(), [2]);
        assert_eq!(link.call(b"go on").await.unwrap(), b"go on");
    };
    let (end, ()) = join!(responder.serve_pipelined(2, echo), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn posts_are_done_after_the_end() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let (go, done) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let service = |request: OwnedRequest| {
        let (go, done) = (Arc::clone(&go), Arc::clone(&done));
        async move {
            if request.wants_response() {
                std::future::pending::<()>().await;
            }
            go.notified().await;
            done.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ServiceError>([])
        }
    };
    for _ in 0..5 {
        link.post(b"x").await.unwrap();
    }
    link.submit(b"a call").await.unwrap();
    let closer = link.get_ref().closer();
    let ends = async {
        closer.close();
        for _ in 0..5 {
            go.notify_one();
            crate::run::sleep(1).await;
        }
        go.notify_waiters();
    };
    let serves = async {
        // All are in its hands before the end.
        let mut serving = std::pin::pin!(responder.serve_pipelined(16, service));
        assert_eq!(poll_times(1, serving.as_mut()).await, None);
        let (end, ()) = join!(serving, ends);
        end
    };
    assert!(serves.await.is_ok());
    assert_eq!(done.load(Ordering::Relaxed), 5);
}

async fn a_relay_confirms() {
    let bus = Bus::start();
    let mut alice = bus.wrapped("alice");
    let mut bob = Async::new(Client::builder(bus.path()).relay().register("bob@b").unwrap()).unwrap();
    let to = bob.get_ref().key();
    let sends = async { [alice.send(to, b"one").await, alice.send(to, b"two").await] };
    let relays = async {
        let message = bob.recv().await.unwrap();
        let ticket = message.ticket().unwrap();
        assert_eq!(bob.confirm(ticket, Ok(())).await, Ok(true));
        assert_eq!(bob.confirm(ticket, Ok(())).await, Ok(false));
        // One that finds no room in time asks again.
        for outcome in [Err(SendError::TimedOut), Err(SendError::NotFound)] {
            let message = bob.recv().await.unwrap();
            assert_eq!(message.payload(), b"two");
            assert_eq!(bob.confirm(message.ticket().unwrap(), outcome).await, Ok(true));
        }
    };
    let (sent, ()) = join!(sends, relays);
    assert_eq!(sent, [Ok(()), Err(SendError::NotFound)]);
}
