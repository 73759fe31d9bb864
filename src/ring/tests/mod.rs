//! What the property tests do not cover: what an end reports about itself, how its waits end, and what each
//! close reports.

mod closes;
mod drafts;
mod wakes;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::layout::{
    self, CONSUMER_PARKED, HEAD, LINE, MAX_CAPACITY, MIN_CAPACITY, PRODUCER_PARKED, data_header,
    largest_block,
};
use super::local::local_setup;
use super::{
    CloseReason, Closer, Consumer, Peer, Producer, RecvError, SPARE_HINTS, SendError, Setup, Violation,
    WaitStrategy, local, local_with,
};
use crate::shm::backend::{AtomicU32, Ordering};
use crate::shm::futex::{self, Scope, Wait, Woken};
use crate::shm::{Segment, View};

/// What should come at once may take this long on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const STRATEGIES: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park];

/// Waits until the parked word says that its end is about to sleep.
fn until_parked(word: &AtomicU32) {
    let until = Instant::now() + LIMIT;
    while word.load(Ordering::Relaxed) != 1 {
        assert!(Instant::now() < until, "nobody lies down");
        thread::yield_now();
    }
}

/// Waits until the thread sleeps. The threads of these tests sleep only where a test expects it.
fn until_asleep(thread: i32) {
    let until = Instant::now() + LIMIT;
    while !std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap().contains(") S ") {
        assert!(Instant::now() < until, "it does not go to sleep");
        thread::yield_now();
    }
}

pub(super) fn until_all_sleep(threads: &mpsc::Receiver<i32>, count: usize) {
    for _ in 0..count {
        until_asleep(threads.recv_timeout(LIMIT).unwrap());
    }
}

pub(super) fn tell(threads: &mpsc::Sender<i32>) {
    threads.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
}

/// Wakes the sleeper without any news, and waits until it parks again.
fn wake_for_nothing(setup: &Setup, parked: usize, thread: i32) {
    let word = setup.view.word32(parked);
    until_parked(word);
    until_asleep(thread);
    word.store(0, Ordering::Relaxed);
    futex::wake(word, setup.scope, 1);
    until_parked(word);
}

fn ends(setup: &Setup) -> (Producer, Consumer) {
    (Producer::new(setup), Consumer::new(setup))
}

#[test]
fn an_end_tells_its_largest_block_and_whether_it_sleeps() {
    let setup = Setup { max_block: 300, ..local_setup(1024, WaitStrategy::Park, 0).unwrap() };
    let (producer, mut consumer) = ends(&setup);
    assert_eq!((producer.max_block(), consumer.max_block()), (300, 300));
    for strategy in STRATEGIES {
        consumer.set_wait_strategy(strategy);
        assert_eq!(consumer.may_sleep(), strategy != WaitStrategy::Spin);
    }
}

#[test]
fn a_ring_has_the_capacity_asked_for_or_is_refused() {
    for capacity in [0, 64, MIN_CAPACITY + 1, 5000, 2 * MAX_CAPACITY] {
        let error = local(capacity).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("{capacity} bytes")), "{error}");
    }
    for capacity in [128, 4096, 1 << 16] {
        let setup = local_setup(capacity, WaitStrategy::Park, 0).unwrap();
        assert_eq!((setup.capacity, setup.max_block), (capacity, capacity / 2 - 8));
        let end = setup.data + capacity;
        assert_eq!(setup.view.word64(end - 8).load(Ordering::Relaxed), 0);
        let beyond = std::panic::AssertUnwindSafe(|| setup.view.word64(end).load(Ordering::Relaxed));
        assert!(std::panic::catch_unwind(beyond).is_err(), "more than was asked for");
    }
    let told = local(100).unwrap_err().to_string();
    assert_eq!(told, "a ring cannot have 100 bytes: use a power of two from 128 to 1073741824");
}

/// An end that was spinning sleeps from now on.
#[test]
fn a_wait_goes_by_the_strategy_chosen_last() {
    let setup = local_setup(128, WaitStrategy::Spin, 0).unwrap();
    let (mut producer, mut consumer) = ends(&setup);
    producer.set_wait_strategy(WaitStrategy::Park);
    consumer.set_wait_strategy(WaitStrategy::Park);
    thread::scope(|scope| {
        let reader = scope.spawn(|| consumer.recv(&mut Vec::new()));
        until_parked(setup.view.word32(CONSUMER_PARKED));
        producer.try_send(b"data").unwrap();
        assert_eq!(reader.join().unwrap(), Ok(4));
    });
    producer.try_send(b"fills it").unwrap();
    let (to, threads) = mpsc::channel();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            tell(&to);
            producer.send(b"waits")
        });
        until_parked(setup.view.word32(PRODUCER_PARKED));
        until_all_sleep(&threads, 1);
        consumer.try_recv(&mut Vec::new()).unwrap().unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
    });
}

/// Each operation that waits, with and without something to wait for.
#[test]
fn waits_end_with_what_they_waited_for_or_at_their_deadline() {
    let short = Duration::from_millis(2);
    let late = || Instant::now() + short;
    for strategy in STRATEGIES {
        let (mut producer, mut consumer) = local_with(128, strategy).unwrap();
        let mut block = b"as it was".to_vec();
        let end = RecvError::TimedOut;
        assert_eq!(consumer.recv_timeout(&mut block, short), Err(end));
        assert_eq!(consumer.recv_timeout(&mut block, late()), Err(end));
        assert_eq!(consumer.recv_ref_timeout(late()).map(|i| i.len()), Err(end));
        assert_eq!(block, b"as it was");

        let there = Instant::now() + LIMIT;
        producer.send_timeout(b"1", LIMIT).unwrap();
        let end = SendError::TimedOut;
        assert_eq!(producer.send_timeout(b"!", short), Err(end));
        assert_eq!(producer.send_timeout(b"!", late()), Err(end));
        assert_eq!(producer.grant_until(1, late().into()).map(|g| g.remaining()), Err(end));
        assert_eq!(consumer.recv_timeout(&mut block, LIMIT), Ok(1));
        assert_eq!(block, b"1");
        producer.send_timeout(b"23", there).unwrap();
        assert_eq!(consumer.recv_timeout(&mut block, there), Ok(2));
        assert_eq!(block, b"23");
        std::io::Write::write_all(&mut producer.grant(9).unwrap(), b"dropped").unwrap();
        let mut grant = producer.grant_until(3, there.into()).unwrap();
        std::io::Write::write_all(&mut grant, b"456").unwrap();
        grant.commit();
        let incoming = consumer.recv_ref_timeout(there).unwrap();
        assert_eq!(incoming.len(), 3);
        incoming.release();
        assert_eq!(consumer.try_recv(&mut block), Ok(None));
    }
}

/// What can never succeed, or no longer can, fails without a wait.
#[test]
fn errors_are_told_apart_by_those_who_wait() {
    let (mut producer, mut consumer) = local_with(128, WaitStrategy::Park).unwrap();
    producer.try_send(b"fills it").unwrap();
    let (len, max) = (57, 56);
    assert_eq!(producer.send(&[0; 57]), Err(SendError::TooLarge { len, max }));
    assert_eq!(producer.grant(57).map(|g| g.remaining()), Err(SendError::TooLarge { len, max }));
    let there = Instant::now() + LIMIT;
    assert_eq!(producer.send_timeout(&[0; 57], there), Err(SendError::TooLarge { len, max }));
    consumer.closer().close();
    let gone = CloseReason::LOCAL;
    assert_eq!(producer.send(b"x"), Err(SendError::Disconnected(gone)));
    assert_eq!(producer.grant(1).map(|g| g.remaining()), Err(SendError::Disconnected(gone)));
    assert_eq!(producer.send_timeout(b"x", there), Err(SendError::Disconnected(gone)));
    assert_eq!(consumer.recv_timeout(&mut Vec::new(), LIMIT), Ok(8));
    let end = RecvError::Disconnected(gone);
    assert_eq!(consumer.recv_timeout(&mut Vec::new(), LIMIT), Err(end));
}

/// The quick look accepts nothing that the rules forbid: at every line of a ring, for lengths around the end
/// of every line.
#[test]
fn lengths_are_judged_at_every_line() {
    let ring = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    for max_block in [20, 300, largest_block(1024)] {
        for at in 0..16 * 18 {
            let (start, lines) = ((at % 16 * LINE) as u64, at / 16);
            for len in [55, 56, 57].map(|more| lines * LINE + more) {
                let closer = Closer::new(ring.view.clone(), Scope::Private, vec![], None, Peer::Relied);
                let mut consumer = Consumer::new(&Setup { max_block, start, closer, ..ring.clone() });
                let word = data_header(start, len);
                ring.view.word64(ring.data + start as usize).store(word, Ordering::Relaxed);
                let expected = match layout::check(word, start, 1024, max_block) {
                    Err(violation) => Err(RecvError::Violation(violation)),
                    Ok(_) => Ok(Some(len)),
                };
                let found = consumer.try_recv_ref().map(|found| found.map(|block| block.len()));
                assert_eq!(found, expected, "{len} bytes at {start}");
            }
        }
    }
}

#[test]
fn a_head_moves_forward_by_lines_up_to_the_tail() {
    for (head, broken) in [(64, true), (128, false), (129, true), (192, false), (320, false), (384, true)] {
        let setup = local_setup(256, WaitStrategy::Park, 0).unwrap();
        let (mut producer, mut consumer) = ends(&setup);
        for _ in 0..3 {
            producer.try_send(&[]).unwrap();
            consumer.try_recv(&mut Vec::new()).unwrap().unwrap();
        }
        // The last head seen is that of the second block; the tail is behind the fifth.
        setup.view.word64(HEAD).store(128, Ordering::Relaxed);
        for _ in 0..2 {
            producer.try_send(&[]).unwrap();
        }
        assert_eq!((producer.try_send(&[]), producer.head()), (Err(SendError::Full), 128));
        setup.view.word64(HEAD).store(head, Ordering::Relaxed);
        let expected = match (broken, head) {
            (true, _) => Err(SendError::Violation(Violation::Head)),
            (false, 128) => Err(SendError::Full),
            (false, _) => Ok(()),
        };
        assert_eq!(producer.try_send(&[]), expected, "head {head}");
    }
}

/// Whatever the offset and the length, a read ends at the end of the block.
#[test]
fn a_read_ends_with_the_block() {
    let (mut producer, mut consumer) = local_with(1024, WaitStrategy::Park).unwrap();
    for block in [vec![1; 20], vec![1; 100]] {
        producer.try_send(&block).unwrap();
        let incoming = consumer.try_recv_ref().unwrap().unwrap();
        let mut byte = [0];
        for offset in [block.len(), block.len() + 1, usize::MAX] {
            let read = std::panic::AssertUnwindSafe(|| incoming.read_at(offset, &mut byte));
            assert!(std::panic::catch_unwind(read).is_err(), "offset {offset}");
            let mut rest = b"kept".to_vec();
            incoming.append_to(offset, &mut rest);
            assert_eq!(rest, b"kept");
        }
        incoming.read_at(block.len(), &mut []);
        incoming.read_at(block.len() - 1, &mut byte);
        assert_eq!(byte, [1]);
        incoming.release();
    }
}

/// Real threads, each way of waiting, the smallest rings and larger ones: everything arrives once, in order,
/// unchanged.
#[test]
fn threads_pass_everything_in_order() {
    for strategy in [WaitStrategy::Adaptive, WaitStrategy::Park, WaitStrategy::Spin] {
        for (capacity, blocks) in [(128, 3_000u32), (256, 3_000), (4096, 20_000)] {
            // Two that spin on one CPU wait for each other's time slice.
            let blocks = if strategy == WaitStrategy::Spin { blocks / 10 } else { blocks };
            let (mut producer, mut consumer) = local_with(capacity, strategy).unwrap();
            let content = move |i: u32| {
                let len = (i.wrapping_mul(2_654_435_761) >> 8) as usize % (largest_block(capacity) + 1);
                (0..len).map(|at| (i as usize + at) as u8).collect::<Vec<u8>>()
            };
            let sender = std::thread::spawn(move || {
                let mut i = 0;
                while i < blocks {
                    if i % 3 == 0 {
                        producer.send(&content(i)).unwrap();
                        i += 1;
                    } else {
                        let mut batch = producer.batch();
                        while i < blocks && i % 3 != 0 && batch.push(&content(i)).is_ok() {
                            i += 1;
                        }
                        batch.commit();
                        if i % 3 != 0 && i < blocks {
                            producer.send(&content(i)).unwrap();
                            i += 1;
                        }
                    }
                }
            });
            let mut block = Vec::new();
            for i in 0..blocks {
                consumer.recv(&mut block).unwrap();
                assert!(block == content(i), "block {i} of ring {capacity} arrived changed");
            }
            assert!(consumer.recv(&mut block).is_err());
            sender.join().unwrap();
        }
    }
}

/// Headers that lie on the steps of one size are not on those of another.
#[test]
fn what_was_cleared_far_ahead_is_known_for_one_size() {
    let setup = local_setup(2048, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = (Producer::new(&setup), Consumer::new(&setup));
    let mut into = Vec::new();
    for _ in 0..2 {
        producer.try_send(&[0xff; 1000]).unwrap();
        assert_eq!(consumer.try_recv(&mut into), Ok(Some(1000)));
    }
    producer.try_send(&[1; 200]).unwrap();
    let behind = producer.cleared().next().unwrap();
    // Together as long as one of the first size.
    for block in [&[2_u8; 0][..], &[2; 130]] {
        producer.try_publish(None, &[block]).unwrap();
    }
    assert_eq!(producer.position(), behind);
    producer.notify();
    let cleared: Vec<u64> = producer.cleared().collect();
    assert_eq!(cleared, [behind + 192, behind + 384]);
    for position in cleared {
        let at = setup.data + (position % setup.capacity as u64) as usize;
        assert_eq!(setup.view.word64(at).load(Ordering::Relaxed), 0);
    }
}
