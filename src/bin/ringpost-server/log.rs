//! The log: a line of text on stderr for each of the library's events, written by a thread of its own.
//!
//! A worker never waits for whoever reads the log. Lines wait in a bounded queue; where it is full they are dropped
//! and counted, and as soon as the queue moves again a line says how many were. `tracing-appender` does not serve: when
//! its queue is full at the end, its guard prints to stdout, and panics if that is closed; it does not count lines that
//! could not be written; and reporting what it dropped would need another thread that looks now and then.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::common::exit::Failure;

/// How many lines may wait: a few megabytes.
const QUEUE: usize = 16_384;

/// How long the end waits for the lines that are left.
const PATIENCE: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Write what came before, then answer.
    End(SyncSender<()>),
}

/// The log's near end, for the threads that have something to say.
#[derive(Clone)]
struct Sender {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Write for Sender {
    /// The subscriber hands over whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sender {
    type Writer = Sender;

    fn make_writer(&'a self) -> Sender {
        self.clone()
    }
}

/// The running log.
pub struct Log(SyncSender<Entry>);

/// Starts the log; `verbose` shows every message.
pub fn start(verbose: bool) -> Result<Log, Failure> {
    let (sender, log) =
        open(QUEUE, io::stderr).map_err(|error| Failure::failed(format!("cannot start the log: {error}")))?;
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(sender).with_target(false).with_ansi(colours))
        .with(Targets::new().with_target("ringpost", level))
        .try_init()
        .map_err(|error| Failure::failed(format!("cannot start the log: {error}")))?;
    Ok(log)
}

/// A queue of `length` lines, and the thread that writes them to what `to` makes there.
fn open<W: Write>(length: usize, to: impl FnOnce() -> W + Send + 'static) -> io::Result<(Sender, Log)> {
    let (queue, entries) = mpsc::sync_channel(length);
    let sender = Sender { queue: queue.clone(), dropped: Arc::default() };
    let dropped = Arc::clone(&sender.dropped);
    thread::Builder::new().name("log".into()).spawn(move || write_all(&entries, &dropped, to()))?;
    Ok((sender, Log(queue)))
}

/// Writes entries as they come, those that wait together in one go.
fn write_all(entries: &Receiver<Entry>, dropped: &AtomicU64, mut to: impl Write) {
    const ENOUGH: usize = 16 * 1024;
    let mut reported = 0;
    let mut batch = Vec::new();
    while let Ok(first) = entries.recv() {
        let mut end = None;
        let mut lines = 0;
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Entry::End(answer) => end = Some(answer),
            }
            next = if batch.len() < ENOUGH && end.is_none() { entries.try_recv().ok() } else { None };
        }
        if to.write_all(&batch).is_err() {
            dropped.fetch_add(lines, Ordering::Relaxed);
        }
        batch.clear();
        let now = dropped.load(Ordering::Relaxed);
        if now != reported {
            let report = format!(
                "{} log lines were dropped ({now} in all): stderr is read too slowly\n",
                now - reported
            );
            if to.write_all(report.as_bytes()).is_ok() {
                reported = now;
            }
        }
        if let Some(answer) = end {
            let _ = answer.send(());
        }
    }
}

impl Log {
    /// Waits until what was logged is written; not for ever, should no one read it.
    pub fn finish(self) {
        let deadline = Instant::now() + PATIENCE;
        let (answer, written) = mpsc::sync_channel(1);
        let mut end = Entry::End(answer);
        loop {
            match self.0.try_send(end) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    end = back;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return,
            }
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::Sender as Unbounded;

    use super::*;

    /// Shows each write to the test and waits until the test lets it pass.
    struct Gate {
        written: Unbounded<String>,
        pass: Arc<Mutex<()>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _held = self.pass.lock();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_is_not_read_drops_and_counts_and_says_so() {
        let pass = Arc::new(Mutex::new(()));
        let (written, seen) = mpsc::channel();
        let gate = Gate { written, pass: Arc::clone(&pass) };
        let (mut sender, log) = open(2, || gate).unwrap();

        let shut = pass.lock().unwrap();
        // However many the thread has taken already, these are too many to wait.
        for number in 0..100 {
            assert_eq!(
                sender.write(format!("line {number}\n").as_bytes()).unwrap(),
                format!("line {number}\n").len()
            );
        }
        let dropped = sender.dropped.load(Ordering::Relaxed);
        assert!((1..100).contains(&dropped));
        drop(shut);
        log.finish();
        let text: String = seen.try_iter().collect();
        assert_eq!(text.matches("line ").count() as u64, 100 - dropped, "{text}");
        assert!(text.contains(&format!("{dropped} in all")), "{text}");
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let pass = Arc::new(Mutex::new(()));
        let (written, _seen) = mpsc::channel();
        let gate = Gate { written, pass: Arc::clone(&pass) };
        let (mut sender, log) = open(2, || gate).unwrap();
        let _shut = pass.lock().unwrap();
        for _ in 0..10 {
            sender.write_all(b"line\n").unwrap();
        }
        let start = Instant::now();
        log.finish();
        assert!(start.elapsed() < PATIENCE * 5);
    }
}
