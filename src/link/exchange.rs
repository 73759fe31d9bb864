//! Requests on one ring and responses on another: when each end makes the fence that a wake needs, and when
//! it sleeps.
//!
//! The fence behind a publish is put off for as long as the answer to it may come without: whoever answers is
//! awake.
//!
//! **Why no wake is lost.** The data wake holds as long as the fence comes *after* the publish and *before*
//! this end sleeps or leaves, however much later: of the two fences one comes first, and either the sleeper's
//! look behind its own sees the block, or the look at the parked word behind the other sees the sleeper. The
//! asking end makes it before every wait for a response, also when responses came since it published:
//! those to earlier requests tell nothing, for the worker may have given them before it could see the last
//! request, and have lain down since. Only the answer itself needs no fence. The worker makes it before every
//! wait for a request (by ending its drain), and by its own hand before it waits for room or for anything
//! else.
//!
//! **What is left open.** A client that lies down in the very nanoseconds in which its response is committed,
//! with other requests of its behind, may be overlooked until the drain ends. So a client with several
//! requests outstanding looks again now and then.

use crate::ring::{Consumer, Found, Producer, notify_both};

/// An end that has published a request and waits for the answer.
pub(crate) trait Asks {
    type Answer;
    type Error;

    fn rings(&mut self) -> (&mut Producer, &mut Consumer);

    /// Waits for the next response.
    fn find(&mut self) -> Result<Found, Self::Error>;

    /// Takes a response. `None` if it answers an earlier request.
    fn accept(&mut self, found: Found) -> Result<Option<Self::Answer>, Self::Error>;
}

/// The answer to the request published last. A worker that sleeps is woken at once. One that seems awake is
/// asked for sure, which takes a fence, when its response does not come quickly.
#[inline(always)]
pub(crate) fn await_answer<A: Asks>(caller: &mut A) -> Result<A::Answer, A::Error> {
    let (requests, responses) = caller.rings();
    let asleep = requests.consumer_looks_parked();
    requests.clear_ahead();
    let mut soon = if asleep { None } else { responses.find_soon() };
    loop {
        let found = match soon.take() {
            Some(found) => found,
            None => {
                let (requests, responses) = caller.rings();
                notify_both(requests, responses);
                match responses.find_soon() {
                    Some(found) => found,
                    None => caller.find()?,
                }
            }
        };
        if let Some(answer) = caller.accept(found)? {
            return Ok(answer);
        }
    }
}

/// An end that answers each request.
pub(crate) trait Serves {
    type End;

    fn rings(&mut self) -> (&mut Consumer, &mut Producer);

    /// How many requests were served in this drain.
    fn served(&mut self) -> &mut usize;

    /// Waits for the next request.
    fn wait(&mut self) -> Result<Found, Self::End>;

    /// Takes a request, gives its place back and publishes the response, with the wakes left to the drain.
    fn serve(&mut self, found: Found) -> Result<(), Self::End>;
}

/// Waits for a request, and serves it and those right behind it, up to so many. The caller is to
/// [notify](notify_both) afterwards, before it drains again.
#[inline(always)]
pub(crate) fn drain<S: Serves>(worker: &mut S, most: usize) -> Result<(), S::End> {
    while *worker.served() < most {
        let found = match worker.rings().0.find_soon() {
            Some(found) => found,
            None if *worker.served() > 0 => break,
            None => worker.wait()?,
        };
        *worker.served() += 1;
        worker.serve(found)?;
        let (requests, responses) = worker.rings();
        if responses.consumer_looks_parked() {
            notify_both(responses, requests);
        }
        requests.settle();
        responses.clear_ahead();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::layout::CONSUMER_PARKED;
    use crate::ring::{Setup, Stop, WaitStrategy, local_setup};
    use crate::shm::backend::{AtomicU32, Ordering};

    /// Both ends of two rings. Nobody really sleeps: the parked words are set by hand.
    struct Both {
        requests: (Producer, Consumer),
        responses: (Producer, Consumer),
        setups: [Setup; 2],
        served: usize,
        /// What the client's parked word was when each request was served.
        seen: Vec<u32>,
        /// Whether the worker's parked word was still set when the client began to wait.
        waited: Option<bool>,
    }

    fn both() -> Both {
        let setups = [0, 1].map(|_| local_setup(1024, WaitStrategy::Park, 0).unwrap());
        let [requests, responses] = [0, 1].map(|at| (Producer::new(&setups[at]), Consumer::new(&setups[at])));
        Both { requests, responses, setups, served: 0, seen: Vec::new(), waited: None }
    }

    impl Both {
        fn parked(&self, ring: usize) -> &AtomicU32 {
            self.setups[ring].view.word32(CONSUMER_PARKED)
        }
    }

    impl Serves for Both {
        type End = Stop;

        fn rings(&mut self) -> (&mut Consumer, &mut Producer) {
            (&mut self.requests.1, &mut self.responses.0)
        }

        fn served(&mut self) -> &mut usize {
            &mut self.served
        }

        fn wait(&mut self) -> Result<Found, Stop> {
            Err(Stop::Deadline)
        }

        fn serve(&mut self, found: Found) -> Result<(), Stop> {
            self.seen.push(self.parked(1).load(Ordering::Relaxed));
            self.requests.1.take(found).release_quietly();
            self.responses.0.try_publish(None, [b"response"]).unwrap();
            Ok(())
        }
    }

    impl Asks for Both {
        type Answer = ();
        type Error = Stop;

        fn rings(&mut self) -> (&mut Producer, &mut Consumer) {
            (&mut self.requests.0, &mut self.responses.1)
        }

        fn find(&mut self) -> Result<Found, Stop> {
            self.waited = Some(self.parked(0).load(Ordering::Relaxed) == 1);
            Err(Stop::Deadline)
        }

        fn accept(&mut self, found: Found) -> Result<Option<()>, Stop> {
            let earlier = self.responses.1.take(found);
            let answer = (!earlier.is_empty()).then_some(());
            earlier.release_quietly();
            Ok(answer)
        }
    }

    #[test]
    fn a_drain_ends_with_what_is_there_or_with_its_limit() {
        let mut both = both();
        assert_eq!(drain(&mut both, 3), Err(Stop::Deadline), "nothing there");
        for limit in [3, 9] {
            for _ in 0..4 {
                both.requests.0.try_publish(None, []).unwrap();
            }
            both.served = 0;
            assert_eq!(drain(&mut both, limit), Ok(()));
            assert_eq!(both.served, limit.min(5), "four, and then the one that was left and four");
            while both.responses.1.try_recv(&mut Vec::new()).unwrap().is_some() {}
        }
    }

    /// Who waits for its first response does not wait for the second.
    #[test]
    fn a_client_that_sleeps_is_woken_before_the_next_request_is_served() {
        let mut both = both();
        for _ in 0..2 {
            both.requests.0.try_publish(None, []).unwrap();
        }
        both.parked(1).store(1, Ordering::Relaxed);
        assert_eq!(drain(&mut both, 9), Ok(()));
        assert_eq!(both.seen, [1, 0]);
    }

    #[test]
    fn a_worker_that_sleeps_is_told_before_the_wait() {
        let mut both = both();
        both.requests.0.try_publish(None, []).unwrap();
        both.parked(0).store(1, Ordering::Relaxed);
        assert_eq!(await_answer(&mut both), Err(Stop::Deadline));
        assert_eq!(both.waited, Some(false));
    }

    /// Also where it lay down after the first look, and answered something else before.
    #[test]
    fn a_response_to_an_earlier_request_does_not_do_instead() {
        let mut both = both();
        both.requests.0.try_publish(None, []).unwrap();
        both.responses.0.try_publish(None, []).unwrap();
        assert_eq!(await_answer(&mut both), Err(Stop::Deadline));
        assert!(!both.requests.0.owes_wake());
    }

    /// What the fence is put off for.
    #[test]
    fn an_answer_that_is_there_needs_no_fence() {
        let mut both = both();
        both.requests.0.try_publish(None, []).unwrap();
        both.responses.0.try_publish(None, [b"answer"]).unwrap();
        assert_eq!(await_answer(&mut both), Ok(()));
        assert_eq!((both.requests.0.owes_wake(), both.waited), (true, None));
    }
}
