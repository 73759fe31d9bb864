//! Links across: a sample for each call and for each answer, in order, and at most once.
//!
//! The caller's bridge accepts the link once the other node has opened one with the callee, by a question
//! that stays open as long as the link: its end tells that the other half has ended, or the node is gone.
//! Calls and answers are samples for one bridge alone, and match by their number. (They were questions once.
//! Zenoh routes a question and its answers on their own, sets a timer, and sends a word after the last
//! answer: a bare one takes 1.7 times what two samples take.)
//!
//! The callee's bridge passes on only the number that it expects, so a call that is lost ends the link rather
//! than be passed on late, and none is passed on twice. Samples that block at a full queue are lost with the
//! connection only; that ends the open question as well, so nobody waits for an answer that was lost. Each
//! bridge ends the link by ending that question, whatever is wrong. A caller whose link ends hears that its
//! outstanding calls may have been executed, as at home.
//!
//! Posts are answered, too, when they lie in the link: so a caller that posts more than the network carries
//! waits for room in its ring.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ringpost::{Async, CallError, Caller, ConnectError, Incoming, Key, Link, Listener, ServiceError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::debug;

use crate::local::{LinkId, Local};
use crate::node::{Answers, Lost, lock};
use crate::relay::Who;
use crate::tls::MOST_PAYLOAD;
use crate::wire::{Answer, Ask, NodeName, OnLink, Outcome, Step, cut};

/// Calls over one link that are not answered.
const WINDOW: usize = 256;
/// Links with one remote client.
const MOST_LINKS: usize = 256;
/// How long opening may take.
const OPENING: Duration = Duration::from_secs(4);
/// How long the callee's half may take of that. Meanwhile nothing else is done for the remote client.
const CONNECTING: Duration = Duration::from_secs(2);
/// As long as anybody wants.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often a link is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(250);

/// A call that came over a link.
pub struct LinkJob {
    pub sequence: u64,
    pub post: bool,
    pub payload: Vec<u8>,
    /// What it takes of that which its node may ask at once.
    pub room: OwnedSemaphorePermit,
}

/// The calls and posts over one link that the other node has not answered.
pub struct Awaited {
    pub to: NodeName,
    pub calls: HashMap<u64, oneshot::Sender<Result<Vec<u8>, String>>>,
}

/// An entry in the table of those, for as long as the link is carried.
struct Awaiting {
    local: Arc<Local>,
    link: u64,
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        lock(&self.local.awaited).remove(&self.link);
    }
}

/// Accepts links with a remote client, until its listener ends.
pub async fn accept(local: &Arc<Local>, who: &Who, mut listener: Async<Listener>, under_way: &Arc<()>) {
    let mut links = JoinSet::new();
    while let Ok(incoming) = listener.accept().await {
        while links.try_join_next().is_some() {}
        match links.len() < MOST_LINKS {
            true => _ = links.spawn(carry(local.clone(), who.clone(), incoming, Arc::downgrade(under_way))),
            false => incoming.refuse("too many links with this remote client"),
        }
    }
}

/// Carries one link of a local client with a remote one, until it ends.
async fn carry(local: Arc<Local>, who: Who, incoming: Incoming, under_way: Weak<()>) {
    let (node, from) = (local.node.clone(), *incoming.peer());
    if !local.shows(&from.name, from.key).await {
        return incoming.refuse(format!("this node does not export {}", from.name));
    }
    let (instance, link) = (node.instance, node.number());
    let open = Ask::Open { instance, link, from: from.name, to: who.key, patience: OPENING };
    let opened = async {
        let mut answers = node.ask_often(&who.node, &open, LONG).await?;
        let answer = answers.next().await.ok_or(Lost::NoAnswer)?;
        Ok((answers, answer))
    };
    let (mut answers, answer) = match tokio::time::timeout(OPENING, opened).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(Lost::NotSent)) => return incoming.refuse_as(&ConnectError::NotFound),
        Ok(Err(_)) | Err(_) => return incoming.refuse("the other node does not answer"),
    };
    let close = Ask::Close { instance, link };
    let why = match answer.outcome {
        Outcome::Ok => None,
        Outcome::NotFound => Some(ConnectError::NotFound),
        Outcome::NotServing => Some(ConnectError::NotServing),
        _ => Some(ConnectError::Refused(answer.text())),
    };
    if let Some(why) = why {
        return incoming.refuse_as(&why);
    }
    let responder = incoming.arms().accept();
    let responder = responder.map_err(|error| error.to_string()).and_then(|responder| {
        let closer = responder.closer();
        Ok((Async::new(responder).map_err(|error| error.to_string())?, closer))
    });
    match responder {
        Err(error) => debug!("{} with {}: {error}", from.name, who.full),
        Ok((mut responder, closer)) => {
            let calls = HashMap::new();
            lock(&local.awaited).insert(link, Awaited { to: who.node.clone(), calls });
            let _awaiting = Awaiting { local: local.clone(), link };
            let mut last = 0;
            let served = responder.serve_pipelined(WINDOW, |request| {
                // One that is too large has no number, so that the link goes on.
                let fits = request.payload().len() <= MOST_PAYLOAD;
                last += u64::from(fits);
                let (local, to, closer, sequence) = (local.clone(), who.node.clone(), closer.clone(), last);
                let under_way = under_way.upgrade();
                async move {
                    let _under_way = under_way;
                    let payload = request.payload();
                    if !fits {
                        return Err(failed(too_many(payload.len())));
                    }
                    let step = if request.wants_response() { Step::Call } else { Step::Post };
                    let call = OnLink { instance, link, sequence, step, payload };
                    match ask(&local, &to, &call).await {
                        Some(answer) => answer.map_err(failed),
                        // Nobody knows: only the end of the link says so.
                        None => {
                            closer.close();
                            Err(failed("the link across has ended".into()))
                        }
                    }
                }
            });
            tokio::select! {
                biased;
                // Answers that came before the end are given.
                _ = served => {}
                // Nothing more is said of a link before its end.
                _ = answers.next() => closer.close(),
            }
        }
    }
    let _ = node.ask(&who.node, &close, OPENING).await;
}

/// Passes a call or a post on, and waits for the answer. None if it was not sent, or is not answered.
async fn ask(local: &Local, to: &NodeName, call: &OnLink<'_>) -> Option<Result<Vec<u8>, String>> {
    let _room = local.node.room_for_call(to, call.payload.len())?;
    let (answer, of_answer) = oneshot::channel();
    lock(&local.awaited).get_mut(&call.link)?.calls.insert(call.sequence, answer);
    local.node.say(to, call).await.ok()?;
    of_answer.await.ok()
}

/// The text of a service's error, as it was there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

fn too_many(len: usize) -> String {
    format!("{len} bytes are too many for the network")
}

fn failed(text: String) -> ServiceError {
    ServiceError::from(Failed(text))
}

/// Opens a link of a remote client with a local one, and answers. Returns what carries it.
pub async fn open(
    local: &Arc<Local>,
    caller: &mut Async<Caller>,
    id: LinkId,
    to: Key,
    answer: Answers,
) -> Option<impl Future<Output = ()> + use<>> {
    let link = match tokio::time::timeout(CONNECTING, caller.connect(to)).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => {
            let outcome = match error {
                ConnectError::NotFound | ConnectError::Gone(_) => Outcome::NotFound,
                ConnectError::NotServing => Outcome::NotServing,
                ConnectError::NotAllowed(_) => Outcome::NotAllowed,
                _ => Outcome::Refused,
            };
            let text = match error {
                ConnectError::Refused(text) | ConnectError::NotAllowed(text) => text,
                error => error.to_string(),
            };
            answer.give(Answer::new(outcome, text));
            return None;
        }
        Err(_) => {
            answer.give(Answer::new(Outcome::TimedOut, "the callee did not accept in time"));
            return None;
        }
    };
    let (jobs, of_jobs) = mpsc::channel(WINDOW);
    local.add_link(id.clone(), jobs);
    let listed = Listed { local: local.clone(), id };
    let kept = answer.keep(Answer::ok(b""));
    Some(async move {
        serve(&listed, link, of_jobs).await;
        drop((listed, kept));
    })
}

/// An entry in the table of links, for as long as the link is carried.
struct Listed {
    local: Arc<Local>,
    id: LinkId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.local.remove_link(&self.id);
    }
}

/// Passes calls on, in order, and the answers back. Returns when either side has ended the link.
async fn serve(listed: &Listed, mut link: Async<Link>, mut jobs: mpsc::Receiver<LinkJob>) {
    let mut outstanding: VecDeque<(u64, OwnedSemaphorePermit)> = VecDeque::new();
    let mut expected = 0;
    let (closer, mut look) = (link.get_ref().closer(), tokio::time::interval(LOOK));
    let (node, (to, instance, number)) = (&listed.local.node, &listed.id);
    // The room is free before the other node can know of the answer, and use it again.
    let answer = async |sequence: u64, room: OwnedSemaphorePermit, step: Step, payload: &[u8]| {
        drop(room);
        node.say(to, &OnLink { instance: *instance, link: *number, sequence, step, payload }).await
    };
    loop {
        let (waits, room) = (!outstanding.is_empty(), outstanding.len() < WINDOW);
        let said = tokio::select! {
            biased;
            reply = link.response(), if waits => {
                let Some((sequence, room)) = outstanding.pop_front() else { return };
                match reply {
                    Ok(reply) if reply.len() <= MOST_PAYLOAD => {
                        answer(sequence, room, Step::Done, &reply).await
                    }
                    Ok(reply) => answer(sequence, room, Step::Failed, too_many(reply.len()).as_bytes()).await,
                    Err(CallError::ServiceFailed(text) | CallError::ResponseTooLarge(text)) => {
                        answer(sequence, room, Step::Failed, cut(&text)).await
                    }
                    Err(error) => return debug!("a link across: {error}"),
                }
            }
            job = jobs.recv(), if room => {
                let Some(LinkJob { sequence, post, payload, room }) = job else { return };
                expected += 1;
                if sequence != expected {
                    return debug!("a link across: a call before the {sequence}th is missing");
                }
                let sent = match post {
                    true => link.post(&payload[..]).await,
                    false => link.submit(&payload[..]).await,
                };
                match sent {
                    Ok(()) if post => answer(sequence, room, Step::Done, b"").await,
                    Ok(()) => {
                        outstanding.push_back((sequence, room));
                        Ok(())
                    }
                    Err(error @ CallError::TooLarge { .. }) => {
                        answer(sequence, room, Step::Failed, cut(&error.to_string())).await
                    }
                    Err(error) => return debug!("a link across: {error}"),
                }
            }
            _ = look.tick() => {
                if closer.reason().is_some() {
                    return;
                }
                Ok(())
            }
        };
        if said.is_err() {
            return;
        }
    }
}
