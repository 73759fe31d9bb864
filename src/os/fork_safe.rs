#![allow(unsafe_code)]

//! Words that forked children do not inherit, by which a child notices that an object belongs to its parent.
//!
//! A forked child inherits everything: mappings of channels, connections, private positions of a ring's end.
//! If parent and child both used a ring's end, there would be two ends. So each object that belongs to one
//! process has a word in a page that the kernel fills with zeros in a child (`MADV_WIPEONFORK`, Linux 4.14);
//! nobody stores 0 there. Code that loads the word anyway detects the child by the same load. Process ids
//! would not do: the first process of a nested namespace has the same id as that of the outer one.
//!
//! If the kernel does not know this advice, a handler (`pthread_atfork`) stores the zeros in the child.
//!
//! The pages are never freed. A forked child must not take a word that an inherited object still uses; so the
//! mask of taken words is in ordinary memory, which is inherited. A page has 64 words.
//!
//! Nothing here locks, because a lock that another thread held at the fork stays locked in the child for
//! ever.

use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use memmap2::MmapOptions;
use rustix::mm::{Advice, madvise};

/// The value of a word in a child that was forked after the word was made. It is never stored.
pub(crate) const FOREIGN: u32 = 0;

/// A 32-bit word that forked children inherit, or that is [`FOREIGN`] in them.
#[derive(Clone)]
pub(crate) struct ForkSafeWord {
    word: NonNull<AtomicU32>,
    _keeps: Arc<Kept>,
}

/// What keeps the word's memory.
enum Kept {
    /// Ordinary memory, which a child inherits.
    Here(AtomicU32),
    /// A page that is wiped in children.
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

// SAFETY: the pointer is to an atomic word that `_keeps` keeps alive; any number of threads may use it at
// once.
unsafe impl Send for ForkSafeWord {}
// SAFETY: as for `Send`.
unsafe impl Sync for ForkSafeWord {}

impl ForkSafeWord {
    /// Makes a word in ordinary memory, of which a forked child gets a copy.
    pub(crate) fn inherited(value: u32) -> ForkSafeWord {
        ForkSafeWord::keeping(Kept::Here(AtomicU32::new(value)))
    }

    /// Makes a word that is [`FOREIGN`] in every forked child. The value must differ from that.
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

    /// Whether this process is a forked child of the one that made the word. Always false for an inherited
    /// word.
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

/// The words of a page: as many as a mask has bits.
const WORDS_OF_A_PAGE: usize = 64;

/// Each word has its own cache line, because it is read in every call and other words are stored to.
type Lines = [CachePadded<AtomicU32>; WORDS_OF_A_PAGE];

/// A page of words, which is never freed.
struct Page {
    words: &'static Lines,
    /// A bit for each taken word. Children inherit it, unlike the words.
    taken: AtomicU64,
    next: Option<&'static Page>,
}

struct Pages {
    newest: AtomicPtr<Page>,
    /// Whether the fork handler is installed, because the kernel does not know the advice.
    handled: AtomicBool,
}

static WORDS: Pages = Pages::new();

/// A taken word. Dropping it makes the word available again.
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

    /// Adds a page and takes its first word. `advise` tells the kernel to wipe the page in children.
    fn grow(&'static self, advise: impl FnOnce(*mut Lines) -> bool) -> io::Result<Slot> {
        let mut map = MmapOptions::new().len(size_of::<Lines>()).map_anon()?;
        let start: *mut Lines = map.as_mut_ptr().cast();
        if !advise(start) {
            self.handle_forks()?;
        }
        std::mem::forget(map);
        // SAFETY: the mapping is whole pages of zeros, which are valid words, aligned for `Lines`. Nobody
        // else knows it, and it is never unmapped.
        let words = unsafe { &*start };
        let page = Box::into_raw(Box::new(Page { words, taken: AtomicU64::new(1), next: None }));
        let mut newest = self.newest.load(Ordering::Acquire);
        loop {
            // SAFETY: the pointer came from a box just now, and nobody else knows it yet.
            unsafe { (*page).next = published(newest) };
            match self.newest.compare_exchange(newest, page, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => newest = other,
            }
        }
        // SAFETY: the page is never freed, and from now on only its atomics are written.
        Ok(Slot { page: unsafe { &*page }, index: 0 })
    }

    /// Installs the fork handler, which wipes the words in children.
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
        // SAFETY: `wipe` only loads and stores atomics, which is allowed in a forked child. It stays valid as
        // long as the program runs.
        match unsafe { libc::pthread_atfork(None, None, Some(wipe)) } {
            0 => {
                // Two threads may both install it: wiping twice does no harm.
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
            // Another thread may take it first.
            if let Some(slot) = self.take_at(index) {
                return Some(slot);
            }
        }
    }

    /// Takes the word at this index, unless it is taken.
    fn take_at(&'static self, index: usize) -> Option<Slot> {
        let bit = 1 << index;
        // Acquire: ordered after everything that the last owner did with the word.
        let before = self.taken.fetch_or(bit, Ordering::Acquire);
        (before & bit == 0).then(|| Slot { page: self, index })
    }
}

/// Converts a pointer that was loaded from an [`AtomicPtr`] of this module with Acquire.
fn published<T>(pointer: *mut T) -> Option<&'static T> {
    // SAFETY: the pointer is null, or to a leaked value that was published with Release after its last write.
    unsafe { pointer.as_ref() }
}

fn wipe_on_fork(page: *mut Lines) -> bool {
    // SAFETY: the mapping has this length, was made just now, and has no references yet. The advice changes
    // nothing in this process.
    unsafe { madvise(page.cast(), size_of::<Lines>(), Advice::LinuxWipeOnFork) }.is_ok()
}

// ---- statics

/// A static value that each process makes for itself: a forked child does not use its parent's.
pub(crate) struct PerProcess<T: 'static> {
    newest: AtomicPtr<(ForkSafeWord, T)>,
}

impl<T: Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// This process's value, if it has made one.
    pub(crate) fn get(&self) -> Option<&'static T> {
        own(self.newest.load(Ordering::Acquire))
    }

    /// This process's value, made now if necessary. If several threads make it at once, all get the same one.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<&'static T> {
        let seen = self.newest.load(Ordering::Acquire);
        if let Some(value) = own(seen) {
            return Ok(value);
        }
        let made = Box::into_raw(Box::new((ForkSafeWord::not_inherited(1)?, make()?)));
        // Replaces only what was seen (nothing, or a parent's value), never one made by another thread
        // meanwhile.
        if self.newest.compare_exchange(seen, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: the pointer came from a box just now and was not published.
            drop(unsafe { Box::from_raw(made) });
            // Another thread of this process was faster. (Threads of a parent do not run in this process.)
            return self.get().ok_or_else(|| io::ErrorKind::Interrupted.into());
        }
        // SAFETY: the value was published, so it is never freed.
        Ok(unsafe { &(*made).1 })
    }
}

/// The value of a [`PerProcess`], unless a parent made it.
fn own<T>(pointer: *mut (ForkSafeWord, T)) -> Option<&'static T> {
    let (owner, value) = published(pointer)?;
    (!owner.is_foreign()).then_some(value)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::registry::fork;
    use rustix::process::{Pid, WaitOptions, waitpid};

    /// Ends the child with an error if the condition does not hold.
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
        // Like a kernel without the advice, so that the handler must wipe the page.
        let slot = WORDS.grow(|_| false).unwrap();
        slot.word().store(9, Ordering::Relaxed);
        let child = fork(|| {
            demand(ours.is_foreign() && slot.word().load(Ordering::Relaxed) == FOREIGN);
            demand(inherited.load(Ordering::Relaxed) == 8);
            // A word that the child takes is a different one, and is its own.
            let other = ForkSafeWord::not_inherited(7);
            demand(other.is_ok_and(|other| !other.is_foreign() && other.word != ours.word));
            demand(ours.is_foreign());
        });
        wait_for_success(child);
        assert_eq!((ours.load(Ordering::Relaxed), slot.word().load(Ordering::Relaxed)), (7, 9));
    }

    /// Uses pages for which the handler is not installed.
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
