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

/// Whether barriers can be made. Registers the process the first time. If not, the other threads must make
/// their own fences.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
            && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
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
