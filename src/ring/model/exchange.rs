//! Calls: the real requester and the real worker, each with its deferred fence, on a ring for requests and
//! one for responses.
//!
//! Both ends sleep without a time-out, so a lost wake is a deadlock.

use loom::thread;

use super::{WRAP, block, explore_bounded, ring};
use crate::link::Requester;
use crate::link::exchange::{Serves, drain};
use crate::ring::{Consumer, Deadline, Found, Producer, Stop, notify_both};
use crate::wire::{BLOCK_HEADER, BlockHeader, Operation, Status};

struct Client {
    requester: Requester,
    /// How many requests it has published.
    asked: u8,
}

/// Answers each request with its own body.
pub(super) struct Worker {
    pub(super) requests: Consumer,
    pub(super) responses: Producer,
    pub(super) wakes_after_each: bool,
    served: usize,
    /// What it does before it answers. It may set the mark that the requester may wait in an event loop.
    service: Box<Service>,
}

type Service = dyn FnMut(&mut bool, BlockHeader, &[u8]);

fn pair() -> (Client, Worker) {
    let (requests, worker_requests) = ring(4, WRAP - 1);
    let (worker_responses, responses) = ring(4, WRAP - 2);
    let client = Client { requester: Requester::new(requests, responses), asked: 0 };
    let (requests, responses) = (worker_requests, worker_responses);
    (client, Worker::new(requests, responses, |_, _, _| {}))
}

impl Client {
    fn publish(&mut self) -> u32 {
        self.asked += 1;
        self.requester.try_publish(Operation::Call, 0, [&block(self.asked, 8)]).unwrap()
    }

    fn submit(&mut self) {
        self.publish();
        self.requester.notify();
    }

    /// The requester checks that the responses come in order.
    fn call(&mut self) {
        let sequence = self.publish();
        assert_eq!(
            self.requester.await_response(sequence, &mut { Deadline::NEVER }, |stop| stop),
            Ok(Status::Ok)
        );
        assert_eq!(self.requester.body(), block(self.asked, 8));
    }
}

impl Serves for Worker {
    type End = Stop;

    fn rings(&mut self) -> (&mut Consumer, &mut Producer) {
        (&mut self.requests, &mut self.responses)
    }

    fn wakes_after_each(&self) -> bool {
        self.wakes_after_each
    }

    fn served(&mut self) -> &mut usize {
        &mut self.served
    }

    fn wait(&mut self) -> Result<Found, Stop> {
        self.requests.find(&mut Deadline::until(None))
    }

    fn serve(&mut self, found: Found) -> Result<(), Stop> {
        let incoming = self.requests.take(found);
        let header = BlockHeader::of(&incoming).unwrap();
        let mut body = Vec::new();
        incoming.append_to(BLOCK_HEADER, &mut body);
        incoming.release_quietly();
        (self.service)(&mut self.wakes_after_each, header, &body);
        let header = BlockHeader::new(Status::Ok as u16, 0, header.sequence.get());
        self.responses.try_publish(Some(header.to_word()), &[&body]).unwrap();
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(
        requests: Consumer,
        responses: Producer,
        service: impl FnMut(&mut bool, BlockHeader, &[u8]) + 'static,
    ) -> Worker {
        Worker { requests, responses, wakes_after_each: false, served: 0, service: Box::new(service) }
    }

    /// Serves this many requests, in drains of at most `most`.
    pub(super) fn run(mut self, requests: usize, most: usize) {
        let mut left = requests;
        while left > 0 {
            drain(&mut self, most).unwrap();
            notify_both(&mut self.responses, &mut self.requests);
            left -= std::mem::take(&mut self.served);
        }
    }
}

fn exchange(
    preemptions: Option<usize>,
    requests: usize,
    most: usize,
    ask: impl Fn(&mut Client) + Copy + Sync + Send + 'static,
) {
    explore_bounded(preemptions, move || {
        let (mut client, worker) = pair();
        let working = thread::spawn(move || worker.run(requests, most));
        ask(&mut client);
        working.join().unwrap();
    });
}

#[test]
fn a_call_is_answered() {
    exchange(Some(5), 1, 64, |client| client.call());
}

#[test]
fn calls_one_after_the_other_are_answered() {
    exchange(Some(3), 2, 64, |client| {
        client.call();
        client.call();
    });
}

/// The response to the earlier request arrives first. It does not show whether the worker has seen the later
/// one.
#[test]
fn a_call_behind_another_request_is_answered() {
    exchange(Some(3), 2, 64, |client| {
        client.submit();
        client.call();
    });
}

/// The same where the worker makes its fence after each request.
#[test]
fn a_call_behind_another_request_is_answered_between_drains() {
    exchange(Some(3), 2, 1, |client| {
        client.submit();
        client.call();
    });
}
