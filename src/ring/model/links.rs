//! Links: both ends sleep on two words, either side may close at any moment, and posts are owed no response.

use super::close::closed_all_the_same;
use super::*;
use crate::link::exchange::{Serves, drain};
use crate::link::{self, NoRoom, Requester};
use crate::ring::{Deadline, Found, NotSent, Stop};
use crate::wire::{BLOCK_HEADER, BlockHeader, Operation, Status};

/// The words of a modelled link: two control blocks, a line for the closed word, the data of two rings.
const CONTROLS: [usize; 2] = [0, CONTROL];
const LINK_CLOSED: usize = 2 * CONTROL;
const LINK_DATA: usize = LINK_CLOSED + LINE;

/// One side's ends.
struct Side {
    producer: Producer,
    consumer: Consumer,
    closer: Closer,
}

impl Side {
    fn requester(self) -> Requester {
        Requester::new(self.producer, self.consumer)
    }
}

/// The caller's and the callee's side of a link with rings of so many lines.
fn sides(lines: u64) -> (Side, Side) {
    let (capacity, start) = (lines as usize * LINE, (WRAP - 1) * LINE as u64);
    let view = View::of_len(LINK_DATA + 2 * capacity);
    for control in CONTROLS {
        view.word64(control + HEAD).store(start, Ordering::Relaxed);
    }
    let side = |produces: usize, consumes: usize| {
        let parked = CONTROLS.iter().flat_map(|at| [at + CONSUMER_PARKED, at + PRODUCER_PARKED]).collect();
        let closer = Closer::new(view.clone(), Scope::Shared, parked, Some(LINK_CLOSED), Peer::Heard);
        let setup = |ring: usize| Setup {
            view: view.clone(),
            control: CONTROLS[ring],
            data: LINK_DATA + ring * capacity,
            capacity,
            max_block: largest_block(capacity),
            scope: Scope::Shared,
            closer: closer.clone(),
            kick: Default::default(),
            strategy: WaitStrategy::Park,
            closes_on_drop: None,
            stamps: None,
            start,
        };
        Side { producer: Producer::new(&setup(produces)), consumer: Consumer::new(&setup(consumes)), closer }
    };
    (side(0, 1), side(1, 0))
}

/// Serves as a responder does: a response for each call, and none for a post.
struct Callee<F> {
    side: Side,
    /// How many requests were served in this drain, and in all.
    served: usize,
    total: usize,
    /// What the service does with each request; the place of the request was given back before.
    service: F,
}

impl<F: FnMut(&[u8])> Serves for Callee<F> {
    type End = Stop;

    fn rings(&mut self) -> (&mut Consumer, &mut Producer) {
        (&mut self.side.consumer, &mut self.side.producer)
    }

    fn wakes_after_each(&self) -> bool {
        false
    }

    fn served(&mut self) -> &mut usize {
        &mut self.served
    }

    fn wait(&mut self) -> Result<Found, Stop> {
        self.side.consumer.find(&mut Deadline::until(None))
    }

    fn serve(&mut self, found: Found) -> Result<(), Stop> {
        let incoming = self.side.consumer.take(found);
        let header = BlockHeader::of(&incoming).unwrap();
        let mut body = Vec::new();
        incoming.append_to(BLOCK_HEADER, &mut body);
        incoming.release_quietly();
        self.total += 1;
        (self.service)(&body);
        if header.code.get() == Operation::Call as u16 {
            let header = BlockHeader::new(Status::Ok as u16, 0, header.sequence.get());
            self.side.producer.try_publish(Some(header.to_word()), &[&body]).unwrap();
        }
        Ok(())
    }
}

impl<F: FnMut(&[u8])> Callee<F> {
    fn new(side: Side, service: F) -> Callee<F> {
        Callee { side, served: 0, total: 0, service }
    }

    /// Serves in drains of at most `most` until the link is closed or so many requests were served.
    fn run(&mut self, requests: usize, most: usize) -> Option<CloseReason> {
        while self.total < requests {
            self.served = 0;
            match drain(self, most) {
                Ok(()) => notify_both(&mut self.side.producer, &mut self.side.consumer),
                Err(Stop::Closed(reason)) => return Some(reason),
                Err(stop) => panic!("{stop:?}"),
            }
        }
        None
    }
}

/// A service that demands that the requests come in their order.
fn in_order() -> impl FnMut(&[u8]) {
    let mut number = 0;
    move |body| {
        number += 1;
        assert_eq!(body, block(number, 8));
    }
}

/// Posts the block with this number, and waits while the ring is full.
fn post(caller: &mut Requester, number: u8) -> Result<(), link::Stop> {
    loop {
        match caller.try_post(&block(number, 8)) {
            Ok(()) => return Ok(()),
            Err(NotSent::Full) => make_room(caller)?,
            Err(error) => return Err(ended(error)),
        }
    }
}

/// Calls with the block with this number, and waits for the response.
fn call(caller: &mut Requester, number: u8) -> Result<Status, link::Stop> {
    let sequence = loop {
        match caller.try_publish(Operation::Call, 0, [&block(number, 8)]) {
            Ok(sequence) => break sequence,
            Err(NotSent::Full) => make_room(caller)?,
            Err(error) => return Err(ended(error)),
        }
    };
    caller.await_response(sequence, &mut { Deadline::NEVER }, |stop| stop)
}

fn make_room(caller: &mut Requester) -> Result<(), link::Stop> {
    caller.make_room(8, &mut { Deadline::NEVER }).map_err(|error| match error {
        NoRoom::Stopped(stop) => stop,
        NoRoom::Uncollected { most } => panic!("{most} kept"),
    })
}

fn ended(error: NotSent) -> link::Stop {
    match error {
        NotSent::Closed(reason) => link::Stop::Closed(reason.into()),
        error => panic!("{error:?}"),
    }
}

/// Three posts fill the ring. The caller then waits for room, and the callee for requests; each sleeps on two
/// words, and nobody answers.
#[test]
fn posts_into_a_full_ring_arrive_in_order() {
    for most in [1, 64] {
        explore_bounded(Some(2), move || {
            let (caller, callee) = sides(4);
            let serving = thread::spawn(move || Callee::new(callee, in_order()).run(4, most));
            let mut caller = caller.requester();
            for number in 1..=4 {
                assert_eq!(post(&mut caller, number), Ok(()));
            }
            assert_eq!(serving.join().unwrap(), None);
        });
    }
}

/// A service that takes long does not keep a caller waiting for room that was given back before. Here the
/// service of the second post does not return before the caller has posted the fourth.
#[test]
fn room_is_announced_before_the_drain_ends() {
    explore_bounded(Some(4), || {
        let (caller, callee) = sides(4);
        let mut caller = caller.requester();
        for number in 1..=3 {
            post(&mut caller, number).unwrap();
        }
        let posting = thread::spawn(move || post(&mut caller, 4).unwrap());
        let mut posting = Some(posting);
        let mut number = 0;
        let service = |_: &[u8]| {
            number += 1;
            if number == 2 {
                posting.take().unwrap().join().unwrap();
            }
        };
        assert_eq!(Callee::new(callee, service).run(4, 64), None);
    });
}

/// Both ends of each ring sleep on two words.
#[test]
fn calls_over_a_link_are_answered() {
    explore_bounded(Some(3), || {
        let (caller, callee) = sides(4);
        let serving = thread::spawn(move || Callee::new(callee, in_order()).run(2, 64));
        let mut caller = caller.requester();
        for number in 1..=2 {
            assert_eq!(call(&mut caller, number), Ok(Status::Ok));
            assert_eq!(caller.body(), block(number, 8));
        }
        assert_eq!(serving.join().unwrap(), None);
    });
}

/// A call waits for the room that the posts before it take, and then for its response. Posts owe none.
#[test]
fn a_call_behind_a_ring_full_of_posts_is_answered() {
    explore_bounded(Some(3), || {
        let (caller, callee) = sides(2);
        let serving = thread::spawn(move || Callee::new(callee, in_order()).run(2, 64));
        let mut caller = caller.requester();
        assert_eq!(post(&mut caller, 1), Ok(()));
        assert_eq!(call(&mut caller, 2), Ok(Status::Ok));
        assert_eq!(caller.body(), block(2, 8));
        assert_eq!(serving.join().unwrap(), None);
    });
}

/// A post leaves nobody behind who must be told later: its caller does nothing more.
#[test]
fn a_post_wakes_a_callee_that_sleeps() {
    explore(|| {
        let (caller, callee) = sides(4);
        let posting = thread::spawn(move || {
            let mut caller = caller.requester();
            post(&mut caller, 1).unwrap();
            caller
        });
        assert_eq!(Callee::new(callee, in_order()).run(1, 64), None);
        drop(posting.join().unwrap());
    });
}

/// Who closes, and the reason that the caller then sees.
#[derive(Clone, Copy)]
enum Closes {
    /// The callee.
    Other,
    /// Another thread of the caller's own process, which has learned of the callee's death.
    Watcher,
}

impl Closes {
    const BOTH: [Closes; 2] = [Closes::Other, Closes::Watcher];

    fn closer(self, caller: &Side, callee: &Side) -> Closer {
        match self {
            Closes::Other => callee.closer.clone(),
            Closes::Watcher => caller.closer.clone(),
        }
    }

    fn spawn(self, caller: &Side, callee: &Side) -> thread::JoinHandle<()> {
        let closer = self.closer(caller, callee);
        thread::spawn(move || closer.close_as(self.stored()))
    }

    fn stored(self) -> CloseReason {
        match self {
            Closes::Other => CloseReason::LOCAL,
            Closes::Watcher => CloseReason::ABOVE,
        }
    }

    fn seen(self) -> CloseReason {
        match self {
            Closes::Other => CloseReason::PEER,
            Closes::Watcher => CloseReason::ABOVE,
        }
    }
}

/// A post that went out is there; one that did not is told why, as is every later one.
#[test]
fn a_close_against_posts() {
    for closes in Closes::BOTH {
        explore(move || {
            let (caller, mut callee) = sides(4);
            let closing = closes.spawn(&caller, &callee);
            let mut caller = caller.requester();
            let sent: Vec<_> = (1..=2).map(|number| post(&mut caller, number)).collect();
            closing.join().unwrap();
            let went = sent.iter().take_while(|sent| sent.is_ok()).count();
            let closed = Err(link::Stop::Closed(closes.seen().into()));
            assert!(sent[went..].iter().all(|sent| *sent == closed), "{sent:?}");
            assert_eq!(post(&mut caller, 9), closed);
            let mut received = Vec::new();
            for number in 1..=went {
                assert!(callee.consumer.try_recv(&mut received).unwrap().is_some());
                assert_eq!(received[BLOCK_HEADER..], block(number as u8, 8));
            }
            assert!(callee.consumer.try_recv(&mut received).is_err());
        });
    }
}

/// What the caller posted before it closed is served first, also by a callee that sleeps.
#[test]
fn posts_before_a_close_are_served_first() {
    explore_bounded(Some(4), || {
        let (caller, callee) = sides(4);
        let posting = thread::spawn(move || {
            let closer = caller.closer.clone();
            post(&mut caller.requester(), 1).unwrap();
            closer.close();
        });
        let mut callee = Callee::new(callee, in_order());
        assert_eq!(callee.run(2, 64), Some(CloseReason::PEER));
        assert_eq!(callee.total, 1);
        posting.join().unwrap();
    });
}

/// A post waits, or is about to, and nothing is served any more.
#[test]
fn a_close_against_a_wait_for_room() {
    for closes in Closes::BOTH {
        explore(move || {
            let (caller, callee) = sides(2);
            let closing = closes.spawn(&caller, &callee);
            let mut caller = caller.requester();
            let end = link::Stop::Closed(closes.seen().into());
            // The first may find the link closed already; the second has no room.
            assert!([Ok(()), Err(end)].contains(&post(&mut caller, 1)));
            assert_eq!(post(&mut caller, 2), Err(end));
            closing.join().unwrap();
        });
    }
}

/// The callee takes the request, and does not answer before the end.
#[test]
fn a_close_against_a_wait_for_a_response() {
    for closes in Closes::BOTH {
        explore_bounded(Some(5), move || {
            let (caller, callee) = sides(4);
            let closing = closes.spawn(&caller, &callee);
            let end = link::Stop::Closed(closes.seen().into());
            assert_eq!(call(&mut caller.requester(), 1), Err(end));
            closing.join().unwrap();
        });
    }
}

/// The callee's last response is received before its close, though nobody announced it.
#[test]
fn a_response_before_a_close_comes_first() {
    explore_bounded(Some(4), || {
        let (caller, mut callee) = sides(4);
        let refusing = thread::spawn(move || {
            let header = BlockHeader::new(Status::NotFound as u16, 0, 0).to_word();
            callee.producer.try_publish(Some(header), &[&block(1, 8)]).unwrap();
            callee.closer.close();
        });
        let mut caller = caller.consumer;
        let mut received = Vec::new();
        assert_eq!(caller.recv(&mut received), Ok(16));
        assert_eq!(received[BLOCK_HEADER..], block(1, 8));
        assert_eq!(caller.recv(&mut received), Err(RecvError::Disconnected(CloseReason::PEER)));
        refusing.join().unwrap();
    });
}

/// A side whose own thread closes never sees the reason for the other side.
#[test]
fn a_close_of_ones_own_is_not_the_other_sides() {
    explore(|| {
        let (caller, _callee) = sides(2);
        let closer = caller.closer.clone();
        let closing = thread::spawn(move || closer.close());
        assert!(matches!(caller.closer.reason(), None | Some(CloseReason::LOCAL)));
        closing.join().unwrap();
    });
}

/// Both sides close at once, and each sees its own reason afterwards.
#[test]
fn both_sides_may_close() {
    explore(|| {
        let (caller, callee) = sides(2);
        let closing = thread::spawn(move || {
            callee.closer.close_as(CloseReason::ABOVE);
            assert_eq!(callee.closer.reason(), Some(CloseReason::ABOVE));
        });
        assert!(matches!(caller.closer.reason(), None | Some(CloseReason::ABOVE)));
        caller.closer.close();
        assert_eq!(caller.closer.reason(), Some(CloseReason::LOCAL));
        closing.join().unwrap();
    });
}

/// The other side clears this one's parked word without a wake, or dies between the two. This side's own
/// process then closes.
#[test]
fn a_close_wakes_a_side_whose_parked_word_the_other_clears() {
    let side = || {
        let (client, _) = shared_setups(2);
        let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
        let closer = Closer::new(client.view.clone(), Scope::Shared, parked, Some(CLOSED), Peer::Heard);
        Setup { closer, ..client }
    };
    closed_all_the_same(side, |parked, closer| {
        futex::set(parked, 0);
        closer.close_as(CloseReason::ANOTHER);
        futex::set(parked, 1);
    });
}
