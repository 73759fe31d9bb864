//! What is asked, answered, kept and given up.

use std::thread;

use super::*;
use crate::link::service::Finished;
use crate::ring::layout::PRODUCER_PARKED;
use crate::ring::{Setup, WaitStrategy, local_setup};
use crate::shm::backend::Ordering;

fn setups() -> [Setup; 2] {
    [0, 1].map(|_| local_setup(1024, WaitStrategy::Park, 0).unwrap())
}

/// A requester, and the responder's ends.
fn requester_on(setups: &[Setup; 2]) -> (Requester, Consumer, Producer) {
    let requester = Requester::new(Producer::new(&setups[0]), Consumer::new(&setups[1]));
    (requester, Consumer::new(&setups[0]), Producer::new(&setups[1]))
}

fn requester() -> (Requester, Consumer, Producer) {
    requester_on(&setups())
}

/// Waits until the requester sleeps, or is about to sleep, for space.
fn until_parked([requests, _]: &[Setup; 2]) {
    while requests.view.word32(PRODUCER_PARKED).load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
}

fn fill_with_posts(requester: &mut Requester) -> usize {
    (0..).find(|_| requester.try_post(&[7; 40]) == Err(NotSent::Full)).unwrap()
}

fn take(requests: &mut Consumer) -> (u16, u32) {
    let found = requests.find(&mut Deadline::until(None)).unwrap();
    let block = requests.take(found);
    let header = BlockHeader::of(&block).unwrap();
    block.release();
    (header.code.get(), header.sequence.get())
}

fn respond(responses: &mut Producer, sequence: u32) {
    let header = BlockHeader::new(Status::Ok as u16, 0, sequence).to_word();
    responses.try_publish(Some(header), &[]).unwrap();
}

fn room(requester: &mut Requester, deadline: impl Into<Deadline>) -> Result<(), Stop> {
    requester.make_room(40, &mut deadline.into()).map_err(|error| match error {
        NoRoom::Stopped(stop) => stop,
        NoRoom::Uncollected { most } => panic!("{most} kept"),
    })
}

#[test]
fn a_post_has_no_number_and_no_response_and_keeps_its_place() {
    let (mut requester, mut requests, mut responses) = requester();
    requester.try_publish(Operation::Call, 0, []).unwrap();
    requester.try_post(b"one").unwrap();
    requester.try_publish(Operation::Call, 0, []).unwrap();
    assert_eq!(requester.outstanding(), 2);
    let (call, post) = (Operation::Call as u16, Operation::Post as u16);
    assert_eq!([(); 3].map(|()| take(&mut requests)), [(call, 0), (post, 0), (call, 1)]);
    for sequence in 0..2 {
        respond(&mut responses, sequence);
        assert_eq!(requester.receive(&mut Deadline::never(), |stop| stop), Ok(Status::Ok));
    }
    assert_eq!(requester.outstanding(), 0);
}

#[test]
fn a_ring_full_of_posts_has_room_when_one_is_taken_and_nobody_answers() {
    let setups = setups();
    let (mut requester, mut requests, _responses) = requester_on(&setups);
    assert!(fill_with_posts(&mut requester) > 1);
    assert_eq!(room(&mut requester, Instant::now()), Err(Stop::Deadline));
    let taker = thread::spawn(move || {
        until_parked(&setups);
        take(&mut requests);
        requests
    });
    assert_eq!(room(&mut requester, None), Ok(()));
    requester.try_publish(Operation::Call, 0, [&[1; 40]]).unwrap();
    let mut requests = taker.join().unwrap();
    while take(&mut requests) != (Operation::Call as u16, 0) {}
}

#[test]
fn posts_before_a_call_that_takes_long_leave_room_before_its_response() {
    let (mut requester, mut requests, _responses) = requester();
    requester.try_post(&[7; 40]).unwrap();
    requester.try_publish(Operation::Call, 0, []).unwrap();
    fill_with_posts(&mut requester);
    take(&mut requests);
    assert_eq!(room(&mut requester, None), Ok(()), "no response came");
    requester.try_post(&[7; 40]).unwrap();
    assert_eq!(room(&mut requester, Instant::now()), Err(Stop::Deadline));
}

#[test]
fn a_response_makes_room_among_posts_and_is_kept() {
    let (mut requester, mut requests, mut responses) = requester();
    requester.try_publish(Operation::Call, 0, []).unwrap();
    fill_with_posts(&mut requester);
    take(&mut requests);
    respond(&mut responses, 0);
    assert_eq!(room(&mut requester, None), Ok(()));
    assert_eq!((requester.has_kept(), requester.outstanding()), (true, 1));
}

#[test]
fn a_close_ends_a_wait_for_posts_to_be_taken() {
    let setups = setups();
    let (mut requester, requests, _responses) = requester_on(&setups);
    fill_with_posts(&mut requester);
    let waiter = thread::spawn(move || room(&mut requester, None));
    until_parked(&setups);
    drop(requests);
    assert!(matches!(waiter.join().unwrap(), Err(Stop::Closed(_))));
}

/// It was begun before the end, and so its responder may still commit it.
#[test]
fn an_answer_behind_the_end_is_for_nobody() {
    let (mut requester, _requests, mut responses) = requester();
    for number in 0..2 {
        assert_eq!(requester.try_publish(Operation::Call, 0, []), Ok(number));
    }
    let (closer, mut spare) = (responses.closer(), Vec::new());
    let mut answer = crate::link::Response::begin(&mut responses, &mut spare, 0);
    closer.close();
    let ended = requester.receive(&mut Deadline::never(), |stop| stop).unwrap_err();
    let Stop::Closed(reason) = ended else { panic!("{ended:?}") };
    requester.end_outstanding(reason);
    assert!(matches!(answer.finish(), Finished::Committed { .. }));
    std::mem::forget(answer);
    assert_eq!(requester.keep_until(Instant::now()), Err(ended), "no rule is broken");
    assert_eq!([(); 3].map(|()| requester.take_kept()), [Some(Err(reason)), Some(Err(reason)), None]);
}

/// The responder may overlook the sleeper while it serves the post: see `exchange`.
#[test]
fn a_requester_whose_request_has_a_post_behind_it_sleeps_in_slices() {
    let (mut requester, _requests, mut responses) = requester();
    requester.try_publish(Operation::Call, 0, []).unwrap();
    requester.try_post(b"").unwrap();
    let waiter = thread::spawn(move || requester.receive(&mut Deadline::never(), |stop| stop));
    while !responses.consumer_looks_parked() {
        thread::yield_now();
    }
    respond(&mut responses, 0);
    assert_eq!(waiter.join().unwrap(), Ok(Status::Ok), "without a wake");
}
