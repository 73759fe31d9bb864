//! Makes and times calls, singly and in blocks, and checks their responses.

use std::iter::repeat_n;
use std::time::{Duration, Instant};

use ringpost::{CallError, Caller, Client, Link, Reply};

use ringpost::cli::exit::Failure;

/// The untimed and the timed round trips of a block.
pub const WARM: u32 = 200;
pub const IN_BLOCK: u32 = 1_000;

/// For calls larger than this, a block has fewer calls, but at least [`FEWEST`].
const LARGE: usize = 16 * 1024;
const FEWEST: u32 = 50;

/// The number of timed calls of `size` bytes in a block.
pub fn calls_in_block(size: usize) -> u32 {
    let calls = IN_BLOCK as usize * LARGE / size.max(LARGE);
    u32::try_from(calls).unwrap_or(IN_BLOCK).max(FEWEST)
}

/// Makes calls: to the server's service, or over a link.
pub trait Calls {
    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>, CallError>;

    /// Submits the same request so many times.
    fn submit(&mut self, request: &[u8], times: u32) -> Result<(), CallError>;

    /// The next response to a submitted request.
    fn response(&mut self) -> Result<Reply<'_>, CallError>;
}

impl Calls for Client {
    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>, CallError> {
        Client::call(self, request)
    }

    fn submit(&mut self, request: &[u8], times: u32) -> Result<(), CallError> {
        Calls::submit(self.caller(), request, times)
    }

    fn response(&mut self) -> Result<Reply<'_>, CallError> {
        self.caller().response()
    }
}

impl Calls for Caller {
    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>, CallError> {
        Caller::call(self, request)
    }

    fn submit(&mut self, request: &[u8], times: u32) -> Result<(), CallError> {
        match times {
            1 => Caller::submit(self, request),
            _ => self.submit_all(repeat_n(request, times as usize)),
        }
    }

    fn response(&mut self) -> Result<Reply<'_>, CallError> {
        Caller::response(self)
    }
}

impl Calls for Link {
    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>, CallError> {
        Link::call(self, request)
    }

    fn submit(&mut self, request: &[u8], times: u32) -> Result<(), CallError> {
        match times {
            1 => Link::submit(self, request),
            _ => self.submit_all(repeat_n(request, times as usize)),
        }
    }

    fn response(&mut self) -> Result<Reply<'_>, CallError> {
        Link::response(self)
    }
}

/// Makes `warm` calls and checks their responses byte by byte, then times `count` calls as a whole. Returns
/// the nanoseconds of one.
pub fn call_block(
    client: &mut impl Calls,
    requests: &mut Requests,
    warm: u32,
    count: u32,
) -> Result<f64, Failure> {
    for _ in 0..warm {
        verified_call(client, requests)?;
    }
    let request = requests.next();
    let start = Instant::now();
    for _ in 0..count {
        let response = client.call(request).map_err(Failure::failed)?;
        if response.len() != request.len() {
            return Err(wrong(request, &response));
        }
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

/// Makes a call and returns its time. Checks the response after that.
pub fn verified_call(client: &mut impl Calls, requests: &mut Requests) -> Result<Duration, Failure> {
    let request = requests.next();
    let start = Instant::now();
    let response = client.call(request).map_err(Failure::failed)?;
    let time = start.elapsed();
    if response == request { Ok(time) } else { Err(wrong(request, &response)) }
}

/// Makes `calls` calls with `window` of them outstanding, and returns the nanoseconds per call. Each step
/// collects a quarter of the window and then submits as many new calls together.
pub fn window_block(
    client: &mut impl Calls,
    request: &[u8],
    window: u32,
    calls: u32,
) -> Result<f64, Failure> {
    let step = (window / 4).max(1);
    let start = Instant::now();
    let mut submitted = window.min(calls);
    client.submit(request, submitted).map_err(Failure::failed)?;
    let mut collected = 0;
    while collected < calls {
        for _ in 0..step.min(calls - collected) {
            let response = client.response().map_err(Failure::failed)?;
            if response.len() != request.len() {
                return Err(wrong(request, &response));
            }
            collected += 1;
        }
        let more = step.min(calls - submitted);
        if more > 0 {
            client.submit(request, more).map_err(Failure::failed)?;
        }
        submitted += more;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(calls))
}

pub fn wrong(request: &[u8], response: &[u8]) -> Failure {
    Failure::failed(format!(
        "a response of {} bytes differs from its request of {} bytes, so the measurement is invalid",
        response.len(),
        request.len()
    ))
}

/// Requests of one size, each different from the one before if the size allows.
pub struct Requests {
    bytes: Vec<u8>,
    number: u64,
}

impl Requests {
    pub fn new(size: usize) -> Requests {
        Requests { bytes: (0..size).map(|index| (index % 251) as u8).collect(), number: 0 }
    }

    pub fn next(&mut self) -> &[u8] {
        self.number += 1;
        for (byte, new) in self.bytes.iter_mut().zip(self.number.to_le_bytes()) {
            *byte = new;
        }
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_large_calls_have_fewer_of_them() {
        assert_eq!(calls_in_block(0), IN_BLOCK);
        assert_eq!(calls_in_block(LARGE), IN_BLOCK);
        assert_eq!(calls_in_block(4 * LARGE), IN_BLOCK / 4);
        assert_eq!(calls_in_block(1 << 29), FEWEST);
    }

    #[test]
    fn successive_requests_differ() {
        let mut none = Requests::new(0);
        assert_eq!(none.next(), b"");
        let mut one = Requests::new(1);
        assert_eq!((one.next().to_vec(), one.next().to_vec()), (vec![1], vec![2]));
        let mut some = Requests::new(48);
        let first = some.next().to_vec();
        assert_eq!(first.len(), 48);
        assert_ne!(some.next(), first);
    }
}
