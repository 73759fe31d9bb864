//! `ringpost serve`: registers, and answers the calls that other clients make over links.
//!
//! The library has a thread for each link. Another thread notices the server's end, and the main thread waits
//! for a reason to end: that, or a signal.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use ringpost::{Peer, Request, Response, Service, ServiceError};

use crate::cli::ServeOptions;
use crate::exec::Executed;
use crate::{listen, session};
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::thousands;

/// Why serving ends.
enum End {
    Signal,
    /// The client is not registered any more.
    Gone(String),
}

pub fn run(socket: &Path, options: &ServeOptions) -> Outcome {
    let work = match &options.exec {
        Some(command) => Work::Command(Executed::new(command)?),
        None => Work::Echo,
    };
    let served = Arc::new(Served::new(work));
    let interrupt = Interrupt::install()?;
    let reconnect = listen::reconnect(options.reconnect, options.name, false);
    let mut client = session::register(socket, &options.name, &options.wait, None, reconnect, &interrupt)?;
    let listening = if options.tappable { client.caller().listen_tappable() } else { client.listen() };
    let listener = listening.map_err(Failure::failed)?;
    let serving = listener.serve_with(Arc::clone(&served)).map_err(Failure::failed)?;
    listen::announce(&options.name, client.key(), false)?;

    let (events, arrived) = mpsc::channel();
    let on_signal = events.clone();
    interrupt.then(move || drop(on_signal.send(End::Signal)));
    let (caller, inbox) = client.split();
    let again = options.reconnect;
    let watching = thread::Builder::new().name("inbox".into()).spawn(move || {
        let why = session::attend(inbox, again, "it only answers calls");
        let _ = events.send(End::Gone(why));
    });
    let end = match watching {
        Ok(_) => arrived.recv().unwrap_or(End::Signal),
        Err(error) => End::Gone(format!("cannot start a thread: {error}")),
    };

    served.stop();
    let left = session::left(caller, options.reconnect);
    serving.stop();
    serving.join();
    note(served.summary());
    match end {
        End::Gone(why) => Err(Failure::failed(why)),
        End::Signal => {
            session::warn(left);
            Ok(())
        }
    }
}

type Count = AtomicU64;

/// How calls are answered.
enum Work {
    Echo,
    Command(Executed),
}

/// The service, and what it has served.
struct Served {
    work: Work,
    calls: Count,
    posts: Count,
    failed: Count,
    /// The links that have ended.
    links: Count,
}

impl Service for Served {
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        let count = if request.wants_response() { &self.calls } else { &self.posts };
        count.fetch_add(1, Ordering::Relaxed);
        let answered = match &self.work {
            Work::Echo => response.write(request.payload()),
            Work::Command(command) => command
                .answer(request.payload(), response.remaining())
                .and_then(|output| response.write(&output)),
        };
        if answered.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        answered
    }

    fn left(&self, _: &Peer) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }
}

impl Served {
    fn new(work: Work) -> Served {
        let [calls, posts, failed, links] = std::array::from_fn(|_| Count::new(0));
        Served { work, calls, posts, failed, links }
    }

    /// Ends the commands that run.
    fn stop(&self) {
        if let Work::Command(command) = &self.work {
            command.stop();
        }
    }

    /// What was served, for people.
    fn summary(&self) -> String {
        let of = |count: &Count| count.load(Ordering::Relaxed);
        let amount = |number: u64, what: &str| {
            format!("{} {what}{}", thousands(number), if number == 1 { "" } else { "s" })
        };
        let mut text = format!("served {}", amount(of(&self.calls), "call"));
        if of(&self.posts) > 0 {
            text.push_str(&format!(" and {}", amount(of(&self.posts), "post")));
        }
        text.push_str(&format!(" over {}", amount(of(&self.links), "link")));
        if of(&self.failed) > 0 {
            text.push_str(&format!("; {} failed", thousands(of(&self.failed))));
        }
        text
    }
}
