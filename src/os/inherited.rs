#![allow(unsafe_code)]

//! Takes over descriptors that were open when this process began.
//!
//! A program that was given a descriptor knows only its number. The number becomes an [`OwnedFd`] here, and
//! must not belong to anything else in this process. The flag close-on-exec tells them apart: a descriptor
//! with the flag cannot have come through `exec`, and the standard library, rustix and this library give it
//! to each that they open. So what has no such flag, and is not one of the standard three, was inherited. The
//! flag is set when it is taken, so that it is taken once.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

/// Standard input, output and error.
const STANDARD: i32 = 3;

/// Held while a descriptor is looked at and marked.
static TAKING: Mutex<()> = Mutex::new(());

/// Takes over an inherited descriptor.
pub(crate) fn take(number: i32) -> io::Result<OwnedFd> {
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if number < STANDARD {
        return Err(Errno::BADF.into());
    }
    // SAFETY: `number` is not -1. If it is open, it is inherited, and stays open, for nobody else in this
    // process knows it; or it has an owner, and then only its flags are read, which harms nobody even if
    // the owner closes it just now. If it is not open, the call fails.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed)?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(io::Error::other("it was opened by this process"));
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, came through `exec`, and was not taken before: it had no flag. So nobody owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn only_an_inherited_descriptor_is_taken_and_only_once() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(take(reader.as_raw_fd()).is_err(), "it has an owner in this process");
        for number in [-1, 0, 1, 2, i32::MAX] {
            assert!(take(number).is_err(), "{number}");
        }
        // A copy without the flag is as an inherited one.
        let number = rustix::io::dup(&writer).unwrap().into_raw_fd();
        let taken = take(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(take(number).is_err(), "it was taken");
    }
}
