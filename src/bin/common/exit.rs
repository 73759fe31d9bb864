//! How a program ends: 0, or 1 with one line that says why and what to do, or 2 for a command line that is
//! wrong.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::out::readable;

/// Why a program ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong: status 2.
    Usage(String),
    /// It could not be done: status 1.
    Failed(String),
    /// Whoever read the output has gone: a clean end, status 0.
    ClosedPipe,
}

/// What a program, or a part of it, comes to.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure with status 1.
    pub fn failed(why: impl fmt::Display) -> Failure {
        Failure::Failed(why.to_string())
    }

    /// A failure with status 2.
    pub fn usage(why: impl fmt::Display) -> Failure {
        Failure::Usage(why.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) | Failure::Failed(why) => f.write_str(why),
            Failure::ClosedPipe => f.write_str("the reader of the output has gone"),
        }
    }
}

/// Reads the command line, runs `body` with it, and turns what that comes to into the exit status.
pub fn run<C: clap::Parser>(program: &str, body: impl FnOnce(C) -> Outcome) -> ExitCode {
    let parsed = options_of(C::command()).try_get_matches();
    let options = match parsed.and_then(|matches| C::from_arg_matches(&matches)) {
        Ok(options) => options,
        Err(error) => {
            if error.use_stderr() {
                note(format_args!("{program}: {}", usage_line(program, &error)));
                return ExitCode::from(2);
            }
            // Help and version go to stdout; whether anyone reads them changes nothing.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    match body(options) {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            note(format_args!("{program}: {}", one_line(&why)));
            ExitCode::FAILURE
        }
        Err(Failure::Usage(why)) => {
            note(format_args!("{program}: {}", one_line(&why)));
            ExitCode::from(2)
        }
    }
}

/// Lets each option have a negative number as its value, so that whoever gives one hears what the option
/// wants, and not how to make it something else.
fn options_of(command: clap::Command) -> clap::Command {
    let lenient = |argument: clap::Arg| {
        let takes = argument.get_long().is_some() && argument.get_action().takes_values();
        argument.allow_negative_numbers(takes)
    };
    command.mut_args(lenient).mut_subcommands(options_of)
}

/// What is wrong with the command line, on one line like every failure.
fn usage_line(program: &str, error: &clap::Error) -> String {
    match error.kind() {
        // In place of the whole help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return format!("a command is missing: '{program} --help' shows which there are");
        }
        ErrorKind::InvalidUtf8 => {
            return format!(
                "an argument is not UTF-8, as names, keys and numbers are; '{program} --help' tells more"
            );
        }
        _ => {}
    }
    let text = error.render().to_string();
    let paragraphs = text.trim().split("\n\n").filter(|paragraph| !paragraph.starts_with("For more"));
    let lines = paragraphs.map(|paragraph| paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let line = lines.collect::<Vec<_>>().join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    one_line(&format!("{line}; '{program} --help' tells more"))
}

/// Writes a line to stderr, if it takes one within a second: a program must not hang because nobody reads
/// what it complains of. (`eprintln!` would wait for ever, and panic where stderr is closed.)
pub fn note(line: impl fmt::Display) {
    let text = format!("{line}\n");
    let mut rest = text.as_bytes();
    let deadline = Instant::now() + PATIENCE;
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: 0, tv_nsec: left.as_nanos().min(999_999_999) as i64 };
        let stderr = io::stderr();
        match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&time)) {
            Ok(1..) => {}
            Err(Errno::INTR) if !left.is_zero() => continue,
            _ => return,
        }
        // A pipe that is ready takes so much without waiting.
        match rustix::io::write(&stderr, &rest[..rest.len().min(PIPE_PAGE)]) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

/// How long a line waits for whoever reads stderr.
const PATIENCE: Duration = Duration::from_secs(1);

/// What fits into a pipe that has any room.
const PIPE_PAGE: usize = 4096;

/// `text` with its control characters, line ends among them, made visible.
pub fn one_line(text: &str) -> String {
    readable(text.trim_end().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_one_line_that_says_what_is_wrong() {
        let command = || {
            clap::Command::new("x")
                .arg(clap::Arg::new("name").long("name").required(true))
                .subcommand(clap::Command::new("list"))
        };
        for (arguments, parts) in [
            (&["x"][..], &["were not provided: --name", "Usage: x"][..]),
            (&["x", "--nmae", "y"], &["'--nmae'", "'--name'"]),
            (&["x", "--name", "y", "two\nlines"], &["'two lines'"]),
        ] {
            let error = command().try_get_matches_from(arguments).unwrap_err();
            let line = usage_line("x", &error);
            assert!(!line.contains('\n') && !line.starts_with("error"), "{line:?}");
            for part in parts {
                assert!(line.contains(part), "{part:?} is not in {line:?}");
            }
        }
    }

    #[test]
    fn a_failure_is_one_line_whatever_it_quotes() {
        assert_eq!(one_line("plain, with \"quotes\" and é"), "plain, with \"quotes\" and é");
        assert_eq!(one_line("two\nlines\n"), "two\\nlines");
        assert_eq!(one_line("an \u{1b}[31mescape"), "an \\u{1b}[31mescape");
    }
}
