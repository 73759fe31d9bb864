//! Two clients of one server: register, find each other, send by key, receive, call, unregister.
//!
//! ```text
//! cargo run --release --example two_clients
//! ```
//!
//! The clients run in two threads here; in two processes their code would be the same.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Client, Key, Name, Server};

const PATIENCE: Duration = Duration::from_secs(5);

/// An error that a thread can return.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");
    let server = Server::builder(&path).start()?; // without a service of its own it echoes

    thread::scope(|scope| {
        let bob = scope.spawn(|| bob(&path));
        let alice = scope.spawn(|| alice(&path));
        for (name, client) in [("alice", alice), ("bob", bob)] {
            client.join().map_err(|_| format!("{name} panicked"))??;
        }
        Ok::<_, Failure>(())
    })?;

    let summary = server.join_after_shutdown();
    println!("the server forwarded {} messages and answered {} calls", summary.messages, summary.calls);
    Ok(())
}

/// Asks bob by message, and the server's service by call.
fn alice(path: &Path) -> Result<(), Failure> {
    let mut client = Client::register(path, "alice")?;

    let bob = find(&mut client, "bob")?;
    println!("alice: bob's key is {bob}");
    // `Ok` means that the message is in bob's inbox. If that is full, this waits for room.
    client.send_timeout(bob, b"What is 6 * 7?", PATIENCE)?;

    // Messages and responses arrive in separate rings, so a call does not affect the inbox.
    let response = client.call(b"ping")?;
    println!("alice: the service answers {:?}", String::from_utf8_lossy(&response));

    let message = client.recv_timeout(PATIENCE)?;
    println!("alice: {} says {:?}", message.sender_name(), String::from_utf8_lossy(message.payload()));

    client.unregister()?;
    Ok(())
}

/// Answers one message.
fn bob(path: &Path) -> Result<(), Failure> {
    let mut client = Client::register(path, "bob")?;
    let message = client.recv_timeout(PATIENCE)?;
    println!("bob: {} asks {:?}", message.sender_name(), String::from_utf8_lossy(message.payload()));
    // The server vouches for the sender's key, so the answer goes to the client that asked.
    client.send_timeout(message.sender(), b"42", PATIENCE)?;
    client.unregister()?;
    Ok(())
}

/// The key of the client with this name, once there is one.
fn find(client: &mut Client, name: &str) -> Result<Key, Failure> {
    let name = Name::try_from(name)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.look_up(name)? {
            Some(key) => return Ok(key),
            None if Instant::now() >= deadline => return Err(format!("{name} did not register").into()),
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}
