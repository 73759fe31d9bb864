//! Behaviour of a topic's ring within one process: the memory is mapped twice where that matters.
//!
//! Long because all of it needs the same few writers and readers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod gaps;
#[cfg(not(loom))] // Modelled memory has no addresses.
mod in_place;

use super::*;
use crate::channel::{self, Geometry, Host, NewestFigures};
use crate::ring::{CloseReason, Deadline, Kick, WaitStrategy};
use crate::shm::{Segment, View};
use crate::wire::{Key, Name, Peer, Policy};

fn peer(uid: u32) -> Peer {
    Peer { name: Name::new("bob").unwrap(), key: Key::from_u128(1), pid: 1, uid, gid: 1 }
}

/// A topic's memory, and audiences, writers and readers on it.
struct Stage {
    view: View,
    shape: Shape,
    audience: Audience,
    next_id: u64,
}

impl Stage {
    fn new(ring_size: usize, patience: Option<Duration>) -> Stage {
        let shape = Shape::new(ring_size).unwrap();
        let view = View::new(Segment::anonymous(shape.segment_len()).unwrap());
        Stage { view, shape, audience: Audience::new(patience).unwrap(), next_id: 1 }
    }

    fn writer(&self) -> Writer {
        Writer::new(self.view.clone(), self.shape, 0, self.audience.clone(), WaitStrategy::Park)
    }

    fn reader(&mut self, start: Start, policy: Policy) -> Reader {
        self.reader_of(start, policy, 70_001)
    }

    fn reader_of(&mut self, start: Start, policy: Policy, uid: u32) -> Reader {
        let page = View::new(Segment::anonymous(4096).unwrap());
        let (id, line) = (self.next_id, self.next_id as u16 % MOST_LINE);
        self.next_id += 1;
        let ends = (page.clone(), line, Kick::default());
        let reader = Reader::new(self.view.clone(), self.shape, ends, 0, start, policy);
        self.audience.admit(Newcomer {
            id,
            peer: peer(uid),
            page,
            line,
            may_sleep: true,
            reliable: policy == Policy::Reliable,
            from_beginning: start == Start::Beginning,
            kick: Kick::default(),
            pipe: None,
        });
        reader
    }
}

fn take(reader: &mut Reader) -> Option<(Taken, Vec<u8>)> {
    let mut sample = Vec::new();
    reader.try_take(&mut sample).unwrap().map(|taken| (taken, sample))
}

fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(len.max(8), number as u8);
    payload
}

#[test]
fn every_reader_gets_every_sample() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut readers: Vec<Reader> = (0..3).map(|_| stage.reader(Start::Now, Policy::Lossy)).collect();
    let lens = [0, 1, 8, 55, 56, 57, 100, 119, 120, 121, 300, 1016];
    for (sequence, len) in (0..).zip(lens.into_iter().cycle().take(500)) {
        let payload = vec![sequence as u8; len];
        writer.send(&payload, Deadline::NEVER).unwrap();
        for reader in &mut readers {
            assert_eq!(take(reader), Some((Taken { sequence, missed: 0 }, payload.clone())));
            assert_eq!(take(reader), None);
            assert_eq!(reader.lag(), 0);
        }
    }
    assert_eq!(writer.try_send(&[0; 1017]), Err(Unsent::TooLarge));
    drop(writer);
    for reader in &readers {
        assert_eq!(reader.ended(), Some(Ended::Closed));
    }
}

#[test]
fn a_lapped_reader_goes_on_at_the_oldest_whole_sample_and_counts_the_rest() {
    for len in [8, 56, 57, 200, 500, 1016] {
        let mut stage = Stage::new(4096, None);
        let mut writer = stage.writer();
        let mut reader = stage.reader(Start::Now, Policy::Lossy);
        let mut next = 0;
        for round in 0..200 {
            for _ in 0..(round * 7) % 130 {
                let sequence = writer.next_sequence();
                writer.send(&numbered(sequence, len), Deadline::NEVER).unwrap();
            }
            let mut some = 0;
            while let Some((taken, sample)) = take(&mut reader) {
                assert_eq!(taken.sequence, next + taken.missed, "{len}");
                assert_eq!(sample, numbered(taken.sequence, len));
                next = taken.sequence + 1;
                some += 1;
            }
            assert_eq!(next, writer.next_sequence());
            if round * 7 % 130 > 64 {
                // At least as much as the intent leaves: the largest sample fits three times.
                assert!(some * (len + 8).div_ceil(64) * 64 >= 1024, "{some} of {len}");
            }
        }
    }
}

#[test]
fn the_newest_is_what_a_reader_of_the_latest_gets() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Latest);
    assert_eq!(take(&mut reader), None);
    let mut next = 0;
    for count in (1..150).chain(1..150) {
        for _ in 0..count {
            let sequence = writer.next_sequence();
            writer.send(&numbered(sequence, 8 + sequence as usize % 200), Deadline::NEVER).unwrap();
        }
        let (taken, sample) = take(&mut reader).unwrap();
        let last = writer.next_sequence() - 1;
        assert_eq!((taken.sequence, taken.missed), (last, last - next));
        assert_eq!(sample, numbered(last, 8 + last as usize % 200));
        assert_eq!(take(&mut reader), None);
        next = last + 1;
    }
}

#[test]
fn a_late_reader_begins_where_it_wants() {
    for published in [0, 1, 5, 60, 64, 65, 100, 1000] {
        let mut stage = Stage::new(4096, None);
        let mut writer = stage.writer();
        for sequence in 0..published {
            writer.send(&numbered(sequence, 8 + sequence as usize % 90), Deadline::NEVER).unwrap();
        }
        let mut now = stage.reader(Start::Now, Policy::Lossy);
        assert_eq!((take(&mut now), now.next_sequence()), (None, published));
        for most in [1, 3, 10, 1000] {
            let mut late = stage.reader(Start::Last(most), Policy::Lossy);
            let mut got = Vec::new();
            while let Some((taken, sample)) = take(&mut late) {
                assert_eq!(taken.missed, 0);
                assert_eq!(sample, numbered(taken.sequence, 8 + taken.sequence as usize % 90));
                got.push(taken.sequence);
            }
            let expected = most.min(published).min(20);
            assert!(got.len() as u64 >= expected && got.len() as u64 <= most, "{published} {most} {got:?}");
            assert!(got.iter().rev().zip((0..published).rev()).all(|(got, expected)| *got == expected));
        }
        let mut first = stage.reader(Start::Beginning, Policy::Lossy);
        if let Some((taken, _)) = take(&mut first) {
            assert_eq!(taken.sequence, taken.missed);
        }
        writer.send(b"one more", Deadline::NEVER).unwrap();
        assert_eq!(take(&mut now), Some((Taken { sequence: published, missed: 0 }, b"one more".to_vec())));
    }
}

#[test]
fn a_publisher_waits_for_reliable_readers_and_for_nobody_else() {
    let mut stage = Stage::new(4096, Some(Duration::from_secs(600)));
    let mut writer = stage.writer();
    let mut idle = stage.reader(Start::Now, Policy::Lossy);
    let mut reader = stage.reader(Start::Now, Policy::Reliable);
    assert_eq!(reader.state(), State::Attached);
    let mut sent = 0;
    while writer.try_send(&numbered(sent, 8)).is_ok() {
        sent += 1;
    }
    assert!((56..64).contains(&sent), "{sent}");
    assert_eq!(writer.try_send(b"x"), Err(Unsent::Full));
    assert_eq!(writer.send(b"x", Instant::now().into()), Err(Unsent::TimedOut));
    for sequence in 0..2000 {
        let (taken, sample) = take(&mut reader).unwrap();
        assert_eq!((taken, sample), (Taken { sequence, missed: 0 }, numbered(sequence, 8)));
        if writer.try_send(&numbered(sent, 8)).is_ok() {
            sent += 1;
        }
    }
    assert!(take(&mut idle).unwrap().0.missed > 1000);
    assert!(stage.audience.take_evictions().is_empty());
    // One that leaves is not waited for.
    while writer.try_send(b"x").is_ok() {}
    reader.leave();
    (0..200).for_each(|_| writer.try_send(b"x").unwrap());
}

#[test]
fn a_reliable_reader_gets_all_while_it_is_waited_for_by_another_thread() {
    const SAMPLES: u64 = 20_000;
    let mut stage = Stage::new(4096, Some(Duration::from_secs(600)));
    let mut writer = stage.writer();
    let readers: Vec<Reader> = (0..2).map(|_| stage.reader(Start::Now, Policy::Reliable)).collect();
    std::thread::scope(|scope| {
        for mut reader in readers {
            scope.spawn(move || {
                for sequence in 0..SAMPLES {
                    let (taken, sample) = loop {
                        match take(&mut reader) {
                            Some(taken) => break taken,
                            None => sleep(&mut reader),
                        }
                    };
                    assert_eq!((taken, sample), (Taken { sequence, missed: 0 }, numbered(sequence, 8)));
                }
                reader.leave();
            });
        }
        for sequence in 0..SAMPLES {
            writer.send(&numbered(sequence, 8), Deadline::NEVER).unwrap();
        }
    });
}

fn sleep(reader: &mut Reader) {
    reader.park();
    if !reader.is_pending() {
        crate::shm::futex::wait(&[reader.as_wait()], Some(Instant::now() + Duration::from_secs(60)));
    }
    reader.unpark();
}

#[test]
fn a_reader_that_stalls_is_evicted_told_and_banned() {
    let mut stage = Stage::new(4096, Some(Duration::from_millis(1)));
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Reliable);
    (0..500).for_each(|number| writer.send(&numbered(number, 8), Deadline::NEVER).unwrap());
    assert_eq!(stage.audience.take_evictions(), [Gone { peer: peer(70_001), why: State::Stalled }]);
    assert!(stage.audience.take_evictions().is_empty() && stage.audience.count() == 0);
    let banned = stage.reader(Start::Now, Policy::Reliable);
    assert_eq!(banned.state(), State::Refused);
    let mut sample = Vec::new();
    let fault = loop {
        match reader.try_take(&mut sample) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it must be told"),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault, Fault::GivenUp(State::Stalled));
    assert_eq!(stage.reader_of(Start::Now, Policy::Reliable, 70_002).state(), State::Attached);
    assert_eq!(stage.reader(Start::Now, Policy::Lossy).state(), State::Attached);
}

#[test]
fn a_topic_that_offers_nothing_reliable_refuses() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Reliable);
    assert_eq!((reader.state(), stage.audience.count()), (State::Refused, 0));
    assert!(reader.is_pending());
    assert_eq!(reader.try_take(&mut Vec::new()), Err(Fault::GivenUp(State::Refused)));
    (0..200).for_each(|_| writer.try_send(b"x").unwrap());
}

#[test]
fn a_publisher_goes_on_in_another_segment() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    (0..10).for_each(|number| writer.send(&numbered(number, 8), Deadline::NEVER).unwrap());
    let view = View::new(Segment::anonymous(stage.shape.segment_len()).unwrap());
    stage.audience.succeed(view.clone(), stage.shape);
    writer.send(&numbered(10, 8), Deadline::NEVER).unwrap();
    for sequence in 0..10 {
        assert_eq!(reader.ended(), None);
        assert_eq!(take(&mut reader).unwrap().0.sequence, sequence);
    }
    assert_eq!((take(&mut reader), reader.ended()), (None, Some(Ended::Moved)));
    let again = |start| {
        let page = View::new(Segment::anonymous(4096).unwrap());
        Reader::new(view.clone(), stage.shape, (page, 0, Kick::default()), 0, start, Policy::Lossy)
    };
    for sequence in [10, 7] {
        let mut reader = again(Start::Beginning);
        reader.resume(sequence);
        assert_eq!(take(&mut reader), Some((Taken { sequence, missed: 0 }, numbered(sequence, 8))));
    }
    let mut late = again(Start::Last(5));
    assert_eq!(take(&mut late), Some((Taken { sequence: 6, missed: 0 }, numbered(6, 8))));
    let mut new = again(Start::New);
    assert_eq!(take(&mut new), Some((Taken { sequence: 10, missed: 0 }, numbered(10, 8))));
    let mut reader = again(Start::Beginning);
    reader.resume(11);
    assert_eq!((take(&mut reader), reader.next_sequence()), (None, 11));
}

/// Whoever has a later segment alone has the newest samples, also if the writer does nothing meanwhile.
#[test]
fn a_publisher_takes_its_newest_samples_along() {
    for (ring_size, larger) in [(4096, 4096), (4096, 16384), (8192, 4096)] {
        let stage = Stage::new(ring_size, None);
        let mut writer = stage.writer();
        (0..300).for_each(|number| writer.send(&numbered(number, 100), Deadline::NEVER).unwrap());
        let shape = Shape::new(larger).unwrap();
        let mut sent = 300;
        // When it is to go on the first time it has nothing to say, and is to go on once more.
        for says in [false, true, true].into_iter().take(if larger < ring_size { 2 } else { 3 }) {
            let next = View::new(Segment::anonymous(shape.segment_len()).unwrap());
            stage.audience.succeed(next.clone(), shape);
            let carried = larger >= ring_size;
            let begin = |start| {
                let page = View::new(Segment::anonymous(4096).unwrap());
                Reader::new(next.clone(), shape, (page, 0, Kick::default()), 0, start, Policy::Lossy)
            };
            let mut all = begin(Start::Beginning);
            let found: Vec<_> = std::iter::from_fn(|| take(&mut all)).collect();
            let first = sent - found.len() as u64;
            let enough = (ring_size / 2 / 128 - 1) as u64;
            assert!(!carried && found.is_empty() || sent - first >= enough, "{first} {sent}");
            for (number, (taken, sample)) in (first..).zip(found) {
                assert_eq!((taken, sample), (Taken { sequence: number, missed: 0 }, numbered(number, 100)));
            }
            let (mut new, mut last) = (begin(Start::New), begin(Start::Last(1)));
            assert_eq!(take(&mut new), None);
            assert_eq!(take(&mut last).map(|(taken, _)| taken.sequence), carried.then_some(sent - 1));
            if !says {
                continue;
            }
            writer.send(&numbered(sent, 100), Deadline::NEVER).unwrap();
            for reader in [&mut all, &mut new] {
                let taken = take(reader).map(|(taken, sample)| (taken.sequence, sample));
                assert_eq!(taken, Some((sent, numbered(sent, 100))));
            }
            sent += 1;
        }
    }
}

/// However quick it is: each segment has what came before, and nothing twice.
#[test]
fn a_publisher_that_never_pauses_takes_its_newest_samples_along() {
    each_segment_goes_on(|_| 0);
}

/// Publishes without pause, skipping so many numbers before each, while its segments follow each other: each
/// has the numbers of the one before.
fn each_segment_goes_on(skipped: fn(u64) -> u64) {
    let stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let skipped = skipped(number);
                if skipped > 0 {
                    number += skipped;
                    writer.skip_to(number, Deadline::NEVER).unwrap();
                }
                let len = [8, 60, 1016][number as usize % 3];
                writer.send(&numbered(number, len), Deadline::NEVER).unwrap();
                number += 1;
                sent.store(number, Ordering::Release);
            }
        });
        for _ in 0..2000 {
            let view = View::new(Segment::anonymous(stage.shape.segment_len()).unwrap());
            let before = sent.load(Ordering::Acquire);
            stage.audience.succeed(view.clone(), stage.shape);
            let page = View::new(Segment::anonymous(4096).unwrap());
            let page = (page, 0, Kick::default());
            let mut reader = Reader::new(view, stage.shape, page, 0, Start::Beginning, Policy::Lossy);
            let mut next = None;
            while next.is_none_or(|next| next < before) {
                let Some((taken, sample)) = take(&mut reader) else {
                    std::thread::yield_now();
                    continue;
                };
                assert!(next.is_none_or(|next| taken.sequence == next + taken.missed));
                assert_eq!(sample[..8], taken.sequence.to_le_bytes());
                next = Some(taken.sequence + 1);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_closed_audience_ends_the_writer() {
    let stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    stage.audience.close(CloseReason::LOCAL);
    assert_eq!(writer.send(b"x", Deadline::NEVER), Err(Unsent::Ended(CloseReason::LOCAL)));
    assert!(matches!(writer.grant(1, Deadline::NEVER), Err(Unsent::Ended(_))));
}

#[test]
fn a_reader_that_lets_itself_be_woken_for_nothing_is_given_up() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    for _ in 0..100 {
        reader.park();
        writer.try_send(b"x").unwrap();
    }
    assert_eq!(stage.audience.take_evictions().len(), 1);
    assert_eq!(reader.state(), State::BrokeRules);
}

/// The second pass begins only when the readers that were promised are there.
#[test]
fn a_writer_expects_the_readers_that_were_there_before_it() {
    let mut stage = Stage::new(4096, Some(Duration::from_secs(600)));
    let mut writer = stage.writer();
    stage.audience.expect(1, Instant::now() + Duration::from_secs(600));
    let mut sent = 0;
    while writer.try_send(&numbered(sent, 8)).is_ok() {
        sent += 1;
    }
    assert!(sent >= 59, "{sent}");
    let mut reader = stage.reader(Start::Beginning, Policy::Reliable);
    // What came before it was attached is not overwritten either.
    assert_eq!(writer.try_send(b"x"), Err(Unsent::Full));
    for sequence in 0..sent {
        assert_eq!(take(&mut reader).unwrap().0, Taken { sequence, missed: 0 });
    }
    assert_eq!(take(&mut reader), None);
    writer.try_send(b"x").unwrap();
    // One that came before that was said is not waited for.
    let mut early = Stage::new(4096, Some(Duration::from_secs(600)));
    let mut writer = early.writer();
    let mut reader = early.reader(Start::Beginning, Policy::Reliable);
    early.audience.expect(1, Instant::now() + Duration::from_secs(600));
    for sequence in 0..200 {
        writer.try_send(b"x").unwrap();
        assert_eq!(take(&mut reader).unwrap().0, Taken { sequence, missed: 0 });
    }
    // One that came later than the topic is none of those.
    let mut other = Stage::new(4096, Some(Duration::from_secs(600)));
    let mut writer = other.writer();
    let mut reader = other.reader(Start::Now, Policy::Reliable);
    other.audience.expect(1, Instant::now() + Duration::from_secs(600));
    let sent = (0..200).take_while(|_| writer.try_send(b"x").is_ok() && take(&mut reader).is_some()).count();
    assert!(sent < 100, "{sent}");
    let mut owed = other.reader(Start::Beginning, Policy::Reliable);
    assert_eq!(take(&mut owed).unwrap().0, Taken { sequence: 0, missed: 0 });
    // A time that is over holds nobody up.
    let late = Stage::new(4096, Some(Duration::from_secs(600)));
    let mut writer = late.writer();
    late.audience.expect(1, Instant::now());
    (0..200).for_each(|_| writer.try_send(b"x").unwrap());
}

/// Its own page is all that a reader can forge.
#[test]
fn a_reader_whose_cursor_cannot_be_is_given_up() {
    // Beyond the tail; and back from where it was.
    for forged in [1 << 40, 64] {
        let mut stage = Stage::new(4096, Some(Duration::from_secs(600)));
        let mut writer = stage.writer();
        let page = View::new(Segment::anonymous(4096).unwrap());
        stage.audience.admit(Newcomer {
            id: 99,
            peer: peer(70_001),
            page: page.clone(),
            line: 3,
            may_sleep: false,
            reliable: true,
            from_beginning: false,
            kick: Kick::default(),
            pipe: None,
        });
        let honest = stage.reader_of(Start::Now, Policy::Lossy, 70_002);
        let cursor =
            |position: u64| page.word64(4 * 64).store(position, std::sync::atomic::Ordering::Relaxed);
        let mut sent = 0;
        for position in [640, 1280, forged] {
            cursor(position);
            while sent < 200 && writer.try_send(b"x").is_ok() {
                sent += 1;
            }
        }
        assert_eq!(stage.audience.take_evictions(), [Gone { peer: peer(70_001), why: State::BrokeRules }]);
        assert_eq!((sent, honest.state(), stage.audience.count()), (200, State::Attached, 1), "{forged}");
    }
}

/// A writer that waits for a reader is told to go on elsewhere: it must not overwrite what that reader still
/// has to read.
#[test]
fn a_writer_that_waits_goes_on_in_another_segment_and_overwrites_nothing() {
    let mut stage = Stage::new(4096, Some(Duration::from_secs(600)));
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Reliable);
    let mut sent = 0;
    while writer.try_send(&numbered(sent, 8)).is_ok() {
        sent += 1;
    }
    let view = View::new(Segment::anonymous(stage.shape.segment_len()).unwrap());
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| writer.send(&numbered(sent, 8), Deadline::NEVER));
        while !stage.audience.is_waited_for() {
            std::thread::yield_now();
        }
        stage.audience.succeed(view.clone(), stage.shape);
        assert_eq!(sending.join().unwrap(), Ok(()));
    });
    for sequence in 0..sent {
        assert_eq!(take(&mut reader).unwrap().0, Taken { sequence, missed: 0 });
    }
    assert_eq!((take(&mut reader), reader.ended()), (None, Some(Ended::Moved)));
    let page = View::new(Segment::anonymous(4096).unwrap());
    let ends = (page, 0, Kick::default());
    let mut next = Reader::new(view, stage.shape, ends, 0, Start::Beginning, Policy::Reliable);
    next.resume(reader.next_sequence());
    assert_eq!(take(&mut next), Some((Taken { sequence: sent, missed: 0 }, numbered(sent, 8))));
}

/// A client's channel, and where its figures are told.
fn counted() -> (Host, NewestFigures) {
    let geometry = Geometry::new(4096).unwrap();
    let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
    let guest = channel::open_for_client(descriptor, WaitStrategy::Park).unwrap();
    let figures = NewestFigures::default();
    figures.set(guest.figures);
    (host, figures)
}

#[test]
fn what_is_published_and_taken_is_told_to_who_looks() {
    let (host, figures) = counted();
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    writer.counted_in(figures.clone());
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    reader.counted_in(figures);
    let mut send = |count| (0..count).for_each(|_| writer.send(&[7; 100], Deadline::NEVER).unwrap());
    send(5);
    while take(&mut reader).is_some() {}
    reader.park();
    let told = host.figures.samples();
    assert_eq!((told.taken, told.taken_bytes, told.missed), (5, 5 * 128, 0), "before it sleeps");
    reader.unpark();
    assert!(told.published >= 3, "at each new part of the ring: {told:?}");
    // So many that the reader is lapped.
    send(100);
    let (mut taken, mut missed) = (5, 0);
    while let Some((sample, _)) = take(&mut reader) {
        (taken, missed) = (taken + 1, missed + sample.missed);
    }
    assert!(missed > 0);
    for _ in 0..300 {
        assert!(take(&mut reader).is_none());
    }
    let told = host.figures.samples();
    assert_eq!((told.taken, told.taken_bytes, told.missed), (taken, taken * 128, missed));
    // Without a look that finds nothing.
    send(1);
    assert!(take(&mut reader).is_some());
    drop(reader);
    assert_eq!(host.figures.samples().taken, taken + 1, "at its end");
    drop(writer);
    let told = host.figures.samples();
    assert_eq!((told.published, told.published_bytes), (106, 106 * 128), "at its end");
}

/// It may never find nothing.
#[test]
fn a_reader_that_always_finds_something_tells_as_it_goes() {
    let (host, figures) = counted();
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Beginning, Policy::Lossy);
    reader.counted_in(figures);
    for count in 1..200 {
        writer.send(b"sample", Deadline::NEVER).unwrap();
        assert!(take(&mut reader).is_some());
        let told = host.figures.samples().taken;
        assert!(told <= count && told + 4 >= count, "{told} of {count}: each sixteenth of the ring");
    }
}

/// What it passes over to go on where it was in another segment, it neither took nor missed.
#[test]
fn a_reader_that_goes_on_elsewhere_counts_nothing_twice() {
    let (host, figures) = counted();
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    (0..20).for_each(|_| writer.send(b"sample", Deadline::NEVER).unwrap());
    let mut reader = stage.reader(Start::Beginning, Policy::Lossy);
    reader.counted_in(figures);
    reader.resume(15);
    while take(&mut reader).is_some() {}
    reader.park();
    let told = host.figures.samples();
    assert_eq!((told.taken, told.missed), (5, 0));
}
