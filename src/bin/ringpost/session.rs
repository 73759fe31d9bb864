//! From registering to unregistering: no command leaves its name behind.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use ringpost::{Address, Client, Key, Name};

use crate::common::exit::{Failure, note};
use crate::common::signals::Interrupt;

/// More than any block can hold: what is read from stdin ends here, and then does not fit.
const MOST: u64 = 1 << 30;

/// The bytes to send: the argument's, or all of stdin.
pub fn message(argument: Option<&OsStr>) -> Result<Vec<u8>, Failure> {
    if let Some(argument) = argument {
        return Ok(argument.as_bytes().to_vec());
    }
    let stdin = io::stdin().lock();
    if stdin.is_terminal() {
        note("type the message; Ctrl-D on a new line ends it");
    }
    let mut bytes = Vec::new();
    stdin
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::failed(format!("cannot read the message from standard input: {error}")))?;
    if bytes.len() as u64 > MOST {
        return Err(Failure::failed(format!(
            "standard input holds more than {MOST} bytes, which no ring has room for: send it in pieces"
        )));
    }
    Ok(bytes)
}

/// Registers as `name`, runs `body`, and unregisters whatever came of it. A signal ends what `body` waits for.
pub fn with_client<T>(
    socket: &Path,
    name: &Name,
    deadline: Instant,
    body: impl FnOnce(&mut Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let interrupt = Interrupt::install()?;
    let mut client = Client::builder(socket)
        .timeout(deadline.saturating_duration_since(Instant::now()))
        .register(name.as_str())
        .map_err(Failure::failed)?;
    let handle = client.close_handle();
    interrupt.then(move || handle.close());
    let result = body(&mut client);
    let left = client.unregister();
    // What went wrong first says why.
    interrupt.check().or_else(|ended| if result.is_ok() { Ok(()) } else { Err(ended) })?;
    let value = result?;
    if let Err(error) = left {
        note(format_args!("ringpost: it is done, but unregistering failed: {error}"));
    }
    Ok(value)
}

/// The key to send to.
pub fn resolve(client: &mut Client, address: &Address) -> Result<Key, Failure> {
    match address {
        Address::Key(key) => Ok(*key),
        Address::Name(name) => match client.lookup(name) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => Err(unknown(name)),
            Err(error) => Err(Failure::failed(error)),
        },
    }
}

/// No client has this name.
pub fn unknown(name: &Name) -> Failure {
    Failure::failed(format!("no client is registered as {name}: `ringpost ls` shows who is"))
}
