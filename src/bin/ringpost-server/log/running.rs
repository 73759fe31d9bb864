//! The running log: its start and end, its level, and its file opened anew.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::file::LogFile;
use super::line::{Content, Format, Style};
use super::options::{KEEP, LogOptions, Rotate, SIZE};
use super::queue::{Entry, Gate, QUEUE, Sender, open};
use super::stream::Stream;
use ringpost::cli::exit::Failure;
use ringpost::cli::level::Level;

/// The running log.
pub struct Log {
    /// No line is written until this is dropped.
    gate: Option<Gate>,
    logger: Logger,
    /// Whether other lines may be written to stderr: it does not carry a log in JSON.
    pub leaves_stderr: bool,
    /// Whether the log goes to stderr.
    pub on_stderr: bool,
}

/// Changes the log while it runs.
#[derive(Clone)]
pub struct Logger {
    sender: Sender,
    file: Option<PathBuf>,
    level: Arc<Mutex<Level>>,
    filter: Arc<dyn Fn(Level) + Send + Sync>,
}

/// Starts the log.
pub fn start(options: &LogOptions) -> Result<Log, Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot start the log: {error}"));
    let format = options.log_format.unwrap_or(Format::Text);
    let on_stderr = options.log_file.is_none();
    let colours = on_stderr
        && format == Format::Text
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = Style { format, colours };
    let (sender, gate) = match &options.log_file {
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
    log_panics(sender.clone());
    let level = options.level().unwrap_or(Level::Info);
    let (filter, handle) = reload::Layer::new(targets(level));
    tracing_subscriber::registry()
        .with(sender.clone())
        .with(filter)
        .try_init()
        .map_err(|error| cannot(&error))?;
    // It fails only without a subscriber, and ours is there for the process's life.
    let filter = Arc::new(move |level| _ = handle.reload(targets(level)));
    let level = Arc::new(Mutex::new(level));
    let logger = Logger { sender, file: options.log_file.clone(), level, filter };
    Ok(Log { gate: Some(gate), logger, on_stderr, leaves_stderr: !on_stderr || format == Format::Text })
}

/// Lets through the library's events down to a level.
fn targets(level: Level) -> Targets {
    Targets::new().with_target(
        "ringpost",
        match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        },
    )
}

/// Logs panics like other events. The default hook would write to stderr on the panicking thread, which would
/// then wait for stderr's reader.
fn log_panics(sender: Sender) {
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let content =
            Content::new("panic", "a thread panicked: unless the service did, please report this bug")
                .text("thread", rustix::thread::name().unwrap_or_default().to_string_lossy())
                .text("place", place)
                .text("error", text);
        sender.put(sender.style.line(tracing::Level::ERROR, &content));
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

impl Log {
    /// Starts writing lines.
    pub fn begin(&mut self) {
        self.gate = None;
    }

    pub fn logger(&self) -> Logger {
        self.logger.clone()
    }

    /// Waits until all lines are written, but not for ever, in case nobody reads them.
    pub fn finish(mut self) {
        self.begin();
        let _ = self.logger.sender.ask(Entry::End);
    }
}

impl Logger {
    pub fn level(&self) -> Level {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on events down to this level are logged. Returns the level before.
    pub fn set_level(&self, level: Level) -> Level {
        let mut now = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        (self.filter)(level);
        std::mem::replace(&mut now, level)
    }

    /// Opens the log file anew at its path, behind all lines so far. False if the log goes to stderr.
    pub fn reopen(&self) -> Result<bool, String> {
        let Some(path) = &self.file else { return Ok(false) };
        let cannot = |why: String| {
            format!("cannot open the log file {} anew: {why}; the log goes on in the old one", path.display())
        };
        match self.sender.ask(Entry::Reopen) {
            Some(Ok(reopened)) => Ok(reopened),
            Some(Err(error)) => Err(cannot(error.to_string())),
            None => Err(cannot("the disk takes the lines before that too slowly".into())),
        }
    }
}
