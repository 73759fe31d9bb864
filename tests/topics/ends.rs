//! Ends in good order: drop, unregister, closers of other threads and of signal handlers.

use super::common::{LIMIT, begin, eventually};
use super::{next, number, pair, send_number};
use ringpost::{CloseReason, Closer, Policy, PublishError, Publisher, SampleError, Subscriber};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_publisher_that_is_dropped_ends_its_part_only() {
    let (bus, mut alice, mut bob) = pair();
    let mut carol = bus.client("carol");
    let mut sub = bob.subscribe("numbers").unwrap();
    let mut one = alice.publish("numbers").unwrap();
    let mut two = carol.publish("numbers").unwrap();
    eventually("both came", || sub.publishers().len() == 2);
    send_number(&mut one, 1);
    drop(one);
    send_number(&mut two, 2);
    let mut numbers = [number(&next(&mut sub)), number(&next(&mut sub))];
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    eventually("the part has ended", || {
        assert!(sub.try_recv().unwrap().is_none());
        sub.publishers().len() == 1
    });
    assert_eq!(sub.publishers()[0].key, carol.key());
    // The topic is free for the same client.
    let mut again = alice.publish("numbers").unwrap();
    send_number(&mut again, 3);
    assert_eq!(number(&next(&mut sub)), 3);
}

#[test]
fn a_subscriber_that_is_dropped_is_forgotten() {
    let (_bus, mut alice, mut bob) = pair();
    let mut numbers = alice.publish("numbers").unwrap();
    for _ in 0..30 {
        let mut sub = bob.subscribe("*").unwrap();
        eventually("it is attached", || numbers.subscribers() == 1);
        send_number(&mut numbers, 1);
        next(&mut sub);
        drop(sub);
        eventually("it has left", || numbers.subscribers() == 0);
    }
}

#[test]
fn what_a_client_has_ends_with_it() {
    let (_bus, mut alice, mut bob) = pair();
    let mut numbers = alice.publish("numbers").unwrap();
    let mut sub = bob.subscribe("numbers").unwrap();
    let mut waiting = bob.subscribe("nothing").unwrap();
    let waiting = begin(move || waiting.recv().map(|_| ()).unwrap_err());
    eventually("it is attached", || numbers.subscribers() == 1);
    bob.unregister().unwrap();
    let gone = SampleError::Disconnected(CloseReason::Unregistered);
    assert_eq!(waiting.end("the end of a wait"), gone);
    assert_eq!(sub.recv().unwrap_err(), gone);
    assert_eq!(sub.try_recv().unwrap_err(), gone);
    assert_eq!(sub.closer().reason(), Some(CloseReason::Unregistered));
    eventually("it has left", || numbers.subscribers() == 0);
    drop(alice);
    match numbers.send(b"x") {
        Err(PublishError::Disconnected(CloseReason::Unregistered)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publisher_whose_client_has_ended_ends_for_its_subscribers() {
    let (_bus, mut alice, mut bob) = pair();
    let mut sub = bob.subscribe("numbers").unwrap();
    let mut numbers = alice.publish("numbers").unwrap();
    for count in 1..=10 {
        send_number(&mut numbers, count);
    }
    alice.unregister().unwrap();
    for count in 1..=10 {
        assert_eq!(number(&next(&mut sub)), count);
    }
    eventually("its part has ended", || {
        assert!(sub.try_recv().unwrap().is_none());
        sub.publishers().is_empty()
    });
    drop(numbers);
}

#[test]
fn closers_of_other_threads_end_waits() {
    let (_bus, mut alice, mut bob) = pair();
    let options = Publisher::options().ring_size(4096).reliable(Duration::from_secs(600));
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    let every = Subscriber::options().policy(Policy::Reliable);
    let mut sub = every.subscribe(bob.caller(), "numbers").unwrap();
    let closer = numbers.closer();
    let sending = begin(move || {
        loop {
            if let Err(error) = numbers.send(&[0; 64]) {
                return (error, numbers);
            }
        }
    });
    eventually("the ring is full", || {
        std::thread::sleep(Duration::from_millis(10));
        sub.lag() > 2048
    });
    assert_eq!(closer.reason(), None);
    closer.close();
    let (error, mut numbers) = sending.end("the end of a wait for room");
    assert!(matches!(error, PublishError::Disconnected(CloseReason::Local)), "{error}");
    assert!(numbers.try_send(b"x").unwrap_err().is_disconnected());
    assert_eq!(closer.reason(), Some(CloseReason::Local));
    drop(numbers);
    let closer = sub.closer();
    let (take, taken) = std::sync::mpsc::channel();
    let receiving = begin(move || {
        loop {
            match sub.recv_timeout(LIMIT) {
                Ok(_) => take.send(()).unwrap(),
                Err(error) => return error,
            }
        }
    });
    for _ in 0..11 {
        taken.recv_timeout(LIMIT).expect("what was published comes first");
    }
    std::thread::sleep(Duration::from_millis(20));
    closer.close();
    let error = receiving.end("the end of a wait");
    assert_eq!(error, SampleError::Disconnected(CloseReason::Local));
}

static CLOSERS: OnceLock<[Closer; 2]> = OnceLock::new();
static HANDLED: AtomicBool = AtomicBool::new(false);

#[test]
fn a_signal_handler_may_close_both() {
    extern "C" fn close_both(_signal: libc::c_int) {
        for closer in CLOSERS.get().into_iter().flatten() {
            closer.close();
        }
        HANDLED.store(true, Ordering::SeqCst);
    }
    let (_bus, mut alice, mut bob) = pair();
    let mut numbers = alice.publish("numbers").unwrap();
    let mut sub = bob.subscribe("numbers").unwrap();
    CLOSERS.set([numbers.closer(), sub.closer()]).unwrap();
    // SAFETY: the handler uses atomics and closers only, which may be used in one.
    unsafe { libc::signal(libc::SIGUSR1, close_both as *const () as libc::sighandler_t) };
    let (sender, thread) = std::sync::mpsc::channel();
    let waiting = begin(move || {
        // SAFETY: it names the calling thread.
        sender.send(unsafe { libc::pthread_self() }).unwrap();
        (sub.recv_timeout(LIMIT).map(|_| ()), sub)
    });
    let thread = thread.recv().unwrap();
    while !HANDLED.load(Ordering::SeqCst) {
        // SAFETY: the thread lives until it has handled the signal.
        unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        std::thread::sleep(Duration::from_millis(5));
    }
    let (told, _sub) = waiting.end("the wait that was interrupted");
    assert_eq!(told, Err(SampleError::Disconnected(CloseReason::Local)));
    assert!(numbers.send(b"x").unwrap_err().is_disconnected());
}

/// The closer of a client ends its topics, too.
#[test]
fn a_clients_closer_ends_what_it_has() {
    let (_bus, mut alice, mut bob) = pair();
    let mut numbers = alice.publish("numbers").unwrap();
    let mut sub = bob.subscribe("numbers").unwrap();
    let waiting = begin(move || sub.recv().map(|_| ()).unwrap_err());
    bob.closer().close();
    assert_eq!(waiting.end("the wait"), SampleError::Disconnected(CloseReason::Local));
    alice.closer().close();
    eventually("the publisher has ended", || numbers.send(b"x").is_err_and(|error| error.is_disconnected()));
}

#[test]
fn a_stopped_server_holds_a_drop_up_for_a_second_at_most() {
    use super::common::{Place, server::start_server};
    use rustix::process::{Pid, Signal, kill_process};
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut alice = ringpost::Client::register(&place.path, "alice").unwrap();
    let numbers = alice.publish("numbers").unwrap();
    let sub = alice.subscribe("other").unwrap();
    let pid = Pid::from_raw(server.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    begin(move || drop((numbers, sub))).end("the drops");
    kill_process(pid, Signal::CONT).unwrap();
}
