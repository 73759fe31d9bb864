//! What closing tells each side, and whom it wakes.

use super::*;

#[test]
fn an_end_closes_what_it_is_told_to_when_it_is_dropped() {
    for closes_on_drop in [None, Some(CloseReason::PEER), Some(CloseReason::ANOTHER)] {
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

/// Two sides of one channel, each with its own private word, and a third side that does not read the shared
/// word.
fn sides(parked: Vec<usize>) -> (View, [Closer; 3]) {
    let view = View::new(Segment::anonymous(4096).unwrap());
    let side = |peer| Closer::new(view.clone(), Scope::Shared, parked.clone(), Some(512), peer);
    let sides = [Peer::Heard, Peer::Heard, Peer::Unheard].map(side);
    (view, sides)
}

#[test]
fn each_reason_is_told_to_the_other_side() {
    const OWN: CloseReason = CloseReason::private(9);
    let told = [CloseReason::PEER, CloseReason::FAULT, CloseReason::ABOVE, CloseReason::ANOTHER];
    for reason in [CloseReason::LOCAL, OWN].into_iter().chain(told) {
        let (_view, [near, far, heedless]) = sides(vec![]);
        for side in [&near, &far, &heedless] {
            assert_eq!((side.reason(), side.is_closed(), side.is_closed_here()), (None, false, false));
        }
        near.close_as(reason);
        near.close_as(if reason == CloseReason::ANOTHER { CloseReason::ABOVE } else { CloseReason::ANOTHER });
        assert_eq!((near.reason(), near.is_closed(), near.is_closed_here()), (Some(reason), true, true));
        let told = if told.contains(&reason) { reason } else { CloseReason::PEER };
        assert_eq!((far.reason(), far.is_closed(), far.is_closed_here()), (Some(told), true, false));
        assert_eq!((heedless.reason(), heedless.is_closed()), (None, false));
        far.close_as(CloseReason::FAULT);
        assert_eq!(far.reason(), Some(CloseReason::FAULT), "its own");
        assert_eq!(near.reason(), Some(reason));
    }
    let (view, [near, ..]) = sides(vec![]);
    view.word32(512).store(99, Ordering::Relaxed);
    assert_eq!(near.reason(), Some(CloseReason::told(99)), "for the layer above to judge");
    for word in [1 << 31, 1 << 31 | 7, 1 << 31 | 9, u32::MAX] {
        view.word32(512).store(word, Ordering::Relaxed);
        assert_eq!(near.reason(), Some(CloseReason::PEER), "what only this process can know");
    }
}

/// Exactly those waits whose other side is not trusted to leave the parked words alone.
#[test]
fn a_wait_among_processes_is_ended_by_the_private_word_too() {
    let setup = || local_setup(128, WaitStrategy::Park, 0).unwrap();
    assert!(!setup().closer.sleeps_on_private());
    let (_view, [closer, ..]) = sides(vec![]);
    assert!(closer.sleeps_on_private());

    // This closer knows no parked word, so it wakes each sleeper by the private word. No end closes when it
    // is dropped, because that would wake the next sleeper.
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
    closer.close_as(CloseReason::ABOVE);
    for _ in 0..3 {
        let end = RecvError::Disconnected(CloseReason::ABOVE);
        assert_eq!(ends.recv_timeout(LIMIT), Ok(Err(end)), "it sleeps on");
    }
}

/// A peer changed the sleeper's word and died before the wake. Then the close must wake the sleeper.
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
        closer.close_as(CloseReason::ANOTHER);
        assert_eq!(sleeper.join().unwrap(), Woken::Hint);
    }
}
