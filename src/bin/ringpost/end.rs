//! Why a command ends that prints what arrives, and what that means for its exit status.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::session;
use ringpost::cli::exit::{Failure, Outcome};

/// How long to wait at the end until everything is printed, in case nobody reads the output.
const DRAIN: Duration = Duration::from_secs(2);

/// Why it ends.
#[derive(Debug)]
pub enum End {
    Signal,
    Time,
    /// As many as were asked for were printed.
    Enough,
    /// Printing failed.
    Output(Failure),
    /// No more can arrive.
    Gone(String),
}

/// Tells when nobody reads standard output any more, so that a command that prints seldom does not stay
/// behind `head`, for example, and keep its name.
pub fn watch_output(events: Sender<End>) -> Outcome {
    session::spawn("output", move || {
        let out = io::stdout();
        // Reports only errors: that the reading end of a pipe was closed.
        let mut ends = [PollFd::new(&out, PollFlags::empty())];
        while let Err(Errno::INTR) = poll(&mut ends, None) {}
        if ends[0].revents().contains(PollFlags::ERR) {
            let _ = events.send(End::Output(Failure::ClosedPipe));
        }
    })
}

/// Waits for a reason to end.
pub fn wait(arrived: &Receiver<End>, deadline: Option<Instant>) -> End {
    let end = match deadline {
        None => arrived.recv().ok(),
        Some(deadline) => arrived.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
    };
    end.unwrap_or(End::Time)
}

/// After everything was closed, waits until the thread that prints is done with the rest, and so finds that
/// it was closed. Returns the reason to end: the one before, unless the rest had another.
pub fn drain(arrived: &Receiver<End>, end: End) -> End {
    let limit = Instant::now() + DRAIN;
    loop {
        match arrived.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            Ok(End::Signal | End::Time) => {}
            Ok(End::Gone(_)) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return end,
            Ok(through @ (End::Enough | End::Output(_))) => return through,
        }
    }
}

/// Turns the reason into the command's outcome. Of `what`, for example messages, `came` arrived, and the
/// command line wanted `count`.
pub fn judge(end: End, came: u64, count: Option<u64>, what: &str, signal: Option<&str>) -> Outcome {
    let short = |why: &str| match count {
        Some(wanted) if came < wanted => {
            Err(Failure::failed(format!("{came} of {wanted} {what} arrived before {why}")))
        }
        _ => Ok(()),
    };
    match end {
        End::Enough => Ok(()),
        End::Output(failure) => Err(failure),
        End::Gone(why) => Err(Failure::failed(match count {
            Some(wanted) => format!("{why} ({came} of {wanted} {what} arrived)"),
            None => why,
        })),
        End::Time => short("the time-out; raise --timeout"),
        End::Signal => short(signal.unwrap_or("a signal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_than_requested_are_a_failure() {
        let judged = |end, came, count, signal| judge(end, came, count, "messages", signal);
        let why = judged(End::Time, 1, Some(2), None).unwrap_err().to_string();
        assert!(why.starts_with("1 of 2 messages arrived"), "{why}");
        let why = judged(End::Signal, 1, Some(2), Some("SIGINT")).unwrap_err().to_string();
        assert!(why.contains("SIGINT"), "{why}");
        assert_eq!(judged(End::Time, 2, Some(2), None), Ok(()));
        assert_eq!(judged(End::Time, 0, None, None), Ok(()));
        assert_eq!(judged(End::Enough, 2, Some(2), None), Ok(()));
        assert!(judged(End::Gone("gone".into()), 0, None, None).is_err());
        assert_eq!(judged(End::Output(Failure::ClosedPipe), 0, Some(9), None), Err(Failure::ClosedPipe));
    }
}
