//! A barrier on all threads of this process that run, for those who do not want to make a fence each time.
//!
//! A thread that publishes often and is asked seldom need not pay for a fence with each publication: whoever
//! asks makes this barrier instead. Behind it, each thread either shows what it stored before the barrier, or
//! will see what the caller stored before it.
//!
//! The kernel must know the call (`membarrier`, private and expedited, Linux 4.14), and the process must have
//! registered for it, which changes nothing for its other threads. A filter may forbid the call.

#![forbid(unsafe_code)]

use std::sync::OnceLock;

use rustix::thread::{MembarrierCommand, membarrier};

use super::lacks::Lack;

/// Whether barriers can be made. Registers the process the first time. If not, the other threads must make
/// their own fences.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let made = membarrier(MembarrierCommand::RegisterPrivateExpedited)
            .and_then(|()| membarrier(MembarrierCommand::PrivateExpedited));
        made.inspect_err(|errno| Lack::Membarrier.note(&(*errno).into())).is_ok()
    })
}

/// Makes the barrier. Does nothing if it is not [available](is_available).
pub(crate) fn on_all_threads() {
    if is_available() {
        // It cannot fail once it has succeeded, except by a filter that came later: then nothing would be
        // lost but a wake, until the next sample.
        let _ = membarrier(MembarrierCommand::PrivateExpedited);
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, compiler_fence};
    use std::thread;

    /// Two threads that store and then look, of which only one makes a barrier: never do both see nothing.
    #[test]
    fn one_of_two_sees_the_other() {
        if !is_available() {
            return on_all_threads();
        }
        const ROUNDS: u32 = 2_000;
        let (quick, slow, answer, round) =
            (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let now = round.load(Ordering::Acquire);
                    if now == seen {
                        thread::yield_now();
                        continue;
                    }
                    seen = now;
                    quick.store(now, Ordering::Relaxed);
                    compiler_fence(Ordering::SeqCst);
                    answer
                        .store(now << 1 | u32::from(slow.load(Ordering::Relaxed) == now), Ordering::Release);
                }
            });
            for now in 1..=ROUNDS {
                round.store(now, Ordering::Release);
                slow.store(now, Ordering::Relaxed);
                on_all_threads();
                let saw = quick.load(Ordering::Relaxed) == now;
                let other = loop {
                    let answer = answer.load(Ordering::Acquire);
                    if answer >> 1 == now {
                        break answer & 1 == 1;
                    }
                    thread::yield_now();
                };
                assert!(saw || other, "round {now}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
