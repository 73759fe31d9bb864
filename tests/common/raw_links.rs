//! What a hand-written client asks about links, and says about them in its channel.

use super::raw::{RawClient, VERSION, datagram, dial, hear_all};
use ringpost::Key;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};
use rustix::time::Timespec;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const CONNECT: u16 = 4;
pub const LISTEN: u16 = 5;
pub const TAKE: u16 = 6;
pub const REPORT: u16 = 7;
pub const LINKS: u16 = 8;
pub const KICK: u16 = 9;

// Codes of refusals.
pub const UNKNOWN: u16 = 3;
pub const SHUTTING_DOWN: u16 = 8;
pub const BUSY: u16 = 9;
pub const NO_RESOURCES: u16 = 10;
pub const QUOTA: u16 = 11;
pub const NOT_FOUND: u16 = 12;
pub const NOT_SERVING: u16 = 13;
pub const BACKLOG: u16 = 14;
pub const NOT_REGISTERED: u16 = 15;

/// The word of a channel that says whether its client takes links, and the first of those that say which have
/// ended.
const SERVING: usize = 2048;
const ENDED: usize = 2112;

/// The body of an answer and its descriptors, or the code and the text of a refusal.
pub type Answer = Result<(Vec<u8>, Vec<OwnedFd>), (u16, String)>;

/// Asks on a new connection.
pub fn ask(path: &Path, what: u16, body: &[u8]) -> Answer {
    ask_on(&dial(path), what, body)
}

/// Asks on a connection.
pub fn ask_on(line: &OwnedFd, what: u16, body: &[u8]) -> Answer {
    try_ask_on(line, what, body).expect("an answer")
}

/// Asks on a connection that may have ended.
fn try_ask_on(line: &OwnedFd, what: u16, body: &[u8]) -> Option<Answer> {
    // A server that refuses at once may have closed already.
    let _ = send(line, &datagram(VERSION, what, body), SendFlags::NOSIGNAL);
    let (status, body, descriptors) = hear_all(line)?;
    Some(match status {
        0 => Ok((body, descriptors)),
        code => Err((code, String::from_utf8(body).unwrap())),
    })
}

/// Asks on a connection. How many bytes and descriptors came; nothing if the connection has ended.
pub fn sizes_on(line: &OwnedFd, what: u16, body: &[u8]) -> Option<(usize, usize)> {
    let (body, descriptors) = try_ask_on(line, what, body)?.unwrap();
    Some((body.len(), descriptors.len()))
}

/// One side of a link, as it was introduced.
#[derive(Debug)]
pub struct Side {
    pub id: u64,
    pub index: u16,
    pub ring_size: u64,
    pub max_block: u64,
    /// The other side's client.
    pub key: Key,
    pub pid: u32,
    pub uid: u32,
    pub name: String,
    pub segment: OwnedFd,
    /// The reading end of this side's pipe.
    pub own: OwnedFd,
    /// A writing end of this side's pipe.
    pub own_write: OwnedFd,
    /// A writing end of the other side's pipe.
    pub others: OwnedFd,
    /// A pidfd of the other side's process.
    pub process: OwnedFd,
}

impl Side {
    pub fn of((body, descriptors): (Vec<u8>, Vec<OwnedFd>)) -> Side {
        let number = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().unwrap());
        let small = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
        let [segment, own, own_write, others, process] = descriptors.try_into().expect("five descriptors");
        assert_eq!(body.len(), 55 + usize::from(body[54]), "the name ends the body");
        Side {
            id: number(0),
            index: u16::from_le_bytes(body[8..10].try_into().unwrap()),
            ring_size: number(10),
            max_block: number(18),
            key: Key::from_bytes(body[26..42].try_into().unwrap()),
            pid: small(42),
            uid: small(46),
            name: String::from_utf8(body[55..].to_vec()).unwrap(),
            segment,
            own,
            own_write,
            others,
            process,
        }
    }

    /// Whether the other side's pipe has no reader any more, within a time.
    pub fn is_cut_off(&self, within: Duration) -> bool {
        is_ready(&self.others, PollFlags::empty(), within)
    }
}

/// Whether a descriptor is ready, or has an error, within a time.
pub fn is_ready(fd: impl AsFd, flags: PollFlags, within: Duration) -> bool {
    let within = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(&fd, flags)], Some(&within)).unwrap() > 0
}

impl RawClient {
    pub fn proof(&self) -> Vec<u8> {
        [self.key.to_bytes(), self.secret].concat()
    }

    /// The body of a CONNECT to a name, with rings of the server's size.
    pub fn connect_body(&self, to: &str) -> Vec<u8> {
        self.connect_body_with(0, 0, to.as_bytes())
    }

    pub fn connect_body_with(&self, ring_size: u64, kind: u8, to: &[u8]) -> Vec<u8> {
        [&self.proof()[..], &ring_size.to_le_bytes(), &[kind], to].concat()
    }

    pub fn connect(&self, path: &Path, to: &str) -> Result<Side, (u16, String)> {
        ask(path, CONNECT, &self.connect_body(to)).map(Side::of)
    }

    /// Listens, and returns the bell.
    pub fn listen(&self, path: &Path) -> OwnedFd {
        self.set_serving(true);
        let (body, bell) = ask(path, LISTEN, &self.proof()).unwrap();
        assert!(body.is_empty());
        let [bell] = bell.try_into().expect("one descriptor");
        bell
    }

    /// Takes what has waited longest, if anything waits.
    pub fn take(&self, path: &Path) -> Option<Side> {
        let taken = ask(path, TAKE, &self.proof()).unwrap();
        if taken.0.is_empty() { None } else { Some(Side::of(taken)) }
    }

    /// Reports links: for each, whether this client calls, and the other's name. Returns their indices.
    pub fn report(&self, path: &Path, links: &[(bool, &str)]) -> Vec<u16> {
        let (body, descriptors) = ask(path, REPORT, &self.report_body(links)).unwrap();
        assert!(descriptors.is_empty());
        let numbers: Vec<u16> =
            body.chunks(2).map(|pair| u16::from_le_bytes(pair.try_into().unwrap())).collect();
        assert_eq!(usize::from(numbers[0]), links.len());
        numbers[1..].to_vec()
    }

    pub fn report_body(&self, links: &[(bool, &str)]) -> Vec<u8> {
        let mut body = self.proof();
        body.extend_from_slice(&(links.len() as u16).to_le_bytes());
        for (calls, name) in links {
            body.extend_from_slice(&[u8::from(!calls), name.len() as u8]);
            body.extend_from_slice(name.as_bytes());
        }
        body
    }

    pub fn set_serving(&self, serves: bool) {
        self.segment.word32(SERVING).store(serves.into(), Ordering::Relaxed);
    }

    /// Says that the link with this index has ended.
    pub fn flip(&self, index: u16) {
        let word = self.segment.word32(ENDED + usize::from(index / 32) * 4);
        word.fetch_xor(1 << (index % 32), Ordering::Relaxed);
    }
}

/// All links of a server: number, caller and callee.
pub fn all_links(path: &Path) -> Vec<(u64, String, String)> {
    let (mut links, mut from) = (Vec::new(), 0_u64);
    loop {
        let (page, _) = ask(path, LINKS, &from.to_le_bytes()).unwrap();
        let next = u64::from_le_bytes(page[..8].try_into().unwrap());
        let mut rest = &page[8..];
        while !rest.is_empty() {
            let id = u64::from_le_bytes(rest[..8].try_into().unwrap());
            let mut names = Vec::new();
            rest = &rest[8..];
            for _ in 0..2 {
                let (name, behind) = rest[1..].split_at(rest[0].into());
                names.push(String::from_utf8(name.to_vec()).unwrap());
                rest = behind;
            }
            rest = &rest[8..];
            let callee = names.pop().unwrap();
            links.push((id, names.pop().unwrap(), callee));
        }
        if next == u64::MAX {
            return links;
        }
        from = next;
    }
}
