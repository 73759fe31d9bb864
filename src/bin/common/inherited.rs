//! Descriptors that whoever started this process has left open for it.

use std::io;
use std::os::fd::OwnedFd;

/// Takes over the descriptor with this number. Each can be taken once, and only if it came from the process
/// that started this one. The standard three cannot be taken.
pub fn take(number: i32) -> io::Result<OwnedFd> {
    crate::os::inherited::take(number)
}
