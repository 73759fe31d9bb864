//! `Policy`: what a subscription does when its publishers are faster than it.

#![forbid(unsafe_code)]

/// What a subscription does when samples are published faster than it takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Policy {
    /// Takes each sample that is still in the publisher's ring, and says how many it missed. Never delays a
    /// publisher.
    #[default]
    Lossy = 0,
    /// Takes only the newest sample of each publisher, and says how many it passed over. Never delays a
    /// publisher.
    Latest = 1,
    /// Takes every sample once and in order: the publisher waits for it. Only publishers that offer this can
    /// be read so, and a subscriber that does not read for longer than the publisher's budget is evicted.
    Reliable = 2,
}

impl Policy {
    pub(crate) fn from_code(code: u8) -> Option<Policy> {
        [Policy::Lossy, Policy::Latest, Policy::Reliable].into_iter().find(|policy| *policy as u8 == code)
    }
}
