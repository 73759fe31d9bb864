//! Messages of local clients to a remote one.
//!
//! The server gives each to the client's relay with a ticket, and its sender waits. The bridge asks the
//! client's node to deliver it, and confirms the ticket with what that says. Of the sender's patience a part
//! is kept for the way there and back (`carried`); the other node waits for room in the inbox for what is
//! left. A message is asked for once: if no answer comes while its sender waits, that one is told that nobody
//! knows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringpost::{Async, Inbox, Message, SendError, Ticket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::local::Local;
use crate::node::Lost;
use crate::relay::Who;
use crate::tls::MOST_PAYLOAD;
use crate::wire::{Answer, Ask, Outcome, is_foreign};

/// How long the answer to a sender that does not wait for room is awaited.
const SOON: Duration = Duration::from_secs(4);
/// What is kept of the sender's patience: an eighth, but a quarter as long as that is less than this. It must
/// do for a slow network and busy computers: whoever hears too late hears that nobody knows.
const KEPT: Duration = Duration::from_secs(1);
/// Messages to one remote client that are not answered yet. Each sender has one.
const MOST: usize = 256;

/// What is to be told to the sender of a message.
pub struct Confirmed {
    pub ticket: Ticket,
    pub outcome: Result<(), SendError>,
    /// Until the sender is told, it counts as being under way.
    pub under_way: Arc<()>,
}

/// Carries messages until the inbox ends.
pub async fn carry(
    local: &Arc<Local>,
    who: &Who,
    mut inbox: Async<Inbox>,
    confirms: mpsc::Sender<Confirmed>,
    under_way: &Arc<()>,
) {
    let mut asked = JoinSet::new();
    while let Ok(message) = inbox.recv().await {
        while asked.try_join_next().is_some() {}
        let Some(ticket) = message.ticket() else { continue };
        let under_way = under_way.clone();
        if asked.len() >= MOST {
            let outcome = Err(SendError::InboxFull);
            let _ = confirms.send(Confirmed { ticket, outcome, under_way }).await;
            continue;
        }
        let (local, who, confirms) = (local.clone(), who.clone(), confirms.clone());
        let since = Instant::now();
        asked.spawn(async move {
            let outcome = ask(&local, &who, &message, ticket.patience(), since).await;
            let _ = confirms.send(Confirmed { ticket, outcome, under_way }).await;
        });
    }
}

async fn ask(
    local: &Local,
    who: &Who,
    message: &Message,
    patience: Duration,
    since: Instant,
) -> Result<(), SendError> {
    let (node, from) = (&local.node, *message.sender_name());
    // Also a local name with an @ would pass for a remote one there.
    if is_foreign(&from) || !local.shows(&from, message.sender()).await {
        return Err(SendError::NotAllowed(format!("this node does not export {from}")));
    }
    let payload = message.payload();
    if payload.len() > MOST_PAYLOAD {
        return Err(SendError::TooLarge { len: payload.len(), max: MOST_PAYLOAD });
    }
    let left = patience.saturating_sub(since.elapsed());
    // An answer that comes at the very end may still be in time: it is the server that says when it is over.
    let (within, carried) = match patience.is_zero() {
        true => (SOON, Duration::ZERO),
        false => (left, carried(left)),
    };
    let ask = Ask::Send {
        instance: node.instance,
        sequence: node.number(),
        from,
        to: who.key,
        patience: carried,
        payload,
    };
    match node.ask(&who.node, &ask, within).await {
        Ok(answer) => told(answer, payload.len()),
        Err(Lost::NotSent) => Err(SendError::Gone),
        Err(Lost::Full) if patience.is_zero() => Err(SendError::InboxFull),
        Err(Lost::Full) => Err(SendError::TimedOut),
        Err(Lost::NoAnswer) => Err(SendError::NoAnswer),
    }
}

/// How long the other node is to wait for room, of what the sender waits for.
fn carried(left: Duration) -> Duration {
    left - (left / 8).max((left / 4).min(KEPT))
}

/// What another node's answer means for the sender.
fn told(answer: Answer, len: usize) -> Result<(), SendError> {
    Err(match answer.outcome {
        Outcome::Ok => return Ok(()),
        Outcome::NotFound => SendError::NotFound,
        Outcome::NotAllowed => SendError::NotAllowed(answer.text()),
        Outcome::InboxFull => SendError::InboxFull,
        Outcome::TimedOut => SendError::TimedOut,
        // The other server's limit is not this one's.
        Outcome::TooLarge => SendError::TooLarge { len, max: len.saturating_sub(1) },
        Outcome::Gone => SendError::Gone,
        Outcome::ShuttingDown => SendError::Gone,
        Outcome::Ended => SendError::NoAnswer,
        Outcome::Refused | Outcome::NotServing => SendError::Server(answer.text()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_patience_is_kept_for_the_way() {
        for (left, there) in [(0, 0), (400, 300), (4000, 3000), (5000, 4000), (8000, 7000), (16000, 14000)] {
            assert_eq!(carried(Duration::from_millis(left)), Duration::from_millis(there));
        }
    }
}
