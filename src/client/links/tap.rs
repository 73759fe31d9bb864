//! `LinkTap`: publishes copies of the calls that a client serves over links, as long as somebody subscribes.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::serving_error::ServeError;
use super::set::Links;
use crate::client::session::{ask_anew, deadline_in, explain};
use crate::client::topics::{PublishError, Publisher};
use crate::client::{Caller, topics::Publication};
use crate::connect::dial::DialError;
use crate::connect::{Ask, Copied, ServerInfo, TapKind, link_tap_topic, since_1970};
use crate::link::observed::Served;
use crate::wire::{Key, Name, Peer};

/// So many bytes of each payload are copied.
pub(super) const MOST: usize = 512;

/// The size of its ring: so many bytes hold some hundred of the longest records.
const RING: usize = 256 << 10;

pub(in crate::client) struct LinkTap {
    links: Arc<Links>,
    name: Name,
    /// Its key when the tap was made, should it not be registered when a copy is made.
    key: Key,
    publication: Arc<Publication>,
    /// The generation of the audience that was seen last, and in the lowest bit whether there was anybody.
    seen: AtomicU64,
    state: Mutex<State>,
}

struct State {
    publisher: Publisher,
    /// The record that is being published.
    record: Vec<u8>,
}

impl fmt::Debug for LinkTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkTap")
    }
}

impl LinkTap {
    /// Publishes the topic of copies. Only the client's own user, that of the server and root may subscribe.
    pub(super) fn begin(caller: &mut Caller) -> Result<LinkTap, ServeError> {
        let name = caller.session().name;
        let deadline = deadline_in(caller.timeout);
        let path = caller.session().links.place.path.clone();
        let answer = ask_anew(&path, deadline, |line| line.ask(&Ask::Server, deadline));
        let server = answer.and_then(|answer| ServerInfo::decode(&answer.body).ok_or(DialError::NotRingpost));
        let server = server.map_err(|error| PublishError::Server(explain(error, &path, None)))?;
        let mut users = vec![0, rustix::process::geteuid().as_raw(), server.uid];
        users.sort_unstable();
        users.dedup();
        let topic = link_tap_topic(&name).map_err(PublishError::InvalidTopic)?;
        let publisher = Publisher::options().ring_size(RING).users(&users).publish(caller, topic)?;
        Ok(LinkTap {
            links: Arc::clone(&caller.session().links),
            name,
            key: caller.session().key,
            publication: publisher.shared(),
            seen: AtomicU64::new(u64::MAX),
            state: Mutex::new(State { publisher, record: Vec::new() }),
        })
    }

    /// Whether somebody subscribes.
    pub(super) fn is_wanted(&self) -> bool {
        let generation = u64::from(self.publication.audience.generation());
        let seen = self.seen.load(Ordering::Relaxed);
        if seen >> 1 == generation {
            return seen & 1 != 0;
        }
        let anybody = self.publication.audience.count() > 0;
        self.seen.store(generation << 1 | u64::from(anybody), Ordering::Relaxed);
        anybody
    }

    /// Publishes a copy.
    pub(super) fn tell(&self, kind: TapKind, from: &Peer, payload: &[u8], served: &Served) {
        let key = self.links.topics.session().map_or(self.key, |session| session.key);
        let copied = Copied {
            kind,
            status: served.status,
            duration: served.duration,
            from,
            to: Some(key),
            to_name: Some(&self.name),
            payload,
            response: &served.response,
            response_len: served.response_len,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { publisher, record } = &mut *state;
        record.clear();
        copied.encode(MOST, since_1970(), record);
        // It fails only at the client's end.
        let _ = publisher.try_send(&record[..]);
    }
}
