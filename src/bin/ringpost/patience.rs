//! `--wait-for-server`: waits until a server listens, instead of failing because there is none yet.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ringpost::RegisterError;

use crate::cli::WaitOption;
use ringpost::cli::exit::{Failure, note};
use ringpost::cli::signals::Interrupt;

/// How long registering, or connecting to ask something, may take.
const REGISTER: Duration = Duration::from_secs(5);

/// The pauses between two attempts, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Registers, or connects, by `connect`, which is given the time that it may take. The command as a whole
/// ends at the `deadline`. If no server listens and the command line says to wait for one, this tries again
/// until one does, the time is over or a signal comes.
pub fn patiently<T>(
    socket: &Path,
    wait: &WaitOption,
    deadline: Option<Instant>,
    interrupt: Option<&Interrupt>,
    mut connect: impl FnMut(Duration) -> Result<T, RegisterError>,
) -> Result<T, Failure> {
    let limit = wait.limit(deadline);
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match connect(left(deadline)) {
            Ok(connected) => return Ok(connected),
            Err(error @ RegisterError::NoServer { .. }) if wait.wait_for_server.is_some() => error,
            Err(error @ RegisterError::NoServer { .. }) => {
                return Err(Failure::failed(format!("{error}; --wait-for-server waits for one")));
            }
            Err(error) => return Err(Failure::failed(error)),
        };
        interrupt.map_or(Ok(()), Interrupt::check)?;
        if pause == FIRST_PAUSE {
            note(format_args!("ringpost: waiting for a server at {socket:?}"));
        }
        if limit.is_some_and(|limit| left_until(limit).is_zero()) {
            return Err(Failure::failed(format!("{error}; none came in time")));
        }
        thread::sleep(limit.map_or(pause, |limit| pause.min(left_until(limit))));
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

/// How long registering, subscribing or a question may take, so that the command ends at its deadline.
pub fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(REGISTER, |deadline| REGISTER.min(left_until(deadline)))
}

fn left_until(time: Instant) -> Duration {
    time.saturating_duration_since(Instant::now())
}
