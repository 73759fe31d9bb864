//! The log: a line on stderr or in a file for each of the library's events, written by a thread of its own.
//!
//! A worker never waits for whoever reads the log, or for a disk. Lines wait in a bounded queue; where it is
//! full they are dropped and counted, as are those that cannot be written, and as soon as the log moves again
//! a line says how many were. `tracing-appender` does not serve: when its queue is full at the end, its guard
//! prints to stdout, and panics if that is closed; it does not count lines that could not be written; and
//! reporting what it dropped would need another thread that looks now and then.

mod line;
mod sink;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use line::{Content, Style};
use ringpost::cli::args;
use ringpost::cli::exit::Failure;
use sink::{LogFile, Lost, Sink, Stream};

pub use line::{Format, help};

/// How many lines may wait: a few megabytes.
const QUEUE: usize = 16_384;

/// How long the end waits for the lines that are left.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many rotated files stay, if nothing else is said.
const KEEP: u32 = 7;

/// The log's part of the command line.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// What the lines of the log look like
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub log_format: Format,

    /// Append the log to this file; without it, the log goes to stderr
    #[arg(long, value_name = "PATH")]
    pub log_file: Option<PathBuf>,

    /// Begin a new log file before it grows over a size: bytes from 1K, such as 10M; or also each day (UTC):
    /// `daily`; or never: `never`, for a log that something else rotates or that may grow. The old one
    /// becomes PATH.1, that one PATH.2, and so on [default: 16M]
    #[arg(long, value_name = "WHEN", requires = "log_file", value_parser = rotate)]
    pub log_rotate: Option<Rotate>,

    /// How many old log files stay: 1 to 999 [default: 7]
    #[arg(long, value_name = "N", requires = "log_rotate", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub log_keep: Option<u32>,

    /// Log every message: its sender, receiver, size and outcome
    #[arg(short, long)]
    pub verbose: bool,
}

/// When a new file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotate {
    /// And before it has more than [`SIZE`] bytes.
    Daily,
    /// Before it has more than so many bytes.
    Size(u64),
    Never,
}

/// The most bytes of one log file, if nothing else is said.
const SIZE: u64 = 16 << 20;

fn rotate(text: &str) -> Result<Rotate, String> {
    match text {
        "daily" => return Ok(Rotate::Daily),
        "never" => return Ok(Rotate::Never),
        _ => {}
    }
    match args::bytes(text) {
        Ok(bytes @ 1024..) => Ok(Rotate::Size(bytes as u64)),
        _ => Err("`daily` or `never` is wanted, or a number of bytes from 1K, such as 64K or 10M".into()),
    }
}

enum Entry {
    Line(Vec<u8>),
    /// Write what came before, then answer.
    End(SyncSender<()>),
}

/// The log's near end, for the threads that have something to say.
struct Sender {
    style: Style,
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Sender {
    fn put(&self, line: Vec<u8>) {
        if self.queue.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for Sender {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.put(self.style.line(*event.metadata().level(), &Content::of(event)));
    }
}

/// The running log.
pub struct Log {
    queue: SyncSender<Entry>,
    /// Lines wait until this is dropped.
    gate: Option<SyncSender<()>>,
    /// Whether stderr carries lines of text, among which others can stand.
    pub leaves_stderr: bool,
    /// Whether whoever looks at stderr sees the log.
    pub on_stderr: bool,
}

/// Starts the log.
pub fn start(options: &LogOptions) -> Result<Log, Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot start the log: {error}"));
    let colours = options.log_file.is_none()
        && options.log_format == Format::Text
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = Style { format: options.log_format, colours };
    let (sender, queue, gate) = match &options.log_file {
        None => open(QUEUE, style, || Stream::new(Stderr)),
        Some(path) => {
            let keep = options.log_keep.unwrap_or(KEEP);
            let file = LogFile::open(path, options.log_rotate.unwrap_or(Rotate::Size(SIZE)), keep).map_err(|error| {
                Failure::failed(format!(
                    "cannot open the log file {}: {error}; --log-file takes the path of a file that can be written",
                    path.display()
                ))
            })?;
            open(QUEUE, style, || file)
        }
    }
    .map_err(|error| cannot(&error))?;
    tell_panics(style, &sender);
    let level = if options.verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    tracing_subscriber::registry()
        .with(sender)
        .with(Targets::new().with_target("ringpost", level))
        .try_init()
        .map_err(|error| cannot(&error))?;
    let on_stderr = options.log_file.is_none();
    let gate = Some(gate);
    Ok(Log { queue, gate, on_stderr, leaves_stderr: !on_stderr || options.log_format == Format::Text })
}

/// A panic is told here as everything else. Its own words would go to stderr at once, and whoever panics
/// would wait for its reader.
fn tell_panics(style: Style, sender: &Sender) {
    let sender = Sender { style, queue: sender.queue.clone(), dropped: Arc::clone(&sender.dropped) };
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("it says nothing");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let content =
            Content::new("panic", "a thread panicked: if it was not in the service, please report it")
                .text("thread", thread::current().name().unwrap_or_default())
                .text("place", place)
                .text("error", text);
        sender.put(style.line(Level::ERROR, &content));
    }));
}

/// Standard error without the standard library's lock, which a write that waits for its reader would keep
/// from all others.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A queue of `length` lines, and the thread that writes them to what `to` makes there, once the gate is
/// dropped.
fn open<S: Sink>(
    length: usize,
    style: Style,
    to: impl FnOnce() -> S + Send + 'static,
) -> io::Result<(Sender, SyncSender<Entry>, SyncSender<()>)> {
    let (gate, closed) = mpsc::sync_channel(0);
    let (queue, entries) = mpsc::sync_channel(length);
    let sender = Sender { style, queue: queue.clone(), dropped: Arc::default() };
    let dropped = Arc::clone(&sender.dropped);
    thread::Builder::new().name("log".into()).spawn(move || {
        // Nothing is ever sent: this ends when the other end is dropped.
        let _ = closed.recv();
        write_all(&entries, &dropped, style, to());
    })?;
    Ok((sender, queue, gate))
}

/// Writes entries as they come, those that wait together in one go.
fn write_all(entries: &Receiver<Entry>, dropped: &AtomicU64, style: Style, mut to: impl Sink) {
    const ENOUGH: usize = 16 * 1024;
    let mut reported = 0;
    let mut why = None;
    let mut batch = Vec::new();
    while let Ok(first) = entries.recv() {
        let mut end = None;
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => batch.extend_from_slice(&line),
                Entry::End(answer) => end = Some(answer),
            }
            next = if batch.len() < ENOUGH && end.is_none() { entries.try_recv().ok() } else { None };
        }
        if let Err(Lost { lines, error }) = to.write_lines(&batch) {
            dropped.fetch_add(lines, Ordering::Relaxed);
            why = Some(error);
        }
        batch.clear();
        if let Some(error) = to.rotation_failed() {
            let content = Content::new("rotation", "the log file could not be rotated, and grows on");
            // If it does not fit, neither do others: the next report counts them.
            let _ = to.write_lines(&style.line(Level::WARN, &content.text("error", error)));
        }
        let now = dropped.load(Ordering::Relaxed);
        if now != reported && to.write_lines(&report(style, now - reported, now, why.as_ref())).is_ok() {
            reported = now;
            why = None;
        }
        if let Some(answer) = end {
            let _ = answer.send(());
        }
    }
}

/// Tells of lines that were lost: all of them for the error, if there was one, or else because they came too
/// fast.
fn report(style: Style, lines: u64, total: u64, why: Option<&io::Error>) -> Vec<u8> {
    let message = match why {
        Some(_) => "lines of the log could not be written: make room for it",
        None => "lines of the log were dropped: it is read, or written, too slowly",
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

impl Log {
    /// From now on lines are written.
    pub fn begin(&mut self) {
        self.gate = None;
    }

    /// Waits until what was logged is written; not for ever, should no one read it.
    pub fn finish(mut self) {
        self.begin();
        let deadline = Instant::now() + PATIENCE;
        let (answer, written) = mpsc::sync_channel(1);
        let mut end = Entry::End(answer);
        loop {
            match self.queue.try_send(end) {
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

    const STYLE: Style = Style { format: Format::Text, colours: false };

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

    fn gated() -> (Arc<Mutex<()>>, Receiver<String>, Sender, Log) {
        let pass = Arc::new(Mutex::new(()));
        let (written, seen) = mpsc::channel();
        let gate = Gate { written, pass: Arc::clone(&pass) };
        let (sender, queue, closed) = open(2, STYLE, || Stream::new(gate)).unwrap();
        let mut log = Log { queue, gate: Some(closed), on_stderr: true, leaves_stderr: true };
        log.begin();
        (pass, seen, sender, log)
    }

    #[test]
    fn a_log_that_is_not_read_drops_and_counts_and_says_so() {
        let (pass, seen, sender, log) = gated();
        let shut = pass.lock().unwrap();
        // However many the thread has taken already, these are too many to wait.
        for number in 0..100 {
            sender.put(format!("line {number}\n").into_bytes());
        }
        let dropped = sender.dropped.load(Ordering::Relaxed);
        assert!((1..100).contains(&dropped));
        drop(shut);
        log.finish();
        let text: String = seen.try_iter().collect();
        assert_eq!(text.matches("line ").count() as u64, 100 - dropped, "{text}");
        assert!(text.contains(&format!("dropped lines={dropped} total={dropped} message")), "{text}");
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (pass, _seen, sender, log) = gated();
        let _shut = pass.lock().unwrap();
        for _ in 0..10 {
            sender.put(b"line\n".to_vec());
        }
        let start = Instant::now();
        log.finish();
        assert!(start.elapsed() < PATIENCE * 5);
    }

    #[test]
    fn a_rotation_is_daily_or_by_size() {
        assert_eq!((rotate("daily"), rotate("never")), (Ok(Rotate::Daily), Ok(Rotate::Never)));
        assert_eq!(rotate("64K"), Ok(Rotate::Size(65_536)));
        for wrong in ["", "hourly", "0", "1023", "-1", "10MB"] {
            assert!(rotate(wrong).is_err(), "{wrong}");
        }
    }
}
