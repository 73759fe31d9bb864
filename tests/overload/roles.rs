//! The roles of the overload tests: a server, and a client that executes orders.

use super::common::role::{Stage, say, setting};
use super::common::server;
use super::events::{Events, WITHOUT_DESCRIPTORS};
use super::poor;
use ringpost::Client;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Serves until it is told to shut down. Calls with "hang" never return.
pub fn serve(stage: &Stage) {
    if setting::<bool>("RAISE") == Some(true) {
        super::common::proc::raise_descriptor_limit();
    }
    tracing::subscriber::set_global_default(Events).unwrap();
    poor::limit_as_set();
    let server = server::as_set().service(server::echo_or_hang).start().unwrap();
    poor::limit_space();
    say("ready");
    loop {
        match stage.order().as_str() {
            "shutdown" => break,
            "count" => say(format_args!("count {}", WITHOUT_DESCRIPTORS.load(Ordering::Relaxed))),
            order => panic!("no order {order:?}"),
        }
    }
    server::end(server);
}

/// Registers and executes orders, one after the other.
pub fn obey(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let name: String = setting("NAME").unwrap();
    let wait = setting("WAIT").unwrap_or_default();
    let mut client = Client::builder(path).wait(wait).register(name).unwrap();
    say(format_args!("key {}", client.key()));
    loop {
        let order = stage.order();
        let mut words = order.splitn(4, ' ');
        match words.next().unwrap() {
            "call" => match client.call(words.next().unwrap().as_bytes()) {
                Ok(answer) => say(format_args!("answer {}", String::from_utf8_lossy(&answer))),
                Err(error) => say(format_args!("failed {error:?}")),
            },
            // KEY MILLISECONDS TEXT
            "send" => {
                let key: ringpost::Key = words.next().unwrap().parse().unwrap();
                let patience = Duration::from_millis(words.next().unwrap().parse().unwrap());
                match client.send_timeout(key, words.next().unwrap().as_bytes(), patience) {
                    Ok(()) => say("sent"),
                    Err(error) => say(format_args!("failed {error:?}")),
                }
            }
            "receive" => match client.recv() {
                Ok(message) => say(format_args!("got {}", String::from_utf8_lossy(message.payload()))),
                Err(error) => say(format_args!("failed {error:?}")),
            },
            "unregister" => {
                client.unregister().unwrap();
                return say("bye");
            }
            other => panic!("no order {other:?}"),
        }
    }
}
