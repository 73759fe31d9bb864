//! Fuzzes an end of a ring that waits in an event loop: it arms, and its peer writes any word and header, and
//! kicks as often as it likes.
//!
//! The end must never panic, do bounded work, accept no more kicks than it gave reason for, and wake when its
//! own side closes it, whatever the peer has written. A peer that keeps the rules is not accused of anything,
//! and no readiness is lost.

#![no_main]

mod input;

use std::cell::RefCell;
use std::time::Instant;

use input::{Input, near_head};
use libfuzzer_sys::fuzz_target;
use ringpost::ring::{CloseReason, Closer, Consumer, Producer, RecvError, SendError};
use ringpost::testing::fuzz::{Peers, Pipe, RingMemory, SPARE_HINTS, give_hints, work};

thread_local! {
    static MEMORY: RefCell<RingMemory> = RefCell::new(RingMemory::new());
}

/// The words that a step may read or write, besides five for each sleep.
const WORDS: u64 = 32;

/// How many kicks a pipe holds.
const HOLDS: u64 = 4096;

static BLOCK: [u8; 4096] = [0x5a; 4096];

/// The end under attack.
enum End {
    Consumer(Consumer),
    Producer(Producer),
}

/// What it waits for in an event loop.
#[derive(Clone, Copy, PartialEq)]
enum Armed {
    No,
    ForData,
    /// Room for a block of this length.
    ForRoom(usize),
}

/// The end under attack with its pipe, and what is known of both.
struct Victim {
    end: End,
    pipe: Pipe,
    armed: Armed,
    /// How often it armed, and how many kicks of its peer it has taken.
    arms: u64,
    taken: u64,
    /// Kicks that are in the pipe. Only known if the peer keeps to [`Victim::kick`].
    inside: u64,
    broken: bool,
}

impl Victim {
    fn new(memory: &RingMemory, form: u8) -> Victim {
        let pipe = Pipe::new([Peers::None, Peers::Closed, Peers::Open][usize::from(form / 4 % 3)]);
        let end = match form % 2 {
            0 => End::Consumer(pipe.consumer(memory)),
            _ => End::Producer(pipe.producer(memory)),
        };
        Victim { end, pipe, armed: Armed::No, arms: 0, taken: 0, inside: 0, broken: false }
    }

    fn closer(&self) -> Closer {
        match &self.end {
            End::Consumer(consumer) => consumer.closer(),
            End::Producer(producer) => producer.closer(),
        }
    }

    fn kick(&mut self) {
        self.pipe.kick();
        self.inside = HOLDS.min(self.inside + 1);
    }

    /// Its own side closes it.
    fn close(&mut self) {
        self.closer().close();
        assert!(self.pipe.is_readable(), "its own side has closed it");
    }

    /// Whether its own side has closed it.
    fn is_closed_here(&self) -> bool {
        matches!(self.closer().reason(), Some(CloseReason::LOCAL | CloseReason::FAULT))
    }

    /// After an operation: whether it has found a broken rule, which closes it.
    fn look_for_faults(&mut self, was_closed: bool) {
        self.broken |= self.closer().reason() == Some(CloseReason::FAULT);
        if self.broken && !was_closed {
            assert!(self.pipe.is_readable(), "its own side has closed it");
        }
    }

    /// Arms it. `exact`: all kicks were counted here.
    fn arm(&mut self, len: usize, exact: bool) {
        let was_closed = self.is_closed_here();
        self.arms += 1;
        let armed = match &mut self.end {
            End::Consumer(consumer) => self.pipe.arm_consumer(consumer),
            End::Producer(producer) => self.pipe.arm_producer(producer, len),
        };
        self.look_for_faults(was_closed);
        if !exact {
            assert!(!self.broken, "the peer has kept the rules");
        } else if armed && !self.pipe.is_readable() {
            // It has taken them all. Each time that it armed, the peer might kick once.
            self.taken += std::mem::take(&mut self.inside);
            assert!(self.taken <= self.arms + SPARE_HINTS, "{} kicks for {} arms", self.taken, self.arms);
        }
        self.armed = match (&self.end, armed) {
            (_, false) => Armed::No,
            (End::Consumer(_), true) => Armed::ForData,
            (End::Producer(_), true) => Armed::ForRoom(len),
        };
        let closed = self.closer().reason().is_some();
        assert!(!closed || self.armed == Armed::No, "it would wait although it is closed");
    }

    /// One of the operations of its owner. Returns the number of blocks that went through.
    fn act(&mut self, input: &mut Input<'_>, exact: bool) -> usize {
        let what = input.byte() % 8;
        let len = usize::from(input.word16());
        if what < 3 {
            let most = if let End::Producer(producer) = &self.end { producer.max_block() + 2 } else { 1 };
            self.arm(len % most, exact);
            return 0;
        }
        self.armed = Armed::No;
        let was_closed = self.is_closed_here();
        let done = match &mut self.end {
            End::Consumer(consumer) => {
                let mut into = Vec::new();
                let found = match what {
                    5 => consumer.recv_timeout(&mut into, Instant::now()).map(Some),
                    6 => consumer.try_recv_ref().map(|found| {
                        found.map(|block| {
                            let len = block.len();
                            block.release();
                            len
                        })
                    }),
                    _ => consumer.try_recv(&mut into),
                };
                let violation = matches!(found, Err(RecvError::Violation(_)));
                assert!(!violation || consumer.closer().reason().is_some(), "it goes on after a broken rule");
                matches!(found, Ok(Some(_)))
            }
            End::Producer(producer) => {
                let block = &BLOCK[..len % (producer.max_block() + 2)];
                let sent = match what {
                    3 | 4 => producer.try_send(block),
                    5 => producer.send_timeout(block, Instant::now()),
                    6 => producer.try_grant(block.len()).map(|grant| grant.commit()),
                    _ => {
                        self.pipe.disarm_producer(producer);
                        Err(SendError::Full)
                    }
                };
                let violation = matches!(sent, Err(SendError::Violation(_)));
                assert!(!violation || producer.closer().reason().is_some(), "it goes on after a broken rule");
                sent.is_ok()
            }
        };
        self.look_for_faults(was_closed);
        done.into()
    }
}

/// A peer that writes and kicks as the input says.
fn attack(memory: &RingMemory, victim: &mut Victim, input: &mut Input<'_>) {
    let steps = input.0.len() as u64;
    let began = work();
    let mut hints = 0;
    while !input.is_empty() {
        let begun = work();
        match input.byte() % 11 {
            // The other side may say that it has closed.
            0 => {
                memory.set_words(input.word32(), input.word32(), 2 * u32::from(input.byte() / 250));
            }
            // What a parked word may say, and a little more.
            1 => memory.set_words((input.byte() % 4).into(), (input.byte() % 4).into(), 0),
            2 => memory.set_head(near_head(memory.head(), input.byte(), input.byte())),
            3 => {
                let (kind, len) = (u64::from(input.byte() % 4), u64::from(input.word16()));
                let position = memory.head();
                memory.set_header(position, position / 64 % (1 << 30) << 34 | kind << 32 | len);
            }
            4 => memory.set_header(u64::from(input.word16()), input.word64()),
            5 => (0..input.byte()).for_each(|_| victim.kick()),
            6 => {
                give_hints(input.byte().into());
                hints += 1;
            }
            7 if input.byte() > 200 => victim.close(),
            _ => _ = victim.act(input, true),
        }
        let done = work().since(begun);
        assert!(done.words <= WORDS + 5 * done.sleeps, "{done:?} in one step");
        assert!(done.bytes <= 4 * memory.capacity(), "{done:?} in one step");
    }
    assert!(work().since(began).sleeps <= SPARE_HINTS + 2 * steps + hints, "it goes on sleeping");
}

/// A peer that keeps the rules, for a consumer.
fn send_to(memory: &RingMemory, victim: &mut Victim, input: &mut Input<'_>) {
    let mut producer = victim.pipe.its_producer(memory);
    let mut there = 0;
    while !input.is_empty() {
        match input.byte() % 8 {
            0..3 => {
                let len = usize::from(input.word16()) % (producer.max_block() + 2);
                there += usize::from(producer.try_send(&BLOCK[..len]).is_ok());
            }
            3 => {
                let mut batch = producer.batch();
                let len = usize::from(input.byte());
                let pushed = (0..input.byte() % 4).filter(|_| batch.push(&BLOCK[..len]).is_ok()).count();
                if input.byte() % 3 > 0 {
                    there += pushed;
                    batch.commit();
                }
            }
            4 if input.byte() > 240 => producer.closer().close(),
            5 if input.byte() > 240 => victim.close(),
            _ => there -= victim.act(input, false),
        }
        assert!(!victim.broken, "the peer has kept the rules");
        if victim.armed == Armed::ForData && (there > 0 || victim.closer().reason().is_some()) {
            assert!(victim.pipe.is_readable(), "{there} blocks are there");
        }
    }
}

/// The same for a producer.
fn take_from(memory: &RingMemory, victim: &mut Victim, input: &mut Input<'_>) {
    let mut consumer = victim.pipe.its_consumer(memory);
    let mut into = Vec::new();
    while !input.is_empty() {
        let mut taken = false;
        match input.byte() % 8 {
            0..3 => taken = matches!(consumer.try_recv(&mut into), Ok(Some(_))),
            3 => {
                let mut drain = consumer.drain();
                for _ in 0..input.byte() % 5 {
                    taken |= matches!(drain.try_recv(&mut into), Ok(Some(_)));
                }
            }
            4 if input.byte() > 240 => consumer.closer().close(),
            5 if input.byte() > 240 => victim.close(),
            _ => _ = victim.act(input, false),
        }
        assert!(!victim.broken, "the peer has kept the rules");
        let waits = matches!(victim.armed, Armed::ForRoom(_));
        if waits && (taken || victim.closer().reason().is_some()) {
            // A look may find that there is still not enough.
            assert!(victim.pipe.is_readable(), "some room was given back");
        }
        if taken {
            victim.armed = Armed::No;
        }
    }
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input(data);
        memory.begin(u32::from(input.byte() % 6), input.start_line());
        let form = input.byte();
        let mut victim = Victim::new(memory, form);
        match (form / 2 % 2, &victim.end) {
            (0, _) => attack(memory, &mut victim, &mut input),
            (_, End::Consumer(_)) => send_to(memory, &mut victim, &mut input),
            (_, End::Producer(_)) => take_from(memory, &mut victim, &mut input),
        }
        drop(victim);
        assert!(memory.guards_hold());
    });
});
