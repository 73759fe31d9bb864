//! One task that waits for everything at once, and drops what was not first, a million times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::CallError;
use rustix::process::{Signal, getpid, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::{select, task, time};

use crate::common::{Bus, LIMIT, within_limit};

const ROUNDS: u32 = 1_000_000;

/// It ends with fewer rounds on a slow machine.
const LONG_ENOUGH: Duration = LIMIT.checked_div(4).unwrap();

#[test]
fn nothing_is_lost_in_a_million_rounds_on_a_current_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    within_limit("the rounds", move || runtime.block_on(rounds()));
}

/// What was first in each round.
#[derive(Debug, Default)]
struct Counts {
    calls: u32,
    messages: u32,
    bytes: u32,
    ticks: u32,
    signals: u32,
}

async fn rounds() {
    // The calls that the service has seen, which must be numbered upwards.
    let last_seen = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&last_seen);
    let bus = Bus::with(|builder| {
        builder.service(move |request, response| {
            let number: u32 = request.read()?;
            assert!(seen.fetch_max(number, Ordering::Relaxed) < number, "a call came twice");
            response.write(request.payload())
        })
    });
    let mut alice = bus.wrapped("alice");
    let mut bob = bus.wrapped("bob");
    let over = Arc::new(AtomicBool::new(false));
    // Before anybody sends one.
    let mut signals = signal(SignalKind::user_defined1()).unwrap();
    let feeder = thread::spawn({
        let (mut carol, to, over) = (bus.client("carol"), bob.get_ref().key(), Arc::clone(&over));
        move || {
            let mut sent = 0_u32;
            while !over.load(Ordering::Relaxed) {
                carol.send(to, &sent.to_ne_bytes()).unwrap();
                sent += 1;
                if sent.is_multiple_of(64) {
                    kill_process(getpid(), Signal::USR1).unwrap();
                    thread::yield_now();
                }
            }
            sent
        }
    });
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let writer = task::spawn({
        let over = Arc::clone(&over);
        async move {
            let mut written = 0_u32;
            while !over.load(Ordering::Relaxed) {
                far.write_all(&[written as u8]).await.unwrap();
                written += 1;
                task::yield_now().await;
            }
            written
        }
    });
    let mut ticks = time::interval(Duration::from_millis(1));
    let mut counts = Counts::default();
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS && (rounds % 1024 != 0 || began.elapsed() < LONG_ENOUGH) {
        rounds += 1;
        let mut bytes = [0; 16];
        // Behind the other branches this call is dropped, and the next one has another number.
        let call = rounds.to_ne_bytes();
        select! {
            reply = alice.call(&call) => {
                assert_eq!(reply.unwrap(), call, "its own response");
                counts.calls += 1;
            }
            message = bob.recv() => {
                assert_eq!(message.unwrap().read::<u32>().unwrap(), counts.messages);
                counts.messages += 1;
            }
            read = near.read(&mut bytes) => {
                for byte in &bytes[..read.unwrap()] {
                    assert_eq!(*byte, counts.bytes as u8);
                    counts.bytes += 1;
                }
            }
            _ = ticks.tick() => counts.ticks += 1,
            _ = signals.recv() => counts.signals += 1,
        }
    }
    over.store(true, Ordering::Relaxed);
    let received = task::spawn(async move {
        // The feeder may wait for room. What it sent is there when it has ended.
        let mut last = Vec::new();
        loop {
            let fed = feeder.is_finished();
            match time::timeout(Duration::from_millis(50), bob.recv()).await {
                Ok(message) => last.push(message.unwrap().read::<u32>().unwrap()),
                Err(_) if fed => return (last, feeder),
                Err(_) => {}
            }
        }
    });
    let written = writer.await.unwrap();
    let (left, feeder) = received.await.unwrap();
    let sent = feeder.join().unwrap();
    assert_eq!(left, (counts.messages..sent).collect::<Vec<_>>(), "each of {sent} messages once");
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
    assert_eq!(counts.bytes + rest.len() as u32, written);
    alice.ping().await.unwrap();
    assert!(last_seen.load(Ordering::Relaxed) <= rounds);
    assert_eq!(alice.call(&(rounds + 1).to_ne_bytes()).await.unwrap(), (rounds + 1).to_ne_bytes());
    assert_eq!(alice.response().await, Err(CallError::NothingOutstanding));
    let all = [counts.calls, counts.messages, counts.bytes, counts.ticks, counts.signals];
    assert!(all.iter().all(|count| *count > 0), "{counts:?}");
    println!("{rounds} rounds in {:?}: {counts:?}", began.elapsed());
}
