//! `Tally`: what an end of a topic took or published, told to who looks at the bus.
//!
//! The ends count nothing for it on their hot paths. They know their position and the sequence of the next
//! sample, and a tally takes differences of these now and then.

use crate::channel::{NewestFigures, Samples};

/// What was not told yet, and what was seen last.
pub(super) struct Tally {
    figures: NewestFigures,
    /// The sequence and the position that were counted up to.
    sequence: u64,
    position: u64,
    samples: u64,
    bytes: u64,
    missed: u64,
}

impl Tally {
    pub(super) fn new(figures: NewestFigures, sequence: u64, position: u64) -> Tally {
        Tally { figures, sequence, position, samples: 0, bytes: 0, missed: 0 }
    }

    /// Counts what was done up to here.
    pub(super) fn count(&mut self, sequence: u64, position: u64) {
        self.samples += sequence.saturating_sub(self.sequence);
        self.bytes += position.saturating_sub(self.position);
        self.leap(sequence, position);
    }

    /// The end goes on here; what lies before was counted or is not to be.
    pub(super) fn leap(&mut self, sequence: u64, position: u64) {
        (self.sequence, self.position) = (sequence, position);
    }

    /// So many samples were missed.
    pub(super) fn miss(&mut self, samples: u64) {
        self.missed = self.missed.saturating_add(samples);
    }

    /// So many of those that were counted as missed were not.
    pub(super) fn found(&mut self, samples: u64) {
        self.missed = self.missed.saturating_sub(samples);
    }

    /// Tells what a reader did.
    pub(super) fn tell_taken(&mut self) {
        let Tally { samples, bytes, missed, .. } = *self;
        self.tell(Samples { taken: samples, taken_bytes: bytes, missed, ..Samples::default() });
    }

    /// Counts what a writer did up to here, and tells it.
    #[cold]
    #[inline(never)]
    pub(super) fn published(tally: &mut Option<Box<Tally>>, sequence: u64, position: u64) {
        let Some(tally) = tally else { return };
        tally.count(sequence, position);
        let Tally { samples, bytes, .. } = **tally;
        tally.tell(Samples { published: samples, published_bytes: bytes, ..Samples::default() });
    }

    fn tell(&mut self, done: Samples) {
        if self.figures.try_with(|page| page.add_samples(done)) {
            (self.samples, self.bytes, self.missed) = (0, 0, 0);
        }
    }
}
