//! The robust mutex that lies in the registry's segment: the one place here with unsafe code.
//!
//! If a thread dies while it holds the mutex, the kernel marks the mutex and wakes a waiter; whoever locks
//! next is told so, repairs what the mutex protects, and only then declares the mutex consistent. An owner
//! that dies during the repair leaves the mark for the next. If the repair does not come to its end but its
//! thread lives on (it panicked), unlocking makes the mutex unusable for good, which every later lock
//! reports.
//!
//! The critical section is a closure. No guard can be leaked, so the memory is never unmapped with the mutex
//! held, when the thread's list of robust mutexes would point into nothing.

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

/// The mutex of a segment that is known to be a registry.
#[derive(Debug)]
pub(super) struct RobustMutex {
    segment: Arc<Segment>,
}

impl RobustMutex {
    /// Makes a segment with an empty registry, its mutex ready and free.
    pub(super) fn create(capacity: u32, identity: u128) -> Result<(RobustMutex, OwnedFd), RegistryError> {
        if !layout::CAPACITIES.contains(&capacity) {
            return Err(RegistryError::BadCapacity { asked: capacity });
        }
        let (segment, fd) = Segment::create("ringpost-registry", layout::size(capacity))?;
        let mutex = RobustMutex { segment: Arc::new(segment) };
        // SAFETY: the memory is new and nobody else has it, so there is no mutex in it that could be in use.
        unsafe { mutex.initialise() }.map_err(failed("make"))?;
        layout::write(&mutex.segment, capacity, SIZE, identity, std::process::id());
        Ok((mutex, fd))
    }

    /// Takes over a segment that [`create`](Self::create) made, perhaps in another process, and gives its
    /// capacity.
    ///
    /// The magic vouches for the mutex. Whoever hands over the descriptor vouches for the magic: it comes
    /// from a server to its successor, never from a client.
    pub(super) fn attach(segment: Segment) -> Result<(RobustMutex, u32), RegistryError> {
        let capacity = layout::check(&segment, SIZE)?;
        Ok((RobustMutex { segment: Arc::new(segment) }, capacity))
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Runs `work` with the mutex held; `repair` first, if an earlier holder died with it.
    ///
    /// Both get `context`. Locking again inside is an error, not a deadlock.
    pub(super) fn with<C, R>(
        &self,
        context: &mut C,
        repair: impl FnOnce(&mut C),
        work: impl FnOnce(&mut C) -> R,
    ) -> Result<R, RegistryError> {
        // SAFETY: `create` initialised the mutex, here or, as `attach` checked, where the segment was made.
        // It is never destroyed. It is mapped at least as long as `self`, and so past the unlocking
        // below. No one writes it but the C library: the crate's own words and copies in this segment
        // lie outside `MUTEX_ROOM`.
        let died = match unsafe { libc::pthread_mutex_lock(self.raw()) } {
            0 => false,
            libc::EOWNERDEAD => true,
            libc::ENOTRECOVERABLE => return Err(RegistryError::NotRecoverable),
            errno => return Err(failed("lock")(io::Error::from_raw_os_error(errno))),
        };
        let _held = Held(self);
        if died {
            repair(context);
            // SAFETY: as for the lock, and this thread holds it.
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
        // SAFETY: room for the attributes, which this call initialises.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        let set = || {
            // SAFETY: the attributes are initialised.
            check(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) })?;
            // SAFETY: as above.
            check(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) })?;
            // SAFETY: as above.
            check(unsafe { libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_ERRORCHECK) })?;
            // SAFETY: `MUTEX_AT` is aligned and followed by room enough (asserted above) within the segment,
            // whose size for any capacity exceeds it; the caller promises that no mutex there is
            // in use.
            check(unsafe { libc::pthread_mutex_init(self.raw(), attributes) })
        };
        let result = set();
        // SAFETY: initialised above and not used afterwards. It cannot fail on such attributes.
        unsafe { libc::pthread_mutexattr_destroy(attributes) };
        result
    }
}

/// Unlocks at the end of the critical section, by whichever way it ends.
struct Held<'a>(&'a RobustMutex);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: the mutex as in `with`, the only maker of this value, in which the value stays: so this is
        // the thread that locked it. It can only fail for a thread that does not hold it.
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

    /// Runs `child` in a forked process, which then exits with status 0 and without any clean-up.
    ///
    /// Other threads may hold any lock at the fork, the allocator's too: `child` must not allocate nor panic.
    pub(crate) fn fork(child: impl FnOnce()) -> Pid {
        struct Never;
        impl Drop for Never {
            fn drop(&mut self) {
                // SAFETY: async-signal-safe. A panic must not run the parent's code in the child.
                unsafe { libc::_exit(101) };
            }
        }
        // SAFETY: the child runs only `child`, under the condition above, and `_exit`.
        match unsafe { libc::fork() } {
            0 => {
                let _never = Never;
                child();
                // SAFETY: async-signal-safe.
                unsafe { libc::_exit(0) }
            }
            pid => Pid::from_raw(pid).filter(|_| pid > 0).expect("fork failed"),
        }
    }

    #[test]
    fn a_code_that_is_not_zero_is_an_error() {
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
    fn a_panic_inside_unlocks() {
        let (mutex, _fd) = RobustMutex::create(1, 0).unwrap();
        let panicked =
            catch_unwind(AssertUnwindSafe(|| mutex.with(&mut (), |()| (), |()| panic!("on purpose"))));
        assert!(panicked.is_err());
        mutex.with(&mut (), |()| unreachable!(), |()| ()).unwrap();
    }

    #[test]
    fn a_repair_that_fails_is_reported_for_ever() {
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
