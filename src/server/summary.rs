//! `ServerSummary`: what a server did in its life, and the running sums that it is made of.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::shared::Shared;
use super::worker::Totals;

/// What a server did in its life: the result of [`Server::join`].
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

pub(super) fn summary(shared: &Shared, abandoned: usize) -> ServerSummary {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let sums = &shared.sums;
    ServerSummary {
        registered: read(&sums.registered),
        refused: read(&sums.refused),
        violations: read(&sums.violations),
        calls: read(&sums.calls),
        messages: read(&sums.messages),
        bytes_in: read(&sums.bytes_in),
        bytes_out: read(&sums.bytes_out),
        abandoned,
        uptime: shared.uptime.length(),
        failed: false,
        cut_off: false,
    }
}

/// Running sums: over the clients that are gone, and of registrations, refusals and violations.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) registered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) violations: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

impl Sums {
    pub(super) fn add(&self, totals: &Totals) {
        self.calls.fetch_add(totals.calls, Ordering::Relaxed);
        self.messages.fetch_add(totals.messages, Ordering::Relaxed);
        self.bytes_in.fetch_add(totals.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(totals.bytes_out, Ordering::Relaxed);
    }
}
