//! `Current`: the access that holds now, and the questions that the server's threads ask it.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::checked::{CheckedAccess, Who};
use super::error::AccessError;
use super::rules::Act;
use crate::connect::{Refusal, SocketFile, is_root, same_group, same_user};
use crate::server::answers::{Declined, declined};
use crate::server::events::Event;
use crate::server::shared::{Shared, lock};
use crate::wire::{Name, Pattern, Peer, Topic};

/// The access that holds now.
#[derive(Debug)]
pub(in crate::server) struct Current {
    access: RwLock<Arc<CheckedAccess>>,
    /// The bits of the acts that a rule is about. For any other act nothing else is looked at.
    acts: AtomicU8,
    /// The socket's file, whose mode follows the access. `None` inside if it is not the server's to open.
    socket: OnceLock<Option<SocketFile>>,
    /// Held while the access is replaced.
    replacing: Mutex<()>,
}

impl Current {
    pub(in crate::server) fn new(access: CheckedAccess) -> Current {
        let acts = AtomicU8::new(access.acts());
        let (socket, replacing) = (OnceLock::new(), Mutex::new(()));
        Current { access: RwLock::new(Arc::new(access)), acts, socket, replacing }
    }

    /// The socket whose mode follows the access from now on.
    pub(in crate::server) fn follow(&self, socket: Option<SocketFile>) {
        let _ = self.socket.set(socket);
    }

    pub(in crate::server) fn get(&self) -> Arc<CheckedAccess> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, access: Arc<CheckedAccess>) {
        let mut place = self.access.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the two are not those of different policies for long.
        self.acts.store(access.acts(), Ordering::Release);
        *place = access;
    }

    /// Whether a rule is about this act.
    #[inline(always)]
    pub(in crate::server) fn is_about(&self, act: Act) -> bool {
        self.acts.load(Ordering::Acquire) & act.bit() != 0
    }

    /// The access, if a rule of it is about this act.
    fn on(&self, act: Act) -> Option<Arc<CheckedAccess>> {
        self.is_about(act).then(|| self.get())
    }
}

impl Shared {
    /// Checks whether a client may do something to a client with this name.
    pub(in crate::server) fn check_name(
        &self,
        act: Act,
        object: &Name,
        who: &Who<'_>,
    ) -> Result<(), Declined> {
        match self.access.on(act) {
            Some(access) if !access.allows_name(act, object, who) => Err(against_rules(act, object, who)),
            _ => Ok(()),
        }
    }

    /// Checks whether a client may be a relay under this name, or register under it without being one.
    /// Without a rule only the server's own user and root may be relays. Names with `@` are for relays,
    /// because each stands for a client elsewhere.
    pub(in crate::server) fn check_relay(
        &self,
        is_relay: bool,
        name: &Name,
        who: &Who<'_>,
    ) -> Result<(), Declined> {
        if !is_relay {
            return match name.contains('@') {
                true => Err(declined(Refusal::AgainstRules, FOR_RELAYS)),
                false => Ok(()),
            };
        }
        let decided =
            self.access.on(Act::Relay).and_then(|access| access.decides_on_name(Act::Relay, name, who));
        match decided {
            Some(true) => Ok(()),
            Some(false) => Err(against_rules(Act::Relay, name, who)),
            None if is_own(who.uid) => Ok(()),
            None => Err(declined(Refusal::AgainstRules, NO_RULE_FOR_RELAYS)),
        }
    }

    /// Checks whether a client may publish a topic.
    pub(in crate::server) fn check_publish(&self, topic: &Topic, who: &Who<'_>) -> Result<(), Declined> {
        match self.access.on(Act::Publish) {
            Some(access) if !access.allows_topic(Act::Publish, topic, who) => {
                Err(against_rules(Act::Publish, topic, who))
            }
            _ => Ok(()),
        }
    }

    /// Checks whether a client may have a subscription, because some topic of its pattern may be open to it.
    pub(in crate::server) fn check_subscribe(
        &self,
        pattern: &Pattern,
        who: &Who<'_>,
    ) -> Result<(), Declined> {
        match self.access.on(Act::Subscribe) {
            Some(access) if !access.may_allow_some(Act::Subscribe, pattern, who) => {
                Err(against_rules(Act::Subscribe, pattern, who))
            }
            _ => Ok(()),
        }
    }

    /// Puts another access in force for everything that is asked from now on.
    pub(in crate::server) fn replace_access(&self, access: CheckedAccess) -> Result<(), AccessError> {
        let _one_at_a_time = lock(&self.access.replacing);
        if let Some(Some(socket)) = self.access.socket.get() {
            let (mode, group) = socket_access(&access);
            socket.open_to(mode, group)?;
        }
        self.ledger.set_quotas(access.quotas);
        let access = Arc::new(access);
        self.access.set(Arc::clone(&access));
        let is_stranger = |name: &Name, who: &Who<'_>| {
            !lets_in(&access, who) || !access.allows_name(Act::Register, name, who)
        };
        let members = self.members.all();
        let strangers = members.iter().filter(|member| is_stranger(&member.peer.name, &member.who())).count();
        self.events.tell(Event::Access {
            rules: access.len(),
            users: access.users.len(),
            groups: access.groups.len(),
            strangers,
        });
        Ok(())
    }
}

/// Whether a client would be let in now.
fn lets_in(access: &CheckedAccess, who: &Who<'_>) -> bool {
    let in_group = |gid| access.groups.iter().any(|group| same_group(*group, gid));
    is_own(who.uid)
        || access.users.iter().any(|user| same_user(*user, who.uid))
        || in_group(who.gid)
        || who.groups.iter().any(|gid| in_group(*gid))
}

/// Whether a user is the server's own, or root.
fn is_own(uid: u32) -> bool {
    same_user(uid, rustix::process::geteuid().as_raw()) || is_root(uid)
}

/// The socket's mode and group: open only as far as needed for those who are allowed. Whoever connects is
/// checked in any case.
pub(in crate::server) fn socket_access(access: &CheckedAccess) -> (u32, Option<u32>) {
    match (access.users.as_slice(), access.groups.as_slice()) {
        ([], []) => (0o600, None),
        ([], [group]) => (0o660, Some(*group)),
        _ => (0o666, None),
    }
}

const FOR_RELAYS: &str = "a name with @ stands for a client of another computer, and only a relay can have it: choose a name without";

const NO_RULE_FOR_RELAYS: &str = "only the server's own user and root may register relays, unless a rule names others (acts = [\"relay\"]): ask the \
                                  server's owner for one";

fn against_rules(act: Act, object: &str, who: &Who<'_>) -> Declined {
    let (name, uid) = (who.name.as_str(), who.uid);
    let why = format!(
        "client {name:?} of user {uid} may not {} {object:?}, because a rule closes it to this client: ask the server's \
         owner to change the rules (access, or [access] in the file of --config)",
        act.verb()
    );
    declined(Refusal::AgainstRules, why)
}

/// By which the table of topics asks whether a subscription may take a topic. Without a server, it may.
#[derive(Debug, Default, Clone)]
pub(in crate::server) struct Gate(Option<Arc<Shared>>);

impl Gate {
    pub(in crate::server) fn new(shared: Arc<Shared>) -> Gate {
        Gate(Some(shared))
    }

    pub(in crate::server) fn is_open(&self, subscriber: &Peer, topic: &Topic) -> bool {
        let Some(shared) = &self.0 else { return true };
        let Some(access) = shared.access.on(Act::Subscribe) else { return true };
        // One that has just left takes nothing.
        let Some(member) = shared.members.get(subscriber.key) else { return false };
        access.allows_topic(Act::Subscribe, topic, &member.who())
    }
}
