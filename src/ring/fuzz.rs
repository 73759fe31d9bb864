//! A ring for fuzz targets, which may write any word and byte of it in place of the other side.

use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::layout::{CONSUMER_PARKED, CONTROL, HEAD, MIN_CAPACITY, PRODUCER_PARKED, largest_block};
use super::{Closer, Consumer, Kick, OwnPipe, Peer, Producer, Setup, Sleeper, WaitStrategy};
use crate::os::pipe::kick_pipe;
use crate::shm::backend::fuzz;
use crate::shm::backend::{Ordering, PipeReader, PipeWriter};
use crate::shm::futex::Scope;
use crate::shm::{Segment, View};

const DATA: usize = CONTROL + 128;
const GUARD: usize = 64;
const MOST_SHIFTS: u32 = 5;

/// How many fruitless wakes an end tolerates, beyond one for each thing that it received.
pub const SPARE_HINTS: u64 = super::SPARE_HINTS;

/// The memory of a ring, as the other side sees it.
#[derive(Debug, Clone)]
pub struct Memory {
    view: View,
    capacity: usize,
    start: u64,
}

impl Memory {
    /// The memory of the largest of the rings that [`begin`](Self::begin) makes.
    pub fn new() -> Memory {
        let capacity = MIN_CAPACITY << MOST_SHIFTS;
        let view = View::new(Segment::anonymous(DATA + capacity + GUARD).expect("memory"));
        Memory { view, capacity, start: 0 }
    }

    /// Makes every byte 0 again, for the next input: a ring of `MIN_CAPACITY << shift` bytes that begins at a
    /// line number.
    ///
    /// # Panics
    ///
    /// If the end of the last input still exists.
    pub fn begin(&mut self, shift: u32, start_line: u64) {
        fuzz::begin();
        fuzz::wipe(&mut self.view);
        self.capacity = MIN_CAPACITY << shift.min(MOST_SHIFTS);
        self.start = start_line % (1 << 57) * 64;
        self.set_head(self.start);
    }

    fn setup(&self) -> Setup {
        let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
        let closer = Closer::new(self.view.clone(), Scope::Shared, parked, Some(CONTROL), Peer::Unheard);
        Setup {
            view: self.view.clone(),
            control: 0,
            data: DATA,
            capacity: self.capacity,
            max_block: largest_block(self.capacity),
            scope: Scope::Shared,
            closer,
            kick: Default::default(),
            strategy: WaitStrategy::Park,
            closes_on_drop: None,
            stamps: None,
            start: self.start,
        }
    }

    /// The same for an end whose own pipe is kicked by its closers, and that kicks the other end by `peers`.
    fn setup_with(&self, own: Option<&Kick>, peers: &Kick) -> Setup {
        let parked = [CONSUMER_PARKED, PRODUCER_PARKED].map(|word| Sleeper { word, kick: peers.clone() });
        let (view, own) = (self.view.clone(), own.into_iter().cloned().collect());
        let closer = Closer::with_pipes(view, Scope::Shared, parked.into(), own, Some(CONTROL), Peer::Heard);
        Setup { closer, kick: peers.clone(), ..self.setup() }
    }

    /// The end under attack.
    pub fn producer(&self) -> Producer {
        Producer::new(&self.setup())
    }

    /// The end under attack.
    pub fn consumer(&self) -> Consumer {
        Consumer::new(&self.setup())
    }

    /// Bytes of data.
    pub fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// The word that the consumer writes.
    pub fn head(&self) -> u64 {
        self.view.word64(HEAD).load(Ordering::Relaxed)
    }

    /// Writes that word.
    pub fn set_head(&self, head: u64) {
        self.view.word64(HEAD).store(head, Ordering::Relaxed);
    }

    /// Writes both parked words and the shared closed word.
    pub fn set_words(&self, consumer: u32, producer: u32, closed: u32) {
        for (offset, value) in [(CONSUMER_PARKED, consumer), (PRODUCER_PARKED, producer), (CONTROL, closed)] {
            self.view.word32(offset).store(value, Ordering::Relaxed);
        }
    }

    /// Writes the header at a position.
    pub fn set_header(&self, position: u64, header: u64) {
        let offset = (position / 64 * 64 % self.capacity()) as usize;
        self.view.word64(DATA + offset).store(header, Ordering::Relaxed);
    }

    /// Writes bytes anywhere into the data; what would lie outside is left out.
    pub fn set_bytes(&self, offset: usize, bytes: &[u8]) {
        let offset = offset % self.capacity;
        let fits = bytes.len().min(self.capacity - offset);
        self.view.copy_in(DATA + offset, &bytes[..fits]);
    }

    /// Calls `act` with the memory during the end's next sleep.
    pub fn meanwhile(&self, act: impl FnOnce(&Memory) + 'static) {
        let memory = self.clone();
        fuzz::meanwhile(Box::new(move || act(&memory)));
    }

    /// Whether the bytes between the words and the data, and behind the data, are as they were.
    pub fn guards_hold(&self) -> bool {
        [DATA - GUARD, DATA + self.capacity].into_iter().all(|guard| {
            let mut bytes = [0; GUARD];
            self.view.copy_out(guard, &mut bytes);
            bytes.iter().all(|&byte| byte == 0)
        })
    }
}

/// The pipe of the end under attack, which waits in an event loop.
#[derive(Debug)]
pub struct Pipe {
    own: OwnPipe,
    /// By which the closers of its side kick it.
    closers: Kick,
    /// By which the other side does.
    others: Kick,
    /// The other side's own pipe.
    peers: Kick,
    _peers: Option<Arc<PipeReader>>,
}

/// The pipe of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    None,
    /// Nobody reads it.
    Closed,
    Open,
}

impl Pipe {
    /// A new pipe.
    ///
    /// # Panics
    ///
    /// If the system has none.
    pub fn new(form: Peers) -> Pipe {
        let (reader, closers, others) = pipe();
        let (own, peers) = (OwnPipe::new(reader, closers.clone()), Kick::default());
        let pipe = Pipe { own, closers, others, peers, _peers: None };
        if form == Peers::None {
            return pipe;
        }
        let (reader, _, peers) = self::pipe();
        Pipe { peers, _peers: Some(reader).filter(|_| form == Peers::Open), ..pipe }
    }

    /// The end under attack.
    pub fn consumer(&self, memory: &Memory) -> Consumer {
        Consumer::new(&memory.setup_with(Some(&self.closers), &self.peers))
    }

    /// The end under attack.
    pub fn producer(&self, memory: &Memory) -> Producer {
        Producer::new(&memory.setup_with(Some(&self.closers), &self.peers))
    }

    /// The other end of [`consumer`](Self::consumer), which keeps the rules.
    pub fn its_producer(&self, memory: &Memory) -> Producer {
        Producer::new(&memory.setup_with(None, &self.others))
    }

    /// The other end of [`producer`](Self::producer), which keeps the rules.
    pub fn its_consumer(&self, memory: &Memory) -> Consumer {
        let mut consumer = Consumer::new(&memory.setup_with(None, &self.others));
        consumer.release_aloud();
        consumer
    }

    /// What the other side can do at any time.
    pub fn kick(&self) {
        self.others.kick();
    }

    /// Whether an event loop would wake.
    ///
    /// # Panics
    ///
    /// If the system cannot tell.
    pub fn is_readable(&self) -> bool {
        let mut waits = [PollFd::new(&**self.own.reader(), PollFlags::IN)];
        poll(&mut waits, Some(&Timespec::default())).expect("a pipe") > 0
    }

    /// Announces a wait in an event loop.
    pub fn arm_consumer(&mut self, consumer: &mut Consumer) -> bool {
        consumer.arm(&mut self.own)
    }

    /// The same for room for a block of this length.
    pub fn arm_producer(&mut self, producer: &mut Producer, len: usize) -> bool {
        producer.arm_for_room(len, &mut self.own)
    }

    /// Takes that back.
    pub fn disarm_producer(&mut self, producer: &mut Producer) {
        producer.disarm(&mut self.own);
    }
}

/// A reading end, and what kicks it on either side.
fn pipe() -> (Arc<PipeReader>, Kick, Kick) {
    let made = kick_pipe().expect("a pipe");
    let [own, others] = [made.write, made.other].map(|write| {
        let kick = Kick::default();
        kick.set(PipeWriter::new(write));
        kick
    });
    (Arc::new(PipeReader::new(made.read)), own, others)
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}
