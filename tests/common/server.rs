//! A server that runs as a role, and the functions to control it.

use super::Place;
use super::role::{Role, Stage, numbers, say, setting};
use ringpost::{Request, Response, Server, ServerBuilder, ServiceError};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

// ---- the role's side

/// The server described by the role's settings: `PATH`, and optional others.
pub fn as_set() -> ServerBuilder {
    let mut builder = Server::builder(setting::<PathBuf>("PATH").expect("a socket"));
    if let Some(wait) = setting("WAIT") {
        builder = builder.wait(wait);
    }
    if let Some(bytes) = setting("RING") {
        builder = builder.ring_size(bytes);
    }
    if let Some(clients) = setting("CLIENTS") {
        builder = builder.max_clients(clients);
    }
    if let Some(milliseconds) = setting("GRACE") {
        builder = builder.grace(Duration::from_millis(milliseconds));
    }
    if let Some(uid) = setting("ALLOW") {
        builder = builder.allow_user(uid);
    }
    builder
}

/// A service that echoes. A call with "hang" never returns.
pub fn echo_or_hang(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    if request.payload() == b"hang" {
        loop {
            std::thread::park();
        }
    }
    response.write(request.payload())
}

/// Serves until it is told to shut down, then prints the totals.
pub fn serve(builder: ServerBuilder, stage: &Stage) {
    let server = builder.start().unwrap();
    say("ready");
    stage.await_order("shutdown");
    end(server);
}

/// Shuts down and prints the totals.
pub fn end(server: Server) {
    let sums = server.join_after_shutdown();
    say(format_args!(
        "summary registered={} refused={} violations={} calls={} messages={} abandoned={}",
        sums.registered, sums.refused, sums.violations, sums.calls, sums.messages, sums.abandoned
    ));
}

// ---- the parent's side

/// Starts the role "server", and waits until it serves.
pub fn start_server(place: &Place, settings: &[(&str, &str)]) -> Role {
    start_server_as(place, settings, |_| {})
}

/// Like [`start_server`], after `set` has changed the command.
pub fn start_server_as(place: &Place, settings: &[(&str, &str)], set: impl FnOnce(&mut Command)) -> Role {
    let all = [&[("PATH", place.path.to_str().unwrap())], settings].concat();
    let mut server = Role::start_as("server", &all, set).unwrap();
    server.hear("ready");
    server
}

/// Shuts the server down, and returns its totals.
pub fn shut_down(mut server: Role) -> HashMap<String, u64> {
    server.tell("shutdown");
    let sums = numbers(&server.hear("summary"));
    assert!(server.end().success());
    sums
}
