//! `Metrics`: a program's handle that records a server's figures while it runs.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use super::durations::{Measured, Others};
use super::each::{record_clients, record_links, record_topics};
use super::whole::{Users, record_rings, record_server};
use crate::connect::Figures;
use crate::server::shared::{Shared, lock};
use crate::shm::ForkSafeWord;

/// What must be known of earlier recordings.
#[derive(Default)]
pub(in crate::server) struct Recorded {
    measured: Measured,
    users: Users,
    clients: Others,
}

/// Records a server's figures with the [`metrics`](https://docs.rs/metrics) facade. Made by
/// [`Server::metrics`](crate::Server::metrics). It works from any thread, also while the server is being
/// joined, and keeps nothing of the server alive.
///
/// What is recorded goes to the recorder that is installed, or to the one of
/// `metrics::with_local_recorder`. Each recording replaces the values of the one before. All names begin with
/// `ringpost_`, units are seconds and bytes, and each is described. `docs/METRICS.md` lists them.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "cli")] { // which has the exporter
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let _alice = Client::register(&path, "alice")?;
/// let recorder = PrometheusBuilder::new().build_recorder();
/// metrics::with_local_recorder(&recorder, || server.metrics().record())?;
/// let text = recorder.handle().render();
/// assert!(text.contains("\nringpost_clients 1\n"), "{text}");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Metrics {
    pub(in crate::server) shared: Weak<Shared>,
    /// Tells this process and its forked children apart.
    pub(in crate::server) process: ForkSafeWord,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Records what the server as a whole does, and what each user has of its quotas. The number of values
    /// does not grow with clients: a user who has nothing any more is set to 0.
    ///
    /// It counts as a look of the server's user: durations are measured for the next ten seconds. Blocks only
    /// for locks that are held briefly.
    ///
    /// # Errors
    ///
    /// If the server has ended or cannot be looked at, and in a forked child. Then nothing is recorded.
    ///
    /// # Examples
    ///
    /// [`Metrics`] has one.
    pub fn record(&self) -> io::Result<()> {
        let (shared, figures) = self.look()?;
        let mut recorded = lock(&shared.recorded);
        recorded.measured.add(&figures.clients);
        record_server(&shared.info(), &figures);
        record_rings(&figures.clients);
        recorded.users.record(&figures.server.users);
        recorded.measured.record();
        Ok(())
    }

    /// Records what each client, link and topic does, besides what [`record`](Self::record) records: of at
    /// most a thousand each, those that did the most. How many were left out is recorded, too.
    ///
    /// Labels are names that clients chose. A recorder keeps the values of all names that it was ever given,
    /// so use one that is made for this recording alone, as the example does; with one that is installed for
    /// the whole process, strangers who may register could fill its memory. Blocks as `record` does.
    ///
    /// # Errors
    ///
    /// Those of [`record`](Self::record).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "cli")] { // which has the exporter
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    /// use ringpost::{Client, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// let _alice = Client::register(&path, "alice")?;
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// metrics::with_local_recorder(&recorder, || server.metrics().record_clients())?;
    /// let text = recorder.handle().render();
    /// assert!(text.contains("\nringpost_client_calls_total{client=\"alice\"} 0\n"), "{text}");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_clients(&self) -> io::Result<()> {
        let (shared, figures) = self.look()?;
        let mut recorded = lock(&shared.recorded);
        recorded.measured.add(&figures.clients);
        record_clients(figures.clients, &mut recorded.clients);
        drop(recorded);
        record_links(&figures.links);
        record_topics(&figures.topics);
        Ok(())
    }

    fn look(&self) -> io::Result<(Arc<Shared>, Figures)> {
        let shared = self.shared.upgrade().filter(|_| !self.process.is_foreign());
        let shared = shared.ok_or_else(|| io::Error::other("the server has ended"))?;
        let figures = shared.figures()?;
        Ok((shared, figures))
    }
}
