//! Attacks over links: by a caller on a serving process, by a callee on its callers, and by clients on the
//! server's introductions. Honest pairs work meanwhile.

pub mod attacker;
mod honest;
mod kinds;
mod looped;
mod raw;

use super::common::proc::{Holdings, own_threads, threads};
use super::common::role::Role;
use super::common::{Bus, LIMIT, becomes, eventually, within_limit};
use super::{ALONE, Breaks, RING, SLICE, Turns, compare, seconds};
use honest::{Pair, Victim};
use ringpost::WaitStrategy;
use std::sync::PoisonError;
use std::time::Instant;

/// Which of the library's threads in this process do not sleep.
fn awake() -> Vec<(String, char)> {
    threads("self").into_iter().filter(|(name, state)| name.starts_with("rp-") && *state != 'S').collect()
}

/// `connects`: a victim connects to the attacker meanwhile.
fn withstand(attack: &str, breaks: Breaks, connects: bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // For attacks on sleeping, all sleep.
    let wait = if attack.ends_with("waker") { WaitStrategy::Park } else { WaitStrategy::Adaptive };
    let bus = Bus::with(|b| b.ring_size(RING as usize).wait(wait));
    // For attacks by kicks, all wait in event loops.
    let in_loops = attack.ends_with("kicker");
    let pair = Pair::start(&bus, in_loops);
    let victim = connects.then(|| Victim::start(&bus, attack, in_loops));
    let mut attacker =
        Role::start("link attacker", &[("PATH", bus.path().to_str().unwrap()), ("ATTACK", attack)]);
    attacker.hear("ready");
    // A new thread first has the name of the thread that started it.
    let worker: String = format!("rp-{attack}").chars().take(15).collect();
    eventually("the attacker's worker has its name", || own_threads().contains(&worker));
    pair.goes_on();
    let held = || (own_threads(), Holdings::now());
    // Connections that only asked are closed soon.
    let mut before = held();
    eventually("nothing changes", || {
        std::thread::yield_now();
        let (now, former) = (held(), std::mem::replace(&mut before, held()));
        now == former && now == before
    });

    let (mut attacked, mut behaved) = (Turns::default(), Turns::default());
    if let Some(victim) = &victim {
        victim.work();
    }
    for turn in 0..seconds() * 2 {
        let mut halves = [("attack", &mut attacked), ("behave", &mut behaved)];
        // The order changes from pair to pair. Good behaviour uses the load of the last attack.
        if turn % 2 == 1 {
            halves.reverse();
        }
        for (what, turns) in halves {
            pair.next_slice();
            attacker.tell(&format!("{what} {}", SLICE.as_millis()));
            turns.add(&attacker.hear(""));
        }
    }
    // On a busy machine the slices may have been too short.
    let until = Instant::now() + LIMIT;
    while breaks == Breaks::Always && !connects && attacked.closed == 0 && Instant::now() < until {
        attacker.tell(&format!("attack {}", SLICE.as_millis()));
        attacked.add(&attacker.hear(""));
    }
    if breaks == Breaks::Never {
        assert_eq!(attacked.closed, 0, "thrown out though it broke no rule");
    }

    // Whatever it does with the memory that it keeps, nothing of it is left, and nobody sleeps or stays
    // awake.
    attacker.tell("outlast 0");
    attacker.hear_within("let go", LIMIT * 2);
    if let Some(victim) = &victim {
        victim.rest();
    }
    // Not more than before: a connection that only asked may still have been open then.
    let is_left = || {
        let (now, (threads, before)) = (Holdings::now(), &before);
        // Not all threads: another test may begin, and wait for this one.
        own_threads().len() > threads.len()
            || now.descriptors > before.descriptors
            || now.channels > before.channels
    };
    eventually("nothing is left of the links", || !is_left());
    pair.goes_on();
    pair.rest();
    becomes("all threads sleep", awake, &Vec::new());
    pair.work();
    pair.goes_on();
    attacker.tell("enough");
    attacker.hear("raged");

    // The serving ends, and the server, during attacks.
    if let Some(victim) = &victim {
        victim.work();
    }
    attacker.tell("attack 600000");
    pair.goes_on();
    if let (Breaks::Always, Some(victim)) = (breaks, &victim) {
        eventually("the attack is noticed", || victim.violations() > 0);
    }
    let suffered = victim.map(Victim::end);
    let medians = pair.end();
    drop(attacker);
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!((summary.abandoned, summary.violations), (0, 0));
    becomes("the threads are gone", own_threads, &vec!["rp-watcher".to_owned()]);

    if breaks == Breaks::Always {
        let noticed = suffered.as_ref().map_or(attacked.closed, |suffered| suffered.violations);
        assert!(noticed > 0, "never thrown out: {suffered:?}");
    }
    let [bad, good, ratio] = compare(&medians[1..]);
    println!(
        "{attack}: honest p50 {bad} ns, {good} ns beside good behaviour, ratio {:.2}; thrown out {} times; load {attacked}, \
         {behaved}; {suffered:?}",
        f64::from(ratio) / 1000.0,
        attacked.closed
    );
}

macro_rules! attacks {
    ($($test:ident: $attack:literal, $breaks:ident, $connects:literal;)+) => {
        $(#[test]
        fn $test() {
            withstand($attack, Breaks::$breaks, $connects);
        })+
    };
}

attacks! {
    a_caller_rewrites_every_word: "rewriter", Always, false;
    a_caller_wakes_for_nothing: "waker", Sometimes, false;
    a_caller_kicks_for_nothing: "kicker", Always, false;
    a_caller_punches_holes: "puncher", Sometimes, false;
    a_caller_never_reads_responses: "mute", Never, false;
    a_caller_goes_on_after_the_close: "late", Sometimes, false;
    a_caller_sends_what_no_caller_sends: "babbler", Sometimes, false;
    a_caller_vanishes_in_mid_block: "vanisher", Never, false;
    callers_never_say_hello: "shy", Never, false;
    a_callee_rewrites_every_word: "false rewriter", Always, true;
    a_callee_wakes_for_nothing: "false waker", Sometimes, true;
    a_callee_kicks_for_nothing: "false kicker", Always, true;
    a_callee_punches_holes: "false puncher", Sometimes, true;
    a_callee_never_answers: "false mute", Never, true;
    a_callee_goes_on_after_the_close: "false late", Sometimes, true;
    a_callee_answers_what_was_not_asked: "false liar", Always, true;
    a_callee_greets_wrongly: "false greeter", Always, true;
    a_callee_vanishes: "false vanisher", Never, true;
    a_client_never_takes_what_it_is_owed: "sleeper", Never, true;
    a_client_asks_for_what_others_are_owed: "forger", Never, false;
}
