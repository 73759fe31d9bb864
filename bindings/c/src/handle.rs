//! Handles: how an end is given to C and found again, and what is noticed if C mixes them up.
//!
//! A handle is a pointer to a small block that begins with a tag, which says what kind of end it is. Each use
//! takes the handle for its time, so that two threads, or a callback that uses the handle it was called from,
//! never have the same end. When a handle is freed, its end is dropped, and the block waits in a queue before
//! its memory is used again, so that a second free or a late use finds the tag of a freed block.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Failure;
use crate::error::ringpost_status::*;

/// A type that C knows by its name only.
///
/// # Safety
///
/// No two types have the same tag. An `End` may be moved to another thread, and if `SHARED` be used by
/// several.
pub(crate) unsafe trait Opaque {
    type End: Send;
    const TAG: u32;
    const NAME: &'static str;
}

/// The tag of a handle whose end is gone.
const FREED: u32 = 0x6672_6565;
/// In `users`: one that has the end alone. Below it is the number of those that share it.
const ALONE: u32 = u32::MAX;
/// How many freed blocks are kept.
const KEPT: usize = 1024;

/// What a handle points to. Only `end` depends on the kind, and it is a pointer: so a block can be looked at
/// and kept before its kind is known.
#[repr(C)]
struct Block {
    tag: AtomicU32,
    users: AtomicU32,
    end: *mut (),
}

/// A block whose end is gone.
struct Spent(*mut Block);

// SAFETY: the queue is the only owner of the block, and uses nothing of it.
unsafe impl Send for Spent {}

static SPENT: Mutex<VecDeque<Spent>> = Mutex::new(VecDeque::new());

/// Gives an end to C.
pub(crate) fn give<H: Opaque>(end: H::End) -> *mut H {
    let end = Box::into_raw(Box::new(end)).cast();
    let block = Block { tag: AtomicU32::new(H::TAG), users: AtomicU32::new(0), end };
    Box::into_raw(Box::new(block)).cast()
}

/// # Safety
///
/// The pointer is NULL, or one that [`give`] returned and whose block is still kept.
#[inline]
unsafe fn check<'a, H: Opaque>(handle: *const H) -> Result<&'a Block, Failure> {
    if handle.is_null() {
        return Err(Failure::new(RINGPOST_NULL_POINTER, format_args!("the {} is NULL", H::NAME)));
    }
    // SAFETY: it is not NULL, so it points to a block, whatever its kind.
    let block = unsafe { &*handle.cast::<Block>() };
    match block.tag.load(Ordering::Acquire) {
        tag if tag == H::TAG => Ok(block),
        FREED => Err(Failure::new(RINGPOST_FREED_HANDLE, format_args!("the {} was freed before", H::NAME))),
        _ => Err(Failure::new(RINGPOST_WRONG_HANDLE, format_args!("this is no {}", H::NAME))),
    }
}

#[cold]
fn in_use<H: Opaque>() -> Failure {
    Failure::new(RINGPOST_IN_USE, format_args!("another call uses the {} now", H::NAME))
}

/// An end that this call has for itself.
pub(crate) struct Alone<'a, H: Opaque> {
    block: &'a Block,
    end: &'a mut H::End,
}

/// Takes the end for the time of a call.
///
/// # Safety
///
/// As [`check`]; and nobody frees the handle while this runs.
#[inline]
pub(crate) unsafe fn alone<'a, H: Opaque>(handle: *const H) -> Result<Alone<'a, H>, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    if block.users.compare_exchange(0, ALONE, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return Err(in_use::<H>());
    }
    // SAFETY: the tag says that it is an `H::End`. `users` lets nobody else have it until the drop.
    let end = unsafe { &mut *block.end.cast::<H::End>() };
    Ok(Alone { block, end })
}

impl<H: Opaque> Deref for Alone<'_, H> {
    type Target = H::End;

    fn deref(&self) -> &H::End {
        self.end
    }
}

impl<H: Opaque> DerefMut for Alone<'_, H> {
    fn deref_mut(&mut self) -> &mut H::End {
        self.end
    }
}

impl<H: Opaque> Drop for Alone<'_, H> {
    #[inline]
    fn drop(&mut self) {
        self.block.users.store(0, Ordering::Release);
    }
}

/// An end that other threads may use at the same time.
pub(crate) struct Shared<'a, H: Opaque> {
    block: &'a Block,
    end: &'a H::End,
}

/// As [`alone`], for ends that several threads may use.
///
/// # Safety
///
/// As [`alone`].
pub(crate) unsafe fn shared<'a, H: Opaque<End: Sync>>(handle: *const H) -> Result<Shared<'a, H>, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    let more = |users| (users < ALONE - 1).then_some(users + 1);
    if block.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_err() {
        return Err(in_use::<H>());
    }
    // SAFETY: the tag says that it is an `H::End`. `users` lets nobody have it alone until the drop.
    let end = unsafe { &*block.end.cast::<H::End>() };
    Ok(Shared { block, end })
}

impl<H: Opaque> Deref for Shared<'_, H> {
    type Target = H::End;

    fn deref(&self) -> &H::End {
        self.end
    }
}

impl<H: Opaque> Drop for Shared<'_, H> {
    fn drop(&mut self) {
        self.block.users.fetch_sub(1, Ordering::Release);
    }
}

/// Takes an end back from C. The handle is freed with that.
///
/// # Safety
///
/// As [`alone`].
pub(crate) unsafe fn take<H: Opaque>(handle: *mut H) -> Result<H::End, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    if block.users.compare_exchange(0, ALONE, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return Err(in_use::<H>());
    }
    block.tag.store(FREED, Ordering::Release);
    // SAFETY: the tag said that it is an `H::End`, of which nobody else had the use; nobody gets it any more.
    let end = unsafe { Box::from_raw(block.end.cast::<H::End>()) };
    let mut spent = SPENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    spent.push_back(Spent(handle.cast()));
    let oldest = if spent.len() > KEPT { spent.pop_front() } else { None };
    drop(spent);
    if let Some(Spent(oldest)) = oldest {
        // SAFETY: `give` made it of a box. It came into the queue once, as only one `take` found its tag.
        drop(unsafe { Box::from_raw(oldest) });
    }
    Ok(*end)
}
