//! Records what a client did and saw, in memory that outlives its process.
//!
//! Each client process writes its history into a segment that the harness made, mapped by both: what is
//! stored there survives SIGKILL, costs no system call and so disturbs nothing. A record counts from the
//! store of the tail on; a writer that finds no room waits until the harness has read some.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringpost::Key;
use ringpost::testing::{Segment, futex_wait, futex_wake};
use rustix::time::{ClockId, clock_gettime};

const GATE: usize = 0;
const LIFE: usize = 64;
const TAIL: usize = 128;
const SCARCE: usize = 192;
const HEAD: usize = 256;
const TEXT_LEN: usize = 508;
const TEXT: usize = 512;
/// What a client's publishers have published: number and sequence of each.
const PUBLISHED: usize = 3584;
pub const PUBLISHERS: usize = 4;
const RECORDS: usize = 4096;
const RECORD: usize = 64;
const ROOM: u64 = 8192;

/// Bytes of a history's segment.
pub const BYTES: usize = RECORDS + RECORD * ROOM as usize;

/// Nanoseconds on the clock that all processes share.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

macro_rules! coded {
    ($(#[$about:meta])* $name:ident { $($(#[$note:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$note])* $variant),+ }

        impl $name {
            fn from_code(code: u8) -> Option<$name> {
                [$($name::$variant),+].get(usize::from(code)).copied()
            }
        }
    };
}

coded! {
    /// What a record tells.
    Kind {
        /// An operation begins. Words: its time-out in nanoseconds or 0; for a message the receiver's key
        /// and the number.
        Begin,
        /// It ended, with the outcome. The same words.
        End,
        /// A registration is complete. Words: round, key.
        Registered,
        /// It is over: everything was received that could be (outcome `Ok`), or it was given up
        /// (`Disconnected`). Words: key, reason.
        Over,
        /// A message was received. Words: 0, the sender's key, the number.
        Received,
        /// A link has ended. Words: 0, the peer's process, the reason.
        LinkOver,
        /// No more samples come of a publisher. Words: 0, its number, its last sequence, whether it registers
        /// again.
        Published,
        /// A subscription has received this sample. Words: 0, the publisher's number, the sequence (all bits:
        /// nothing more is expected of it), the subscription's.
        Seen,
        /// Nothing more is expected of a subscription. Words: 0, 0, 0, its number.
        Unsubscribed,
        /// It stands before the gate, and has nothing under way. Words: the gate's.
        Idle,
        /// A promise was broken; the text says which.
        Violation,
    }
}

coded! {
    /// What a client is at.
    Op {
        Register,
        Call,
        Submit,
        Respond,
        Send,
        SendWaiting,
        Receive,
        ReceiveLong,
        Ask,
        Unregister,
        Drop,
        Starve,
        Connect,
        LinkCall,
        LinkSubmit,
        LinkRespond,
        Post,
        CloseLink,
        Listen,
        Serve,
        StopServing,
        Quieten,
        Publish,
        SendSample,
        Subscribe,
        TakeSample,
        Watch,
        CloseTopic,
        None,
    }
}

coded! {
    /// What came of it.
    Outcome {
        Ok,
        TimedOut,
        Disconnected,
        NotSent,
        InboxFull,
        UnknownKey,
        Gone,
        NoAnswer,
        ShuttingDown,
        TooLarge,
        ServiceFailed,
        Refused,
        NameTaken,
        NoServer,
        System,
        Empty,
        NotServing,
        Busy,
        Quota,
    }
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub kind: Kind,
    /// Of the process's threads: 0 the first, 1 the one that receives.
    pub thread: u8,
    pub op: Op,
    pub outcome: Outcome,
    pub time: u64,
    pub words: [u64; 6],
}

impl Event {
    /// The key in the words from the second on.
    pub fn key(&self) -> Key {
        Key::from_bytes(u128::to_le_bytes(u128::from(self.words[1]) | u128::from(self.words[2]) << 64))
    }

    pub fn number(&self) -> u64 {
        self.words[3]
    }
}

/// The words for a key and a number.
pub fn about(first: u64, key: Key, number: u64) -> [u64; 6] {
    let key = u128::from_le_bytes(key.to_bytes());
    [first, key as u64, (key >> 64) as u64, number, 0, 0]
}

/// What the gate says; the number is the round's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Register with nobody; who is registered goes on.
    Closed(u32),
    /// Register.
    Open(u32),
    /// Do nothing more, but stay registered, and receive if a thread does nothing else.
    Hold(u32),
    /// Unregister.
    Leave(u32),
}

impl Gate {
    /// Each word is used once, so that nobody can sleep through a change.
    pub fn word(self) -> u32 {
        match self {
            Gate::Closed(round) => 4 * round,
            Gate::Open(round) => 4 * round + 1,
            Gate::Hold(round) => 4 * round + 2,
            Gate::Leave(round) => 4 * round + 3,
        }
    }

    fn from_word(word: u32) -> Gate {
        let round = word / 4;
        match word % 4 {
            0 => Gate::Closed(round),
            1 => Gate::Open(round),
            2 => Gate::Hold(round),
            _ => Gate::Leave(round),
        }
    }
}

/// The client's end.
#[derive(Debug)]
pub struct Writer {
    segment: Segment,
    tail: Mutex<u64>,
}

impl Writer {
    pub fn new(segment: Segment) -> Writer {
        Writer { segment, tail: Mutex::new(0) }
    }

    /// How many processes there were before this one in its slot in this round.
    pub fn life(&self) -> u64 {
        self.segment.word64(LIFE).load(Ordering::Relaxed)
    }

    /// Whether the server may lack descriptors.
    pub fn is_scarce(&self) -> bool {
        self.segment.word32(SCARCE).load(Ordering::Relaxed) != 0
    }

    pub fn gate(&self) -> Gate {
        Gate::from_word(self.segment.word32(GATE).load(Ordering::Acquire))
    }

    /// Waits until the gate is another.
    pub fn wait_for_gate(&self, not: Gate) {
        let word = self.segment.word32(GATE);
        while word.load(Ordering::Acquire) == not.word() {
            futex_wait(word, not.word(), None);
        }
    }

    /// Tells how far a publisher has come; what was told last is known also when the process is killed.
    pub fn set_published(&self, slot: usize, number: u64, sequence: u64) {
        let at = PUBLISHED + 64 * (slot % PUBLISHERS);
        self.segment.word64(at + 8).store(sequence, Ordering::Relaxed);
        self.segment.word64(at).store(number, Ordering::Release);
    }

    pub fn put(&self, kind: Kind, thread: u8, op: Op, outcome: Outcome, words: [u64; 6]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        while *tail - self.segment.word64(HEAD).load(Ordering::Acquire) >= ROOM {
            std::thread::sleep(Duration::from_micros(200));
        }
        let at = RECORDS + RECORD * (*tail % ROOM) as usize;
        let first = u64::from(kind as u8)
            | u64::from(thread) << 8
            | u64::from(op as u8) << 16
            | u64::from(outcome as u8) << 24;
        let store = |index: usize, word| self.segment.word64(at + 8 * index).store(word, Ordering::Relaxed);
        store(0, first);
        store(1, now());
        for (index, word) in words.into_iter().enumerate() {
            store(index + 2, word);
        }
        *tail += 1;
        self.segment.word64(TAIL).store(*tail, Ordering::Release);
    }

    pub fn begin(&self, thread: u8, op: Op, words: [u64; 6]) {
        self.put(Kind::Begin, thread, op, Outcome::Ok, words);
    }

    pub fn end(&self, thread: u8, op: Op, outcome: Outcome, words: [u64; 6]) {
        self.put(Kind::End, thread, op, outcome, words);
    }

    /// Tells of a broken promise and ends the process.
    pub fn violation(&self, thread: u8, op: Op, text: &str) -> ! {
        let bytes = &text.as_bytes()[..text.len().min(PUBLISHED - TEXT)];
        self.segment.copy_in(TEXT, bytes);
        self.segment.word32(TEXT_LEN).store(bytes.len() as u32, Ordering::Relaxed);
        self.put(Kind::Violation, thread, op, Outcome::Ok, [0; 6]);
        std::process::exit(3);
    }
}

/// The harness's end.
#[derive(Debug)]
pub struct Reader {
    segment: Segment,
    head: u64,
}

impl Reader {
    pub fn new(segment: Segment) -> Reader {
        Reader { segment, head: 0 }
    }

    /// To be followed by another gate.
    pub fn set_life(&self, life: u64) {
        self.segment.word64(LIFE).store(life, Ordering::Relaxed);
    }

    pub fn set_scarce(&self, is: bool) {
        self.segment.word32(SCARCE).store(is.into(), Ordering::Relaxed);
    }

    pub fn set_gate(&self, gate: Gate) {
        let word = self.segment.word32(GATE);
        word.store(gate.word(), Ordering::Release);
        futex_wake(word, 16);
    }

    /// The next record, if there is one.
    pub fn next(&mut self) -> Option<Event> {
        if self.segment.word64(TAIL).load(Ordering::Acquire) == self.head {
            return None;
        }
        let at = RECORDS + RECORD * (self.head % ROOM) as usize;
        let load = |index: usize| self.segment.word64(at + 8 * index).load(Ordering::Relaxed);
        let [kind, thread, op, outcome, ..] = load(0).to_le_bytes();
        let event = Event {
            kind: Kind::from_code(kind)?,
            thread,
            op: Op::from_code(op)?,
            outcome: Outcome::from_code(outcome)?,
            time: load(1),
            words: std::array::from_fn(|index| load(index + 2)),
        };
        self.head += 1;
        self.segment.word64(HEAD).store(self.head, Ordering::Release);
        Some(event)
    }

    /// How far its publishers have come: number and sequence.
    pub fn published(&self) -> Vec<(u64, u64)> {
        let read = |slot: usize| {
            let at = PUBLISHED + 64 * slot;
            let number = self.segment.word64(at).load(Ordering::Acquire);
            (number, self.segment.word64(at + 8).load(Ordering::Relaxed))
        };
        (0..PUBLISHERS).map(read).filter(|(number, _)| *number != 0).collect()
    }

    /// What the writer said about a violation.
    pub fn text(&self) -> String {
        let len = self.segment.word32(TEXT_LEN).load(Ordering::Relaxed) as usize;
        let mut bytes = vec![0; len.min(PUBLISHED - TEXT)];
        self.segment.copy_out(TEXT, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

pub mod tests {
    use super::*;

    pub fn what_is_written_is_read() {
        let (ours, descriptor) = Segment::create("history", BYTES).unwrap();
        let mut reader = Reader::new(ours);
        let writer = Writer::new(Segment::open(&descriptor).unwrap());
        assert!(reader.next().is_none());
        let key = Key::from_bytes(u128::to_le_bytes(u128::MAX - 5));
        for number in 0..ROOM + 5 {
            writer.end(1, Op::Send, Outcome::Gone, about(7, key, number));
            let event = reader.next().unwrap();
            assert_eq!((event.kind, event.thread, event.op), (Kind::End, 1, Op::Send));
            assert_eq!((event.outcome, event.key(), event.number()), (Outcome::Gone, key, number));
        }
        assert!(reader.next().is_none());
        for gate in [Gate::Closed(0), Gate::Leave(3), Gate::Open(0), Gate::Hold(9), Gate::Open(77)] {
            reader.set_gate(gate);
            assert_eq!(writer.gate(), gate);
        }
    }
}
