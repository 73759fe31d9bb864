//! `Tap`: publishes copies of calls and messages, as long as somebody taps.
//!
//! The workers share the writer of the server's own topic of copies. A worker holds the lock for the time of
//! one copy, and waits for no reader: one that is too slow has missed records, and is told how many.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Mutex;

use super::shared::lock;
use crate::connect::{Copied, since_1970};
use crate::topic::Writer;

#[derive(Default)]
pub(super) struct Tap(Mutex<Option<Tapped>>);

struct Tapped {
    writer: Writer,
    /// The most bytes of a payload that any of the readers wants.
    most: usize,
    /// The record that is being published.
    record: Vec<u8>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl Tap {
    /// From now on copies are published here.
    pub(super) fn begin(&self, writer: Writer) {
        *lock(&self.0) = Some(Tapped { writer, most: 0, record: Vec::new() });
    }

    /// Somebody wants so many bytes of each payload. Others may want more.
    pub(super) fn wants(&self, most: usize) {
        if let Some(tapped) = &mut *lock(&self.0) {
            tapped.most = tapped.most.max(most);
        }
    }

    /// Nobody taps any more.
    pub(super) fn end(&self) {
        let ended = lock(&self.0).take();
        drop(ended);
    }

    /// The most bytes of a payload that are wanted.
    pub(super) fn most(&self) -> usize {
        lock(&self.0).as_ref().map_or(0, |tapped| tapped.most)
    }

    /// Publishes a copy.
    pub(super) fn tell(&self, copied: &Copied<'_>) {
        if let Some(Tapped { writer, most, record }) = &mut *lock(&self.0) {
            record.clear();
            copied.encode(*most, since_1970(), record);
            // It waits for nobody, so it cannot be full; and a record is shorter than the largest sample.
            let _ = writer.try_send(&record[..]);
        }
    }
}
