//! Where a ring's words and records lie, and what a record header says.

/// Records begin at, and are measured in, cache lines.
pub(crate) use crate::shm::LINE;

/// Bytes of a record before its payload.
pub(crate) const HEADER: usize = 8;

pub(crate) use crate::shm::CONTROL;

/// Offsets in the control block.
pub(crate) const HEAD: usize = 0;
/// How many blocks the consumer has taken, in the line of `HEAD`, which it writes anyway. Only an inbox's
/// consumer says so.
pub(crate) const TAKEN: usize = 8;
pub(crate) const CONSUMER_PARKED: usize = 128;
/// Not 0 once the consumer has given up the ring. Only the consumer writes it. It is seldom written, as is
/// the parked word beside it.
pub(crate) const GIVEN_UP: usize = 192;
pub(crate) const PRODUCER_PARKED: usize = 256;

/// The smallest ring: one line for a block of up to 56 bytes, and one for the zeroed header behind it.
pub(crate) const MIN_CAPACITY: usize = 2 * LINE;

/// The largest ring. Its lengths and line numbers are far below the limits of a header's 32 and 30 bits.
pub(crate) const MAX_CAPACITY: usize = 1 << 30;

/// The largest block that a ring of `capacity` bytes takes: with k lines for the record, k - 1 for padding
/// before it and 1 for the zeroed header after it, 2k lines always fit into an empty ring, wherever it
/// stands.
pub(crate) const fn largest_block(capacity: usize) -> usize {
    capacity / 2 - HEADER
}

/// Whole lines for a payload of `len` bytes, as bytes.
#[inline(always)]
pub(crate) const fn record_size(len: usize) -> u64 {
    ((len + HEADER).div_ceil(LINE) * LINE) as u64
}

/// The longest block whose record is a single line.
pub(crate) const ONE_LINE: usize = LINE - HEADER;

const KIND_SHIFT: u32 = 32;
const KIND_DATA: u64 = 0b01 << KIND_SHIFT;
const KIND_PADDING: u64 = 0b10 << KIND_SHIFT;
const KIND_MASK: u64 = 0b11 << KIND_SHIFT;
const LINE_SHIFT: u32 = 34;

/// The header where nothing is committed yet.
pub(crate) const EMPTY: u64 = 0;

/// The part of a header that its position determines: the line number, modulo 2^30.
#[inline(always)]
const fn line_bits(position: u64) -> u64 {
    (position / LINE as u64) << LINE_SHIFT
}

/// The header of a block of `len` bytes at `position`. `len` fits 32 bits: capacities do.
#[inline(always)]
pub(crate) const fn data_header(position: u64, len: usize) -> u64 {
    line_bits(position) | KIND_DATA | len as u64
}

/// The upper half of the header of any block at `position`: kind and line number. Its lower half is the
/// length.
#[inline(always)]
pub(crate) const fn data_mark(position: u64) -> u64 {
    (line_bits(position) | KIND_DATA) >> KIND_SHIFT
}

/// The header of a padding record of `size` whole bytes (header included) at `position`.
#[inline(always)]
pub(crate) const fn padding_header(position: u64, size: u64) -> u64 {
    line_bits(position) | KIND_PADDING | (size - HEADER as u64)
}

/// The header of a record of one line in a topic, by which the publisher skips numbers of samples. Elsewhere
/// no header is of this kind.
#[inline(always)]
pub(crate) const fn gap_header(position: u64) -> u64 {
    line_bits(position) | KIND_MASK | size_of::<u64>() as u64
}

/// The meaning of a header that the other side wrote, after [`check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// A block of this many bytes.
    Data(usize),
    /// Skip to the start of the ring.
    Padding,
}

/// Checks and decodes a header other than [`EMPTY`] found at `position`. The other side may have written any
/// `word`; the caller loaded it once.
#[inline(always)]
pub(crate) fn check(
    word: u64,
    position: u64,
    capacity: usize,
    max_block: usize,
) -> Result<Header, Violation> {
    if word >> LINE_SHIFT != line_bits(position) >> LINE_SHIFT {
        return Err(Violation::HeaderPosition);
    }
    let len = (word & 0xffff_ffff) as usize;
    let offset = (position & (capacity as u64 - 1)) as usize;
    match word & KIND_MASK {
        KIND_DATA => {
            if len > max_block {
                return Err(Violation::BlockLength);
            }
            if offset as u64 + record_size(len) > capacity as u64 {
                return Err(Violation::BlockBounds);
            }
            Ok(Header::Data(len))
        }
        KIND_PADDING => {
            if offset == 0 || offset as u64 + HEADER as u64 + len as u64 != capacity as u64 {
                return Err(Violation::Padding);
            }
            Ok(Header::Padding)
        }
        _ => Err(Violation::HeaderKind),
    }
}

/// A rule of the ring that the other side broke. This closes the channel and affects nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A record header whose line number is not that of its place.
    #[error("a record header does not belong to its position")]
    HeaderPosition,
    /// A record header that is neither data nor padding.
    #[error("a record header is of no known kind")]
    HeaderKind,
    /// A block longer than the ring's largest.
    #[error("a block is longer than the maximum")]
    BlockLength,
    /// A record that runs past the end of the ring.
    #[error("a record runs past the end of the ring")]
    BlockBounds,
    /// A padding record that does not end exactly at the end of the ring.
    #[error("a padding record does not reach exactly to the end of the ring")]
    Padding,
    /// A head that moved backwards or past the committed tail, or is no multiple of a line.
    #[error("the head of the ring is where it cannot be")]
    Head,
    /// More fruitless wakes than a correct peer can cause.
    #[error("woken again and again for nothing")]
    FruitlessWakes,
    /// A block that the layer above rejected.
    #[error("a block does not have the form of its operation")]
    Rejected,
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: usize = 1024;
    const MAX: usize = largest_block(C);

    #[test]
    fn headers_are_never_empty_and_read_back() {
        for position in [0, 64, 960, 1024, ((1 << 30) - 1) * 64, 1 << 36, u64::MAX - 63] {
            for len in [0, 1, 55, 56, 57] {
                let word = data_header(position, len);
                assert_ne!(word, EMPTY);
                if len <= 56 {
                    assert_eq!(check(word, position, C, MAX), Ok(Header::Data(len)));
                }
            }
            if position % 1024 != 0 {
                let word = padding_header(position, 1024 - position % 1024);
                assert_ne!(word, EMPTY);
                assert_eq!(check(word, position, C, MAX), Ok(Header::Padding));
            }
        }
    }

    #[test]
    fn every_broken_rule_is_named() {
        let wrong = |word, position| check(word, position, C, MAX).unwrap_err();
        assert_eq!(wrong(data_header(64, 5), 128), Violation::HeaderPosition);
        assert_eq!(wrong(data_header(64, 5), 64 + C as u64), Violation::HeaderPosition);
        assert_eq!(wrong(line_bits(64), 64), Violation::HeaderKind);
        assert_eq!(wrong(line_bits(64) | KIND_MASK, 64), Violation::HeaderKind);
        assert_eq!(wrong(gap_header(64), 64), Violation::HeaderKind);
        assert_eq!(wrong(1, 0), Violation::HeaderKind);
        assert_eq!(wrong(data_header(0, MAX + 1), 0), Violation::BlockLength);
        assert_eq!(wrong(data_header(0, u32::MAX as usize), 0), Violation::BlockLength);
        assert_eq!(wrong(data_header(960, 57), 960), Violation::BlockBounds);
        assert_eq!(wrong(padding_header(0, 1024), 0), Violation::Padding);
        assert_eq!(wrong(padding_header(64, 1024), 64), Violation::Padding);
        assert_eq!(wrong(padding_header(64, 896), 64), Violation::Padding);
        assert_eq!(wrong(padding_header(64, 8), 64), Violation::Padding);
    }

    #[test]
    fn the_largest_block_fits_twice() {
        for capacity in [128, 256, 1024, 1 << 20] {
            let record = record_size(largest_block(capacity));
            assert_eq!(2 * record, capacity as u64);
        }
        assert_eq!(record_size(0), 64);
        assert_eq!(record_size(56), 64);
        assert_eq!(record_size(57), 128);
    }
}
