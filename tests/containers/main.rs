//! Tests of what containers do: filters that refuse newer calls, namespaces of all kinds, little memory and
//! few descriptors, and the server's own sandbox.
//!
//! A server, alice, who serves links and publishes, and bob, who does the rest, are processes of their own.
//! Where a filter or a namespace cannot be had, a test says so and passes.

#[path = "../common/mod.rs"]
mod common;

mod bus;
#[cfg(feature = "cli")]
mod lists;
mod namespaces;
mod parties;
mod refusals;
#[cfg(feature = "cli")]
mod sandboxed;
#[cfg(feature = "cli")]
mod trace;

use common::role;

#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    if !refusals::refuse_as_set() {
        return role::say("skipped");
    }
    match role.as_str() {
        "server" => parties::serve(&stage),
        "alice" => parties::alice(&stage),
        "bob" => parties::bob(&stage),
        #[cfg(feature = "cli")]
        "listed" => lists::execute(),
        #[cfg(feature = "cli")]
        "traced server" => trace::server(&stage),
        #[cfg(feature = "cli")]
        "traced client" => trace::client(&stage),
        other => panic!("no role {other:?}"),
    }
}
