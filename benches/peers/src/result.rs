//! What came of all rounds.

use serde::Serialize;

use crate::failure::Failure;
use crate::measure::{Measured, quantile};
use crate::peers::{Kind, Peer};

/// One peer with one size of message.
#[derive(Debug, Serialize)]
pub struct Entry {
    pub peer: &'static str,
    pub kind: Kind,
    pub what: &'static str,
    pub version: Option<String>,
    pub size: usize,
    /// How many receive.
    pub readers: u32,
    /// The medians of the rounds; nothing if no round succeeded.
    pub summary: Option<Summary>,
    /// Why it was given up, if it was.
    pub failure: Option<String>,
    pub rounds: Vec<Round>,
    #[serde(skip)]
    pub about: &'static Peer,
}

#[derive(Debug, Serialize)]
pub struct Round {
    pub round: u32,
    #[serde(flatten)]
    pub measured: Measured,
    /// To the floor in the same round.
    pub ratio: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Medians over the rounds.
    pub median: f64,
    pub p99: f64,
    pub ratio: Option<f64>,
    /// The part that was received, where messages may be missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<f64>,
    /// The medians of the best and of the worst round.
    pub lowest: f64,
    pub highest: f64,
}

impl Entry {
    pub fn new(about: &'static Peer, size: usize, readers: u32, version: Option<String>) -> Entry {
        Entry {
            peer: about.name,
            kind: about.kind,
            what: about.what,
            version,
            size,
            readers,
            summary: None,
            failure: None,
            rounds: Vec::new(),
            about,
        }
    }

    pub fn give_up(&mut self, why: &Failure, round: u32) {
        let when = if self.rounds.is_empty() { String::new() } else { format!("in round {round}: ") };
        self.failure = Some(format!("{when}{why}"));
    }

    /// What was measured in this round.
    pub fn in_round(&self, round: u32) -> Option<&Measured> {
        self.rounds.iter().find(|done| done.round == round).map(|done| &done.measured)
    }

    fn summarize(&mut self) {
        if self.rounds.is_empty() {
            return;
        }
        let median = |value: fn(&Round) -> Option<f64>| {
            let mut values: Vec<f64> = self.rounds.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| quantile(&mut values, 0.5))
        };
        let medians = self.rounds.iter().map(|round| round.measured.median);
        self.summary = Some(Summary {
            median: median(|round| Some(round.measured.median)).unwrap_or(f64::NAN),
            p99: median(|round| Some(round.measured.p99)).unwrap_or(f64::NAN),
            ratio: median(|round| round.ratio),
            received: median(|round| round.measured.received),
            lowest: medians.clone().fold(f64::INFINITY, f64::min),
            highest: medians.fold(0.0, f64::max),
        });
    }
}

/// Sets each round beside its floor, and sums the rounds up.
pub fn finish(entries: &mut [Entry]) {
    for at in 0..entries.len() {
        if let Some(floor) = entries[at].kind.floor() {
            let readers = entries[at].readers;
            let ratios: Vec<Option<f64>> = entries[at]
                .rounds
                .iter()
                .map(|round| {
                    let floor = entries
                        .iter()
                        .find(|entry| entry.peer == floor && entry.readers == readers)?
                        .in_round(round.round)?;
                    Some(round.measured.median / floor.median)
                })
                .collect();
            for (round, ratio) in entries[at].rounds.iter_mut().zip(ratios) {
                round.ratio = ratio;
            }
        }
        entries[at].summarize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers;

    fn entry(peer: &str, medians: &[f64]) -> Entry {
        let mut entry = Entry::new(peers::find(peer).expect("a peer"), 64, 1, None);
        entry.rounds = (1..)
            .zip(medians)
            .map(|(round, &median)| Round {
                round,
                measured: Measured { median, p99: 2.0 * median, count: 1, received: None },
                ratio: None,
            })
            .collect();
        entry
    }

    #[test]
    fn a_round_is_set_beside_the_floor_of_the_same_round() {
        let mut entries =
            vec![entry("ringpost-spin", &[150.0, 800.0, 300.0]), entry("floor", &[100.0, 400.0])];
        finish(&mut entries);
        let summary = entries[0].summary.expect("a summary");
        assert_eq!((summary.median, summary.p99), (300.0, 600.0));
        assert_eq!((summary.lowest, summary.highest), (150.0, 800.0));
        assert_eq!(summary.ratio, Some(1.75), "of the two rounds that have a floor");
        assert_eq!(entries[1].summary.expect("a summary").ratio, Some(1.0));
    }

    #[test]
    fn no_round_has_no_summary() {
        let mut entries = vec![entry("ringpost-spin", &[])];
        entries[0].give_up(&Failure::new("why"), 1);
        finish(&mut entries);
        assert!(entries[0].summary.is_none());
        assert_eq!(entries[0].failure.as_deref(), Some("why"));
    }
}
