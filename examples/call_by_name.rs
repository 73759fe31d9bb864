//! One client serves, another calls it by name: the server introduces them, and the calls go direct.
//!
//! ```text
//! cargo run --release --example call_by_name
//! ```
//!
//! The clients run in two threads here; in two processes their code would be the same.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use ringpost::{Client, Request, Response, Server, ServiceError};

const PATIENCE: Duration = Duration::from_secs(5);

/// An error that a thread can return.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");
    let _server = Server::builder(&path).start()?;

    thread::scope(|scope| {
        let (done, until) = mpsc::channel();
        let adder = scope.spawn(|| adder(&path, until));
        let alice = scope.spawn(|| alice(&path, done));
        for (name, client) in [("alice", alice), ("adder", adder)] {
            client.join().map_err(|_| format!("{name} panicked"))??;
        }
        Ok(())
    })
}

/// Serves under a name until alice is done.
fn adder(path: &Path, until: Receiver<()>) -> Result<(), Failure> {
    let mut client = Client::register(path, "adder")?;
    // Each link gets a thread of its own. A listener can also be served in one's own threads, with `accept`.
    let serving = client.listen()?.serve(add)?;
    let _ = until.recv();
    println!("adder: {} open links at the end", serving.links().len());
    serving.stop();
    client.unregister()?;
    Ok(())
}

/// Adds the numbers of a request; of a post, which wants no response, it only takes note.
fn add(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    let text = std::str::from_utf8(request.payload())?;
    if !request.wants_response() {
        println!("adder: {} says {text:?}", request.peer().name);
        return Ok(());
    }
    let mut sum = 0_i64;
    for number in text.split('+') {
        // Only the text of this error reaches the caller.
        sum += number.trim().parse::<i64>()?;
    }
    response.write(&sum.to_string())
}

/// Calls by name.
fn alice(path: &Path, done: Sender<()>) -> Result<(), Failure> {
    let mut client = Client::register(path, "alice")?;
    client.wait_for("adder", PATIENCE)?;
    let mut link = loop {
        match client.connect("adder") {
            Ok(link) => break link,
            // It is registered, and will listen soon.
            Err(ringpost::ConnectError::NotServing) => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error.into()),
        }
    };
    let peer = link.peer();
    println!("alice: connected to {}, process {}", peer.name, peer.pid);

    let sum = link.call_timeout("6 + 7 + 29", PATIENCE)?;
    println!("alice: 6 + 7 + 29 = {}", String::from_utf8_lossy(&sum));
    match link.call_timeout("six", PATIENCE) {
        Err(error) => println!("alice: {error}"),
        Ok(reply) => println!("alice: unexpectedly {reply:?}"),
    }

    link.post("thank you")?; // one way, in order with the calls
    link.submit_all(["1 + 1", "2 + 2", "3 + 3"])?; // all are on their way before the first response
    for _ in 0..3 {
        println!("alice: {}", String::from_utf8_lossy(&link.response_timeout(PATIENCE)?));
    }
    drop(link);
    let _ = done.send(());
    client.unregister()?;
    Ok(())
}
