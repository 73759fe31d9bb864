//! The content of what goes over a link: each request has one right response, which also says which posts
//! came before it.

use super::super::random::Random;

/// What a request asks of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Task {
    /// To be turned around.
    Turn = 0,
    /// The same, after so many microseconds.
    Slowly = 1,
    /// So many bytes.
    Much = 2,
    /// To fail in its own words.
    Fail = 3,
    /// To panic.
    Panic = 4,
    /// Nothing: it is posted.
    Post = 5,
    /// Nothing: it is posted, and the service fails.
    PostFail = 6,
    /// Nothing: it is posted, and the service panics.
    PostPanic = 7,
}

impl Task {
    const ALL: [Task; 8] = [
        Task::Turn,
        Task::Slowly,
        Task::Much,
        Task::Fail,
        Task::Panic,
        Task::Post,
        Task::PostFail,
        Task::PostPanic,
    ];

    pub fn is_post(self) -> bool {
        self as u8 >= Task::Post as u8
    }
}

/// Task, link, number, how much.
pub const REQUEST: usize = 25;
/// What a response has behind its content: how many posts came before, and their chain.
pub const VOUCHER: usize = 16;

/// What a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub task: Task,
    /// The number of the link, unique among all processes.
    pub link: u64,
    /// Its number on the link, which only grows.
    pub number: u64,
    pub much: u64,
}

/// The posts that came over a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Posts {
    pub count: u64,
    /// Depends on the number and the length of each, and on their order.
    pub chain: u64,
}

impl Posts {
    pub fn add(&mut self, number: u64, len: usize) {
        self.count += 1;
        self.chain = Random::of(&[self.chain, number, len as u64]).next();
    }
}

/// A request of `len` bytes, or of as few as it takes.
pub fn request(asked: &Asked, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(REQUEST)];
    bytes[0] = asked.task as u8;
    for (at, word) in [asked.link, asked.number, asked.much].into_iter().enumerate() {
        bytes[1 + 8 * at..9 + 8 * at].copy_from_slice(&word.to_le_bytes());
    }
    Random::of(&[asked.link, asked.number]).fill(&mut bytes[REQUEST..]);
    bytes
}

/// What a whole request says; else what is wrong with it.
pub fn read(payload: &[u8]) -> Result<Asked, String> {
    let damaged = || format!("a damaged request of {} bytes: {:02x?}", payload.len(), payload.get(..REQUEST));
    let word = |at: usize| payload.get(at..at + 8).map(|bytes| bytes.try_into().map(u64::from_le_bytes));
    let (Some(Ok(link)), Some(Ok(number)), Some(Ok(much))) = (word(1), word(9), word(17)) else {
        return Err(damaged());
    };
    let task = *Task::ALL.get(usize::from(payload[0])).ok_or_else(damaged)?;
    let asked = Asked { task, link, number, much };
    if payload == request(&asked, payload.len()) { Ok(asked) } else { Err(damaged()) }
}

/// The one right response to a request that came behind these posts.
pub fn response(payload: &[u8], asked: &Asked, posts: &Posts) -> Vec<u8> {
    let mut bytes = if asked.task == Task::Much {
        let mut bytes = vec![0; asked.much as usize];
        Random::of(&[asked.number, asked.link]).fill(&mut bytes);
        bytes
    } else {
        payload.iter().rev().map(|byte| byte ^ 0xa5).collect()
    };
    bytes.extend_from_slice(&posts.count.to_le_bytes());
    bytes.extend_from_slice(&posts.chain.to_le_bytes());
    bytes
}

pub mod tests {
    use super::*;

    pub fn content_of_links_can_be_told_from_any_other() {
        for task in Task::ALL {
            let asked = Asked { task, link: 7, number: 3, much: 100 };
            for len in [0, REQUEST, 300] {
                let whole = request(&asked, len);
                assert_eq!(read(&whole), Ok(asked));
                assert!(read(&whole[1..]).is_err() && read(&[]).is_err());
                let mut damaged = whole.clone();
                *damaged.last_mut().unwrap() ^= 1;
                assert_ne!(read(&damaged), Ok(asked));
            }
        }
        let (mut one, mut other) = (Posts::default(), Posts::default());
        for (number, len) in [(1, 30), (2, 40)] {
            one.add(number, len);
        }
        for (number, len) in [(2, 40), (1, 30)] {
            other.add(number, len);
        }
        assert!(one.count == other.count && one.chain != other.chain);
        let asked = Asked { task: Task::Turn, link: 7, number: 3, much: 0 };
        let payload = request(&asked, 0);
        assert_ne!(response(&payload, &asked, &one), response(&payload, &asked, &other));
    }
}
