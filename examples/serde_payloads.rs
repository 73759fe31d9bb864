//! Calls and messages of any type that serde knows: strings, vectors, maps, enums with fields.
//!
//! ```text
//! cargo run --release --features serde --example serde_payloads
//! ```
//!
//! Values are encoded by `postcard`, whose format is not self-describing: both sides must use the same types.
//! Put them into a module or crate that both use.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Mutex;

use ringpost::{CallError, Client, Postcard, Request, Response, Server, ServiceError};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Command {
    Put { key: String, value: String },
    Get { key: String },
    Keys,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    /// The previous or current value.
    Value(Option<String>),
    Keys(Vec<String>),
}

/// The service's data. It needs a lock because each client has its own thread in the server.
#[derive(Default)]
struct Store(Mutex<BTreeMap<String, String>>);

impl ringpost::Service for Store {
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        let Postcard(command) = request.read()?;
        let mut entries = self.0.lock().map_err(|_| ServiceError::new("the store is broken"))?;
        response.write(Postcard(match command {
            Command::Put { key, value } => Answer::Value(entries.insert(key, value)),
            Command::Get { key } => Answer::Value(entries.get(&key).cloned()),
            Command::Keys => Answer::Keys(entries.keys().cloned().collect()),
        }))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");
    let server = Server::builder(&path).service_with(Store::default()).start()?;
    let mut alice = Client::register(&path, "alice")?;
    let mut bob = Client::register(&path, "bob")?;

    for (key, value) in [("colour", "blue"), ("shape", "round"), ("colour", "green")] {
        let put = Command::Put { key: key.into(), value: value.into() };
        let Postcard(before): Postcard<Answer> = alice.call(Postcard(put))?.read()?;
        println!("alice puts {key} = {value}; before: {before:?}");
    }
    let Postcard(value): Postcard<Answer> =
        bob.call(Postcard(Command::Get { key: "colour".into() }))?.read()?;
    let Postcard(keys): Postcard<Answer> = bob.call(Postcard(Command::Keys))?.read()?;
    println!("bob gets {value:?}, and of all keys {keys:?}");

    // The service refuses a payload that is not a command, and gives the reason.
    match alice.call(Postcard(u64::MAX)) {
        Err(error) => println!("refused: {error}"),
        other => return Err(format!("a wrong request came to {other:?}").into()),
    }
    // A payload that is too large is refused locally, before it is fully encoded.
    let key = "k".repeat(alice.limits().max_call);
    match alice.call(Postcard(Command::Get { key })) {
        Err(CallError::Encode(error)) => println!("not sent: {error}"),
        other => return Err(format!("a large request came to {other:?}").into()),
    }

    alice.send(bob.key(), Postcard(("look at", ["colour", "shape"].as_slice())))?;
    let message = bob.recv()?;
    let Postcard((what, keys)): Postcard<(&str, Vec<&str>)> = message.read()?; // borrowed from the message
    println!("bob: {} says {what} {}", message.sender_name(), keys.join(" and "));

    alice.unregister()?;
    bob.unregister()?;
    server.join_after_shutdown();
    Ok(())
}
