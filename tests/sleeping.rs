//! Tests of sleeping ends, with and without the system call `futex_waitv`.
//!
//! Old kernels lack the call (ENOSYS). A container's filter may deny it with any error, even one that the
//! call itself uses. A seccomp filter simulates both, in a separate process with a server and clients that
//! all park without spinning.

mod common;

use common::filter::refuse_waitv;
use common::proc::{is_asleep, worker_sleeps};
use common::raw::{PING, RawClient, Ring};
use common::role::{self, Role, Stage, say, setting};
use common::{Bus, LIMIT, Place, begin, eventually, finds_no_room, within_limit};
use ringpost::testing::Segment;
use ringpost::{Client, CloseReason, RecvError, Server, WaitStrategy};
use rustix::io::Errno;
use rustix::thread::futex;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    if let Some(errno) = setting::<i32>("ERRNO")
        && !refuse_waitv(Errno::from_raw_os_error(errno))
    {
        return say("skipped");
    }
    match role.as_str() {
        "bus" => everybody_sleeps(&stage),
        "requeue" => a_sleeper_is_moved(),
        other => panic!("no role {other:?}"),
    }
}

/// Runs a role on each simulated kernel.
fn on_each_kernel(role: &str, direct: impl Fn(&mut Role, &Place)) {
    let refusals =
        [Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::INVAL, Errno::AGAIN, Errno::INTR, Errno::TIMEDOUT];
    for errno in std::iter::once(None).chain(refusals.map(Some)) {
        let place = Place::new();
        let number = errno.map(|errno| errno.raw_os_error().to_string());
        let mut settings = vec![("PATH", place.path.to_str().unwrap())];
        settings.extend(number.as_deref().map(|number| ("ERRNO", number)));
        let mut played = Role::start(role, &settings);
        match played.hear("").as_str() {
            "skipped" => eprintln!("skipped: no filter can be set here, so futex_waitv cannot be refused"),
            "ready" => direct(&mut played, &place),
            other => panic!("{other}"),
        }
    }
}

fn parking(place: &PathBuf, name: &str) -> Client {
    Client::builder(place).wait(WaitStrategy::Park).register(name).unwrap()
}

// ---- a bus

#[test]
fn calls_messages_deadlines_and_closes() {
    on_each_kernel("bus", |bus, place| {
        // A client in this process, which may use the call, with a server that perhaps may not.
        let mut carol = parking(&place.path, "carol");
        for number in 0..100_u32 {
            assert_eq!(carol.call(&number.to_le_bytes()).unwrap(), number.to_le_bytes());
        }
        let waiting = begin(move || carol.recv());
        bus.tell("send");
        bus.hear("sent");
        assert_eq!(waiting.end("the message").unwrap().payload(), b"for carol");
        let mut dora = parking(&place.path, "dora");
        let waiting = begin(move || dora.recv());
        eventually("all of the bus sleeps", || is_asleep(bus.pid()));
        bus.tell("shut down");
        assert_eq!(waiting.end("the end"), Err(RecvError::Disconnected(CloseReason::Shutdown)));
        bus.hear("in order");
    });
}

/// The role of a process with a server and two clients, which all park.
fn everybody_sleeps(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let server = Server::builder(&path).ring_size(4096).wait(WaitStrategy::Park).start().unwrap();
    let (mut alice, mut bob) = (parking(&path, "alice"), parking(&path, "bob"));
    let (alice_key, bob_key) = (alice.key(), bob.key());

    // Waits for data: both sides of a call, and a message.
    for number in 0..100_u32 {
        eventually("the worker sleeps", || worker_sleeps("alice"));
        assert_eq!(alice.call(&number.to_le_bytes()).unwrap(), number.to_le_bytes());
    }
    let (waiting, sending) = (begin(move || (bob.recv().unwrap(), bob)), &mut alice);
    sending.try_send(bob_key, b"hello").unwrap();
    let (message, mut bob) = waiting.end("the message");
    assert_eq!(message.payload(), b"hello");

    // Deadlines.
    let short = Duration::from_millis(20);
    assert_eq!(bob.recv_timeout(short), Err(RecvError::TimedOut));
    let sent = (0..).find(|_| alice.try_send(bob_key, b"x").is_err()).unwrap();
    finds_no_room(&mut alice, bob_key, b"y", short);

    // Waits for space: a sender waits for room in an inbox.
    let waiting = begin(move || {
        alice.send_timeout(bob_key, b"last", LIMIT).unwrap();
        alice
    });
    for _ in 0..sent {
        assert_eq!(bob.recv().unwrap().payload(), b"x");
    }
    assert_eq!(bob.recv().unwrap().payload(), b"last");
    let mut alice = waiting.end("the sender");

    // Waits for space: a client submits more than the rings hold, and its worker waits until it reads.
    let requests = vec![[7_u8; 40]; 500];
    alice.caller().submit_all(requests.iter().map(|request| &request[..])).unwrap();
    for request in &requests {
        assert_eq!(alice.caller().response().unwrap(), request);
    }

    // A close handle ends a wait.
    let handle = bob.closer();
    let waiting = begin(move || bob.recv());
    handle.close();
    assert_eq!(waiting.end("the close"), Err(RecvError::Disconnected(CloseReason::Local)));

    say("ready");
    stage.await_order("send");
    let carol = alice.look_up("carol").unwrap().unwrap();
    alice.try_send(carol, b"for carol").unwrap();
    say("sent");
    stage.await_order("shut down");
    assert_eq!(alice.key(), alice_key);
    let waiting = begin(move || alice.recv());
    let summary = within_limit("the shutdown", move || server.join_after_shutdown());
    assert_eq!((summary.abandoned, summary.violations), (0, 0));
    assert_eq!(waiting.end("the end"), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    say("in order");
}

// ---- a client that moves its worker to another word

/// A client can move a worker that sleeps on a shared word to another word, which nobody wakes
/// (`FUTEX_CMP_REQUEUE`). The worker must still notice a close.
#[test]
fn a_worker_that_was_moved_to_another_word_hears_of_the_close() {
    on_each_kernel("requeue", |bus, _| {
        let moved = bus.hear("moved");
        println!("moved {moved}");
        bus.hear("in order");
    });
}

fn move_sleepers(from: &AtomicU32, to: &AtomicU32) -> bool {
    let value = from.load(Ordering::Relaxed);
    let moved = futex::cmp_requeue(from, futex::Flags::empty(), 0, i32::MAX as u32, to, value);
    moved.is_ok_and(|count| count > 0)
}

fn a_sleeper_is_moved() {
    say("ready");
    let bus = Bus::with(|b| b.ring_size(4096).wait(WaitStrategy::Park));
    let mut honest = parking(&bus.place.path, "honest");
    let mut mover = RawClient::register(bus.path(), "mover");
    let elsewhere = Segment::anonymous(4096).unwrap();
    // Its worker answers once, and sleeps.
    mover.request(PING, 0, &[]);
    assert_eq!(mover.response().unwrap().0, 0);
    eventually("the worker sleeps", || worker_sleeps("mover"));
    let word = mover.consumer_parked(Ring::Request);
    eventually("the worker has set its word", || word.load(Ordering::Relaxed) == 1);
    let mut moved = false;
    // Retries: a worker that sleeps in slices may just be between two of them.
    for _ in 0..1000 {
        moved |= move_sleepers(word, elsewhere.word32(0));
        if moved {
            break;
        }
    }
    say(format_args!("moved {moved}"));
    assert_eq!(honest.call(b"x").unwrap(), b"x");
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!(summary.abandoned, 0);
    say("in order");
}
