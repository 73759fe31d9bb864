//! The layout of the registry's segment, byte by byte.
//!
//! ```text
//! offset         bytes
//! 0              8      magic `RINGPREG`, stored last when the segment is made, with Release
//! 8              4      layout version
//! 12             4      size of the mutex (it differs by C library and processor)
//! 16             4      size of an entry
//! 20             4      capacity, in entries
//! 24             4      process id of the owner
//! 28             4      unused
//! 32             16     the server's identity: a random number, as two words, the lower one first
//! 48             16     unused
//! 64             8      changes: incremented before any entry changes
//! 72             56     unused
//! 128            128    the mutex (`pthread_mutex_t`)
//! 256 + 384 n    384    entry n
//!
//! entry  0       4      state: 0 free, 1 claiming, 2 live, 3 leaving
//!        4       4      generation
//!        8       16     key, as two words, the lower one first
//!        24      4      pid
//!        28      4      uid
//!        32      4      gid
//!        36      4      length of the name
//!        40      8      time of registration, nanoseconds since the epoch
//!        48      64     name
//!        112     16     unused
//!        128     32     calls, sent, bytes in, bytes out, 8 bytes each: written by the worker
//!        160     96     unused
//!        256     8      delivered: written by delivery
//!        264     120    unused
//! ```
//!
//! Words are in the processor's byte order: the segment never leaves the computer. It is a sealed memory file
//! that no client ever gets.

#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::RegistryError;
use crate::shm::Segment;

const MAGIC: u64 = u64::from_ne_bytes(*b"RINGPREG");
const VERSION: u32 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const MUTEX_SIZE_AT: usize = 12;
const ENTRY_SIZE_AT: usize = 16;
const CAPACITY_AT: usize = 20;
pub(super) const OWNER_AT: usize = 24;
const IDENTITY_AT: usize = 32;
pub(super) const CHANGES_AT: usize = 64;
pub(super) const MUTEX_AT: usize = 128;
pub(super) const MUTEX_ROOM: usize = 128;
const ENTRIES_AT: usize = MUTEX_AT + MUTEX_ROOM;

// Offsets in an entry.
pub(super) const STATE: usize = 0;
pub(super) const GENERATION: usize = 4;
pub(super) const KEY: usize = 8;
pub(super) const PID: usize = 24;
pub(super) const UID: usize = 28;
pub(super) const GID: usize = 32;
pub(super) const NAME_LEN: usize = 36;
pub(super) const REGISTERED: usize = 40;
pub(super) const NAME: usize = 48;
pub(super) const CALLS: usize = 128;
pub(super) const SENT: usize = 136;
pub(super) const BYTES_IN: usize = 144;
pub(super) const BYTES_OUT: usize = 152;
pub(super) const DELIVERED: usize = 256;
const ENTRY_SIZE: usize = 384;

/// The valid capacities: a key has 16 bits for the slot.
pub(super) const CAPACITIES: RangeInclusive<u32> = 1..=1 << 16;

/// The offset of an entry.
pub(super) const fn entry_at(slot: u16) -> usize {
    ENTRIES_AT + slot as usize * ENTRY_SIZE
}

/// The size of a registry of this capacity, in bytes.
pub(super) const fn size(capacity: u32) -> usize {
    ENTRIES_AT + capacity as usize * ENTRY_SIZE
}

/// Writes the header of a new segment. The mutex must be initialised: the magic number, stored last, says so.
pub(super) fn write(segment: &Segment, capacity: u32, mutex_size: usize, identity: u128, owner: u32) {
    segment.word32(VERSION_AT).store(VERSION, Relaxed);
    segment.word32(MUTEX_SIZE_AT).store(mutex_size as u32, Relaxed);
    segment.word32(ENTRY_SIZE_AT).store(ENTRY_SIZE as u32, Relaxed);
    segment.word32(CAPACITY_AT).store(capacity, Relaxed);
    segment.word32(OWNER_AT).store(owner, Relaxed);
    store128(segment, IDENTITY_AT, identity);
    segment.word64(MAGIC_AT).store(MAGIC, Release);
}

/// Checks that a segment is a registry of this layout, and returns its capacity.
pub(super) fn check(segment: &Segment, mutex_size: usize) -> Result<u32, RegistryError> {
    let len = segment.len();
    if len < ENTRIES_AT || segment.word64(MAGIC_AT).load(Acquire) != MAGIC {
        return Err(RegistryError::NotARegistry);
    }
    let version = segment.word32(VERSION_AT).load(Relaxed);
    if version != VERSION {
        return Err(RegistryError::WrongVersion { found: version, needed: VERSION });
    }
    let mutex = segment.word32(MUTEX_SIZE_AT).load(Relaxed);
    let entry = segment.word32(ENTRY_SIZE_AT).load(Relaxed);
    if mutex as usize != mutex_size || entry as usize != ENTRY_SIZE {
        return Err(RegistryError::WrongLayout { mutex, entry });
    }
    let capacity = segment.word32(CAPACITY_AT).load(Relaxed);
    if !CAPACITIES.contains(&capacity) {
        return Err(RegistryError::BadCapacity { asked: capacity });
    }
    if len != size(capacity) {
        return Err(RegistryError::WrongSize { found: len, needed: size(capacity) });
    }
    Ok(capacity)
}

pub(super) fn identity(segment: &Segment) -> u128 {
    load128(segment, IDENTITY_AT)
}

pub(super) fn load128(segment: &Segment, at: usize) -> u128 {
    let low = segment.word64(at).load(Relaxed);
    let high = segment.word64(at + 8).load(Relaxed);
    u128::from(high) << 64 | u128::from(low)
}

pub(super) fn store128(segment: &Segment, at: usize, value: u128) {
    segment.word64(at).store(value as u64, Relaxed);
    segment.word64(at + 8).store((value >> 64) as u64, Relaxed);
}
