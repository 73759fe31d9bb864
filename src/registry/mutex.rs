//! `RobustMutex`: the process-shared mutex in the registry's segment. The registry's only unsafe code.
//!
//! If a thread dies while it holds the mutex, the kernel marks the mutex and wakes a waiter. The next owner
//! is told of the death, repairs what the mutex protects, and only then declares the mutex consistent. If
//! that owner dies too, the mark stays for the next one. If the repair panics, unlocking makes the mutex
//! unusable for ever, and every later attempt to lock it reports that.
//!
//! The critical section is a closure, so no guard can be leaked. Therefore the memory is never unmapped while
//! the mutex is held, which would leave a dangling pointer in the thread's list of robust mutexes.

#![allow(unsafe_code, reason = "the C library's mutex")]

use std::io;
use std::mem::{MaybeUninit, align_of, size_of};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{RegistryError, layout};
use crate::shm::Segment;

const SIZE: usize = size_of::<libc::pthread_mutex_t>();

const _: () = assert!(SIZE <= layout::MUTEX_ROOM);
const _: () = assert!(layout::MUTEX_AT.is_multiple_of(align_of::<libc::pthread_mutex_t>()));

/// The mutex in a segment that was checked to be a registry.
#[derive(Debug)]
pub(super) struct RobustMutex {
    segment: Arc<Segment>,
}

impl RobustMutex {
    /// Makes a segment with an empty registry and an unlocked mutex.
    pub(super) fn create(capacity: u32, identity: u128) -> Result<(RobustMutex, OwnedFd), RegistryError> {
        if !layout::CAPACITIES.contains(&capacity) {
            return Err(RegistryError::BadCapacity { asked: capacity });
        }
        let (segment, fd) = Segment::create("ringpost-registry", layout::size(capacity))?;
        let mutex = RobustMutex { segment: Arc::new(segment) };
        // SAFETY: the memory is new and nobody else has it, so no mutex in it can be in use.
        unsafe { mutex.initialise() }.map_err(failed("make"))?;
        layout::write(&mutex.segment, capacity, SIZE, identity, std::process::id());
        Ok((mutex, fd))
    }

    /// Takes over a segment that [`create`](Self::create) made, perhaps in another process, and returns its
    /// capacity.
    ///
    /// The magic number shows that the mutex is initialised. The number can be trusted because the descriptor
    /// comes from a server to its successor, never from a client.
    pub(super) fn attach(segment: Segment) -> Result<(RobustMutex, u32), RegistryError> {
        let capacity = layout::check(&segment, SIZE)?;
        Ok((RobustMutex { segment: Arc::new(segment) }, capacity))
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Runs `work` with the mutex held, and `repair` before it if an earlier owner died holding the mutex.
    ///
    /// Both get `context`. Locking the mutex again inside them is an error, not a deadlock.
    pub(super) fn with<C, R>(
        &self,
        context: &mut C,
        repair: impl FnOnce(&mut C),
        work: impl FnOnce(&mut C) -> R,
    ) -> Result<R, RegistryError> {
        // SAFETY: `create` initialised the mutex, in this process or, as `attach` checked, in the one that
        // made the segment. It is never destroyed. It stays mapped at least as long as `self`, and so until
        // after the unlock below. Only the C library writes it: everything else that the crate reads and
        // writes in this segment lies outside `MUTEX_ROOM`.
        let died = match unsafe { libc::pthread_mutex_lock(self.raw()) } {
            0 => false,
            libc::EOWNERDEAD => true,
            libc::ENOTRECOVERABLE => return Err(RegistryError::NotRecoverable),
            errno => return Err(failed("lock")(io::Error::from_raw_os_error(errno))),
        };
        let _held = Held(self);
        if died {
            repair(context);
            // SAFETY: as for the lock; and this thread holds the mutex.
            check(unsafe { libc::pthread_mutex_consistent(self.raw()) }).map_err(failed("repair"))?;
        }
        Ok(work(context))
    }

    fn raw(&self) -> *mut libc::pthread_mutex_t {
        self.segment.as_ptr().wrapping_add(layout::MUTEX_AT).cast()
    }

    /// # Safety
    ///
    /// No mutex in this segment may be in use.
    unsafe fn initialise(&self) -> io::Result<()> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the pointer has room for the attributes, which this call initialises.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        let set = || {
            // SAFETY: the attributes are initialised.
            check(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) })?;
            // SAFETY: as above.
            check(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) })?;
            // SAFETY: as above.
            check(unsafe { libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_ERRORCHECK) })?;
            // SAFETY: `MUTEX_AT` is aligned and enough room follows it (both asserted above). That room lies
            // within the segment at any capacity. The caller promises that no mutex there is in use.
            check(unsafe { libc::pthread_mutex_init(self.raw(), attributes) })
        };
        let result = set();
        // SAFETY: the attributes were initialised above and are not used afterwards. This cannot fail.
        unsafe { libc::pthread_mutexattr_destroy(attributes) };
        result
    }
}

/// Unlocks the mutex when the critical section ends, also by a panic.
struct Held<'a>(&'a RobustMutex);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: the mutex is valid as in `with`. Only `with` makes this value, after locking, and keeps it
        // in a local variable, so this thread holds the mutex. Unlocking cannot fail for its owner.
        let code = unsafe { libc::pthread_mutex_unlock(self.0.raw()) };
        debug_assert_eq!(code, 0);
    }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> RegistryError {
    move |source| RegistryError::Mutex { action, source }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Runs `child` in a forked process, which then exits with status 0 without any clean-up.
    ///
    /// Other threads may hold any lock at the fork, such as the allocator's, so `child` must not allocate or
    /// panic.
    pub(crate) fn fork(child: impl FnOnce()) -> Pid {
        struct Never;
        impl Drop for Never {
            fn drop(&mut self) {
                // SAFETY: `_exit` is async-signal-safe. After a panic the child must not run the parent's
                // code.
                unsafe { libc::_exit(101) };
            }
        }
        // SAFETY: the child runs only `child`, which obeys the condition above, and `_exit`.
        match unsafe { libc::fork() } {
            0 => {
                let _never = Never;
                child();
                // SAFETY: `_exit` is async-signal-safe.
                unsafe { libc::_exit(0) }
            }
            pid => Pid::from_raw(pid).filter(|_| pid > 0).expect("fork failed"),
        }
    }

    #[test]
    fn check_turns_a_nonzero_code_into_an_error() {
        assert_eq!(check(0).ok(), Some(()));
        assert_eq!(check(libc::EINVAL).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn locking_twice_is_an_error() {
        let (mutex, _fd) = RobustMutex::create(1, 0).unwrap();
        let inner = mutex.with(&mut (), |()| (), |()| mutex.with(&mut (), |()| (), |()| ())).unwrap();
        assert!(matches!(inner, Err(RegistryError::Mutex { action: "lock", .. })), "{inner:?}");
        mutex.with(&mut (), |()| unreachable!(), |()| ()).unwrap();
    }

    #[test]
    fn a_panic_in_the_critical_section_unlocks() {
        let (mutex, _fd) = RobustMutex::create(1, 0).unwrap();
        let panicked =
            catch_unwind(AssertUnwindSafe(|| mutex.with(&mut (), |()| (), |()| panic!("on purpose"))));
        assert!(panicked.is_err());
        mutex.with(&mut (), |()| unreachable!(), |()| ()).unwrap();
    }

    #[test]
    fn after_a_failed_repair_every_lock_reports_it() {
        let (mutex, _fd) = RobustMutex::create(1, 0).unwrap();
        let child = fork(|| {
            let _ = mutex.with(&mut (), |()| (), |()| kill_process(getpid(), Signal::KILL));
        });
        waitpid(Some(child), WaitOptions::empty()).unwrap();
        let panicked =
            catch_unwind(AssertUnwindSafe(|| mutex.with(&mut (), |()| panic!("on purpose"), |()| ())));
        assert!(panicked.is_err());
        for _ in 0..2 {
            assert!(matches!(mutex.with(&mut (), |()| (), |()| ()), Err(RegistryError::NotRecoverable)));
        }
    }
}
