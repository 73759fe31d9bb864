//! The floor: what a round trip between two processes costs on this computer with nothing around it.
//!
//! Two processes share two words, each alone in its line and more than 128 bytes apart (processors fetch lines in
//! pairs). One stores the next number into the first word, the other answers with the same number in the second:
//! Release stores, Acquire loads. It is timed as a block of round trips, with no clock read inside. Whether `pause`
//! between two looks helps depends on the processor, so that both ways are measured. On one processor neither can
//! work, and each look yields to the other process instead.
//!
//! The partner gets the segment as its standard input and sleeps on a futex outside its blocks, so that the server,
//! which shares its processor, has that for itself. Every block has a number of its own, the *turn*:
//!
//! ```text
//! measuring process                                   partner
//! first, end, look := …                               futex_wait(turn, last)
//! turn := t (Release); futex_wake(turn)               turn == t (Acquire): read them
//! wait for ready == t                                 ready := t
//! ping := n; wait for pong == n   first <= n < end    wait for ping == n; pong := n
//! wait for idle == t                                  idle := t; futex_wait(turn, t)
//! ```

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpost::shm::{Segment, futex_wait, futex_wake};

use super::child::{die_with_parent, end};
use super::exit::{Failure, Outcome};
use super::signals::Interrupt;
use super::{cpu, stats};

const PING: usize = 0;
const PONG: usize = 256;
const TURN: usize = 512;
const READY: usize = 768;
const IDLE: usize = 1024;
const LOOK: usize = 1280;
const FIRST: usize = 1288;
const END: usize = 1296;
const LENGTH: usize = 4096;

/// What a waiting end does between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// The processor's hint that this is a spin.
    Pause,
    /// Nothing.
    Plain,
    /// Let another thread run: the one way that makes sense on one processor.
    Yield,
}

impl Look {
    /// The ways worth measuring for these two ends.
    pub fn ways(pins: Option<cpu::Pins>) -> &'static [Look] {
        match pins {
            Some(pins) if pins.client != pins.server => &[Look::Pause, Look::Plain],
            _ => &[Look::Yield],
        }
    }

    /// As it is written into the segment.
    fn code(self) -> u32 {
        match self {
            Look::Pause => 0,
            Look::Plain => 1,
            Look::Yield => 2,
        }
    }
}

/// A [`Look`] as a type: the loops are compiled once for each, so that nothing is decided between two looks.
trait Between {
    /// After how many looks to ask whether the other side is lost.
    const MANY: u32 = 1 << 16;

    fn between();
}

struct Pause;
struct Plain;
struct Yield;

impl Between for Pause {
    #[inline(always)]
    fn between() {
        std::hint::spin_loop();
    }
}

impl Between for Plain {
    #[inline(always)]
    fn between() {}
}

impl Between for Yield {
    // A busy processor takes milliseconds to come back from each.
    const MANY: u32 = 1 << 5;

    fn between() {
        std::thread::yield_now();
    }
}

/// Waits until `word` is `value`; `false` when `lost`, asked now and then, says that it never will be.
#[inline(always)]
fn wait_for<B: Between>(word: &AtomicU64, value: u64, lost: &mut impl FnMut() -> bool) -> bool {
    let mut looks = 0_u32;
    while word.load(Ordering::Acquire) != value {
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(B::MANY) && lost() {
            return false;
        }
        B::between();
    }
    true
}

/// Asks with each of `numbers` and waits for its answer; `None` if one is lost.
fn ask<B: Between>(
    segment: &Segment,
    numbers: Range<u64>,
    lost: &mut impl FnMut() -> bool,
) -> Option<Duration> {
    let (ping, pong) = (segment.word64(PING), segment.word64(PONG));
    let start = Instant::now();
    for number in numbers {
        ping.store(number, Ordering::Release);
        if !wait_for::<B>(pong, number, lost) {
            return None;
        }
    }
    Some(start.elapsed())
}

/// Answers each of `numbers`.
fn answer<B: Between>(segment: &Segment, numbers: Range<u64>) {
    let (ping, pong) = (segment.word64(PING), segment.word64(PONG));
    for number in numbers {
        // Whoever asks ends this process if it must.
        wait_for::<B>(ping, number, &mut || false);
        pong.store(number, Ordering::Release);
    }
}

/// The measuring side, with its partner process.
pub struct Floor {
    segment: Segment,
    partner: Child,
    turn: u32,
    last: u64,
}

impl Floor {
    /// Starts `program` with `arguments`, which must run [`partner`].
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Floor, Failure> {
        let (segment, descriptor) = Segment::create("ringpost-floor", LENGTH)
            .map_err(|error| Failure::failed(format!("cannot make shared memory for the floor: {error}")))?;
        let partner = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(descriptor))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start {}: {error}", program.display())))?;
        Ok(Floor { segment, partner, turn: 0, last: 0 })
    }

    /// Times `count` round trips after `warm` others: nanoseconds for each. The partner sleeps when this returns.
    pub fn block(
        &mut self,
        look: Look,
        warm: u32,
        count: u32,
        interrupt: &Interrupt,
    ) -> Result<f64, Failure> {
        let partner = &mut self.partner;
        let mut why = None;
        let mut lost = || {
            why = match partner.try_wait() {
                Ok(Some(status)) => {
                    Some(Failure::failed(format!("the floor's partner process ended: {status}")))
                }
                _ => interrupt.check().err(),
            };
            why.is_some()
        };

        let segment = &self.segment;
        let first = self.last + 1;
        let timed = first + u64::from(warm);
        let end = timed + u64::from(count);
        self.last = end - 1;
        self.turn = self.turn.wrapping_add(1);
        segment.word32(LOOK).store(look.code(), Ordering::Relaxed);
        segment.word64(FIRST).store(first, Ordering::Relaxed);
        segment.word64(END).store(end, Ordering::Relaxed);
        segment.word32(TURN).store(self.turn, Ordering::Release);
        futex_wake(segment.word32(TURN), 1);

        let turn = u64::from(self.turn);
        let mut run = || {
            if !wait_for::<Yield>(segment.word64(READY), turn, &mut lost) {
                return None;
            }
            let ask = match look {
                Look::Pause => ask::<Pause>,
                Look::Plain => ask::<Plain>,
                Look::Yield => ask::<Yield>,
            };
            ask(segment, first..timed, &mut lost)?;
            let time = ask(segment, timed..end, &mut lost)?;
            wait_for::<Yield>(segment.word64(IDLE), turn, &mut lost).then_some(time)
        };
        match run() {
            Some(time) => Ok(time.as_nanos() as f64 / f64::from(count)),
            None => {
                Err(why.unwrap_or_else(|| Failure::failed("the floor's partner process does not answer")))
            }
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // No numbers to answer end the partner.
        self.segment.word64(END).store(0, Ordering::Relaxed);
        let word = self.segment.word32(TURN);
        word.store(self.turn.wrapping_add(1), Ordering::Release);
        futex_wake(word, 1);
        end(&mut self.partner, Duration::from_millis(200));
    }
}

/// The partner process: answers block after block, asleep between them, until it is told to end.
pub fn partner(cpu: Option<usize>) -> Outcome {
    die_with_parent();
    let segment = Segment::open(io::stdin()).map_err(|error| {
        Failure::failed(format!("standard input is not the floor's shared memory: {error}"))
    })?;
    if segment.len() < LENGTH {
        return Err(Failure::failed("the floor's shared memory is too small"));
    }
    if let Some(cpu) = cpu {
        cpu::pin(cpu).map_err(Failure::Failed)?;
    }
    let word = segment.word32(TURN);
    let mut turn = 0;
    loop {
        while word.load(Ordering::Acquire) == turn {
            futex_wait(word, turn, None);
        }
        turn = word.load(Ordering::Acquire);
        let first = segment.word64(FIRST).load(Ordering::Relaxed);
        let end = segment.word64(END).load(Ordering::Relaxed);
        if end == 0 {
            return Ok(());
        }
        segment.word64(READY).store(u64::from(turn), Ordering::Release);
        match segment.word32(LOOK).load(Ordering::Relaxed) {
            0 => answer::<Pause>(&segment, first..end),
            1 => answer::<Plain>(&segment, first..end),
            _ => answer::<Yield>(&segment, first..end),
        }
        segment.word64(IDLE).store(u64::from(turn), Ordering::Release);
    }
}

/// Blocks of the floor, one list for each way of looking.
pub struct Blocks {
    ways: Vec<(Look, Vec<f64>)>,
}

impl Blocks {
    pub fn new(ways: &[Look]) -> Blocks {
        Blocks { ways: ways.iter().map(|&look| (look, Vec::new())).collect() }
    }

    /// Measures one block of each way.
    pub fn measure(&mut self, floor: &mut Floor, warm: u32, count: u32, interrupt: &Interrupt) -> Outcome {
        for (look, blocks) in &mut self.ways {
            blocks.push(floor.block(*look, warm, count, interrupt)?);
        }
        Ok(())
    }

    /// The blocks of the faster way, by their medians.
    pub fn faster(&self) -> (Look, &[f64]) {
        self.ways
            .iter()
            .min_by(|a, b| stats::quantile(&a.1, 0.5).total_cmp(&stats::quantile(&b.1, 0.5)))
            .map_or((Look::Yield, &[]), |(look, blocks)| (*look, &blocks[..]))
    }

    /// The median of one way, if it was measured.
    pub fn median(&self, look: Look) -> Option<f64> {
        self.ways.iter().find(|way| way.0 == look).map(|way| stats::Spread::of(&way.1).p50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_counts() {
        let blocks =
            Blocks { ways: vec![(Look::Pause, vec![3.0, 1.0, 2.0]), (Look::Plain, vec![1.5, 1.4, 9.0])] };
        assert_eq!(blocks.faster(), (Look::Plain, &[1.5, 1.4, 9.0][..]));
        assert_eq!(blocks.median(Look::Pause), Some(2.0));
        assert_eq!(blocks.median(Look::Yield), None);
    }

    #[test]
    fn one_processor_yields() {
        assert_eq!(Look::ways(None), [Look::Yield]);
        assert_eq!(Look::ways(Some(cpu::Pins { client: 1, server: 1 })), [Look::Yield]);
        assert_eq!(Look::ways(Some(cpu::Pins { client: 0, server: 1 })), [Look::Pause, Look::Plain]);
    }
}
