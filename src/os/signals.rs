#![allow(unsafe_code)]

//! The signals of one thread: blocked while others are started, or held back from one system call.

use std::marker::PhantomData;
use std::mem::zeroed;

/// Blocks all signals in this thread, until it is dropped, but those that an instruction of the thread itself
/// raises. Threads that are started meanwhile inherit that.
pub(crate) struct BlockedSignals {
    before: libc::sigset_t,
    /// The mask is a thread's: it must be dropped in the same one.
    _not_send: PhantomData<*const ()>,
}

/// A handler for these acts for the very thread that raised one. If it is blocked there, the kernel ends the
/// process.
const OF_INSTRUCTIONS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

impl BlockedSignals {
    pub(crate) fn begin() -> BlockedSignals {
        // SAFETY: a signal set is made of integers alone, for which zeros are valid. `sigfillset` and
        // `sigdelset` write to the whole sets that they are given, and fail for signals that do not
        // exist only.
        let (all, mut before) = unsafe {
            let mut all: libc::sigset_t = zeroed();
            libc::sigfillset(&raw mut all);
            for signal in OF_INSTRUCTIONS {
                libc::sigdelset(&raw mut all, signal);
            }
            (all, zeroed())
        };
        // SAFETY: both are whole sets. The mask of this thread is all that changes; it fails for an unknown
        // first argument only.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) };
        BlockedSignals { before, _not_send: PhantomData }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: a whole set, which the same call has filled; no other is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Does something for which the kernel raises SIGXFSZ in this thread if it exceeds the limit of file sizes,
/// and which then fails with EFBIG. The signal is taken back, so that it does not end the process and no
/// handler of the program sees it. One that was pending before stays pending.
pub(crate) fn without_sigxfsz<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: signal sets are made of integers alone, for which zeros are valid; the calls write to whole
    // sets, and fail for signals that do not exist only.
    let (only, mut before, mut pending) = unsafe {
        let mut only: libc::sigset_t = zeroed();
        libc::sigaddset(&raw mut only, libc::SIGXFSZ);
        (only, zeroed::<libc::sigset_t>(), zeroed::<libc::sigset_t>())
    };
    // SAFETY: all are whole sets. What changes is this thread's mask; the test reads a set that the call
    // before has filled.
    let was_pending = unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, &raw mut before);
        libc::sigpending(&raw mut pending);
        libc::sigismember(&raw const pending, libc::SIGXFSZ) == 1
    };
    let done = act();
    if !was_pending {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a whole set and a whole time; nothing is to be told of the signal. It takes one that is
        // pending, and does not wait.
        unsafe { libc::sigtimedwait(&raw const only, std::ptr::null_mut(), &raw const at_once) };
    }
    // SAFETY: a whole set, which the first call has filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that the kernel sent is taken; one that was there before stays.
    #[test]
    fn only_the_signal_of_the_act_itself_is_taken_back() {
        fn pending() -> bool {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (libc::SIGXFSZ - 1) != 0
        }
        fn raise() {
            // SAFETY: sends a signal, which is blocked, to this thread.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGXFSZ) };
            assert!(pending());
        }
        // The mask of a thread that ends with the test.
        std::thread::spawn(|| {
            without_sigxfsz(raise);
            assert!(!pending(), "and the process lives");
            // The thread ends with it, and the pending signal with the thread.
            std::mem::forget(BlockedSignals::begin());
            raise();
            without_sigxfsz(raise);
            assert!(pending(), "the first one is not ours");
        })
        .join()
        .unwrap();
    }
}
