//! Overwrites random words of a channel's segment, as a malicious peer could, often with plausible values.

use super::payload::Random;
use super::raw::{DATA_RECORD, LINE, PADDING_RECORD, header};
use ringpost::testing::Segment;
use std::sync::atomic::Ordering;

/// The closed word. It is not overwritten, because it tells the writer that the other side closed the
/// channel.
pub const CLOSED: usize = 128;

/// The heads of the three rings.
const HEADS: [usize; 3] = [256, 640, 1024];

/// The word by which a client drops its inbox. It is seldom overwritten, because then the rest of the inbox
/// is no longer used.
const GIVEN_UP: usize = 1024 + 192;

/// The control words of the channel and of its rings.
const CONTROLS: usize = 1280;

/// Overwrites some words of a segment with rings of that size. Control words are chosen as often as all
/// others together, and half of the values are plausible headers.
pub fn rewrite(segment: &Segment, ring_size: u64, random: &mut Random, words: usize) {
    for _ in 0..words {
        let any = random.below(segment.len() / 8) * 8;
        let at = if random.below(2) == 0 { CLOSED + any % CONTROLS } else { any };
        let head = segment.word64(HEADS[random.below(3)]).load(Ordering::Relaxed);
        let near = head.wrapping_add(random.next() % 4 * LINE);
        let word = match random.below(4) {
            0 => random.next(),
            1 => header(near, DATA_RECORD, random.next() % 80),
            2 => header(near, PADDING_RECORD, random.next() % ring_size),
            _ => random.next() % 4,
        };
        if at != CLOSED && (at != GIVEN_UP || random.below(1000) == 0) {
            segment.word64(at).store(word, Ordering::Relaxed);
        }
    }
}
