//! What C passes in and gets out: text, payloads, keys, durations.

use std::ffi::{CStr, c_char, c_void};
use std::time::Duration;

use bus::{Key, Peer};

use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status};

/// Of a text with its NUL, in bytes: a name.
pub const RINGPOST_NAME_SIZE: usize = 65;
/// Of a text with its NUL, in bytes: a topic.
pub const RINGPOST_TOPIC_SIZE: usize = 129;
/// Of a text with its NUL, in bytes: a key.
pub const RINGPOST_KEY_TEXT_SIZE: usize = 27;

/// A client's key. Two are the same if all their bytes are.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ringpost_key {
    /// The key. Their order is the same on all machines.
    pub bytes: [u8; 16],
}

/// A client, as the server knows it: it cannot pretend to be another.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ringpost_peer {
    /// Its key.
    pub key: ringpost_key,
    /// Its name.
    pub name: [c_char; RINGPOST_NAME_SIZE],
    /// Its process, at the time of its registration.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl From<Key> for ringpost_key {
    fn from(key: Key) -> ringpost_key {
        ringpost_key { bytes: key.to_bytes() }
    }
}

impl From<&Peer> for ringpost_peer {
    fn from(peer: &Peer) -> ringpost_peer {
        let Peer { key, name, pid, uid, gid, .. } = peer;
        ringpost_peer { key: (*key).into(), name: fill(name.as_str()), pid: *pid, uid: *uid, gid: *gid }
    }
}

/// A text in an array, with a NUL behind it. What does not fit is cut off, between characters; names and
/// topics always fit.
pub(crate) fn fill<const SIZE: usize>(text: &str) -> [c_char; SIZE] {
    let end = (0..=text.len().min(SIZE - 1)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let mut filled = [0; SIZE];
    for (to, from) in filled.iter_mut().zip(text[..end].bytes()) {
        *to = from as c_char;
    }
    filled
}

/// Writes a key as text: 26 digits and letters and a NUL, which every function that takes a name takes as
/// well. Does not block.
///
/// Requires: `key` points to a key, `text` to an array of RINGPOST_KEY_TEXT_SIZE bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_key_text(
    key: *const ringpost_key,
    text: *mut [c_char; RINGPOST_KEY_TEXT_SIZE],
) -> ringpost_status {
    crate::error::run(|| {
        // SAFETY: the caller's promises.
        let (key, out) = unsafe { (read(key, "key")?, place(text, "text")?) };
        out.put(fill(&key.to_string()));
        Ok(())
    })
}

/// # Safety
///
/// The pointer is NULL or points to a key.
pub(crate) unsafe fn read(key: *const ringpost_key, what: &str) -> Result<Key, Failure> {
    // SAFETY: the caller's promise.
    let key = unsafe { key.as_ref() }.ok_or_else(|| null(what))?;
    Ok(Key::from_bytes(key.bytes))
}

#[cold]
pub(crate) fn null(what: &str) -> Failure {
    Failure::new(RINGPOST_NULL_POINTER, format_args!("{what} is NULL"))
}

/// # Safety
///
/// The pointer is NULL or points to a text with a NUL at its end, which nobody changes for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    let not = |_| Failure::new(RINGPOST_INVALID_ARGUMENT, format_args!("{what} is not UTF-8"));
    text.to_str().map_err(not)
}

/// # Safety
///
/// The pointer is NULL or points to `len` bytes, which nobody changes for `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    // SAFETY: the caller's promise.
    unsafe { slice(data.cast(), len, "the data") }
}

/// # Safety
///
/// The pointer is NULL or points to `len` values, which nobody changes for `'a`.
#[inline]
pub(crate) unsafe fn slice<'a, T>(data: *const T, len: usize, what: &str) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null(what));
    }
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::new(RINGPOST_INVALID_ARGUMENT, format_args!("{what} cannot be that long")));
    }
    // SAFETY: the caller's promise; it is not longer than memory can be.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// Where a result goes.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    #[inline]
    pub(crate) fn put(self, value: T) {
        // SAFETY: `place` was promised that it is the caller's, and has seen that it is not NULL.
        unsafe { self.0.write(value) }
    }
}

/// # Safety
///
/// The pointer is NULL or points to room for a `T`, for as long as the place is there.
#[inline]
pub(crate) unsafe fn place<T>(out: *mut T, what: &str) -> Result<Place<T>, Failure> {
    if out.is_null() {
        return Err(null(what));
    }
    Ok(Place(out))
}

/// Where a reply goes: its address and its length.
pub(crate) struct ReplyPlace(Place<*const c_void>, Place<usize>);

impl ReplyPlace {
    #[inline]
    pub(crate) fn put(self, reply: &[u8]) {
        self.0.put(reply.as_ptr().cast());
        self.1.put(reply.len());
    }
}

/// # Safety
///
/// That of [`place`], for both pointers.
#[inline]
pub(crate) unsafe fn reply_place(
    reply: *mut *const c_void,
    reply_len: *mut usize,
) -> Result<ReplyPlace, Failure> {
    // SAFETY: the caller's promise.
    Ok(unsafe { ReplyPlace(place(reply, "reply")?, place(reply_len, "reply_len")?) })
}

/// `None` is no limit.
#[inline]
pub(crate) fn limit(timeout_ns: i64) -> Option<Duration> {
    u64::try_from(timeout_ns).ok().map(Duration::from_nanos)
}

/// For operations of the library that always have a limit: without one, about 136 years.
pub(crate) fn long_limit(timeout_ns: i64) -> Duration {
    limit(timeout_ns).unwrap_or(Duration::from_secs(u32::MAX.into()))
}

#[cold]
pub(crate) fn nothing_yet() -> Failure {
    Failure::new(RINGPOST_TIMED_OUT, "there is nothing now")
}
