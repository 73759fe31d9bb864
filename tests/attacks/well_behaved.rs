//! Well-behaved clients that work during an attack: verified and timed calls, and messages that must not be
//! lost.

use crate::common::{Begun, Bus, LIMIT, begin, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Calls between two messages.
const CALLS_A_MESSAGE: usize = 100;

/// Two clients: one that calls and sends, one that receives.
pub struct Honest {
    shared: Arc<Shared>,
    calling: Begun<(Vec<u32>, u64)>,
    receiving: Begun<u64>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    slice: AtomicUsize,
    calls: AtomicUsize,
}

impl Honest {
    pub fn start(bus: &Bus) -> Honest {
        let shared = Arc::new(Shared::default());
        let (mut caller, mut receiver) = (bus.client("caller"), bus.client("receiver"));
        let to = receiver.key();
        let told = Arc::clone(&shared);
        let calling = begin(move || {
            let (mut medians, mut took, mut sent) = (Vec::new(), Vec::new(), 0_u64);
            for number in 1_usize.. {
                let slice = told.slice.load(Ordering::Relaxed);
                if slice > medians.len() {
                    medians.push(median(&mut took));
                    medians.resize(slice, 0);
                    took.clear();
                }
                if told.stop.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                assert_eq!(caller.call(&number.to_le_bytes()).unwrap(), number.to_le_bytes());
                took.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
                told.calls.store(number, Ordering::Relaxed);
                if number.is_multiple_of(CALLS_A_MESSAGE) {
                    caller.send_timeout(to, &sent.to_le_bytes(), LIMIT).unwrap();
                    sent += 1;
                }
            }
            // An empty message ends the sequence.
            caller.send_timeout(to, b"", LIMIT).unwrap();
            caller.unregister().unwrap();
            (medians, sent)
        });
        let receiving = begin(move || {
            let mut received = 0_u64;
            loop {
                let message = receiver.recv_timeout(LIMIT).unwrap();
                if message.payload().is_empty() {
                    receiver.unregister().unwrap();
                    return received;
                }
                assert_eq!(message.payload(), received.to_le_bytes());
                received += 1;
            }
        });
        Honest { shared, calling, receiving }
    }

    /// Starts a new slice, whose calls are timed separately.
    pub fn next_slice(&self) {
        self.shared.slice.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks that calls still succeed now.
    pub fn goes_on(&self) {
        let calls = self.shared.calls.load(Ordering::Relaxed);
        eventually("the honest client's calls go on", || {
            self.shared.calls.load(Ordering::Relaxed) > calls + 10 || self.calling.is_over()
        });
    }

    /// Ends the work and checks that nothing was lost. Returns the median call of each slice, in nanoseconds
    /// (0 if it had none).
    pub fn end(self) -> Vec<u32> {
        self.goes_on();
        self.next_slice();
        self.shared.stop.store(true, Ordering::Relaxed);
        let (medians, sent) = self.calling.end("the honest calls");
        assert_eq!(self.receiving.end("the honest messages"), sent);
        medians
    }
}

pub fn median(of: &mut [u32]) -> u32 {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or(0)
}
