//! What a hand-written client asks about topics, and its ends of a topic's memory: a publisher and a
//! subscriber that can break every rule. Both follow `docs/PROTOCOL.md`.

#![allow(unsafe_code, reason = "words in memory that is shared with another process")]

use super::raw::{DATA_RECORD, LINE, PADDING_RECORD, RawClient, header};
use super::raw_links::{Answer, ask};
use memmap2::{MmapOptions, MmapRaw};
use ringpost::Key;
use ringpost::testing::futex_wake;
use rustix::fs::{SealFlags, fcntl_add_seals, fstat};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

pub const PUBLISH: u16 = 10;
pub const PUBLISHED: u16 = 11;
pub const SUBSCRIBE: u16 = 12;
pub const LEAVE: u16 = 13;
pub const ATTEND: u16 = 14;
pub const PART: u16 = 15;
pub const TOPICS: u16 = 16;
pub const PRESENCE: u16 = 17;
pub const TAP: u16 = 20;

// Policies of a subscription.
pub const LOSSY: u8 = 0;
pub const LATEST: u8 = 1;
pub const RELIABLE: u8 = 2;

// What a subscription may do.
pub const MAY_SLEEP: u8 = 1;
pub const ARMS: u8 = 2;

// Words of a topic's segment.
pub const INTENT: usize = 0;
pub const LAST: usize = 128;
pub const ENDED: usize = 256;
pub const TABLE: usize = 1024;
pub const ENTRY: usize = 128;
pub const ENTRIES: u64 = 16;
pub const DATA: usize = 4096;

// Words of a page, from its line on.
pub const PARKED: usize = 0;
pub const CURSOR: usize = 64;
pub const PUBLISHER_PARKED: usize = 128;
pub const STATE: usize = 192;
pub const LEFT: usize = 256;
pub const PAGE: usize = 4096;

// What a page's state says.
pub const ATTACHED: u32 = 1;
pub const STALLED: u32 = 2;
pub const REFUSED: u32 = 3;
pub const BROKE: u32 = 4;

/// The seals that a publisher adds.
pub const PUBLISHERS_SEALS: SealFlags = SealFlags::FUTURE_WRITE.union(SealFlags::SEAL);

/// Memory of another process, mapped without a check.
pub struct Memory(MmapRaw);

impl Memory {
    fn map(fd: &OwnedFd, writable: bool) -> io::Result<Memory> {
        let mut options = MmapOptions::new();
        options.len(fstat(fd)?.st_size as usize);
        let map = if writable {
            options.map_raw(fd.as_raw_fd())
        } else {
            options.map_raw_read_only(fd.as_raw_fd())
        };
        map.map(Memory)
    }

    /// To write and to read.
    pub fn writable(fd: &OwnedFd) -> io::Result<Memory> {
        Memory::map(fd, true)
    }

    /// A store into it ends the process.
    pub fn read_only(fd: &OwnedFd) -> io::Result<Memory> {
        Memory::map(fd, false)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn address(&self, at: usize, size: usize) -> *mut u8 {
        assert!(at.is_multiple_of(size) && at + size <= self.len());
        self.0.as_mut_ptr().wrapping_add(at)
    }

    pub fn word64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the address is aligned, in memory that is mapped for as long as `self` lives and only
        // accessed by atomics here.
        unsafe { AtomicU64::from_ptr(self.address(at, 8).cast()) }
    }

    pub fn word32(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.address(at, 4).cast()) }
    }

    /// Writes bytes at an offset that is a multiple of eight. The last word is filled with zeros.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word64(at + 8 * index).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }

    /// All its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        (0..self.len())
            .step_by(8)
            .flat_map(|at| self.word64(at).load(Ordering::Relaxed).to_le_bytes())
            .collect()
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// What a client wants to publish.
#[derive(Clone)]
pub struct Wish<'a> {
    pub topic: &'a str,
    pub epoch: u64,
    pub first: u64,
    /// 0: the server's.
    pub ring_size: u64,
    pub reliable: bool,
    pub users: &'a [u32],
}

impl<'a> Wish<'a> {
    pub fn of(topic: &'a str) -> Wish<'a> {
        Wish { topic, epoch: 1, first: 0, ring_size: 4096, reliable: false, users: &[] }
    }

    pub fn body(&self, client: &RawClient) -> Vec<u8> {
        let mut body = client.proof();
        for word in [self.epoch, self.first, self.ring_size] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(&[self.reliable.into(), self.users.len() as u8]);
        self.users.iter().for_each(|user| body.extend_from_slice(&user.to_le_bytes()));
        body.extend_from_slice(self.topic.as_bytes());
        body
    }
}

/// A publication whose memory the server has given out, and which does not wait for anything yet.
pub struct Unsealed {
    pub id: u64,
    pub ring_size: u64,
    pub segment: OwnedFd,
}

impl RawClient {
    /// Asks for a topic's memory.
    pub fn ask_to_publish(&self, path: &Path, wish: &Wish<'_>) -> Result<Unsealed, (u16, String)> {
        let (body, descriptors) = ask(path, PUBLISH, &wish.body(self))?;
        let [segment] = descriptors.try_into().expect("one descriptor");
        assert_eq!(body.len(), 16);
        Ok(Unsealed { id: u64_at(&body, 0), ring_size: u64_at(&body, 8), segment })
    }

    /// Says that the memory is sealed. Returns how many reliable subscriptions match.
    pub fn say_published(&self, path: &Path, id: u64) -> Result<u32, (u16, String)> {
        let (body, descriptors) = ask(path, PUBLISHED, &self.about(id))?;
        assert!(descriptors.is_empty());
        Ok(u32::from_le_bytes(body.try_into().expect("a number")))
    }

    /// Publishes as it should be done.
    pub fn publish_topic(&self, path: &Path, wish: &Wish<'_>) -> Result<RawPublisher, (u16, String)> {
        let unsealed = self.ask_to_publish(path, wish)?;
        let memory = Memory::writable(&unsealed.segment).unwrap();
        fcntl_add_seals(&unsealed.segment, PUBLISHERS_SEALS).unwrap();
        self.say_published(path, unsealed.id)?;
        Ok(RawPublisher::new(unsealed, memory, wish.first))
    }

    /// Subscribes. Returns the subscription's number, and how many publishers match now.
    pub fn subscribe(
        &self,
        path: &Path,
        policy: u8,
        flags: u8,
        pattern: &str,
    ) -> Result<(u64, u32), (u16, String)> {
        let body = [&self.proof()[..], &[policy, flags], pattern.as_bytes()].concat();
        let (body, descriptors) = ask(path, SUBSCRIBE, &body)?;
        assert!(descriptors.is_empty() && body.len() == 12);
        Ok((u64_at(&body, 0), u32::from_le_bytes(body[8..].try_into().unwrap())))
    }

    /// Ends a publication or a subscription.
    pub fn leave_topic(&self, path: &Path, id: u64) -> Answer {
        ask(path, LEAVE, &self.about(id))
    }

    /// The topics bell.
    pub fn attend(&self, path: &Path) -> OwnedFd {
        let (body, bell) = ask(path, ATTEND, &self.proof()).unwrap();
        assert!(body.is_empty());
        let [bell] = bell.try_into().expect("one descriptor");
        bell
    }

    /// Takes the next part, if one waits.
    pub fn part(&self, path: &Path) -> Option<Part> {
        let (body, descriptors) = ask(path, PART, &self.proof()).unwrap();
        Part::of(&body, descriptors)
    }

    pub fn about(&self, id: u64) -> Vec<u8> {
        [&self.proof()[..], &id.to_le_bytes()].concat()
    }
}

/// What a client is given of a pair.
#[derive(Debug)]
pub enum Part {
    Subscriber(Introduced),
    /// A subscription of one's topic: its page, and its number.
    Publisher {
        publication: u64,
        subscription: u64,
        line: u16,
        policy: u8,
        flags: u8,
        page: OwnedFd,
        rest: Vec<OwnedFd>,
    },
    /// A subscription has ended.
    Ended {
        publication: u64,
        subscription: u64,
    },
    /// A publication has ended.
    Over {
        subscription: u64,
        publication: u64,
    },
}

/// A publisher, as a subscriber is told of it.
#[derive(Debug)]
pub struct Introduced {
    pub subscription: u64,
    pub publication: u64,
    pub epoch: u64,
    pub first: u64,
    pub ring_size: u64,
    pub line: u16,
    pub flags: u8,
    pub key: Key,
    pub pid: u32,
    pub name: String,
    pub topic: String,
    pub segment: OwnedFd,
    pub page: OwnedFd,
    /// A pidfd of the publisher's process.
    pub process: OwnedFd,
    /// Pipes.
    pub rest: Vec<OwnedFd>,
}

impl Part {
    pub fn of(body: &[u8], descriptors: Vec<OwnedFd>) -> Option<Part> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().expect("a descriptor");
        let half = |at: usize| u16::from_le_bytes(body[at..at + 2].try_into().unwrap());
        Some(match *body.first()? {
            1 => {
                let peer = &body[44..];
                let name = usize::from(peer[28]);
                Part::Subscriber(Introduced {
                    subscription: u64_at(body, 1),
                    publication: u64_at(body, 9),
                    epoch: u64_at(body, 17),
                    first: u64_at(body, 25),
                    ring_size: u64_at(body, 33),
                    line: half(41),
                    flags: body[43],
                    key: Key::from_bytes(peer[..16].try_into().unwrap()),
                    pid: u32::from_le_bytes(peer[16..20].try_into().unwrap()),
                    name: String::from_utf8(peer[29..29 + name].to_vec()).unwrap(),
                    topic: String::from_utf8(peer[29 + name..].to_vec()).unwrap(),
                    segment: next(),
                    page: next(),
                    process: next(),
                    rest: descriptors.collect(),
                })
            }
            2 => Part::Publisher {
                publication: u64_at(body, 1),
                subscription: u64_at(body, 9),
                line: half(17),
                policy: body[19],
                flags: body[20],
                page: next(),
                rest: descriptors.collect(),
            },
            3 => Part::Ended { publication: u64_at(body, 1), subscription: u64_at(body, 9) },
            4 => Part::Over { subscription: u64_at(body, 1), publication: u64_at(body, 9) },
            kind => panic!("a part of kind {kind}"),
        })
    }

    pub fn subscribers(self) -> Introduced {
        match self {
            Part::Subscriber(introduced) => introduced,
            other => panic!("not a subscriber's part: {other:?}"),
        }
    }
}

/// A topic's memory on its publisher's side. Its own operations keep the rules.
pub struct RawPublisher {
    pub id: u64,
    pub ring_size: u64,
    pub segment: OwnedFd,
    pub memory: Memory,
    /// The position and the number of the next sample.
    pub tail: u64,
    pub sequence: u64,
    sixteenth: Option<u64>,
}

impl RawPublisher {
    pub fn new(unsealed: Unsealed, memory: Memory, first: u64) -> RawPublisher {
        let Unsealed { id, ring_size, segment } = unsealed;
        RawPublisher { id, ring_size, segment, memory, tail: 0, sequence: first, sixteenth: None }
    }

    pub fn offset(&self, position: u64) -> usize {
        DATA + (position % self.ring_size) as usize
    }

    pub fn record(&self, position: u64) -> &AtomicU64 {
        self.memory.word64(self.offset(position) & !7)
    }

    pub fn entry(&self, position: u64) -> usize {
        TABLE + (position % self.ring_size / (self.ring_size / ENTRIES)) as usize * ENTRY
    }

    /// Publishes a sample. Nobody is woken: who reads it does not sleep, or for a while only.
    pub fn send(&mut self, payload: &[u8]) {
        let size = (payload.len() as u64 + 8).next_multiple_of(LINE);
        let rest = self.ring_size - self.tail % self.ring_size;
        let at = if size > rest { self.tail + rest } else { self.tail };
        let words = &self.memory;
        words.word64(INTENT).store(at + size + 2 * LINE, Ordering::Release);
        fence(Ordering::SeqCst);
        self.record(at + size).store(0, Ordering::Relaxed);
        words.write(self.offset(at) + 8, payload);
        if at != self.tail {
            let padding = header(self.tail, PADDING_RECORD, rest - 8);
            self.record(at).store(header(at, DATA_RECORD, payload.len() as u64), Ordering::Release);
            self.record(self.tail).store(padding, Ordering::Release);
        } else {
            self.record(at).store(header(at, DATA_RECORD, payload.len() as u64), Ordering::Release);
        }
        let sixteenth = at / (self.ring_size / ENTRIES);
        if self.sixteenth != Some(sixteenth) {
            self.sixteenth = Some(sixteenth);
            let entry = self.entry(at);
            words.word64(entry + 64).store(self.sequence, Ordering::Relaxed);
            words.word64(entry).store(at | 1, Ordering::Release);
        }
        words.word64(LAST).store(at | 1, Ordering::Release);
        self.tail = at + size;
        self.sequence += 1;
    }
}

/// One side's view of the page of a pair.
pub struct Page {
    pub memory: Memory,
    line: usize,
}

impl Page {
    pub fn of(page: &OwnedFd, line: u16) -> Page {
        Page { memory: Memory::writable(page).unwrap(), line: usize::from(line) * LINE as usize }
    }

    pub fn word32(&self, word: usize) -> &AtomicU32 {
        self.memory.word32(self.line + word)
    }

    pub fn word64(&self, word: usize) -> &AtomicU64 {
        self.memory.word64(self.line + word)
    }

    pub fn state(&self) -> u32 {
        self.word32(STATE).load(Ordering::Acquire)
    }

    /// Wakes whoever sleeps on this word.
    pub fn wake(&self, word: usize) {
        let word = self.word32(word);
        word.store(0, Ordering::SeqCst);
        futex_wake(word, u32::MAX >> 1);
    }
}

/// All topics of a server: number, topic, publisher and subscriptions.
pub fn all_topics(path: &Path) -> Vec<(u64, String, String, u32)> {
    let (mut topics, mut from) = (Vec::new(), 0_u64);
    loop {
        let (page, _) = ask(path, TOPICS, &from.to_le_bytes()).unwrap();
        let next = u64_at(&page, 0);
        let mut rest = &page[8..];
        while !rest.is_empty() {
            let id = u64_at(rest, 0);
            let mut names = Vec::new();
            rest = &rest[8..];
            for _ in 0..2 {
                let (name, behind) = rest[1..].split_at(rest[0].into());
                names.push(String::from_utf8(name.to_vec()).unwrap());
                rest = behind;
            }
            let subscriptions = u32::from_le_bytes(rest[..4].try_into().unwrap());
            rest = &rest[20..];
            let publisher = names.pop().unwrap();
            topics.push((id, names.pop().unwrap(), publisher, subscriptions));
        }
        if next == u64::MAX {
            return topics;
        }
        from = next;
    }
}
