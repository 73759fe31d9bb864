#![allow(unsafe_code)]

//! Blocks signals in a thread: while it starts other threads, or during one system call.

use std::marker::PhantomData;
use std::mem::zeroed;

/// Blocks all signals in this thread until dropped, except those that the thread's own instructions raise.
/// Threads started meanwhile inherit the mask.
pub(crate) struct BlockedSignals {
    before: libc::sigset_t,
    /// The mask belongs to the thread, so this must be dropped on the same thread.
    _not_send: PhantomData<*const ()>,
}

/// The signals that a thread's own instructions raise. If one is blocked when it is raised, the kernel ends
/// the process.
const OF_INSTRUCTIONS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

impl BlockedSignals {
    pub(crate) fn begin() -> BlockedSignals {
        // SAFETY: a signal set consists of integers, for which zeros are valid. `sigfillset` and `sigdelset`
        // write only to the given sets, and fail only for signals that do not exist.
        let (all, mut before) = unsafe {
            let mut all: libc::sigset_t = zeroed();
            libc::sigfillset(&raw mut all);
            for signal in OF_INSTRUCTIONS {
                libc::sigdelset(&raw mut all, signal);
            }
            (all, zeroed())
        };
        // SAFETY: both are valid sets. The call changes only this thread's mask, and fails only for an
        // unknown first argument.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) };
        BlockedSignals { before, _not_send: PhantomData }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is valid: the same call has filled it. No old set is requested.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Blocks no signal in this thread any more.
#[cfg(feature = "cli")]
pub(crate) fn unblock_all() {
    // SAFETY: a signal set consists of integers, for which zeros are valid: they stand for no signal. The
    // call changes only this thread's mask, and no old set is requested.
    unsafe {
        let none: libc::sigset_t = zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Runs an operation that may exceed the limit of file sizes: it then fails with EFBIG.
pub(crate) fn without_sigxfsz<T, E>(act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    without(libc::SIGXFSZ, act)
}

/// Runs a write into a pipe or socket that perhaps nobody reads any more: it then fails with EPIPE.
pub(crate) fn without_sigpipe<T, E>(act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    without(libc::SIGPIPE, act)
}

/// Runs an operation that, when it fails, makes the kernel raise this signal in this thread. This function
/// consumes it, so that it does not end the process or reach a handler. One that was pending before stays
/// pending.
fn without<T, E>(signal: libc::c_int, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: signal sets consist of integers, for which zeros are valid. The calls write only to the given
    // sets, and fail only for signals that do not exist.
    let (only, mut before, mut pending) = unsafe {
        let mut only: libc::sigset_t = zeroed();
        libc::sigaddset(&raw mut only, signal);
        (only, zeroed::<libc::sigset_t>(), zeroed::<libc::sigset_t>())
    };
    // SAFETY: all are valid sets. Only this thread's mask changes. The tests read sets that the calls before
    // have filled.
    let (was_blocked, was_pending) = unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, &raw mut before);
        let was_blocked = libc::sigismember(&raw const before, signal) == 1;
        // Delivered at once otherwise.
        let may_be_pending = was_blocked && libc::sigpending(&raw mut pending) == 0;
        (was_blocked, may_be_pending && libc::sigismember(&raw const pending, signal) == 1)
    };
    let done = act();
    if done.is_err() && !was_pending {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the set and the time are valid, and no information is requested. The call takes a pending
        // signal and does not wait.
        unsafe { libc::sigtimedwait(&raw const only, std::ptr::null_mut(), &raw const at_once) };
    }
    if !was_blocked {
        // SAFETY: the set is valid: the first call has filled it.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signal that the operation caused is consumed; one that was pending before stays.
    #[test]
    fn only_the_signal_of_the_act_itself_is_taken_back() {
        fn pending() -> bool {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (libc::SIGXFSZ - 1) != 0
        }
        fn raise() -> Result<(), ()> {
            // SAFETY: sends a blocked signal to this thread.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGXFSZ) };
            assert!(pending());
            Err(())
        }
        // Uses a new thread, because it changes the thread's mask.
        std::thread::spawn(|| {
            without_sigxfsz(raise).unwrap_err();
            assert!(!pending(), "and the process lives");
            // Stays blocked until the thread ends, together with its pending signal.
            std::mem::forget(BlockedSignals::begin());
            without_sigxfsz(raise).unwrap_err();
            assert!(!pending(), "it is consumed where it was blocked before, too");
            raise().unwrap_err();
            without_sigxfsz(raise).unwrap_err();
            assert!(pending(), "the first one is not ours");
        })
        .join()
        .unwrap();
    }
}
