//! What represents a remote client here: a registration under its name, which the server knows as a relay.
//!
//! One task does all of it but to publish. Messages that local clients send to it go to the node of the
//! client, and their senders hear what became of them (`messages`); links with it are carried there
//! (`links`); what the client itself sends, calls and publishes arrives as jobs and samples. The channel to
//! the server has one user, `act`: confirmations come first, and nothing there waits long for room in a local
//! inbox, because they would wait behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringpost::{Async, Caller, Client, Key, Name, PublishError, Publisher, SendError, Topic};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::links;
use crate::local::{LinkId, Local, register};
use crate::messages::{self, Confirmed};
use crate::node::Answers;
use crate::topics::{self, Arrived};
use crate::wire::{Answer, NodeName, Outcome};

/// How often a message is tried again while the receiver's inbox is full.
const AGAIN: Duration = Duration::from_millis(5);
/// Between two registrations, if the first failed or was ended by the server: twice as long each time.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// For so long a client that has left is still represented, if anything is under way: whoever sent it a
/// message that it received, or called it and was answered, is to be told.
const LEAVING: Duration = Duration::from_secs(1);

/// The client that is represented.
#[derive(Debug, Clone)]
pub struct Who {
    pub node: NodeName,
    /// Its name here: `bob@b`.
    pub full: Name,
    /// Its key there.
    pub key: Key,
}

/// What a remote client wants of a local one.
pub enum Job {
    /// A message. `until` is the end of the sender's patience, if it has any.
    Send {
        to: Key,
        until: Option<Instant>,
        payload: Vec<u8>,
        answer: Answers,
    },
    Open {
        id: LinkId,
        to: Key,
        answer: Answers,
    },
}

/// The wish to publish a topic, from this number on.
pub struct Wanted {
    pub topic: Topic,
    pub first: u64,
    pub publisher: oneshot::Sender<Result<Publisher, PublishError>>,
}

/// Represents a client until it is given up, or has left: then nothing sends jobs any more.
pub async fn run(
    local: Arc<Local>,
    who: Who,
    mut jobs: mpsc::Receiver<Job>,
    samples: mpsc::Receiver<Arrived>,
    here: Arc<AtomicBool>,
) {
    let samples = Arc::new(Mutex::new(samples));
    let (mut told, mut pause) = (String::new(), PAUSE);
    loop {
        let registered = {
            local.node.may_register(&who.node).await;
            // The one before may be leaving; its name is free in a moment.
            let Ok(_turn) = local.registrations.acquire().await else { return };
            if jobs.is_closed() {
                return;
            }
            tokio::task::block_in_place(|| register(&local.node, who.full.as_str()))
        };
        match registered {
            Ok(client) => {
                let ended = represent(&local, &who, client, &mut jobs, samples.clone(), &here).await;
                debug!("{}: {}", who.full, ended.unwrap_or_else(|error| error));
            }
            Err(error) => {
                let error = error.to_string();
                if error != told {
                    warn!("{} cannot appear here: {error}; trying again", who.full);
                    told = error;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

/// Says that a client is here, and, when it is dropped, that it is gone.
struct Here<'a>(Name, &'a AtomicBool);

impl Here<'_> {
    fn new(name: Name, here: &AtomicBool) -> Here<'_> {
        info!("{name} is here");
        here.store(true, Ordering::Relaxed);
        Here(name, here)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.1.store(false, Ordering::Relaxed);
        info!("{} is gone", self.0);
    }
}

async fn represent(
    local: &Arc<Local>,
    who: &Who,
    client: Client,
    jobs: &mut mpsc::Receiver<Job>,
    samples: Arc<Mutex<mpsc::Receiver<Arrived>>>,
    here: &AtomicBool,
) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (caller, inbox) = client.split();
    let mut caller = Async::new(caller).map_err(|error| text(&error))?;
    let inbox = Async::new(inbox).map_err(|error| text(&error))?;
    let listener = caller.listen().await.map_err(|error| text(&error))?;
    let (confirms, of_confirms) = mpsc::channel(64);
    let (wants, of_wants) = mpsc::channel(1);
    // A task of its own: here, each batch would be a look at all the rest, too.
    let mut publishing = JoinSet::new();
    let under_way = Arc::new(());
    publishing.spawn(topics::publish(samples, wants, under_way.clone()));
    let _here = Here::new(who.full, here);
    Ok(tokio::select! {
        error = act(local, &mut caller, jobs, of_confirms, of_wants, &under_way) => error,
        () = messages::carry(local, who, inbox, confirms, &under_way) => "its inbox has ended".into(),
        () = links::accept(local, who, listener, &under_way) => "its listener has ended".into(),
        _ = publishing.join_next() => "its topics have ended".into(),
    })
}

/// A message that waits for room.
struct Waiting {
    to: Key,
    until: Instant,
    payload: Vec<u8>,
    answer: Answers,
}

/// All that asks the server on behalf of the remote client. Returns why that is over.
async fn act(
    local: &Arc<Local>,
    caller: &mut Async<Caller>,
    jobs: &mut mpsc::Receiver<Job>,
    mut confirms: mpsc::Receiver<Confirmed>,
    mut wants: mpsc::Receiver<Wanted>,
    under_way: &Arc<()>,
) -> String {
    // The links that the client has opened here. They end with this.
    let mut links = JoinSet::new();
    let mut waiting: Option<Waiting> = None;
    let mut left: Option<Instant> = None;
    loop {
        if jobs.is_closed() {
            let since = *left.get_or_insert_with(Instant::now);
            // Nobody but this task holds it then.
            let nothing = jobs.is_empty() && Arc::strong_count(under_way) == 1;
            if since.elapsed() >= if nothing { AGAIN } else { LEAVING } {
                return "it has left".into();
            }
        }
        let (idle, more) = (waiting.is_none(), !(jobs.is_closed() && jobs.is_empty()));
        tokio::select! {
            biased;
            Some(Confirmed { ticket, outcome, under_way }) = confirms.recv() => {
                if let Err(error) = caller.confirm(ticket, outcome).await {
                    return error.to_string();
                }
                drop(under_way);
            }
            Some(_) = links.join_next() => {}
            () = tokio::time::sleep(AGAIN), if !idle || left.is_some() => {
                if let Some(Waiting { to, until, payload, answer }) = waiting.take() {
                    // Its sender has been told by now that it was not delivered, or that nobody knows.
                    match Instant::now() < until {
                        true => waiting = send(caller, to, Some(until), payload, answer),
                        false => answer.give(Answer::new(Outcome::TimedOut, "")),
                    }
                }
            }
            Some(Wanted { topic, first, publisher }) = wants.recv() => {
                let options = Publisher::options().first_sequence(first);
                let _ = publisher.send(options.publish(caller.get_mut(), topic));
            }
            job = jobs.recv(), if idle && more => match job {
                None => {}
                Some(Job::Send { to, until, payload, answer }) => {
                    waiting = send(caller, to, until, payload, answer);
                }
                Some(Job::Open { id, to, answer }) => {
                    if let Some(link) = links::open(local, caller, id, to, answer).await {
                        links.spawn(link);
                    }
                }
            }
        }
        if let Some(reason) = caller.get_ref().closer().reason() {
            return reason.to_string();
        }
    }
}

/// Puts a message into a local inbox, and answers for it, unless it is to wait for room.
fn send(
    caller: &mut Async<Caller>,
    to: Key,
    until: Option<Instant>,
    payload: Vec<u8>,
    answer: Answers,
) -> Option<Waiting> {
    let error = match caller.get_mut().try_send(to, &payload) {
        Ok(()) => {
            answer.give(Answer::ok(b""));
            return None;
        }
        Err(error) => error,
    };
    let outcome = match (&error, until) {
        (SendError::InboxFull, Some(until)) if Instant::now() < until => {
            return Some(Waiting { to, until, payload, answer });
        }
        (SendError::InboxFull, Some(_)) => Outcome::TimedOut,
        (SendError::InboxFull, None) => Outcome::InboxFull,
        (SendError::NotFound, _) => Outcome::NotFound,
        (SendError::Gone, _) => Outcome::Gone,
        (SendError::TooLarge { .. }, _) => Outcome::TooLarge,
        (SendError::NotAllowed(_), _) => Outcome::NotAllowed,
        (SendError::ShuttingDown, _) => Outcome::ShuttingDown,
        (error, _) if error.may_have_executed() => Outcome::Ended,
        _ => Outcome::Refused,
    };
    // The receiver of this text adds its own words to a refusal.
    let text = match error {
        SendError::NotAllowed(text) => text,
        error => error.to_string(),
    };
    answer.give(Answer::new(outcome, text));
    None
}
