//! Collects the events of a server in its own process.

use super::common::role::say;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The number of connections for which the acceptor had no descriptor.
pub static WITHOUT_DESCRIPTORS: AtomicU64 = AtomicU64::new(0);

pub struct Events;

#[derive(Default)]
struct Seen {
    event: String,
    reason: String,
    name: String,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let place = match field.name() {
            "event" => &mut self.event,
            "reason" => &mut self.reason,
            "name" => &mut self.name,
            _ => return,
        };
        *place = format!("{value:?}").trim_matches('"').to_owned();
    }
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        match (seen.event.as_str(), seen.reason.as_str()) {
            ("refused", "descriptors") => {
                WITHOUT_DESCRIPTORS.fetch_add(1, Ordering::Relaxed);
            }
            ("abandoned", _) => say(format_args!("abandoned {}", seen.name)),
            _ => {}
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
