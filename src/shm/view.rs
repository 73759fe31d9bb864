//! How rings see shared memory: words and copies at offsets, and nothing else.
//!
//! This is the mapped form; under loom `view_model.rs` takes its place with the same interface.

use std::sync::Arc;

use super::Segment;
use crate::sync::{AtomicU32, Ordering};

/// A shared handle on a segment. Offsets are bytes from its start; like a segment's, they are checked.
#[derive(Debug, Clone)]
pub(crate) struct View {
    segment: Arc<Segment>,
}

impl View {
    pub(crate) fn new(segment: Segment) -> View {
        View { segment: Arc::new(segment) }
    }

    #[inline(always)]
    pub(crate) fn load64(&self, offset: usize, order: Ordering) -> u64 {
        self.segment.word64(offset).load(order)
    }

    #[inline(always)]
    pub(crate) fn store64(&self, offset: usize, value: u64, order: Ordering) {
        self.segment.word64(offset).store(value, order);
    }

    #[inline(always)]
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        self.segment.word32(offset)
    }

    #[inline(always)]
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
        self.segment.copy_in(offset, from);
    }

    #[inline(always)]
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.segment.copy_out(offset, to);
    }

    #[inline(always)]
    pub(crate) fn append_to(&self, offset: usize, len: usize, to: &mut Vec<u8>) {
        self.segment.append_to(offset, len, to);
    }
}
