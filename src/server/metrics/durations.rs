//! Durations that clients and their workers measured: totals that do not fall, percentiles since the last
//! recording, and counts up to powers of four.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::connect::ClientFigures;
use crate::wire::{Histogram, Key};

/// The kinds of durations, as they are called in the names of metrics, and what they are.
pub(super) const KINDS: [(&str, &str); 4] = [
    ("service", "how long the server's service took for a call"),
    ("worker_wake", "how long a sleeping worker took to wake up for a call"),
    ("client_wake", "how long clients took to wake up for a response, as they say"),
    ("link_service", "how long services of clients took for calls over links, as they say"),
];

/// Up to how many nanoseconds the durations of a `_bucket` are: powers of four, from 256 ns to 69 s.
const BUCKETS: RangeInclusive<u32> = 4..=18;

/// What of all durations are at most so long.
pub(super) const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// Durations of each kind.
pub(super) type Durations = [Histogram; KINDS.len()];

/// What each of some clients had measured at the last recording.
pub(super) type Others = HashMap<Key, Durations>;

pub(super) fn durations(client: &ClientFigures) -> Durations {
    [&client.service, &client.wake, &client.own_wake, &client.link_service].map(Histogram::clone)
}

/// What a client has measured since `before`.
pub(super) fn since(now: &Durations, before: Option<&Durations>) -> Durations {
    let none = Durations::default();
    let before = before.unwrap_or(&none);
    std::array::from_fn(|kind| now[kind].since(&before[kind]))
}

/// What all clients have measured.
#[derive(Default)]
pub(super) struct Measured {
    /// What each client had measured at the last look.
    clients: Others,
    /// The sum, with clients that left.
    total: Durations,
    /// That, when it was recorded last.
    recorded: Durations,
}

impl Measured {
    /// Adds what was measured since the last look to the total.
    pub(super) fn add(&mut self, clients: &[ClientFigures]) {
        let mut seen = HashMap::with_capacity(clients.len());
        for client in clients {
            let now = durations(client);
            let more = since(&now, self.clients.get(&client.info.key));
            self.total.iter_mut().zip(&more).for_each(|(total, more)| total.add(more));
            seen.insert(client.info.key, now);
        }
        self.clients = seen;
    }

    pub(super) fn record(&mut self) {
        let since = since(&self.total, Some(&self.recorded));
        for (((kind, text), total), since) in KINDS.iter().zip(&self.total).zip(&since) {
            let name = format!("ringpost_{kind}_seconds");
            let text_of_gauge =
                format!("{text}: what a part of those since the last recording did not exceed");
            describe_gauge!(name.clone(), Unit::Seconds, text_of_gauge);
            for quantile in QUANTILES {
                gauge!(name.clone(), "quantile" => quantile.to_string()).set(seconds_at(since, quantile));
            }
            record_buckets(kind, text, total);
        }
        self.recorded.clone_from(&self.total);
    }
}

/// The duration of a quantile, in seconds; not a number if none was measured.
pub(super) fn seconds_at(durations: &Histogram, quantile: f64) -> f64 {
    durations.percentile(quantile * 100.0).map_or(f64::NAN, |duration| duration.as_secs_f64())
}

/// How many durations were at most so long, in the form that Prometheus has for histograms.
fn record_buckets(kind: &str, text: &str, total: &Histogram) {
    let name = format!("ringpost_{kind}_duration_seconds_bucket");
    describe_counter!(
        name.clone(),
        Unit::Count,
        format!("{text}: how many of the measured ones were at most `le` seconds")
    );
    let mut buckets = total.buckets().peekable();
    let mut sum = 0_u64;
    for power in BUCKETS {
        let limit = Duration::from_nanos(1 << (2 * power));
        while let Some((_, count)) = buckets.next_if(|(until, _)| *until <= limit) {
            sum = sum.saturating_add(count);
        }
        counter!(name.clone(), "le" => limit.as_secs_f64().to_string()).absolute(sum);
    }
    counter!(name, "le" => "+Inf").absolute(total.count());
    let name = format!("ringpost_{kind}_duration_seconds_count");
    describe_counter!(name.clone(), Unit::Count, format!("{text}: how many were measured"));
    counter!(name).absolute(total.count());
}
