//! Measures the floor for ends that sleep: a round trip between two processes over two futex words.
//!
//! Each end sleeps at once and wakes the other after each store: without spinning, without a check whether
//! the other end sleeps, and without a time-out. Either each end sleeps on one word, or also on a second one,
//! which nobody changes: a process that does not trust the other one needs that to notice a close.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::testing::{Segment, futex_wait, futex_wait_on_two, futex_wake};

use super::exit::Failure;
use super::floor::{FUTEX_PING, FUTEX_PONG, Floor, Task, Turn};
use super::signals::Interrupt;

/// In place of a number: nobody will answer.
const BROKEN: u32 = u32::MAX;

/// On what an end sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    OneWord,
    TwoWords,
}

/// The second word.
static OTHER: AtomicU32 = AtomicU32::new(0);

/// The number as stored in a futex word. It is never [`BROKEN`].
fn short(number: u64) -> u32 {
    (number & 0x7fff_ffff) as u32
}

/// Sleeps until `word` is `value`. Returns `false` if the word is broken.
#[inline]
fn sleep_for(word: &AtomicU32, value: u32, sleep: Sleep) -> bool {
    loop {
        match word.load(Ordering::Acquire) {
            BROKEN => return false,
            now if now == value => return true,
            now if sleep == Sleep::TwoWords => futex_wait_on_two(word, now, &OTHER),
            now => futex_wait(word, now, None),
        }
    }
}

#[inline]
fn tell(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    futex_wake(word, 1);
}

/// Sends `number` and sleeps until it is answered.
#[inline]
fn ask(segment: &Segment, number: u64, sleep: Sleep) -> Option<()> {
    let number = short(number);
    // May overwrite `BROKEN` in this word, but `break_off` sets the one that is waited for below.
    tell(segment.word32(FUTEX_PING), number);
    sleep_for(segment.word32(FUTEX_PONG), number, sleep).then_some(())
}

/// The partner's half of the round trips.
pub(super) fn answer(segment: &Segment, sleep: Sleep, numbers: Range<u64>) {
    for number in numbers {
        let number = short(number);
        if !sleep_for(segment.word32(FUTEX_PING), number, sleep) {
            return;
        }
        // A broken word stays broken.
        let pong = segment.word32(FUTEX_PONG);
        let _ =
            pong.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| (now != BROKEN).then_some(number));
        futex_wake(pong, 1);
    }
}

/// Ends the sleep of the measuring process, and every later one.
pub(super) fn break_off(segment: &Segment) {
    tell(segment.word32(FUTEX_PONG), BROKEN);
}

impl Floor {
    /// Measures `count` round trips between sleeping ends after `warm` others, and returns the nanoseconds of
    /// one.
    pub fn futex_block(
        &mut self,
        sleep: Sleep,
        warm: u32,
        count: u32,
        interrupt: &Interrupt,
    ) -> Result<f64, Failure> {
        let all = u64::from(warm) + u64::from(count);
        let time = self.turn(Task::Futex(sleep), 0, all, interrupt, |turn| {
            let Turn { segment, mut numbers, .. } = turn;
            for number in numbers.by_ref().take(warm as usize) {
                ask(segment, number, sleep)?;
            }
            let start = Instant::now();
            for number in numbers {
                ask(segment, number, sleep)?;
            }
            Some(start.elapsed())
        })?;
        Ok(time.as_nanos() as f64 / f64::from(count))
    }

    /// Runs `body`, which must make exactly `count` round trips, each by calling its argument. The partner
    /// sleeps in between.
    pub fn futex_one_by_one<T>(
        &mut self,
        count: u64,
        interrupt: &Interrupt,
        body: impl FnOnce(&mut dyn FnMut() -> Option<()>) -> Option<T>,
    ) -> Result<T, Failure> {
        self.turn(Task::Futex(Sleep::OneWord), 0, count, interrupt, |turn| {
            let Turn { segment, mut numbers, .. } = turn;
            body(&mut || ask(segment, numbers.next()?, Sleep::OneWord))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_number_is_never_broken() {
        assert_ne!(short(u64::MAX), BROKEN);
        assert_ne!(short(u64::from(u32::MAX)), BROKEN);
        assert_eq!(short(7), 7);
    }

    #[test]
    fn break_off_ends_the_sleep() {
        let segment = std::sync::Arc::new(Segment::anonymous(4096).unwrap());
        let sleeper = std::sync::Arc::clone(&segment);
        let asked = std::thread::spawn(move || ask(&sleeper, 1, Sleep::OneWord));
        break_off(&segment);
        assert_eq!(asked.join().unwrap(), None);
        answer(&segment, Sleep::OneWord, 1..2);
        assert_eq!(segment.word32(FUTEX_PONG).load(Ordering::Relaxed), BROKEN);
    }
}
