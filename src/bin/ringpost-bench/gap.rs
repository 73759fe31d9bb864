//! Waits until a moment, and returns as close to it as possible.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::thread::set_current_timer_slack;

use ringpost::cli::exit::Outcome;
use ringpost::cli::signals::Interrupt;

/// What a sleep may end late by: this much before the moment the rest is spent looking at the clock.
const MARGIN: Duration = Duration::from_micros(100);

/// Lets this thread's sleeps end when they should: the kernel else adds up to 50 µs.
pub fn wake_on_time() {
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}

/// Longer sleeps come in slices, so that a signal is noticed.
const SLICE: Duration = Duration::from_millis(200);

/// Waits for `moment`; a signal ends it early.
pub fn rest_until(moment: Instant, interrupt: &Interrupt) -> Outcome {
    loop {
        interrupt.check()?;
        match moment.checked_duration_since(Instant::now()) {
            Some(left) if left > SLICE + MARGIN => std::thread::sleep(SLICE),
            _ => break,
        }
    }
    wait_until(moment);
    Ok(())
}

/// Waits for `moment` and returns when it was seen to have come.
pub fn wait_until(moment: Instant) -> Instant {
    loop {
        let now = Instant::now();
        match moment.checked_duration_since(now) {
            None | Some(Duration::ZERO) => return now,
            Some(left) if left > 2 * MARGIN => std::thread::sleep(left - MARGIN),
            Some(_) => std::hint::spin_loop(),
        }
    }
}
