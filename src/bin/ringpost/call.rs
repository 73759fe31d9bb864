//! `ringpost call`: sends one request to the server's service and writes the response to stdout.

use std::path::Path;

use crate::cli::CallOptions;
use crate::session;
use ringpost::cli::exit::Outcome;
use ringpost::cli::out;

pub fn run(socket: &Path, options: &CallOptions) -> Outcome {
    let (request, deadline) = session::message(options.message.as_deref(), options.timeout)?;
    let response = session::with_client(socket, &options.name, deadline, |client| {
        client.call_timeout(&request, deadline).map(|reply| reply.to_vec()).map_err(session::failed_call)
    })?;
    out::put(&response)
}
