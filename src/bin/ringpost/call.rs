//! `ringpost call`: sends one request to another client over a link, or to the server's service, and writes
//! the response to stdout.

use std::path::Path;
use std::time::Instant;

use crate::cli::CallOptions;
use crate::session;
use ringpost::Link;
use ringpost::cli::exit::Outcome;
use ringpost::cli::out;

pub fn run(socket: &Path, options: &CallOptions) -> Outcome {
    let (request, deadline) = session::message(options.message.as_deref(), options.timeout)?;
    let response = session::with_client(socket, &options.name, deadline, |client| {
        let called = match &options.to {
            None => client.call_timeout(&request, deadline).map(|reply| reply.to_vec()),
            Some(to) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let link = Link::options().timeout(left).connect(client.caller(), to);
                let mut link = link.map_err(|error| session::failed_connect(error, to, session::WHO))?;
                link.call_timeout(&request, deadline).map(|reply| reply.to_vec())
            }
        };
        called.map_err(session::failed_call)
    })?;
    out::put(&response)
}
