//! The spans around calls: what they say, and that a subscriber which panics there harms no call.

use crate::common::role::say;
use crate::common::{Bus, begin};
use ringpost::{CallError, Client, Request, Response, ServiceError};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The fields of each span, by its number.
static SPANS: Mutex<Option<HashMap<u64, Vec<String>>>> = Mutex::new(None);

/// What the service's events said, behind the fields of the span in which they were.
static EVENTS: Mutex<Vec<Vec<String>>> = Mutex::new(Vec::new());

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The span of this thread.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// Remembers the spans around calls, and panics where it is told to.
struct Keeper {
    panics: &'static [&'static str],
}

impl Keeper {
    fn is_at(&self, place: &str) {
        assert!(!self.panics.contains(&place), "a subscriber that panics at {place}");
    }
}

struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push(format!("{}={value:?}", field.name()));
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        ["ringpost::service", "service"].contains(&metadata.target())
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.is_at("new_span");
        assert_eq!((span.metadata().name(), *span.metadata().level()), ("call", Level::TRACE));
        let mut fields = Fields(Vec::new());
        span.record(&mut fields);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        SPANS.lock().unwrap().get_or_insert_default().insert(id, fields.0);
        Id::from_u64(id)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = SPANS.lock().unwrap().get_or_insert_default().get(&CURRENT.get()).cloned();
        let mut said = Fields(Vec::new());
        event.record(&mut said);
        fields.get_or_insert_default().extend(said.0);
        EVENTS.lock().unwrap().extend(fields);
    }

    fn enter(&self, span: &Id) {
        self.is_at("enter");
        CURRENT.set(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(CURRENT.replace(0), span.into_u64());
        self.is_at("exit");
    }

    fn try_close(&self, span: Id) -> bool {
        SPANS.lock().unwrap().get_or_insert_default().remove(&span.into_u64());
        self.is_at("try_close");
        true
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

fn echo(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    tracing::info!(target: "service", "works");
    match request.payload() {
        b"panic" => panic!("as the test wants it"),
        payload => response.write(payload),
    }
}

fn calls(mut call: impl FnMut(&[u8]) -> Result<Vec<u8>, CallError>) {
    assert_eq!(call(b"first").unwrap(), b"first");
    assert!(matches!(call(b"panic"), Err(CallError::ServiceFailed(why)) if why.contains("panicked")));
    assert_eq!(call(b"last").unwrap(), b"last");
}

/// Calls the server and a client that serves.
fn traffic(bus: &Bus) {
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    calls(|request| alice.call(request).map(|reply| reply.payload().to_vec()));
    let mut listener = bob.listen().unwrap();
    let serves = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        responder.serve(echo).unwrap();
    });
    let mut link = Client::connect(&mut alice, "bob").unwrap();
    calls(|request| link.call(request).map(|reply| reply.payload().to_vec()));
    drop(link);
    serves.end("the link has ended");
}

pub fn carry_the_caller() {
    tracing::subscriber::set_global_default(Keeper { panics: &[] }).unwrap();
    let bus = Bus::with(|builder| builder.service(echo));
    traffic(&bus);
    let events = std::mem::take(&mut *EVENTS.lock().unwrap());
    let expected: Vec<Vec<String>> = [0, 1, 2, 0, 1, 2]
        .map(|number| vec!["caller=alice".to_owned(), format!("number={number}"), "message=works".to_owned()])
        .into();
    assert_eq!(events, expected);
    assert!(SPANS.lock().unwrap().as_ref().unwrap().is_empty(), "each span was closed");
    say("done");
}

pub fn panics_there(panics: &'static [&'static str]) {
    tracing::subscriber::set_global_default(Keeper { panics }).unwrap();
    let bus = Bus::with(|builder| builder.service(echo));
    traffic(&bus);
    assert_eq!(EVENTS.lock().unwrap().len(), 6, "the service has run each time");
    say("done");
}
