//! The content of samples: each says by which publisher and when it was published, and when the one before it
//! was.

use super::super::random::Random;

/// Publisher, sequence, times, whether the publisher's client registers again.
pub const HEAD: usize = 33;

/// What a sample says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The publisher's number, unique among all processes.
    pub publisher: u64,
    pub sequence: u64,
    /// When its publication began, and that of the sample before it: 0 for the first.
    pub at: u64,
    pub before: u64,
    pub again: bool,
}

/// A sample of `len` bytes, or of as few as it takes.
pub fn sample(said: &Said, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(HEAD)];
    for (at, word) in [said.publisher, said.sequence, said.at, said.before].into_iter().enumerate() {
        bytes[8 * at..8 * at + 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes[32] = said.again.into();
    Random::of(&[said.publisher, said.sequence, said.at]).fill(&mut bytes[HEAD..]);
    bytes
}

/// What a whole sample says; else what is wrong with it.
pub fn read(payload: &[u8]) -> Result<Said, String> {
    let damaged = || format!("a damaged sample of {} bytes: {:02x?}", payload.len(), payload.get(..HEAD));
    if payload.len() < HEAD {
        return Err(damaged());
    }
    let word = |at: usize| u64::from_le_bytes(payload[8 * at..8 * at + 8].try_into().unwrap_or_default());
    let said =
        Said { publisher: word(0), sequence: word(1), at: word(2), before: word(3), again: payload[32] == 1 };
    if payload == sample(&said, payload.len()) { Ok(said) } else { Err(damaged()) }
}

pub mod tests {
    use super::*;

    pub fn samples_can_be_told_from_any_other() {
        let said = Said { publisher: 7, sequence: 3, at: 100, before: 50, again: true };
        for len in [0, HEAD, 300] {
            let mut whole = sample(&said, len);
            assert_eq!(read(&whole), Ok(said));
            assert!(read(&whole[1..]).is_err() && read(&[]).is_err());
            *whole.last_mut().unwrap() ^= 3;
            assert_ne!(read(&whole), Ok(said));
        }
    }
}
