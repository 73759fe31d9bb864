//! Compares a link with a plain model, for any interleaving of what its two sides do.
//!
//! In the first test one thread plays both sides, so the model predicts each answer. In the second the sides
//! run at once over small rings: there the model says which answers may be.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;

use super::end::LinkEnd;
use super::link::Link;
use super::responder::Responder;
use super::set::Links;
use crate::channel::{Geometry, LinkEnds, Side, create_link, open_link};
use crate::client::CallError;
use crate::client::session::Place;
use crate::codec::Reply;
use crate::connect::Role;
use crate::link::{DRAIN, Request, Response, ServiceError};
use crate::ring::WaitStrategy;
use crate::wire::{CloseReason, Key, Name, Peer};

/// Both ends of a link.
fn link(ring_size: usize) -> (Link, Responder) {
    let geometry = Geometry::new(ring_size).unwrap();
    let segment = create_link(&geometry).unwrap();
    let place = Place {
        path: "nowhere".into(),
        wait: WaitStrategy::Park,
        timeout: std::time::Duration::ZERO,
        relay: false,
    };
    let links = Links::new(place);
    let peer = Peer { name: Name::new("peer").unwrap(), key: Key::from_u128(1), pid: 1, uid: 2, gid: 3 };
    let open = |side, role| {
        let ends: LinkEnds = open_link(&segment, &geometry, WaitStrategy::Park, side).unwrap();
        (LinkEnd::unwatched(&links, role, peer, ends.closer.clone()), ends)
    };
    let (end, ends) = open(Side::Caller, Role::Caller);
    let link = Link::new(end, ends, &geometry, None);
    let (end, ends) = open(Side::Callee, Role::Callee);
    let rings = (ends.consumer, ends.producer);
    (link, Responder::new(end, rings, ring_size, WaitStrategy::Park, None, None))
}

/// A request with a number, of which some fail and some panic.
fn request(number: u32, len: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(4 + len, number as u8);
    body
}

fn number_of(body: &[u8]) -> u32 {
    u32::from_le_bytes(body[..4].try_into().unwrap())
}

/// What was served, in this order, and whether a response was wanted.
type Log = Arc<Mutex<Vec<(u32, bool)>>>;

fn service(log: &Log) -> impl FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + use<> {
    let log = Arc::clone(log);
    move |request, response| {
        let number = number_of(request.payload());
        log.lock().unwrap().push((number, request.wants_response()));
        response.write(request.payload())?;
        match number % 7 {
            3 => Err(ServiceError::new(format!("no {number}"))),
            // Without a message on standard error.
            5 if number.is_multiple_of(2) => resume_unwind(Box::new(())),
            _ => Ok(()),
        }
    }
}

/// Whether this is the answer to the request with this number and length.
fn is_answer(number: u32, len: usize, answer: Result<Reply<'_>, CallError>) -> bool {
    match (number % 7, answer) {
        (3, Err(CallError::ServiceFailed(text))) => text == format!("no {number}"),
        (5, Err(CallError::ServiceFailed(_))) => number.is_multiple_of(2),
        (3, _) => false,
        (5, _) if number.is_multiple_of(2) => false,
        (_, answer) => answer.is_ok_and(|reply| reply == request(number, len)),
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Submit(usize),
    Post(usize),
    /// A call that is given up at once.
    Abandon(usize),
    /// A call that is served while its caller waits, after the requests before it.
    Call(usize),
    Serve(usize),
    Collect,
    CloseCaller,
    CloseCallee,
}

fn any_op() -> impl Strategy<Value = Op> {
    let len = || 0..300usize;
    prop_oneof![
        8 => len().prop_map(Op::Submit),
        8 => len().prop_map(Op::Post),
        3 => len().prop_map(Op::Abandon),
        4 => len().prop_map(Op::Call),
        10 => (1..8usize).prop_map(Op::Serve),
        8 => Just(Op::Collect),
        1 => Just(Op::CloseCaller),
        1 => Just(Op::CloseCallee),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Post,
    Call,
    Abandoned,
}

/// What a link does, without a ring.
#[derive(Default)]
struct Model {
    next: u32,
    /// What lies in the request ring.
    requests: VecDeque<(u32, usize, Kind)>,
    /// What was answered and not collected.
    answers: VecDeque<(u32, usize)>,
    log: Vec<(u32, bool)>,
    /// Which side closed first.
    caller_closed: bool,
    callee_closed: bool,
    /// Whether the caller has closed, too.
    own_close: bool,
}

impl Model {
    fn closed(&self) -> bool {
        self.caller_closed || self.callee_closed
    }

    /// A request goes out, unless the link is closed. Returns its number.
    fn ask(&mut self, len: usize, kind: Kind) -> u32 {
        self.next += 1;
        if !self.closed() {
            self.requests.push_back((self.next, len, kind));
        }
        self.next
    }

    /// The next request is served.
    fn serve(&mut self) {
        let Some((number, len, kind)) = self.requests.pop_front() else { return };
        // After the caller's end, calls are left out.
        if kind == Kind::Post || !self.caller_closed {
            self.log.push((number, kind != Kind::Post));
        }
        if kind == Kind::Call {
            self.answers.push_back((number, len));
        }
    }
}

fn run(ops: &[Op]) {
    let (mut link, mut responder) = link(1 << 17);
    let log = Log::default();
    let mut service = service(&log);
    let mut model = Model::default();
    let not_sent = |model: &Model| {
        CallError::NotSent(if model.own_close { CloseReason::Local } else { CloseReason::Peer })
    };
    for op in ops {
        match *op {
            Op::Submit(len) => {
                let number = model.ask(len, Kind::Call);
                let expected = if model.closed() { Err(not_sent(&model)) } else { Ok(()) };
                assert_eq!(link.submit(&request(number, len)), expected);
            }
            Op::Post(len) => {
                let number = model.ask(len, Kind::Post);
                let expected = if model.closed() { Err(not_sent(&model)) } else { Ok(()) };
                assert_eq!(link.post(&request(number, len)), expected);
            }
            Op::Abandon(len) => {
                let number = model.ask(len, Kind::Abandoned);
                let error = if model.closed() { not_sent(&model) } else { CallError::TimedOut };
                let answer = link.call_timeout(&request(number, len), Instant::now());
                assert_eq!(answer.unwrap_err(), error);
            }
            Op::Call(len) if !model.closed() => {
                let number = model.ask(len, Kind::Abandoned);
                let outstanding = model.requests.len();
                thread::scope(|scope| {
                    let callee = scope.spawn(|| {
                        while log.lock().unwrap().last().is_none_or(|(last, _)| *last != number) {
                            assert_eq!(responder.serve_some(&mut service, 1), None);
                        }
                    });
                    assert!(is_answer(number, len, link.call(&request(number, len))));
                    callee.join().unwrap();
                });
                (0..outstanding).for_each(|_| model.serve());
            }
            Op::Call(_) => {}
            Op::Serve(most) => {
                // Without a request it would wait.
                if !model.requests.is_empty() && !model.closed() {
                    assert_eq!(responder.serve_some(&mut service, most), None);
                    // A panic ends a drain.
                    let before = model.log.len();
                    let served = log.lock().unwrap().len() - before;
                    assert!((1..=most).contains(&served));
                    (0..served).for_each(|_| model.serve());
                }
            }
            Op::Collect => {
                let outstanding = link.outstanding();
                let calls = model.requests.iter().filter(|(.., kind)| *kind == Kind::Call).count();
                if !model.closed() {
                    assert_eq!(outstanding, calls + model.answers.len());
                }
                match (model.answers.pop_front(), link.try_response()) {
                    (Some((number, len)), answer) => {
                        assert!(is_answer(number, len, answer.map(|answer| answer.expect("it is there"))));
                    }
                    (None, Ok(None)) => assert!(calls > 0 && !model.closed()),
                    (None, Ok(Some(reply))) => panic!("an answer to nothing: {reply:?}"),
                    (None, Err(CallError::NothingOutstanding)) => assert_eq!(outstanding, 0),
                    (None, Err(error)) => assert!(error.is_disconnected() && model.closed(), "{error}"),
                }
            }
            Op::CloseCaller => {
                link.closer().close();
                model.caller_closed |= !model.callee_closed;
                model.own_close = true;
            }
            Op::CloseCallee => {
                responder.closer().close();
                model.callee_closed |= !model.caller_closed;
            }
        }
        assert_eq!(*log.lock().unwrap(), model.log);
    }
    // What the callee still does: posts that came before the caller's end are served, also behind calls.
    if model.caller_closed {
        while responder.serve_some(&mut service, DRAIN).is_none() {}
        while !model.requests.is_empty() {
            model.serve();
        }
        assert_eq!(*log.lock().unwrap(), model.log);
    }
    if model.callee_closed {
        while let Some((number, len)) = model.answers.pop_front() {
            assert!(is_answer(number, len, link.response()), "what was answered comes before the end");
        }
        drop(responder);
        assert!(link.response().is_err());
    }
}

/// A step of the caller whose callee runs at the same time.
#[derive(Debug, Clone, Copy)]
enum Step {
    Call(usize),
    Submit(usize),
    Post(usize),
    Abandon(usize),
    Collect,
}

fn any_step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 0..60usize, 1 => 0..1900usize];
    prop_oneof![
        4 => len().prop_map(Step::Call),
        3 => len().prop_map(Step::Submit),
        6 => len().prop_map(Step::Post),
        2 => len().prop_map(Step::Abandon),
        3 => Just(Step::Collect),
    ]
}

/// `ends_after`: after how many requests the callee closes the link, if it does.
fn run_at_once(steps: &[Step], ends_after: Option<usize>) {
    let (mut link, mut responder) = link(4096);
    let log = Log::default();
    let mut served = service(&log);
    let closer = responder.closer();
    let own = Arc::clone(&log);
    let callee = thread::spawn(move || {
        let ended = responder.serve(|request, response| {
            let answered = served(request, response);
            if ends_after.is_some_and(|most| own.lock().unwrap().len() >= most) {
                closer.close();
            }
            answered
        });
        ended.unwrap()
    });
    let mut sent: Vec<(u32, bool)> = Vec::new();
    let mut submitted = VecDeque::new();
    // Calls that were given up, perhaps while they waited for room.
    let mut given_up = Vec::new();
    let fails = |error: CallError| assert!(error.is_disconnected() && ends_after.is_some(), "{error}");
    for (number, step) in (1..).zip(steps) {
        match *step {
            Step::Call(len) => {
                sent.push((number, true));
                let answer = link.call(&request(number, len));
                match answer {
                    Err(error) if error.is_disconnected() => fails(error),
                    answer => {
                        assert!(is_answer(number, len, answer));
                        // Everything before it has arrived, posts too, once and in order.
                        let mut arrived = log.lock().unwrap().clone();
                        arrived.retain(|(number, _)| !given_up.contains(number));
                        assert_eq!(arrived, sent);
                    }
                }
            }
            Step::Submit(len) => match link.submit(&request(number, len)) {
                Ok(()) => {
                    sent.push((number, true));
                    submitted.push_back((number, len));
                }
                Err(error) => fails(error),
            },
            Step::Post(len) => match link.post(&request(number, len)) {
                Ok(()) => sent.push((number, false)),
                Err(error) => fails(error),
            },
            Step::Abandon(len) => {
                given_up.push(number);
                match link.call_timeout(&request(number, len), Instant::now()) {
                    Err(CallError::TimedOut) => {}
                    Err(error) if error.is_disconnected() => fails(error),
                    answer => assert!(is_answer(number, len, answer)),
                }
            }
            Step::Collect => match (submitted.pop_front(), link.response()) {
                // Those that got no answer are asked for again.
                (None, Err(error)) if error.is_disconnected() => fails(error),
                (None, answer) => assert_eq!(answer.unwrap_err(), CallError::NothingOutstanding),
                (Some(_), Err(error)) if error.is_disconnected() => fails(error),
                (Some((number, len)), answer) => assert!(is_answer(number, len, answer)),
            },
        }
    }
    drop(link);
    let reason = callee.join().unwrap();
    let log = log.lock().unwrap();
    let posts = |all: &[(u32, bool)]| all.iter().filter(|(_, wanted)| !wanted).count();
    if reason == CloseReason::Peer {
        // All posts, and no call but those before the end.
        assert_eq!(posts(&log), posts(&sent));
    }
    assert!(log.is_sorted_by(|(one, _), (other, _)| one < other), "once and in order");
    let was_sent = |served: &(u32, bool)| sent.contains(served) || given_up.contains(&served.0);
    assert!(log.iter().all(was_sent));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_link_does_what_a_plain_queue_does(ops in vec(any_op(), 1..60)) {
        run(&ops);
    }

    #[test]
    fn whatever_two_sides_do_at_once_each_answer_belongs_to_its_request(
        steps in vec(any_step(), 1..120),
        ends_after in prop::option::weighted(0.3, 1..60usize),
    ) {
        run_at_once(&steps, ends_after);
    }
}
