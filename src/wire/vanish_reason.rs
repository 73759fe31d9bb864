//! `VanishReason`: why a client is no longer registered.

#![forbid(unsafe_code)]

/// Why a client is no longer registered, as its presence tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum VanishReason {
    /// It unregistered, or was dropped.
    #[error("it unregistered")]
    Unregistered,
    /// Its process or its connection ended.
    #[error("its process or its connection ended")]
    Died,
    /// It broke a rule of the protocol, and the server disconnected it.
    #[error("it broke the protocol")]
    Violation,
    /// The server shut down or died, and with it all registrations.
    #[error("the server ended")]
    ServerEnded,
    /// It was gone when the list was made anew, because too many changes came at once to tell each.
    #[error("it left while more changed than could be told")]
    Unseen,
}

impl VanishReason {
    /// The reasons that a server tells, by their codes.
    const TOLD: [VanishReason; 4] =
        [VanishReason::Unregistered, VanishReason::Died, VanishReason::Violation, VanishReason::ServerEnded];

    /// The code by which a server tells it. Servers do not tell the last reason.
    pub(crate) fn to_code(self) -> u8 {
        VanishReason::TOLD.iter().position(|told| *told == self).map_or(0, |code| code as u8)
    }

    pub(crate) fn from_code(code: u8) -> Option<VanishReason> {
        VanishReason::TOLD.get(usize::from(code)).copied()
    }
}
