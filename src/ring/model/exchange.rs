//! Calls: the asking end and the worker as they ship, each with its fence put off, on a ring for requests and
//! one for responses.
//!
//! Both ends sleep without a time-out, so a request or a response that nobody is woken for is a deadlock.

use loom::thread;

use super::{WRAP, block, explore_bounded, ring};
use crate::link::exchange::{Asks, Serves, await_answer, drain};
use crate::ring::{Consumer, Deadline, Found, Producer, Stop, notify_both};

struct Client {
    requests: Producer,
    responses: Consumer,
    awaited: u8,
    /// The next response to come.
    next: u8,
}

struct Worker {
    requests: Consumer,
    responses: Producer,
    served: usize,
}

fn pair() -> (Client, Worker) {
    let (requests, worker_requests) = ring(4, WRAP - 1);
    let (worker_responses, responses) = ring(4, WRAP - 2);
    let client = Client { requests, responses, awaited: 0, next: 1 };
    (client, Worker { requests: worker_requests, responses: worker_responses, served: 0 })
}

impl Asks for Client {
    type Answer = ();
    type Error = Stop;

    fn rings(&mut self) -> (&mut Producer, &mut Consumer) {
        (&mut self.requests, &mut self.responses)
    }

    fn find(&mut self) -> Result<Found, Stop> {
        self.responses.find(&mut Deadline::until(None))
    }

    fn accept(&mut self, found: Found) -> Result<Option<()>, Stop> {
        let incoming = self.responses.take(found);
        let mut response = Vec::new();
        incoming.append_to(0, &mut response);
        incoming.release();
        assert_eq!(response, block(self.next, 8));
        self.next += 1;
        Ok((self.next > self.awaited).then_some(()))
    }
}

impl Client {
    fn publish(&mut self) {
        self.awaited += 1;
        self.requests.try_publish(None, [&block(self.awaited, 8)]).unwrap();
    }

    fn submit(&mut self) {
        self.publish();
        notify_both(&mut self.requests, &mut self.responses);
    }

    fn call(&mut self) {
        self.publish();
        await_answer(self).unwrap();
    }
}

impl Serves for Worker {
    type End = Stop;

    fn rings(&mut self) -> (&mut Consumer, &mut Producer) {
        (&mut self.requests, &mut self.responses)
    }

    fn served(&mut self) -> &mut usize {
        &mut self.served
    }

    fn wait(&mut self) -> Result<Found, Stop> {
        self.requests.find(&mut Deadline::until(None))
    }

    fn serve(&mut self, found: Found) -> Result<(), Stop> {
        let incoming = self.requests.take(found);
        let mut request = Vec::new();
        incoming.append_to(0, &mut request);
        incoming.release_quietly();
        self.responses.try_publish(None, [&request]).unwrap();
        Ok(())
    }
}

impl Worker {
    /// Serves so many requests in drains of at most so many.
    fn run(mut self, requests: usize, most: usize) {
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

/// The response to the earlier request comes first, and tells nothing of whether the worker sees the later
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
