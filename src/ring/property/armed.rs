//! No readiness is lost: whatever both ends do in between, an end that armed and for which something is there
//! has a readable pipe.

use std::sync::Arc;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::{Len, Shape, any_len, any_shape};
use crate::os::pipe::kick_pipe;
use crate::ring::layout::{CONSUMER_PARKED, PRODUCER_PARKED};
use crate::ring::local::local_setup;
use crate::ring::{Closer, Consumer, Kick, OwnPipe, Peer, Producer, Setup, Sleeper, WaitStrategy};
use crate::shm::backend::{PipeReader, PipeWriter};

#[derive(Debug, Clone)]
enum Op {
    Send(Len),
    /// Commits a block without telling the consumer.
    Publish(Len),
    Notify,
    Take,
    /// Waits for no time: sets and takes back the word for a sleep.
    Wait,
    ArmConsumer,
    /// For room for a block of this length.
    ArmProducer(Len),
    DisarmProducer,
    Close,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any_len().prop_map(Op::Send),
        4 => any_len().prop_map(Op::Publish),
        4 => Just(Op::Notify),
        12 => Just(Op::Take),
        2 => Just(Op::Wait),
        12 => Just(Op::ArmConsumer),
        12 => any_len().prop_map(Op::ArmProducer),
        1 => Just(Op::DisarmProducer),
        1 => Just(Op::Close),
    ]
}

/// One end's pipe, and what it waits for.
struct Armed<W> {
    pipe: OwnPipe,
    waits_for: Option<W>,
}

fn end_with_pipe<W>() -> (Armed<W>, Kick, Kick) {
    let made = kick_pipe().unwrap();
    let [own, others] = [made.write, made.other].map(|write| {
        let kick = Kick::default();
        assert!(kick.set(PipeWriter::new(write)));
        kick
    });
    let pipe = OwnPipe::new(Arc::new(PipeReader::new(made.read)), own.clone());
    (Armed { pipe, waits_for: None }, own, others)
}

impl<W> Armed<W> {
    fn is_readable(&self) -> bool {
        let mut waits = [PollFd::new(&**self.pipe.reader(), PollFlags::IN)];
        poll(&mut waits, Some(&Timespec::default())).unwrap();
        waits[0].revents().contains(PollFlags::IN)
    }

    fn arm(&mut self, what: W, arm: impl FnOnce(&mut OwnPipe) -> bool) {
        self.waits_for = arm(&mut self.pipe).then_some(what);
        assert!(self.waits_for.is_none() || !self.is_readable(), "readable, and nothing is there");
    }
}

struct Ring {
    producer: Producer,
    consumer: Consumer,
    closer: Closer,
    receives: Armed<()>,
    sends: Armed<usize>,
    /// Blocks in the ring, and how many of them the consumer was told of.
    there: usize,
    told: usize,
}

impl Ring {
    fn new(shape: &Shape) -> Ring {
        let setup = local_setup(shape.capacity, WaitStrategy::Park, shape.start).unwrap();
        let (receives, own_of_receiver, receiver) = end_with_pipe();
        let (sends, own_of_sender, sender) = end_with_pipe();
        let sleeper = |word, kick: &Kick| Sleeper { word, kick: kick.clone() };
        // One side closes for both, as between threads.
        let closer = Closer::with_pipes(
            setup.view.clone(),
            setup.scope,
            vec![sleeper(CONSUMER_PARKED, &receiver), sleeper(PRODUCER_PARKED, &sender)],
            vec![own_of_receiver, own_of_sender],
            None,
            Peer::Relied,
        );
        let setup = Setup { closer: closer.clone(), max_block: shape.max_block, ..setup };
        let mut consumer = Consumer::new(&Setup { kick: sender, ..setup.clone() });
        consumer.release_aloud();
        let producer = Producer::new(&Setup { kick: receiver, ..setup });
        Ring { producer, consumer, closer, receives, sends, there: 0, told: 0 }
    }

    fn act(&mut self, op: &Op) {
        let len = |len: &Len| len.of(self.producer.max_block()).min(self.producer.max_block());
        match op {
            Op::Send(length) => {
                let block = vec![7; len(length)];
                if self.producer.try_send(&block).is_ok() {
                    self.there += 1;
                    self.told = self.there;
                }
            }
            Op::Publish(length) => {
                let block = vec![7; len(length)];
                self.there += usize::from(self.producer.try_publish(None, &[&block]).is_ok());
            }
            Op::Notify => {
                self.producer.notify();
                self.told = self.there;
            }
            Op::Take => {
                self.receives.waits_for = None;
                if let Ok(Some(_)) = self.consumer.try_recv(&mut Vec::new()) {
                    (self.there, self.told) = (self.there - 1, self.told.saturating_sub(1));
                }
            }
            Op::Wait => {
                self.receives.waits_for = None;
                if self.consumer.recv_timeout(&mut Vec::new(), Instant::now()).is_ok() {
                    (self.there, self.told) = (self.there - 1, self.told.saturating_sub(1));
                }
            }
            Op::ArmConsumer => self.receives.arm((), |pipe| self.consumer.arm(pipe)),
            Op::ArmProducer(length) => {
                let len = len(length);
                self.sends.arm(len, |pipe| self.producer.arm_for_room(len, pipe));
                self.told = self.there;
            }
            Op::DisarmProducer => {
                self.sends.waits_for = None;
                self.producer.disarm(&mut self.sends.pipe);
            }
            Op::Close => self.closer.close(),
        }
    }

    fn check(&mut self) {
        let closed = self.closer.reason().is_some();
        if self.receives.waits_for.is_some() && (self.told > 0 || closed) {
            assert!(self.receives.is_readable(), "{} blocks are there", self.there);
        }
        if let Some(len) = self.sends.waits_for
            && (closed || self.producer.has_room(len).unwrap())
        {
            assert!(self.sends.is_readable(), "there is room for {len} bytes");
        }
    }
}

proptest! {
    #[test]
    fn an_armed_end_is_ready_when_something_is_there(shape in any_shape(), ops in vec(any_op(), 1..120)) {
        let mut ring = Ring::new(&shape);
        for op in &ops {
            ring.act(op);
            ring.check();
        }
    }

    /// An end that finds something each time it arms has no kick to expect, so it does not look for one.
    #[test]
    fn what_is_found_at_once_permits_no_kick(shape in any_shape(), times in 1..9) {
        let mut ring = Ring::new(&shape);
        for _ in 0..times {
            ring.act(&Op::Send(Len::Any(0)));
            ring.act(&Op::ArmConsumer);
            prop_assert!(ring.receives.waits_for.is_none() && !ring.receives.pipe.expects_kicks());
            ring.act(&Op::Take);
        }
    }
}
