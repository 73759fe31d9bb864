//! Ends that wait in an event loop: they look until nothing is there, arm, and wait for their pipe.
//!
//! The wait for the pipe has no limit in time, so a kick that nobody sends is a deadlock. The pipe holds one
//! byte: whatever is kicked beyond that is dropped, as it may be.

use loom::sync::Notify;
use loom::thread;

use super::exchange::Worker;
use super::*;
use crate::link::{self, Requester};
use crate::ring::{Deadline, Kick, OwnPipe, Sleeper};
use crate::shm::backend::pipe;
use crate::wire::{BlockHeader, Operation, Status};

/// The waiting end's pipe.
struct Pipe(OwnPipe);

impl Pipe {
    /// What an event loop does with an end that found nothing: arms it, and waits if nothing came meanwhile.
    fn await_kick(&mut self, arm: impl FnOnce(&mut OwnPipe) -> bool) {
        if arm(&mut self.0) {
            self.0.reader().wait();
        }
    }

    fn recv(&mut self, consumer: &mut Consumer) -> Result<Vec<u8>, RecvError> {
        let mut block = Vec::new();
        while consumer.try_recv(&mut block)?.is_none() {
            self.await_kick(|pipe| consumer.arm(pipe));
        }
        Ok(block)
    }

    fn send(&mut self, producer: &mut Producer, block: &[u8]) -> Result<(), SendError> {
        loop {
            match producer.try_send(block) {
                Err(SendError::Full) => self.await_kick(|pipe| producer.arm_for_room(block.len(), pipe)),
                sent => return sent,
            }
        }
    }
}

/// A pipe: its owner's part, for the owner's closers, and for the other end.
fn pipe_of_an_end() -> (Pipe, Kick, Kick) {
    let (reader, writer) = pipe(1);
    let [own, others] = [(); 2].map(|()| {
        let kick = Kick::default();
        assert!(kick.set(writer.clone()));
        kick
    });
    (Pipe(OwnPipe::new(std::sync::Arc::new(reader), own.clone())), own, others)
}

/// The two sides of a ring between processes. The first one waits in an event loop.
fn sides(lines: u64) -> (Setup, Setup, Pipe) {
    let (pipe, own, others) = pipe_of_an_end();
    let (waits, other) = shared_setups(lines);
    let words = [CONSUMER_PARKED, PRODUCER_PARKED];
    let closer = |kick: Kick, own: Vec<Kick>, peer| {
        let parked = words.map(|word| Sleeper { word, kick: kick.clone() });
        Closer::with_pipes(waits.view.clone(), Scope::Shared, parked.into(), own, Some(CLOSED), peer)
    };
    let other = Setup { closer: closer(others.clone(), vec![], Peer::Heard), kick: others, ..other };
    let closer = closer(Kick::default(), vec![own], Peer::Heard);
    (Setup { closer, ..waits }, other, pipe)
}

fn data(blocks: u8, send: impl Fn(&mut Producer) + Copy + Sync + Send + 'static) {
    explore_bounded(Some(4), move || {
        let (waits, other, mut pipe) = sides(4);
        let mut consumer = Consumer::new(&waits);
        let mut producer = Producer::new(&other);
        let sender = thread::spawn(move || send(&mut producer));
        for number in 1..=blocks {
            assert_eq!(pipe.recv(&mut consumer), Ok(block(number, 8)));
        }
        sender.join().unwrap();
    });
}

#[test]
fn each_of_two_sends_kicks_the_consumer() {
    data(2, |producer| {
        producer.try_send(&block(1, 8)).unwrap();
        producer.try_send(&block(2, 8)).unwrap();
    });
}

#[test]
fn a_batch_kicks_the_consumer() {
    data(2, |producer| {
        let mut batch = producer.batch();
        batch.push(&block(1, 8)).unwrap();
        batch.push(&block(2, 8)).unwrap();
        batch.commit();
    });
}

/// The kick of the first block may come when its end sleeps already, and the wake of the second when it is
/// armed.
#[test]
fn an_end_may_wait_in_an_event_loop_and_sleep_by_turns() {
    explore_bounded(Some(3), || {
        let (waits, other, mut pipe) = sides(8);
        let mut consumer = Consumer::new(&waits);
        let mut producer = Producer::new(&other);
        let sender = thread::spawn(move || {
            for number in 1..=3 {
                producer.try_send(&block(number, 8)).unwrap();
            }
        });
        assert_eq!(pipe.recv(&mut consumer), Ok(block(1, 8)));
        let mut second = Vec::new();
        assert_eq!(consumer.recv(&mut second), Ok(8));
        assert_eq!(second, block(2, 8));
        assert_eq!(pipe.recv(&mut consumer), Ok(block(3, 8)));
        sender.join().unwrap();
    });
}

/// An end that armed and then slept, without a kick in between.
#[test]
fn an_end_that_armed_may_sleep_instead() {
    explore_bounded(Some(4), || {
        let (waits, other, mut pipe) = sides(4);
        let mut consumer = Consumer::new(&waits);
        let mut producer = Producer::new(&other);
        let sender = thread::spawn(move || producer.try_send(&block(1, 8)).unwrap());
        let _ = consumer.arm(&mut pipe.0);
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Ok(8));
        sender.join().unwrap();
    });
}

/// The other side closes after its last block.
#[test]
fn a_close_by_the_other_side_kicks() {
    explore_bounded(Some(4), || {
        let (waits, other, mut pipe) = sides(4);
        let mut consumer = Consumer::new(&waits);
        let mut producer = Producer::new(&other);
        let closer = other.closer.clone();
        let sender = thread::spawn(move || {
            producer.try_send(&block(1, 8)).unwrap();
            closer.close();
        });
        assert_eq!(pipe.recv(&mut consumer), Ok(block(1, 8)));
        assert_eq!(pipe.recv(&mut consumer), Err(RecvError::Disconnected(CloseReason::PEER)));
        sender.join().unwrap();
    });
}

/// The other side has died, and its word may say anything: here that nobody waits.
#[test]
fn a_close_by_ones_own_side_kicks_whatever_the_word_says() {
    explore_bounded(Some(4), || {
        let (waits, _other, mut pipe) = sides(4);
        let mut consumer = Consumer::new(&waits);
        let (closer, view) = (waits.closer.clone(), waits.view.clone());
        let watcher = thread::spawn(move || {
            view.word32(CONSUMER_PARKED).swap(0, Ordering::Relaxed);
            closer.close();
        });
        assert_eq!(pipe.recv(&mut consumer), Err(RecvError::Disconnected(CloseReason::LOCAL)));
        watcher.join().unwrap();
    });
}

/// The receiver takes less than a quarter of the ring since it last told of that, and then looks no more.
#[test]
fn a_release_kicks_a_producer_that_waits_for_room() {
    explore_bounded(Some(4), || {
        let (waits, other, mut pipe) = sides(8);
        let mut producer = Producer::new(&waits);
        let mut consumer = Consumer::new(&other);
        consumer.release_aloud();
        producer.try_send(&block(0, 8)).unwrap();
        assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(Some(8)));
        for number in 1..=7 {
            producer.try_send(&block(number, 8)).unwrap();
        }
        let receiver = thread::spawn(move || {
            assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(Some(8)));
            consumer
        });
        assert_eq!(pipe.send(&mut producer, &block(8, 8)), Ok(()));
        let mut consumer = receiver.join().unwrap();
        let left: Vec<_> = (2..=8).map(|number| block(number, 8)).collect();
        assert_eq!(look(&mut consumer, &left, 7), 7);
    });
}

/// The response of a request, in an event loop.
fn respond(pipe: &mut Pipe, requester: &mut Requester, sequence: u32) -> Status {
    loop {
        match requester.try_await(sequence) {
            Ok(Some(status)) => return status,
            Ok(None) => pipe.await_kick(|pipe| requester.arm(&mut None, pipe)),
            Err(stop) => panic!("{stop:?}"),
        }
    }
}

/// The first response is committed, and the second service runs until the requester says that it has it. So
/// the wake of the first one cannot wait for the end of the drain. `told`: the responder knows from the
/// beginning that the requester may wait in an event loop. Otherwise the requester says so while it runs.
fn exchange(told: bool) {
    explore_bounded(Some(3), move || {
        let (waits, other, mut pipe) = sides(4);
        let (requests, worker_requests) = ring(8, WRAP - 1);
        let go_on = Arc::new(Notify::new());
        let goes_on = go_on.clone();
        let service =
            move |wakes_after_each: &mut bool, header: BlockHeader, body: &[u8]| match Operation::from_code(
                header.code.get(),
            ) {
                Some(Operation::Ping) => *wakes_after_each = true,
                _ if body == block(2, 8) => goes_on.wait(),
                _ => {}
            };
        let mut worker = Worker::new(worker_requests, Producer::new(&other), service);
        worker.wakes_after_each = told;
        let working = thread::spawn(move || worker.run(if told { 2 } else { 3 }, 64));
        let mut requester = Requester::new(requests, Consumer::new(&waits));
        if !told {
            let sequence = requester.try_publish(Operation::Ping, 0, []).unwrap();
            let told: Result<Status, link::Stop> =
                requester.await_response(sequence, &mut { Deadline::NEVER }, |stop| stop);
            assert_eq!(told, Ok(Status::Ok));
        }
        let sequences =
            [1, 2].map(|number| requester.try_publish(Operation::Call, 0, [&block(number, 8)]).unwrap());
        requester.notify();
        assert_eq!(respond(&mut pipe, &mut requester, sequences[0]), Status::Ok);
        go_on.notify();
        assert_eq!(respond(&mut pipe, &mut requester, sequences[1]), Status::Ok);
        working.join().unwrap();
    });
}

#[test]
fn a_response_kicks_although_the_next_service_takes_long() {
    exchange(true);
}

#[test]
fn a_requester_that_says_so_while_its_responder_runs_is_kicked() {
    exchange(false);
}
