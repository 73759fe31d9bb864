//! The thread that takes the scrapers' connections, and answers them one after the other.
//!
//! Strangers may connect, so all is bounded: how many connections there are, how long each may take, how much
//! it may send, and how often the metrics are read. When all places are taken, whoever connects gets that of
//! the one that has kept its place longest for nothing.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use ringpost::Metrics;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::address::{Address, Listening};
use super::connection::{Connection, Step, Stream, refusal};
use super::request::{Request, Status, Wanted, found, hint};
use ringpost::cli::exit::Failure;

/// The most connections at once.
const MOST: usize = 16;

/// How long an answer is given again before the metrics are read anew.
const FRESH: Duration = Duration::from_millis(200);

/// The pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Those who are answered.
#[derive(Debug)]
pub struct Scraped {
    listening: Listening,
    address: Address,
}

impl Scraped {
    /// Listens at the address. Nobody is answered yet.
    pub fn at(address: &Address) -> Result<Scraped, Failure> {
        // What the recorder takes the time for is found out once, here.
        drop(PrometheusBuilder::new().build_recorder());
        let (listening, address) = address.listen().map_err(Failure::failed)?;
        Ok(Scraped { listening, address })
    }

    /// Where, as one could open it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Answers with these metrics, on a thread of its own, until the process ends.
    pub fn serve(self, metrics: Metrics) -> Result<(), Failure> {
        thread::Builder::new().name("metrics".into()).spawn(move || self.run(&metrics)).map(drop).map_err(
            |error| {
                Failure::failed(format!(
                    "cannot start a thread: {error}; raise the limit on threads (ulimit -u)"
                ))
            },
        )
    }

    fn run(&self, metrics: &Metrics) {
        let local = self.address.is_local_port();
        let mut answers = Answers::default();
        let mut connections: Vec<Connection> = Vec::new();
        let mut pause: Option<Instant> = None;
        loop {
            let now = Instant::now();
            pause = pause.filter(|until| *until > now);
            let takes =
                pause.is_none() && (connections.len() < MOST || longest_idle(&connections, now).is_some());
            let is_ready = wait(takes.then_some(&self.listening), &connections, pause, now);
            let now = Instant::now();
            connections.retain_mut(|connection| {
                connection.step(local, now, |asked| answers.to(asked, metrics, now)) == Step::Waits
            });
            if !is_ready {
                continue;
            }
            match self.listening.accept() {
                Ok(stream) => {
                    if connections.len() >= MOST
                        && let Some(place) = longest_idle(&connections, now)
                    {
                        connections.swap_remove(place);
                    }
                    let mut connection = Connection::new(stream, now);
                    let step = connection.step(local, now, |asked| answers.to(asked, metrics, now));
                    if step == Step::Waits && connections.len() < MOST {
                        connections.push(connection);
                    }
                }
                Err(error) if is_passing(&error) => {}
                // Too many open files, say.
                Err(_) => pause = Some(now + PAUSE),
            }
        }
    }
}

impl Listening {
    fn accept(&self) -> io::Result<Stream> {
        match self {
            Listening::Tcp(listener) => Stream::Tcp(listener.accept()?.0).nonblocking(),
            Listening::Unix(listener) => Stream::Unix(listener.accept()?.0).nonblocking(),
        }
    }
}

/// Whether taking a connection failed for a reason that is gone with it.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

/// The connection that has kept its place longest for nothing.
fn longest_idle(connections: &[Connection], now: Instant) -> Option<usize> {
    let idle = connections.iter().enumerate();
    let idle = idle.filter_map(|(place, connection)| Some((connection.idle_since(now)?, place)));
    idle.min().map(|(_, place)| place)
}

/// Waits until something can be done. Returns whether somebody wants to connect.
fn wait(
    listening: Option<&Listening>,
    connections: &[Connection],
    pause: Option<Instant>,
    now: Instant,
) -> bool {
    let mut until: Vec<Instant> = connections.iter().map(Connection::deadline).collect();
    until.extend(pause);
    if listening.is_none() {
        // An answer may have gone unread for long enough by then.
        until.push(now + PAUSE);
    }
    let left = until.into_iter().min().map(|until| until.saturating_duration_since(now));
    let left = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    let mut fds: Vec<PollFd<'_>> = connections
        .iter()
        .map(|connection| PollFd::new(connection.stream(), connection.waits_for()))
        .collect();
    match listening {
        Some(Listening::Tcp(listener)) => fds.push(PollFd::new(listener, PollFlags::IN)),
        Some(Listening::Unix(listener)) => fds.push(PollFd::new(listener, PollFlags::IN)),
        None => {}
    }
    match poll(&mut fds, left.as_ref()) {
        Ok(_) => listening.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty()),
        Err(_) => {
            // A signal, or no memory for a moment.
            thread::sleep(Duration::from_millis(1));
            false
        }
    }
}

/// The answers that were given last.
#[derive(Default)]
struct Answers {
    metrics: Option<(Instant, String)>,
    clients: Option<(Instant, String)>,
}

impl Answers {
    fn to(&mut self, request: Request, metrics: &Metrics, now: Instant) -> Vec<u8> {
        let (wanted, head) = match request {
            Request::Asks { wanted, head } => (wanted, head),
            refused => return refusal(&refused).unwrap_or_default(),
        };
        let last = match wanted {
            Wanted::Hint => return hint(head),
            Wanted::Metrics => &mut self.metrics,
            Wanted::Clients => &mut self.clients,
        };
        if last.as_ref().is_none_or(|(read, _)| now.saturating_duration_since(*read) >= FRESH) {
            match text(metrics, wanted) {
                Ok(text) => *last = Some((Instant::now(), text)),
                Err(_) => return Status::Failed.answer(),
            }
        }
        last.as_ref().map_or_else(|| Status::Failed.answer(), |(_, text)| found(text, head))
    }
}

/// The metrics now, as Prometheus reads them. They are recorded anew each time, so that those of who has left
/// are not kept.
fn text(metrics: &Metrics, wanted: Wanted) -> io::Result<String> {
    let recorder = PrometheusBuilder::new().build_recorder();
    ::metrics::with_local_recorder(&recorder, || match wanted {
        Wanted::Clients => metrics.record_clients(),
        _ => metrics.record(),
    })?;
    Ok(sorted(&recorder.handle().render()))
}

/// The same text with the metrics in the order of their names, for people and their tools. The recorder keeps
/// no order.
fn sorted(text: &str) -> String {
    let mut metrics: Vec<Vec<&str>> = text
        .split("\n\n")
        .filter(|metric| !metric.is_empty())
        .map(|metric| metric.lines().collect())
        .collect();
    for metric in &mut metrics {
        // What it is comes first: lines that begin with `#`, in their order.
        let about = metric.iter().take_while(|line| line.starts_with('#')).count();
        metric[about..].sort_unstable();
    }
    metrics.sort_unstable();
    metrics.concat().iter().flat_map(|line| [*line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn metrics_are_in_order() {
        let text =
            "# HELP b x\n# TYPE b gauge\nb{l=\"2\"} 1\nb{l=\"1\"} 1\n\n# HELP a x\n# TYPE a gauge\na 1\n\n";
        let wanted =
            "# HELP a x\n# TYPE a gauge\na 1\n# HELP b x\n# TYPE b gauge\nb{l=\"1\"} 1\nb{l=\"2\"} 1\n";
        assert_eq!(sorted(text), wanted);
        assert_eq!(sorted(""), "");
    }

    #[test]
    fn the_one_that_waits_longest_loses_its_place() {
        let now = Instant::now();
        let (mut kept, mut connections) = (Vec::new(), Vec::new());
        for age in [1, 3, 2] {
            let (here, there) = UnixStream::pair().unwrap();
            connections.push(Connection::new(Stream::Unix(here), now - Duration::from_millis(age)));
            kept.push(there);
        }
        assert_eq!(longest_idle(&connections, now), Some(1));
        assert_eq!(longest_idle(&[], now), None);
    }
}
