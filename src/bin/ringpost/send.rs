//! `ringpost send`: one message to another client.

use std::path::Path;
use std::time::Instant;

use crate::cli::SendOptions;
use crate::common::exit::Outcome;
use crate::session;

pub fn run(socket: &Path, options: &SendOptions) -> Outcome {
    let message = session::message(options.message.as_deref())?;
    // Typing the message takes no time from it.
    let deadline = Instant::now() + options.timeout;
    session::with_client(socket, &options.name, deadline, |client| {
        let key = session::resolve(client, &options.to)?;
        client.send_deadline(key, &message, deadline).map_err(session::failed_send)
    })
}
