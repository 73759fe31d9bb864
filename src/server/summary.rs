//! `ServerSummary`: what a server did in its life, and the running sums that it is made of.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::shared::Shared;
use super::worker::Totals;
use crate::connect::ServerFigures;

/// What a server did in its life: the result of [`Server::join`](crate::Server::join).
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// client.call(b"four")?;
/// client.unregister()?;
/// let summary = server.join_after_shutdown();
/// assert_eq!((summary.registered, summary.calls, summary.bytes_in), (1, 1, 4));
/// println!("{summary}"); // 1 clients, 1 calls, 0 messages, 4 bytes in, 4 bytes out in 1.2ms; …
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSummary {
    /// Clients that registered.
    pub registered: u64,
    /// Connections refused.
    pub refused: u64,
    /// Clients that broke the protocol.
    pub violations: u64,
    /// Calls answered.
    pub calls: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Payload bytes of calls and of delivered messages.
    pub bytes_in: u64,
    /// Payload bytes of responses, including the texts of failures.
    pub bytes_out: u64,
    /// Workers that were left behind because the service did not return within the grace period. The service
    /// is dropped when the last of them returns.
    pub abandoned: usize,
    /// The time from start to end.
    pub uptime: Duration,
    /// The server was not shut down: its own thread panicked, which is a bug in this library. Its clients
    /// were disconnected with the reason [`Died`](crate::CloseReason::Died), and its path is free.
    pub failed: bool,
    /// The server was not shut down: the process closed its descriptors, as programs do that become daemons.
    /// Its clients were disconnected with the reason [`Died`](crate::CloseReason::Died), and its path is
    /// free.
    pub cut_off: bool,
}

/// One line for people, such as a log's last one.
impl fmt::Display for ServerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServerSummary { registered, refused, violations, calls, messages, bytes_in, bytes_out, .. } =
            self;
        write!(
            f,
            "{registered} clients, {calls} calls, {messages} messages, {bytes_in} bytes in, {bytes_out} bytes out in \
             {:.1?}; {refused} refused, {violations} violations",
            self.uptime
        )?;
        if self.abandoned > 0 {
            write!(f, ", {} calls abandoned", self.abandoned)?;
        }
        f.write_str(match (self.failed, self.cut_off) {
            (true, _) => "; the server failed",
            (_, true) => "; the server's descriptors were closed",
            _ => "",
        })
    }
}

pub(super) fn summary(shared: &Shared, abandoned: usize) -> ServerSummary {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let sums = &shared.sums;
    let Totals { calls, messages, bytes_in, bytes_out } = shared.workers.totals(sums);
    ServerSummary {
        registered: read(&sums.registered),
        refused: read(&sums.refused),
        violations: read(&sums.violations),
        calls,
        messages,
        bytes_in,
        bytes_out,
        abandoned,
        uptime: shared.uptime.length(),
        failed: false,
        cut_off: false,
    }
}

/// Running sums: over the workers that have ended, and of registrations, deaths, refusals and violations.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) registered: AtomicU64,
    pub(super) died: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) refused_messages: AtomicU64,
    pub(super) violations: AtomicU64,
    calls: AtomicU64,
    messages: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Sums {
    /// What workers that have ended did.
    pub(super) fn of_ended(&self) -> Totals {
        Totals {
            calls: self.calls.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// The counts of what happened, without what workers did.
    pub(super) fn figures(&self) -> ServerFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerFigures {
            registered: read(&self.registered),
            died: read(&self.died),
            violations: read(&self.violations),
            refused: read(&self.refused) + read(&self.refused_messages),
            ..ServerFigures::default()
        }
    }

    pub(super) fn add(&self, totals: &Totals) {
        self.calls.fetch_add(totals.calls, Ordering::Relaxed);
        self.messages.fetch_add(totals.messages, Ordering::Relaxed);
        self.bytes_in.fetch_add(totals.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(totals.bytes_out, Ordering::Relaxed);
    }
}
