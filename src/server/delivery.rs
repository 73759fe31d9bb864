//! Delivers messages from many senders' workers into one client's inbox.
//!
//! A message is acknowledged to its sender only after it was committed in the ring. The senders share the
//! ring's one producer: [`crate::ring::SharedProducer`] says how, and in which order waiting senders are
//! served.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::connect::Fill;
use crate::registry::{CounterCells, Counters};
use crate::ring::{CloseReason, Closer, Glance, NotSent, NotWritten, Producer, SharedProducer};
use crate::server::member::Member;
use crate::shm::backend::now;
use crate::testing::failpoints::{failpoint, fault};
use crate::wire::{BLOCK_HEADER, BlockHeader, KEY, MESSAGE, RELAYED, Status, TICKET};

pub(super) struct Inbox {
    producer: SharedProducer,
    /// Ends the receiver's worker if its client breaks a rule of the inbox ring.
    intake: Closer,
    counters: CounterCells,
    glance: Glance,
}

/// A message on its way.
pub(super) struct Delivery<'a> {
    pub(super) from: &'a Member,
    pub(super) payload: &'a [u8],
    /// For a relay's inbox.
    pub(super) handed: Option<&'a Handed>,
}

/// What a relay gets with a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    pub(super) ticket: u64,
    /// How long the sender waits for room, if it does.
    pub(super) until: Option<Instant>,
    /// The most that it is told of that.
    pub(super) most: Duration,
}

impl Inbox {
    pub(super) fn new(producer: Producer, intake: Closer, counters: CounterCells) -> Inbox {
        let glance = producer.glance();
        Inbox { producer: SharedProducer::new(producer), intake, counters, glance }
    }

    /// Delivers a message at once. If there is no room, waits until the deadline, if there is one.
    pub(super) fn deliver(&self, delivery: &Delivery<'_>, deadline: Option<Instant>) -> Status {
        let put = |producer: &mut Producer, number| self.put(producer, number, delivery);
        let done = match deadline {
            None => self.producer.try_write(&put).unwrap_or_else(|| self.pass(delivery)),
            Some(deadline) => self.wait(delivery, deadline),
        };
        match done {
            Ok(()) => Status::Ok,
            Err(NotWritten::Full) => Status::InboxFull,
            Err(NotWritten::TimedOut) => Status::TimedOut,
            Err(NotWritten::Ended) => Status::Gone,
            Err(NotWritten::Leaving) => Status::ShuttingDown,
            Err(NotWritten::TooLarge) => Status::TooLarge,
            Err(NotWritten::Violation) => {
                self.intake.close_as(CloseReason::FAULT);
                Status::Gone
            }
        }
    }

    /// Tries to deliver although other senders wait for room.
    #[cold]
    #[inline(never)]
    fn pass(&self, delivery: &Delivery<'_>) -> Result<(), NotWritten> {
        self.producer
            .try_pass(delivery.len(), &|producer: &mut Producer, number| self.put(producer, number, delivery))
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, delivery: &Delivery<'_>, deadline: Instant) -> Result<(), NotWritten> {
        let put = |producer: &mut Producer, number| self.put(producer, number, delivery);
        // The sender's intake is closed together with its channel, or earlier when a shutdown begins.
        self.producer.enqueue(delivery.len()).write(&put, &delivery.from.intake, deadline)
    }

    #[inline(always)]
    fn put(&self, producer: &mut Producer, number: u32, delivery: &Delivery<'_>) -> Result<(), NotSent> {
        let (key, name) = (delivery.from.peer.key.to_bytes(), delivery.from.peer.name.as_bytes());
        let header = BlockHeader::new(MESSAGE, name.len() as u16, number).to_word();
        failpoint!("inbox.locked", [server], always);
        if fault!("lost") {
            return Ok(());
        }
        if let Some(handed) = delivery.handed {
            self.hand_over(producer, number, delivery, handed)?;
        } else {
            if fault!("twice") {
                let _ = producer.try_publish(Some(header), &[&key, name, delivery.payload]);
            }
            producer.try_publish(Some(header), &[&key, name, delivery.payload])?;
        }
        failpoint!("inbox.committed", [server], always);
        // Under the producer's lock, because the counter must have one writer at a time.
        self.counters.add_delivered(1);
        failpoint!("inbox.counted", [server], always);
        Ok(())
    }

    /// The same for a relay, which is told how long the sender waits as of now.
    #[cold]
    #[inline(never)]
    fn hand_over(
        &self,
        producer: &mut Producer,
        number: u32,
        delivery: &Delivery<'_>,
        &Handed { ticket, until, most }: &Handed,
    ) -> Result<(), NotSent> {
        let (key, name) = (delivery.from.peer.key.to_bytes(), delivery.from.peer.name.as_bytes());
        let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now())).min(most);
        let header = BlockHeader::new(RELAYED, name.len() as u16, number).to_word();
        let ticket = ticket.to_le_bytes();
        producer.try_publish(
            Some(header),
            &[&key, &ticket, &(left.as_nanos() as u64).to_le_bytes(), name, delivery.payload],
        )
    }

    /// Completes the client's counters by what it says it has received. It is believed as far as that can be:
    /// one message may be committed and not counted yet.
    pub(super) fn complete(&self, counters: &mut Counters) {
        counters.received = self.producer.taken().min(counters.delivered.saturating_add(1));
        counters.delivered = counters.delivered.max(counters.received);
    }

    /// How full it is, and how many senders wait for room.
    pub(super) fn fill(&self) -> (Fill, u32) {
        let (tail, waiting) = self.producer.tail_and_waiting();
        let used = self.glance.between(self.glance.head(), tail);
        (Fill { used, size: self.glance.size() }, u32::try_from(waiting).unwrap_or(u32::MAX))
    }

    /// Takes no more messages. Senders that wait are sent away when the channel is closed, which must follow.
    pub(super) fn close(&self) {
        self.producer.end();
    }
}

impl Delivery<'_> {
    fn len(&self) -> usize {
        let ticket = if self.handed.is_some() { TICKET } else { 0 };
        BLOCK_HEADER + KEY + ticket + self.from.peer.name.as_bytes().len() + self.payload.len()
    }
}
