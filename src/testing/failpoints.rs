//! Failpoints: named places between two stores at which a process can be made to die. For tests alone.
//!
//! Without `--cfg ringpost_failpoints` they do not exist: [`failpoint`] expands to nothing. With it, a
//! process that was started with `RINGPOST_FAILPOINT=NAME:COUNT` in its environment dies, by SIGUSR2, when
//! it passes the point of that name for the COUNT-th time. The harness in `tests/chaos/` starts servers and
//! clients so, and judges what the others saw. The unit tests need no such build: there each point counts,
//! and a forked child can die at any of those that it passes.
//!
//! `RINGPOST_PLANTED_FAULT=NAME:COUNT` plants a fault instead: the COUNT-th message is lost after it was
//! acknowledged, or is delivered twice, or the COUNT-th name of a client that left is not freed. It shows
//! that the harness would notice.

#![forbid(unsafe_code)]
#![cfg_attr(loom, allow(unused_macros, reason = "the layers that use them are not built for the models"))]
#![cfg_attr(not(ringpost_failpoints), allow(dead_code, reason = "the table is checked in every build"))]

/// A place where the process may be made to die.
#[cfg(ringpost_failpoints)]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::testing::failpoints::pass($name)
    };
}

/// A place where a unit test may let its forked child die.
#[cfg(all(test, not(loom), not(ringpost_failpoints)))]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::testing::failpoints::count_point()
    };
}

/// Nothing.
#[cfg(not(any(ringpost_failpoints, all(test, not(loom)))))]
macro_rules! failpoint {
    ($name:literal) => {};
}

/// Whether the fault of this name is to happen now.
#[cfg(ringpost_failpoints)]
macro_rules! planted_fault {
    ($name:literal) => {
        $crate::testing::failpoints::fault($name)
    };
}

/// Never.
#[cfg(not(ringpost_failpoints))]
macro_rules! planted_fault {
    ($name:literal) => {
        false
    };
}

pub(crate) use {failpoint, planted_fault};

/// Whose code goes past a point: a sum of these.
pub const SERVER: u8 = 1;
/// A client's.
pub const CLIENT: u8 = 2;
/// A process's that uses a channel by itself.
pub const CHANNEL: u8 = 4;

/// How often a point is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    /// With each call or message.
    Always,
    /// Now and then: with a registration.
    Seldom,
    /// Only with a full ring, or where many things come together.
    Rarely,
    /// Once or so in a process's life, at its start.
    Starting,
    /// When a server is told to stop.
    Stopping,
}

/// Every failpoint.
pub const POINTS: &[(&str, u8, Often)] = {
    use Often::{Always, Rarely, Seldom, Starting, Stopping};
    const BOTH: u8 = SERVER | CLIENT;
    const ALL: u8 = BOTH | CHANNEL;
    &[
        // publish
        ("publish.line", ALL, Always),
        ("publish.payload", ALL, Always),
        ("publish.zero", ALL, Always),
        ("publish.header", ALL, Always),
        ("publish.padded.zero", ALL, Rarely),
        ("publish.padded.record", ALL, Rarely),
        ("publish.padded.header", ALL, Rarely),
        ("publish.ahead", ALL, Always),
        ("draft.begun", SERVER, Always),
        ("draft.extended", SERVER, Rarely),
        ("draft.written", SERVER, Always),
        ("draft.header", SERVER, Always),
        ("draft.overwritten", SERVER, Rarely),
        ("grant.written", CHANNEL, Always),
        ("batch.record", CHANNEL, Always),
        ("batch.zero", CHANNEL, Always),
        ("batch.header", CHANNEL, Always),
        // consume
        ("consume.copied", BOTH, Always),
        ("consume.head", BOTH, Always),
        ("consume.padding", BOTH, Always),
        // wakes and sleeps
        ("wake.data.swapped", BOTH, Always),
        ("wake.data.woken", BOTH, Always),
        ("wake.space.swapped", CLIENT, Rarely),
        ("wake.space.woken", CLIENT, Rarely),
        ("park.data.set", BOTH, Always),
        ("park.data.slept", BOTH, Always),
        ("park.data.cleared", BOTH, Always),
        ("park.space.set", SERVER | CHANNEL, Rarely),
        ("park.space.slept", SERVER | CHANNEL, Rarely),
        ("park.space.cleared", SERVER | CHANNEL, Rarely),
        // an inbox that is dropped
        ("give_up.stored", CLIENT, Seldom),
        ("give_up.told", CLIENT, Seldom),
        // close
        ("close.private", BOTH, Seldom),
        ("close.shared", BOTH, Seldom),
        ("close.fence", BOTH, Seldom),
        ("close.woken", SERVER, Seldom),
        ("close.swapped", BOTH, Seldom),
        // REGISTER and the hand-over, the server's side
        ("accept.connection", SERVER, Seldom),
        ("accept.watched", SERVER, Seldom),
        ("register.heard", SERVER, Seldom),
        ("register.claimed", SERVER, Seldom),
        ("segment.created", SERVER, Seldom),
        ("segment.sized", SERVER, Seldom),
        ("segment.mapped", SERVER, Seldom),
        ("segment.sealed", SERVER, Seldom),
        ("register.channel", SERVER, Seldom),
        ("register.member", SERVER, Seldom),
        ("register.worker", SERVER, Seldom),
        ("register.sent", SERVER, Seldom),
        ("register.watched", SERVER, Seldom),
        // REGISTER, the client's side
        ("dial.socket", CLIENT, Seldom),
        ("dial.connected", CLIENT, Seldom),
        ("dial.asked", CLIENT, Seldom),
        ("dial.answered", CLIENT, Seldom),
        ("join.mapped", CLIENT, Seldom),
        ("join.watched", CLIENT, Seldom),
        // the registry
        ("registry.changes", SERVER, Seldom),
        ("registry.claiming", SERVER, Seldom),
        ("registry.generation", SERVER, Seldom),
        ("registry.key", SERVER, Seldom),
        ("registry.pid", SERVER, Seldom),
        ("registry.uid", SERVER, Seldom),
        ("registry.gid", SERVER, Seldom),
        ("registry.registered", SERVER, Seldom),
        ("registry.name_length", SERVER, Seldom),
        ("registry.name", SERVER, Seldom),
        ("registry.counters", SERVER, Seldom),
        ("registry.live", SERVER, Seldom),
        ("registry.named", SERVER, Seldom),
        ("registry.free", SERVER, Seldom),
        ("registry.unnamed", SERVER, Seldom),
        ("registry.leaving", SERVER, Stopping),
        // messages
        ("inbox.locked", SERVER, Always),
        ("inbox.committed", SERVER, Always),
        ("inbox.counted", SERVER, Always),
        ("inbox.notified", SERVER, Always),
        ("inbox.delivered", SERVER, Always),
        ("inbox.queued", SERVER, Rarely),
        ("inbox.armed", SERVER, Rarely),
        ("inbox.slept", SERVER, Rarely),
        ("inbox.left", SERVER, Rarely),
        // the end of a client
        ("death.unwatched", SERVER, Seldom),
        ("death.ended", SERVER, Seldom),
        ("forget.retired", SERVER, Seldom),
        ("forget.inbox", SERVER, Seldom),
        ("forget.member", SERVER, Seldom),
        ("forget.released", SERVER, Seldom),
        ("end.channel", SERVER, Seldom),
        ("unregister.forgotten", SERVER, Rarely),
        ("unregister.answered", SERVER, Rarely),
        ("worker.concluded", SERVER, Seldom),
        ("worker.finished", SERVER, Seldom),
        ("acceptor.let_go", SERVER, Seldom),
        ("leave.answered", CLIENT, Seldom),
        ("leave.closed", CLIENT, Seldom),
        ("session.closed", CLIENT, Seldom),
        ("session.ended", CLIENT, Seldom),
        ("watch.removed", CLIENT, Seldom),
        ("watch.closed", CLIENT, Seldom),
        // the server's own beginning and end
        ("listen.locked", SERVER, Starting),
        ("listen.cleared", SERVER, Rarely),
        ("listen.bound", SERVER, Starting),
        ("listen.opened", SERVER, Starting),
        ("listen.listening", SERVER, Starting),
        ("shutdown.hidden", SERVER, Stopping),
        ("shutdown.leaving", SERVER, Stopping),
        ("shutdown.intake", SERVER, Stopping),
        ("shutdown.served", SERVER, Stopping),
        ("shutdown.ended", SERVER, Stopping),
        ("listen.hidden", SERVER, Stopping),
        ("listen.removed", SERVER, Stopping),
    ]
};

#[cfg(ringpost_failpoints)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    impl Armed {
        fn read(variable: &str) -> Option<Armed> {
            let told = std::env::var(variable).ok()?;
            let (name, count) = told.rsplit_once(':')?;
            Some(Armed { name: name.to_owned(), left: AtomicU64::new(count.parse().ok()?) })
        }

        /// True for the one pass that was told of.
        fn is_due(&self, name: &str) -> bool {
            self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
        }
    }

    static DEATH: OnceLock<Option<Armed>> = OnceLock::new();
    static FAULT: OnceLock<Option<Armed>> = OnceLock::new();

    /// Dies if this is the place and the time.
    #[inline]
    pub(crate) fn pass(name: &'static str) {
        #[cfg(test)]
        super::count_point();
        if let Some(armed) = DEATH.get_or_init(|| Armed::read("RINGPOST_FAILPOINT"))
            && armed.is_due(name)
        {
            // Not one more instruction here: a signal that ends the process leaves no core and is not
            // handled. Nobody else sends it, so that whoever waits for the process learns that it
            // was this.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR2);
            std::process::abort();
        }
    }

    /// Whether the planted fault is to happen now.
    pub(crate) fn fault(name: &'static str) -> bool {
        let fault = FAULT.get_or_init(|| Armed::read("RINGPOST_PLANTED_FAULT"));
        fault.as_ref().is_some_and(|fault| fault.is_due(name))
    }
}

#[cfg(ringpost_failpoints)]
pub(crate) use armed::{fault, pass};

/// For unit tests, which know the points by their order.
#[cfg(test)]
mod counted {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use rustix::process::{Signal, getpid, kill_process};

    const NEVER: u32 = u32::MAX;
    static UNTIL_DEATH: AtomicU32 = AtomicU32::new(NEVER);

    /// From here on this process passes so many points and dies at the next, by SIGKILL. For forked children
    /// alone, each of which has its own copy.
    pub(crate) fn die_after(points: u32) {
        UNTIL_DEATH.store(points, Relaxed);
    }

    /// One is passed.
    pub(crate) fn count_point() {
        match UNTIL_DEATH.load(Relaxed) {
            NEVER => {}
            0 => {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            left => UNTIL_DEATH.store(left - 1, Relaxed),
        }
    }
}

#[cfg(test)]
pub(crate) use counted::{count_point, die_after};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    /// What stands in quotes behind the macro's name, with how often it does.
    fn points_in(folder: &Path, found: &mut BTreeMap<String, usize>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                points_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for rest in text.split(concat!("failpoint", "!(\"")).skip(1) {
                    *found.entry(rest.split('"').next().unwrap().to_owned()).or_default() += 1;
                }
            }
        }
    }

    #[test]
    fn the_table_names_every_point_and_no_other() {
        let mut found = BTreeMap::new();
        points_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let table: BTreeSet<&str> = POINTS.iter().map(|(name, _, _)| *name).collect();
        assert_eq!(table.len(), POINTS.len(), "a name comes twice in the table");
        let found: BTreeSet<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(found, table);
    }
}
