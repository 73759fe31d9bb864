//! The options of the log.

use std::path::PathBuf;

use ringpost::cli::args;
use ringpost::cli::level::Level;

use super::line::Format;

/// The default number of rotated files.
pub const KEEP: u32 = 7;

/// The log's options.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// The format of the log [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<Format>,

    /// Append the log to this file [default: write it to stderr]
    #[arg(long, value_name = "PATH")]
    pub log_file: Option<PathBuf>,

    /// When to start a new log file: before it exceeds a size (from 1K, such as 10M); `daily`, at the start
    /// of each day (UTC) and before it exceeds 16M; or `never`. The old file is renamed to PATH.1, that
    /// one to PATH.2, and so on [default: 16M]
    #[arg(long, value_name = "WHEN", value_parser = rotate)]
    pub log_rotate: Option<Rotate>,

    /// The number of old log files to keep: 1 to 999 [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub log_keep: Option<u32>,

    /// The least urgent events to log; `ringpost log-level` changes it while the server runs [default: info]
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub log_level: Option<Level>,

    /// The same as --log-level debug: log every message, too, with its sender, receiver, size and outcome
    #[arg(short, long, conflicts_with = "log_level")]
    pub verbose: bool,
}

impl LogOptions {
    /// The level, if one was chosen.
    pub fn level(&self) -> Option<Level> {
        if self.verbose { Some(Level::Debug) } else { self.log_level }
    }
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
pub const SIZE: u64 = 16 << 20;

pub fn rotate(text: &str) -> Result<Rotate, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_is_daily_by_size_or_never() {
        assert_eq!((rotate("daily"), rotate("never")), (Ok(Rotate::Daily), Ok(Rotate::Never)));
        assert_eq!(rotate("64K"), Ok(Rotate::Size(65_536)));
        for wrong in ["", "hourly", "0", "1023", "-1", "10MB"] {
            assert!(rotate(wrong).is_err(), "{wrong}");
        }
    }
}
