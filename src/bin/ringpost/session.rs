//! What the commands share: reading the message, registering for one operation, and error texts.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{
    Address, CallError, Caller, Client, CloseReason, ConnectError, Inbox, Key, Name, Peer, PublishError,
    Reconnect, RecvError, SampleError, SendError, SubscribeError,
};

use crate::cli::WaitOption;
use crate::patience::patiently;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::signals::Interrupt;

/// The most bytes that are read from stdin: more than fit into a block of any ring.
pub const MOST: u64 = 1 << 29;

/// The default time-out for everything after reading stdin.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// After so long without an end of standard input, it is said what is waited for.
const SILENCE: Duration = Duration::from_secs(3);

/// Returns the message (the argument, or all of stdin) and the deadline of the command, if it has a time-out,
/// which also limits the reading.
pub fn message(
    argument: Option<&OsStr>,
    timeout: Option<Duration>,
) -> Result<(Vec<u8>, Option<Instant>), Failure> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let message = match argument {
        Some(argument) => argument.as_bytes().to_vec(),
        None => stdin_until(deadline, "message")?,
    };
    Ok((message, deadline))
}

/// Reads all of standard input, on a thread that may block until the process ends. For people it is the
/// `what`, for example the message.
pub fn stdin_until(deadline: Option<Instant>, what: &str) -> Result<Vec<u8>, Failure> {
    let terminal = io::stdin().is_terminal();
    if terminal {
        note(format_args!("type the {what}; end it with Ctrl-D on a new line"));
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
            note(format_args!("ringpost: waiting for the end of standard input to send it as the {what}"));
        }
        read = in_time(deadline);
    }
    let bytes = match read {
        Some(read) => read.map_err(|error| {
            Failure::failed(format!("cannot read the {what} from standard input: {error}"))
        })?,
        None => {
            return Err(Failure::failed(format!(
                "standard input did not end in time, so the {what} is incomplete; raise --timeout, or give the {what} \
                 as an argument"
            )));
        }
    };
    if bytes.len() as u64 > MOST {
        return Err(Failure::failed(format!("standard input has more than {MOST} bytes: send it in parts")));
    }
    Ok(bytes)
}

/// Registers as `name`, runs `body` with the deadline, and unregisters even if `body` failed. Without a
/// deadline of the command, there is one of five seconds from the last attempt to register. A signal ends the
/// waits in `body`. Questions that `body` asks the server are limited by the time that was left at the start.
pub fn with_client<T>(
    socket: &Path,
    name: &Name,
    wait: &WaitOption,
    deadline: Option<Instant>,
    body: impl FnOnce(&mut Client, Instant) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let interrupt = Interrupt::install()?;
    let mut until = Instant::now();
    let mut client = patiently(socket, wait, deadline, Some(&interrupt), |_| {
        until = deadline.unwrap_or_else(|| Instant::now() + DEFAULT_TIMEOUT);
        Client::builder(socket).timeout(until.saturating_duration_since(Instant::now())).register(name)
    })?;
    let closer = client.closer();
    interrupt.then(move || closer.close());
    let result = body(&mut client, until);
    interrupt.forget();
    match result {
        Ok(value) => {
            warn(client.unregister());
            Ok(value)
        }
        Err(failure) => {
            // If the server does not answer, this waits for at most a second.
            drop(client);
            // After a signal, report that instead of the failure it caused.
            interrupt.check().and(Err(failure))
        }
    }
}

/// Registers a client that stays. With `reconnect` it registers again when its server has ended.
pub fn register(
    socket: &Path,
    name: &Name,
    wait: &WaitOption,
    deadline: Option<Instant>,
    reconnect: Option<Reconnect>,
    interrupt: &Interrupt,
) -> Result<Client, Failure> {
    let mut settings = Client::builder(socket);
    if let Some(reconnect) = reconnect {
        settings = settings.reconnect(reconnect);
    }
    patiently(socket, wait, deadline, Some(interrupt), |left| settings.clone().timeout(left).register(name))
}

/// Unregisters. If there is no server now, because a client that registers again (`again`) waits for the next
/// one, that is no failure.
pub fn left(caller: Caller, again: bool) -> Result<(), CallError> {
    match caller.unregister() {
        Err(CallError::NotSent(_)) if again => Ok(()),
        left => left,
    }
}

/// Warns if unregistering failed. The server frees the name anyway when this process ends.
pub fn warn(left: Result<(), CallError>) {
    let why = match left {
        Ok(()) => return,
        Err(CallError::TimedOut) => "it did not answer in time".to_owned(),
        Err(error) => error.to_string(),
    };
    note(format_args!("ringpost: the server did not confirm that this client left: {why}"));
}

/// Starts a thread, which nobody joins.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Outcome {
    let started = thread::Builder::new().name(name.into()).spawn(body);
    started.map(drop).map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))
}

/// Waits for the end of the registration, and says why it ended. Messages that come meanwhile are dropped;
/// the first one is said, with the reason `because`. If `again`, the client registers with the next server.
pub fn attend(mut inbox: Inbox, again: bool, because: &str) -> String {
    let mut said = false;
    loop {
        match inbox.recv() {
            Ok(message) => {
                if !std::mem::replace(&mut said, true) {
                    note(format_args!(
                        "ringpost: {} sent a message: messages to this client are dropped, {because}",
                        message.sender_name()
                    ));
                }
            }
            // Reported once. The next call registers again, or gives up.
            Err(RecvError::Disconnected(CloseReason::Died | CloseReason::Shutdown)) if again => {}
            Err(error) => return gone(&error),
        }
    }
}

/// Why no more messages can arrive, and what to do about it.
pub fn gone(error: &RecvError) -> String {
    match error {
        RecvError::Disconnected(CloseReason::Shutdown) => "the server shut down: start it again".into(),
        RecvError::Disconnected(CloseReason::Died) => "the server died: start it again".into(),
        RecvError::Disconnected(reason @ CloseReason::GaveUp) => reason.to_string(),
        error => error.to_string(),
    }
}

/// Looks up the key of `address`.
pub fn look_up(client: &mut Client, address: &Address) -> Result<Key, Failure> {
    found(client.look_up(address), address, WHO)
}

/// The command that lists the registered clients, for error texts.
pub const WHO: &str = "`ringpost ls`";

/// Turns the result of looking up `address` into a key or a failure that refers to the command `who`.
pub fn found(result: Result<Option<Key>, CallError>, address: &Address, who: &str) -> Result<Key, Failure> {
    result.map_err(failed_call)?.ok_or_else(|| {
        Failure::failed(format!("no client is registered as {address}: {who} lists the clients"))
    })
}

/// The failure of a call, with a hint what to do.
pub fn failed_call(error: CallError) -> Failure {
    let hint = match &error {
        CallError::TimedOut => LONGER,
        CallError::Disconnected(reason) | CallError::NotSent(reason) => again(*reason),
        _ => "",
    };
    Failure::failed(format!("{error}{hint}"))
}

/// The failure of a message, with a hint what to do.
pub fn failed_send(error: SendError) -> Failure {
    let hint = match &error {
        SendError::TimedOut | SendError::NoAnswer => LONGER,
        SendError::Disconnected(reason) | SendError::NotSent(reason) => again(*reason),
        _ => "",
    };
    Failure::failed(format!("{error}{hint}"))
}

/// The failure of connecting to `to`, with a hint what to do. The command `who` lists the clients.
pub fn failed_connect(error: ConnectError, to: &Address, who: &str) -> Failure {
    Failure::failed(match &error {
        ConnectError::NotFound => format!("no client is registered as {to}: {who} lists the clients"),
        ConnectError::NotServing => {
            format!("{to} answers no calls: a client has to serve them, as `ringpost serve` does")
        }
        ConnectError::TimedOut => format!("{error}{LONGER}"),
        _ => error.to_string(),
    })
}

/// The failure of publishing a topic or a sample, with a hint what to do.
pub fn failed_publish(error: PublishError) -> Failure {
    Failure::failed(match &error {
        PublishError::TooLarge { len, max } => format!(
            "a sample of {len} bytes is larger than the maximum of {max}: `ringpost publish --ring-size` takes larger ones, up \
             to a quarter of the ring"
        ),
        PublishError::Disconnected(reason) => format!("{error}{}", again(*reason)),
        _ => error.to_string(),
    })
}

/// The failure of subscribing, with a hint what to do.
pub fn failed_subscribe(error: SubscribeError) -> Failure {
    Failure::failed(match &error {
        SubscribeError::NotReliable { publisher } => not_reliable(publisher),
        SubscribeError::TimedOut => {
            "not subscribed in time: the server, or a publisher, may be stopped or overloaded; raise --timeout".into()
        }
        SubscribeError::Disconnected(reason) => format!("{error}{}", again(*reason)),
        _ => error.to_string(),
    })
}

/// Why a publisher is not read to its end, or why no sample comes any more.
pub fn failed_sample(error: &SampleError) -> String {
    match error {
        SampleError::Disconnected(reason) => gone(&RecvError::Disconnected(*reason)),
        SampleError::NotReliable { publisher } => not_reliable(publisher),
        SampleError::Evicted { publisher } => format!(
            "{} has evicted this subscription, which did not read for too long: nothing more comes from it",
            publisher.name
        ),
        _ => error.to_string(),
    }
}

fn not_reliable(publisher: &Peer) -> String {
    format!(
        "{} does not let this user subscribe with --policy reliable: it has to publish with --reliable; if it does, it has \
         evicted this user before, so wait before you subscribe again",
        publisher.name
    )
}

const LONGER: &str = "; raise --timeout";

fn again(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Shutdown | CloseReason::Died => "; start the server again",
        _ => "",
    }
}
