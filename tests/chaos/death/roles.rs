//! The processes that are killed: a server, and a client that waits in one way or another.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringpost::testing::Segment;
use ringpost::{Caller, Client, Key, RegisterError, Request, Response, SendError, Server, WaitStrategy};
use serde::Serialize;

use crate::history::{Gate, Kind, Op, Outcome, Writer};
use crate::server::no_core;
use ringpost::cli::child::die_with_parent;
use ringpost::cli::exit::{Failure, Outcome as Ended};

/// What a client is at when it, or its server, dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum State {
    /// Asleep, waiting for a message.
    Parked,
    /// Spinning, waiting for the response to a call.
    Spinning,
    /// Calling with many calls on their way.
    Burst,
    /// Waiting for the server to answer a registration.
    Registering,
    /// Waiting for the server to confirm that it has left.
    Unregistering,
    /// Waiting for room in a full inbox.
    Inbox,
}

pub const STATES: [State; 6] =
    [State::Parked, State::Spinning, State::Burst, State::Registering, State::Unregistering, State::Inbox];

impl State {
    pub fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether the server stands still while the client comes into this state.
    pub fn needs_a_still_server(self) -> bool {
        matches!(self, State::Registering | State::Unregistering)
    }

    /// Whether the client sleeps in this state.
    pub fn sleeps(self) -> bool {
        !matches!(self, State::Spinning | State::Burst)
    }
}

/// Longer than any trial takes.
const LONG: Duration = Duration::from_secs(600);
/// Calls on their way in a burst.
const BURST: usize = 64;

#[derive(Debug, Args)]
pub struct ServerOptions {
    socket: PathBuf,
}

/// Echoes; a request of eight bytes is answered so many milliseconds later.
pub fn serve(options: &ServerOptions) -> Ended {
    die_with_parent();
    no_core();
    let service = |request: Request<'_>, response: &mut Response<'_>| {
        if let Ok(time) = <[u8; 8]>::try_from(request.payload()) {
            std::thread::sleep(Duration::from_millis(u64::from_le_bytes(time)));
        }
        response.write(request.payload())
    };
    let server = Server::builder(&options.socket)
        .ring_size(16_384)
        .max_clients(4096)
        .service(service)
        .start()
        .map_err(Failure::failed)?;
    server.join();
    Ok(())
}

#[derive(Debug, Args)]
pub struct ClientOptions {
    socket: PathBuf,
    state: State,
    name: String,
    /// Milliseconds that a call takes.
    stay: u64,
}

/// Comes into the state whenever the gate is opened, and tells when that ended.
pub fn client(options: &ClientOptions) -> Ended {
    die_with_parent();
    no_core();
    let segment = Segment::open(io::stdin())
        .map_err(|error| Failure::failed(format!("standard input is not a history: {error}")))?;
    let history = Writer::new(segment);
    loop {
        let gate = history.gate();
        if let Gate::Open(_) = gate {
            once(options, &history, gate)?;
        }
        tell(&history, Kind::Idle, Outcome::Ok);
        history.wait_for_gate(gate);
    }
}

fn tell(history: &Writer, kind: Kind, outcome: Outcome) {
    history.put(kind, 0, Op::None, outcome, [0; 6]);
}

fn once(options: &ClientOptions, history: &Writer, gate: Gate) -> Ended {
    let wait = if options.state == State::Spinning { WaitStrategy::Spin } else { WaitStrategy::Adaptive };
    let builder = Client::builder(&options.socket).wait(wait).timeout(LONG);
    if options.state == State::Registering {
        tell(history, Kind::Begin, Outcome::Ok);
        let registered = builder.register(&options.name);
        tell(history, Kind::End, Outcome::Disconnected);
        return match registered {
            Ok(_) | Err(RegisterError::NoServer { .. } | RegisterError::System { .. }) => Ok(()),
            Err(error) => Err(Failure::failed(error)),
        };
    }
    let client = builder.register(&options.name).map_err(Failure::failed)?;
    let key = client.key();
    let (mut caller, mut inbox) = client.split();
    match options.state {
        State::Parked => {
            tell(history, Kind::Begin, Outcome::Ok);
            while inbox.recv().is_ok() {}
        }
        State::Spinning => {
            tell(history, Kind::Begin, Outcome::Ok);
            while caller.call(&options.stay.to_le_bytes()).is_ok() {}
        }
        State::Burst => burst(&mut caller, history),
        State::Unregistering => {
            tell(history, Kind::Idle, Outcome::Ok);
            history.wait_for_gate(gate);
            tell(history, Kind::Begin, Outcome::Ok);
            let _ = caller.unregister();
            tell(history, Kind::End, Outcome::Disconnected);
            return Ok(());
        }
        State::Inbox => wait_for_room(&mut caller, key, history)?,
        State::Registering => {}
    }
    tell(history, Kind::End, Outcome::Disconnected);
    Ok(())
}

/// Until the server is gone.
fn burst(caller: &mut Caller, history: &Writer) {
    let request = [7; 48];
    tell(history, Kind::Begin, Outcome::Ok);
    while caller.submit_all([&request[..]; BURST]).is_ok() {
        for _ in 0..BURST {
            if caller.response().is_err() {
                return;
            }
        }
    }
}

/// In its own inbox, which it does not read.
fn wait_for_room(caller: &mut Caller, key: Key, history: &Writer) -> Ended {
    let message = vec![7; 1024];
    loop {
        match caller.try_send(key, &message) {
            Ok(()) => {}
            Err(SendError::InboxFull) => break,
            Err(error) => return Err(Failure::failed(error)),
        }
    }
    tell(history, Kind::Begin, Outcome::Ok);
    let _ = caller.send_timeout(key, &message, LONG);
    Ok(())
}
