//! The library's failpoints, as far as they are built in (`--cfg ringpost_failpoints`).

use std::collections::BTreeMap;

use super::random::Random;

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Server,
    Client,
    Channel,
}

/// A point at which a process is to die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armed {
    pub name: &'static str,
    pub count: u64,
    stopping: bool,
    rare: bool,
}

impl Armed {
    /// As the environment tells a process.
    pub fn told(&self) -> String {
        format!("{}:{}", self.name, self.count)
    }

    /// Whether it is passed only when a ring is full, or nearly.
    pub fn is_rare(&self) -> bool {
        self.rare
    }

    /// Whether it is passed only by a server that was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }
}

pub const VARIABLE: &str = "RINGPOST_FAILPOINT";
pub const FAULT: &str = "RINGPOST_PLANTED_FAULT";

/// Whether there are any.
pub fn are_built_in() -> bool {
    cfg!(ringpost_failpoints)
}

/// The `turn`-th of this side's points, and at which passing.
#[cfg(ringpost_failpoints)]
pub fn choose(side: Side, turn: u64, random: &mut Random) -> Option<Armed> {
    use ringpost::testing::failpoints::{Often, POINTS};
    let of_side: Vec<_> = POINTS.iter().filter(|(_, who, _)| who & bit(side) != 0).collect();
    let (name, _, often) = of_side[(turn % of_side.len() as u64) as usize];
    let count = match often {
        Often::Always => {
            let most = 1 << random.below(9);
            1 + random.below(most)
        }
        Often::Seldom => 1 + random.below(4),
        Often::Starting | Often::Rarely | Often::Stopping => 1,
    };
    let (stopping, rare) = (*often == Often::Stopping, *often == Often::Rarely);
    Some(Armed { name, count, stopping, rare })
}

#[cfg(not(ringpost_failpoints))]
pub fn choose(_side: Side, _turn: u64, _random: &mut Random) -> Option<Armed> {
    None
}

#[cfg(ringpost_failpoints)]
fn bit(side: Side) -> u8 {
    match side {
        Side::Server => ringpost::testing::failpoints::SERVER,
        Side::Client => ringpost::testing::failpoints::CLIENT,
        Side::Channel => ringpost::testing::failpoints::CHANNEL,
    }
}

/// How many processes of each side died at each point.
#[derive(Debug, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Hits(BTreeMap<&'static str, BTreeMap<Side, u64>>);

impl Hits {
    /// Every point, with 0.
    #[cfg(ringpost_failpoints)]
    pub fn none() -> Hits {
        let sides = |who: u8| {
            let sides = [Side::Server, Side::Client, Side::Channel];
            sides.into_iter().filter(|side| who & bit(*side) != 0).map(|side| (side, 0)).collect()
        };
        Hits(
            ringpost::testing::failpoints::POINTS.iter().map(|(name, who, _)| (*name, sides(*who))).collect(),
        )
    }

    #[cfg(not(ringpost_failpoints))]
    pub fn none() -> Hits {
        Hits::default()
    }

    pub fn add(&mut self, side: Side, name: &'static str) {
        *self.0.entry(name).or_default().entry(side).or_default() += 1;
    }

    /// How many there are, and the least that any was hit.
    pub fn least(&self) -> (usize, u64) {
        let all = || self.0.values().flat_map(BTreeMap::values);
        (all().count(), all().min().copied().unwrap_or(0))
    }

    /// Those that were hit less often than that.
    pub fn below(&self, least: u64) -> Vec<String> {
        let mut below = Vec::new();
        for (name, sides) in &self.0 {
            for (side, hits) in sides.iter().filter(|(_, hits)| **hits < least) {
                below.push(format!("{name} ({side:?}: {hits})"));
            }
        }
        below
    }
}
