//! How a writer waits for reliable readers, and when it gives one up.
//!
//! A reader has the publisher's *patience*: how long it may keep the writer waiting. What it has used up
//! comes back while it keeps up, an eighth of the time that passes. So a reader can neither stop a publisher
//! nor hold it to a crawl. All who keep the writer waiting at a time pay for that time, so many together
//! cannot either.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::audience::Attached;
use super::page::State;
use super::writer::{Unsent, Writer};
use crate::ring::{ARMED, AWAKE, Deadline, Kicks, Looked, OwnPipe, PARKED};
use crate::shm::backend::{Arc, Ordering, PipeReader, fence, now};
use crate::shm::futex::{self, Scope, Wait};
use crate::testing::failpoints::failpoint;

/// The part of the time that passes by which patience comes back.
const COMES_BACK: u32 = 8;

/// How much of the publisher's patience a reader has used up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Debt {
    stalled: Duration,
    at: Instant,
}

impl Debt {
    fn now(debt: Option<Debt>, now: Instant) -> Duration {
        debt.map_or(Duration::ZERO, |debt| {
            debt.stalled.saturating_sub(now.saturating_duration_since(debt.at) / COMES_BACK)
        })
    }
}

/// What a reader's cursor says.
enum Read {
    Enough,
    TooLittle,
    /// It is where it cannot be.
    Impossible,
}

/// Readers that keep a writer waiting which waits in an event loop.
pub(super) struct Kept {
    since: Instant,
    /// When the first of them has used up its patience.
    until: Instant,
    /// How far they have to read.
    needed: u64,
    by: Vec<Arc<Attached>>,
}

impl Writer {
    /// Whether a reader has read up to `needed`. Its cursor never goes back, and never beyond the tail.
    fn has_read(&self, attached: &Attached, needed: u64) -> Read {
        let floor = attached.floor(self.position);
        let cursor = attached.page.cursor().load(Ordering::Acquire);
        let seen = attached.seen.load(Ordering::Relaxed);
        if cursor != 0 && (cursor < seen || cursor > self.position) {
            return Read::Impossible;
        }
        attached.seen.store(cursor, Ordering::Relaxed);
        if cursor.max(floor) >= needed { Read::Enough } else { Read::TooLittle }
    }

    /// The readers that have not read up to `needed`. Gives up those that broke a rule or have left.
    fn laggards(&mut self, needed: u64) -> Vec<Arc<Attached>> {
        let (mut laggards, mut changed) = (Vec::new(), false);
        for attached in &self.reliable {
            match self.has_read(attached, needed) {
                Read::Enough => continue,
                _ if attached.page.has_left() => self.audience.leave(attached.id),
                Read::TooLittle => {
                    laggards.push(Arc::clone(attached));
                    continue;
                }
                Read::Impossible => self.audience.evict(attached, State::BrokeRules),
            }
            changed = true;
        }
        if changed {
            self.heed();
        }
        laggards
    }

    /// Waits until every reliable reader has read what the intent will pass, or there is another segment to
    /// go on in. Without a deadline it only looks.
    pub(super) fn wait_for_readers(
        &mut self,
        intent: u64,
        deadline: Option<&mut Deadline>,
    ) -> Result<(), Unsent> {
        self.wanted = None;
        self.collect_debts();
        let Some(needed) = intent.checked_sub(self.capacity()).filter(|needed| *needed > 0) else {
            return Ok(());
        };
        if self.reliable.is_empty() && self.heeded.expected.is_none() {
            return Ok(());
        }
        self.wait_until_read(needed, deadline)
    }

    #[cold]
    fn wait_until_read(&mut self, needed: u64, deadline: Option<&mut Deadline>) -> Result<(), Unsent> {
        let Some(deadline) = deadline else {
            return match self.is_read(needed) {
                true => Ok(()),
                false => {
                    self.wanted = Some(needed);
                    Err(Unsent::Full)
                }
            };
        };
        loop {
            let began = now();
            let patience = self.audience.patience();
            let (laggards, until) = if let Some(until) = self.heeded.expected.filter(|until| began < *until) {
                (Vec::new(), until)
            } else {
                self.audience.stop_expecting();
                self.heeded.expected = None;
                let laggards = self.laggards(needed);
                // Until the first of them has used up what it has.
                let left = laggards.iter().map(|one| patience.saturating_sub(Debt::now(one.debt(), began)));
                let Some(left) = left.min() else { return Ok(()) };
                (laggards, began + left)
            };
            let limit = deadline.start().map_or(until, |deadline| deadline.min(until));
            self.sleep_for(laggards.first().map(|one| &**one), needed, limit);
            let over = now();
            // All who kept it waiting pay for that, or many could take turns.
            for attached in &laggards {
                let stalled = Debt::now(attached.debt(), began) + over.saturating_duration_since(began);
                attached.set_debt(Debt { stalled, at: over });
                if stalled >= patience && matches!(self.has_read(attached, needed), Read::TooLittle) {
                    self.audience.evict(attached, State::Stalled);
                }
            }
            self.heed();
            if let Some(reason) = self.heeded.closed {
                return Err(Unsent::Ended(reason));
            }
            if self.heeded.has_successor {
                return Ok(());
            }
            if deadline.start().is_some_and(|deadline| over >= deadline) && !self.is_read(needed) {
                return Err(Unsent::TimedOut);
            }
        }
    }

    /// Whether there is room now.
    fn is_read(&mut self, needed: u64) -> bool {
        if self.heeded.expected.is_some_and(|until| now() < until) {
            return false;
        }
        self.laggards(needed).is_empty()
    }

    /// Looks, and then sleeps, until this reader has read enough, something has changed, or the limit.
    fn sleep_for(&mut self, attached: Option<&Attached>, needed: u64, limit: Instant) {
        let generation = self.heeded.generation;
        let changed = |writer: &Writer| writer.audience.generation() != generation;
        let has_read = |writer: &Writer| {
            attached.is_some_and(|attached| !matches!(writer.has_read(attached, needed), Read::TooLittle))
        };
        let mut waiting = self.waiting;
        let looked = waiting.look(Some(limit), self.sequence, || changed(self) || has_read(self));
        if let Looked::Sleep(began) = looked {
            let word = self.audience.generation_word();
            let generation = Wait { word, expected: generation, scope: Scope::Private };
            match attached {
                Some(attached) => {
                    let word = &attached.page.publisher_parked;
                    futex::set(word, PARKED);
                    fence(Ordering::SeqCst);
                    failpoint!("room.parked", [topic], seldom);
                    if !has_read(self) && !attached.page.has_left() {
                        let parked = Wait { word, expected: PARKED, scope: Scope::Shared };
                        futex::wait(&[parked, generation], Some(limit));
                    }
                    futex::set(word, AWAKE);
                }
                None => _ = futex::wait(&[generation], Some(limit)),
            }
            waiting.slept(began, self.sequence);
        }
        self.waiting = waiting;
    }

    /// Announces that this writer waits in an event loop for the room that its last try did not find. Returns
    /// the time at which it is to try again in any case, or `None` if it is to do so at once.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        let needed = self.wanted?;
        self.collect_debts();
        self.heed();
        if self.heeded.closed.is_some() {
            return None;
        }
        let (began, patience) = (now(), self.audience.patience());
        let until = if let Some(until) = self.heeded.expected.filter(|until| began < *until) {
            until
        } else {
            let laggards = self.laggards(needed);
            let left = laggards.iter().map(|one| patience.saturating_sub(Debt::now(one.debt(), began)));
            let until = began + left.min()?;
            // Each of those that lag wakes it.
            for attached in &laggards {
                let mut pipe = attached.pipe.lock().unwrap_or_else(PoisonError::into_inner);
                if !arm_for(attached, pipe.as_mut()?)
                    || !matches!(self.has_read(attached, needed), Read::TooLittle)
                {
                    return None;
                }
            }
            self.kept_waiting = Some(Kept { since: began, until, needed, by: laggards });
            until
        };
        (self.audience.generation() == self.heeded.generation).then_some(until)
    }

    /// Those that kept the writer waiting in an event loop pay for that, as for a sleep.
    fn collect_debts(&mut self) {
        let Some(Kept { since, until, needed, by }) = self.kept_waiting.take() else { return };
        // It may have come back later than it was told to.
        let over = now().min(until);
        for attached in &by {
            let stalled = Debt::now(attached.debt(), since) + over.saturating_duration_since(since);
            attached.set_debt(Debt { stalled, at: over });
            if stalled >= self.audience.patience()
                && matches!(self.has_read(attached, needed), Read::TooLittle)
            {
                self.audience.evict(attached, State::Stalled);
            }
        }
        self.heed();
    }

    /// The pipes by which reliable readers wake this writer in an event loop.
    pub(crate) fn pipes(&self) -> Vec<std::sync::Arc<PipeReader>> {
        let pipe = |attached: &Arc<Attached>| {
            let pipe = attached.pipe.lock().unwrap_or_else(PoisonError::into_inner);
            pipe.as_ref().map(|own| std::sync::Arc::clone(own.reader()))
        };
        self.reliable.iter().filter_map(pipe).collect()
    }
}

fn arm_for(attached: &Attached, pipe: &mut OwnPipe) -> bool {
    if pipe.drain() != Kicks::Permitted {
        return false;
    }
    if attached.page.publisher_parked.swap(ARMED, Ordering::Release) != ARMED {
        pipe.permit();
    }
    fence(Ordering::SeqCst);
    pipe.waits()
}
