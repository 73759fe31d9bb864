//! Access: who may use a server and for what, by rules that are replaced while it runs. Clients of this
//! process, and of other processes and users.

#![allow(unsafe_code, reason = "there is no safe fork")]

#[path = "../common/mod.rs"]
mod common;

mod acts;
mod events;
mod replacing;
mod users;

use common::role;
use ringpost::{Access, Act, Rule};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "asks" => users::ask(&stage),
        other => panic!("no role {other:?}"),
    }
}

/// A rule about acts and objects that names nobody.
fn closed(acts: &[Act], what: &[&str]) -> Rule {
    let mut rule = Rule::default();
    rule.acts = acts.to_vec();
    rule.what = what.iter().map(|pattern| (*pattern).to_owned()).collect();
    rule
}

/// The same for all but the clients with these names.
fn only(acts: &[Act], what: &[&str], names: &[&str]) -> Rule {
    let mut rule = closed(acts, what);
    rule.names = names.iter().map(|name| (*name).to_owned()).collect();
    rule
}

fn with_rules(rules: impl Into<Vec<Rule>>) -> Access {
    let mut access = Access::default();
    access.rules = rules.into();
    access
}

/// Checks that a refusal says what it is about.
fn says(text: &str, parts: &[&str]) {
    for part in parts.iter().chain(&["a rule", "ask the server's owner"]) {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}
