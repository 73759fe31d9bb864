//! A subscriber that means harm: it rewrites the words that it shares with the publisher, never reads, and
//! subscribes and leaves without end. Beside two topics that it attacks are two that it does not know.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::thread::Builder;

use ringpost::WaitStrategy;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::stats::{Beside, quantile};
use serde::Serialize;

use super::partner::{BACK, FORTH, Partner, PartnerOptions, Role, register, subscribe};
use super::spinning::{Ends, plan};
use crate::measurement::Session;

/// Subscriptions of the attacker to each topic, whose words it rewrites.
const KEPT: u32 = 4;

/// Pieces of a block: its CPU is another's now and then, which the median leaves out.
const PIECES: u32 = 50;
const TRIPS: u32 = 20;
const SAMPLES: u64 = 500;

/// What a malicious subscriber does to others, by medians of short pieces.
#[derive(Serialize)]
pub struct Malicious {
    /// Publishing to an honest subscriber, beside a topic that it does not know.
    pub publisher: Beside,
    /// There and back to an honest subscriber, beside topics that it does not know.
    pub others: Beside,
    /// How many subscriptions the attacked topic had at the end.
    pub subscriptions: usize,
}

pub fn malicious(session: &Session) -> Result<Malicious, Failure> {
    session.with(plan(session), |setup| {
        let mut quiet = Ends::open(setup, "quiet")?;
        let mut attacked = Ends::open(setup, "attacked")?;
        let closers = [&quiet, &attacked].map(|ends| [ends.publisher.closer(), ends.subscriber.closer()]);
        setup.end_waits_on_signals(move || closers.iter().flatten().for_each(|end| end.close()));
        // Where it likes: it is not pinned.
        let mut attacker = Partner::start_here(setup, Role::Malicious, "attacked", KEPT)?;
        let mut measured: [Vec<f64>; 4] = Default::default();
        let mut subscriptions = 0;
        for block in setup.blocks() {
            setup.begin(block, "beside a malicious subscriber")?;
            attacker.process.check()?;
            let [sent, sent_quietly, trips, quiet_trips] = &mut measured;
            attacker.process.pause()?;
            sent_quietly.push(quantile(&quiet.publish(PIECES, SAMPLES)?.0, 0.5));
            quiet_trips.push(quantile(&quiet.trips(PIECES, TRIPS)?, 0.5));
            attacker.process.resume();
            sent.push(quantile(&attacked.publish(PIECES, SAMPLES)?.0, 0.5));
            trips.push(quantile(&attacked.trips(PIECES, TRIPS)?, 0.5));
            subscriptions = attacked.publisher.subscribers();
        }
        let [sent, sent_quietly, trips, quiet_trips] = &measured;
        let (publisher, others) = (Beside::of(sent, sent_quietly), Beside::of(trips, quiet_trips));
        Ok(Malicious { publisher, others, subscriptions })
    })
}

// ---- the attacker's side

pub fn attack(options: &PartnerOptions) -> Outcome {
    let mut client = register(options, "")?;
    let mut kept = Vec::new();
    for _ in 0..options.count {
        for topic in [FORTH, BACK] {
            // Asleep, as far as the publisher can tell.
            kept.push(subscribe(&mut client, &options.prefix, topic, WaitStrategy::Park)?);
        }
    }
    let pages = pages()?;
    if pages.is_empty() {
        return Err(Failure::failed("the attacker finds no page that it shares with a publisher"));
    }
    let memory = File::options().write(true).open("/proc/self/mem").map_err(Failure::failed)?;
    let rewrite = move || {
        // A publisher that has ended takes its pages along.
        if let Err(error) = rewrite(&memory, &pages) {
            eprintln!("ringpost-bench: the attacker cannot rewrite its pages any more: {error}");
        }
    };
    Builder::new().name("rewriter".into()).spawn(rewrite).map_err(Failure::failed)?;
    out::line("ready")?;
    loop {
        let one = subscribe(&mut client, &options.prefix, FORTH, WaitStrategy::Park);
        // Refused now and then, if its quota is used up.
        drop(one);
    }
}

/// Where this process has mapped the pages that it shares with publishers.
fn pages() -> Result<Vec<u64>, Failure> {
    let text = fs::read_to_string("/proc/self/maps").map_err(Failure::failed)?;
    Ok(text.lines().filter(|line| line.contains("memfd:ringpost-page")).filter_map(start).collect())
}

fn start(line: &str) -> Option<u64> {
    u64::from_str_radix(line.split_once('-')?.0, 16).ok()
}

/// Fills pages with what comes out of a generator, without end.
fn rewrite(memory: &File, pages: &[u64]) -> io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = [0; 4096];
    loop {
        for &page in pages {
            for word in bytes.as_chunks_mut::<8>().0 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Small values are those that mean something.
                *word = if state & 1 == 0 { state } else { state >> 8 & 3 }.to_le_bytes();
            }
            memory.write_all_at(&bytes, page)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_mapping_is_read() {
        assert_eq!(start("7f00-8f00 rw-s 00000000 00:01 5 /memfd:ringpost-page (deleted)"), Some(0x7f00));
        assert_eq!(start("nothing"), None);
    }
}
