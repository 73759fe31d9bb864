//! The log, which no other node can fill: each place in the program writes so many lines in a while, and then
//! only how many more there were. That holds for Zenoh's lines, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite::Identifier, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::node::lock;

/// Lines of one place in one `WHILE`.
const MOST_LINES: u64 = 50;
const WHILE: Duration = Duration::from_secs(10);

/// How many lines each place has written in this while, and the first that was left out.
#[derive(Clone, Default)]
pub struct Bounded(Arc<Mutex<HashMap<Identifier, Written>>>);

#[derive(Default)]
struct Written {
    lines: u64,
    left_out: String,
}

/// Begins to write to standard error.
pub fn begin() -> Bounded {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "warn,ringpost_bridge=info,zenoh::net::routing::hat=error".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let bounded = Bounded::default();
    log.with_target(false).without_time().with_ansi(false).finish().with(bounded.clone()).init();
    bounded
}

impl Bounded {
    /// Tells what was left out, now and then.
    pub async fn tell(self) -> ! {
        loop {
            tokio::time::sleep(WHILE).await;
            let written = std::mem::take(&mut *lock(&self.0));
            for Written { lines, left_out } in written.into_values().filter(|of| of.lines > MOST_LINES) {
                warn!("… and {} more lines like: {left_out}", lines - MOST_LINES);
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Bounded {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Who asks for more wants all of it; and there are not many places that tell what was left out.
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let mut places = lock(&self.0);
        let written = places.entry(metadata.callsite()).or_default();
        written.lines += 1;
        if written.lines == MOST_LINES + 1 {
            event.record(&mut Message(&mut written.left_out));
        }
        written.lines <= MOST_LINES
    }
}

/// The text of an event.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}
