//! Records what a server as a whole does, and what its users have.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::each::MOST;
use crate::connect::{ClientFigures, Figures, Fill, ServerInfo, UserFigures};

fn set_counter(name: &'static str, unit: Unit, text: &'static str, value: u64) {
    describe_counter!(name, unit, text);
    counter!(name).absolute(value);
}

fn set_gauge(name: &'static str, unit: Unit, text: &'static str, value: f64) {
    describe_gauge!(name, unit, text);
    gauge!(name).set(value);
}

pub(super) fn record_server(info: &ServerInfo, figures: &Figures) {
    describe_gauge!("ringpost_info", Unit::Count, "1, with the server's version and protocol as labels");
    gauge!("ringpost_info", "version" => info.version.clone(), "protocol" => info.protocol.to_string())
        .set(1);
    let of = &figures.server;
    for (name, text, value) in [
        ("ringpost_calls_total", "calls that the server's service answered", of.calls),
        ("ringpost_messages_total", "messages that were delivered", of.messages),
        ("ringpost_registrations_total", "clients that registered", of.registered),
        ("ringpost_deaths_total", "clients that ended without unregistering", of.died),
        ("ringpost_violations_total", "clients that broke the protocol", of.violations),
        (
            "ringpost_refusals_total",
            "connections that were refused, and what clients were refused",
            of.refused,
        ),
    ] {
        set_counter(name, Unit::Count, text, value);
    }
    set_counter(
        "ringpost_in_bytes_total",
        Unit::Bytes,
        "payload bytes of calls and of messages",
        of.bytes_in,
    );
    set_counter("ringpost_out_bytes_total", Unit::Bytes, "payload bytes of responses", of.bytes_out);
    set_gauge(
        "ringpost_uptime_seconds",
        Unit::Seconds,
        "since the server's start",
        figures.uptime.as_secs_f64(),
    );
    let cpu = of.cpu.as_secs_f64();
    set_gauge("ringpost_cpu_seconds", Unit::Seconds, "processor time of the server's process", cpu);
    let waiting = figures.clients.iter().map(|client| u64::from(client.waiting_senders)).sum::<u64>();
    for (name, text, value) in [
        ("ringpost_clients", "clients that are registered", figures.clients.len() as u64),
        ("ringpost_clients_most", "clients that may be registered at once", info.max_clients.into()),
        ("ringpost_links", "links between clients", figures.links.len() as u64),
        ("ringpost_topics", "topics that are published, one for each publisher", figures.topics.len() as u64),
        ("ringpost_waiting_senders", "senders that wait for room in an inbox", waiting),
        ("ringpost_workers_hot", "busy workers that run hot", of.workers_hot.into()),
        ("ringpost_workers_hot_most", "busy workers that may run hot at once", of.workers_most.into()),
    ] {
        set_gauge(name, Unit::Count, text, value as f64);
    }
    let Some(quotas) = info.quotas else { return };
    for (name, text, value) in [
        ("ringpost_quota_clients", "clients that a user may have", u64::from(quotas.clients)),
        ("ringpost_quota_links", "links that a user may have", quotas.links.into()),
        ("ringpost_quota_topics", "topics that a user may have", quotas.topics.into()),
        ("ringpost_quota_subscriptions", "subscriptions that a user may have", quotas.subscriptions.into()),
        ("ringpost_quota_asking", "unregistered connections that a user may have", quotas.asking.into()),
        ("ringpost_quota_spinning", "spinning workers that a user may have", quotas.spinning.into()),
    ] {
        set_gauge(name, Unit::Count, text, value as f64);
    }
    let bytes = quotas.ring_bytes as f64;
    set_gauge("ringpost_quota_ring_bytes", Unit::Bytes, "bytes of rings that a user may have", bytes);
}

/// The rings of all clients together, and the fullest one of each kind.
pub(super) fn record_rings(clients: &[ClientFigures]) {
    describe_gauge!("ringpost_ring_used_bytes", Unit::Bytes, "bytes in use in the rings of all clients");
    describe_gauge!("ringpost_ring_size_bytes", Unit::Bytes, "bytes of the rings of all clients");
    describe_gauge!("ringpost_fullest_ring_ratio", Unit::Count, "how full the fullest ring is: 1 is full");
    type Ring = (&'static str, fn(&ClientFigures) -> Fill);
    let rings: [Ring; 3] = [
        ("requests", |client| client.requests),
        ("responses", |client| client.responses),
        ("inbox", |client| client.inbox),
    ];
    for (ring, fill) in rings {
        let (mut used, mut size, mut fullest) = (0_u64, 0_u64, 0.0_f64);
        for fill in clients.iter().map(fill) {
            used = used.saturating_add(fill.used);
            size = size.saturating_add(fill.size);
            fullest = fullest.max(fill.used as f64 / fill.size.max(1) as f64);
        }
        gauge!("ringpost_ring_used_bytes", "ring" => ring).set(used as f64);
        gauge!("ringpost_ring_size_bytes", "ring" => ring).set(size as f64);
        gauge!("ringpost_fullest_ring_ratio", "ring" => ring).set(fullest);
    }
}

/// The users that were recorded last.
#[derive(Default)]
pub(super) struct Users(BTreeSet<u32>);

impl Users {
    /// Records what users have. Who was recorded last and has nothing any more is set to 0.
    pub(super) fn record(&mut self, users: &[UserFigures]) {
        const AMOUNTS: [(&str, &str, Unit); 7] = [
            ("ringpost_user_clients", "clients of a user", Unit::Count),
            ("ringpost_user_ring_bytes", "bytes of rings of a user", Unit::Bytes),
            ("ringpost_user_links", "links of a user", Unit::Count),
            ("ringpost_user_topics", "topics of a user", Unit::Count),
            ("ringpost_user_subscriptions", "subscriptions of a user", Unit::Count),
            ("ringpost_user_asking", "unregistered connections of a user", Unit::Count),
            ("ringpost_user_spinning", "spinning workers of a user", Unit::Count),
        ];
        for (name, text, unit) in AMOUNTS {
            describe_gauge!(name, unit, text);
        }
        let mut left = std::mem::take(&mut self.0);
        let amounts = users.iter().map(|user| {
            let clients =
                [user.clients, user.links, user.topics, user.subscriptions, user.asking, user.spinning];
            let [clients, links, topics, subscriptions, asking, spinning] = clients.map(u64::from);
            (user.uid, [clients, user.ring_bytes, links, topics, subscriptions, asking, spinning])
        });
        let set = |uid: u32, amounts: [u64; AMOUNTS.len()]| {
            for ((name, ..), amount) in AMOUNTS.iter().zip(amounts) {
                gauge!(*name, "uid" => uid.to_string()).set(amount as f64);
            }
        };
        for (uid, amounts) in amounts.filter(|(_, amounts)| *amounts != [0; AMOUNTS.len()]).take(MOST) {
            set(uid, amounts);
            self.0.insert(uid);
            left.remove(&uid);
        }
        left.into_iter().for_each(|uid| set(uid, [0; AMOUNTS.len()]));
    }
}
