//! Threads that share a producer, all simulated by one thread: they try to write in every order, and a plain
//! model says which of them may.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::waiter::Look;
use super::*;
use crate::ring::layout::{PRODUCER_PARKED, largest_block, record_size};
use crate::ring::local::local_setup;
use crate::ring::{Consumer, Setup, WaitStrategy};
use crate::shm::backend::Ordering;

const CAPACITY: usize = 1024;

#[derive(Debug, Clone)]
enum Op {
    /// A sender that does not wait.
    Send(usize),
    Enqueue(usize),
    /// One of the waiting threads looks.
    Look(prop::sample::Index),
    Leave(prop::sample::Index),
    Receive,
}

fn any_op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![3 => 0..60_usize, 1 => 60..=largest_block(CAPACITY)];
    prop_oneof![
        4 => len().prop_map(Op::Send),
        1 => len().prop_map(Op::Enqueue),
        3 => any::<prop::sample::Index>().prop_map(Op::Look),
        1 => any::<prop::sample::Index>().prop_map(Op::Leave),
        3 => Just(Op::Receive),
    ]
}

/// The ring and the queue as numbers.
struct Plain {
    tail: u64,
    head: u64,
    /// Where each record in the ring ends, and its block's number.
    records: VecDeque<(u64, u32)>,
    /// For each waiting thread, the number and length of its block.
    queue: VecDeque<(u32, usize)>,
    passed: u64,
}

impl Plain {
    /// Where the tail is behind a block, if there is room for it.
    fn place(&self, tail: u64, len: usize) -> Option<u64> {
        let (capacity, size) = (CAPACITY as u64, record_size(len));
        let until_end = capacity - tail % capacity;
        let end = tail + size + if size > until_end { until_end } else { 0 };
        (end + 64 - self.head <= capacity).then_some(end)
    }

    /// The rule at the head of `shared_producer/mod.rs`, for a thread with `before` others before it in the
    /// queue.
    fn may_write(&self, len: usize, before: usize) -> bool {
        let fits = |len| self.place(self.tail, len).is_some();
        let passes = self.passed < CAPACITY as u64 && !(0..before).any(|at| fits(self.queue[at].1));
        fits(len) && (before == 0 || passes)
    }

    fn write(&mut self, number: u32, len: usize, before: usize) {
        let end = self.place(self.tail, len).unwrap();
        if before > 0 {
            self.passed += end - self.tail;
        }
        self.tail = end;
        self.records.push_back((end, number));
    }

    fn leave(&mut self, at: usize) {
        self.queue.remove(at);
        if at == 0 {
            self.passed = 0;
        }
    }
}

/// A block of this length; one of at least four bytes begins with its number.
fn put(number: u32, len: usize) -> impl Fn(&mut Producer, u32) -> Result<(), NotSent> {
    move |producer, _| {
        let mut block = vec![0; len];
        let fits = len.min(4);
        block[..fits].copy_from_slice(&number.to_le_bytes()[..fits]);
        producer.try_publish(None, &[&block[..]])
    }
}

proptest! {
    #[test]
    fn who_may_write_is_what_the_rule_says(start in 0..16_u64, ops in vec(any_op(), 0..200)) {
        let setup: Setup = local_setup(CAPACITY, WaitStrategy::Park, start * 64).unwrap();
        let (shared, mut consumer) = (SharedProducer::new(Producer::new(&setup)), Consumer::new(&setup));
        let parked = setup.view.word32(PRODUCER_PARKED);
        let mut waiters: VecDeque<(u32, bool, Waiter<'_>)> = VecDeque::new();
        let mut plain = Plain {
            tail: setup.start,
            head: setup.start,
            records: VecDeque::new(),
            queue: VecDeque::new(),
            passed: 0,
        };
        for (number, op) in (0_u32..).zip(ops) {
            match op {
                Op::Send(len) => {
                    let may = plain.may_write(len, waiters.len());
                    let wanted = if may { Ok(()) } else { Err(NotWritten::Full) };
                    prop_assert_eq!(shared.try_pass(len, &put(number, len)), wanted);
                    if may {
                        plain.write(number, len, waiters.len());
                    }
                }
                Op::Enqueue(len) => {
                    waiters.push_back((number, false, shared.enqueue(len)));
                    plain.queue.push_back((number, len));
                }
                Op::Look(index) if !waiters.is_empty() => {
                    let at = index.index(waiters.len());
                    let (number, looked, waiter) = &mut waiters[at];
                    *looked = true;
                    let (first, len) = (at == 0, waiter.len);
                    let look = waiter.look(&put(*number, len), None);
                    if plain.may_write(len, at) {
                        prop_assert_eq!(look, Ok(Look::Written));
                        plain.write(*number, len, at);
                        plain.leave(at);
                        waiters.remove(at);
                    } else {
                        let front = Look::NoRoom { head: plain.head };
                        prop_assert_eq!(look, Ok(if first { front } else { Look::Behind }));
                    }
                }
                Op::Leave(index) if !waiters.is_empty() => {
                    let at = index.index(waiters.len());
                    waiters.remove(at);
                    plain.leave(at);
                }
                Op::Look(_) | Op::Leave(_) => {}
                Op::Receive => {
                    let mut block = Vec::new();
                    let received = consumer.try_recv(&mut block);
                    let wanted = plain.records.pop_front();
                    prop_assert_eq!(received.unwrap().is_some(), wanted.is_some());
                    if let Some((end, number)) = wanted {
                        plain.head = end;
                        prop_assert!(number.to_le_bytes().starts_with(&block[..block.len().min(4)]));
                    }
                }
            }
            // At most a capacity and one block pass a front.
            prop_assert!(plain.passed < 2 * CAPACITY as u64);
            // No thread that could write sleeps: the consumer wakes the front and resets the parked
            // word, and each thread wakes the next one.
            let asleep = |(_, looked, waiter): &(u32, bool, Waiter<'_>)| *looked && !waiter.signal.is_set();
            if waiters.iter().all(asleep) && parked.load(Ordering::Relaxed) == 1 {
                let could = (0..waiters.len()).find(|&at| plain.may_write(waiters[at].2.len, at));
                prop_assert_eq!(could, None, "it sleeps on");
            }
        }
    }
}
