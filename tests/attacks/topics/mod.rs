//! Attacks over topics: by a subscriber on an honest publisher and its other subscribers, and by a publisher
//! on honest subscribers. The attacker is another user, where the test is root's.

pub mod attacker;
mod honest;
mod kinds;

use super::common::proc::{Holdings, own_threads, threads};
use super::common::role::Role;
use super::common::{Bus, LIMIT, becomes, eventually, within_limit};
use super::{ALONE, Breaks, SLICE, Turns, compare, seconds};
use attacker::OTHER;
use honest::{Flow, Victim};
use ringpost::{Policy, WaitStrategy};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Which of the library's threads in this process, and of those that receive samples, do not sleep.
fn awake() -> Vec<(String, char)> {
    let counts = |name: &str| name.starts_with("rp-") || name.starts_with(honest::THREADS);
    threads("self").into_iter().filter(|(name, state)| counts(name) && *state != 'S').collect()
}

fn withstand(attack: &str, breaks: Breaks) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // For attacks on sleeping, all sleep.
    let wait = if attack.ends_with("waker") { WaitStrategy::Park } else { WaitStrategy::Adaptive };
    let bus = Bus::with(|b| b.wait(wait).allow_user(OTHER));
    set_permissions(bus.place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    let flow = Flow::start(&bus, wait);
    let victims = [Policy::Lossy, Policy::Latest].map(|policy| Victim::start(&bus, attack, policy, wait));
    // The readers' and the victims': each is attached by the publisher's watcher, some time later.
    flow.has_subscriptions(4);
    let held = || (own_threads(), Holdings::now());
    // Connections that only asked are closed soon.
    let mut before = held();
    eventually("nothing changes", || {
        std::thread::yield_now();
        let (now, former) = (held(), std::mem::replace(&mut before, held()));
        now == former && now == before
    });
    let start = || {
        let settings = [("PATH", bus.path().to_str().unwrap()), ("ATTACK", attack)];
        let mut attacker = Role::start("topic attacker", &settings);
        attacker.hear("ready");
        attacker
    };
    let mut attacker = start();

    let (mut attacked, mut behaved) = (Turns::default(), Turns::default());
    for turn in 0..seconds() * 2 {
        let mut halves = [("attack", &mut attacked), ("behave", &mut behaved)];
        // The order changes from pair to pair. Good behaviour uses the load of the last attack.
        if turn % 2 == 1 {
            halves.reverse();
        }
        for (what, turns) in halves {
            flow.next_slice();
            attacker.tell(&format!("{what} {}", SLICE.as_millis()));
            turns.add(&attacker.hear_within("", LIMIT * 2));
        }
    }

    if breaks == Breaks::Never {
        // Later it spoils what it keeps, which a victim may not have read to its end.
        flow.goes_on();
        assert_eq!(
            victims.iter().map(Victim::faults).sum::<u64>(),
            0,
            "held against it though it broke no rule"
        );
    }

    // Whatever it does with the memory that it keeps, nobody sleeps or stays awake for it.
    attacker.tell("outlast 0");
    attacker.hear_within("let go", LIMIT * 2);
    flow.goes_on();
    flow.rest();
    becomes("all threads sleep", awake, &Vec::new());
    flow.work();
    flow.goes_on();
    attacker.tell("enough");
    attacker.hear("raged");
    // A publisher that does not say that it has ended has ended with its process. Then nothing of it is left.
    drop(attacker);
    let (threads, had) = &before;
    let left = || {
        let (now, runs) = (Holdings::now(), own_threads());
        // Not all threads: another test may begin, and wait for this one.
        let is_left =
            runs.len() > threads.len() || now.descriptors > had.descriptors || now.channels > had.channels;
        is_left.then(|| format!("{now:?} where there were {had:?}; {runs:?} where there were {threads:?}"))
    };
    let end = Instant::now() + LIMIT;
    while let Some(left) = left() {
        assert!(Instant::now() < end, "something is left of the attacker's topics and subscriptions: {left}");
        std::thread::sleep(Duration::from_millis(1));
    }
    flow.goes_on();
    let mut attacker = start();

    // Everything ends during attacks.
    attacker.tell("attack 600000");
    flow.goes_on();
    if breaks == Breaks::Always {
        // On a busy machine perhaps only now.
        eventually("the attack is noticed", || {
            flow.evicted() + victims.iter().map(Victim::faults).sum::<u64>() > 0
        });
    }
    let suffered = victims.map(Victim::end);
    let (medians, evicted) = flow.end(attack);
    drop(attacker);
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!((summary.abandoned, summary.violations), (0, 0));

    let noticed = evicted + suffered.iter().map(|suffered| suffered.faults).sum::<u64>();
    match breaks {
        Breaks::Always => assert!(noticed > 0, "never noticed: {suffered:?}"),
        Breaks::Never => assert_eq!(evicted, 0, "given up though it broke no rule"),
        Breaks::Sometimes => {}
    }
    let [bad, good, ratio] = compare(&medians[1..]);
    println!(
        "{attack}: from the publisher to a reader p50 {bad} ns, {good} ns beside good behaviour, ratio {:.2}; evicted \
         {evicted} times; load {attacked}, {behaved}; {suffered:?}",
        f64::from(ratio) / 1000.0,
    );
}

macro_rules! attacks {
    ($($test:ident: $attack:literal, $breaks:ident;)+) => {
        $(#[test]
        fn $test() {
            withstand($attack, Breaks::$breaks);
        })+
    };
}

attacks! {
    a_subscriber_rewrites_its_page: "rewriter", Sometimes;
    a_subscriber_always_seems_to_sleep: "dozer", Sometimes;
    a_reliable_subscriber_never_reads: "deaf", Always;
    a_reliable_subscriber_forges_its_cursor: "jumper", Always;
    a_reliable_subscriber_reads_as_slowly_as_it_can: "crawler", Sometimes;
    a_subscriber_spoils_the_publishers_sleep: "waker", Sometimes;
    a_subscriber_fills_its_pipes: "kicker", Sometimes;
    a_subscriber_punches_holes_into_its_page: "puncher", Sometimes;
    a_client_subscribes_to_everything_again_and_again: "flooder", Never;
    a_client_takes_parts_and_never_answers: "mute", Sometimes;
    a_publisher_writes_garbage: "false rewriter", Always;
    a_publisher_laps_without_end: "false lapper", Never;
    a_publisher_announces_what_it_never_writes: "false announcer", Sometimes;
    a_publisher_changes_samples_while_they_are_read: "false fidget", Sometimes;
    a_publisher_numbers_samples_wrongly: "false counter", Sometimes;
    a_publisher_never_seals_its_memory: "false idler", Never;
    a_publisher_ends_and_goes_on: "false ender", Sometimes;
    a_publisher_spoils_its_subscribers_sleep: "false waker", Sometimes;
    a_publisher_gives_up_everyone: "false judge", Always;
    a_publisher_vanishes: "false vanisher", Sometimes;
}
