//! A server whose service is a closure, and a client that calls it.
//!
//! ```text
//! cargo run --release --example echo_service
//! ```
//!
//! Server and client are in one process here, so that one command shows both. In a program of your own they
//! are in two, and both use `ringpost::default_path()` or a path that they agree on.

use std::error::Error;
use std::time::Duration;

use ringpost::{CallError, Client, Request, Response, Server, ServiceError};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");

    // Every client has a thread of its own in the server, so the closure can run several times at once: it is
    // `Fn`.
    let server = Server::builder(&path)
        .service(|request: Request<'_>, response: &mut Response<'_>| {
            if request.payload().is_empty() {
                return Err(ServiceError::new("there is nothing to echo"));
            }
            // The caller's name comes from the server's registry, not from what the caller sent.
            response.write(request.peer().name.as_bytes())?;
            response.write(b": ")?;
            response.write(request.payload())
        })
        .start()?;

    let mut client = Client::register(&path, "alice")?;
    println!("registered as {}, key {}", client.name(), client.key());

    // One request, one complete response. It stays readable until the client's next operation.
    let response = client.call(b"hello")?;
    println!("response: {}", String::from_utf8_lossy(&response));

    // With a deadline. After a time-out the call may have been executed; its response is discarded.
    let response = client.call_timeout(b"hello again", Duration::from_secs(1))?;
    println!("response: {}", String::from_utf8_lossy(&response));

    // What the service says about its failure reaches the caller, and the next call works as before.
    match client.call(b"") {
        Err(CallError::ServiceFailed(why)) => println!("refused:  {why}"),
        other => return Err(format!("an empty request came to {other:?}").into()),
    }

    client.unregister()?;
    let summary = server.join_after_shutdown();
    println!("the server answered {} calls of {} client", summary.calls, summary.registered);
    Ok(())
}
