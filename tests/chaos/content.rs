//! The content of requests and messages: each request has one right response, and no two messages are alike.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringpost::{Key, Message, Request, Response, ServiceError};

use super::random::Random;

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
}

/// The words of a service that was told to fail.
pub const REFUSAL: &str = "told to fail";
pub const PANIC: &str = "told to panic";

/// Task, number, how much.
pub const REQUEST: usize = 17;
/// Sender, number, length, check.
pub const MESSAGE: usize = 36;

/// A request of `len` bytes, or of as few as it takes.
pub fn request(task: Task, number: u64, much: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(REQUEST)];
    bytes[0] = task as u8;
    bytes[1..9].copy_from_slice(&number.to_le_bytes());
    bytes[9..17].copy_from_slice(&much.to_le_bytes());
    Random::of(&[number]).fill(&mut bytes[REQUEST..]);
    bytes
}

/// The one right response to it.
pub fn response(request: &[u8], caller: Key) -> Vec<u8> {
    let word = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap_or_default());
    let mut bytes = if request[0] == Task::Much as u8 {
        let mut bytes = vec![0; word(9) as usize];
        Random::of(&[word(1), 7]).fill(&mut bytes);
        bytes
    } else {
        request.iter().rev().map(|byte| byte ^ 0x5a).collect()
    };
    bytes.extend_from_slice(&caller.to_bytes());
    bytes
}

/// The service of the harness's server. It takes notice of each client's numbers, which only grow: a request
/// that is executed twice, or out of its order, is told to the caller.
#[derive(Debug, Default)]
pub struct Turner(Mutex<HashMap<Key, u64>>);

impl ringpost::Service for Turner {
    fn call(&self, request: Request<'_>, answer: &mut Response<'_>) -> Result<(), ServiceError> {
        let payload = request.payload();
        if payload.len() < REQUEST {
            return Err(ServiceError::new(format!("a request of {} bytes", payload.len())));
        }
        let number = u64::from_le_bytes(payload[1..9].try_into().unwrap_or_default());
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(request.peer().key, number);
        if last.is_some_and(|last| number <= last) {
            return Err(ServiceError::new(format!("request {number} came behind {last:?}")));
        }
        match payload[0] {
            1 => {
                let much = u64::from_le_bytes(payload[9..17].try_into().unwrap_or_default());
                std::thread::sleep(Duration::from_micros(much.min(10_000)));
            }
            3 => return Err(ServiceError::new(REFUSAL)),
            4 => std::panic::panic_any(PANIC),
            _ => {}
        }
        // In pieces, so that a draft grows.
        response(payload, request.peer().key).chunks(300).try_for_each(|piece| answer.write(piece))
    }
}

/// The panics that are asked for say nothing on standard error.
pub fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&PANIC) {
            usual(panic);
        }
    }));
}

/// A message of `len` bytes, or of as few as it takes.
pub fn message(from: Key, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(MESSAGE)];
    let whole = bytes.len() as u32;
    bytes[..16].copy_from_slice(&from.to_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..28].copy_from_slice(&whole.to_le_bytes());
    let mut random = Random::of(&[number, u128::from_le_bytes(from.to_bytes()) as u64]);
    let check = random.next() ^ u64::from(whole);
    bytes[28..36].copy_from_slice(&check.to_le_bytes());
    random.fill(&mut bytes[MESSAGE..]);
    bytes
}

/// The number of a message that is whole and from whom it says; else what is wrong with it.
pub fn number_of(message_in: &Message) -> Result<u64, String> {
    let payload = message_in.payload();
    let Some(number) = payload.get(16..24) else {
        return Err(format!("a message of {} bytes", payload.len()));
    };
    let number = u64::from_le_bytes(number.try_into().unwrap_or_default());
    if payload == message(message_in.sender(), number, payload.len()) {
        Ok(number)
    } else {
        Err(format!("message {number} of {} bytes from {} is damaged", payload.len(), message_in.sender()))
    }
}

pub mod tests {
    use super::*;

    pub fn content_can_be_told_from_any_other() {
        let keys = [Key::from_bytes(u128::to_le_bytes(1)), Key::from_bytes(u128::to_le_bytes(2))];
        let all = [message(keys[0], 1, 0), message(keys[0], 2, 0), message(keys[1], 1, 0)];
        assert!(all[0] != all[1] && all[0] != all[2]);
        assert_eq!(all[0].len(), MESSAGE);
        assert_eq!(message(keys[0], 1, 500).len(), 500);
        let asked = request(Task::Turn, 5, 0, 40);
        assert_eq!(response(&asked, keys[0]).len(), 40 + 16);
        assert_ne!(response(&asked, keys[0]), response(&asked, keys[1]));
        assert_eq!(response(&request(Task::Much, 5, 1000, 0), keys[0]).len(), 1016);
    }
}
