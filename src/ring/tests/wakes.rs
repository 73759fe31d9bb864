//! Which end is woken, when, and how many fruitless wakes are tolerated.

use super::*;
use crate::ring::{Ended, notify_both};

/// A fruitless wake does not end a wait, and each thing received excuses one of them.
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
                assert_eq!(consumer.drain().try_recv(&mut Vec::new()), Ok(Some(4)));
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
            consumer.try_recv(&mut Vec::new()).unwrap().unwrap();
        }
        writer.join().unwrap();
    });
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
        consumer.try_recv(&mut block).unwrap().unwrap();
        assert_eq!(consumer.owes_wake(), line % 4 != 0, "line {line}");
    }
    let word = setup.view.word32(PRODUCER_PARKED);
    for waits in [false, true] {
        producer.try_send(&[]).unwrap();
        consumer.try_recv_ref().unwrap().unwrap().release_quietly();
        word.store(1, Ordering::Relaxed);
        if waits {
            assert_eq!(consumer.recv_timeout(&mut block, Duration::ZERO), Err(RecvError::TimedOut));
        } else {
            assert_eq!(consumer.try_recv(&mut block), Ok(None));
        }
        assert_eq!((consumer.owes_wake(), word.swap(0, Ordering::Relaxed)), (false, 0));
    }
}

/// A drain gives back what it took: after each quarter of the ring, when it finds nothing, and when it ends
/// in any way.
#[test]
fn a_drain_gives_back_for_many_blocks_at_once() {
    let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = ends(&setup);
    let head = || setup.view.word64(HEAD).load(Ordering::Relaxed) / LINE as u64;
    let mut block = Vec::new();
    let mut send = |count| (0..count).for_each(|_| producer.try_send(&[]).unwrap());
    send(1);
    consumer.try_recv(&mut block).unwrap().unwrap();

    send(7);
    let mut drain = consumer.drain();
    let heads = [1, 1, 1, 5, 5, 5, 5].map(|expected| {
        drain.try_recv(&mut block).unwrap().unwrap();
        (head(), expected)
    });
    assert!(heads.iter().all(|(head, expected)| head == expected), "{heads:?}");
    assert_eq!(drain.try_recv(&mut block), Ok(None));
    assert_eq!(head(), 8, "nothing was left");
    send(2);
    drain.try_recv(&mut block).unwrap().unwrap();
    assert_eq!(head(), 8);
    drop(drain);
    assert_eq!(head(), 9, "it ended");

    let thrown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut drain = consumer.drain();
        drain.try_recv(&mut block).unwrap().unwrap();
        panic!("the user's code");
    }));
    assert!(thrown.is_err());
    assert_eq!(head(), 10, "it ended by a panic");

    // A drain that is forgotten withholds what it took until the consumer goes on.
    for takes_more in [true, false] {
        send(1);
        let before = head();
        let mut drain = consumer.drain();
        drain.try_recv(&mut block).unwrap().unwrap();
        std::mem::forget(drain);
        assert_eq!(head(), before);
        if takes_more {
            send(1);
            consumer.try_recv(&mut block).unwrap().unwrap();
            assert_eq!(head(), before + 2);
        } else {
            assert_eq!(consumer.try_recv(&mut block), Ok(None));
            assert_eq!(head(), before + 1);
        }
    }
}

/// A producer that is seen asleep need not wait for a quarter of the ring: the drain wakes it with the next
/// block, or when it ends.
#[test]
fn a_drain_wakes_a_producer_that_sleeps() {
    let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = ends(&setup);
    let word = setup.view.word32(PRODUCER_PARKED);
    let state =
        || (setup.view.word64(HEAD).load(Ordering::Relaxed) / LINE as u64, word.load(Ordering::Relaxed));
    let mut block = Vec::new();
    for _ in 0..4 {
        producer.try_send(&[]).unwrap();
    }
    consumer.try_recv(&mut block).unwrap().unwrap();
    let mut drain = consumer.drain();
    drain.try_recv(&mut block).unwrap().unwrap();
    word.store(1, Ordering::Relaxed);
    assert_eq!(state(), (1, 1));
    drain.try_recv(&mut block).unwrap().unwrap();
    assert_eq!(state(), (3, 0), "at the next block");
    drain.try_recv(&mut block).unwrap().unwrap();
    word.store(1, Ordering::Relaxed);
    drop(drain);
    assert_eq!(state(), (4, 0), "at the end");
}

/// Fruitless wakes of a sleep for space are counted, and each move of the head excuses one.
#[test]
fn fruitless_wakes_for_space_are_counted() {
    let (mut producer, mut consumer) = local(128).unwrap();
    producer.try_send(b"fills it").unwrap();
    consumer.try_recv(&mut Vec::new()).unwrap().unwrap();
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
    assert_eq!(producer.account(head, Woken::Hint), Err(Ended::Fault(Violation::FruitlessWakes)));
    assert_eq!(producer.try_send(b"x"), Err(SendError::Violation(Violation::FruitlessWakes)));
}

/// It is not enough to change the parked word: the sleeper must be woken. Other tests would not notice a
/// missing wake, because a producer that sleeps finds its room after its 50 ms slice.
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
            consumer.try_recv(&mut Vec::new()).unwrap().unwrap();
        } else {
            producer.try_send(b"data").unwrap();
        }
        assert_eq!(wakes.recv_timeout(LIMIT), Ok(Woken::Hint), "it sleeps on");
    }
}

/// Which operations look for a sleeper. Both parked words are set by hand to find out.
#[test]
fn a_wake_is_sent_where_something_is_owed_and_only_there() {
    let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = (Producer::new(&setup), Consumer::new(&setup));
    let words = [CONSUMER_PARKED, PRODUCER_PARKED].map(|offset| setup.view.word32(offset));
    let parked_after = |action: &mut dyn FnMut()| {
        for word in words {
            word.store(1, Ordering::Relaxed);
        }
        action();
        words.map(|word| word.swap(0, Ordering::Relaxed))
    };
    let mut into = Vec::new();
    // The first block taken sends a wake at once; from then on one is due for each quarter of the ring, which
    // is four lines here.
    producer.try_send(&[]).unwrap();
    consumer.try_recv(&mut into).unwrap().unwrap();

    assert_eq!(parked_after(&mut || notify_both(&mut producer, &mut consumer)), [1, 1], "nothing was done");
    assert_eq!(parked_after(&mut || producer.try_send(&[]).unwrap()), [0, 1]);
    assert_eq!(parked_after(&mut || producer.notify()), [1, 1], "told already");
    assert_eq!(parked_after(&mut || producer.try_publish(None, &[]).unwrap()), [1, 1], "not yet");
    assert_eq!(parked_after(&mut || notify_both(&mut producer, &mut consumer)), [0, 1]);

    assert_eq!(
        parked_after(&mut || assert_eq!(consumer.try_recv(&mut into), Ok(Some(0)))),
        [1, 0],
        "seen parked"
    );
    assert_eq!(parked_after(&mut || notify_both(&mut producer, &mut consumer)), [1, 1], "told already");
    assert_eq!(consumer.try_recv(&mut into), Ok(Some(0)));
    assert_eq!(parked_after(&mut || notify_both(&mut producer, &mut consumer)), [1, 0]);
}

/// A peer that sends fruitless wakes without end is detected.
#[test]
fn fruitless_wakes_end_in_a_violation() {
    let broken = Violation::FruitlessWakes;
    for end in [CONSUMER_PARKED, PRODUCER_PARKED] {
        let setup = local_setup(128, WaitStrategy::Park, 0).unwrap();
        let (mut producer, mut consumer) = (Producer::new(&setup), Consumer::new(&setup));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let word = setup.view.word32(end);
                let mut wakes = 0;
                while wakes < 10_000 && setup.closer.reason().is_none() {
                    if word.swap(0, Ordering::Relaxed) == 1 {
                        crate::shm::futex::wake(word, setup.scope, 1);
                        wakes += 1;
                    }
                    std::thread::yield_now();
                }
                setup.closer.close_as(CloseReason::ABOVE);
            });
            for _ in 0..2 {
                if end == CONSUMER_PARKED {
                    assert_eq!(consumer.recv(&mut Vec::new()), Err(RecvError::Violation(broken)));
                } else {
                    let _ = producer.try_send(&[]);
                    assert_eq!(producer.send(&[]), Err(SendError::Violation(broken)));
                }
            }
        });
    }
}

/// Without this, each lap of the ring costs as many looks as a wait makes before it reads the clock.
#[test]
fn a_block_behind_padding_is_found_by_the_first_look() {
    for strategy in STRATEGIES {
        let setup = local_setup(1024, strategy, 1024 - LINE as u64).unwrap();
        let (mut producer, mut consumer) = ends(&setup);
        producer.try_send(&[1; 100]).unwrap();
        let found = consumer.find_soon().expect("the block lies behind one line of padding");
        assert_eq!(consumer.take(found).len(), 100);
    }
}
