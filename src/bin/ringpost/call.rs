//! `ringpost call`: sends one request to another client over a link, or to the server's service, and writes
//! the response to stdout.

use std::path::Path;
use std::time::Instant;

use crate::cli::CallOptions;
use crate::session;
use ringpost::Link;
use ringpost::cli::exit::Outcome;
use ringpost::cli::out;

/// Writes the response byte for byte, but on a terminal as text that ends its line.
pub fn run(socket: &Path, options: &CallOptions) -> Outcome {
    let (request, deadline) = session::message(options.message.as_deref(), options.timeout)?;
    let response =
        session::with_client(socket, &options.name, &options.wait, deadline, |client, deadline| {
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
    match out::terminal_width() {
        Some(_) => out::put(shown(&response).as_bytes()),
        None => out::put(&response),
    }
}

/// The response as text for a terminal: lines and tabs are kept, what would control the terminal is escaped,
/// and the last line is ended.
fn shown(response: &[u8]) -> String {
    let line = |line: &[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let parts: Vec<String> = line.split(|byte| *byte == b'\t').map(out::readable).collect();
        parts.join("\t") + "\n"
    };
    response.split_inclusive(|byte| *byte == b'\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_whole_lines_without_what_controls_it() {
        for (response, text) in [
            (&b"pong"[..], "pong\n"),
            (b"pong\n", "pong\n"),
            (b"", ""),
            (b"a\tb\n\nc\x1b[2J\xff", "a\tb\n\nc\\u{1b}[2J\\xff\n"),
        ] {
            assert_eq!(shown(response), text);
        }
    }
}
