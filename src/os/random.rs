//! Random bytes from the kernel.

#![forbid(unsafe_code)]

use std::io;

use rustix::io::{Errno, retry_on_intr};
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `bytes` with random ones. Blocks only until the computer has gathered enough randomness after its
/// start.
pub(crate) fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match retry_on_intr(|| getrandom(&mut *bytes, GetRandomFlags::empty()))? {
            0 => return Err(Errno::IO.into()),
            filled => bytes = &mut bytes[filled..],
        }
    }
    Ok(())
}
