//! Links across: a question for each call, in order, and at most once.
//!
//! The caller's bridge accepts the link once the other node has opened one with the callee, by a question
//! that stays open as long as the link: its end tells that the other half has ended, or the node is gone.
//! Each call is a question with the next number. The callee's bridge passes on only the number that it
//! expects, so a call that is lost ends the link rather than be passed on late, and none is passed on twice.
//! A caller whose link ends hears that its outstanding calls may have been executed, as at home. Posts are
//! questions, too, answered when they lie in the link: so a caller that posts more than the network carries
//! waits for room in its ring.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringpost::{Async, CallError, Caller, ConnectError, Incoming, Key, Link, Listener, ServiceError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use crate::local::{LinkId, Local};
use crate::node::{Answers, Lost};
use crate::relay::Who;
use crate::tls::MOST_PAYLOAD;
use crate::wire::{Answer, Ask, Outcome};

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
/// How often an idle link is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A call that came over a link.
pub struct LinkJob {
    pub sequence: u64,
    pub post: bool,
    pub payload: Vec<u8>,
    pub answer: Answers,
}

/// Accepts links with a remote client, until its listener ends.
pub async fn accept(local: &Arc<Local>, who: &Who, mut listener: Async<Listener>) {
    let mut links = JoinSet::new();
    while let Ok(incoming) = listener.accept().await {
        while links.try_join_next().is_some() {}
        match links.len() < MOST_LINKS {
            true => _ = links.spawn(carry(local.clone(), who.clone(), incoming)),
            false => incoming.refuse("too many links with this remote client"),
        }
    }
}

/// Carries one link of a local client with a remote one, until it ends.
async fn carry(local: Arc<Local>, who: Who, incoming: Incoming) {
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
            let mut sequence = 0;
            let served = responder.serve_pipelined(WINDOW, |request| {
                // One that is too large has no number, so that the link goes on.
                let fits = request.payload().len() <= MOST_PAYLOAD;
                sequence += u64::from(fits);
                let (node, to, closer) = (node.clone(), who.node.clone(), closer.clone());
                async move {
                    let post = !request.wants_response();
                    let payload = request.payload();
                    if !fits {
                        return Err(failed(format!("{} bytes are too many for the network", payload.len())));
                    }
                    let ask = Ask::Call { instance, link, sequence, post, payload };
                    let answer = node.ask(&to, &ask, LONG).await;
                    match answer {
                        Ok(answer) if answer.outcome == Outcome::Ok => Ok(answer.body),
                        Ok(answer) if answer.outcome == Outcome::Failed => Err(failed(answer.text())),
                        // Nobody knows, or the order is broken: only the end of the link says so.
                        other => {
                            closer.close();
                            Err(failed(format!("the link across has ended: {other:?}")))
                        }
                    }
                }
            });
            tokio::select! {
                _ = served => {}
                // Nothing more is said of a link before its end.
                _ = answers.next() => closer.close(),
            }
        }
    }
    let _ = node.ask(&who.node, &close, OPENING).await;
}

/// The text of a service's error, as it was there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

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
        serve(link, of_jobs).await;
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

/// Passes calls on, in order, and the answers back. Returns when either side has ended the link; what is not
/// answered then is answered with that, as `Answers` are when they are dropped.
async fn serve(mut link: Async<Link>, mut jobs: mpsc::Receiver<LinkJob>) {
    let mut outstanding: VecDeque<Answers> = VecDeque::new();
    let mut expected = 0;
    let closer = link.get_ref().closer();
    loop {
        let (waits, room) = (!outstanding.is_empty(), outstanding.len() < WINDOW);
        tokio::select! {
            biased;
            reply = link.response(), if waits => {
                let Some(answer) = outstanding.pop_front() else { return };
                match reply {
                    Ok(reply) if reply.len() <= MOST_PAYLOAD => answer.give(Answer::ok(&reply)),
                    Ok(reply) => {
                        let text = format!("{} bytes are too many for the network", reply.len());
                        answer.give(Answer::new(Outcome::Failed, text));
                    }
                    Err(CallError::ServiceFailed(text)) => answer.give(Answer::new(Outcome::Failed, text)),
                    Err(CallError::ResponseTooLarge(text)) => answer.give(Answer::new(Outcome::Failed, text)),
                    Err(error) => {
                        debug!("a link across: {error}");
                        return;
                    }
                }
            }
            job = jobs.recv(), if room => {
                let Some(LinkJob { sequence, post, payload, answer }) = job else { return };
                expected += 1;
                if sequence != expected {
                    return answer.give(Answer::new(Outcome::Refused, "a call before this one is missing"));
                }
                let sent = match post {
                    true => link.post(&payload[..]).await,
                    false => link.submit(&payload[..]).await,
                };
                match sent {
                    Ok(()) if post => answer.give(Answer::ok(b"")),
                    Ok(()) => outstanding.push_back(answer),
                    Err(error @ CallError::TooLarge { .. }) => {
                        answer.give(Answer::new(Outcome::Failed, error));
                    }
                    Err(error) => return answer.give(Answer::new(Outcome::Ended, error)),
                }
            }
            () = tokio::time::sleep(LOOK) => {
                if closer.reason().is_some() {
                    return;
                }
            }
        }
    }
}
