//! A server whose service is a closure, and a client that calls it.
//!
//! ```text
//! cargo run --release --example echo_service
//! ```
//!
//! Server and client are in one process here, so that one command shows both. Usually they are separate
//! programs, which both use `ringpost::default_path()` or agree on a path.

use std::error::Error;
use std::time::Duration;

use ringpost::{CallError, Client, Request, Response, Server, ServiceError};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");

    // Each client has its own thread in the server. Several threads may run the closure at once, so it is
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

    // A call with a time-out. After a time-out the call may have been executed, but its response is
    // discarded.
    let response = client.call_timeout(b"hello again", Duration::from_secs(1))?;
    println!("response: {}", String::from_utf8_lossy(&response));

    // The caller gets the text of a service's failure, and the next call works as before.
    match client.call(b"") {
        Err(CallError::ServiceFailed(why)) => println!("refused:  {why}"),
        other => return Err(format!("an empty request came to {other:?}").into()),
    }

    client.unregister()?;
    let summary = server.join_after_shutdown();
    println!("the server answered {} calls of {} client", summary.calls, summary.registered);
    Ok(())
}
