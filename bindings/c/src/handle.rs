//! Handles: how an end is given to C and found again, and what is noticed if C mixes them up.
//!
//! A handle is a pointer to a small block that begins with a tag, which says what kind of end it is. Each use
//! takes the end for its time, so that two threads, or a callback that uses the handle it was called from,
//! never have the same end. Some kinds have a second part, the side, which has its own word: so one thread
//! may use the side while another uses the end. When a handle is freed, its end is dropped, and the block is
//! kept for a while, so that a second free or a late use finds the tag of a freed block.

use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use crate::error::Failure;
use crate::error::ringpost_status::*;

/// A type that C knows by its name only.
///
/// # Safety
///
/// No two types have the same tag.
pub(crate) unsafe trait Opaque {
    /// What one thread at a time has.
    type End: Send;
    /// What another thread may have at the same time. It is dropped before the end.
    type Side: Send;
    const TAG: u32;
    const NAME: &'static str;
}

/// The tag of a handle whose end is gone.
const FREED: u32 = 0x6672_6565;
/// In a word of users: one that has it alone. Below `LENT` it is the number of those that share it.
const ALONE: u32 = u32::MAX;
/// In a word of users: what lies in the side borrows the end.
const LENT: u32 = u32::MAX - 1;
/// How many freed blocks are kept.
const KEPT: usize = 1024;

/// What a handle points to. Only `end` and `side` depend on the kind, and they are pointers: so a block can
/// be looked at and kept before its kind is known.
#[repr(C)]
struct Block {
    tag: AtomicU32,
    users: AtomicU32,
    side_users: AtomicU32,
    end: *mut (),
    side: *mut (),
}

/// The blocks whose ends are gone, in a circle.
static SPENT: [AtomicPtr<Block>; KEPT] = [const { AtomicPtr::new(ptr::null_mut()) }; KEPT];
static NEXT_SPENT: AtomicUsize = AtomicUsize::new(0);

/// Gives an end to C.
pub(crate) fn give<H: Opaque<Side = ()>>(end: H::End) -> *mut H {
    give_with_side(end, ())
}

/// Gives an end and its side to C.
pub(crate) fn give_with_side<H: Opaque>(end: H::End, side: H::Side) -> *mut H {
    let block = Block {
        tag: AtomicU32::new(H::TAG),
        users: AtomicU32::new(0),
        side_users: AtomicU32::new(0),
        end: Box::into_raw(Box::new(end)).cast(),
        side: Box::into_raw(Box::new(side)).cast(),
    };
    Box::into_raw(Box::new(block)).cast()
}

/// # Safety
///
/// The pointer is NULL, or one that [`give`] or [`give_with_side`] returned and whose block is still kept.
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
        _ => Err(Failure::new(RINGPOST_WRONG_HANDLE, format_args!("this handle is not a {}", H::NAME))),
    }
}

#[cold]
fn in_use<H: Opaque>(found: u32) -> Failure {
    match found {
        LENT => Failure::new(
            RINGPOST_IN_USE,
            format_args!("a grant or a view of the {} is open: end it first", H::NAME),
        ),
        _ => Failure::new(
            RINGPOST_IN_USE,
            format_args!("another call uses the {} now, on this thread or another", H::NAME),
        ),
    }
}

/// Sets a word of users from nobody to one that has it alone.
#[inline]
fn enter<H: Opaque>(users: &AtomicU32) -> Result<(), Failure> {
    let entered = users.compare_exchange(0, ALONE, Ordering::Acquire, Ordering::Relaxed);
    entered.map(drop).map_err(in_use::<H>)
}

/// A part of a handle that this call has for itself.
pub(crate) struct Alone<'a, T> {
    users: &'a AtomicU32,
    part: &'a mut T,
}

/// Takes the end for the time of a call.
///
/// # Safety
///
/// As [`check`]; and nobody frees the handle while this runs.
#[inline]
pub(crate) unsafe fn alone<'a, H: Opaque>(handle: *const H) -> Result<Alone<'a, H::End>, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    enter::<H>(&block.users)?;
    // SAFETY: the tag says that it is an `H::End`. `users` lets nobody else have it until the drop.
    let part = unsafe { &mut *block.end.cast::<H::End>() };
    Ok(Alone { users: &block.users, part })
}

/// Takes the side for the time of a call.
///
/// # Safety
///
/// As [`alone`].
#[inline]
pub(crate) unsafe fn side<'a, H: Opaque>(handle: *const H) -> Result<Alone<'a, H::Side>, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    enter::<H>(&block.side_users)?;
    // SAFETY: the tag says that its side is an `H::Side`. `side_users` lets nobody else have it until the
    // drop.
    let part = unsafe { &mut *block.side.cast::<H::Side>() };
    Ok(Alone { users: &block.side_users, part })
}

impl<'a, T> Alone<'a, T> {
    /// Lends the end: nobody gets it, until [`give_back`] is called or the handle is freed.
    ///
    /// # Safety
    ///
    /// What borrows from it is gone before that, or lies in the handle's side.
    pub(crate) unsafe fn lend(self) -> &'a mut T {
        self.users.store(LENT, Ordering::Relaxed);
        let part: *mut T = &raw mut *std::mem::ManuallyDrop::new(self).part;
        // SAFETY: it was this call's alone, whose guard is gone. Others find that it is lent.
        unsafe { &mut *part }
    }
}

/// The end may be used again.
///
/// # Safety
///
/// As [`alone`]. The end was lent, and nothing borrows it any more.
pub(crate) unsafe fn give_back<H: Opaque>(handle: *const H) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    block.users.store(0, Ordering::Release);
    Ok(())
}

impl<T> Deref for Alone<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.part
    }
}

impl<T> DerefMut for Alone<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.part
    }
}

impl<T> Drop for Alone<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.users.store(0, Ordering::Release);
    }
}

/// A part of a handle that other threads may use at the same time.
pub(crate) struct Shared<'a, T> {
    users: &'a AtomicU32,
    part: &'a T,
}

/// Adds one to those that share it.
fn join<H: Opaque>(users: &AtomicU32) -> Result<(), Failure> {
    let more = |users| (users < LENT - 1).then_some(users + 1);
    users.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).map(drop).map_err(in_use::<H>)
}

/// As [`alone`], for ends that several threads may use.
///
/// # Safety
///
/// As [`alone`].
pub(crate) unsafe fn shared<'a, H: Opaque<End: Sync>>(
    handle: *const H,
) -> Result<Shared<'a, H::End>, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    join::<H>(&block.users)?;
    // SAFETY: the tag says that it is an `H::End`. `users` lets nobody have it alone until the drop.
    let part = unsafe { &*block.end.cast::<H::End>() };
    Ok(Shared { users: &block.users, part })
}

/// As [`side`], for sides that several threads may use.
///
/// # Safety
///
/// As [`alone`].
pub(crate) unsafe fn shared_side<'a, H: Opaque<Side: Sync>>(
    handle: *const H,
) -> Result<Shared<'a, H::Side>, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    join::<H>(&block.side_users)?;
    // SAFETY: the tag says that its side is an `H::Side`. `side_users` lets nobody have it alone until the
    // drop.
    let part = unsafe { &*block.side.cast::<H::Side>() };
    Ok(Shared { users: &block.side_users, part })
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.part
    }
}

impl<T> Drop for Shared<'_, T> {
    fn drop(&mut self) {
        self.users.fetch_sub(1, Ordering::Release);
    }
}

/// Takes an end back from C. The handle is freed with that; what was lent of it ends.
///
/// # Safety
///
/// As [`alone`].
pub(crate) unsafe fn take<H: Opaque>(handle: *mut H) -> Result<H::End, Failure> {
    // SAFETY: the caller's promise.
    let block = unsafe { check(handle)? };
    enter::<H>(&block.side_users)?;
    let lent = block.users.compare_exchange(LENT, ALONE, Ordering::Acquire, Ordering::Relaxed);
    if lent.is_err()
        && let Err(failure) = enter::<H>(&block.users)
    {
        block.side_users.store(0, Ordering::Release);
        return Err(failure);
    }
    block.tag.store(FREED, Ordering::Release);
    // SAFETY: the tag said that it is an `H::Side`, of which nobody else had the use; nobody gets it any
    // more.
    drop(unsafe { Box::from_raw(block.side.cast::<H::Side>()) });
    // SAFETY: as above. What borrowed it lay in the side, and is gone.
    let end = unsafe { Box::from_raw(block.end.cast::<H::End>()) };
    let place = NEXT_SPENT.fetch_add(1, Ordering::Relaxed) % KEPT;
    let oldest = SPENT[place].swap(handle.cast(), Ordering::AcqRel);
    if !oldest.is_null() {
        // SAFETY: `give_with_side` made it of a box. It came here once, as only one `take` found its tag.
        drop(unsafe { Box::from_raw(oldest) });
    }
    Ok(*end)
}
