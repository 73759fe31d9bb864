//! What bridges say to each other: key expressions, and the bytes of queries, replies and samples.
//!
//! Everything here comes from another computer, so every field is checked: lengths before they are used,
//! names by the library's own rules, and nothing may follow the last field. The version is a part of every
//! key: bridges of different versions do not hear each other.
//!
//! ```text
//! ringpost/1/NODE/INSTANCE/node                    token: the claim of a node's name
//! ringpost/1/NODE/INSTANCE/client/*/NAME/KEY       token: a client that NODE exports
//! ringpost/1/NODE/INSTANCE/topic/NAME/TOPIC        samples that the client NAME has published
//! ringpost/1/TO/from/FROM/VERB                     query from a bridge to a bridge
//! ringpost/1/TO/from/FROM/link                     sample: a call or an answer over a link that is open
//! ```
//!
//! The sender's node stands at a fixed place in each key, so that it can be held against the sender's
//! certificate: see `tls`. A client's name is one chunk: bytes other than letters, digits, `.`, `_` and `-`
//! are written `%XX`.

use std::fmt;
use std::time::Duration;

use ringpost::{Address, Key, Name, Topic};

/// What all keys begin with: the program and the version of all that follows.
pub const PREFIX: &str = "ringpost/1";
/// More than any name or topic of the library has.
const MOST_TEXT: usize = 256;
/// What a request has beside its payload, at most.
pub const OVERHEAD: usize = 1024;
/// Samples of one put.
pub const MOST_SAMPLES: usize = 1024;
/// Bytes of several samples in one put. With its key, that fits into one of Zenoh's batches of 64 KiB.
pub const MOST_BATCH: usize = 62 << 10;

/// The name of a node: short, and of characters that stand for themselves in keys, names and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeName(String);

/// Why a text is no node name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no node name: 1 to 24 letters, digits, '.', '_' or '-' are")]
pub struct NodeNameError(String);

impl std::str::FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<NodeName, NodeNameError> {
        let fits = (1..=24).contains(&text.len()) && text.bytes().all(is_plain);
        fits.then(|| NodeName(text.into())).ok_or_else(|| NodeNameError(text.into()))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NodeName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that a client of this node has on other nodes. None if that is longer than a name may be.
    pub fn member(&self, client: &Name) -> Option<Name> {
        name(&format!("{client}@{self}"))
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// A client's name, by the library's rules.
pub fn name(text: &str) -> Option<Name> {
    match Address::try_from(text) {
        Ok(Address::Name(name)) => Some(name),
        _ => None,
    }
}

/// Whether a name is that of a remote client, or of a bridge: such names never leave the computer again.
pub fn is_foreign(name: &Name) -> bool {
    name.as_str().contains('@')
}

fn escape(name: &Name) -> String {
    let mut chunk = String::new();
    for byte in name.as_str().bytes() {
        match is_plain(byte) {
            true => chunk.push(byte as char),
            false => chunk.push_str(&format!("%{byte:02X}")),
        }
    }
    chunk
}

/// Only what `escape` writes is read, so that a name has one chunk.
fn unescape(chunk: &str) -> Option<Name> {
    let (mut bytes, mut rest) = (Vec::new(), chunk.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    let name = name(std::str::from_utf8(&bytes).ok()?)?;
    (escape(&name) == chunk).then_some(name)
}

/// What a liveliness token or a sample's key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub node: NodeName,
    /// Which run of that node's bridge. Later runs have larger numbers.
    pub instance: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It has the node's name.
    Claim,
    /// A client is there.
    Client(Name, Key),
    /// A client publishes a topic.
    Topic(Name, Topic),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}/{}/{:016x}/", self.node, self.instance)?;
        match &self.what {
            What::Claim => f.write_str("node"),
            What::Client(name, key) => write!(f, "client/*/{}/{key}", escape(name)),
            What::Topic(name, topic) => write!(f, "topic/{}/{}", escape(name), topic.as_str()),
        }
    }
}

impl Said {
    /// Reads a key. None if it is not exactly one that `Display` writes.
    pub fn read(key: &str) -> Option<Said> {
        let rest = key.strip_prefix(PREFIX)?.strip_prefix('/')?;
        let mut parts = rest.splitn(4, '/');
        let node = parts.next()?.parse().ok()?;
        let instance = u64::from_str_radix(parts.next()?, 16).ok()?;
        let what = match (parts.next()?, parts.next()) {
            ("node", None) => What::Claim,
            ("client", Some(rest)) => {
                let (name, key) = rest.strip_prefix("*/")?.split_once('/')?;
                What::Client(unescape(name)?, key.parse().ok()?)
            }
            ("topic", Some(rest)) => {
                let (name, topic) = rest.split_once('/')?;
                What::Topic(unescape(name)?, Topic::try_from(topic).ok()?)
            }
            _ => return None,
        };
        let said = Said { node, instance, what };
        (said.to_string() == key).then_some(said)
    }
}

/// What a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Is the node name mine?
    Claim,
    /// Put a message into an inbox.
    Send,
    /// Open a link. The query stays open as long as the link.
    Open,
    /// The caller has closed a link.
    Close,
}

impl Verb {
    const ALL: [(Verb, &str); 4] =
        [(Verb::Claim, "claim"), (Verb::Send, "send"), (Verb::Open, "open"), (Verb::Close, "close")];

    fn as_str(self) -> &'static str {
        Verb::ALL.iter().find(|(verb, _)| *verb == self).map_or("", |(_, text)| text)
    }
}

/// The key of a query.
pub fn query_key(to: &NodeName, from: &NodeName, verb: Verb) -> String {
    format!("{PREFIX}/{to}/from/{from}/{}", verb.as_str())
}

/// The key of what is said over links.
pub fn link_key(to: &NodeName, from: &NodeName) -> String {
    format!("{PREFIX}/{to}/from/{from}/link")
}

/// Who asks `own` for what. None if the key is not one of `query_key`.
pub fn read_query_key(key: &str, own: &NodeName) -> Option<(NodeName, Verb)> {
    let rest = key.strip_prefix(PREFIX)?.strip_prefix('/')?.strip_prefix(own.as_str())?;
    let (from, verb) = rest.strip_prefix("/from/")?.split_once('/')?;
    let (verb, _) = Verb::ALL.iter().find(|(_, text)| *text == verb)?;
    Some((from.parse().ok()?, *verb))
}

/// What a query carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    Claim { instance: u64 },
    Send { instance: u64, sequence: u64, from: Name, to: Key, patience: Duration, payload: &'a [u8] },
    Open { instance: u64, link: u64, from: Name, to: Key, patience: Duration },
    Close { instance: u64, link: u64 },
}

/// A bounded patience of 0 means: do not wait.
const MOST_PATIENCE: Duration = Duration::from_secs(24 * 3600);

impl Ask<'_> {
    pub fn verb(&self) -> Verb {
        match self {
            Ask::Claim { .. } => Verb::Claim,
            Ask::Send { .. } => Verb::Send,
            Ask::Open { .. } => Verb::Open,
            Ask::Close { .. } => Verb::Close,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let numbers: &[u64] = match self {
            Ask::Claim { instance } => &[*instance],
            Ask::Send { instance, sequence, patience, .. } => &[*instance, *sequence, millis(*patience)],
            Ask::Open { instance, link, patience, .. } => &[*instance, *link, millis(*patience)],
            Ask::Close { instance, link } => &[*instance, *link],
        };
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        match self {
            Ask::Send { from, to, payload, .. } => {
                put_member(&mut bytes, from, *to);
                bytes.extend_from_slice(payload);
            }
            Ask::Open { from, to, .. } => put_member(&mut bytes, from, *to),
            Ask::Claim { .. } | Ask::Close { .. } => {}
        }
        bytes
    }

    /// Reads what a peer sent. None if anything of it is wrong.
    pub fn read(verb: Verb, bytes: &[u8]) -> Option<Ask<'_>> {
        let mut fields = Fields(bytes);
        let instance = fields.number()?;
        let ask = match verb {
            Verb::Claim => Ask::Claim { instance },
            Verb::Send => {
                let (sequence, patience) = (fields.number()?, fields.patience()?);
                let (from, to) = fields.member()?;
                Ask::Send { instance, sequence, from, to, patience, payload: fields.rest() }
            }
            Verb::Open => {
                let (link, patience) = (fields.number()?, fields.patience()?);
                let (from, to) = fields.member()?;
                Ask::Open { instance, link, from, to, patience }
            }
            Verb::Close => Ask::Close { instance, link: fields.number()? },
        };
        fields.0.is_empty().then_some(ask)
    }
}

fn millis(patience: Duration) -> u64 {
    patience.min(MOST_PATIENCE).as_millis() as u64
}

fn put_member(bytes: &mut Vec<u8>, name: &Name, key: Key) {
    bytes.extend(key.to_bytes());
    bytes.push(name.as_str().len() as u8);
    bytes.extend(name.as_str().bytes());
}

/// How a query went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    Ok = 0,
    /// The receiver is not there, or not exported.
    NotFound = 1,
    /// A rule, an allow line or a bound of the other node refuses it.
    NotAllowed = 2,
    InboxFull = 3,
    TimedOut = 4,
    TooLarge = 5,
    /// The receiver reads no messages any more.
    Gone = 6,
    ShuttingDown = 7,
    /// It was given up. What was asked may have been done.
    Ended = 8,
    /// The other node did not do it: too many, a number that was already there.
    Refused = 9,
    /// The receiver has no listener.
    NotServing = 10,
}

impl Outcome {
    const ALL: [Outcome; 11] = [
        Outcome::Ok,
        Outcome::NotFound,
        Outcome::NotAllowed,
        Outcome::InboxFull,
        Outcome::TimedOut,
        Outcome::TooLarge,
        Outcome::Gone,
        Outcome::ShuttingDown,
        Outcome::Ended,
        Outcome::Refused,
        Outcome::NotServing,
    ];
}

/// An answer: its outcome, and a payload, or the text of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Outcome,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(outcome: Outcome, text: impl fmt::Display) -> Answer {
        Answer { outcome, body: cut(&text.to_string()).to_vec() }
    }

    pub fn ok(body: &[u8]) -> Answer {
        Answer { outcome: Outcome::Ok, body: body.to_vec() }
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.body.push(self.outcome as u8);
        self.body
    }

    pub fn read(mut bytes: Vec<u8>) -> Option<Answer> {
        let outcome = *Outcome::ALL.get(usize::from(bytes.pop()?))?;
        (outcome == Outcome::Ok || bytes.len() <= MOST_TEXT).then_some(Answer { outcome, body: bytes })
    }

    /// The text of an error, fit to be shown.
    pub fn text(&self) -> String {
        shown(&self.body)
    }
}

/// As much of an error's text as an answer may have.
pub fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(MOST_TEXT)]
}

fn shown(text: &[u8]) -> String {
    let fits = |character: &char| matches!(character, ' '..='~') || character.is_alphanumeric();
    String::from_utf8_lossy(text).chars().filter(fits).collect()
}

/// What is said over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnLink<'a> {
    /// The run of the bridge that has opened the link, and its number there.
    pub instance: u64,
    pub link: u64,
    /// The number of the call or the post, from 1.
    pub sequence: u64,
    pub step: Step,
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Call,
    Post,
    /// The service has answered the call, or the post lies in the link.
    Done,
    /// The service has failed. The payload is the text.
    Failed,
}

impl Step {
    const ALL: [Step; 4] = [Step::Call, Step::Post, Step::Done, Step::Failed];
}

impl OnLink<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25 + self.payload.len());
        for number in [self.instance, self.link, self.sequence] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.push(self.step as u8);
        bytes.extend_from_slice(self.payload);
        bytes
    }

    /// The text of an error, fit to be shown.
    pub fn text(&self) -> String {
        shown(self.payload)
    }

    pub fn read(bytes: &[u8]) -> Option<OnLink<'_>> {
        let mut fields = Fields(bytes);
        let (instance, link, sequence) = (fields.number()?, fields.number()?, fields.number()?);
        let step = *Step::ALL.get(usize::from(fields.byte()?))?;
        let payload = fields.rest();
        let fits = step != Step::Failed || payload.len() <= MOST_TEXT;
        fits.then_some(OnLink { instance, link, sequence, step, payload })
    }
}

/// Samples of one topic of one publisher, as one put carries them. The first has its number, each other one
/// by how much its number is higher; then come the length and the payload. Steps and lengths have seven bits
/// in a byte, the low ones first, and the eighth says that more follow. A sample that is larger than a batch
/// is alone.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    samples: usize,
    /// The number of the last one.
    last: u64,
    /// How long the batch before was: this one will be about as long.
    before: usize,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Adds a sample. False if it is to go into another batch.
    pub fn add(&mut self, sequence: u64, payload: &[u8]) -> bool {
        let len = payload.len() as u64;
        if self.is_empty() {
            self.bytes.reserve_exact(self.before.max(payload.len() + 16));
            self.bytes.extend(sequence.to_le_bytes());
        } else {
            let step = sequence.checked_sub(self.last).filter(|step| *step > 0);
            let Some(step) = step.filter(|_| self.samples < MOST_SAMPLES) else { return false };
            if self.bytes.len() + short_len(step) + short_len(len) + payload.len() > MOST_BATCH {
                return false;
            }
            put_short(&mut self.bytes, step);
        }
        put_short(&mut self.bytes, len);
        self.bytes.extend_from_slice(payload);
        self.samples += 1;
        self.last = sequence;
        true
    }

    /// What is in it. Afterwards it is empty.
    pub fn take(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.bytes);
        *self = Batch { before: bytes.len().min(MOST_BATCH), ..Batch::default() };
        bytes
    }
}

/// The samples of a batch: their numbers, which rise, and payloads.
#[derive(Clone)]
pub struct Samples<'a> {
    rest: &'a [u8],
    last: Option<u64>,
}

impl Samples<'_> {
    /// Reads what a node sent. None if anything of it is wrong.
    pub fn read(bytes: &[u8]) -> Option<Samples<'_>> {
        let samples = Samples { rest: bytes, last: None };
        let mut read = samples.clone();
        let fits = match read.by_ref().take(MOST_SAMPLES).count() {
            0 => false,
            1 => true,
            _ => bytes.len() <= MOST_BATCH,
        };
        (fits && read.rest.is_empty()).then_some(samples)
    }
}

impl<'a> Iterator for Samples<'a> {
    type Item = (u64, &'a [u8]);

    /// Something is left behind the last sample if what follows is none.
    fn next(&mut self) -> Option<(u64, &'a [u8])> {
        let mut fields = Fields(self.rest);
        let sequence = match self.last {
            None => fields.number()?,
            Some(last) => last.checked_add(fields.short().filter(|step| *step > 0)?)?,
        };
        let len = usize::try_from(fields.short()?).ok()?;
        let payload = fields.take(len)?;
        *self = Samples { rest: fields.0, last: Some(sequence) };
        Some((sequence, payload))
    }
}

fn put_short(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn short_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A number as `put_short` writes it, and in no other way.
    fn short(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            number |= bits << shift;
            if number >> shift != bits {
                return None;
            }
            if byte < 0x80 {
                return (byte > 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn patience(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(self.number()?)).filter(|patience| *patience <= MOST_PATIENCE)
    }

    /// A client of the sender's node, and the key of one of this node.
    fn member(&mut self) -> Option<(Name, Key)> {
        let key = Key::from_bytes(self.take(16)?.try_into().ok()?);
        let len = usize::from(self.byte()?);
        let name = name(std::str::from_utf8(self.take(len)?).ok()?)?;
        Some((name, key))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let key = Key::from_bytes([7; 16]);
        for what in [
            What::Claim,
            What::Client(name("bob").unwrap(), key),
            What::Client(name("a/b *%41 ü@").unwrap(), key),
            What::Topic(name("x y").unwrap(), Topic::try_from("prices/AAPL/last").unwrap()),
        ] {
            let said = Said { node: node("b-1.x"), instance: 77, what };
            assert_eq!(Said::read(&said.to_string()), Some(said));
        }
    }

    #[test]
    fn other_keys_are_refused() {
        let key = Key::from_bytes([7; 16]);
        for text in [
            String::new(),
            "ringpost/1/b".into(),
            "ringpost/2/b/0000000000000001/node".into(),
            "ringpost/1/b/1/node".into(), // a number has one form
            "ringpost/1/b/0000000000000001/node/x".into(),
            "ringpost/1/b@c/0000000000000001/node".into(),
            format!("ringpost/1/b/0000000000000001/client/*/%62ob/{key}"), // a name has one form
            format!("ringpost/1/b/0000000000000001/client/*/%/{key}"),
            format!("ringpost/1/b/0000000000000001/client/*//{key}"),
            "ringpost/1/b/0000000000000001/topic/x".into(),
            "ringpost/1/b/0000000000000001/topic/x/**".into(),
        ] {
            assert_eq!(Said::read(&text), None, "{text}");
        }
        let own = node("a");
        assert!(read_query_key(&query_key(&own, &node("b"), Verb::Send), &own).is_some());
        assert!(read_query_key(&query_key(&node("ab"), &node("b"), Verb::Send), &own).is_none());
        assert!(read_query_key("ringpost/1/a/from/b/send/x", &own).is_none());
    }

    #[test]
    fn questions_are_read_as_they_were_written_and_not_if_cut() {
        let (from, to) = (name("alice").unwrap(), Key::from_bytes([9; 16]));
        let patience = Duration::from_millis(1500);
        for ask in [
            Ask::Claim { instance: 1 },
            Ask::Send { instance: 1, sequence: 2, from, to, patience, payload: b"hello" },
            Ask::Open { instance: 1, link: 2, from, to, patience },
            Ask::Close { instance: 1, link: 2 },
        ] {
            let bytes = ask.bytes();
            assert_eq!(Ask::read(ask.verb(), &bytes), Some(ask.clone()));
            let fixed = bytes.len() - if matches!(ask, Ask::Send { .. }) { 5 } else { 0 };
            for len in 0..fixed {
                assert_eq!(Ask::read(ask.verb(), &bytes[..len]), None, "{ask:?} cut to {len}");
            }
        }
        let mut long = Ask::Close { instance: 1, link: 2 }.bytes();
        long.push(0);
        assert_eq!(Ask::read(Verb::Close, &long), None);
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for outcome in Outcome::ALL {
            let answer = Answer::new(outcome, "why");
            assert_eq!(Answer::read(answer.clone().bytes()), Some(answer));
        }
        assert_eq!(Answer::read(vec![]), None);
        assert_eq!(Answer::read(vec![Outcome::ALL.len() as u8]), None);
        assert_eq!(Answer::read([&[b'x'; MOST_TEXT + 1][..], &[Outcome::Refused as u8]].concat()), None);
    }

    #[test]
    fn what_is_said_over_links_is_read_as_it_was_written_and_not_if_cut() {
        for step in Step::ALL {
            let said = OnLink { instance: 1, link: 2, sequence: 3, step, payload: b"ping" };
            let bytes = said.bytes();
            assert_eq!(OnLink::read(&bytes), Some(said));
            for len in 0..bytes.len() - 4 {
                assert_eq!(OnLink::read(&bytes[..len]), None, "{said:?} cut to {len}");
            }
            let long = OnLink { payload: &[b'x'; MOST_TEXT + 1], ..said };
            assert_eq!(OnLink::read(&long.bytes()).is_some(), step != Step::Failed);
        }
        let mut unknown =
            OnLink { instance: 1, link: 2, sequence: 3, step: Step::Call, payload: b"" }.bytes();
        unknown[24] = Step::ALL.len() as u8;
        assert_eq!(OnLink::read(&unknown), None);
    }

    fn random() -> impl FnMut(usize) -> usize {
        let mut state = 1_u64;
        move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        }
    }

    /// A batch of these samples. Fails if they do not fit into one.
    fn batch<'a>(samples: impl IntoIterator<Item = (u64, &'a [u8])>) -> Option<Vec<u8>> {
        let mut batch = Batch::default();
        samples.into_iter().all(|(sequence, payload)| batch.add(sequence, payload)).then(|| batch.take())
    }

    #[test]
    fn batches_are_read_as_they_were_written_and_not_if_changed() {
        let (mut random, bytes) = (random(), [7; 300]);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..2_000 {
            let mut sequence = [0, 7, 1 << 40, u64::MAX - (1 << 41)][random(4)];
            let mut samples = Vec::new();
            for _ in 0..=random(20) {
                sequence += [1, 1, 1, 2, 127, 128, 1 << 35][random(7)];
                samples.push((sequence, &bytes[..[0, 1, 48, 127, 128, 300][random(6)]]));
            }
            let written = batch(samples.iter().copied()).unwrap();
            assert_eq!(Samples::read(&written).unwrap().collect::<Vec<_>>(), samples);
            for _ in 0..20 {
                let mut changed = written.clone();
                match random(3) {
                    0 => changed.truncate(random(changed.len())),
                    1 => changed.extend((0..=random(8)).map(|_| random(256) as u8)),
                    _ => {
                        let at = random(changed.len());
                        changed[at] = random(256) as u8;
                    }
                }
                match Samples::read(&changed) {
                    None => refused += 1,
                    Some(samples) => {
                        let all: Vec<_> = samples.clone().collect();
                        assert!(all.is_sorted_by(|one, next| one.0 < next.0), "the numbers rise");
                        assert_eq!(batch(samples).unwrap(), changed, "there is one way to write it");
                        read += 1;
                    }
                }
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} read and {refused} refused");
    }

    #[test]
    fn a_batch_has_bounds_and_a_large_sample_is_alone() {
        let large = vec![7; 10 * MOST_BATCH];
        let alone = batch([(1, &large[..])]).unwrap();
        assert_eq!(Samples::read(&alone).unwrap().next(), Some((1, &large[..])));
        assert_eq!(batch([(1, &large[..]), (2, &[])]), None);
        assert_eq!(batch([(1, &b""[..]), (1, b"")]), None, "a number twice");
        assert_eq!(batch([(2, &b""[..]), (1, b"")]), None);
        let several = |count: usize, len: usize| batch((1..).map(|at| (at, &large[..len])).take(count));
        assert!(Samples::read(&several(MOST_SAMPLES, 0).unwrap()).is_some());
        assert_eq!(several(MOST_SAMPLES + 1, 0), None);
        // The first number, three bytes for each length, and a step.
        let half = (MOST_BATCH - 8 - 3 - 1 - 3) / 2;
        let full = batch([(1, &large[..half]), (2, &large[..half + 1])]).unwrap();
        assert_eq!((full.len(), Samples::read(&full).unwrap().count()), (MOST_BATCH, 2));
        assert_eq!(batch([(1, &large[..half]), (2, &large[..half + 2])]), None);
        // What a bridge would not send is refused.
        let many = [&1_u64.to_le_bytes()[..], &[0], &[1, 0].repeat(MOST_SAMPLES)].concat();
        assert!(Samples::read(&many).is_none(), "one more than there may be");
        assert!(Samples::read(&many[..many.len() - 2]).is_some());
        let long = [&full[..], &[1, 0x88, 0x27], &[7; 5000]].concat();
        assert!(Samples::read(&long).is_none(), "too long for more than one");
        for wrong in [&[][..], &[0], &[0x80, 0], &[1], &[1, 0x80, 0], &[1, 1], &[1, 0xFF]] {
            let bytes = [&5_u64.to_le_bytes()[..], &[0], wrong].concat();
            assert_eq!(Samples::read(&bytes).is_some(), wrong.is_empty(), "{wrong:?}");
        }
        let over = [&u64::MAX.to_le_bytes()[..], &[0, 1, 0]].concat();
        assert!(Samples::read(&over).is_none(), "there is no such number");
    }

    /// Whatever a node sends: it is refused, or it is exactly what a bridge would have sent.
    #[test]
    fn nothing_is_read_that_would_not_be_written() {
        let mut random = random();
        let (from, to, patience) = (name("al i/ce").unwrap(), Key::from_bytes([9; 16]), MOST_PATIENCE);
        let seeds = [
            Ask::Send { instance: 1, sequence: 2, from, to, patience, payload: b"hello" },
            Ask::Open { instance: 1, link: 2, from, to, patience },
            Ask::Close { instance: 1, link: 2 },
            Ask::Claim { instance: 1 },
        ];
        let (mut read, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let seed = &seeds[random(4)];
            let mut bytes = seed.bytes();
            for _ in 0..random(4) {
                match random(3) {
                    0 => bytes.truncate(random(bytes.len() + 1)),
                    1 => bytes.push(random(256) as u8),
                    _ if bytes.is_empty() => {}
                    _ => {
                        let at = random(bytes.len());
                        bytes[at] = random(256) as u8;
                    }
                }
            }
            match Ask::read(seed.verb(), &bytes) {
                None => refused += 1,
                Some(ask) => {
                    assert_eq!(ask.bytes(), bytes);
                    read += 1;
                }
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} read and {refused} refused");
        let key = Said { node: node("b"), instance: 7, what: What::Client(from, to) }.to_string();
        for _ in 0..100_000 {
            let mut text = key.clone().into_bytes();
            let at = random(text.len());
            text[at] = b"/%@*ab0\xC3F"[random(8)];
            let Ok(text) = String::from_utf8(text) else { continue };
            if let Some(said) = Said::read(&text) {
                assert_eq!(said.to_string(), text);
            }
        }
    }
}
