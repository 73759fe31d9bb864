//! Waits until a point in time as precisely as possible.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::thread::set_current_timer_slack;

use ringpost::cli::exit::Outcome;
use ringpost::cli::signals::Interrupt;

/// How late a sleep may end. The last part of a wait of this length polls the clock instead of sleeping.
const MARGIN: Duration = Duration::from_micros(100);

/// Makes this thread's sleeps end on time; by default the kernel may add 50 µs.
pub fn wake_on_time() {
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}

/// The longest single sleep, so that a signal is noticed.
const SLICE: Duration = Duration::from_millis(200);

/// Waits until `moment`, or fails early if a signal comes.
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

/// Waits until `moment` and returns the time at which the wait ended.
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
