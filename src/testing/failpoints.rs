//! Failpoints: named places between two stores at which a test makes the process die.
//!
//! A build with `--cfg ringpost_failpoints` that is started with `RINGPOST_FAILPOINT=NAME:N` in its
//! environment dies by SIGUSR2 when it passes the failpoint of that name for the Nth time. The harness in
//! `tests/chaos/` starts servers and clients so and judges what the others saw. In unit tests, which need no
//! such build, a forked child can die at any of the failpoints that it passes. In every other build a
//! failpoint is nothing.
//!
//! Each failpoint states which processes pass it (`server`, `client`, `link` for a client with links, `topic`
//! for one with topics, or `channel` for a process that uses a channel without a server) and how often:
//!
//! - `always`: with each call, message or sample;
//! - `seldom`: with each registration;
//! - `rarely`: only with a full ring, or when several things coincide;
//! - `starting`: about once in a process's life, at its start;
//! - `stopping`: when a server is told to stop;
//! - `waiting`: when a client has not taken a link for seconds.
//!
//! The harness reads names, processes and frequencies from the source code, so there is no other list.
//!
//! `RINGPOST_FAULT=NAME:N` injects a fault at the Nth occurrence instead: `lost` loses a message after it was
//! acknowledged, `twice` delivers one twice, `name` does not free the name of a client that left, `post`
//! loses a post over a link, `bit` does not tell the server of a link's end, `kick` loses a kick, `gap` does
//! not count what a subscriber missed. It shows
//! that the harness would notice.

#![forbid(unsafe_code)]

/// A place where a test may make the process die: name, the processes that pass it, and how often.
macro_rules! failpoint {
    ($name:literal, [$($process:ident),+], $often:ident) => {
        $crate::testing::failpoints::pass($name)
    };
}

/// Whether the fault of this name is to be injected now.
macro_rules! fault {
    ($name:literal) => {
        $crate::testing::failpoints::is_fault_due($name)
    };
}

pub(crate) use {failpoint, fault};

#[inline(always)]
pub(crate) fn pass(name: &'static str) {
    if cfg!(test) {
        counted::pass_one();
    }
    if cfg!(ringpost_failpoints) {
        armed::pass(name);
    }
}

#[inline(always)]
pub(crate) fn is_fault_due(name: &'static str) -> bool {
    cfg!(ringpost_failpoints) && armed::is_fault_due(name)
}

/// What the environment armed.
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    impl Armed {
        fn read(variable: &str) -> Option<Armed> {
            let armed = std::env::var(variable).ok()?;
            let (name, count) = armed.rsplit_once(':')?;
            Some(Armed { name: name.to_owned(), left: AtomicU64::new(count.parse().ok()?) })
        }

        /// True at the Nth pass, and only then.
        fn is_due(&self, name: &str) -> bool {
            self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
        }
    }

    static DEATH: OnceLock<Option<Armed>> = OnceLock::new();
    static FAULT: OnceLock<Option<Armed>> = OnceLock::new();

    /// Dies if this is the armed failpoint at its Nth pass.
    #[inline]
    pub(super) fn pass(name: &str) {
        if let Some(armed) = DEATH.get_or_init(|| Armed::read("RINGPOST_FAILPOINT"))
            && armed.is_due(name)
        {
            // Not one more instruction here: the signal ends the process at once, leaves no core and has no
            // handler. Nobody else sends it, so whoever waits for the process learns why it died. If the
            // process is just being stopped, it dies when it goes on.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR2);
            loop {
                std::thread::park();
            }
        }
    }

    /// Whether this is the armed fault at its Nth occurrence.
    pub(super) fn is_fault_due(name: &str) -> bool {
        let fault = FAULT.get_or_init(|| Armed::read("RINGPOST_FAULT"));
        fault.as_ref().is_some_and(|fault| fault.is_due(name))
    }
}

/// Deaths in unit tests, which know failpoints only by their order.
pub(crate) mod counted {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use rustix::process::{Signal, getpid, kill_process};

    const NEVER: u32 = u32::MAX;
    static UNTIL_DEATH: AtomicU32 = AtomicU32::new(NEVER);

    /// Lets this process pass `count` failpoints and die by SIGKILL at the next. Only for forked children,
    /// each of which has a copy of the count.
    #[cfg(test)]
    pub(crate) fn die_after(count: u32) {
        UNTIL_DEATH.store(count, Relaxed);
    }

    /// Passes one failpoint.
    pub(crate) fn pass_one() {
        match UNTIL_DEATH.load(Relaxed) {
            NEVER => {}
            0 => {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            left => UNTIL_DEATH.store(left - 1, Relaxed),
        }
    }
}
