//! Tests that close handles and stoppers may be used in a signal handler, wherever it interrupts its thread.

mod common;

use common::role::{self, Role, say};
use common::{LIMIT, Place};
use ringpost::{AcceptError, CallError, Client, CloseReason, Closer, Reconnect, Server, Stopper};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The number of clients; each signal closes one.
const CLIENTS: usize = 600;

static HANDLES: OnceLock<Vec<Closer>> = OnceLock::new();
static STOPPER: OnceLock<Stopper> = OnceLock::new();
static CLOSED: AtomicUsize = AtomicUsize::new(0);
static OVER: AtomicBool = AtomicBool::new(false);
/// How often a handler left `errno` changed.
static CHANGED: AtomicUsize = AtomicUsize::new(0);

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, _)) = role::role() else { return };
    match role.as_str() {
        "closing" => close_in_handlers(false),
        "closing, registering again" => close_in_handlers(true),
        "closing links" => close_links_in_handlers(),
        "stopping" => stop_in_a_handler(),
        "waiting" => close_while_waiting(),
        other => panic!("no role {other:?}"),
    }
}

fn errno() -> *mut i32 {
    // SAFETY: no preconditions; the pointer is valid as long as this thread lives.
    unsafe { libc::__errno_location() }
}

extern "C" fn on_signal(_: i32) {
    // SAFETY: `errno` is this thread's own.
    let before = unsafe { errno().replace(4321) };
    if let Some(handle) = HANDLES.get().and_then(|handles| handles.get(CLOSED.load(Ordering::Relaxed))) {
        handle.close();
        CLOSED.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(stopper) = STOPPER.get() {
        stopper.shutdown();
    }
    // SAFETY: as above.
    let after = unsafe { errno().replace(before) };
    CHANGED.fetch_add(usize::from(after != 4321), Ordering::Relaxed);
}

fn handle_signals() {
    // SAFETY: a zeroed `sigaction` is valid; its handler is set to a function of the right type.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
}

/// Works on this thread while signals interrupt it, until their handlers have made this many closes.
fn while_interrupted(closes: usize, mut work: impl FnMut()) {
    // SAFETY: it has no preconditions.
    let busy = unsafe { libc::pthread_self() } as usize;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0.. {
                if OVER.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(100 + n * 37 % 400));
                // SAFETY: the thread lives: it waits for this one at the end of the scope.
                unsafe { libc::pthread_kill(busy as libc::pthread_t, libc::SIGUSR1) };
            }
        });
        let deadline = Instant::now() + LIMIT / 2;
        while CLOSED.load(Ordering::Relaxed) < closes && Instant::now() < deadline {
            work();
        }
        OVER.store(true, Ordering::Relaxed);
    });
    assert_eq!(CLOSED.load(Ordering::Relaxed), closes);
    assert_eq!(CHANGED.load(Ordering::Relaxed), 0, "errno was not left alone");
}

/// Sends signals while this thread registers, closes and drops clients, so that they interrupt it in every
/// lock.
fn close_in_handlers(again: bool) {
    let place = Place::new();
    let server =
        Server::builder(&place.path).max_clients(2 * CLIENTS as u32).ring_size(4096).start().unwrap();
    let builder = Client::builder(&place.path);
    let builder = if again { builder.reconnect(Reconnect::default()) } else { builder };
    let clients: Vec<_> = (0..CLIENTS).map(|n| builder.register(format!("client {n}")).unwrap()).collect();
    HANDLES.set(clients.iter().map(Client::closer).collect()).unwrap();
    handle_signals();
    let mut round = 0;
    while_interrupted(CLIENTS, || {
        let mut busy = builder.register("busy").unwrap();
        let handle = busy.closer();
        assert_eq!(handle.reason(), None);
        if round % 2 == 0 {
            handle.close();
            assert!(busy.call(b"x").is_err());
        }
        drop(busy);
        // The name is free once the server has seen the end of the connection.
        while round % 2 == 0 && builder.register("busy").is_err() {}
        round += 1;
    });
    for (mut client, handle) in clients.into_iter().zip(HANDLES.get().unwrap()) {
        assert_eq!(handle.reason(), Some(CloseReason::Local));
        assert!(client.call(b"x").is_err());
    }
    let deadline = Instant::now() + LIMIT / 2;
    while server.info().clients > 0 {
        assert!(Instant::now() < deadline, "the server still has {} clients", server.info().clients);
        std::thread::sleep(Duration::from_millis(1));
    }
    say("done");
}

/// The same while this thread opens, closes and drops links and listeners. The handlers close other links,
/// both ends of them, and listeners.
fn close_links_in_handlers() {
    const LINKS: usize = 100;
    const LISTENERS: usize = 100;
    let place = Place::new();
    let server =
        Server::builder(&place.path).max_clients(2 * LISTENERS as u32).ring_size(4096).start().unwrap();
    let client = |name: &str| Client::register(&place.path, name).unwrap();
    let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(client);
    let mut bobs = bob.listen().unwrap();
    let _carols = carol.listen().unwrap().serve(|_, response| response.write(b"carol")).unwrap();
    // Bob accepts on this thread's behalf, and keeps his ends.
    let accepting = std::thread::spawn(move || {
        let ends: Vec<_> = (0..LINKS).map(|_| bobs.accept().unwrap().accept().unwrap()).collect();
        (bobs, ends)
    });
    let mut links: Vec<_> = (0..LINKS).map(|_| alice.connect("bob").unwrap()).collect();
    let (_bobs, mut ends) = accepting.join().unwrap();
    let mut servers: Vec<_> = (0..LISTENERS).map(|n| client(&format!("client {n}"))).collect();
    let mut listeners: Vec<_> = servers.iter_mut().map(|client| client.listen().unwrap()).collect();
    let mut closers: Vec<Closer> = listeners.iter().map(ringpost::Listener::closer).collect();
    for (number, (link, end)) in links.iter().zip(&ends).enumerate() {
        closers.push(if number % 2 == 0 { link.closer() } else { end.closer() });
    }
    let all = closers.len();
    HANDLES.set(closers).unwrap();
    handle_signals();
    let mut dave = client("dave");
    while_interrupted(all, || {
        let mut link = dave.connect("carol").unwrap();
        assert_eq!(link.call(b"x").unwrap(), b"carol");
        link.closer().close();
        assert!(link.call(b"x").is_err());
        drop(link);
        let listener = dave.listen().unwrap();
        listener.closer().close();
        drop(listener);
    });
    for listener in &mut listeners {
        assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Disconnected(CloseReason::Local));
    }
    for (number, (link, end)) in links.iter_mut().zip(&mut ends).enumerate() {
        let (own, others) = (CloseReason::Local, CloseReason::Peer);
        let [callers, callees] = if number % 2 == 0 { [own, others] } else { [others, own] };
        assert_eq!(link.call(b"x"), Err(CallError::NotSent(callers)));
        assert_eq!(end.serve(|_, _| Ok(())), Ok(callees));
    }
    // The watcher has done what a handler cannot: it told the server.
    let deadline = Instant::now() + LIMIT / 2;
    while server.clients().unwrap().iter().any(|client| client.links > 0 && client.name != "dave") {
        assert!(Instant::now() < deadline, "the server still knows of links: {:?}", server.clients());
        std::thread::sleep(Duration::from_millis(1));
    }
    say("done");
}

/// Closes a client that waits for its server to come back.
fn close_while_waiting() {
    let place = Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let reconnect = Reconnect::default().first_delay(2 * LIMIT).longest_delay(2 * LIMIT).within(4 * LIMIT);
    let mut client = Client::builder(&place.path).reconnect(reconnect).register("alice").unwrap();
    HANDLES.set(vec![client.closer()]).unwrap();
    handle_signals();
    server.join_after_shutdown();
    assert!(client.call(b"x").is_err(), "told of the end");
    // SAFETY: it has no preconditions.
    let waiting = unsafe { libc::pthread_self() } as usize;
    let signalling = std::thread::spawn(move || {
        while !OVER.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            // SAFETY: the thread lives: it joins this one.
            unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGUSR1) };
        }
    });
    assert_eq!(client.call(b"x"), Err(CallError::NotSent(CloseReason::Local)));
    OVER.store(true, Ordering::Relaxed);
    signalling.join().unwrap();
    say("done");
}

fn stop_in_a_handler() {
    let place = Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let _client = Client::register(&place.path, "alice").unwrap();
    STOPPER.set(server.stopper()).unwrap();
    handle_signals();
    // SAFETY: this thread's own id, and a signal that is handled.
    unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
    server.join();
    assert_eq!(CHANGED.load(Ordering::Relaxed), 0, "errno was not left alone");
    say("done");
}

#[test]
fn a_closer_may_be_used_in_a_handler() {
    Role::start("closing", &[]).hear("done");
}

#[test]
fn also_that_of_a_client_that_registers_again() {
    Role::start("closing, registering again", &[]).hear("done");
}

#[test]
fn also_those_of_links_and_listeners() {
    Role::start("closing links", &[]).hear("done");
}

#[test]
fn a_stopper_may_be_used_in_a_handler() {
    Role::start("stopping", &[]).hear("done");
}

/// The client waits for a new server, so it has no connection that could end its wait.
#[test]
fn a_handler_ends_the_wait_for_a_server() {
    Role::start("waiting", &[]).hear("done");
}
