//! `AccessError`: what is wrong with an `Access`.

#![forbid(unsafe_code)]

use crate::connect::ListenError;
use crate::wire::{NameError, TopicError};

/// Why a server cannot have an [`Access`](crate::Access). A server that runs keeps the one it has.
///
/// # Examples
///
/// ```
/// use ringpost::{Access, AccessError, Act, Rule, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut rule = Rule::default();
/// rule.acts = vec![Act::Publish];
/// rule.what = vec!["prices/*USD".into()];
/// let mut access = Access::default();
/// access.rules = vec![rule];
/// match server.access_control().replace(access) {
///     Err(AccessError::Topic { rule: 1, pattern, .. }) => assert_eq!(pattern, "prices/*USD"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A user or group has the number that stands for none.
    #[error("{0} is no user and no group: use a number from 0 to 4294967294")]
    NobodyAllowed(u32),
    /// A user or group has the number that stands for all those without a number in the server's user
    /// namespace.
    #[error(
        "{0} cannot be let in: it is the number of every user or group that has none in this user namespace, so whoever \
         has it may be anyone; use a user or group with a number of its own"
    )]
    UnknownAllowed(u32),
    /// A rule lists no act.
    #[error("rule {rule} lists no act: say what it is about, publish for example")]
    NoActs {
        /// The rule, counted from 1.
        rule: usize,
    },
    /// A rule has no pattern of what it is about.
    #[error("rule {rule} has no pattern of what it is about: use * for all names and ** for all topics")]
    NoPatterns {
        /// The rule, counted from 1.
        rule: usize,
    },
    /// No topic can match a pattern.
    #[error("rule {rule}: {pattern:?} is not a pattern of topics: {source}")]
    Topic {
        /// The rule, counted from 1.
        rule: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: TopicError,
    },
    /// No client's name can match a pattern.
    #[error("rule {rule}: {pattern:?} is not a pattern of names: {source}")]
    Name {
        /// The rule, counted from 1.
        rule: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// There is too much of something.
    #[error("{found} {what} are too many: there can be {most} in all, so combine some")]
    TooMany {
        /// What there is too much of, in words.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there can be.
        most: usize,
    },
    /// The socket cannot be opened to those who are allowed.
    #[error(transparent)]
    Socket(#[from] ListenError),
}
