//! Pipelined calls: several outstanding requests, whose responses arrive in the same order.
//!
//! ```text
//! cargo run --release --example pipelined
//! ```
//!
//! Single calls wait for each response before the next request. If requests do not depend on each other,
//! submit several and collect their responses later: then both sides work at the same time, and one fence and
//! one wake serve many requests. The printed times are only a rough indication; use `ringpost-bench` to
//! measure.

use std::error::Error;
use std::time::Instant;

use ringpost::{CallError, Client, Request, Response, Server, ServiceError};

const CALLS: u64 = 50_000;
const AT_ONCE: u64 = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");
    let server = Server::builder(&path).service(square).start()?;
    let mut client = Client::register(&path, "alice")?;

    let began = Instant::now();
    for number in 0..CALLS {
        check(number, &client.call(&number.to_le_bytes())?)?;
    }
    println!("one at a time: {}", pace(began));

    let began = Instant::now();
    for first in (0..CALLS).step_by(AT_ONCE as usize) {
        let numbers = first..(first + AT_ONCE).min(CALLS);
        let requests: Vec<_> = numbers.clone().map(u64::to_le_bytes).collect();
        client.caller().submit_all(&requests)?;
        for number in numbers {
            check(number, &client.caller().response()?)?;
        }
    }
    println!("{AT_ONCE} at a time:  {}", pace(began));

    // These are more than the rings hold. If they are full, `submit` makes room by taking responses into a
    // queue (at most 65,536).
    for number in 0..CALLS {
        client.caller().submit(&number.to_le_bytes())?;
    }
    println!("outstanding:   {}", client.caller().outstanding());
    for number in 0..CALLS {
        check(number, &client.caller().response()?)?;
    }
    match client.caller().response() {
        Err(CallError::NothingOutstanding) => println!("all of them answered, in their order"),
        other => return Err(format!("a response too many: {other:?}").into()),
    }

    client.unregister()?;
    server.join_after_shutdown();
    Ok(())
}

/// The service: returns the square of a number.
fn square(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    let number = request
        .payload()
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| ServiceError::new("send 8 bytes"))?;
    response.write(&(number * number).to_le_bytes())
}

fn check(number: u64, response: &[u8]) -> Result<(), String> {
    if response == (number * number).to_le_bytes() {
        Ok(())
    } else {
        Err(format!("the response to {number} is {response:?}"))
    }
}

fn pace(began: Instant) -> String {
    let time = began.elapsed();
    let each = time.as_nanos() as f64 / CALLS as f64;
    format!("{CALLS} calls in {:.0} ms, {each:.0} ns each", time.as_secs_f64() * 1e3)
}
