//! Compares the ring with a plain queue, for arbitrary operations, sizes, capacities and start positions: the
//! model predicts each answer of either end. Also checks every word that a hostile peer can write against the
//! rule for it.

mod armed;
mod forged;

use std::collections::VecDeque;
use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;

use super::layout::{
    self, HEAD, HEADER, Header, LINE, data_header, largest_block, padding_header, record_size,
};
use super::local::local_setup;
use super::{CloseReason, Consumer, Producer, RecvError, SendError, Setup, Violation, WaitStrategy};
use crate::shm::backend::Ordering;

/// A length, in terms of the ring's maximum, which is not known when it is drawn.
#[derive(Debug, Clone, Copy)]
enum Len {
    /// This many, modulo the maximum plus two: at most one more than the ring takes.
    Any(usize),
    /// Around the end of a line.
    Lines(usize, isize),
    /// The maximum, less this.
    Under(usize),
    /// One more than the ring takes.
    Over,
}

impl Len {
    fn of(self, max: usize) -> usize {
        match self {
            Len::Any(len) => len % (max + 2),
            Len::Lines(lines, more) => (lines * LINE - HEADER).saturating_add_signed(more) % (max + 2),
            Len::Under(less) => max - less.min(max),
            Len::Over => max + 1,
        }
    }
}

fn any_len() -> impl Strategy<Value = Len> {
    prop_oneof![
        3 => (0..80usize).prop_map(Len::Any),
        2 => (0..5000usize).prop_map(Len::Any),
        2 => (1..8usize, -1..=1isize).prop_map(|(lines, more)| Len::Lines(lines, more)),
        2 => (0..3usize).prop_map(Len::Under),
        1 => Just(Len::Over),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Send(Len),
    /// One block of two parts.
    Parts(Len, Len),
    /// Room asked for, bytes written, and whether it is committed.
    Grant(Len, Vec<Len>, bool),
    /// A draft: the least room, the appends, the length to cut it back to (if any), and whether it is
    /// committed.
    Draft(Len, Vec<Len>, Option<Len>, bool),
    Batch(Vec<Len>, bool),
    Recv,
    /// Reads of (offset, length) from the next block, and whether it is released.
    Incoming(Vec<(usize, usize)>, bool),
    /// A drain: each step takes a block or sends one.
    Drain(Vec<Option<Len>>),
    Close(CloseReason),
}

fn any_op() -> impl Strategy<Value = Op> {
    let lens = || vec(any_len(), 0..5);
    prop_oneof![
        8 => any_len().prop_map(Op::Send),
        2 => (any_len(), any_len()).prop_map(|(a, b)| Op::Parts(a, b)),
        4 => (any_len(), lens(), any::<bool>()).prop_map(|(len, w, c)| Op::Grant(len, w, c)),
        4 => (any_len(), lens(), proptest::option::of(any_len()), any::<bool>())
            .prop_map(|(least, w, cut, c)| Op::Draft(least, w, cut, c)),
        4 => (lens(), any::<bool>()).prop_map(|(lens, c)| Op::Batch(lens, c)),
        14 => Just(Op::Recv),
        4 => (vec((0..5000usize, 0..5000usize), 0..3), any::<bool>()).prop_map(|(r, c)| Op::Incoming(r, c)),
        4 => vec(prop_oneof![2 => Just(None), 1 => any_len().prop_map(Some)], 0..12).prop_map(Op::Drain),
    ]
}

#[derive(Debug, Clone)]
struct Shape {
    capacity: usize,
    max_block: usize,
    start: u64,
}

/// Any small capacity, mostly with the largest `max_block`, and a start position shortly before some number
/// wraps.
fn any_shape() -> impl Strategy<Value = Shape> {
    let wrap = prop_oneof![
        Just(0u64),
        Just(1 << 30),
        Just(1 << 31),
        Just(1 << 32),
        Just(1 << 36),
        Just(1 << 57),
        (0..1u64 << 57),
    ];
    (7..13u32, wrap, 0..70u64, prop_oneof![2 => Just(None), 1 => (0..4096usize).prop_map(Some)]).prop_map(
        |(shift, line, before, limit)| {
            let capacity = 1 << shift;
            let largest = largest_block(capacity);
            Shape {
                capacity,
                max_block: limit.map_or(largest, |limit| limit % (largest + 1)),
                start: line.saturating_sub(before) * LINE as u64,
            }
        },
    )
}

fn setup(shape: &Shape) -> Setup {
    let setup = local_setup(shape.capacity, WaitStrategy::Park, shape.start).unwrap();
    Setup { max_block: shape.max_block, ..setup }
}

/// What the ring should do: positions and blocks, and the rule for room, in their plainest form.
struct Plain {
    capacity: u64,
    max_block: usize,
    head: u64,
    tail: u64,
    /// Committed blocks, each with the position where its record begins.
    blocks: VecDeque<(u64, Vec<u8>)>,
    closed: Option<CloseReason>,
    /// Numbers the blocks, so that no two have the same content.
    number: u64,
}

impl Plain {
    /// Where a record written behind `tail` begins, or why it cannot be.
    fn place(&self, tail: u64, len: usize) -> Result<u64, SendError> {
        if len > self.max_block {
            return Err(SendError::TooLarge { len, max: self.max_block });
        }
        if let Some(reason) = self.closed {
            return Err(SendError::Disconnected(reason));
        }
        let lines = (HEADER + len).div_ceil(LINE) as u64;
        let until_end = (self.capacity - tail % self.capacity) / LINE as u64;
        let padding = if lines > until_end { until_end } else { 0 };
        let used = (tail - self.head) / LINE as u64;
        if used + padding + lines + 1 > self.capacity / LINE as u64 {
            return Err(SendError::Full);
        }
        Ok(tail + padding * LINE as u64)
    }

    fn commit(&mut self, start: u64, block: Vec<u8>) {
        self.tail = start + record_size(block.len());
        self.blocks.push_back((start, block));
    }

    /// The result of a look that finds no block.
    fn nothing(&self) -> Result<Option<usize>, RecvError> {
        self.closed.map_or(Ok(None), |reason| Err(RecvError::Disconnected(reason)))
    }

    /// The most that can be written at `start` in one piece.
    fn piece(&self, start: u64) -> usize {
        let until_end = self.capacity - start % self.capacity;
        let free = self.head + self.capacity - start - LINE as u64;
        (until_end.min(free) as usize - HEADER).min(self.max_block)
    }

    fn send(&mut self, producer: &mut Producer, len: Len) {
        let len = len.of(self.max_block);
        let place = self.place(self.tail, len);
        let block = self.content(place.unwrap_or(0), len);
        assert_eq!(producer.try_send(&block), place.map(|_| ()));
        if let Ok(start) = place {
            self.commit(start, block);
        }
    }

    /// Checks the result of a look for a whole block. Returns where the block's record ends, if there was
    /// one.
    fn take(&mut self, got: Result<Option<usize>, RecvError>, into: &[u8]) -> Option<u64> {
        let Some((start, block)) = self.blocks.pop_front() else {
            assert_eq!(got, self.nothing());
            return None;
        };
        assert_eq!(got, Ok(Some(block.len())));
        assert_eq!(into, block);
        Some(start + record_size(block.len()))
    }

    /// Whether an uncommitted grant, draft or batch is leaked this time, so that its bytes stay.
    fn leaks(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// Content for a record at `start`: each line of it begins like a committed header of the next lap.
    fn content(&mut self, start: u64, len: usize) -> Vec<u8> {
        self.number += 1;
        let mut block: Vec<u8> = (0..len as u64).map(|i| (self.number * 7 + i) as u8).collect();
        for at in (LINE - HEADER..len.saturating_sub(HEADER - 1)).step_by(LINE) {
            let position = start + (HEADER + at) as u64 + self.capacity;
            block[at..at + HEADER].copy_from_slice(&data_header(position, 0).to_le_bytes());
        }
        block
    }
}

struct Pair {
    setup: Setup,
    producer: Producer,
    consumer: Consumer,
    plain: Plain,
    into: Vec<u8>,
}

impl Pair {
    fn new(shape: &Shape) -> Pair {
        let setup = setup(shape);
        Pair {
            producer: Producer::new(&setup),
            consumer: Consumer::new(&setup),
            setup,
            plain: Plain {
                capacity: shape.capacity as u64,
                max_block: shape.max_block,
                head: shape.start,
                tail: shape.start,
                blocks: VecDeque::new(),
                closed: None,
                number: 0,
            },
            into: Vec::new(),
        }
    }

    /// Checks that a block of this length, written at `start` and not committed, was overwritten.
    fn is_overwritten(&self, start: u64, len: usize) {
        let mut bytes = vec![1; len];
        self.setup
            .view
            .copy_out(self.setup.data + (start % self.plain.capacity) as usize + HEADER, &mut bytes);
        assert_eq!(bytes, vec![0; len], "not committed, and still there");
    }

    fn run(&mut self, op: &Op) {
        self.run_one(op);
        for position in self.producer.cleared() {
            let at = self.setup.data + (position % self.plain.capacity) as usize;
            assert_eq!(
                self.setup.view.word64(at).load(Ordering::Relaxed),
                0,
                "remembered as cleared, and is not"
            );
        }
    }

    fn run_one(&mut self, op: &Op) {
        match op {
            Op::Send(len) => self.plain.send(&mut self.producer, *len),
            Op::Parts(a, b) => {
                let (a, b) = (a.of(self.plain.max_block), b.of(self.plain.max_block));
                let place = self.plain.place(self.plain.tail, a + b);
                let block = self.plain.content(place.unwrap_or(0), a + b);
                // If the block has a first word, it is sent as the header.
                let done = match block.split_first_chunk::<HEADER>() {
                    Some((first, rest)) if a >= HEADER => {
                        let header = Some(u64::from_ne_bytes(*first));
                        self.producer.try_publish(header, &[&rest[..a - HEADER], &[], &block[a..]])
                    }
                    _ => self.producer.try_publish(None, &[&block[..a], &[], &block[a..]]),
                };
                self.producer.notify();
                assert_eq!(done.map_err(SendError::from), place.map(|_| ()));
                if let Ok(start) = place {
                    self.plain.commit(start, block);
                }
            }
            Op::Grant(len, writes, commit) => self.grant(len.of(self.plain.max_block), writes, *commit),
            Op::Draft(least, writes, cut, commit) => {
                self.draft(least.of(self.plain.max_block), writes, *cut, *commit);
            }
            Op::Batch(lens, commit) => self.batch(lens, *commit),
            Op::Recv => self.recv(),
            Op::Incoming(reads, release) => self.incoming(reads, *release),
            Op::Drain(steps) => self.drain(steps),
            Op::Close(reason) => {
                self.producer.closer().close_as(*reason);
                self.plain.closed = self.plain.closed.or(Some(*reason));
                assert_eq!(self.consumer.closer().reason(), self.plain.closed);
            }
        }
    }

    fn grant(&mut self, len: usize, writes: &[Len], commit: bool) {
        let place = self.plain.place(self.plain.tail, len);
        let content = self.plain.content(place.unwrap_or(0), len);
        let mut grant = match (self.producer.try_grant(len), place) {
            (Ok(grant), Ok(_)) => grant,
            (Err(error), place) => return assert_eq!(Err(error), place),
            (Ok(_), Err(error)) => panic!("granted what should fail: {error}"),
        };
        let mut written = 0;
        for write in writes {
            let wanted = &content[written..];
            let wanted = &wanted[..write.of(self.plain.max_block).min(wanted.len())];
            assert_eq!(grant.write(wanted).unwrap(), wanted.len());
            written += wanted.len();
            assert_eq!((grant.written(), grant.remaining()), (written, len - written));
        }
        if written == len {
            assert_eq!(grant.write(b"more").unwrap(), 0);
        }
        if commit {
            grant.commit();
            self.plain.commit(place.unwrap(), content[..written].to_vec());
        } else if self.plain.leaks() {
            std::mem::forget(grant);
        } else {
            drop(grant);
            self.is_overwritten(place.unwrap(), written);
        }
    }

    fn draft(&mut self, least: usize, writes: &[Len], cut: Option<Len>, commit: bool) {
        let place = self.plain.place(self.plain.tail, least);
        let mut draft = match (self.producer.begin(least).map_err(SendError::from), place) {
            (Ok(draft), Ok(_)) => draft,
            (Err(error), place) => return assert_eq!(Err(error), place),
            (Ok(_), Err(error)) => panic!("began what should fail: {error}"),
        };
        let start = place.unwrap();
        let most = self.plain.piece(start);
        let content = self.plain.content(start, most);
        assert!((least..=most).contains(&draft.room()));
        let mut written = 0;
        for write in writes {
            let len = write.of(self.plain.max_block);
            if len > draft.room() - written {
                self.producer.extend(&mut draft, written + len);
                // It has grown to at least the room that is needed, or to all there is.
                let all = most.max(least);
                assert!(draft.room() == all || (written + len..all).contains(&draft.room()));
            }
            if len <= draft.room() - written {
                self.producer.write(&draft, written, &content[written..written + len]);
                written += len;
            }
        }
        if written >= HEADER {
            let first = u64::from_ne_bytes(content[..HEADER].try_into().unwrap());
            self.producer.write(&draft, 0, &[0xff; HEADER]);
            self.producer.write_first_word(&draft, first);
        }
        if let Some(cut) = cut {
            // Taken back, and begun again with less.
            self.producer.take_back(&draft, written);
            self.is_overwritten(start, written);
            written = cut.of(self.plain.max_block).min(written);
            self.producer.write(&draft, 0, &content[..written]);
        }
        let block = content[..written].to_vec();
        let mut back = b"kept".to_vec();
        self.producer.read_back(&draft, written / 2..written, &mut back);
        assert_eq!(back, [b"kept", &block[written / 2..]].concat());
        if commit {
            self.producer.commit_draft(&draft, written);
            self.producer.notify();
            self.plain.commit(start, block);
        } else if !self.plain.leaks() {
            self.producer.take_back(&draft, written);
            self.is_overwritten(start, written);
        }
    }

    fn batch(&mut self, lens: &[Len], commit: bool) {
        let mut at = self.plain.tail;
        let mut pushed = Vec::new();
        let mut batch = self.producer.batch();
        for len in lens {
            let len = len.of(self.plain.max_block);
            let place = self.plain.place(at, len);
            let block = self.plain.content(place.unwrap_or(0), len);
            assert_eq!(batch.push(&block), place.map(|_| ()));
            if let Ok(start) = place {
                at = start + record_size(len);
                pushed.push((start, block));
            }
        }
        if commit {
            batch.commit();
            for (start, block) in pushed {
                self.plain.commit(start, block);
            }
        } else if self.plain.leaks() {
            std::mem::forget(batch);
        } else {
            drop(batch);
            for (start, block) in pushed {
                self.is_overwritten(start, block.len());
            }
        }
    }

    fn recv(&mut self) {
        let got = self.consumer.try_recv(&mut self.into);
        if let Some(end) = self.plain.take(got, &self.into) {
            self.plain.head = end;
        }
    }

    fn incoming(&mut self, reads: &[(usize, usize)], release: bool) {
        let nothing = self.plain.nothing();
        let incoming = match (self.consumer.try_recv_ref(), self.plain.blocks.front()) {
            (Ok(Some(incoming)), Some(_)) => incoming,
            (got, None) => return assert_eq!(got.map(|found| found.map(|block| block.len())), nothing),
            (Ok(None), Some(_)) => panic!("nothing in place of a block"),
            (Err(error), Some(_)) => panic!("{error} in place of a block"),
        };
        let (start, block) = self.plain.blocks.front().unwrap();
        assert_eq!((incoming.len(), incoming.is_empty()), (block.len(), block.is_empty()));
        assert_eq!(incoming.first_word().as_ref(), block.first_chunk::<8>());
        for (from, len) in reads {
            let from = from % (block.len() + 1);
            let mut part = vec![0; len % (block.len() - from + 1)];
            incoming.read_at(from, &mut part);
            assert_eq!(part, block[from..from + part.len()]);
            let mut rest = b"kept".to_vec();
            incoming.append_to(from, &mut rest);
            assert_eq!(rest, [b"kept", &block[from..]].concat());
        }
        // Padding before the block was given back when the block was found.
        self.plain.head = *start;
        if release {
            incoming.release();
            self.plain.head += record_size(block.len());
            self.plain.blocks.pop_front();
        }
    }
}

impl Pair {
    /// While a drain goes on, it withholds less than a quarter of the ring, and nothing after a look that
    /// found nothing.
    fn drain(&mut self, steps: &[Option<Len>]) {
        let Pair { setup, producer, consumer, plain, into } = self;
        let mut taken = plain.head;
        let mut drain = consumer.drain();
        for step in steps {
            if let Some(len) = step {
                plain.send(producer, *len);
                continue;
            }
            match plain.take(drain.try_recv(into), into) {
                Some(end) => taken = end,
                None => plain.head = taken,
            }
            // Once it is closed, nobody waits for room.
            if plain.closed.is_none() {
                let given = setup.view.word64(HEAD).load(Ordering::Relaxed);
                assert!((plain.head..=taken).contains(&given), "given back {given} of {taken}");
                assert!(taken - given < plain.capacity / 4, "given back only {given} of {taken}");
                plain.head = given;
            }
        }
        drop(drain);
        plain.head = taken;
    }
}

fn reasons() -> impl Strategy<Value = CloseReason> {
    prop_oneof![Just(CloseReason::LOCAL), Just(CloseReason::ABOVE), Just(CloseReason::ANOTHER)]
}

proptest! {
    // 1,536, or six times as many as PROPTEST_CASES says.
    #![proptest_config(ProptestConfig {
        cases: 6 * ProptestConfig::default().cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_answer_is_the_plain_queues(
        shape in any_shape(),
        ops in vec(any_op(), 1..80),
        close in reasons(),
        after in vec(any_op(), 0..10),
        other in reasons(),
    ) {
        let mut pair = Pair::new(&shape);
        for op in ops.iter().chain([&Op::Close(close)]).chain(&after).chain([&Op::Close(other)]) {
            pair.run(op);
        }
        // What was committed before the close comes out, and then the end, again and again.
        for _ in 0..pair.plain.blocks.len() + 2 {
            pair.run(&Op::Recv);
        }
    }

    /// An empty ring takes its largest block, wherever it stands.
    #[test]
    fn an_empty_ring_has_room_for_the_largest_block(shape in any_shape(), lines in 0..64usize) {
        let mut pair = Pair::new(&shape);
        for _ in 0..lines {
            pair.run(&Op::Send(Len::Any(0)));
            pair.run(&Op::Recv);
        }
        prop_assert_eq!(pair.producer.try_send(&vec![1; shape.max_block]), Ok(()));
        prop_assert_eq!(pair.consumer.try_recv(&mut pair.into), Ok(Some(shape.max_block)));
    }
}
