//! Links as futures: to connect, to listen, to call and to serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringpost::{
    AcceptError, Async, CallError, Client, CloseReason, ConnectError, Link, Observer, OwnedRequest,
    Responder, ServeError, ServiceError,
};
use tokio::{join, select};

use crate::common::role::{Role, Stage, say, setting};
use crate::common::server::{shut_down, start_server};
use crate::common::{Bus, Place, eventually};
use crate::run::{poll_times, sleep};

on_each_runtime! {
    a_link_is_opened_and_served
    a_service_may_await_and_call_others
    what_a_service_fails_with_is_told
    posts_and_calls_come_in_order
    large_calls_wait_for_room_on_both_sides
    who_cannot_be_connected_says_why
    a_dropped_connect_leaves_nothing
    a_dropped_listen_does_not_listen
    a_dropped_accept_takes_nobody
    a_service_that_is_dropped_answers
    a_dropped_call_on_a_link_leaves_no_answer
    a_peer_that_dies_ends_what_is_awaited
    a_link_outlives_the_server
    a_listener_ends_with_its_client
    a_blocking_peer_serves_and_calls
}

async fn echo(request: OwnedRequest) -> Result<Vec<u8>, ServiceError> {
    Ok(request.payload().to_vec())
}

/// Both ends of a link.
pub async fn linked(alice: &mut Async<Client>, bob: &mut Async<Client>) -> (Async<Link>, Async<Responder>) {
    let name = *bob.get_ref().name();
    let mut listener = bob.listen().await.unwrap();
    let (link, responder) = join!(alice.connect(name.as_str()), async {
        Async::new(listener.accept().await.unwrap().accept().unwrap()).unwrap()
    });
    (link.unwrap(), responder)
}

async fn a_link_is_opened_and_served() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    assert_eq!(link.get_ref().peer().name, "bob");
    assert_eq!(responder.get_ref().peer().name, "alice");
    let calls = async move {
        for number in 0..500_u32 {
            assert_eq!(link.call(&number.to_ne_bytes()).await.unwrap(), number.to_ne_bytes());
        }
        for number in 0..50_u32 {
            link.submit(&number.to_ne_bytes()).await.unwrap();
        }
        for number in 0..50_u32 {
            assert_eq!(link.response().await.unwrap(), number.to_ne_bytes());
        }
        // Drops the link.
    };
    let (end, ()) = join!(responder.serve(echo), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
    assert_eq!(responder.serve(echo).await, Ok(CloseReason::Peer), "it stays so");
}

async fn a_service_may_await_and_call_others() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let bob = Arc::new(tokio::sync::Mutex::new(bob));
    let service = move |request: OwnedRequest| {
        let bob = Arc::clone(&bob);
        async move {
            sleep(1).await;
            Ok([&*bob.lock().await.call(request.payload()).await?, b" by bob"].concat())
        }
    };
    let calls = async move {
        for _ in 0..20 {
            assert_eq!(link.call(b"called").await.unwrap(), b"called by bob");
        }
    };
    let (end, ()) = join!(responder.serve(service), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn what_a_service_fails_with_is_told() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let max = link.get_ref().limits().max_call;
    let service = |request: OwnedRequest| async move {
        match request.payload() {
            b"fail" => Err(ServiceError::new("out of order")),
            b"number" => Ok(request.read::<u64>()?.to_ne_bytes().to_vec()),
            b"large" => Ok(vec![1; max + 1]),
            b"most" => Ok(vec![1; max]),
            other => Ok(other.to_vec()),
        }
    };
    let calls = async move {
        assert_eq!(link.call(b"fail").await, Err(CallError::ServiceFailed("out of order".into())));
        assert!(matches!(link.call(b"number").await, Err(CallError::ServiceFailed(_))));
        assert!(matches!(link.call(b"large").await, Err(CallError::ResponseTooLarge(_))));
        assert_eq!(link.call(b"most").await.unwrap(), vec![1; max]);
        assert_eq!(link.call(b"go on").await.unwrap(), b"go on");
    };
    let (end, ()) = join!(responder.serve(service), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn posts_and_calls_come_in_order() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let mut came = Vec::new();
    let service = |request: OwnedRequest| {
        came.push((request.read::<u32>().unwrap(), request.wants_response()));
        async { Ok::<_, ServiceError>([]) }
    };
    let calls = async move {
        for number in 0..1000_u32 {
            link.post(&number.to_ne_bytes()).await.unwrap();
            if number % 100 == 0 {
                link.call(&number.to_ne_bytes()).await.unwrap();
            }
        }
        link.post(&1000_u32.to_ne_bytes()).await.unwrap();
        // What is posted is served, also behind the end.
    };
    let (end, ()) = join!(responder.serve(service), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
    let mut expected = Vec::new();
    for number in 0..=1000_u32 {
        expected.push((number, false));
        if number % 100 == 0 && number < 1000 {
            expected.push((number, true));
        }
    }
    assert_eq!(came, expected);
}

/// Responses for which there is no room are sent when there is.
async fn large_calls_wait_for_room_on_both_sides() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let calls = async move {
        for number in 0..100_u8 {
            link.submit(&[number; 1000]).await.unwrap();
        }
        for number in 0..100_u8 {
            if number % 10 == 0 {
                sleep(1).await;
            }
            assert_eq!(link.response().await.unwrap(), [number; 1000]);
        }
    };
    let (end, ()) = join!(responder.serve(echo), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn who_cannot_be_connected_says_why() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    assert!(matches!(alice.connect(" x").await, Err(ConnectError::InvalidName(_))));
    assert!(matches!(alice.connect("carol").await, Err(ConnectError::NotFound)));
    assert!(matches!(alice.connect("bob").await, Err(ConnectError::NotServing)));
    let mut listener = bob.listen().await.unwrap();
    assert!(matches!(bob.listen().await, Err(ServeError::Listening)));
    let refuses = async { listener.accept().await.unwrap().refuse("not today") };
    let (refused, ()) = join!(alice.connect("bob"), refuses);
    assert!(matches!(refused, Err(ConnectError::Refused(why)) if why == "not today"));
    let drops = async { drop(listener.accept().await.unwrap()) };
    let (gone, ()) = join!(alice.connect("bob"), drops);
    assert!(matches!(gone, Err(ConnectError::Gone(_))), "{gone:?}");
    alice.get_ref().closer().close();
    assert!(matches!(alice.connect("bob").await, Err(ConnectError::ServerGone(CloseReason::Local))));
    assert!(matches!(alice.listen().await, Err(ServeError::Disconnected(CloseReason::Local))));
}

fn links(bus: &Bus) -> usize {
    Observer::connect(bus.path()).unwrap().links().unwrap().len()
}

async fn a_dropped_connect_leaves_nothing() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let mut listener = bob.listen().await.unwrap();
    let mut opened = 0;
    // Others wake the task, too: few polls may never suffice, and many do.
    for polls in (0..7).chain(0..7).chain([100]) {
        let accepts = async {
            let mut accepted = Vec::new();
            loop {
                accepted.push(listener.accept().await.unwrap().accept());
            }
        };
        let link = select! {
            link = poll_times(polls, alice.connect("bob")) => link,
            () = accepts => unreachable!(),
        };
        opened += usize::from(link.is_some());
        drop(link);
        eventually("nothing is left of it", || links(&bus) == 0);
    }
    assert!((1..14).contains(&opened), "{opened}");
    let (link, accepted) = join!(alice.connect("bob"), async {
        loop {
            // Callers that have given up may still be there.
            if let Ok(responder) = listener.accept().await.unwrap().accept()
                && responder.closer().reason().is_none()
            {
                return responder;
            }
        }
    });
    let (mut link, mut responder) = (link.unwrap(), Async::new(accepted).unwrap());
    let (end, ()) = join!(responder.serve(echo), async move {
        assert_eq!(link.call(b"x").await.unwrap(), b"x");
    });
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn a_dropped_listen_does_not_listen() {
    let bus = Bus::start();
    let mut bob = bus.wrapped("bob");
    for polls in 0..3 {
        if let Some(listener) = poll_times(polls, bob.listen()).await {
            drop(listener.unwrap());
        }
    }
    let listener = bob.listen().await.unwrap();
    drop(listener);
    let mut alice = bus.wrapped("alice");
    assert!(matches!(alice.connect("bob").await, Err(ConnectError::NotServing)));
}

async fn a_dropped_accept_takes_nobody() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let mut listener = bob.listen().await.unwrap();
    let accepts = async {
        for polls in (0..3).cycle() {
            if let Some(incoming) = poll_times(polls, listener.accept()).await {
                return incoming.unwrap().accept().unwrap();
            }
        }
        unreachable!()
    };
    let (link, responder) = join!(alice.connect("bob"), accepts);
    drop((link.unwrap(), responder));
}

async fn a_service_that_is_dropped_answers() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    link.submit(b"one").await.unwrap();
    link.submit(b"two").await.unwrap();
    // The first poll may come before the request.
    let mut given = false;
    while !given {
        let never = |_: OwnedRequest| {
            given = true;
            std::future::pending::<Result<[u8; 0], ServiceError>>()
        };
        assert!(poll_times(1, responder.serve(never)).await.is_none());
    }
    let first = link.response().await;
    assert!(matches!(&first, Err(CallError::ServiceFailed(why)) if why.contains("given up")), "{first:?}");
    let (end, ()) = join!(responder.serve(echo), async move {
        assert_eq!(link.response().await.unwrap(), b"two");
        assert_eq!(link.call(b"three").await.unwrap(), b"three");
    });
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn a_dropped_call_on_a_link_leaves_no_answer() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    let mut served = Vec::new();
    let service = |request: OwnedRequest| {
        served.push(request.read::<u32>().unwrap());
        async move { Ok(request.payload().to_vec()) }
    };
    let calls = async move {
        for number in 0..300_u32 {
            let bytes = number.to_ne_bytes();
            if let Some(reply) = poll_times(number as usize % 4, link.call(&bytes)).await {
                assert_eq!(reply.unwrap(), bytes);
            }
            let _ = poll_times(number as usize % 2, link.post(&bytes)).await;
        }
        assert_eq!(link.call(&300_u32.to_ne_bytes()).await.unwrap(), 300_u32.to_ne_bytes());
    };
    let (end, ()) = join!(responder.serve(service), calls);
    assert_eq!(end, Ok(CloseReason::Peer));
    assert!(served.is_sorted(), "each call and each post at most once, and in order: {served:?}");
    assert!(served.chunk_by(u32::eq).all(|same| same.len() <= 2));
    assert_eq!(served.last(), Some(&300));
}

/// The role: a client that serves with futures until it is killed.
pub fn serves(_stage: &Stage) {
    let path = setting::<std::path::PathBuf>("PATH").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut bob = Async::new(Client::register(path, "bob").unwrap()).unwrap();
        let mut listener = bob.listen().await.unwrap();
        say("listens");
        let mut responder = Async::new(listener.accept().await.unwrap().accept().unwrap()).unwrap();
        let service = async |request: OwnedRequest| {
            if request.payload() == b"hang" {
                say("hangs");
                std::future::pending::<()>().await;
            }
            echo(request).await
        };
        let _ = responder.serve(service).await;
    });
}

async fn a_peer_that_dies_ends_what_is_awaited() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut bob = Role::start("serves", &[("PATH", place.path.to_str().unwrap())]);
    bob.hear("listens");
    let mut alice = Async::new(Client::register(&place.path, "alice").unwrap()).unwrap();
    let mut link = alice.connect("bob").await.unwrap();
    assert_eq!(link.call(b"x").await.unwrap(), b"x");
    let killing = std::thread::spawn(move || {
        bob.hear("hangs");
        bob.kill();
    });
    assert_eq!(link.call(b"hang").await, Err(CallError::Disconnected(CloseReason::Died)));
    killing.join().unwrap();
    assert_eq!(link.call(b"x").await, Err(CallError::NotSent(CloseReason::Died)));
    assert_eq!(alice.call(b"the server lives").await.unwrap(), b"the server lives");
    alice.unregister().await.unwrap();
    shut_down(server);
}

async fn a_link_outlives_the_server() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.wrapped("alice"), bus.wrapped("bob"));
    let (mut link, mut responder) = linked(&mut alice, &mut bob).await;
    bus.server.join_after_shutdown();
    assert!(alice.recv().await.unwrap_err().is_disconnected());
    let (end, ()) = join!(responder.serve(echo), async move {
        assert_eq!(link.call(b"still there").await.unwrap(), b"still there");
    });
    assert_eq!(end, Ok(CloseReason::Peer));
}

async fn a_listener_ends_with_its_client() {
    let bus = Bus::start();
    let mut bob = bus.wrapped("bob");
    let mut listener = bob.listen().await.unwrap();
    let (accepted, left) = join!(listener.accept(), async {
        sleep(1).await;
        bob.unregister().await
    });
    left.unwrap();
    assert_eq!(accepted.unwrap_err(), AcceptError::Disconnected(CloseReason::Unregistered));
}

/// One side blocks, and the other one is a future.
async fn a_blocking_peer_serves_and_calls() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let serving = bob.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
    let mut wrapped = Async::new(alice).unwrap();
    let mut link = wrapped.connect("bob").await.unwrap();
    for number in 0..500_u32 {
        assert_eq!(link.call(&number.to_ne_bytes()).await.unwrap(), number.to_ne_bytes());
    }
    drop((link, serving));
    alice = wrapped.into_inner();
    let mut bob = Async::new(bob).unwrap();
    let mut listener = bob.listen().await.unwrap();
    let given_up = Arc::new(AtomicBool::new(false));
    let gives_up = Arc::clone(&given_up);
    let calls = std::thread::spawn(move || {
        let mut link = alice.connect("bob").unwrap();
        for number in 0..500_u32 {
            assert_eq!(link.call(&number.to_ne_bytes()).unwrap(), number.to_ne_bytes());
        }
        let late = link.call_timeout(b"slow", Duration::from_millis(1));
        assert!(late.is_err_and(|error| error.is_timeout()));
        gives_up.store(true, Ordering::Release);
        assert_eq!(link.call(b"its own").unwrap(), b"its own");
    });
    let mut responder = Async::new(listener.accept().await.unwrap().accept().unwrap()).unwrap();
    let service = move |request: OwnedRequest| {
        let given_up = Arc::clone(&given_up);
        async move {
            while request.payload() == b"slow" && !given_up.load(Ordering::Acquire) {
                sleep(1).await;
            }
            echo(request).await
        }
    };
    assert_eq!(responder.serve(service).await, Ok(CloseReason::Peer));
    calls.join().unwrap();
}
