//! `CheckedAccess`: an `Access` that was checked, and the decisions that follow from its rules.

#![forbid(unsafe_code)]

use super::error::AccessError;
use super::names::NamePattern;
use super::rules::{Access, Act, Rule};
use crate::connect::{Quotas, is_unknown_group, is_unknown_user, same_group, same_user};
use crate::wire::{Name, Pattern, Topic};

/// The most rules; the most patterns in all rules; the most users and groups, those of the rules included.
/// For one topic the main thread may have to look at all of them.
pub(super) const MOST_RULES: usize = 256;
pub(super) const MOST_PATTERNS: usize = 1024;
pub(super) const MOST_IDS: usize = 4096;

/// Who may use the server, and for what.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct CheckedAccess {
    pub(in crate::server) users: Vec<u32>,
    pub(in crate::server) groups: Vec<u32>,
    pub(in crate::server) quotas: Quotas,
    rules: Vec<CheckedRule>,
}

/// A rule that was checked.
#[derive(Debug, Clone, Default)]
struct CheckedRule {
    /// The bits of its acts.
    acts: u8,
    /// What it matches among names, if an act has names as objects.
    objects: Vec<NamePattern>,
    /// What it matches among topics, if an act has topics as objects.
    topics: Vec<Pattern>,
    users: Vec<u32>,
    groups: Vec<u32>,
    names: Vec<NamePattern>,
}

/// A client that wants to do something.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Who<'a> {
    pub(in crate::server) name: &'a Name,
    pub(in crate::server) uid: u32,
    pub(in crate::server) gid: u32,
    /// Its other groups.
    pub(in crate::server) groups: &'a [u32],
}

impl CheckedAccess {
    pub(in crate::server) fn new(access: Access) -> Result<CheckedAccess, AccessError> {
        let Access { users, groups, quotas, rules } = access;
        let most = |what, found, most| {
            if found > most { Err(AccessError::TooMany { what, found, most }) } else { Ok(()) }
        };
        let sum = |count: fn(&Rule) -> usize| rules.iter().map(count).sum::<usize>();
        most("rules", rules.len(), MOST_RULES)?;
        most("patterns", sum(|rule| rule.what.len() + rule.names.len()), MOST_PATTERNS)?;
        let ids = sum(|rule| rule.users.len() + rule.groups.len()) + users.len() + groups.len();
        most("users and groups", ids, MOST_IDS)?;
        check_ids(&users, &groups)?;
        let numbered = rules.into_iter().zip(1..);
        let rules =
            numbered.map(|(rule, number)| CheckedRule::new(rule, number)).collect::<Result<_, _>>()?;
        Ok(CheckedAccess { users, groups, quotas, rules })
    }

    /// How many rules there are.
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The bits of all acts that a rule is about.
    pub(super) fn acts(&self) -> u8 {
        self.rules.iter().fold(0, |acts, rule| acts | rule.acts)
    }

    /// Whether a client may do something to a client with this name.
    pub(in crate::server) fn allows_name(&self, act: Act, object: &Name, who: &Who<'_>) -> bool {
        self.decides_on_name(act, object, who).unwrap_or(true)
    }

    /// The same, or `None` if no rule is about it.
    pub(super) fn decides_on_name(&self, act: Act, object: &Name, who: &Who<'_>) -> Option<bool> {
        self.decides(act, who, |rule| rule.objects.iter().any(|pattern| pattern.matches(object)))
    }

    /// Whether a client may do something to this topic.
    pub(in crate::server) fn allows_topic(&self, act: Act, topic: &Topic, who: &Who<'_>) -> bool {
        self.decides(act, who, |rule| rule.topics.iter().any(|pattern| pattern.matches(topic)))
            .unwrap_or(true)
    }

    fn decides(&self, act: Act, who: &Who<'_>, is_about: impl Fn(&CheckedRule) -> bool) -> Option<bool> {
        let mut decision = None;
        for rule in self.rules.iter().filter(|rule| rule.acts & act.bit() != 0 && is_about(rule)) {
            if rule.names(who) {
                return Some(true);
            }
            decision = Some(false);
        }
        decision
    }

    /// Whether there can be a topic that matches this pattern and is open to the client. It may say so
    /// although there can be none.
    pub(in crate::server) fn may_allow_some(&self, act: Act, wanted: &Pattern, who: &Who<'_>) -> bool {
        let rules = || self.rules.iter().filter(|rule| rule.acts & act.bit() != 0);
        let is_covered = rules().any(|rule| rule.topics.iter().any(|pattern| pattern.includes(wanted)));
        !is_covered
            || rules()
                .any(|rule| rule.names(who) && rule.topics.iter().any(|pattern| pattern.intersects(wanted)))
    }
}

impl CheckedRule {
    fn new(rule: Rule, number: usize) -> Result<CheckedRule, AccessError> {
        let Rule { acts, what, users, groups, names } = rule;
        if acts.is_empty() {
            return Err(AccessError::NoActs { rule: number });
        }
        if what.is_empty() {
            return Err(AccessError::NoPatterns { rule: number });
        }
        check_ids(&users, &groups)?;
        let name = |pattern: &String| {
            NamePattern::new(pattern).map_err(|source| AccessError::Name {
                rule: number,
                pattern: pattern.clone(),
                source,
            })
        };
        let topic = |pattern: &String| {
            Pattern::new(pattern).map_err(|source| AccessError::Topic {
                rule: number,
                pattern: pattern.clone(),
                source,
            })
        };
        let mut checked = CheckedRule { users, groups, ..CheckedRule::default() };
        checked.acts = acts.iter().fold(0, |bits, act| bits | act.bit());
        if acts.iter().any(|act| act.is_on_topics()) {
            checked.topics = what.iter().map(topic).collect::<Result<_, _>>()?;
        }
        if acts.iter().any(|act| !act.is_on_topics()) {
            checked.objects = what.iter().map(name).collect::<Result<_, _>>()?;
        }
        checked.names = names.iter().map(name).collect::<Result<_, _>>()?;
        Ok(checked)
    }

    /// Whether the rule names this client.
    fn names(&self, who: &Who<'_>) -> bool {
        let CheckedRule { users, groups, names, .. } = self;
        let any_id = users.is_empty() && groups.is_empty();
        if any_id && names.is_empty() {
            return false;
        }
        let in_group = |gid| groups.iter().any(|group| same_group(*group, gid));
        let has_id = any_id
            || users.iter().any(|user| same_user(*user, who.uid))
            || in_group(who.gid)
            || who.groups.iter().any(|gid| in_group(*gid));
        has_id && (names.is_empty() || names.iter().any(|pattern| pattern.matches(who.name)))
    }
}

/// Refuses numbers that can be anybody's.
fn check_ids(users: &[u32], groups: &[u32]) -> Result<(), AccessError> {
    // To the kernel this number means "leave it as it is".
    if let Some(nobody) = users.iter().chain(groups).find(|&&id| id == u32::MAX) {
        return Err(AccessError::NobodyAllowed(*nobody));
    }
    // These numbers stand for all users or groups that are unknown in this namespace.
    let user = users.iter().find(|&&uid| is_unknown_user(uid));
    match user.or_else(|| groups.iter().find(|&&gid| is_unknown_group(gid))) {
        Some(id) => Err(AccessError::UnknownAllowed(*id)),
        None => Ok(()),
    }
}
