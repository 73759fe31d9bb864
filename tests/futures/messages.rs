//! Messages as futures and as a stream.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use ringpost::{Async, CloseReason, RecvError, SendError, Server};
use tokio::join;

use crate::common::{Bus, Place};
use crate::run::{halves, poll_times, sleep};

on_each_runtime! {
    messages_are_sent_and_received
    a_send_waits_for_room
    a_client_calls_while_it_receives
    a_stream_ends_behind_the_end
    a_client_that_registers_again_is_wrapped_again
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

async fn messages_are_sent_and_received() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let key = bob.get_ref().key();
    let sends = async {
        for number in 0..1000_u32 {
            alice.send(key, &number.to_ne_bytes()).await.unwrap();
        }
        alice.send("bob", "by name").await.unwrap();
    };
    let receives = async {
        for number in 0..1000_u32 {
            let message = bob.recv().await.unwrap();
            assert_eq!(message.read::<u32>().unwrap(), number);
            assert_eq!(message.sender_name(), "alice");
        }
        assert_eq!(bob.recv().await.unwrap().payload(), b"by name");
    };
    join!(sends, receives);
    assert_eq!(alice.send("carol", b"x").await, Err(SendError::NotFound));
    assert!(matches!(alice.send(" carol", b"x").await, Err(SendError::InvalidName(_))));
    let max = alice.get_ref().limits().max_message;
    let large = vec![0; max + 1];
    assert_eq!(alice.send("bob", &large).await, Err(SendError::TooLarge { len: max + 1, max }));
    let (caller, inbox) = bob.into_inner().split();
    drop(inbox);
    assert_eq!(alice.send("bob", b"x").await, Err(SendError::Gone));
    drop(caller);
    assert_eq!(alice.send(key, b"x").await, Err(SendError::NotFound));
}

async fn a_send_waits_for_room() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let key = bob.get_ref().key();
    let sends = async {
        for number in 0..50_u8 {
            alice.send(key, &[number; 1000]).await.unwrap();
        }
    };
    let receives = async {
        // Longer than the server waits the first time.
        sleep(150).await;
        for number in 0..50_u8 {
            assert_eq!(bob.recv().await.unwrap().payload(), [number; 1000]);
        }
        assert!(bob.get_mut().try_recv().unwrap().is_none(), "nothing came twice");
    };
    join!(sends, receives);
}

async fn a_client_calls_while_it_receives() {
    let bus = Bus::start();
    let (mut caller, mut inbox) = halves(bus.client("alice"));
    let calls = async {
        for number in 0..200_u32 {
            assert_eq!(caller.call(&number.to_ne_bytes()).await.unwrap(), number.to_ne_bytes());
            caller.send("alice", &number.to_ne_bytes()).await.unwrap();
        }
    };
    let receives = async {
        for number in 0..200_u32 {
            assert_eq!(inbox.recv().await.unwrap().payload(), number.to_ne_bytes());
        }
    };
    join!(calls, receives);
    caller.unregister().await.unwrap();
    assert_eq!(inbox.recv().await, Err(RecvError::Disconnected(CloseReason::Unregistered)));
}

async fn a_stream_ends_behind_the_end() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    assert!(poll_times(1, next(&mut bob)).await.is_none());
    alice.send("bob", b"one").await.unwrap();
    alice.send("bob", b"two").await.unwrap();
    assert_eq!(next(&mut bob).await.unwrap().unwrap().payload(), b"one");
    bob.get_ref().closer().close();
    // What was delivered before comes first.
    assert_eq!(next(&mut bob).await.unwrap().unwrap().payload(), b"two");
    assert_eq!(next(&mut bob).await, Some(Err(RecvError::Disconnected(CloseReason::Local))));
    assert_eq!(next(&mut bob).await, None);
    assert_eq!(next(&mut bob).await, None);
}

async fn a_client_that_registers_again_is_wrapped_again() {
    let place = Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let policy = ringpost::Reconnect::default();
    let alice = ringpost::Client::builder(&place.path).reconnect(policy).register("alice").unwrap();
    let mut alice = Async::new(alice).unwrap();
    assert_eq!(alice.call(b"one").await.unwrap(), b"one");
    server.join_after_shutdown();
    assert_eq!(alice.recv().await, Err(RecvError::Disconnected(CloseReason::Shutdown)));
    for _ in 0..3 {
        assert!(alice.call(b"two").await.unwrap_err().is_disconnected(), "it does not register again here");
    }
    let _server = Server::builder(&place.path).start().unwrap();
    let mut client = alice.into_inner();
    let reconnected = std::thread::spawn(move || {
        client.caller().reconnect(None).unwrap();
        client
    });
    let mut alice = Async::new(reconnected.join().unwrap()).unwrap();
    assert_eq!(alice.call(b"three").await.unwrap(), b"three");
    alice.send("alice", b"a note").await.unwrap();
    assert_eq!(alice.recv().await.unwrap().payload(), b"a note");
}
