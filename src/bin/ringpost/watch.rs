//! `ringpost watch`: prints who is registered, and from then on who comes and who goes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use ringpost::{Change, Name, Peer, Presence, Reconnect, VanishReason};
use serde::Serialize;

use crate::cli::WatchOptions;
use crate::end::{self, End};
use crate::session;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;

pub fn run(socket: &Path, options: &WatchOptions) -> Outcome {
    let deadline = options.timeout.map(|time| Instant::now() + time);
    let interrupt = Interrupt::install()?;
    let name = match &options.name {
        Some(name) => *name,
        None => format!("watch {}", std::process::id()).parse::<Name>().map_err(Failure::failed)?,
    };
    // What ends and comes is in the output.
    let reconnect = options.reconnect.then(Reconnect::default);
    let client = session::register(socket, &name, &options.wait, deadline, reconnect, &interrupt)?;
    let (mut caller, inbox) = client.split();
    let presence = caller.presence().map_err(session::failed_subscribe)?;

    let (events, arrived) = mpsc::channel();
    let (on_signal, on_end) = (events.clone(), events.clone());
    end::watch_output(events.clone())?;
    interrupt.then(move || drop(on_signal.send(End::Signal)));
    let changes = Arc::new(AtomicU64::new(0));
    let again = options.reconnect;
    let (json, wanted, counter) = (options.json, options.count, Arc::clone(&changes));
    session::spawn("presence", move || drop(events.send(print_all(presence, name, json, wanted, &counter))))?;
    session::spawn("inbox", move || {
        drop(on_end.send(End::Gone(session::attend(inbox, again, "it only watches"))));
    })?;
    let end = end::wait(&arrived, deadline);

    // This ends the presence, too.
    let left = session::left(caller, options.reconnect);
    let (end, left) = match end {
        End::Signal | End::Time => (end::drain(&arrived, end), left),
        end => (end, Ok(())),
    };
    let came = changes.load(Ordering::Relaxed);
    let verdict = end::judge(end, came, options.count, "changes", interrupt.caught());
    if verdict.is_ok() {
        session::warn(left);
    }
    verdict
}

/// Prints until there is a reason to end.
fn print_all(mut presence: Presence, own: Name, json: bool, wanted: Option<u64>, changes: &AtomicU64) -> End {
    loop {
        let change = match presence.recv() {
            Ok(change) => change,
            Err(error) => return End::Gone(session::failed_sample(&error)),
        };
        let shown = match Shown::new(&change) {
            // Whoever asks who is there is not interested in this program.
            Some(shown) if shown.peer.name != own => shown,
            _ => continue,
        };
        let printed = if json { out::json(&shown.object()) } else { out::line(&shown.line()) };
        if let Err(failure) = printed {
            return End::Output(failure);
        }
        if shown.change != PRESENT && Some(changes.fetch_add(1, Ordering::Relaxed) + 1) == wanted {
            return End::Enough;
        }
    }
}

const PRESENT: &str = "present";

/// A change, and the words for it.
struct Shown<'a> {
    change: &'static str,
    peer: &'a Peer,
    /// Why it vanished.
    reason: Option<VanishReason>,
}

impl Shown<'_> {
    /// `None` for a kind of change that this program does not know.
    fn new(change: &Change) -> Option<Shown<'_>> {
        let (change, peer, reason) = match change {
            Change::Present(peer) => (PRESENT, peer, None),
            Change::Appeared(peer) => ("appeared", peer, None),
            Change::Vanished { peer, reason } => ("vanished", peer, Some(*reason)),
            _ => return None,
        };
        Some(Shown { change, peer, reason })
    }

    /// For people: `appeared alice (KEY), process 7 of user 0`, `vanished alice (KEY): it died`.
    fn line(&self) -> String {
        let Peer { name, key, pid, uid, .. } = self.peer;
        let name = out::readable(name.as_bytes());
        match self.reason {
            None => format!("{} {name} ({key}), process {pid} of user {uid}", self.change),
            Some(reason) => format!("{} {name} ({key}): {reason}", self.change),
        }
    }

    fn object(&self) -> Changed<'_> {
        let Peer { name, key, pid, uid, .. } = self.peer;
        let client = Who { name: name.as_str(), key: key.to_string(), pid: *pid, uid: *uid };
        Changed { change: self.change, client, reason: self.reason.map(word) }
    }
}

/// The reason for programs.
fn word(reason: VanishReason) -> &'static str {
    match reason {
        VanishReason::Unregistered => "unregistered",
        VanishReason::Died => "died",
        VanishReason::Violation => "violation",
        VanishReason::ServerEnded => "server ended",
        VanishReason::Unseen => "unseen",
        _ => "other",
    }
}

/// The JSON object of a change.
#[derive(Serialize)]
struct Changed<'a> {
    change: &'static str,
    client: Who<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Who<'a> {
    name: &'a str,
    key: String,
    pid: u32,
    uid: u32,
}
