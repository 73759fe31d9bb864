//! Random choices that depend on a seed only.

/// A stream of numbers, the same for the same beginning.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream that belongs to these numbers.
    pub fn of(parts: &[u64]) -> Random {
        let mut random = Random(0x243f_6a88_85a3_08d3);
        for part in parts {
            random.0 ^= part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            random.next();
        }
        random
    }

    /// Each step adds an odd constant; a mixing function makes the sums look like chance.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 to one less than `bound`, or 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Mostly short, now and then as long as it may be.
    pub fn length(&mut self, most: usize) -> usize {
        let bound = match self.below(8) {
            0..=3 => 56,
            4..=6 => 700,
            _ => most,
        };
        self.below(bound.min(most) as u64 + 1) as usize
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

pub mod tests {
    use super::*;

    pub fn the_same_beginning_makes_the_same_choices() {
        let draw = |parts: &[u64]| {
            let mut random = Random::of(parts);
            (0..5).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
        assert!((0..100).all(|seed| Random::of(&[seed]).length(10) <= 10));
    }
}
