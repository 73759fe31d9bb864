//! A subscriber that runs a function for each event.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// An event's fields as text, and `"thread"`: the thread that reported it.
pub type Seen = HashMap<String, String>;

pub struct Does<F> {
    most: Level,
    act: F,
}

/// Makes a subscriber for events up to this level. Like a careless one, it does not declare that level.
pub fn does<F: Fn(Seen) + Send + Sync + 'static>(most: Level, act: F) -> Does<F> {
    Does { most, act }
}

struct Fields(Seen);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").trim_matches('"').into());
    }
}

impl<F: Fn(Seen) + Send + Sync + 'static> Subscriber for Does<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Seen::new());
        event.record(&mut fields);
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        fields.0.insert("thread".into(), thread);
        (self.act)(fields.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The events so far.
pub struct Log(Mutex<Vec<Seen>>);

impl Log {
    pub const fn new() -> Log {
        Log(Mutex::new(Vec::new()))
    }

    pub fn push(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// The events of one kind.
    pub fn of(&self, event: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| seen["event"] == event).collect()
    }
}
