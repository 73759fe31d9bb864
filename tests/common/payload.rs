//! Generates payloads from a seed, so that a receiver that knows the seed can verify every byte.

/// A small random number generator (xorshift with a final multiplication).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Similar seeds must not give similar sequences, and the state must never be 0.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((mixed ^ (mixed >> 31)) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A size from 0 to `max`: often small, sometimes any, now and then 0 or `max`.
    pub fn size(&mut self, max: usize) -> usize {
        match self.below(64) {
            0 => 0,
            1 => max,
            2..6 => self.below(max + 1),
            _ => {
                let bits = usize::BITS - max.leading_zeros();
                let about = 1 << self.below(bits as usize + 1);
                self.below((max + 1).min(about))
            }
        }
    }
}

/// Sets `into` to the payload of the seed.
pub fn fill(into: &mut Vec<u8>, seed: u64, max: usize) {
    let mut random = Random::new(seed);
    let size = random.size(max);
    into.clear();
    into.reserve(size + 8);
    while into.len() < size {
        into.extend_from_slice(&random.next().to_le_bytes());
    }
    into.truncate(size);
}

/// The payload of the seed.
pub fn content(seed: u64, max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    fill(&mut bytes, seed, max);
    bytes
}
