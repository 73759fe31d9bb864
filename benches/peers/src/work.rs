//! The work that every peer does: a request with a number at both ends, and its response, the same bytes with
//! the first number inverted. The client compares every byte of every response, so that nothing can answer
//! without having read.

use crate::failure::{Failure, Outcome};

/// The number of the request after which the server ends.
const LAST: u64 = u64::MAX;

/// Bytes of a number.
pub const NUMBER: usize = 8;

/// The client's requests and what must come back.
#[derive(Debug)]
pub struct Work {
    request: Vec<u8>,
    response: Vec<u8>,
    number: u64,
}

impl Work {
    pub fn new(size: usize) -> Work {
        let filling: Vec<u8> = (0..size.max(2 * NUMBER)).map(|at| (at * 7 + 1) as u8).collect();
        Work { request: filling.clone(), response: filling, number: 0 }
    }

    /// The next request.
    #[inline]
    pub fn next(&mut self) -> &[u8] {
        self.number += 1;
        self.set(self.number)
    }

    /// From here on the next request is the last: the server answers it and ends.
    pub fn finish(&mut self) {
        self.number = LAST - 1;
    }

    #[inline]
    fn set(&mut self, number: u64) -> &[u8] {
        let bytes = number.to_le_bytes();
        let tail = self.request.len() - NUMBER;
        self.request[..NUMBER].copy_from_slice(&bytes);
        self.request[tail..].copy_from_slice(&bytes);
        self.response[..NUMBER].copy_from_slice(&(!number).to_le_bytes());
        self.response[tail..].copy_from_slice(&bytes);
        &self.request
    }

    /// Whether this is the response to the request given out last.
    #[inline]
    pub fn check(&self, response: &[u8]) -> Outcome {
        if response == self.response { Ok(()) } else { Err(self.wrong(response)) }
    }

    #[cold]
    fn wrong(&self, response: &[u8]) -> Failure {
        Failure::new(if response.len() == self.response.len() {
            format!("the response to request {} holds wrong bytes", self.number)
        } else {
            let (came, due) = (response.len(), self.response.len());
            format!("the response to request {} has {came} bytes, not {due}", self.number)
        })
    }
}

/// The first bytes of the response to a request, and whether it was the last request. The other bytes stay as
/// they are.
#[inline]
pub fn answer_to(request: &[u8]) -> Outcome<([u8; NUMBER], bool)> {
    match request.first_chunk::<NUMBER>() {
        Some(first) => {
            let number = u64::from_le_bytes(*first);
            Ok(((!number).to_le_bytes(), number == LAST))
        }
        None => Err(Failure::new(format!("a request of {} bytes, which is too short", request.len()))),
    }
}

/// Makes a request its response, where it lies. Whether it was the last.
#[inline]
pub fn answer_in_place(message: &mut [u8]) -> Outcome<bool> {
    let (first, last) = answer_to(message)?;
    message[..NUMBER].copy_from_slice(&first);
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_request_passes() {
        let mut work = Work::new(64);
        let mut message = work.next().to_vec();
        assert_eq!(message.len(), 64);
        assert!(work.check(&message).is_err(), "an echo is no answer");
        assert_eq!(answer_in_place(&mut message), Ok(false));
        assert_eq!(work.check(&message), Ok(()));
        for at in 0..message.len() {
            let mut wrong = message.clone();
            wrong[at] ^= 1;
            assert!(work.check(&wrong).is_err(), "byte {at}");
        }
        assert!(work.check(&message[..63]).is_err());
        work.next();
        assert!(work.check(&message).is_err(), "an answer to the request before");
    }

    #[test]
    fn the_last_request_is_known() {
        let mut work = Work::new(64);
        work.next();
        work.finish();
        let mut message = work.next().to_vec();
        assert_eq!(answer_in_place(&mut message), Ok(true));
        assert_eq!(work.check(&message), Ok(()));
    }

    #[test]
    fn a_short_request_is_refused() {
        assert!(answer_to(b"seven b").is_err());
    }
}
