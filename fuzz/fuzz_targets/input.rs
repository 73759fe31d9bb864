//! `Input`: reads values from a fuzz input, byte by byte. Missing bytes read as zero.

#![allow(dead_code, reason = "each target uses a part of it")]

/// A head that is some lines beyond this one, and seldom also a few bytes.
pub fn near_head(head: u64, lines: u8, off: u8) -> u64 {
    head.wrapping_add(u64::from(lines) % 80 * 64 + u64::from(off / 250))
}

pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn word16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word32(&mut self) -> u32 {
        u32::from(self.word16()) | u32::from(self.word16()) << 16
    }

    pub fn word64(&mut self) -> u64 {
        u64::from(self.word32()) | u64::from(self.word32()) << 32
    }

    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A line number at or just below one where a number wraps, or any other.
    pub fn start_line(&mut self) -> u64 {
        let before = u64::from(self.byte());
        match self.byte() % 6 {
            0 => before,
            1 => (1 << 30) - before,
            2 => (1 << 32) - before,
            3 => (1 << 36) - before,
            4 => (1 << 57) - 1 - before,
            _ => self.word64(),
        }
    }
}
