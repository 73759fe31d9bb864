//! Runs a program and sets its exit status: 0 for success, 1 with one line of error, 2 for a wrong command
//! line.

use std::ffi::OsString;
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
    /// The command line is wrong: exit status 2.
    Usage(String),
    /// The program failed: exit status 1.
    Failed(String),
    /// The output has said it all: this exit status, and no line of error.
    Told(u8),
    /// The reader of the output has closed the pipe, which is no error: exit status 0.
    ClosedPipe,
}

/// The result of a program, or of a part of it.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure with exit status 1.
    pub fn failed(why: impl fmt::Display) -> Failure {
        Failure::Failed(why.to_string())
    }

    /// A failure with exit status 2.
    pub fn usage(why: impl fmt::Display) -> Failure {
        Failure::Usage(why.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) | Failure::Failed(why) => f.write_str(why),
            Failure::Told(status) => write!(f, "status {status}"),
            Failure::ClosedPipe => f.write_str("the reader of the output closed the pipe"),
        }
    }
}

/// Parses the command line, runs `body` with it, and turns its result into the exit status.
pub fn run<C: clap::Parser>(program: &str, body: impl FnOnce(C) -> Outcome) -> ExitCode {
    let command = options_of(C::command());
    let help = help_command(program, &command, std::env::args_os().skip(1));
    let parsed = command.try_get_matches();
    let options = match parsed.and_then(|matches| C::from_arg_matches(&matches)) {
        Ok(options) => options,
        Err(error) => {
            if error.use_stderr() {
                note(format_args!("{program}: {}", usage_line(&help, &error)));
                return ExitCode::from(2);
            }
            // Help and version go to stdout. A failure to write them is ignored.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    match body(options) {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Told(status)) => ExitCode::from(status),
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

/// Lets every option accept a negative number, so that the error says which values are valid instead of
/// explaining how to pass something that looks like an option.
fn options_of(command: clap::Command) -> clap::Command {
    let lenient = |argument: clap::Arg| {
        let takes = argument.get_long().is_some() && argument.get_action().takes_values();
        argument.allow_negative_numbers(takes)
    };
    command.mut_args(lenient).mut_subcommands(options_of)
}

/// What prints the help about these arguments: that of the first subcommand which is among them, or the
/// program's.
fn help_command(
    program: &str,
    command: &clap::Command,
    mut arguments: impl Iterator<Item = OsString>,
) -> String {
    let is_name = |argument: &OsString| {
        command.get_subcommands().any(|sub| !sub.is_hide_set() && argument == sub.get_name())
    };
    match arguments.find(is_name) {
        Some(name) => format!("{program} {} --help", name.display()),
        None => format!("{program} --help"),
    }
}

/// The error in the command line, on one line like every failure. The command `help` tells more.
fn usage_line(help: &str, error: &clap::Error) -> String {
    match error.kind() {
        // Instead of the whole help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return format!("a command is missing; '{help}' lists them");
        }
        ErrorKind::InvalidUtf8 => {
            return format!("an argument is not UTF-8, but names, keys and numbers must be; see '{help}'");
        }
        _ => {}
    }
    let text = error.render().to_string();
    let paragraphs = text.trim().split("\n\n").filter(|paragraph| !paragraph.starts_with("For more"));
    let lines = paragraphs.map(|paragraph| paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let line = lines.collect::<Vec<_>>().join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    one_line(&format!("{line}; see '{help}'"))
}

/// Writes a line to stderr, but gives up after a second: a program must not hang because nobody reads its
/// errors. (`eprintln!` could wait for ever, and panics if stderr is closed.)
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
        // A writable pipe accepts this much without blocking.
        match rustix::io::write(&stderr, &rest[..rest.len().min(PIPE_PAGE)]) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

/// How long to wait until stderr accepts a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// The number of bytes that fit into every writable pipe.
const PIPE_PAGE: usize = 4096;

/// Escapes the control characters in `text`, line breaks included.
pub fn one_line(text: &str) -> String {
    readable(text.trim_end().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_is_one_line_that_says_what_is_wrong() {
        let command = || {
            clap::Command::new("x")
                .arg(clap::Arg::new("name").long("name").required(true))
                .subcommand(clap::Command::new("list"))
        };
        for (arguments, parts) in [
            (&["x"][..], &["were not provided: --name", "Usage: x"][..]),
            (&["x", "--nmae", "y"], &["'--nmae'", "'--name'"]),
            (&["x", "--name", "y", "two\nlines"], &["'two lines'", "see 'x --help'"]),
            (&["x", "--name", "y", "list", "stray"], &["'stray'", "see 'x list --help'"]),
        ] {
            let error = command().try_get_matches_from(arguments).unwrap_err();
            let help = help_command("x", &command(), arguments.iter().map(OsString::from));
            assert_eq!(help, if arguments.contains(&"list") { "x list --help" } else { "x --help" });
            let line = usage_line(&help, &error);
            assert!(!line.contains('\n') && !line.starts_with("error"), "{line:?}");
            for part in parts {
                assert!(line.contains(part), "{part:?} is not in {line:?}");
            }
        }
    }

    #[test]
    fn a_failure_is_one_line_even_if_it_quotes_control_characters() {
        assert_eq!(one_line("plain, with \"quotes\" and é"), "plain, with \"quotes\" and é");
        assert_eq!(one_line("two\nlines\n"), "two\\nlines");
        assert_eq!(one_line("an \u{1b}[31mescape"), "an \\u{1b}[31mescape");
    }
}
