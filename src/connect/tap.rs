//! Records of a tap: copies of calls and messages, for who watches a server or a client that serves.
//!
//! `docs/PROTOCOL.md` describes them byte by byte.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::introduction::{push_ids, push_name, take_ids, take_name};
use crate::codec::{FromPayload, PayloadError};
use crate::wire::{KEY, Key, Name, Peer, Status, Topic, TopicError, take};

/// The topic under which the server publishes copies.
pub(crate) const TAP_TOPIC: &str = "@ringpost/tap";

/// The most bytes of a payload that a record has.
pub(crate) const MOST_COPIED: usize = 64 * 1024 - 1;

/// A copy of a call or a message, and what became of it: a sample of a [tap](crate::Client::tap), read with
/// [`Sample::read`](crate::Sample::read).
///
/// # Examples
///
/// See [`Caller::tap`](crate::Caller::tap).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TapRecord {
    /// What was done.
    pub kind: TapKind,
    /// When that was over, by the clock of who made the copy.
    pub time: SystemTime,
    /// How long it took: how long the service ran; for a message, how long its delivery took, waiting for
    /// room in the inbox included.
    pub duration: Duration,
    /// Who called, or sent the message.
    pub from: Peer,
    /// Whose service was called, or to whom the message was sent; `None` for the server's own service.
    pub to: Option<Key>,
    /// The name of that client, if there is one with that key.
    pub to_name: Option<Name>,
    /// What became of it.
    pub outcome: TapOutcome,
    /// The first bytes of the request or the message, as many as the tap wanted.
    pub payload: Vec<u8>,
    /// How many bytes the request or the message had.
    pub payload_len: u64,
    /// The first bytes of the response, as many as the tap wanted; the service's error if it failed.
    pub response: Vec<u8>,
    /// How many bytes the response had.
    pub response_len: u64,
}

/// What a [`TapRecord`] is a copy of.
///
/// # Examples
///
/// See [`Caller::tap`](crate::Caller::tap).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TapKind {
    /// A call.
    Call,
    /// A message.
    Message,
    /// A [post](crate::Link::post): a request over a link that gets no response.
    Post,
}

/// What became of a call or message: [`TapRecord::outcome`].
///
/// # Examples
///
/// ```
/// assert_eq!(ringpost::TapOutcome::InboxFull.to_string(), "inbox full");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TapOutcome {
    /// It was answered, or delivered.
    Ok,
    /// No client has the key to which the message was sent.
    NotFound,
    /// The receiver's inbox had no room, and the sender did not want to wait.
    InboxFull,
    /// The receiver's inbox had no room for as long as the sender wanted to wait.
    TimedOut,
    /// The receiver has left, or has dropped its inbox.
    Gone,
    /// The message is larger than the inbox can ever hold.
    TooLarge,
    /// The service failed or panicked.
    ServiceFailed,
    /// The service's response is larger than one can be.
    ResponseTooLarge,
    /// The server was shutting down.
    ShuttingDown,
    /// A rule of the server's access does not allow it.
    NotAllowed,
    /// The relay that carries messages to the receiver could not deliver it.
    Failed,
    /// The relay that carries messages to the receiver did not say what became of it.
    Unconfirmed,
}

impl TapKind {
    const ALL: [TapKind; 3] = [TapKind::Call, TapKind::Message, TapKind::Post];

    fn to_code(self) -> u8 {
        match self {
            TapKind::Call => 1,
            TapKind::Message => 2,
            TapKind::Post => 3,
        }
    }

    fn from_code(code: u8) -> Option<TapKind> {
        TapKind::ALL.into_iter().find(|kind| kind.to_code() == code)
    }
}

/// In small letters: `call`, `message`, `post`.
impl fmt::Display for TapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TapKind::Call => "call",
            TapKind::Message => "message",
            TapKind::Post => "post",
        })
    }
}

impl TapOutcome {
    /// `None` for what becomes of no call and no message.
    fn of(status: Status) -> Option<TapOutcome> {
        Some(match status {
            Status::Ok => TapOutcome::Ok,
            Status::NotFound => TapOutcome::NotFound,
            Status::InboxFull => TapOutcome::InboxFull,
            Status::TimedOut => TapOutcome::TimedOut,
            Status::Gone => TapOutcome::Gone,
            Status::TooLarge => TapOutcome::TooLarge,
            Status::ServiceFailed => TapOutcome::ServiceFailed,
            Status::ResponseTooLarge => TapOutcome::ResponseTooLarge,
            Status::ShuttingDown => TapOutcome::ShuttingDown,
            Status::NotAllowed => TapOutcome::NotAllowed,
            Status::Internal => TapOutcome::Failed,
            Status::Unconfirmed => TapOutcome::Unconfirmed,
            Status::UnknownOperation | Status::Malformed | Status::Hello | Status::Refused | Status::Busy => {
                return None;
            }
        })
    }
}

/// In words: `ok`, `not found`, `inbox full`.
impl fmt::Display for TapOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TapOutcome::Ok => "ok",
            TapOutcome::NotFound => "not found",
            TapOutcome::InboxFull => "inbox full",
            TapOutcome::TimedOut => "timed out",
            TapOutcome::Gone => "gone",
            TapOutcome::TooLarge => "too large",
            TapOutcome::ServiceFailed => "service failed",
            TapOutcome::ResponseTooLarge => "response too large",
            TapOutcome::ShuttingDown => "shutting down",
            TapOutcome::NotAllowed => "not allowed",
            TapOutcome::Failed => "failed",
            TapOutcome::Unconfirmed => "unconfirmed",
        })
    }
}

/// The time since 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What a record is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copied<'a> {
    pub(crate) kind: TapKind,
    pub(crate) status: Status,
    pub(crate) duration: Duration,
    pub(crate) from: &'a Peer,
    /// `None` for the server's own service.
    pub(crate) to: Option<Key>,
    pub(crate) to_name: Option<&'a Name>,
    pub(crate) payload: &'a [u8],
    /// The first bytes of the response.
    pub(crate) response: &'a [u8],
    pub(crate) response_len: usize,
}

impl Copied<'_> {
    /// Encodes it with at most so many bytes of each payload, and the time since 1970.
    pub(crate) fn encode(&self, most: usize, since: Duration, bytes: &mut Vec<u8>) {
        let most = most.min(MOST_COPIED);
        let payload = &self.payload[..self.payload.len().min(most)];
        let response = &self.response[..self.response.len().min(most)];
        bytes.push(self.kind.to_code());
        bytes.extend_from_slice(&(self.status as u16).to_le_bytes());
        for nanoseconds in [since.as_nanos(), self.duration.as_nanos()] {
            bytes.extend_from_slice(&(nanoseconds as u64).to_le_bytes());
        }
        push_ids(bytes, self.from);
        bytes.extend_from_slice(&self.to.map_or([0; KEY], |key| key.to_bytes()));
        for len in [self.payload.len(), self.response_len] {
            bytes.extend_from_slice(&(len as u64).to_le_bytes());
        }
        push_name(bytes, &self.from.name);
        match self.to_name {
            Some(name) => push_name(bytes, name),
            None => bytes.push(0),
        }
        bytes.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(response);
    }
}

impl TapRecord {
    /// Reads what another process may have written. `None` if it is no record.
    pub(crate) fn decode(bytes: &[u8]) -> Option<TapRecord> {
        let ([kind], rest) = take(bytes)?;
        let kind = TapKind::from_code(kind)?;
        let (status, rest) = take(rest)?;
        let outcome = TapOutcome::of(Status::from_code(u16::from_le_bytes(status))?)?;
        let (time, rest) = take_number(rest)?;
        let (duration, rest) = take_number(rest)?;
        let (key, [pid, uid, gid], rest) = take_ids(rest)?;
        let (to, rest) = take::<KEY>(rest)?;
        let to = Some(to).filter(|to| *to != [0; KEY]).map(Key::from_bytes);
        let (payload_len, rest) = take_number(rest)?;
        let (response_len, rest) = take_number(rest)?;
        let (name, rest) = take_name(rest)?;
        let from = Peer { name, key: Key::from_bytes(key), pid, uid, gid };
        let (to_name, rest) = match rest {
            [0, rest @ ..] => (None, rest),
            // The server's service has no name.
            _ if to.is_none() => return None,
            _ => take_name(rest).map(|(name, rest)| (Some(name), rest))?,
        };
        let (head, rest) = take(rest)?;
        let (payload, response) = rest.split_at_checked(u16::from_le_bytes(head).into())?;
        let is_head = |head: &[u8], len: u64| head.len() <= MOST_COPIED && head.len() as u64 <= len;
        if !is_head(payload, payload_len) || !is_head(response, response_len) {
            return None;
        }
        Some(TapRecord {
            kind,
            time: UNIX_EPOCH + Duration::from_nanos(time),
            duration: Duration::from_nanos(duration),
            from,
            to,
            to_name,
            outcome,
            payload: payload.to_vec(),
            payload_len,
            response: response.to_vec(),
            response_len,
        })
    }
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    take(bytes).map(|(number, rest)| (u64::from_le_bytes(number), rest))
}

impl FromPayload<'_> for TapRecord {
    fn from_payload(bytes: &[u8]) -> Result<TapRecord, PayloadError> {
        TapRecord::decode(bytes).ok_or(PayloadError::Invalid { type_name: "TapRecord" })
    }
}

/// The topic under which a client publishes copies of the calls that it serves over links. What a topic
/// cannot contain is written as `~` and two hexadecimal digits for each byte.
///
/// # Errors
///
/// The name has so many of these characters that the topic would be too long.
pub(crate) fn link_tap_topic(name: &Name) -> Result<Topic, TopicError> {
    let mut topic = format!("{TAP_TOPIC}/");
    for character in name.as_str().chars() {
        if matches!(character, '*' | '$' | '#' | '?' | '/' | '~') {
            topic.push_str(&format!("~{:02x}", u32::from(character)));
        } else {
            topic.push(character);
        }
    }
    Topic::new(&topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_name() -> impl Strategy<Value = Name> {
        "[a-z]{1,25}|[à-é]{1,32}".prop_map(|name| Name::new(&name).unwrap())
    }

    fn any_kind() -> impl Strategy<Value = TapKind> {
        proptest::sample::select(TapKind::ALL.to_vec())
    }

    #[test]
    fn every_client_has_a_tap_of_its_own() {
        let topic = |name: &str| link_tap_topic(&Name::new(name).unwrap()).map(|topic| topic.to_string());
        assert_eq!(topic("bob").unwrap(), "@ringpost/tap/bob");
        assert_eq!(topic("@b b").unwrap(), "@ringpost/tap/@b b");
        assert_eq!(topic("a/b~*").unwrap(), "@ringpost/tap/a~2fb~7e~2a");
        assert!(matches!(topic(&"*".repeat(60)), Err(TopicError::TooLong { .. })));
        let topic = Topic::new(TAP_TOPIC).unwrap();
        assert!(
            !crate::wire::Pattern::new("**").unwrap().matches(&topic),
            "nobody subscribes to all by accident"
        );
    }

    #[test]
    fn what_contradicts_itself_is_no_record() {
        let name = Name::new("alice").unwrap();
        let from = Peer { name, key: Key::from_u128(1), pid: 2, uid: 3, gid: 4 };
        let copied = Copied {
            kind: TapKind::Call,
            status: Status::Ok,
            duration: Duration::from_nanos(5),
            from: &from,
            to: None,
            to_name: None,
            payload: b"ping",
            response: b"pong",
            response_len: 4,
        };
        let bytes = |copied: Copied<'_>| {
            let mut bytes = Vec::new();
            copied.encode(100, Duration::from_secs(9), &mut bytes);
            bytes
        };
        let is_record = |copied| TapRecord::decode(&bytes(copied)).is_some();
        assert!(is_record(copied));
        assert!(!is_record(Copied { status: Status::Hello, ..copied }));
        assert!(!is_record(Copied { response_len: 3, ..copied }), "more than there was");
        assert!(!is_record(Copied { to_name: Some(&name), ..copied }), "a name without a key");
        let good = bytes(copied);
        assert!(TapRecord::decode(&[&[9], &good[1..]].concat()).is_none(), "no such kind");
        assert!(matches!(TapRecord::from_payload(b""), Err(PayloadError::Invalid { .. })));
    }

    proptest! {
        #[test]
        fn any_record_decodes_to_what_was_encoded(
            (kind, status) in (any_kind(), 0..16_u16),
            name in any_name(),
            to_name in proptest::option::of(any_name()),
            (key, to) in (any::<u128>(), 1..u128::MAX),
            numbers: [u32; 3],
            duration: u64,
            (payload, response) in (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..40)),
            most in 0..50_usize,
            (at, byte) in (any::<prop::sample::Index>(), any::<Option<u8>>()),
            noise in vec(any::<u8>(), 0..200),
        ) {
            let [pid, uid, gid] = numbers;
            let from = Peer { name, key: Key::from_u128(key), pid, uid, gid };
            let (to, duration) = (Key::from_u128(to), Duration::from_nanos(duration));
            let copied = Copied {
                kind,
                status: Status::from_code(status).unwrap(),
                duration,
                from: &from,
                to: Some(to),
                to_name: to_name.as_ref(),
                payload: &payload,
                response: &response,
                response_len: response.len(),
            };
            let mut bytes = Vec::new();
            copied.encode(most, Duration::from_secs(9), &mut bytes);
            let decoded = TapRecord::decode(&bytes);
            prop_assert_eq!(decoded.is_some(), TapOutcome::of(copied.status).is_some());
            if let Some(record) = decoded {
                prop_assert_eq!((record.kind, record.from, record.duration), (kind, from, duration));
                prop_assert_eq!((record.to, record.to_name), (Some(to), to_name));
                prop_assert_eq!((record.payload_len, record.response_len), (payload.len() as u64, response.len() as u64));
                prop_assert_eq!(&record.payload, &payload[..most.min(payload.len())]);
                prop_assert_eq!(&record.response, &response[..most.min(response.len())]);
            }
            // Whatever comes, it is a record or not.
            let at = at.index(bytes.len());
            match byte {
                Some(byte) => bytes[at] = byte,
                None => bytes.truncate(at),
            }
            for bytes in [bytes, noise] {
                if let Some(record) = TapRecord::decode(&bytes) {
                    prop_assert!(record.payload.len() as u64 <= record.payload_len);
                    prop_assert!(record.response.len() as u64 <= record.response_len);
                }
            }
        }
    }
}
