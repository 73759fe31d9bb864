//! Records what each client, link and topic does, of so many at most.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::durations::{Durations, KINDS, Others, QUANTILES, durations, seconds_at, since};
use crate::connect::{ClientFigures, LinkFigures, TopicFigures};

/// The most users, clients, links or topics that are recorded, each by itself.
pub(super) const MOST: usize = 1000;

/// How many were left out because there are more than [`MOST`].
fn left_out(what: &'static str, all: usize) {
    describe_gauge!(
        "ringpost_left_out",
        Unit::Count,
        "clients, links and topics that are not listed one by one"
    );
    gauge!("ringpost_left_out", "what" => what).set(all.saturating_sub(MOST) as f64);
}

/// Records what each client does, and which durations since the last recording it has measured.
pub(super) fn record_clients(mut clients: Vec<ClientFigures>, recorded: &mut Others) {
    let work = |client: &ClientFigures| {
        let counters = client.info.counters;
        counters.bytes_in.saturating_add(counters.bytes_out).saturating_add(client.taken)
    };
    left_out("clients", clients.len());
    clients.sort_by_key(|client| std::cmp::Reverse(work(client)));
    clients.truncate(MOST);
    describe_clients();
    let mut seen = Others::with_capacity(clients.len());
    for client in clients {
        let now = durations(&client);
        record_client(&client, &since(&now, recorded.get(&client.info.key)));
        seen.insert(client.info.key, now);
    }
    *recorded = seen;
}

const CLIENT_COUNTERS: [(&str, &str, Unit); 9] = [
    ("ringpost_client_calls_total", "calls of a client that were answered", Unit::Count),
    ("ringpost_client_sent_total", "messages of a client that were delivered", Unit::Count),
    ("ringpost_client_delivered_total", "messages that came into a client's inbox", Unit::Count),
    ("ringpost_client_received_total", "messages that a client took from its inbox", Unit::Count),
    ("ringpost_client_in_bytes_total", "payload bytes of a client's calls and messages", Unit::Bytes),
    ("ringpost_client_out_bytes_total", "payload bytes of the responses to a client", Unit::Bytes),
    ("ringpost_client_samples_taken_total", "samples that a client received, as it says", Unit::Count),
    ("ringpost_client_samples_missed_total", "samples that a client missed, as it says", Unit::Count),
    ("ringpost_client_samples_published_total", "samples that a client published, as it says", Unit::Count),
];

fn describe_clients() {
    for (name, text, unit) in CLIENT_COUNTERS {
        describe_counter!(name, unit, text);
    }
    describe_gauge!("ringpost_client_ring_used_bytes", Unit::Bytes, "bytes in use in a ring of a client");
    describe_gauge!(
        "ringpost_client_waiting_senders",
        Unit::Count,
        "senders that wait for room in a client's inbox"
    );
    describe_gauge!("ringpost_client_links", Unit::Count, "links of a client");
    describe_gauge!("ringpost_client_cpu_seconds", Unit::Seconds, "processor time of a client's worker");
    for (kind, text) in KINDS {
        let text =
            format!("{text}, of one client: what a part of those since the last recording did not exceed");
        describe_gauge!(format!("ringpost_client_{kind}_seconds"), Unit::Seconds, text);
    }
}

fn record_client(client: &ClientFigures, since: &Durations) {
    let name = client.info.name.as_str();
    let of = client.info.counters;
    let counts = [
        of.calls,
        of.sent,
        of.delivered,
        of.received,
        of.bytes_in,
        of.bytes_out,
        client.taken,
        client.missed,
        client.published,
    ];
    for ((counter, ..), count) in CLIENT_COUNTERS.iter().zip(counts) {
        counter!(*counter, "client" => name.to_owned()).absolute(count);
    }
    for (ring, fill) in
        [("requests", client.requests), ("responses", client.responses), ("inbox", client.inbox)]
    {
        gauge!("ringpost_client_ring_used_bytes", "client" => name.to_owned(), "ring" => ring)
            .set(fill.used as f64);
    }
    gauge!("ringpost_client_waiting_senders", "client" => name.to_owned()).set(client.waiting_senders);
    gauge!("ringpost_client_links", "client" => name.to_owned()).set(client.info.links);
    if let Some(cpu) = client.cpu {
        gauge!("ringpost_client_cpu_seconds", "client" => name.to_owned()).set(cpu.as_secs_f64());
    }
    for ((kind, _), durations) in KINDS.iter().zip(since) {
        // A value that is not a number for each of a thousand clients helps nobody.
        if durations.count() > 0 {
            for quantile in QUANTILES {
                let labels = [("client", name.to_owned()), ("quantile", quantile.to_string())];
                gauge!(format!("ringpost_client_{kind}_seconds"), &labels)
                    .set(seconds_at(durations, quantile));
            }
        }
    }
}

/// The links between two clients count together: they have the same labels.
pub(super) fn record_links(links: &[LinkFigures]) {
    const COUNTERS: [(&str, &str, Unit); 4] = [
        ("ringpost_link_requests_total", "requests over open links, as their callers say", Unit::Count),
        (
            "ringpost_link_served_total",
            "requests over open links that were served, as their callees say",
            Unit::Count,
        ),
        ("ringpost_link_request_bytes_total", "bytes of requests in the rings of open links", Unit::Bytes),
        ("ringpost_link_response_bytes_total", "bytes of responses in the rings of open links", Unit::Bytes),
    ];
    for (name, text, unit) in COUNTERS {
        describe_counter!(name, unit, text);
    }
    let mut pairs: BTreeMap<(&str, &str), [u64; COUNTERS.len()]> = BTreeMap::new();
    for link in links {
        let sums = pairs.entry((link.info.caller.as_str(), link.info.callee.as_str())).or_default();
        let counts = [link.requests, link.served, link.bytes_out, link.bytes_in];
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by_key(|(_, sums)| std::cmp::Reverse(*sums));
    left_out("links", pairs.len());
    for ((caller, callee), sums) in pairs.into_iter().take(MOST) {
        for ((name, ..), sum) in COUNTERS.iter().zip(sums) {
            let labels = [("caller", caller.to_owned()), ("callee", callee.to_owned())];
            counter!(*name, &labels).absolute(sum);
        }
    }
}

pub(super) fn record_topics(topics: &[TopicFigures]) {
    describe_counter!("ringpost_topic_samples_total", Unit::Count, "samples of a topic of one publisher");
    describe_counter!("ringpost_topic_bytes_total", Unit::Bytes, "bytes of samples in the ring of a topic");
    describe_gauge!(
        "ringpost_topic_subscriptions",
        Unit::Count,
        "subscriptions that read a topic of one publisher"
    );
    left_out("topics", topics.len());
    let mut topics: Vec<_> = topics.iter().collect();
    topics.sort_by_key(|topic| std::cmp::Reverse(topic.bytes));
    for topic in topics.into_iter().take(MOST) {
        let info = &topic.info;
        let labels =
            [("topic", info.topic.as_str().to_owned()), ("publisher", info.publisher.as_str().to_owned())];
        counter!("ringpost_topic_samples_total", &labels).absolute(topic.samples);
        counter!("ringpost_topic_bytes_total", &labels).absolute(topic.bytes);
        gauge!("ringpost_topic_subscriptions", &labels).set(info.subscriptions);
    }
}
