//! The thread that asks the server for its figures.

use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Observer, RegisterError};

use super::bus::{Bus, Looks};

/// Without a server, how often it is looked for one.
const AGAIN: Duration = Duration::from_millis(500);

/// What a look found.
#[derive(Debug)]
pub enum Found {
    /// The first one at a server has no rates.
    Bus(Box<Bus>),
    /// Why there is nothing to be seen.
    Gone(String),
}

/// One look.
pub fn look(observer: &Observer, looks: &mut Looks) -> Result<Bus, RegisterError> {
    let server = observer.server()?;
    Ok(looks.next(server, observer.figures()?))
}

/// Looks each `interval`, until `tell` returns false. Goes on with the next server when this one ended.
pub fn watch(observer: &Observer, interval: Duration, mut tell: impl FnMut(Found) -> bool) {
    let mut looks = Looks::default();
    let mut next = Instant::now();
    loop {
        let (found, pause) = match look(observer, &mut looks) {
            Ok(bus) => (Found::Bus(Box::new(bus)), interval),
            Err(error) => (Found::Gone(why(&error)), interval.min(AGAIN)),
        };
        if !tell(found) {
            return;
        }
        // A look that took long delays the next one, instead of being followed by several at once.
        next = (next + pause).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn why(error: &RegisterError) -> String {
    match error {
        RegisterError::NoServer { .. } => "the server has ended; waiting for the next".to_owned(),
        error => format!("{error}; trying again"),
    }
}
