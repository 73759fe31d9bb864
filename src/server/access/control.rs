//! `AccessControl`: a handle that replaces a server's access while it runs.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Weak;

use super::checked::CheckedAccess;
use super::error::AccessError;
use super::rules::Access;
use crate::server::shared::Shared;
use crate::shm::ForkSafeWord;

/// Replaces who may use a server, and for what, while the server runs. Made by
/// [`Server::access_control`](crate::Server::access_control). It works from any thread, also while the server
/// is being joined, and keeps nothing of the server alive.
///
/// # Examples
///
/// ```
/// use ringpost::{Access, Act, Client, RegisterError, Rule, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let control = server.access_control();
/// let mut closed = Rule::default();
/// closed.acts = vec![Act::Register];
/// closed.what = vec!["admin*".into()];
/// let mut access = Access::default();
/// access.rules = vec![closed]; // it names nobody
/// control.replace(access)?;
/// assert!(matches!(Client::register(&path, "admin 1"), Err(RegisterError::NotAllowed(_))));
/// control.replace(Access::default())?;
/// let _admin = Client::register(&path, "admin 1")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AccessControl {
    pub(in crate::server) shared: Weak<Shared>,
    /// Tells this process and its forked children apart.
    pub(in crate::server) process: ForkSafeWord,
}

impl fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessControl").finish_non_exhaustive()
    }
}

impl AccessControl {
    /// Puts another [`Access`] in force, in place of the whole one that the server has: its users and groups,
    /// quotas and rules. It holds for everything that is asked when this has returned. What is there already
    /// goes on, although it would be refused now: registrations, links, topics, and what a subscription takes
    /// from its publishers. Who has too much under smaller quotas keeps it, and gets no more.
    ///
    /// The mode of the server's socket follows the users and groups. The server reports an `access`
    /// [event](crate#events), which says how many registered clients would not be let in any more.
    ///
    /// After the server's end, and in a forked child, this checks the `Access` and does nothing.
    ///
    /// Does not block but for the file system, where the socket gets another mode.
    ///
    /// # Errors
    ///
    /// If something in it is wrong, or the socket cannot get the mode or the group: see [`AccessError`]. Then
    /// everything is as it was.
    pub fn replace(&self, access: Access) -> Result<(), AccessError> {
        let access = CheckedAccess::new(access)?;
        match self.shared.upgrade() {
            Some(shared) if !self.process.is_foreign() => shared.replace_access(access),
            _ => Ok(()),
        }
    }
}
