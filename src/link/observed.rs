//! What is done around a service's code for those who observe its calls: a span, and the time that it took.
//!
//! All of this is off the path of a call that nobody observes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use tracing::dispatcher::get_default;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::subscriber::NoSubscriber;
use tracing::{Level, Span, span};

use super::responder::dispose;
use super::service::{Response, ServiceError};
use crate::wire::{Peer, Status};

/// Of the spans around services.
const TARGET: &str = "ringpost::service";

/// Whether a subscriber may want spans around the calls of a service. Reads one word and calls no subscriber.
#[inline(always)]
pub(crate) fn may_want_spans() -> bool {
    Level::TRACE <= STATIC_MAX_LEVEL && Level::TRACE <= LevelFilter::current()
}

/// Runs a service's code for this caller's request inside a span, if this thread has a subscriber that wants
/// one. The subscriber is the program's code: its panics are contained, and the call goes on.
pub(crate) fn in_span<T>(caller: &Peer, number: u32, service: impl FnOnce() -> T) -> T {
    // Without a subscriber, `tracing` would note for the whole process that nobody wants these spans.
    let span = contain(|| {
        let has_subscriber = get_default(|now| !now.is::<NoSubscriber>());
        has_subscriber.then(|| span!(target: TARGET, Level::TRACE, "call", caller = %caller.name, number))
    });
    let Some(span) = span.flatten().filter(|span| !span.is_disabled()) else { return service() };
    // Not by a guard: one that is dropped while the service panics must not panic, too.
    let entered = contain(|| span.with_subscriber(|(id, subscriber)| subscriber.enter(id)));
    let returned = catch_unwind(AssertUnwindSafe(service));
    if entered.is_some() {
        contain(|| span.with_subscriber(|(id, subscriber)| subscriber.exit(id)));
    }
    contain(|| drop::<Span>(span));
    returned.unwrap_or_else(|panic| resume_unwind(panic))
}

fn contain<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(dispose).ok()
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) status: Status,
    pub(crate) duration: Duration,
    /// The first bytes of the response, or of the error.
    pub(crate) response: Vec<u8>,
    pub(crate) response_len: usize,
}

/// Runs a service's code, and tells what it came to, with at most so many bytes of the response.
pub(crate) fn tell(
    response: &mut Response<'_>,
    most: usize,
    service: impl FnOnce(&mut Response<'_>) -> Result<(), ServiceError>,
    then: impl FnOnce(&Served),
) -> Result<(), ServiceError> {
    let began = Instant::now();
    let returned = catch_unwind(AssertUnwindSafe(|| service(response)));
    let duration = began.elapsed();
    let mut head = Vec::new();
    let (status, response_len) = match &returned {
        Ok(Ok(())) => {
            response.copy_head(most, &mut head);
            (Status::Ok, response.written())
        }
        Ok(Err(error)) => {
            let (status, text) = error.as_parts();
            head.extend_from_slice(&text.as_bytes()[..text.len().min(most)]);
            (status, text.len())
        }
        Err(_) => (Status::ServiceFailed, 0),
    };
    then(&Served { status, duration, response: head, response_len });
    returned.unwrap_or_else(|panic| resume_unwind(panic))
}
