//! The handshake of links, explored exhaustively: every order of datagrams, wake-ups, deaths and changes of
//! mind of a server, of callers and callees and of their forked children, within the bounds of each scenario.
//!
//! `model.rs` has what a scenario fixes and the faults that can be planted; `state.rs` what is known at one
//! moment; `steps/` what can happen next, one file for each party; `rules.rs` what must hold; `search.rs` the
//! search. The rings themselves are modelled under loom (`src/ring/model`): here a block that was committed
//! can be read, and a wait may look at any time.
//!
//! The search is our own, 150 lines, and not the crate `stateright`. Its tree would be 45 crates, with a web
//! server; and its check of *something happens at last* does not look for runs that go in circles, and knows
//! no steps that may but need not happen. Here all runs are shown to be finite, and the states in which
//! nothing more happens by itself are checked.
//!
//! `cargo test --profile checked --test handshake -- --nocapture` shows the counts, and the shortest way to
//! each planted fault.

#![forbid(unsafe_code)]

mod model;
mod rules;
mod scenarios;
mod search;
mod settle;
mod state;
mod steps;

use model::{Fault, Harm, Model};
use search::{Found, search};

/// More states than any scenario has.
const MOST: usize = 3_000_000;

/// How many more events may go wrong in each scenario.
fn more() -> u8 {
    std::env::var("RINGPOST_HANDSHAKE_MORE").map_or(0, |more| more.parse().expect("a number"))
}

fn explore(model: &Model) -> Found {
    let began = std::time::Instant::now();
    let found = search(model, MOST);
    let Found { states, steps, rests, .. } = found;
    let seconds = began.elapsed().as_secs_f32();
    println!("{:<44} {states:>8} states {steps:>8} steps {rests:>7} rests {seconds:>5.1} s", model.name);
    found
}

#[test]
fn no_rule_is_broken() {
    for scenario in scenarios::ALL {
        let model = Model { harms: scenario.harms + more(), ..scenario };
        if let Some(broken) = explore(&model).broken {
            panic!("{}: {}\n  {}", model.name, broken.rule, broken.trace.join("\n  "));
        }
    }
}

#[test]
fn each_planted_fault_breaks_its_rule() {
    let mut wrong = Vec::new();
    for &(fault, scenario, rule) in scenarios::FAULTS {
        let model = Model { fault: Some(fault), ..scenario };
        let found = search(&model, MOST);
        let broken = found.broken.map_or("nothing", |broken| {
            println!("\n{fault:?} ({}): {}\n  {}", model.name, broken.rule, broken.trace.join("\n  "));
            broken.rule
        });
        if broken != rule {
            wrong.push(format!("{fault:?} breaks \"{broken}\", not \"{rule}\""));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A limit of the protocol: while a child has the pipes and the lifeline, neither the peer nor the server can
/// see that its parent executes another program.
#[test]
fn an_exec_beside_a_child_is_not_noticed() {
    let model = Model { harm: &[Harm::Forks, Harm::ExecsBesideChild], ..scenarios::ONE_LINK };
    let broken = search(&model, MOST).broken.expect("somebody notices");
    assert!(broken.trace.iter().any(|step| step.ends_with("executes another program")));
}

#[test]
fn every_fault_is_planted() {
    let mut planted: Vec<_> = scenarios::FAULTS.iter().map(|&(fault, ..)| fault as usize).collect();
    planted.sort_unstable();
    assert!(planted.into_iter().eq(0..=Fault::IndexOfOldPage as usize));
}
