//! Tests of kicks between processes, where something else is not as it usually is: nobody reads a pipe any
//! more, other code has closed it, or the system refuses the calls by which it is best written and read.

#[path = "../common/mod.rs"]
mod common;
#[path = "../attacks/links/raw.rs"]
#[allow(dead_code, reason = "the attacks use the rest")]
mod raw;

mod cut_off;
mod given_up;
mod hello;
mod refused;
mod sigpipe;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = common::role::role() else { return };
    match role.as_str() {
        "calls" => sigpipe::call(&stage),
        "serves" => sigpipe::serve(&stage),
        "waits" => sigpipe::wait(&stage),
        "cut off" => cut_off::be_cut_off(&stage),
        "server" => refused::serve(&stage),
        "client" => refused::ask_and_serve(&stage),
        other => panic!("no role {other:?}"),
    }
}
