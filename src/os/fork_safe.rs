#![allow(unsafe_code)]

//! Words of this process alone, and how a process that was made by `fork` is told from the one that made it.
//!
//! A forked child inherits everything: the mappings of channels, the connections, every position that this
//! end of a ring keeps to itself. Used by both, a ring's end would be two ends. So what belongs to one
//! process carries a word that its children do not inherit: it lies in a page that the kernel fills with
//! zeros in a child (`MADV_WIPEONFORK`, Linux 4.14), and 0 is no value that anybody stores there. Whoever has
//! to look at the word anyway learns by the same look that it is another's. Numbers of processes would not
//! do: the first process of a nested namespace has the same as that of the outer one.
//!
//! Where the kernel does not know that advice, a handler of the C library (`pthread_atfork`) stores the zeros
//! in the child.
//!
//! The pages are never given back: a forked child that takes a word must not find one that something
//! inherited still looks at, so which words are taken is kept elsewhere and inherited. A page has 64 words.
//!
//! Nothing here locks: a lock that another thread held at the fork is held in the child for ever.

use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use memmap2::MmapOptions;
use rustix::mm::{Advice, madvise};

/// What a word reads in a child that was forked after the word was made. Nobody stores it.
pub(crate) const FOREIGN: u32 = 0;

/// A 32-bit word in memory of this process.
#[derive(Clone)]
pub(crate) struct ForkSafeWord {
    word: NonNull<AtomicU32>,
    _keeps: Arc<Kept>,
}

/// Where the word is.
enum Kept {
    /// In ordinary memory, of which a child has a copy.
    Here(AtomicU32),
    /// In a page that is not inherited.
    Slot(Slot),
}

impl Kept {
    fn word(&self) -> &AtomicU32 {
        match self {
            Kept::Here(word) => word,
            Kept::Slot(slot) => slot.word(),
        }
    }
}

// SAFETY: a pointer to an atomic word that the `Arc` keeps; any number of threads may use it at once.
unsafe impl Send for ForkSafeWord {}
// SAFETY: as for `Send`.
unsafe impl Sync for ForkSafeWord {}

impl ForkSafeWord {
    /// In ordinary memory: a forked child has a copy.
    pub(crate) fn inherited(value: u32) -> ForkSafeWord {
        ForkSafeWord::keeping(Kept::Here(AtomicU32::new(value)))
    }

    /// One that reads [`FOREIGN`] in every forked child. The value must be another.
    pub(crate) fn not_inherited(value: u32) -> io::Result<ForkSafeWord> {
        debug_assert_ne!(value, FOREIGN);
        let slot = WORDS.take()?;
        slot.word().store(value, Ordering::Relaxed);
        Ok(ForkSafeWord::keeping(Kept::Slot(slot)))
    }

    fn keeping(kept: Kept) -> ForkSafeWord {
        let keeps = Arc::new(kept);
        ForkSafeWord { word: NonNull::from(keeps.word()), _keeps: keeps }
    }

    /// Whether this process is a forked child of the one that made the word. Never so if it is inherited.
    #[inline(always)]
    pub(crate) fn is_foreign(&self) -> bool {
        self.load(Ordering::Relaxed) == FOREIGN
    }
}

impl Deref for ForkSafeWord {
    type Target = AtomicU32;

    #[inline(always)]
    fn deref(&self) -> &AtomicU32 {
        // SAFETY: the pointer came from a reference to the word that the `Arc` keeps.
        unsafe { self.word.as_ref() }
    }
}

// ---- the pages

/// Words of a page, as many as the bits of a mask.
const WORDS_OF_A_PAGE: usize = 64;

/// Each word is read in every call, so a store into another word must not take its cache line away.
type Lines = [CachePadded<AtomicU32>; WORDS_OF_A_PAGE];

/// A page of words. It is made once and stays for ever.
struct Page {
    words: &'static Lines,
    /// A bit for each. Inherited, unlike the words.
    taken: AtomicU64,
    next: Option<&'static Page>,
}

struct Pages {
    newest: AtomicPtr<Page>,
    /// Whether the handler is installed that does what the kernel does not do.
    handled: AtomicBool,
}

static WORDS: Pages = Pages::new();

/// A word that was taken, until it is dropped.
struct Slot {
    page: &'static Page,
    index: usize,
}

impl Slot {
    fn word(&self) -> &'static AtomicU32 {
        &self.page.words[self.index]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.page.taken.fetch_and(!(1 << self.index), Ordering::Release);
    }
}

impl Pages {
    const fn new() -> Pages {
        Pages { newest: AtomicPtr::new(ptr::null_mut()), handled: AtomicBool::new(false) }
    }

    fn take(&'static self) -> io::Result<Slot> {
        match self.all().find_map(Page::take) {
            Some(slot) => Ok(slot),
            None => self.grow(wipe_on_fork),
        }
    }

    fn all(&'static self) -> impl Iterator<Item = &'static Page> {
        std::iter::successors(published(self.newest.load(Ordering::Acquire)), |page| page.next)
    }

    /// Another page, with its first word taken. `advise` is what makes the kernel wipe it in children.
    fn grow(&'static self, advise: impl FnOnce(*mut Lines) -> bool) -> io::Result<Slot> {
        let mut map = MmapOptions::new().len(size_of::<Lines>()).map_anon()?;
        let start: *mut Lines = map.as_mut_ptr().cast();
        if !advise(start) {
            self.handle_forks()?;
        }
        std::mem::forget(map);
        // SAFETY: whole pages of zeros, which are valid words and aligned as `Lines` must be; nobody else
        // knows it, and it is never unmapped.
        let words = unsafe { &*start };
        let page = Box::into_raw(Box::new(Page { words, taken: AtomicU64::new(1), next: None }));
        let mut newest = self.newest.load(Ordering::Acquire);
        loop {
            // SAFETY: it came from a box just now, and nobody else knows it yet.
            unsafe { (*page).next = published(newest) };
            match self.newest.compare_exchange(newest, page, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => newest = other,
            }
        }
        // SAFETY: it is never freed, and from now on nobody writes but to its atomics.
        Ok(Slot { page: unsafe { &*page }, index: 0 })
    }

    /// From now on the C library wipes the words in children.
    fn handle_forks(&self) -> io::Result<()> {
        extern "C" fn wipe() {
            for page in WORDS.all() {
                for word in page.words {
                    word.store(FOREIGN, Ordering::Relaxed);
                }
            }
        }
        if self.handled.load(Ordering::Acquire) {
            return Ok(());
        }
        // SAFETY: `wipe` only loads and stores atomics, which a child may do before anything else; it stays
        // as long as the program.
        match unsafe { libc::pthread_atfork(None, None, Some(wipe)) } {
            0 => {
                // Two threads may both come here: to wipe twice does no harm.
                self.handled.store(true, Ordering::Release);
                Ok(())
            }
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Page {
    fn take(&'static self) -> Option<Slot> {
        loop {
            let index = self.taken.load(Ordering::Relaxed).trailing_ones() as usize;
            if index == WORDS_OF_A_PAGE {
                return None;
            }
            // Another thread may be quicker.
            if let Some(slot) = self.take_at(index) {
                return Some(slot);
            }
        }
    }

    /// Unless it is taken.
    fn take_at(&'static self, index: usize) -> Option<Slot> {
        let bit = 1 << index;
        // Acquire: behind whatever its last holder did with the word.
        let before = self.taken.fetch_or(bit, Ordering::Acquire);
        (before & bit == 0).then(|| Slot { page: self, index })
    }
}

/// What an [`AtomicPtr`] here holds, loaded with Acquire.
fn published<T>(pointer: *mut T) -> Option<&'static T> {
    // SAFETY: null, or what was leaked, and published with Release after it was written for the last time.
    unsafe { pointer.as_ref() }
}

fn wipe_on_fork(page: *mut Lines) -> bool {
    // SAFETY: a mapping of that length, made just now, to which no reference exists yet. The advice changes
    // nothing in this process.
    unsafe { madvise(page.cast(), size_of::<Lines>(), Advice::LinuxWipeOnFork) }.is_ok()
}

// ---- statics

/// A static of which each process makes one of its own: a forked child does not find its parent's.
pub(crate) struct PerProcess<T: 'static> {
    newest: AtomicPtr<(ForkSafeWord, T)>,
}

impl<T: Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// This process's, if it has made it.
    pub(crate) fn get(&self) -> Option<&'static T> {
        own(self.newest.load(Ordering::Acquire))
    }

    /// This process's, made now if it is not there. What several threads make at once is one of them all.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<&'static T> {
        let seen = self.newest.load(Ordering::Acquire);
        if let Some(value) = own(seen) {
            return Ok(value);
        }
        let made = Box::into_raw(Box::new((ForkSafeWord::not_inherited(1)?, make()?)));
        // Only in the place of what was seen, which is nothing or a parent's: never of what another thread
        // has made meanwhile.
        if self.newest.compare_exchange(seen, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: it came from a box just now and was not published.
            drop(unsafe { Box::from_raw(made) });
            // Another thread of this process was quicker; a process has no threads that its parent started.
            return self.get().ok_or_else(|| io::ErrorKind::Interrupted.into());
        }
        // SAFETY: published, and so never freed.
        Ok(unsafe { &(*made).1 })
    }
}

/// The value of an [`PerProcess`], unless a parent made it.
fn own<T>(pointer: *mut (ForkSafeWord, T)) -> Option<&'static T> {
    let (owner, value) = published(pointer)?;
    (!owner.is_foreign()).then_some(value)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::registry::fork;
    use rustix::process::{Pid, WaitOptions, waitpid};

    /// Ends a child whose look did not show what it should.
    fn demand(holds: bool) {
        if !holds {
            std::process::abort();
        }
    }

    fn wait_for_success(child: Pid) {
        let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0), "{status:?}");
    }

    #[test]
    fn a_child_finds_its_parent_s_words_wiped() {
        let ours = ForkSafeWord::not_inherited(7).unwrap();
        let inherited = ForkSafeWord::inherited(8);
        // What a kernel without the advice leaves to the handler.
        let slot = WORDS.grow(|_| false).unwrap();
        slot.word().store(9, Ordering::Relaxed);
        let child = fork(|| {
            demand(ours.is_foreign() && slot.word().load(Ordering::Relaxed) == FOREIGN);
            demand(inherited.load(Ordering::Relaxed) == 8);
            // What it takes itself is another one, and its own.
            let other = ForkSafeWord::not_inherited(7);
            demand(other.is_ok_and(|other| !other.is_foreign() && other.word != ours.word));
            demand(ours.is_foreign());
        });
        wait_for_success(child);
        assert_eq!((ours.load(Ordering::Relaxed), slot.word().load(Ordering::Relaxed)), (7, 9));
    }

    /// In pages that the handler does not know.
    #[test]
    fn the_kernel_wipes_words_in_children() {
        static PAGES: Pages = Pages::new();
        let slot = PAGES.take().unwrap();
        assert!(!PAGES.handled.load(Ordering::Relaxed), "this kernel lacks MADV_WIPEONFORK (Linux 4.14)");
        slot.word().store(9, Ordering::Relaxed);
        wait_for_success(fork(|| demand(slot.word().load(Ordering::Relaxed) == FOREIGN)));
        assert_eq!(slot.word().load(Ordering::Relaxed), 9);
        PAGES.grow(|_| false).unwrap();
        assert!(PAGES.handled.load(Ordering::Relaxed));
    }

    #[test]
    fn a_word_given_back_is_taken_again() {
        static PAGES: Pages = Pages::new();
        let pages = || PAGES.all().count();
        let mut held: Vec<Slot> = (0..WORDS_OF_A_PAGE).map(|_| PAGES.take().unwrap()).collect();
        for index in [5, 0, WORDS_OF_A_PAGE - 1] {
            let page = held[0].page;
            assert!(page.take_at(index).is_none(), "it is held");
            held.retain(|slot| slot.index != index);
            held.push(PAGES.take().unwrap());
            assert_eq!(held.last().map(|slot| slot.index), Some(index));
        }
        assert_eq!(pages(), 1);
        held.push(PAGES.take().unwrap());
        assert_eq!(pages(), 2, "only when all are taken");
    }

    #[test]
    fn no_two_hold_one_word() {
        let mut held: Vec<ForkSafeWord> =
            (0..3 * WORDS_OF_A_PAGE as u32).map(|n| ForkSafeWord::not_inherited(n + 1).unwrap()).collect();
        for (n, word) in held.iter().enumerate() {
            assert_eq!(word.load(Ordering::Relaxed) as usize, n + 1, "no two have one word");
        }
        let clone = held[5].clone();
        held.clear();
        assert_eq!(clone.load(Ordering::Relaxed), 6, "the clone keeps it");
    }

    #[test]
    fn threads_that_make_a_static_at_once_make_one() {
        static NUMBER: PerProcess<usize> = PerProcess::new();
        let together = std::sync::Barrier::new(8);
        let made = std::thread::scope(|scope| {
            let make = |n| {
                let together = &together;
                let waits = move || Ok(std::iter::once(together.wait()).count() + n);
                scope.spawn(move || std::ptr::from_ref(NUMBER.get_or_make(waits).unwrap()) as usize)
            };
            let threads: Vec<_> = (0..8).map(make).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<std::collections::HashSet<_>>()
        });
        assert_eq!(made.len(), 1);
    }

    #[test]
    fn a_child_makes_a_static_of_its_own() {
        static NUMBER: PerProcess<u32> = PerProcess::new();
        assert_eq!(NUMBER.get(), None);
        assert_eq!(*NUMBER.get_or_make(|| Ok(1)).unwrap(), 1);
        assert_eq!(*NUMBER.get_or_make(|| Ok(2)).unwrap(), 1);
        let child = fork(|| {
            demand(NUMBER.get().is_none());
            demand(NUMBER.get_or_make(|| Ok(3)).is_ok_and(|number| *number == 3));
            demand(NUMBER.get() == Some(&3));
        });
        wait_for_success(child);
        assert_eq!(NUMBER.get(), Some(&1));
    }
}
