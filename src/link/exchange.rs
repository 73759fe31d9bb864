//! Deferred fences: when each end of a link makes the fence that a wake needs, and when it sleeps.
//!
//! The fence after a publish is deferred: if the answer arrives first, the peer was awake and no wake is
//! needed.
//!
//! **Why no wake is lost.** The data wake (see [`crate::ring`]) holds if the fence comes *after* the publish
//! and *before* this end sleeps or leaves, however much later. Of the two ends' fences one comes first. Then
//! either the sleeper's look after its own fence sees the block, or the look at the parked word after the
//! other fence sees the sleeper.
//!
//! A requester makes the fence before every wait for a response. It does so even if responses arrived since
//! it published: those to earlier requests tell nothing, because the responder may have committed them before
//! it could see the last request, and may sleep by now. Only the answer to the last request makes the fence
//! superfluous. A responder makes it before every wait for a request, which is the end of its drain, and
//! before it waits for room or for anything else.
//!
//! **What is left open.** A drain may overlook a requester that goes to sleep at the very moment when its
//! response is committed, while more requests are in the ring. That requester is woken when the drain ends.
//! So a requester with several requests outstanding sleeps in slices.
//!
//! An event loop has no slices. So a requester that may wait in one says so before it does for the first
//! time, and from then on the responder makes the fence behind each response, too.

use crate::ring::{Consumer, Found, Producer, notify_both};

/// An end that answers each request.
pub(crate) trait Serves {
    type End;

    fn rings(&mut self) -> (&mut Consumer, &mut Producer);

    /// Whether the requester may wait in an event loop.
    fn wakes_after_each(&self) -> bool;

    /// How many requests were served in this drain.
    fn served(&mut self) -> &mut usize;

    /// The first request of a drain is there, and will be served next.
    fn begin(&mut self) {}

    /// Waits for the next request.
    fn wait(&mut self) -> Result<Found, Self::End>;

    /// Takes a request, releases its place and publishes the response, and leaves the wakes to the drain.
    fn serve(&mut self, found: Found) -> Result<(), Self::End>;
}

/// Waits for a request, and serves it and those right behind it, at most `most` in all. The caller must
/// [notify](notify_both) before it drains again.
#[inline(always)]
pub(crate) fn drain<S: Serves>(worker: &mut S, most: usize) -> Result<(), S::End> {
    let mut found = match worker.rings().0.find_soon() {
        Some(found) => found,
        None => worker.wait()?,
    };
    worker.begin();
    loop {
        *worker.served() += 1;
        worker.serve(found)?;
        let after_each = worker.wakes_after_each();
        let (requests, responses) = worker.rings();
        if after_each || responses.consumer_looks_parked() {
            notify_both(responses, requests);
        }
        requests.settle();
        responses.clear_ahead();
        if *worker.served() >= most {
            return Ok(());
        }
        match worker.rings().0.find_soon() {
            Some(next) => found = next,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::link::Requester;
    use crate::link::Stop;
    use crate::ring::layout::CONSUMER_PARKED;
    use crate::ring::{self, Deadline, Setup, WaitStrategy, local_setup};
    use crate::shm::backend::{AtomicU32, Ordering};
    use crate::wire::{BlockHeader, Operation, Status};

    fn setups() -> [Setup; 2] {
        [0, 1].map(|_| local_setup(1024, WaitStrategy::Park, 0).unwrap())
    }

    /// The word that the reader of this ring parks on. The tests set it by hand; nobody really sleeps.
    fn parked(setup: &Setup) -> &AtomicU32 {
        setup.view.word32(CONSUMER_PARKED)
    }

    /// Answers every request with an empty block.
    struct Worker {
        requests: Consumer,
        responses: Producer,
        setups: [Setup; 2],
        served: usize,
        /// The requester's parked word when each request was served.
        seen: Vec<u32>,
    }

    impl Serves for Worker {
        type End = ring::Stop;

        fn rings(&mut self) -> (&mut Consumer, &mut Producer) {
            (&mut self.requests, &mut self.responses)
        }

        fn wakes_after_each(&self) -> bool {
            false
        }

        fn served(&mut self) -> &mut usize {
            &mut self.served
        }

        fn wait(&mut self) -> Result<Found, ring::Stop> {
            Err(ring::Stop::Deadline)
        }

        fn serve(&mut self, found: Found) -> Result<(), ring::Stop> {
            self.seen.push(parked(&self.setups[1]).load(Ordering::Relaxed));
            self.requests.take(found).release_quietly();
            self.responses.try_publish(None, &[]).unwrap();
            Ok(())
        }
    }

    /// A worker, and its peer's ends of the two rings.
    fn worker() -> (Worker, Producer, Consumer) {
        let setups = setups();
        let worker = Worker {
            requests: Consumer::new(&setups[0]),
            responses: Producer::new(&setups[1]),
            setups: setups.clone(),
            served: 0,
            seen: Vec::new(),
        };
        (worker, Producer::new(&setups[0]), Consumer::new(&setups[1]))
    }

    #[test]
    fn a_drain_ends_with_what_is_there_or_with_its_limit() {
        let (mut worker, mut requests, mut responses) = worker();
        assert_eq!(drain(&mut worker, 3), Err(ring::Stop::Deadline), "nothing there");
        for limit in [3, 9] {
            for _ in 0..4 {
                requests.try_publish(None, &[]).unwrap();
            }
            worker.served = 0;
            assert_eq!(drain(&mut worker, limit), Ok(()));
            assert_eq!(worker.served, limit.min(5), "four, and then the one that was left and four");
            while responses.try_recv(&mut Vec::new()).unwrap().is_some() {}
        }
    }

    #[test]
    fn a_requester_that_sleeps_is_woken_before_the_next_request_is_served() {
        let (mut worker, mut requests, _responses) = worker();
        for _ in 0..2 {
            requests.try_publish(None, &[]).unwrap();
        }
        parked(&worker.setups[1]).store(1, Ordering::Relaxed);
        assert_eq!(drain(&mut worker, 9), Ok(()));
        assert_eq!(worker.seen, [1, 0]);
    }

    /// A requester, its setups, and the responder's end of the responses.
    fn requester() -> (Requester, [Setup; 2], Producer) {
        let setups = setups();
        let requester = Requester::new(Producer::new(&setups[0]), Consumer::new(&setups[1]));
        let responses = Producer::new(&setups[1]);
        (requester, setups, responses)
    }

    /// Publishes a request and waits for its response, for no time at all.
    fn ask(requester: &mut Requester) -> Result<Status, Stop> {
        let sequence = requester.try_publish(Operation::Ping, 0, []).unwrap();
        requester.await_response(sequence, &mut Deadline::from(Instant::now()), |stop| stop)
    }

    fn respond(responses: &mut Producer, sequence: u32) {
        let header = BlockHeader::new(Status::Ok as u16, 0, sequence).to_word();
        responses.try_publish(Some(header), &[]).unwrap();
    }

    #[test]
    fn a_responder_that_sleeps_is_woken_before_the_wait() {
        let (mut requester, setups, _responses) = requester();
        parked(&setups[0]).store(1, Ordering::Relaxed);
        assert_eq!(ask(&mut requester), Err(Stop::Deadline));
        assert_eq!(parked(&setups[0]).load(Ordering::Relaxed), 0);
    }

    /// The responder may have gone to sleep after the requester's first look, having answered only an earlier
    /// request.
    #[test]
    fn a_response_to_an_earlier_request_does_not_spare_the_fence() {
        let (mut requester, _setups, mut responses) = requester();
        requester.try_publish(Operation::Ping, 0, []).unwrap();
        respond(&mut responses, 0);
        assert_eq!(ask(&mut requester), Err(Stop::Deadline));
        assert!(!requester.owes_wake());
    }

    #[test]
    fn an_answer_that_is_there_needs_no_fence() {
        let (mut requester, _setups, mut responses) = requester();
        respond(&mut responses, 0);
        assert_eq!(ask(&mut requester), Ok(Status::Ok));
        assert!(requester.owes_wake());
    }
}
