//! Ends as futures, on tokio's runtimes and on that of async-io: each operation, what a dropped future
//! leaves, and many ends in one task and in one process.

#[path = "../common/mod.rs"]
mod common;

#[macro_use]
mod run;
mod calls;
mod cancel;
mod links;
mod many;
mod messages;
mod pipelined;
mod select;
mod topics;
mod types;

/// Runs a role when this program is started as one: see `common::role`.
#[test]
fn role() {
    let Some((role, stage)) = common::role::role() else { return };
    match role.as_str() {
        "server" => common::server::serve(common::server::as_set(), &stage),
        "serves" => links::serves(&stage),
        "many" => many::many(&stage),
        other => panic!("no role {other}"),
    }
}
