//! Turns SIGINT, SIGTERM and SIGHUP into a request to end cleanly; a second signal ends the program at once.
//!
//! A second signal within a second of the first is ignored, because it belongs to the same request:
//! `timeout`, for example, signals both the process and its group.

use std::fs;
use std::os::raw::c_int;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::{Failure, Outcome};

type Action = Box<dyn FnOnce() + Send>;

/// Signals that come this soon after the first one belong to the same request.
const REPEATED: Duration = Duration::from_secs(1);

/// Catches the signals that ask a program to end.
#[derive(Clone)]
pub struct Interrupt(Arc<State>);

struct State {
    caught: AtomicI32,
    action: Mutex<Option<Action>>,
    /// Runs before a second signal ends the process.
    last: Mutex<Option<Action>>,
}

impl Interrupt {
    /// Installs the handlers. From now on the first signal sets a flag and runs the action of
    /// [`Interrupt::then`]. A signal more than a second later ends the process as by default.
    pub fn install() -> Result<Interrupt, Failure> {
        let mut wanted = vec![SIGINT, SIGTERM];
        // Under `nohup` SIGHUP is ignored and must stay so.
        if !ignored(SIGHUP) {
            wanted.push(SIGHUP);
        }
        Interrupt::install_for(&wanted)
    }

    /// As [`Interrupt::install`], for these signals alone.
    pub fn install_for(wanted: &[c_int]) -> Result<Interrupt, Failure> {
        let cannot = |error| {
            Failure::failed(format!(
                "cannot handle signals: {error}; raise the limits on open files and threads (ulimit -n, -u)"
            ))
        };
        let mut signals = Signals::new(wanted).map_err(cannot)?;
        let state =
            Arc::new(State { caught: AtomicI32::new(0), action: Mutex::default(), last: Mutex::default() });
        let watched = Arc::clone(&state);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut first: Option<Instant> = None;
                for signal in signals.forever() {
                    if let Some(first) = first {
                        if first.elapsed() >= REPEATED {
                            if let Some(last) = lock(&watched.last).take() {
                                last();
                            }
                            let _ = signal_hook::low_level::emulate_default_handler(signal);
                        }
                        continue;
                    }
                    first = Some(Instant::now());
                    watched.caught.store(signal, Ordering::SeqCst);
                    let action = watched.action().take();
                    if let Some(action) = action {
                        action();
                    }
                }
            })
            .map_err(cannot)?;
        Ok(Interrupt(state))
    }

    /// Runs `action` at the first signal, or now if that has come already. Replaces an earlier action.
    pub fn then(&self, action: impl FnOnce() + Send + 'static) {
        let mut slot = self.0.action();
        *slot = Some(Box::new(action));
        // Either the signal thread stores the flag after this load, and then finds the action; or this load
        // sees the flag. If both happen, `take` gives the action to one of them.
        let now = if self.caught().is_some() { slot.take() } else { None };
        drop(slot);
        if let Some(action) = now {
            action();
        }
    }

    /// Runs `action` before a second signal ends the process. The action must not block.
    pub fn at_last(&self, action: impl FnOnce() + Send + 'static) {
        *lock(&self.0.last) = Some(Box::new(action));
    }

    /// Removes the action. The first signal still sets the flag.
    pub fn forget(&self) {
        self.0.action().take();
    }

    /// The name of the first signal, if one has come.
    pub fn caught(&self) -> Option<&'static str> {
        match self.0.caught.load(Ordering::SeqCst) {
            0 => None,
            SIGINT => Some("SIGINT"),
            SIGTERM => Some("SIGTERM"),
            SIGHUP => Some("SIGHUP"),
            _ => Some("a signal"),
        }
    }

    /// Fails if a signal has come.
    pub fn check(&self) -> Outcome {
        match self.caught() {
            Some(signal) => Err(Failure::failed(format!("ended by {signal}"))),
            None => Ok(()),
        }
    }
}

impl State {
    fn action(&self) -> MutexGuard<'_, Option<Action>> {
        lock(&self.action)
    }
}

fn lock(action: &Mutex<Option<Action>>) -> MutexGuard<'_, Option<Action>> {
    action.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process was started with `signal` ignored.
fn ignored(signal: c_int) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

/// Whether `signal` is ignored according to `status`, the text of /proc/PID/status.
fn ignores(status: &str, signal: c_int) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_found_in_the_process_status() {
        let status =
            "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000002\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP));
        assert!(!ignores("SigIgn:\tzz\n", SIGHUP));
    }
}
