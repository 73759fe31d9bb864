//! `ringpost send`: sends one message to another client.

use std::path::Path;

use crate::cli::SendOptions;
use crate::session;
use ringpost::cli::exit::Outcome;

pub fn run(socket: &Path, options: &SendOptions) -> Outcome {
    let (message, deadline) = session::message(options.message.as_deref(), options.timeout)?;
    session::with_client(socket, &options.name, &options.wait, deadline, |client, deadline| {
        let key = session::look_up(client, &options.to)?;
        client.send_timeout(key, &message, deadline).map_err(session::failed_send)
    })
}
