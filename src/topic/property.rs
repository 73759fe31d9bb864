//! A topic against a plain log: whatever is published, read and joined in any order, each reader gets what
//! the log says, and counts what it does not get.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::shape::FIRST;
use super::*;
use crate::ring::{Deadline, Kick, WaitStrategy};
use crate::shm::{Segment, View};
use crate::wire::{Key, Name, Peer, Policy};

#[derive(Debug, Clone)]
enum Act {
    Send(usize),
    /// Skip so many numbers.
    Skip(u64),
    /// In place: how much room is asked for, how much is written, and whether it is published.
    Grant(usize, usize, bool),
    /// A reader joins.
    Join(u8, Start),
    /// One of the readers takes so many samples, in place or not.
    Take(usize, usize, bool),
    Leave(usize),
    /// Go on in another segment.
    Succeed,
}

const MOST: usize = 4096 / 4 - 8;

fn act() -> impl Strategy<Value = Act> {
    let start = prop_oneof![
        Just(Start::Now),
        Just(Start::Beginning),
        Just(Start::New),
        (0..80_u64).prop_map(Start::Last)
    ];
    prop_oneof![
        8 => prop_oneof![0..130_usize, 0..=MOST].prop_map(Act::Send),
        1 => prop_oneof![0..5_u64, 0..1_u64 << 40].prop_map(Act::Skip),
        2 => (0..=MOST, 0..=MOST, any::<bool>()).prop_map(|(len, written, commit)| Act::Grant(len, written, commit)),
        2 => (0..3_u8, start).prop_map(|(policy, start)| Act::Join(policy, start)),
        5 => (any::<usize>(), 0..40_usize, any::<bool>()).prop_map(|(who, most, view)| Act::Take(who, most, view)),
        1 => any::<usize>().prop_map(Act::Leave),
        1 => Just(Act::Succeed),
    ]
}

/// A reader, and what it must get.
struct Expecting {
    id: u64,
    reader: Reader,
    policy: Policy,
    /// The sequence of the next sample, if none is missed.
    next: u64,
    /// Its segment ends before this sequence, once the writer has gone on.
    until: Option<u64>,
    /// From this sample on the publisher waits for it.
    owed_from: u64,
}

struct Stage {
    shape: Shape,
    view: View,
    audience: Audience,
    writer: Writer,
    log: Log,
    /// The number that the next sample has, and the numbers that it had before the segment's first sample,
    /// and before the first that was published in it.
    published: u64,
    began: u64,
    new: u64,
    readers: Vec<Expecting>,
    next_id: u64,
}

/// All samples, by their sequence.
type Log = BTreeMap<u64, Vec<u8>>;

fn payload(sequence: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (sequence as usize * 31 + at) as u8).collect()
}

fn memory(shape: Shape) -> View {
    View::new(Segment::anonymous(shape.segment_len()).unwrap())
}

impl Stage {
    fn new() -> Stage {
        let shape = Shape::new(4096).unwrap();
        let (view, audience) = (memory(shape), Audience::new(Some(Duration::from_secs(3600))).unwrap());
        let writer = Writer::new(view.clone(), shape, 0, audience.clone(), WaitStrategy::Park);
        Stage {
            shape,
            view,
            audience,
            writer,
            log: Log::new(),
            published: 0,
            began: 0,
            new: 0,
            readers: Vec::new(),
            next_id: 0,
        }
    }

    fn is_published(&mut self, sample: Vec<u8>) {
        self.log.insert(self.published, sample);
        self.published += 1;
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send(len) => {
                let sample = payload(self.published, len);
                match self.writer.try_send(&sample) {
                    Ok(()) => self.is_published(sample),
                    Err(unsent) => self.check_full(unsent, Unsent::Full),
                }
            }
            // In one step or in two, and not again before a sample, so that it takes two lines at most.
            Act::Skip(numbers)
                if self
                    .log
                    .range(self.new..)
                    .next_back()
                    .is_some_and(|last| last.0 + 1 == self.published) =>
            {
                let before = self.published;
                for skipped in [numbers / 2, numbers] {
                    match self.writer.skip_to(before + skipped, Duration::ZERO.into()) {
                        Ok(()) => self.published = before + skipped,
                        Err(unsent) => self.check_full(unsent, Unsent::TimedOut),
                    }
                }
            }
            Act::Grant(len, written, commit) => {
                let sample = payload(self.published, written.min(len));
                // It would wait for reliable readers.
                if self.readers.iter().any(|one| one.policy == Policy::Reliable && one.until.is_none()) {
                    return;
                }
                let mut grant = self.writer.grant(len, Deadline::NEVER).unwrap();
                grant.write_all(&sample).unwrap();
                if commit {
                    grant.commit();
                    self.is_published(sample);
                }
            }
            Act::Join(policy, start) => self.join(policy, start),
            Act::Take(who, most, view) if !self.readers.is_empty() => {
                let who = who % self.readers.len();
                let one = &mut self.readers[who];
                (0..most).all(|_| one.take(&self.log, view));
            }
            Act::Leave(who) if !self.readers.is_empty() => {
                let one = self.readers.swap_remove(who % self.readers.len());
                one.reader.leave();
                self.audience.leave(one.id);
            }
            Act::Succeed => {
                self.view = memory(self.shape);
                self.audience.succeed(self.view.clone(), self.shape);
                // It goes on with the next sample.
                let (sample, until) = (payload(self.published, 9), self.published);
                self.writer.try_send(&sample).unwrap();
                self.is_published(sample);
                for one in &mut self.readers {
                    one.until.get_or_insert(until);
                }
                self.began = self.view.word64(FIRST).load(Ordering::Relaxed) - 1;
                self.new = until;
            }
            Act::Skip(_) | Act::Take(..) | Act::Leave(_) => {}
        }
    }

    /// Only a reliable reader that has something to read holds the writer up.
    fn check_full(&self, unsent: Unsent, expected: Unsent) {
        assert_eq!(unsent, expected);
        let holds_up = |one: &Expecting| {
            one.policy == Policy::Reliable && one.until.is_none() && one.next < self.published
        };
        assert!(self.readers.iter().any(holds_up));
    }

    fn join(&mut self, policy: u8, start: Start) {
        let policy = Policy::from_code(policy).unwrap();
        let page = View::new(Segment::anonymous(4096).unwrap());
        let id = self.next_id;
        self.next_id += 1;
        let ends = (page.clone(), id as u16 % MOST_LINE, Kick::default());
        let reader = Reader::new(self.view.clone(), self.shape, ends, 0, start, policy);
        self.audience.admit(Newcomer {
            id,
            peer: Peer { name: Name::new("bob").unwrap(), key: Key::from_u128(1), pid: 1, uid: 1, gid: 1 },
            page,
            line: id as u16 % MOST_LINE,
            may_sleep: true,
            reliable: policy == Policy::Reliable,
            from_beginning: matches!(start, Start::Beginning | Start::New),
            kick: Kick::default(),
            pipe: None,
        });
        let next = match start {
            Start::Beginning => self.began,
            Start::New => self.new,
            Start::Now | Start::Last(_) => reader.next_sequence().max(self.began),
        };
        let published = self.published;
        let samples = |from: u64| self.log.range(from..).count() as u64;
        match start {
            // Before the first sample it begins at the beginning.
            Start::Now => assert!(next == published || samples(self.began) == 0),
            Start::Last(most) => {
                assert!(samples(next) <= most);
                // Of the shortest samples, three quarters of the ring are there in any case, less a part.
                // What is skipped takes two lines.
                let mut before = next;
                let lens: usize = self
                    .log
                    .range(next..)
                    .map(|(&sequence, sample)| {
                        let gap = if sequence > before { 128 } else { 0 };
                        before = sequence + 1;
                        (sample.len() + 8).div_ceil(64) * 64 + gap
                    })
                    .sum();
                assert!(
                    samples(next) == most.min(samples(self.began)) || lens >= 1024,
                    "{next} {published} {most}"
                );
            }
            Start::Beginning | Start::New => {}
        }
        self.readers.push(Expecting { id, reader, policy, next, until: None, owed_from: published });
    }
}

impl Expecting {
    /// Takes a sample, if there is one, and compares it with the log.
    fn take(&mut self, log: &Log, in_place: bool) -> bool {
        let until = self.until.unwrap_or(u64::MAX);
        let mut sample = Vec::new();
        let taken = if in_place {
            self.reader.try_view().unwrap().map(|view| {
                sample.resize(view.len(), 0);
                view.copy_out(0, &mut sample).unwrap();
                assert_eq!(view.check(), Ok(()));
                view.taken
            })
        } else {
            self.reader.try_take(&mut sample).unwrap()
        };
        let Some(Taken { sequence, missed }) = taken else {
            assert_eq!(log.range(self.next..until).count(), 0, "nothing is left out");
            assert_eq!(self.reader.ended().is_some(), self.until.is_some());
            return false;
        };
        assert_eq!(sequence, self.next + missed, "every gap is counted");
        assert_eq!(sample, log[&sequence]);
        if self.policy == Policy::Latest {
            assert_eq!(log.range(..until).next_back().map(|(last, _)| *last), Some(sequence));
        }
        if self.policy == Policy::Reliable {
            let owed = self.next.max(self.owed_from).min(sequence);
            assert_eq!(log.range(owed..sequence).count(), 0, "what is owed is not missed");
        }
        self.next = sequence + 1;
        true
    }
}

proptest! {
    #[test]
    fn every_reader_gets_what_the_log_says(acts in vec(act(), 0..400)) {
        let mut stage = Stage::new();
        for act in acts {
            stage.act(act);
        }
        let Stage { log, readers, .. } = &mut stage;
        for one in readers {
            while one.take(log, false) {}
        }
    }
}
