//! Why a client's channel is closed: the meaning of the ring's opaque close reasons.

use crate::ring;

/// Why a channel is closed. It comes with every `Disconnected`.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, CloseReason, RecvError, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// server.join_after_shutdown();
/// match client.recv() {
///     Err(RecvError::Disconnected(CloseReason::Shutdown)) => println!("the server left in good order"),
///     Err(RecvError::Disconnected(reason)) => println!("connect again: {reason}"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[repr(u32)]
pub enum CloseReason {
    /// This side closed it: the handle was dropped or its close handle was used.
    #[error("closed on this side")]
    Local = 1,
    /// The other side closed it, or dropped its end.
    #[error("closed by the other side")]
    Peer = 2,
    /// The client unregistered.
    #[error("the client unregistered")]
    Unregistered = 3,
    /// The server shut down in good order.
    #[error("the server shut down")]
    Shutdown = 4,
    /// The other process died, or its connection broke.
    #[error("the other process is gone")]
    Died = 5,
    /// The other side broke a rule of the protocol.
    #[error("the other side broke the protocol")]
    ProtocolViolation = 6,
    /// This process is a child that was forked after the client was registered. The client is its parent's,
    /// and was not touched: register another one here, under another name.
    #[error("this process was forked after the client was registered: register one of its own")]
    Forked = 7,
    /// The client was to [register again](crate::Reconnect), and has given up: the server did not come back
    /// in time, or refused.
    #[error("the server did not come back in time, or refused to register the client again: register anew")]
    GaveUp = 8,
    /// This process has closed the descriptors of the connection, as a program does that becomes a daemon and
    /// closes all that it has. The client is gone: register after that, or use
    /// [`Reconnect`](crate::Reconnect).
    #[error("this process has closed the descriptors of its own connection: register again after that")]
    CutOff = 9,
}

impl CloseReason {
    /// Each reason that the other side can be told, by its word.
    const TOLD: [CloseReason; 6] = [
        CloseReason::Local,
        CloseReason::Peer,
        CloseReason::Unregistered,
        CloseReason::Shutdown,
        CloseReason::Died,
        CloseReason::ProtocolViolation,
    ];

    /// From a word that the other side wrote: an unknown one is its own doing.
    pub(crate) fn from_told(word: u32) -> CloseReason {
        let known = CloseReason::TOLD.into_iter().find(|reason| *reason as u32 == word);
        known.unwrap_or(CloseReason::Peer)
    }
}

impl From<CloseReason> for ring::CloseReason {
    fn from(reason: CloseReason) -> ring::CloseReason {
        match reason {
            // The client's channel itself does not end so.
            CloseReason::GaveUp | CloseReason::CutOff | CloseReason::Forked => {
                ring::CloseReason::private(reason as u32)
            }
            told => ring::CloseReason::told(told as u32),
        }
    }
}

impl From<ring::CloseReason> for CloseReason {
    // Out of line: where it is inlined, one bit of a reason is looked at in a register that it shares with
    // padding. That is right, but valgrind cannot tell.
    #[cold]
    #[inline(never)]
    fn from(reason: ring::CloseReason) -> CloseReason {
        const PRIVATE: [CloseReason; 3] = [CloseReason::Forked, CloseReason::GaveUp, CloseReason::CutOff];
        match reason.as_told() {
            Some(word) => CloseReason::from_told(word),
            None => {
                let known = PRIVATE.into_iter().find(|known| reason == (*known).into());
                known.unwrap_or(CloseReason::Local)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_passes_through_a_ring() {
        let private = [CloseReason::Forked, CloseReason::GaveUp, CloseReason::CutOff];
        for reason in CloseReason::TOLD.into_iter().chain(private) {
            assert_eq!(CloseReason::from(ring::CloseReason::from(reason)), reason);
        }
        assert_eq!(ring::CloseReason::from(CloseReason::Local), ring::CloseReason::LOCAL);
        assert_eq!(ring::CloseReason::from(CloseReason::Peer), ring::CloseReason::PEER);
        assert_eq!(ring::CloseReason::from(CloseReason::ProtocolViolation), ring::CloseReason::FAULT);
        assert_eq!(CloseReason::from(ring::CloseReason::FORKED), CloseReason::Forked);
    }

    #[test]
    fn an_unknown_word_is_the_peers_doing() {
        for word in (7..1000).chain([1 << 30, (1 << 31) - 1]) {
            assert_eq!(CloseReason::from(ring::CloseReason::told(word)), CloseReason::Peer);
        }
    }
}
