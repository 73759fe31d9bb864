//! From registering to unregistering: no command leaves its name behind.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Address, CallError, Client, CloseReason, Key, Name, RecvError, SendError};

use ringpost::cli::exit::{Failure, note};
use ringpost::cli::signals::Interrupt;

/// More than any ring can hold in one block: reading stdin ends here.
pub const MOST: u64 = 1 << 29;

/// How long the rest may take if nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// After so long without an end of standard input, it is said what is waited for.
const SILENCE: Duration = Duration::from_secs(3);

/// The bytes to send, which are the argument's or all of stdin, and until when all must be done. A time-out
/// that is given counts for reading too.
pub fn message(argument: Option<&OsStr>, timeout: Option<Duration>) -> Result<(Vec<u8>, Instant), Failure> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let message = match argument {
        Some(argument) => argument.as_bytes().to_vec(),
        None => stdin_until(deadline)?,
    };
    Ok((message, deadline.unwrap_or_else(|| Instant::now() + DEFAULT_TIMEOUT)))
}

/// All of standard input. It is read on a thread of its own, which may wait for ever: it ends with the
/// process.
fn stdin_until(deadline: Option<Instant>) -> Result<Vec<u8>, Failure> {
    let terminal = io::stdin().is_terminal();
    if terminal {
        note("type the message; Ctrl-D on a new line ends it");
    }
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes);
            let _ = sender.send(read.map(|_| bytes));
        })
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    let in_time = |limit: Option<Instant>| match limit {
        Some(limit) => receiver.recv_timeout(limit.saturating_duration_since(Instant::now())).ok(),
        None => receiver.recv().ok(),
    };
    let patience = Instant::now() + SILENCE;
    let mut read = in_time(Some(deadline.map_or(patience, |deadline| deadline.min(patience))));
    if read.is_none() && deadline.is_none_or(|deadline| deadline > patience) {
        if !terminal {
            note("ringpost: waiting for the end of standard input, which is the message");
        }
        read = in_time(deadline);
    }
    let bytes = match read {
        Some(read) => read.map_err(|error| {
            Failure::failed(format!("cannot read the message from standard input: {error}"))
        })?,
        None => {
            return Err(Failure::failed(
                "standard input, which is the message, did not end in time; --timeout gives it longer, or give \
                 the message as an argument",
            ));
        }
    };
    if bytes.len() as u64 > MOST {
        return Err(Failure::failed(format!(
            "standard input holds more than {MOST} bytes: send it in pieces"
        )));
    }
    Ok(bytes)
}

/// Registers as `name`, runs `body`, and unregisters whatever came of it. A signal ends what `body` waits
/// for. Questions that `body` asks the server are limited by the time that was left at the start.
pub fn with_client<T>(
    socket: &Path,
    name: &Name,
    deadline: Instant,
    body: impl FnOnce(&mut Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let interrupt = Interrupt::install()?;
    let mut client = Client::builder(socket)
        .timeout(deadline.saturating_duration_since(Instant::now()))
        .register(name)
        .map_err(Failure::failed)?;
    let closer = client.closer();
    interrupt.then(move || closer.close());
    let result = body(&mut client);
    interrupt.forget();
    match result {
        Ok(value) => {
            warn(client.unregister());
            Ok(value)
        }
        Err(failure) => {
            // The server may not answer any more: this waits for at most a second.
            drop(client);
            // What a signal ended did not fail for the reason that it gives.
            interrupt.check().and(Err(failure))
        }
    }
}

/// Says that unregistering failed; the name is free all the same once this process has ended.
pub fn warn(left: Result<(), CallError>) {
    let why = match left {
        Ok(()) => return,
        Err(CallError::TimedOut) => "it did not answer in time".to_owned(),
        Err(error) => error.to_string(),
    };
    note(format_args!("ringpost: the server did not confirm that we left: {why}"));
}

/// Why no more messages come, and what to do.
pub fn gone(error: &RecvError) -> String {
    match error {
        RecvError::Disconnected(CloseReason::Shutdown) => "the server shut down: start it again".into(),
        RecvError::Disconnected(CloseReason::Died) => {
            "the server is gone, without a shutdown: start it again".into()
        }
        RecvError::Disconnected(reason @ CloseReason::GaveUp) => reason.to_string(),
        error => error.to_string(),
    }
}

/// The key to send to.
pub fn look_up(client: &mut Client, address: &Address) -> Result<Key, Failure> {
    found(client.look_up(address), address, WHO)
}

/// What shows who is registered.
pub const WHO: &str = "`ringpost ls`";

/// What looking for `address` comes to; `who` shows who is registered.
pub fn found(result: Result<Option<Key>, CallError>, address: &Address, who: &str) -> Result<Key, Failure> {
    result
        .map_err(failed_call)?
        .ok_or_else(|| Failure::failed(format!("no client is registered as {address}: {who} shows who is")))
}

/// A call's failure, with what to do about it.
pub fn failed_call(error: CallError) -> Failure {
    let hint = match &error {
        CallError::TimedOut => LONGER,
        CallError::Disconnected(reason) | CallError::NotSent(reason) => again(*reason),
        _ => "",
    };
    Failure::failed(format!("{error}{hint}"))
}

/// The same for a message.
pub fn failed_send(error: SendError) -> Failure {
    let hint = match &error {
        SendError::TimedOut | SendError::NoAnswer => LONGER,
        SendError::Disconnected(reason) | SendError::NotSent(reason) => again(*reason),
        _ => "",
    };
    Failure::failed(format!("{error}{hint}"))
}

const LONGER: &str = "; --timeout gives it longer";

fn again(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Shutdown | CloseReason::Died => "; start the server again",
        _ => "",
    }
}
