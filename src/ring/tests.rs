//! What the properties do not ask: what an end tells of itself, how its waits end, and what each close says.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::layout::{
    self, CONSUMER_PARKED, HEAD, LINE, MAX_CAPACITY, MIN_CAPACITY, PRODUCER_PARKED, data_header,
    largest_block,
};
use super::local::local_setup;
use super::{
    CloseReason, Closer, Consumer, Peer, Producer, RecvError, RecvTimeoutError, RingError, SPARE_HINTS,
    SendError, SendTimeoutError, Setup, TryRecvError, TrySendError, Violation, WaitStrategy, local,
    local_with,
};
use crate::shm::futex::{self, Scope, Wait, Woken};
use crate::shm::{Segment, View};
use crate::sync::{AtomicU32, Ordering};

/// What should come at once may take this long on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const STRATEGIES: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park];

/// Waits until the word says that its sleeper lies down.
fn until_parked(word: &AtomicU32) {
    let until = Instant::now() + LIMIT;
    while word.load(Ordering::Relaxed) != 1 {
        assert!(Instant::now() < until, "nobody lies down");
        thread::yield_now();
    }
}

/// The threads that tell their numbers sleep nowhere but where they are expected to.
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

/// A wake that tells nothing: the sleeper has to lie down again.
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
        assert!(matches!(local(capacity), Err(RingError::Capacity(told)) if told == capacity));
    }
    for capacity in [128, 4096, 1 << 16] {
        let setup = local_setup(capacity, WaitStrategy::Park, 0).unwrap();
        assert_eq!((setup.capacity, setup.max_block), (capacity, capacity / 2 - 8));
        let end = setup.data + capacity;
        assert_eq!(setup.view.load64(end - 8, Ordering::Relaxed), 0);
        let beyond = std::panic::AssertUnwindSafe(|| setup.view.load64(end, Ordering::Relaxed));
        assert!(std::panic::catch_unwind(beyond).is_err(), "more than was asked for");
    }
    let told = local(100).unwrap_err().to_string();
    assert_eq!(told, "a ring cannot have 100 bytes: use a power of two from 128 to 1073741824");
}

/// Whoever spun sleeps from now on.
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
        consumer.try_recv(&mut Vec::new()).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
    });
}

/// Each operation that waits, with and without reason.
#[test]
fn waits_end_with_what_they_waited_for_or_at_their_deadline() {
    let short = Duration::from_millis(2);
    let late = || Instant::now() + short;
    for strategy in STRATEGIES {
        let (mut producer, mut consumer) = local_with(128, strategy).unwrap();
        let mut block = b"as it was".to_vec();
        let end = RecvTimeoutError::TimedOut;
        assert_eq!(consumer.recv_timeout(&mut block, short), Err(end));
        assert_eq!(consumer.recv_deadline(&mut block, late()), Err(end));
        assert_eq!(consumer.incoming_deadline(late()).map(|i| i.len()), Err(end));
        assert_eq!(block, b"as it was");

        let there = Instant::now() + LIMIT;
        producer.send_timeout(b"1", LIMIT).unwrap();
        let end = SendTimeoutError::TimedOut;
        assert_eq!(producer.send_timeout(b"!", short), Err(end));
        assert_eq!(producer.send_deadline(b"!", late()), Err(end));
        assert_eq!(producer.grant_deadline(1, late()).map(|g| g.remaining()), Err(end));
        assert_eq!(consumer.recv_timeout(&mut block, LIMIT), Ok(1));
        assert_eq!(block, b"1");
        producer.send_deadline(b"23", there).unwrap();
        assert_eq!(consumer.recv_deadline(&mut block, there), Ok(2));
        assert_eq!(block, b"23");
        std::io::Write::write_all(&mut producer.grant(9).unwrap(), b"dropped").unwrap();
        let mut grant = producer.grant_deadline(3, there).unwrap();
        std::io::Write::write_all(&mut grant, b"456").unwrap();
        grant.commit();
        let incoming = consumer.incoming_deadline(there).unwrap();
        assert_eq!(incoming.len(), 3);
        incoming.release();
        assert_eq!(consumer.try_recv(&mut block), Err(TryRecvError::Empty));
    }
}

/// What can never be, or not any more, is told without a wait.
#[test]
fn errors_are_told_apart_by_those_who_wait() {
    let (mut producer, mut consumer) = local_with(128, WaitStrategy::Park).unwrap();
    producer.try_send(b"fills it").unwrap();
    let (len, max) = (57, 56);
    assert_eq!(producer.send(&[0; 57]), Err(SendError::TooLarge { len, max }));
    assert_eq!(producer.grant(57).map(|g| g.remaining()), Err(SendError::TooLarge { len, max }));
    let there = Instant::now() + LIMIT;
    assert_eq!(producer.send_deadline(&[0; 57], there), Err(SendTimeoutError::TooLarge { len, max }));
    consumer.closer().close();
    let gone = CloseReason::Local;
    assert_eq!(producer.send(b"x"), Err(SendError::Disconnected(gone)));
    assert_eq!(producer.grant(1).map(|g| g.remaining()), Err(SendError::Disconnected(gone)));
    assert_eq!(producer.send_deadline(b"x", there), Err(SendTimeoutError::Disconnected(gone)));
    assert_eq!(consumer.recv_timeout(&mut Vec::new(), LIMIT), Ok(8));
    let end = RecvTimeoutError::Disconnected(gone);
    assert_eq!(consumer.recv_timeout(&mut Vec::new(), LIMIT), Err(end));
}

/// A wake that leads nowhere does not end a wait, and each thing that is received makes up for one of them.
#[test]
fn who_is_woken_for_nothing_lies_down_again() {
    let setup = local_setup(256, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = ends(&setup);
    const TIMES: usize = 200;
    let (to, threads) = mpsc::channel();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            tell(&to);
            for _ in 0..TIMES {
                assert_eq!(consumer.recv_timeout(&mut Vec::new(), LIMIT), Ok(4));
                assert_eq!(consumer.drain().try_recv(&mut Vec::new()), Ok(4));
            }
        });
        let thread = threads.recv().unwrap();
        for _ in 0..TIMES {
            wake_for_nothing(&setup, CONSUMER_PARKED, thread);
            wake_for_nothing(&setup, CONSUMER_PARKED, thread);
            let mut batch = producer.batch();
            batch.push(b"data").unwrap();
            batch.push(b"more").unwrap();
            batch.commit();
        }
        reader.join().unwrap();
    });
    producer.try_send(b"fills").unwrap();
    producer.try_send(b"three").unwrap();
    producer.try_send(b"lines").unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            tell(&to);
            for _ in 0..TIMES {
                assert_eq!(producer.send_timeout(b"data", LIMIT), Ok(()));
            }
        });
        let thread = threads.recv().unwrap();
        for _ in 0..TIMES {
            wake_for_nothing(&setup, PRODUCER_PARKED, thread);
            consumer.try_recv(&mut Vec::new()).unwrap();
        }
        writer.join().unwrap();
    });
}

/// The quick look takes nothing that the rules forbid: at every line of a ring, around the end of every line.
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
                ring.view.store64(ring.data + start as usize, word, Ordering::Relaxed);
                let expected = match layout::check(word, start, 1024, max_block) {
                    Err(violation) => Err(TryRecvError::Violation(violation)),
                    Ok(_) => Ok(len),
                };
                assert_eq!(consumer.try_incoming().map(|i| i.len()), expected, "{len} bytes at {start}");
            }
        }
    }
}

/// The consumer's half of the space wake is due with every quarter of the ring, and when a look finds
/// nothing.
#[test]
fn what_was_given_back_is_told_by_quarters_or_when_nothing_is_left() {
    let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = ends(&setup);
    let mut block = Vec::new();
    for line in 0..40 {
        producer.try_send(&[]).unwrap();
        consumer.try_recv(&mut block).unwrap();
        assert_eq!(consumer.owes_wake(), line % 4 != 0, "line {line}");
    }
    let word = setup.view.word32(PRODUCER_PARKED);
    for waits in [false, true] {
        producer.try_send(&[]).unwrap();
        consumer.try_incoming().unwrap().release_quietly();
        word.store(1, Ordering::Relaxed);
        if waits {
            assert_eq!(consumer.recv_timeout(&mut block, Duration::ZERO), Err(RecvTimeoutError::TimedOut));
        } else {
            assert_eq!(consumer.try_recv(&mut block), Err(TryRecvError::Empty));
        }
        assert_eq!((consumer.owes_wake(), word.swap(0, Ordering::Relaxed)), (false, 0));
    }
}

/// A drain gives back what it took by quarters of the ring, when nothing is left, and when it ends, however
/// it ends.
#[test]
fn a_drain_gives_back_for_many_blocks_at_once() {
    let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = ends(&setup);
    let head = || setup.view.load64(HEAD, Ordering::Relaxed) / LINE as u64;
    let mut block = Vec::new();
    let mut send = |count| (0..count).for_each(|_| producer.try_send(&[]).unwrap());
    send(1);
    consumer.try_recv(&mut block).unwrap();

    send(7);
    let mut drain = consumer.drain();
    let heads = [1, 1, 1, 5, 5, 5, 5].map(|expected| {
        drain.try_recv(&mut block).unwrap();
        (head(), expected)
    });
    assert!(heads.iter().all(|(head, expected)| head == expected), "{heads:?}");
    assert_eq!(drain.try_recv(&mut block), Err(TryRecvError::Empty));
    assert_eq!(head(), 8, "nothing was left");
    send(2);
    drain.try_recv(&mut block).unwrap();
    assert_eq!(head(), 8);
    drop(drain);
    assert_eq!(head(), 9, "it ended");

    let thrown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut drain = consumer.drain();
        drain.try_recv(&mut block).unwrap();
        panic!("the user's code");
    }));
    assert!(thrown.is_err());
    assert_eq!(head(), 10, "it ended by a panic");

    // One that is forgotten keeps what it took until the consumer goes on.
    for takes_more in [true, false] {
        send(1);
        let before = head();
        let mut drain = consumer.drain();
        drain.try_recv(&mut block).unwrap();
        std::mem::forget(drain);
        assert_eq!(head(), before);
        if takes_more {
            send(1);
            consumer.try_recv(&mut block).unwrap();
            assert_eq!(head(), before + 2);
        } else {
            assert_eq!(consumer.try_recv(&mut block), Err(TryRecvError::Empty));
            assert_eq!(head(), before + 1);
        }
    }
}

/// Who is seen asleep need not wait for a quarter of the ring: the next block tells it, or the drain's end.
#[test]
fn a_drain_wakes_a_producer_that_sleeps() {
    let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = ends(&setup);
    let word = setup.view.word32(PRODUCER_PARKED);
    let state = || (setup.view.load64(HEAD, Ordering::Relaxed) / LINE as u64, word.load(Ordering::Relaxed));
    let mut block = Vec::new();
    for _ in 0..4 {
        producer.try_send(&[]).unwrap();
    }
    consumer.try_recv(&mut block).unwrap();
    let mut drain = consumer.drain();
    drain.try_recv(&mut block).unwrap();
    word.store(1, Ordering::Relaxed);
    assert_eq!(state(), (1, 1));
    drain.try_recv(&mut block).unwrap();
    assert_eq!(state(), (3, 0), "at the next block");
    drain.try_recv(&mut block).unwrap();
    word.store(1, Ordering::Relaxed);
    drop(drain);
    assert_eq!(state(), (4, 0), "at the end");
}

/// The head is looked at where what is known of it is not enough, and only there.
#[test]
fn drafts_and_batches_grow_into_what_was_given_back() {
    let (mut producer, mut consumer) = local(1024).unwrap();
    for _ in 0..8 {
        producer.try_send(&[]).unwrap();
        consumer.try_recv(&mut Vec::new()).unwrap();
    }
    let mut draft = producer.begin(0).unwrap();
    assert_eq!(draft.room(), 56);
    producer.extend(&mut draft, 440);
    assert_eq!((draft.room(), producer.head()), (440, 0), "half the ring, without the zeroed line");
    producer.extend(&mut draft, 441);
    assert_eq!((draft.room(), producer.head()), (504, 512), "all of it");
    producer.commit_draft(&draft, 0);

    let (mut producer, mut consumer) = local(256).unwrap();
    for _ in 0..2 {
        producer.try_send(&[]).unwrap();
        consumer.try_recv(&mut Vec::new()).unwrap();
    }
    let mut batch = producer.batch();
    batch.push(&[]).unwrap();
    batch.commit();
    assert_eq!(producer.head(), 0, "it was full up to the last line, and not fuller");
    let mut batch = producer.batch();
    batch.push(&[]).unwrap();
    batch.commit();
    assert_eq!(producer.head(), 128);
}

#[test]
fn a_draft_behind_padding_may_end_within_its_first_line() {
    let (mut producer, mut consumer) = local(1024).unwrap();
    let mut block = Vec::new();
    for _ in 0..15 {
        producer.try_send(&[]).unwrap();
        consumer.try_recv(&mut block).unwrap();
    }
    let draft = producer.begin(57).unwrap();
    producer.write(&draft, 0, b"short");
    producer.commit_draft(&draft, 5);
    producer.notify();
    assert_eq!(consumer.try_recv(&mut block), Ok(5));
    assert_eq!(block, b"short");
}

#[test]
fn a_head_moves_forward_by_lines_up_to_the_tail() {
    for (head, broken) in [(64, true), (128, false), (129, true), (192, false), (320, false), (384, true)] {
        let setup = local_setup(256, WaitStrategy::Park, 0).unwrap();
        let (mut producer, mut consumer) = ends(&setup);
        for _ in 0..3 {
            producer.try_send(&[]).unwrap();
            consumer.try_recv(&mut Vec::new()).unwrap();
        }
        // The last one seen is that of the second block; the tail is behind the fifth.
        setup.view.store64(HEAD, 128, Ordering::Relaxed);
        for _ in 0..2 {
            producer.try_send(&[]).unwrap();
        }
        assert_eq!((producer.try_send(&[]), producer.head()), (Err(TrySendError::Full), 128));
        setup.view.store64(HEAD, head, Ordering::Relaxed);
        let expected = match (broken, head) {
            (true, _) => Err(TrySendError::Violation(Violation::Head)),
            (false, 128) => Err(TrySendError::Full),
            (false, _) => Ok(()),
        };
        assert_eq!(producer.try_send(&[]), expected, "head {head}");
    }
}

#[test]
fn an_end_closes_what_it_is_told_to_when_it_is_dropped() {
    for closes_on_drop in [None, Some(CloseReason::Peer), Some(CloseReason::Died)] {
        for writing in [true, false] {
            let setup = Setup { closes_on_drop, ..local_setup(128, WaitStrategy::Park, 0).unwrap() };
            if writing {
                drop(Producer::new(&setup))
            } else {
                drop(Consumer::new(&setup))
            }
            assert_eq!(setup.closer.reason(), closes_on_drop);
        }
    }
}

/// Two sides of one channel, each with its own private word, and a third that does not heed the shared one.
fn sides(parked: Vec<usize>) -> (View, [Closer; 3]) {
    let view = View::new(Segment::anonymous(4096).unwrap());
    let side = |peer| Closer::new(view.clone(), Scope::Shared, parked.clone(), Some(512), peer);
    let sides = [Peer::Heard, Peer::Heard, Peer::Unheard].map(side);
    (view, sides)
}

#[test]
fn each_reason_is_told_to_the_other_side() {
    use CloseReason::{Died, Local, Peer, ProtocolViolation, Shutdown, Unregistered};
    for reason in [Local, Peer, Unregistered, Shutdown, Died, ProtocolViolation] {
        let (_view, [near, far, heedless]) = sides(vec![]);
        for side in [&near, &far, &heedless] {
            assert_eq!((side.reason(), side.is_closed(), side.is_closed_here()), (None, false, false));
        }
        near.close_as(reason);
        near.close_as(if reason == Died { Shutdown } else { Died });
        assert_eq!((near.reason(), near.is_closed(), near.is_closed_here()), (Some(reason), true, true));
        let told = if reason == Local { Peer } else { reason };
        assert_eq!((far.reason(), far.is_closed(), far.is_closed_here()), (Some(told), true, false));
        assert_eq!((heedless.reason(), heedless.is_closed()), (None, false));
        far.close_as(Unregistered);
        assert_eq!(far.reason(), Some(Unregistered), "its own");
        assert_eq!(near.reason(), Some(reason));
    }
    let (view, [near, ..]) = sides(vec![]);
    view.word32(512).store(99, Ordering::Relaxed);
    assert_eq!(near.reason(), Some(Peer), "whatever the other side wrote");
}

/// Where the other side is not relied on to leave the parked words alone, and only there.
#[test]
fn a_wait_among_processes_is_ended_by_the_private_word_too() {
    let setup = || local_setup(128, WaitStrategy::Park, 0).unwrap();
    assert!(!setup().closer.sleeps_on_private());
    let (_view, [closer, ..]) = sides(vec![]);
    assert!(closer.sleeps_on_private());

    // A closer that finds no parked word, and so wakes all that sleep by the private one. An end that closes
    // when it is dropped would wake the next.
    let setup = || Setup { closer: closer.clone(), scope: Scope::Shared, closes_on_drop: None, ..setup() };
    let (to, threads) = mpsc::channel();
    let (ended, ends) = mpsc::channel();
    for _ in 0..3 {
        let (mut consumer, to, ended) = (Consumer::new(&setup()), to.clone(), ended.clone());
        thread::spawn(move || {
            tell(&to);
            ended.send(consumer.recv(&mut Vec::new()))
        });
    }
    until_all_sleep(&threads, 3);
    closer.close_as(CloseReason::Shutdown);
    for _ in 0..3 {
        let end = RecvError::Disconnected(CloseReason::Shutdown);
        assert_eq!(ends.recv_timeout(LIMIT), Ok(Err(end)), "it sleeps on");
    }
}

/// A peer that was to wake a sleeper, and died between the change of its word and the wake, leaves it to the
/// close.
#[test]
fn a_close_wakes_a_sleeper_of_whom_no_word_tells() {
    for parked in [CONSUMER_PARKED, PRODUCER_PARKED] {
        let setup = local_setup(128, WaitStrategy::Park, 0).unwrap();
        let closer = Closer::new(
            setup.view.clone(),
            Scope::Shared,
            vec![CONSUMER_PARKED, PRODUCER_PARKED],
            None,
            Peer::Relied,
        );
        assert!(!closer.sleeps_on_private());
        let word = setup.view.word32(parked);
        let (to, threads) = mpsc::channel();
        let view = setup.view.clone();
        let sleeper = thread::spawn(move || {
            let word = view.word32(parked);
            word.store(1, Ordering::Relaxed);
            tell(&to);
            futex::wait(&[Wait { word, expected: 1, scope: Scope::Shared }], Some(Instant::now() + LIMIT))
        });
        until_all_sleep(&threads, 1);
        word.store(0, Ordering::Relaxed);
        closer.close_as(CloseReason::Died);
        assert_eq!(sleeper.join().unwrap(), Woken::Hint);
    }
}

/// Sleeps for space that were ended for nothing are counted, and each head that moved makes up for one.
#[test]
fn fruitless_wakes_for_space_are_counted() {
    let (mut producer, mut consumer) = local(128).unwrap();
    producer.try_send(b"fills it").unwrap();
    consumer.try_recv(&mut Vec::new()).unwrap();
    assert_eq!(producer.head(), 0, "not looked at");
    producer.try_send(b"again").unwrap();
    let head = producer.head();
    assert_eq!(head, 64);
    for _ in 0..300 {
        for woken in [Woken::TimedOut, Woken::Interrupted, Woken::Slice] {
            assert_eq!(producer.account(head, woken), Ok(()));
        }
    }
    for _ in 0..10 {
        assert_eq!(producer.account(head - 64, Woken::Hint), Ok(()));
    }
    for _ in 1..SPARE_HINTS + 1 {
        assert_eq!(producer.account(head, Woken::Hint), Ok(()));
    }
    assert_eq!(producer.account(head, Woken::Hint), Err(Violation::FruitlessWakes));
    assert_eq!(producer.try_send(b"x"), Err(TrySendError::Violation(Violation::FruitlessWakes)));
}

/// Not only the word: a producer would find its room in the next slice, and nobody would notice.
#[test]
fn a_wake_ends_the_sleep_that_it_is_for() {
    for parked in [CONSUMER_PARKED, PRODUCER_PARKED] {
        let setup = local_setup(128, WaitStrategy::Park, 0).unwrap();
        let (mut producer, mut consumer) = ends(&setup);
        if parked == PRODUCER_PARKED {
            producer.try_send(b"fills it").unwrap();
        }
        let (to, threads) = mpsc::channel();
        let (woken, wakes) = mpsc::channel();
        let (view, scope) = (setup.view.clone(), setup.scope);
        setup.view.word32(parked).store(1, Ordering::Relaxed);
        thread::spawn(move || {
            tell(&to);
            woken.send(futex::wait(&[Wait { word: view.word32(parked), expected: 1, scope }], None))
        });
        until_all_sleep(&threads, 1);
        if parked == PRODUCER_PARKED {
            consumer.try_recv(&mut Vec::new()).unwrap();
        } else {
            producer.try_send(b"data").unwrap();
        }
        assert_eq!(wakes.recv_timeout(LIMIT), Ok(Woken::Hint), "it sleeps on");
    }
}
