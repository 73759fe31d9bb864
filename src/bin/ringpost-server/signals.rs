//! The signals that a server gets: what ends it, what has it load anew, and what does nothing.

use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use ringpost::cli::exit::Failure;
use ringpost::cli::signals::Interrupt;

/// The signals since the start.
pub struct Caught {
    pub interrupt: Interrupt,
    hangups: Signals,
}

/// Catches the signals from now on. SIGHUP waits until [`Caught::at_hangup`].
pub fn catch() -> Result<Caught, Failure> {
    let cannot = |error| {
        Failure::failed(format!("cannot handle signals: {error}; raise the limit on open files (ulimit -n)"))
    };
    // SIGUSR1 and SIGUSR2 have no meaning here, and whoever sends one must not end the bus. SIGXFSZ: a log
    // file that reaches the size limit (ulimit -f) must only cause a write error.
    for harmless in [SIGUSR1, SIGUSR2, SIGXFSZ] {
        signal_hook::flag::register(harmless, Arc::default()).map_err(cannot)?;
    }
    let hangups = Signals::new([SIGHUP]).map_err(cannot)?;
    Ok(Caught { interrupt: Interrupt::install_for(&[SIGINT, SIGTERM])?, hangups })
}

impl Caught {
    /// Runs `action` at each SIGHUP, on a thread of its own: it may take long, and a signal that ends the
    /// server must not wait for it.
    pub fn at_hangup(mut self, action: impl Fn() + Send + 'static) -> Result<(), Failure> {
        thread::Builder::new()
            .name("hangup".into())
            .spawn(move || self.hangups.forever().for_each(|_| action()))
            .map(drop)
            .map_err(|error| {
                Failure::failed(format!(
                    "cannot start a thread: {error}; raise the limit on threads (ulimit -u)"
                ))
            })
    }
}
