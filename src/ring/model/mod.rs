//! The shipping ring under loom: every interleaving of two threads and every value that a relaxed load may
//! give.
//!
//! Each model is exhaustive for its threads and operations unless it states a bound on preemptions. There are
//! no spin loops: where a model does not sleep, each side makes a fixed number of attempts, and whatever was
//! sent but not yet received is received after the threads have joined. Sleeps are untimed (see
//! `shm/futex.rs`), also those for space, so a lost wake is a deadlock, which loom reports. `tests/README.md`
//! says how to run them and which fault each one finds.

mod arm;
mod close;
mod data_wake;
mod drains;
mod exchange;
mod links;
mod publish;
mod shared_producer;
mod space_wake;

use loom::thread;

use super::layout::{CONSUMER_PARKED, CONTROL, HEAD, LINE, PRODUCER_PARKED, data_header, largest_block};
use super::{
    CloseReason, Closer, Consumer, Peer, Producer, RecvError, SendError, Setup, WaitStrategy, notify_both,
};
use crate::shm::View;
use crate::shm::backend::{Arc, AtomicU32, Ordering, fence};
use crate::shm::futex::{self, Scope};

/// The first line number that a header cannot show: it shows 0 again.
const WRAP: u64 = 1 << 30;

/// The words of a modelled ring: control block, a line for the closed word, data.
const CLOSED: usize = CONTROL;
const DATA: usize = CONTROL + LINE;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_bounded(None, model);
}

fn explore_bounded(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        // The first use of a static orders everything that its thread did before it for every later user.
        // Nothing was done yet, so it orders nothing here. A later first use would order what the ring leaves
        // unordered.
        fence(Ordering::SeqCst);
        futex::wake(&AtomicU32::new(0), Scope::Private, 0);
        model();
    });
}

/// A ring of so many lines that begins, empty, at a line number. Both ends share one closer, as in
/// `ring::local`.
fn setup(lines: u64, start_line: u64) -> Setup {
    let capacity = lines as usize * LINE;
    let view = View::of_len(DATA + capacity);
    view.word64(HEAD).store(start_line * LINE as u64, Ordering::Relaxed);
    let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
    Setup {
        closer: Closer::new(view.clone(), Scope::Private, parked, Some(CLOSED), Peer::Relied),
        view,
        control: 0,
        data: DATA,
        capacity,
        max_block: largest_block(capacity),
        scope: Scope::Private,
        kick: Default::default(),
        strategy: WaitStrategy::Park,
        closes_on_drop: None,
        stamps: None,
        start: start_line * LINE as u64,
    }
}

fn ring(lines: u64, start_line: u64) -> (Producer, Consumer) {
    let setup = setup(lines, start_line);
    (Producer::new(&setup), Consumer::new(&setup))
}

/// The two sides of a ring between processes that do not trust each other: each has a closer and a private
/// closed word of its own. The first of the two setups is a client's, the second the server's.
fn shared_setups(lines: u64) -> (Setup, Setup) {
    let client = setup(lines, WRAP - 1);
    let closer = |peer| {
        let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
        Closer::new(client.view.clone(), Scope::Shared, parked, Some(CLOSED), peer)
    };
    let server = Setup { closer: closer(Peer::Unheard), scope: Scope::Shared, ..client.clone() };
    let client = Setup { closer: closer(Peer::Relied), scope: Scope::Shared, ..client };
    (client, server)
}

/// A block of `len` bytes, filled so that its number can be recognised.
fn block(number: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| number.wrapping_mul(50).wrapping_add(i as u8)).collect()
}

/// A block of two lines whose second line begins like the header of a record of one byte at `line`.
fn forgery(line: u64) -> Vec<u8> {
    let mut block = block(9, 60);
    let fake = data_header(line * LINE as u64, 1).to_le_bytes();
    block.splice(56.., fake);
    block
}

/// Tries `attempts` times to receive. The blocks received must be the first ones of `sent`. Returns how many
/// came.
#[track_caller]
fn look(consumer: &mut Consumer, sent: &[Vec<u8>], attempts: usize) -> usize {
    receive(sent, attempts, |block| consumer.try_recv(block))
}

/// The same in one drain.
#[track_caller]
fn drain(consumer: &mut Consumer, sent: &[Vec<u8>], attempts: usize) -> usize {
    let mut drain = consumer.drain();
    receive(sent, attempts, |block| drain.try_recv(block))
}

#[track_caller]
fn receive(
    sent: &[Vec<u8>],
    attempts: usize,
    mut try_recv: impl FnMut(&mut Vec<u8>) -> Result<Option<usize>, RecvError>,
) -> usize {
    let mut block = Vec::new();
    let mut received = 0;
    for _ in 0..attempts {
        match try_recv(&mut block) {
            Ok(Some(_)) => {
                assert_eq!(sent.get(received), Some(&block), "block {received} arrived changed");
                received += 1;
            }
            Ok(None) => {}
            Err(error) => panic!("{error}"),
        }
    }
    received
}

/// One thread sends by `send`, which returns how many of `blocks` it could send. Meanwhile this thread tries
/// `attempts` times to receive. In the end exactly what was sent has arrived.
fn pass(
    (mut producer, mut consumer): (Producer, Consumer),
    blocks: Vec<Vec<u8>>,
    attempts: usize,
    send: impl FnOnce(&mut Producer, &[Vec<u8>]) -> usize + 'static,
) {
    let blocks = Arc::new(blocks);
    let to_send = blocks.clone();
    let sender = thread::spawn(move || send(&mut producer, &to_send));
    let received = look(&mut consumer, &blocks, attempts);
    let sent = sender.join().unwrap();
    let rest = look(&mut consumer, &blocks[received..sent], sent - received);
    assert_eq!(received + rest, sent, "what was sent is there");
    assert_eq!(look(&mut consumer, &[], 1), 0, "and nothing else");
}

/// Sends until the ring is full. The first `at_least` have room whatever the other side does.
fn send_some(at_least: usize) -> impl FnOnce(&mut Producer, &[Vec<u8>]) -> usize {
    move |producer, blocks| {
        for (i, block) in blocks.iter().enumerate() {
            match producer.try_send(block) {
                Ok(()) => {}
                Err(SendError::Full) if i >= at_least => return i,
                Err(error) => panic!("{error}"),
            }
        }
        blocks.len()
    }
}
