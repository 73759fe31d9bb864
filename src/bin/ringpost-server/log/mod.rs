//! The log: a thread writes a line to stderr or a file for each event of the library.
//!
//! Workers never wait for the reader of the log or for a disk: lines go through a bounded queue. If it is
//! full, lines are dropped and counted, like those that cannot be written. As soon as lines can be written
//! again, a line reports their number. `tracing-appender` cannot do this: if its queue is full at the end,
//! its guard prints to stdout, and panics if that is closed; it does not count lines that could not be
//! written; and reporting the dropped lines would need another thread that checks for them.

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

/// The number of lines in the queue: a few megabytes.
const QUEUE: usize = 16_384;

/// How long to wait at the end until the remaining lines are written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The default number of rotated files.
const KEEP: u32 = 7;

/// The log's options.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// The format of the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub log_format: Format,

    /// Append the log to this file [default: write it to stderr]
    #[arg(long, value_name = "PATH")]
    pub log_file: Option<PathBuf>,

    /// When to start a new log file: before it exceeds a size (from 1K, such as 10M); `daily`, at the start
    /// of each day (UTC) and before it exceeds 16M; or `never`. The old file is renamed to PATH.1, that
    /// one to PATH.2, and so on [default: 16M]
    #[arg(long, value_name = "WHEN", requires = "log_file", value_parser = rotate)]
    pub log_rotate: Option<Rotate>,

    /// The number of old log files to keep: 1 to 999 [default: 7]
    #[arg(long, value_name = "N", requires = "log_rotate", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub log_keep: Option<u32>,

    /// Log every message with its sender, receiver, size and outcome
    #[arg(short, long)]
    pub verbose: bool,
}

/// When to start a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotate {
    /// Each day, and before it exceeds [`SIZE`] bytes.
    Daily,
    /// Before it exceeds this number of bytes.
    Size(u64),
    Never,
}

/// The default largest size of a log file, in bytes.
const SIZE: u64 = 16 << 20;

fn rotate(text: &str) -> Result<Rotate, String> {
    match text {
        "daily" => return Ok(Rotate::Daily),
        "never" => return Ok(Rotate::Never),
        _ => {}
    }
    match args::bytes(text) {
        Ok(bytes @ 1024..) => Ok(Rotate::Size(bytes as u64)),
        _ => Err("give `daily`, `never`, or a number of bytes from 1K, such as 64K or 10M".into()),
    }
}

enum Entry {
    Line(Vec<u8>),
    /// Asks for an answer once all earlier lines are written.
    End(SyncSender<()>),
}

/// The sending end of the log's queue.
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
    /// No line is written until this is dropped.
    gate: Option<SyncSender<()>>,
    /// Whether other lines may be written to stderr: it does not carry a log in JSON.
    pub leaves_stderr: bool,
    /// Whether the log goes to stderr.
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
            let file = LogFile::open(path, options.log_rotate.unwrap_or(Rotate::Size(SIZE)), keep).map_err(
                |error| {
                    Failure::failed(format!(
                        "cannot open the log file {}: {error}; give --log-file a path that you can write to",
                        path.display()
                    ))
                },
            )?;
            open(QUEUE, style, || file)
        }
    }
    .map_err(|error| cannot(&error))?;
    log_panics(style, &sender);
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

/// Logs panics like other events. The default hook would write to stderr on the panicking thread, which would
/// then wait for stderr's reader.
fn log_panics(style: Style, sender: &Sender) {
    let sender = Sender { style, queue: sender.queue.clone(), dropped: Arc::clone(&sender.dropped) };
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let content =
            Content::new("panic", "a thread panicked: unless the service did, please report this bug")
                .text("thread", thread::current().name().unwrap_or_default())
                .text("place", place)
                .text("error", text);
        sender.put(style.line(Level::ERROR, &content));
    }));
}

/// Standard error without the standard library's lock, which a blocked write would hold and so block all
/// other users of stderr.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a queue of `length` lines, and the thread that writes them to the sink that `to` makes. The thread
/// starts writing when the returned gate is dropped.
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
        // Nothing is ever sent, so this returns when the gate is dropped.
        let _ = closed.recv();
        write_all(&entries, &dropped, style, to());
    })?;
    Ok((sender, queue, gate))
}

/// Writes entries as they come. Those that wait are written together.
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
            let content =
                Content::new("rotation", "the log file could not be rotated, so it grows beyond its limit");
            // If this cannot be written, neither can other lines, which the next report counts.
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

impl Log {
    /// Starts writing lines.
    pub fn begin(&mut self) {
        self.gate = None;
    }

    /// Waits until all lines are written, but not for ever, in case nobody reads them.
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
    fn a_log_that_nobody_reads_drops_lines_and_reports_their_number() {
        let (pass, seen, sender, log) = gated();
        let shut = pass.lock().unwrap();
        // More lines than the thread can have taken and the queue can hold.
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
    fn finish_does_not_wait_for_ever() {
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
    fn rotation_is_daily_by_size_or_never() {
        assert_eq!((rotate("daily"), rotate("never")), (Ok(Rotate::Daily), Ok(Rotate::Never)));
        assert_eq!(rotate("64K"), Ok(Rotate::Size(65_536)));
        for wrong in ["", "hourly", "0", "1023", "-1", "10MB"] {
            assert!(rotate(wrong).is_err(), "{wrong}");
        }
    }
}
