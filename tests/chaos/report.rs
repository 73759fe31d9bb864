//! The report of a run: JSON, and text for people.

use std::time::Duration;

use serde::Serialize;

use super::failpoints::{self, Hits};
use super::judge::Messages;
use super::round::{ALLOWANCE_KIB, Chaos, Deaths};
use super::topic_judge::TopicCounts;
use super::watch::{Counts, Links};
use crate::command_line;
use ringpost::cli::cpu;
use ringpost::cli::stats::{Summary, nanoseconds, thousands};

#[derive(Serialize)]
pub struct Report<'a> {
    harness: &'static str,
    version: &'static str,
    command: Vec<String>,
    cpus: usize,
    kernel: Option<String>,
    seed: u64,
    rounds: u64,
    seconds: f64,
    clients: Deaths,
    links: Deaths,
    topics: Deaths,
    servers: Deaths,
    channels: Deaths,
    stops: u64,
    quiet_rounds: u64,
    messages: Messages,
    counts: Counts,
    channel_blocks: u64,
    /// From a client's death until its successor is registered with the same server, the successor's start
    /// included.
    registered_again_ns: Summary,
    /// By how much operations with a deadline came later than that.
    late_ns: Summary,
    /// By how much this process itself once came late.
    worst_delay_ns: u64,
    /// How long anything was allowed to take beyond its deadline, in the median round and in the worst.
    margin_ns: Summary,
    most_memory_kib: u64,
    memory_allowance_kib: u64,
    failpoints_built_in: bool,
    failpoints: &'a Hits,
    least_hits: u64,
    violation: Option<&'a str>,
}

impl<'a> Report<'a> {
    pub fn of(chaos: &'a Chaos, rounds: u64, time: Duration, violation: Option<&'a str>) -> Report<'a> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Report {
            harness: "chaos",
            version: env!("CARGO_PKG_VERSION"),
            command: command_line(),
            cpus: cpu::allowed().len(),
            kernel: cpu::kernel(),
            seed: chaos.seed,
            rounds,
            seconds: (time.as_secs_f64() * 10.0).round() / 10.0,
            clients: chaos.clients,
            links: chaos.links,
            topics: chaos.topics,
            servers: chaos.servers,
            channels: chaos.channels,
            stops: chaos.stops,
            quiet_rounds: chaos.quiet_rounds,
            messages: chaos.watch.messages,
            counts: {
                let mut counts = chaos.watch.counts;
                counts.topics.compared = chaos.watch.topics.compared;
                counts
            },
            channel_blocks: chaos.blocks,
            registered_again_ns: chaos.watch.again.summary(),
            late_ns: chaos.watch.late.summary(),
            worst_delay_ns: nanos(chaos.watch.worst_delay),
            margin_ns: chaos.margins.summary(),
            most_memory_kib: chaos.most_memory_kib,
            memory_allowance_kib: ALLOWANCE_KIB,
            failpoints_built_in: failpoints::are_built_in(),
            failpoints: &chaos.hits,
            least_hits: chaos.hits.least().1,
            violation,
        }
    }

    pub fn text(&self) -> String {
        let deaths = |who: &str, deaths: Deaths| {
            format!(
                "{who}: {} killed, {} died at failpoints, {} ended in good order\n",
                thousands(deaths.killed),
                thousands(deaths.at_failpoints),
                thousands(deaths.in_order)
            )
        };
        let Messages { sent, acknowledged, unknown, received, missed } = self.messages;
        let time = |time: u64| nanoseconds(time as f64);
        let mut text = format!(
            "seed {}, {} rounds in {} s, {} clients stopped and resumed\n",
            self.seed,
            thousands(self.rounds),
            self.seconds,
            thousands(self.stops)
        );
        text += &deaths("clients", self.clients);
        text += &deaths("clients with links", self.links);
        text += &deaths("clients with topics", self.topics);
        text += &deaths("servers", self.servers);
        text += &deaths("writers of a channel", self.channels);
        text += &format!(
            "{} registrations, {} calls, {} bursts; messages: {} sent, {} acknowledged, {} in doubt, {} received, {} \
             missed by receivers that died or left\n",
            thousands(self.counts.registrations),
            thousands(self.counts.calls),
            thousands(self.counts.bursts),
            thousands(sent),
            thousands(acknowledged),
            thousands(unknown),
            thousands(received),
            thousands(missed),
        );
        let Links { attempts, opened, not_serving, refused, timed_out, .. } = self.counts.links;
        let Links { calls, posts, local, peer, unregistered, died, .. } = self.counts.links;
        text += &format!(
            "links: {} attempts, {} opened, {} not served, {} refused, {} timed out; {} calls, {} posts; ended: {} on this \
             side, {} on the other, {} because a client left, {} because it died\n",
            thousands(attempts),
            thousands(opened),
            thousands(not_serving),
            thousands(refused),
            thousands(timed_out),
            thousands(calls),
            thousands(posts),
            thousands(local),
            thousands(peer),
            thousands(unregistered),
            thousands(died),
        );
        let TopicCounts { published, subscribed, samples, watched, compared } = self.counts.topics;
        text += &format!(
            "topics: {} published, {} subscriptions, {} samples, {} looks at who is there; {} times a subscription had all\n",
            thousands(published),
            thousands(subscribed),
            thousands(samples),
            thousands(watched),
            thousands(compared),
        );
        text += &format!(
            "after quiet, {} times: as at first, and at most {} KiB more memory (allowed: {})\n",
            self.quiet_rounds, self.most_memory_kib, self.memory_allowance_kib
        );
        let again = self.registered_again_ns;
        text += &format!(
            "a successor is registered after the death: p50 {}, p99 {}, its own start included\n",
            time(again.p50),
            time(again.p99)
        );
        text += &format!(
            "beyond a deadline: p99 {}, at most {}; this process itself came up to {} late; allowed were {} in the median \
             round, {} in the worst\n",
            time(self.late_ns.p99),
            time(self.late_ns.max),
            time(self.worst_delay_ns),
            time(self.margin_ns.p50),
            time(self.margin_ns.max),
        );
        if self.failpoints_built_in {
            let (all, least) = self.failpoints.least();
            text += &format!("{all} failpoints, each hit at least {least} times\n");
            let below = self.failpoints.below(20);
            if !below.is_empty() {
                text += &format!("hit less than 20 times: {}\n", below.join(", "));
            }
        } else {
            text += "built without failpoints\n";
        }
        text += &match self.violation {
            None => "every promise was kept\n".to_string(),
            Some(what) => format!("BROKEN: {what}\n"),
        };
        text
    }
}
