//! Measures the floor of moving bytes: a copy into shared memory, a word that announces it, and a copy out.
//!
//! There are two buffers, as large as the rings of the measured channel. Each copy goes behind the one
//! before, as in a ring: a place that is used again and again would stay in the nearest cache. The word is
//! the 8 bytes before the payload, so that a small payload is in the same cache line. The copies are the
//! library's own, which is at any size at least as fast as `memcpy`.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::testing::Segment;

use super::exit::Failure;
use super::floor::{BUFFERS, Between, Floor, Look, Lost, Pause, Plain, Task, Turn, Yield, wait_for};
use super::signals::Interrupt;

/// Bytes before a payload.
const WORD: usize = 8;
const LINE: usize = 64;
/// The word with the number of the last payload that the partner has copied out, in the one-way copy.
const TAKEN: usize = 2048;

/// The places for payloads in one buffer, used in turn.
struct Places {
    buffer: usize,
    span: usize,
    step: usize,
    at: usize,
}

impl Places {
    /// The places for payloads of `size` bytes in the first or the second buffer of `segment`.
    fn of(segment: &Segment, second: bool, size: usize) -> Places {
        let span = (segment.len() - BUFFERS) / 2;
        let buffer = BUFFERS + if second { span } else { 0 };
        Places { buffer, span, step: (size + WORD).next_multiple_of(LINE), at: 0 }
    }

    /// The number of places.
    fn count(&self) -> u64 {
        (self.span / self.step).max(1) as u64
    }

    #[inline]
    fn next(&mut self) -> usize {
        let at = self.at;
        self.at += self.step;
        if self.at + self.step > self.span {
            self.at = 0;
        }
        self.buffer + at
    }
}

#[inline]
fn put(segment: &Segment, at: usize, payload: &[u8], number: u64) {
    segment.copy_in(at + WORD, payload);
    segment.word64(at).store(number, Ordering::Release);
}

#[inline]
fn get<B: Between>(
    segment: &Segment,
    at: usize,
    payload: &mut [u8],
    number: u64,
    lost: &mut Lost<'_>,
) -> Option<()> {
    if !wait_for::<B>(segment.word64(at), number, lost) {
        return None;
    }
    segment.copy_out(at + WORD, payload);
    Some(())
}

/// The partner's half of a round trip.
pub(super) fn answer<B: Between>(segment: &Segment, size: usize, numbers: Range<u64>) {
    let (mut there, mut back) = (Places::of(segment, false, size), Places::of(segment, true, size));
    let mut payload = vec![0; size];
    for number in numbers {
        // Need not check for a lost peer: the measuring process kills this one.
        let _ = get::<B>(segment, there.next(), &mut payload, number, &mut || false);
        put(segment, back.next(), &payload, number);
    }
}

fn ask_all<B: Between>(turn: Turn<'_, '_>, size: usize, warm: u32) -> Option<f64> {
    let Turn { segment, mut numbers, lost } = turn;
    let (mut there, mut back) = (Places::of(segment, false, size), Places::of(segment, true, size));
    // No 8 bytes of this payload equal a number that somebody waits for.
    let mut payload = vec![0xa5; size];
    let mut ask = |number| {
        put(segment, there.next(), &payload, number);
        get::<B>(segment, back.next(), &mut payload, number, lost)
    };
    for number in numbers.by_ref().take(warm as usize) {
        ask(number)?;
    }
    let count = (numbers.end - numbers.start) as f64;
    let start = Instant::now();
    for number in numbers {
        ask(number)?;
    }
    Some(start.elapsed().as_nanos() as f64 / count)
}

/// The partner's half of a one-way copy.
pub(super) fn take<B: Between>(segment: &Segment, size: usize, numbers: Range<u64>) {
    let mut there = Places::of(segment, false, size);
    let mut payload = vec![0; size];
    for number in numbers {
        let _ = get::<B>(segment, there.next(), &mut payload, number, &mut || false);
        segment.word64(TAKEN).store(number, Ordering::Release);
    }
}

fn give_all<B: Between>(turn: Turn<'_, '_>, size: usize, warm: u32) -> Option<f64> {
    let Turn { segment, numbers, lost } = turn;
    let mut there = Places::of(segment, false, size);
    let payload = vec![0xa5; size];
    let (taken, places) = (segment.word64(TAKEN), there.count());
    let first = numbers.start;
    // The first payload waits for nothing.
    let mut seen = first - 1;
    let mut start = Instant::now();
    let count = (numbers.end - first - u64::from(warm)) as f64;
    let last = numbers.end - 1;
    for number in numbers {
        if number == first + u64::from(warm) {
            start = Instant::now();
        }
        let mut looks = 0_u32;
        while number - seen > places {
            seen = taken.load(Ordering::Acquire).max(first - 1);
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(B::MANY) && lost() {
                return None;
            }
            B::between();
        }
        put(segment, there.next(), &payload, number);
    }
    wait_for::<B>(taken, last, lost).then(|| start.elapsed().as_nanos() as f64 / count)
}

impl Floor {
    /// Measures `count` round trips of `size` bytes after `warm` others, and returns the nanoseconds of one.
    /// Both ends copy in and out. Each buffer must have room for one payload.
    pub fn copy_block(
        &mut self,
        look: Look,
        size: usize,
        warm: u32,
        count: u32,
        interrupt: &Interrupt,
    ) -> Result<f64, Failure> {
        let all = u64::from(warm) + u64::from(count);
        self.turn(Task::Copies(look), size, all, interrupt, |turn| match look {
            Look::Pause => ask_all::<Pause>(turn, size, warm),
            Look::Plain => ask_all::<Plain>(turn, size, warm),
            Look::Yield => ask_all::<Yield>(turn, size, warm),
        })
    }

    /// Measures `count` copies of `size` bytes from this process to the partner after `warm` others, and
    /// returns the nanoseconds of one.
    pub fn one_way_block(
        &mut self,
        look: Look,
        size: usize,
        warm: u32,
        count: u32,
        interrupt: &Interrupt,
    ) -> Result<f64, Failure> {
        let all = u64::from(warm) + u64::from(count);
        self.turn(Task::Takes(look), size, all, interrupt, |turn| match look {
            Look::Pause => give_all::<Pause>(turn, size, warm),
            Look::Plain => give_all::<Plain>(turn, size, warm),
            Look::Yield => give_all::<Yield>(turn, size, warm),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_walk_the_whole_buffer_and_stay_in_it() {
        let segment = Segment::anonymous(BUFFERS + 2 * 1024).unwrap();
        let mut places = Places::of(&segment, true, 100);
        assert_eq!(places.count(), 8);
        let walked: Vec<usize> = (0..9).map(|_| places.next() - BUFFERS - 1024).collect();
        assert_eq!(walked, [0, 128, 256, 384, 512, 640, 768, 896, 0]);
        let mut whole = Places::of(&segment, false, 1024 - WORD);
        assert_eq!((whole.count(), whole.next(), whole.next()), (1, BUFFERS, BUFFERS));
    }

    #[test]
    fn get_returns_what_was_put() {
        let segment = Segment::anonymous(BUFFERS + 2 * 1024).unwrap();
        let mut payload = [0; 3];
        put(&segment, BUFFERS, b"abc", 9);
        get::<Yield>(&segment, BUFFERS, &mut payload, 9, &mut || true).unwrap();
        assert_eq!(&payload, b"abc");
        assert_eq!(get::<Yield>(&segment, BUFFERS, &mut payload, 10, &mut || true), None);
    }
}
