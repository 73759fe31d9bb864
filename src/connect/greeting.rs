//! Encodes and decodes the datagrams of the connect channel, as described in `docs/PROTOCOL.md`.

use super::control::LONGEST_COMMAND;
use super::figures::Section;
use super::introduction::{Half, Introduction, Proof, Reported, decode_report, encode_report};
use super::topics::{Part, Publish, Subscribe, Waits};
use crate::wire::{Address, Key, Name, NameError, PROTOCOL_VERSION, TopicError, beginning, take};

const MAGIC: [u8; 8] = *b"RINGPOST";
const HEADER: usize = 16;

/// The longest datagram in either direction: a page of clients.
pub(crate) const MOST_BYTES: usize = 16 * 1024;

/// The most descriptors that come with one answer.
pub(crate) const MOST_DESCRIPTORS: usize = Part::MOST_DESCRIPTORS;
const _: () = assert!(Introduction::DESCRIPTORS <= MOST_DESCRIPTORS);

/// How many descriptors come with a pipe for kicks: its read end and its write end.
const KICK_DESCRIPTORS: usize = 2;

/// A request on the connect channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Register(Name),
    /// The same for a client that carries its messages on, and then says what became of them.
    RegisterRelay(Name),
    List {
        from_slot: u32,
    },
    Server,
    /// A link to another client, with rings of this size; 0 stands for the server's.
    Connect {
        proof: Proof,
        ring_size: u64,
        to: Address,
    },
    /// A bell, to listen for links of others.
    Listen(Proof),
    /// The next introduction that waits.
    Take(Proof),
    /// The links that the client had before it registered here.
    Report {
        proof: Proof,
        links: Vec<Reported>,
    },
    /// A page of all links.
    Links {
        from: u64,
    },
    /// The pipe by which one half of the client's channel is woken in an event loop.
    Kick {
        proof: Proof,
        half: Half,
    },
    /// A topic of the client's own.
    Publish {
        proof: Proof,
        publish: Publish,
    },
    /// The client has sealed the topic's segment: from now on the topic is there.
    Published {
        proof: Proof,
        publication: u64,
    },
    Subscribe {
        proof: Proof,
        subscribe: Subscribe,
    },
    /// The end of a publication or subscription.
    Leave {
        proof: Proof,
        id: u64,
    },
    /// A bell, to learn of parts.
    Attend(Proof),
    /// The next part that waits.
    Part(Proof),
    /// A page of all topics.
    Topics {
        from: u64,
    },
    /// The server's own topic: who registers, and who is gone.
    Presence {
        proof: Proof,
        waits: Waits,
    },
    /// An operator's command.
    Control(String),
    /// A page of what the bus counts about itself.
    Figures {
        section: Section,
        from: u64,
    },
    /// The server's own topic of copies, with at least so many bytes of each payload.
    Tap {
        proof: Proof,
        waits: Waits,
        most: u16,
    },
}

/// Why a datagram is not a valid request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    #[error("not a ringpost request")]
    NotRingpost,
    #[error(
        "the client uses protocol version {found} but this server uses version {PROTOCOL_VERSION}: use the same ringpost \
         version on both sides"
    )]
    Version { found: u32 },
    #[error("this server does not know the request")]
    Unknown,
    #[error("not a valid name: {0}")]
    Name(NameError),
    #[error("not a valid topic or pattern: {0}")]
    Topic(TopicError),
}

/// Why the server refuses a request: the code in its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(crate) enum Refusal {
    NotRingpost = 1,
    Version = 2,
    Unknown = 3,
    InvalidName = 4,
    NameTaken = 5,
    Full = 6,
    NotAllowed = 7,
    ShuttingDown = 8,
    Busy = 9,
    NoResources = 10,
    /// The user's quota is exhausted.
    Quota = 11,
    /// No client has this key or name.
    NotFound = 12,
    /// The client does not take links.
    NotServing = 13,
    /// Too many introductions wait for the client.
    Backlog = 14,
    /// The proof is not that of a client which this process registered.
    NotRegistered = 15,
    /// A rule of the server's access does not allow it.
    AgainstRules = 16,
}

impl Refusal {
    pub(crate) fn from_code(code: u16) -> Option<Refusal> {
        use Refusal::*;
        [
            NotRingpost,
            Version,
            Unknown,
            InvalidName,
            NameTaken,
            Full,
            NotAllowed,
            ShuttingDown,
            Busy,
            NoResources,
            Quota,
            NotFound,
            NotServing,
            Backlog,
            NotRegistered,
            AgainstRules,
        ]
        .into_iter()
        .find(|refusal| *refusal as u16 == code)
    }
}

impl Ask {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (what, body) = match self {
            Ask::Register(name) => (1, name.as_bytes().to_vec()),
            Ask::List { from_slot } => (2, from_slot.to_le_bytes().to_vec()),
            Ask::Server => (3, Vec::new()),
            Ask::Connect { proof, ring_size, to } => {
                let (kind, to) = match to {
                    Address::Name(name) => (0, name.as_bytes().to_vec()),
                    Address::Key(key) => (1, key.to_bytes().to_vec()),
                };
                (4, [&proof.encode()[..], &ring_size.to_le_bytes(), &[kind], &to].concat())
            }
            Ask::Listen(proof) => (5, proof.encode().to_vec()),
            Ask::Take(proof) => (6, proof.encode().to_vec()),
            Ask::Report { proof, links } => (7, [&proof.encode()[..], &encode_report(links)].concat()),
            Ask::Links { from } => (8, from.to_le_bytes().to_vec()),
            Ask::Kick { proof, half } => (9, [&proof.encode()[..], &[*half as u8]].concat()),
            Ask::Publish { proof, publish } => (10, [&proof.encode()[..], &publish.encode()].concat()),
            Ask::Published { proof, publication: id } => {
                (11, [&proof.encode()[..], &id.to_le_bytes()].concat())
            }
            Ask::Subscribe { proof, subscribe } => (12, [&proof.encode()[..], &subscribe.encode()].concat()),
            Ask::Leave { proof, id } => (13, [&proof.encode()[..], &id.to_le_bytes()].concat()),
            Ask::Attend(proof) => (14, proof.encode().to_vec()),
            Ask::Part(proof) => (15, proof.encode().to_vec()),
            Ask::Topics { from } => (16, from.to_le_bytes().to_vec()),
            Ask::Presence { proof, waits } => (17, [&proof.encode()[..], &waits.encode()].concat()),
            Ask::Control(command) => (18, command.as_bytes().to_vec()),
            Ask::Figures { section, from } => (19, [&[*section as u8][..], &from.to_le_bytes()].concat()),
            Ask::Tap { proof, waits, most } => {
                (20, [&proof.encode()[..], &waits.encode(), &most.to_le_bytes()].concat())
            }
            Ask::RegisterRelay(name) => (21, name.as_bytes().to_vec()),
        };
        frame(what, &body)
    }

    /// The most descriptors that an answer may come with.
    pub(crate) fn most_descriptors(&self) -> usize {
        (0..=MOST_DESCRIPTORS).rev().find(|most| self.may_bring(*most)).unwrap_or(0)
    }

    /// Whether an answer may come with so many descriptors.
    pub(super) fn may_bring(&self, descriptors: usize) -> bool {
        match self {
            Ask::Register(_) | Ask::RegisterRelay(_) => descriptors <= 1,
            Ask::Listen(_) | Ask::Attend(_) | Ask::Publish { .. } => descriptors <= 1,
            Ask::Kick { .. } => matches!(descriptors, 0 | KICK_DESCRIPTORS),
            Ask::Connect { .. } | Ask::Take(_) => matches!(descriptors, 0 | Introduction::DESCRIPTORS),
            Ask::Part(_) => descriptors <= Part::MOST_DESCRIPTORS,
            // The segment, the page and the server's process; then the own pipe of one that arms.
            Ask::Presence { waits, .. } | Ask::Tap { waits, .. } => {
                descriptors == 0 || descriptors == if waits.arms { 5 } else { 3 }
            }
            Ask::List { .. } | Ask::Server | Ask::Report { .. } | Ask::Links { .. } => descriptors == 0,
            Ask::Published { .. } | Ask::Subscribe { .. } | Ask::Leave { .. } | Ask::Topics { .. } => {
                descriptors == 0
            }
            Ask::Control(_) | Ask::Figures { .. } => descriptors == 0,
        }
    }

    pub(crate) fn decode(datagram: &[u8]) -> Result<Ask, AskError> {
        let (version, what, body) = unframe(datagram).ok_or(AskError::NotRingpost)?;
        if version != PROTOCOL_VERSION {
            return Err(AskError::Version { found: version });
        }
        match what {
            1 => Name::from_bytes(body).map(Ask::Register).map_err(AskError::Name),
            2 => match take::<4>(body) {
                Some((slot, [])) => Ok(Ask::List { from_slot: u32::from_le_bytes(slot) }),
                _ => Err(AskError::Unknown),
            },
            3 if body.is_empty() => Ok(Ask::Server),
            4 => decode_connect(body),
            5 => only_a_proof(body).map(Ask::Listen),
            6 => only_a_proof(body).map(Ask::Take),
            7 => {
                let (proof, links) = Proof::take(body).ok_or(AskError::Unknown)?;
                let links = decode_report(links).ok_or(AskError::Unknown)?;
                Ok(Ask::Report { proof, links })
            }
            8 => match take::<8>(body) {
                Some((from, [])) => Ok(Ask::Links { from: u64::from_le_bytes(from) }),
                _ => Err(AskError::Unknown),
            },
            9 => match Proof::take(body) {
                Some((proof, [0])) => Ok(Ask::Kick { proof, half: Half::Caller }),
                Some((proof, [1])) => Ok(Ask::Kick { proof, half: Half::Inbox }),
                _ => Err(AskError::Unknown),
            },
            10 => {
                let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
                Publish::decode(rest).map(|publish| Ask::Publish { proof, publish })
            }
            11 => {
                a_proof_and_a_number(body).map(|(proof, publication)| Ask::Published { proof, publication })
            }
            12 => {
                let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
                Subscribe::decode(rest).map(|subscribe| Ask::Subscribe { proof, subscribe })
            }
            13 => a_proof_and_a_number(body).map(|(proof, id)| Ask::Leave { proof, id }),
            14 => only_a_proof(body).map(Ask::Attend),
            15 => only_a_proof(body).map(Ask::Part),
            16 => match take::<8>(body) {
                Some((from, [])) => Ok(Ask::Topics { from: u64::from_le_bytes(from) }),
                _ => Err(AskError::Unknown),
            },
            17 => match Proof::take(body) {
                Some((proof, [waits])) => Waits::from_byte(*waits)
                    .map(|waits| Ask::Presence { proof, waits })
                    .ok_or(AskError::Unknown),
                _ => Err(AskError::Unknown),
            },
            18 => match str::from_utf8(body) {
                Ok(command) if (1..=LONGEST_COMMAND).contains(&command.len()) => {
                    Ok(Ask::Control(command.to_owned()))
                }
                _ => Err(AskError::Unknown),
            },
            19 => match (body.first().copied().and_then(Section::from_code), take::<9>(body)) {
                (Some(section), Some(([_, from @ ..], []))) => {
                    Ok(Ask::Figures { section, from: u64::from_le_bytes(from) })
                }
                _ => Err(AskError::Unknown),
            },
            20 => match Proof::take(body) {
                Some((proof, [waits, one, two])) => {
                    let waits = Waits::from_byte(*waits).ok_or(AskError::Unknown)?;
                    Ok(Ask::Tap { proof, waits, most: u16::from_le_bytes([*one, *two]) })
                }
                _ => Err(AskError::Unknown),
            },
            21 => Name::from_bytes(body).map(Ask::RegisterRelay).map_err(AskError::Name),
            _ => Err(AskError::Unknown),
        }
    }
}

fn a_proof_and_a_number(body: &[u8]) -> Result<(Proof, u64), AskError> {
    let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
    match take(rest) {
        Some((number, [])) => Ok((proof, u64::from_le_bytes(number))),
        _ => Err(AskError::Unknown),
    }
}

fn decode_connect(body: &[u8]) -> Result<Ask, AskError> {
    let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
    let (ring_size, rest) = take(rest).ok_or(AskError::Unknown)?;
    let to = match take(rest) {
        Some(([0], name)) => Address::Name(Name::from_bytes(name).map_err(AskError::Name)?),
        Some(([1], key)) => Address::Key(Key::from_bytes(key.try_into().map_err(|_| AskError::Unknown)?)),
        _ => return Err(AskError::Unknown),
    };
    Ok(Ask::Connect { proof, ring_size: u64::from_le_bytes(ring_size), to })
}

fn only_a_proof(body: &[u8]) -> Result<Proof, AskError> {
    match Proof::take(body) {
        Some((proof, [])) => Ok(proof),
        _ => Err(AskError::Unknown),
    }
}

impl AskError {
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            AskError::NotRingpost => Refusal::NotRingpost,
            AskError::Version { .. } => Refusal::Version,
            AskError::Unknown => Refusal::Unknown,
            AskError::Name(_) | AskError::Topic(_) => Refusal::InvalidName,
        }
    }
}

/// A decoded reply datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    /// The server's protocol version.
    pub(crate) version: u32,
    pub(crate) body: ReplyBody<'a>,
}

/// The content of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyBody<'a> {
    Done(&'a [u8]),
    /// A refusal, with the server's text.
    Refused(Refusal, String),
}

impl<'a> Reply<'a> {
    pub(crate) fn done(body: &[u8]) -> Vec<u8> {
        frame(0, body)
    }

    pub(crate) fn registered(proof: &Proof) -> Vec<u8> {
        frame(0, &proof.encode())
    }

    pub(crate) fn refused(refusal: Refusal, why: &str) -> Vec<u8> {
        frame(refusal as u16, beginning(why, MOST_BYTES - HEADER).as_bytes())
    }

    /// Decodes a reply; `None` if it is not one of a ringpost server of any version.
    pub(crate) fn decode(datagram: &'a [u8]) -> Option<Reply<'a>> {
        let (version, status, body) = unframe(datagram)?;
        let body = match status {
            0 => ReplyBody::Done(body),
            code => {
                let text = String::from_utf8_lossy(body);
                // The text comes from another process and must not control the user's terminal.
                let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
                if text.trim().is_empty() {
                    text.push_str("the server refused and gave no reason");
                }
                ReplyBody::Refused(Refusal::from_code(code).unwrap_or(Refusal::Unknown), text)
            }
        };
        Some(Reply { version, body })
    }

    /// The key and the secret in the body of a registration's reply.
    pub(crate) fn registration(body: &[u8]) -> Option<Proof> {
        only_a_proof(body).ok()
    }
}

fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(HEADER + body.len());
    datagram.extend_from_slice(&MAGIC);
    datagram.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    datagram.extend_from_slice(&code.to_le_bytes());
    datagram.extend_from_slice(&[0; 2]);
    datagram.extend_from_slice(body);
    datagram
}

fn unframe(datagram: &[u8]) -> Option<(u32, u16, &[u8])> {
    let (magic, rest) = take::<8>(datagram)?;
    let (version, rest) = take::<4>(rest)?;
    let (code, rest) = take::<2>(rest)?;
    let (_unused, body) = take::<2>(rest)?;
    (magic == MAGIC).then_some((u32::from_le_bytes(version), u16::from_le_bytes(code), body))
}

#[cfg(test)]
mod tests;
