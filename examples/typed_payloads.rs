//! Calls and messages of fixed-layout values: their bytes are the payload, and received bytes are checked.
//!
//! ```text
//! cargo run --release --example typed_payloads
//! ```
//!
//! The types derive the traits of `zerocopy`, which `ringpost` re-exports. Put such types into a module or
//! crate that both sides use.

use std::error::Error;

use ringpost::zerocopy::byteorder::little_endian::U32;
use ringpost::zerocopy::{Immutable, IntoBytes, TryFromBytes};
use ringpost::{Client, Request, Response, Server, ServiceError, codec};

/// What the service can do. Other bit patterns are refused when a value is read.
#[derive(Debug, Clone, Copy, IntoBytes, TryFromBytes, Immutable)]
#[zerocopy(crate = "ringpost::zerocopy")]
#[repr(u64)]
enum Figure {
    Circle = 1,
    Square = 2,
}

/// A request. The derives make sure that it has no padding.
#[derive(Debug, Clone, Copy, IntoBytes, TryFromBytes, Immutable)]
#[zerocopy(crate = "ringpost::zerocopy")]
#[repr(C)]
struct Question {
    figure: Figure,
    size: f64,
}

/// A response.
#[derive(Debug, Clone, Copy, PartialEq, IntoBytes, TryFromBytes, Immutable)]
#[zerocopy(crate = "ringpost::zerocopy")]
#[repr(C)]
struct Answer {
    area: f64,
    length_of_edge: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");
    let server = Server::builder(&path).service(measure).start()?;
    let mut alice = Client::register(&path, "alice")?;
    let mut bob = Client::register(&path, "bob")?;

    // Values in, values out.
    for figure in [Figure::Circle, Figure::Square] {
        let answer: Answer = alice.call(Question { figure, size: 2.0 }.as_bytes())?.read()?;
        println!("{figure:?} of size 2: area {:.2}, edge {:.2}", answer.area, answer.length_of_edge);
    }

    // The service answers a request of another type with an error, and continues.
    match alice.call(7_u32.as_bytes()) {
        Err(error) => println!("refused: {error}"),
        other => return Err(format!("a wrong request came to {other:?}").into()),
    }

    // Messages: slices of any length can be sent. Types without alignment can be read in place.
    alice.send(bob.key(), Answer { area: 4.0, length_of_edge: 8.0 }.as_bytes())?;
    alice.send(bob.key(), [3, 5, 8].map(U32::new).as_bytes())?;
    alice.send(bob.key(), b"just text")?;

    let message = bob.recv()?;
    println!("bob: {} sends {:?}", message.sender_name(), message.read::<Answer>()?);
    let message = bob.recv()?;
    let numbers: Vec<u32> =
        codec::view::<[U32]>(message.payload())?.iter().map(|number| number.get()).collect();
    println!("bob: {} sends {numbers:?}", message.sender_name());

    // A message of another type is an error only when it is read as a value.
    let message = bob.recv()?;
    match message.read::<Answer>() {
        Err(error) => {
            println!("bob: not an answer ({error}) but {:?}", String::from_utf8_lossy(message.payload()))
        }
        Ok(answer) => return Err(format!("a text came to {answer:?}").into()),
    }

    alice.unregister()?;
    bob.unregister()?;
    server.join_after_shutdown();
    Ok(())
}

/// The service. By `?`, an invalid request is answered with the error.
fn measure(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    let Question { figure, size } = request.read()?;
    let answer = match figure {
        Figure::Circle => Answer {
            area: std::f64::consts::PI * size * size / 4.0,
            length_of_edge: std::f64::consts::PI * size,
        },
        Figure::Square => Answer { area: size * size, length_of_edge: 4.0 * size },
    };
    response.write(answer.as_bytes())
}
