//! Measures the floor: the time of a bare shared-memory round trip between two processes on this computer.
//!
//! Two processes share two words, each alone in its cache line and more than 128 bytes apart (processors
//! fetch lines in pairs). One process stores the next number into the first word; the other answers by
//! storing it into the second. Stores are Release, loads are Acquire. A whole block of round trips is timed,
//! without reading the clock in between. Whether a `pause` between two loads helps depends on the processor,
//! so both ways are measured. On one CPU neither works, so there each load that finds nothing yields to the
//! other process.
//!
//! The partner process gets the segment as its standard input. Between blocks it sleeps on a futex, so that
//! the server on the same CPU is not disturbed. Each block has a number, the *turn*, and a task: answering
//! the words, or one of those in `floor_futex` and `floor_copy`.
//!
//! ```text
//! measuring process                                   partner
//! first, end, task := …                               futex_wait(turn, last)
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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::testing::{Segment, futex_wait, futex_wake};

use super::child::{bound, die_with_parent, end, when_it_ends};
use super::exit::{Failure, Outcome};
use super::floor_futex::Sleep;
use super::signals::Interrupt;
use super::{cpu, floor_copy, floor_futex, stats};

const PING: usize = 0;
const PONG: usize = 256;
const TURN: usize = 512;
const READY: usize = 768;
const IDLE: usize = 1024;
const TASK: usize = 1280;
const FIRST: usize = 1288;
const END: usize = 1296;
const SIZE: usize = 1304;
/// Two more words, on which `floor_futex` sleeps.
pub(super) const FUTEX_PING: usize = 1536;
pub(super) const FUTEX_PONG: usize = 1792;
/// Where the two buffers of `floor_copy` begin, if there are any.
pub(super) const BUFFERS: usize = 4096;

/// What a waiting end does between two loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// Executes the processor's spin-loop hint.
    Pause,
    /// Does nothing.
    Plain,
    /// Lets another thread run: the only way that makes sense on one CPU.
    Yield,
}

impl Look {
    /// The ways that are worth measuring for two ends on these CPUs.
    pub fn ways(pins: Option<cpu::Pins>) -> &'static [Look] {
        match pins {
            Some(pins) if pins.client != pins.server => &[Look::Pause, Look::Plain],
            _ => &[Look::Yield],
        }
    }

    /// The usual way for two ends on these CPUs, if only one is measured.
    pub fn usual(pins: Option<cpu::Pins>) -> Look {
        Look::ways(pins)[0]
    }
}

/// What the partner process does in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Answers words by polling.
    Words(Look),
    /// Answers words by sleeping on futexes.
    Futex(Sleep),
    /// Copies each payload out and back in again.
    Copies(Look),
    /// Copies each payload out.
    Takes(Look),
}

impl Task {
    const ALL: [Task; 11] = [
        Task::Words(Look::Pause),
        Task::Words(Look::Plain),
        Task::Words(Look::Yield),
        Task::Futex(Sleep::OneWord),
        Task::Futex(Sleep::TwoWords),
        Task::Copies(Look::Pause),
        Task::Copies(Look::Plain),
        Task::Copies(Look::Yield),
        Task::Takes(Look::Pause),
        Task::Takes(Look::Plain),
        Task::Takes(Look::Yield),
    ];

    /// The task's number in the segment.
    fn code(self) -> u32 {
        Task::ALL.iter().position(|&task| task == self).map_or(0, |index| index as u32)
    }

    fn of(code: u32) -> Task {
        Task::ALL.get(code as usize).copied().unwrap_or(Task::Futex(Sleep::OneWord))
    }
}

/// A [`Look`] as a type. The loops are compiled once for each type, so that they contain no branch on it.
pub(super) trait Between {
    /// After how many loads to check whether the other process is lost.
    const MANY: u32 = 1 << 16;

    fn between();
}

pub(super) struct Pause;
pub(super) struct Plain;
pub(super) struct Yield;

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
    // On a busy CPU each yield may take milliseconds.
    const MANY: u32 = 1 << 5;

    fn between() {
        std::thread::yield_now();
    }
}

/// Waits until `word` is `value`. Calls `lost` now and then, and returns `false` if that says that the other
/// process is lost.
#[inline(always)]
pub(super) fn wait_for<B: Between>(
    word: &AtomicU64,
    value: u64,
    lost: &mut (impl FnMut() -> bool + ?Sized),
) -> bool {
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

/// Tells whether the other process is lost.
pub(super) type Lost<'a> = dyn FnMut() -> bool + 'a;

/// Sends `number` and waits for its answer; `None` if the partner is lost.
#[inline(always)]
fn ask<B: Between>(segment: &Segment, number: u64, lost: &mut Lost<'_>) -> Option<()> {
    segment.word64(PING).store(number, Ordering::Release);
    wait_for::<B>(segment.word64(PONG), number, lost).then_some(())
}

/// Times the round trips of `numbers`.
fn ask_all<B: Between>(segment: &Segment, numbers: Range<u64>, lost: &mut Lost<'_>) -> Option<Duration> {
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
        // Need not check for a lost peer: the measuring process kills this one.
        wait_for::<B>(ping, number, &mut || false);
        pong.store(number, Ordering::Release);
    }
}

/// The measuring end, with its partner process.
pub struct Floor {
    segment: Arc<Segment>,
    partner: Child,
    turn: u32,
    last: u64,
}

/// The arguments of a turn's body: the segment, the numbers to send, and a check whether the partner is lost.
pub(super) struct Turn<'a, 'l> {
    pub(super) segment: &'a Segment,
    pub(super) numbers: Range<u64>,
    pub(super) lost: &'a mut Lost<'l>,
}

impl Floor {
    /// Starts `program` with `arguments`, which must run [`partner`].
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Floor, Failure> {
        Floor::with_buffers(program, arguments, 0)
    }

    /// Like [`start`](Self::start), with two buffers of `span` bytes for copies.
    pub fn with_buffers<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        span: usize,
    ) -> Result<Floor, Failure> {
        let (segment, descriptor) = Segment::create("ringpost-floor", BUFFERS + 2 * span)
            .map_err(|error| Failure::failed(format!("cannot make shared memory for the floor: {error}")))?;
        let segment = Arc::new(segment);
        let partner = bound(&mut Command::new(program))
            .args(arguments)
            .stdin(Stdio::from(descriptor))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start {}: {error}", program.display())))?;
        let floor = Floor { segment, partner, turn: 0, last: 0 };
        // `floor_futex` sleeps without a time-out, so it must be woken when the partner ends.
        let breaker = floor.breaker();
        when_it_ends(&floor.partner, breaker)?;
        Ok(floor)
    }

    /// The partner's process id.
    pub fn id(&self) -> u32 {
        self.partner.id()
    }

    /// Returns a function that wakes this process from a futex sleep in a block.
    pub fn breaker(&self) -> impl FnOnce() + Send + 'static {
        let segment = Arc::clone(&self.segment);
        move || floor_futex::break_off(&segment)
    }

    /// Runs one turn of `count` round trips: starts `task` in the partner, runs `body`, and waits until the
    /// partner is idle again.
    pub(super) fn turn<T>(
        &mut self,
        task: Task,
        size: usize,
        count: u64,
        interrupt: &Interrupt,
        body: impl FnOnce(Turn<'_, '_>) -> Option<T>,
    ) -> Result<T, Failure> {
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

        let segment = &*self.segment;
        let first = self.last + 1;
        let end = first + count;
        self.last = end - 1;
        self.turn = self.turn.wrapping_add(1);
        segment.word32(TASK).store(task.code(), Ordering::Relaxed);
        segment.word64(FIRST).store(first, Ordering::Relaxed);
        segment.word64(END).store(end, Ordering::Relaxed);
        segment.word64(SIZE).store(size as u64, Ordering::Relaxed);
        segment.word32(TURN).store(self.turn, Ordering::Release);
        futex_wake(segment.word32(TURN), 1);

        let turn = u64::from(self.turn);
        let run = || {
            if !wait_for::<Yield>(segment.word64(READY), turn, &mut lost) {
                return None;
            }
            let result = body(Turn { segment, numbers: first..end, lost: &mut lost })?;
            wait_for::<Yield>(segment.word64(IDLE), turn, &mut lost).then_some(result)
        };
        let result = run();
        if result.is_none() {
            // The body of a broken futex sleep has not checked whether the partner is lost.
            lost();
        }
        result.ok_or_else(|| {
            why.unwrap_or_else(|| Failure::failed("the floor's partner process does not answer"))
        })
    }

    /// Measures `count` round trips after `warm` others, and returns the nanoseconds of one. The partner
    /// sleeps when this returns.
    pub fn block(
        &mut self,
        look: Look,
        warm: u32,
        count: u32,
        interrupt: &Interrupt,
    ) -> Result<f64, Failure> {
        let all = u64::from(warm) + u64::from(count);
        let time = self.turn(Task::Words(look), 0, all, interrupt, |turn| {
            let Turn { segment, numbers, lost } = turn;
            let timed = numbers.start + u64::from(warm);
            let ask_all = match look {
                Look::Pause => ask_all::<Pause>,
                Look::Plain => ask_all::<Plain>,
                Look::Yield => ask_all::<Yield>,
            };
            ask_all(segment, numbers.start..timed, lost)?;
            ask_all(segment, timed..numbers.end, lost)
        })?;
        Ok(time.as_nanos() as f64 / f64::from(count))
    }

    /// Runs `body`, which must make exactly `count` round trips, each by calling its argument.
    pub fn one_by_one<T>(
        &mut self,
        look: Look,
        count: u64,
        interrupt: &Interrupt,
        body: impl FnOnce(&mut dyn FnMut() -> Option<()>) -> Option<T>,
    ) -> Result<T, Failure> {
        self.turn(Task::Words(look), 0, count, interrupt, |turn| {
            let Turn { segment, mut numbers, lost } = turn;
            let ask = match look {
                Look::Pause => ask::<Pause>,
                Look::Plain => ask::<Plain>,
                Look::Yield => ask::<Yield>,
            };
            body(&mut || ask(segment, numbers.next()?, lost))
        })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // An end of 0 makes the partner exit.
        self.segment.word64(END).store(0, Ordering::Relaxed);
        let word = self.segment.word32(TURN);
        word.store(self.turn.wrapping_add(1), Ordering::Release);
        futex_wake(word, 1);
        end(&mut self.partner, Duration::from_millis(200));
    }
}

/// The partner process: answers blocks, and sleeps between them, until it is told to exit.
pub fn partner(cpu: Option<usize>) -> Outcome {
    die_with_parent();
    let segment = Segment::open(io::stdin()).map_err(|error| {
        Failure::failed(format!("standard input is not the floor's shared memory: {error}"))
    })?;
    if segment.len() < BUFFERS {
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
        let size = segment.word64(SIZE).load(Ordering::Relaxed) as usize;
        if end == 0 {
            return Ok(());
        }
        let task = Task::of(segment.word32(TASK).load(Ordering::Relaxed));
        segment.word64(READY).store(u64::from(turn), Ordering::Release);
        match task {
            Task::Words(Look::Pause) => answer::<Pause>(&segment, first..end),
            Task::Words(Look::Plain) => answer::<Plain>(&segment, first..end),
            Task::Words(Look::Yield) => answer::<Yield>(&segment, first..end),
            Task::Futex(sleep) => floor_futex::answer(&segment, sleep, first..end),
            Task::Copies(Look::Pause) => floor_copy::answer::<Pause>(&segment, size, first..end),
            Task::Copies(Look::Plain) => floor_copy::answer::<Plain>(&segment, size, first..end),
            Task::Copies(Look::Yield) => floor_copy::answer::<Yield>(&segment, size, first..end),
            Task::Takes(Look::Pause) => floor_copy::take::<Pause>(&segment, size, first..end),
            Task::Takes(Look::Plain) => floor_copy::take::<Plain>(&segment, size, first..end),
            Task::Takes(Look::Yield) => floor_copy::take::<Yield>(&segment, size, first..end),
        }
        segment.word64(IDLE).store(u64::from(turn), Ordering::Release);
    }
}

/// Measured blocks of the floor, one list for each way of waiting.
pub struct Blocks {
    ways: Vec<(Look, Vec<f64>)>,
}

impl Blocks {
    pub fn new(ways: &[Look]) -> Blocks {
        Blocks { ways: ways.iter().map(|&look| (look, Vec::new())).collect() }
    }

    /// Measures one block in each way.
    pub fn measure(&mut self, floor: &mut Floor, warm: u32, count: u32, interrupt: &Interrupt) -> Outcome {
        for (look, blocks) in &mut self.ways {
            blocks.push(floor.block(*look, warm, count, interrupt)?);
        }
        Ok(())
    }

    /// The blocks of the way with the smallest median.
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
    fn the_way_with_the_smaller_median_is_the_faster_one() {
        let blocks =
            Blocks { ways: vec![(Look::Pause, vec![3.0, 1.0, 2.0]), (Look::Plain, vec![1.5, 1.4, 9.0])] };
        assert_eq!(blocks.faster(), (Look::Plain, &[1.5, 1.4, 9.0][..]));
        assert_eq!(blocks.median(Look::Pause), Some(2.0));
        assert_eq!(blocks.median(Look::Yield), None);
    }

    #[test]
    fn task_codes_decode_to_their_tasks() {
        for task in Task::ALL {
            assert_eq!(Task::of(task.code()), task);
        }
    }

    #[test]
    fn two_ends_on_one_cpu_yield() {
        assert_eq!(Look::ways(None), [Look::Yield]);
        assert_eq!(Look::ways(Some(cpu::Pins { client: 1, server: 1 })), [Look::Yield]);
        assert_eq!(Look::ways(Some(cpu::Pins { client: 0, server: 1 })), [Look::Pause, Look::Plain]);
    }
}
