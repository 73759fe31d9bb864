//! The queue of lines, and the thread that writes them.
//!
//! Workers never wait for the reader of the log or for a disk: lines go through a bounded queue. If it is
//! full, lines are dropped and counted, like those that cannot be written. As soon as lines can be written
//! again, a line reports their number. `tracing-appender` cannot do this: if its queue is full at the end,
//! its guard prints to stdout, and panics if that is closed; it does not count lines that could not be
//! written; and reporting the dropped lines would need another thread that checks for them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::{Content, Style};
use super::stream::{Lost, Sink, Trouble};

/// The number of lines in the queue: a few megabytes.
pub const QUEUE: usize = 16_384;

/// How long to wait until the log's thread has done something.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the log's thread gets.
pub enum Entry {
    Line(Vec<u8>),
    /// Asks for an answer once all earlier lines are written.
    End(SyncSender<()>),
    /// Asks to open the file anew. The answer says whether there is a file, or why that failed.
    Reopen(SyncSender<io::Result<bool>>),
}

/// The sending end of the log's queue.
#[derive(Clone)]
pub struct Sender {
    pub style: Style,
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Sender {
    /// Puts a line into the queue. Never waits.
    pub fn put(&self, line: Vec<u8>) {
        if self.queue.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the log's thread do something behind all earlier lines, and waits for its answer. Not for ever, in
    /// case nobody reads the log.
    pub fn ask<T>(&self, entry: impl FnOnce(SyncSender<T>) -> Entry) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let (answer, answered) = mpsc::sync_channel(1);
        let mut entry = entry(answer);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    entry = back;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return None,
            }
        }
        answered.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

impl<S: Subscriber> Layer<S> for Sender {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.put(self.style.line(*event.metadata().level(), &Content::of(event)));
    }
}

/// No line is written until this is dropped.
pub struct Gate(#[expect(dead_code, reason = "it is only dropped")] SyncSender<()>);

/// Makes a queue of `length` lines, and the thread that writes them to the sink that `to` makes. The thread
/// starts writing when the returned gate is dropped.
pub fn open<S: Sink>(
    length: usize,
    style: Style,
    to: impl FnOnce() -> S + Send + 'static,
) -> io::Result<(Sender, Gate)> {
    let (gate, closed) = mpsc::sync_channel(0);
    let (queue, entries) = mpsc::sync_channel(length);
    let sender = Sender { style, queue, dropped: Arc::default() };
    let dropped = Arc::clone(&sender.dropped);
    thread::Builder::new().name("log".into()).spawn(move || {
        // Nothing is ever sent, so this returns when the gate is dropped.
        let _ = closed.recv();
        write_all(&entries, &dropped, style, to());
    })?;
    Ok((sender, Gate(gate)))
}

/// Writes entries as they come. Those that wait are written together.
fn write_all(entries: &Receiver<Entry>, dropped: &AtomicU64, style: Style, mut to: impl Sink) {
    const ENOUGH: usize = 16 * 1024;
    let mut reported = 0;
    let mut why = None;
    let mut batch = Vec::new();
    while let Ok(first) = entries.recv() {
        let mut asked = None;
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => batch.extend_from_slice(&line),
                other => asked = Some(other),
            }
            next = if batch.len() < ENOUGH && asked.is_none() { entries.try_recv().ok() } else { None };
        }
        if let Err(Lost { lines, error }) = to.write_lines(&batch) {
            dropped.fetch_add(lines, Ordering::Relaxed);
            why = Some(error);
        }
        batch.clear();
        if let Some(trouble) = to.trouble() {
            // If this cannot be written, neither can other lines, which the next report counts.
            let _ = to.write_lines(&warning(style, &trouble));
        }
        let now = dropped.load(Ordering::Relaxed);
        if now != reported && to.write_lines(&report(style, now - reported, now, why.as_ref())).is_ok() {
            reported = now;
            why = None;
        }
        match asked {
            Some(Entry::End(answer)) => _ = answer.try_send(()),
            Some(Entry::Reopen(answer)) => _ = answer.try_send(to.reopen()),
            Some(Entry::Line(_)) | None => {}
        }
    }
}

/// The line that reports lost lines: because of a write error, or because they came too fast.
fn report(style: Style, lines: u64, total: u64, why: Option<&io::Error>) -> Vec<u8> {
    let message = match why {
        Some(_) => "lines of the log could not be written: make room for them",
        None => "lines of the log were dropped: the log is read or written too slowly",
    };
    let content = Content::new("dropped", message).number("lines", lines).number("total", total);
    style.line(
        Level::WARN,
        &match why {
            Some(error) => content.text("error", error),
            None => content,
        },
    )
}

/// The line that reports what could not be done with the file.
fn warning(style: Style, trouble: &Trouble) -> Vec<u8> {
    let (event, message, error) = match trouble {
        Trouble::Rotation(error) => {
            ("rotation", "the log file could not be rotated, so it grows beyond its limit", error)
        }
        Trouble::Reopening(error) => (
            "reopening",
            "the log file was moved, and none could be opened at its path, so the log goes on in the old one",
            error,
        ),
    };
    style.line(Level::WARN, &Content::new(event, message).text("error", error))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;
    use std::sync::mpsc::Sender as Unbounded;

    use super::super::line::Format;
    use super::super::stream::Stream;
    use super::*;

    const STYLE: Style = Style { format: Format::Text, colours: false };

    /// A writer that reports each write to the test, and blocks until the test lets it pass.
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

    fn gated() -> (Arc<Mutex<()>>, Receiver<String>, Sender) {
        let pass = Arc::new(Mutex::new(()));
        let (written, seen) = mpsc::channel();
        let gate = Gate { written, pass: Arc::clone(&pass) };
        let (sender, closed) = open(2, STYLE, || Stream::new(gate)).unwrap();
        drop(closed);
        (pass, seen, sender)
    }

    #[test]
    fn a_log_that_nobody_reads_drops_lines_and_reports_their_number() {
        let (pass, seen, sender) = gated();
        let shut = pass.lock().unwrap();
        // More lines than the thread can have taken and the queue can hold.
        for number in 0..100 {
            sender.put(format!("line {number}\n").into_bytes());
        }
        let dropped = sender.dropped.load(Ordering::Relaxed);
        assert!((1..100).contains(&dropped));
        drop(shut);
        sender.ask(Entry::End);
        let text: String = seen.try_iter().collect();
        assert_eq!(text.matches("line ").count() as u64, 100 - dropped, "{text}");
        assert!(text.contains(&format!("dropped lines={dropped} total={dropped} message")), "{text}");
    }

    #[test]
    fn nobody_waits_for_ever_for_the_log() {
        let (pass, _seen, sender) = gated();
        let _shut = pass.lock().unwrap();
        for _ in 0..10 {
            sender.put(b"line\n".to_vec());
        }
        let start = Instant::now();
        assert_eq!(sender.ask(Entry::End), None);
        assert!(start.elapsed() < PATIENCE * 60);
    }
}
