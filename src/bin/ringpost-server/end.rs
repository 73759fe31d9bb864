//! What a server's end tells: the last event, and a line for people.

use std::time::Duration;

use ringpost::ServerSummary;

use ringpost::cli::args::readable_time;
use ringpost::cli::stats::thousands;

/// Logs the end. `signal` is what brought it about.
pub fn log(summary: &ServerSummary, signal: Option<&str>) {
    tracing::info!(
        target: "ringpost",
        event = "stopped",
        signal,
        clients = summary.registered,
        calls = summary.calls,
        messages = summary.messages,
        bytes_in = summary.bytes_in,
        bytes_out = summary.bytes_out,
        refused = summary.refused,
        violations = summary.violations,
        abandoned = summary.abandoned,
        seconds = seconds(summary.uptime),
    );
}

/// Formats the summary for stderr, if the log is elsewhere.
pub fn in_words(summary: &ServerSummary, signal: Option<&str>) -> String {
    let counts = [
        (summary.registered, "client", "clients"),
        (summary.calls, "call", "calls"),
        (summary.messages, "message", "messages"),
        (summary.bytes_in, "byte in", "bytes in"),
        (summary.bytes_out, "byte out", "bytes out"),
        (summary.refused, "refusal", "refusals"),
        (summary.violations, "violation", "violations"),
    ]
    .map(|(count, one, many)| format!("{} {}", thousands(count), if count == 1 { one } else { many }));
    let by = signal.map(|signal| format!(" by {signal}")).unwrap_or_default();
    format!("stopped{by} after {}: {}", readable_time(summary.uptime), counts.join(", "))
}

/// A time in seconds, rounded to milliseconds.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
