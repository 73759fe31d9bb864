//! The library's failpoints, read from its source code, and which of them to arm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::random::Random;

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Server,
    Client,
    Channel,
    /// A client with links.
    Link,
    /// A client with topics.
    Topic,
}

/// How often a process passes a failpoint; see `src/testing/failpoints.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Often {
    Always,
    Seldom,
    Rarely,
    Starting,
    Stopping,
    Waiting,
}

/// A failpoint as the source code states it.
#[derive(Debug, PartialEq, Eq)]
struct Failpoint {
    name: String,
    sides: Vec<Side>,
    often: Often,
}

/// Every failpoint of the library, in the order of its files.
static ALL: LazyLock<Vec<Failpoint>> = LazyLock::new(|| {
    let mut files = Vec::new();
    source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.sort();
    files.iter().flat_map(|file| failpoints_in(&fs::read_to_string(file).unwrap())).collect()
});

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The failpoints of one source file: `failpoint!("NAME", [PROCESS, …], HOW_OFTEN)`.
///
/// # Panics
///
/// If one is not written so.
fn failpoints_in(text: &str) -> Vec<Failpoint> {
    text.split(concat!("failpoint", "!(\""))
        .skip(1)
        .map(|rest| {
            let told = rest.split(");").next().unwrap_or(rest);
            parse(told).unwrap_or_else(|| panic!("a failpoint that says something else: {told}"))
        })
        .collect()
}

fn parse(told: &str) -> Option<Failpoint> {
    let (name, rest) = told.split_once("\", [")?;
    let (sides, often) = rest.split_once("],")?;
    let side = |word: &str| match word.trim() {
        "server" => Some(Side::Server),
        "client" => Some(Side::Client),
        "channel" => Some(Side::Channel),
        "link" => Some(Side::Link),
        "topic" => Some(Side::Topic),
        _ => None,
    };
    let often = match often.trim() {
        "always" => Often::Always,
        "seldom" => Often::Seldom,
        "rarely" => Often::Rarely,
        "starting" => Often::Starting,
        "stopping" => Often::Stopping,
        "waiting" => Often::Waiting,
        _ => return None,
    };
    Some(Failpoint {
        name: name.to_owned(),
        sides: sides.split(',').map(side).collect::<Option<_>>()?,
        often,
    })
}

/// A failpoint at which a process is to die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armed {
    pub name: &'static str,
    /// At which pass, from 1 on.
    pub count: u64,
    often: Often,
}

impl Armed {
    /// As the environment tells a process.
    pub fn told(&self) -> String {
        format!("{}:{}", self.name, self.count)
    }

    /// Whether it is passed only when a ring is full, or nearly.
    pub fn is_rare(&self) -> bool {
        self.often == Often::Rarely
    }

    /// Whether it is passed only by a server that was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.often == Often::Stopping
    }

    /// Whether it is passed only when a client has not taken a link for seconds.
    pub fn is_waiting(&self) -> bool {
        self.often == Often::Waiting
    }
}

pub const VARIABLE: &str = "RINGPOST_FAILPOINT";
pub const FAULT: &str = "RINGPOST_FAULT";

/// Whether this build has failpoints.
pub fn are_built_in() -> bool {
    cfg!(ringpost_failpoints)
}

/// The `turn`-th of this side's failpoints, and at which pass. None in a build without failpoints.
pub fn choose(side: Side, turn: u64, random: &mut Random) -> Option<Armed> {
    if !are_built_in() {
        return None;
    }
    let of_side: Vec<_> = ALL.iter().filter(|point| point.sides.contains(&side)).collect();
    let Failpoint { name, often, .. } = of_side[(turn % of_side.len() as u64) as usize];
    let count = match often {
        Often::Always => {
            let most = 1 << random.below(9);
            1 + random.below(most)
        }
        Often::Seldom => 1 + random.below(4),
        Often::Starting | Often::Rarely | Often::Stopping | Often::Waiting => 1,
    };
    Some(Armed { name, count, often: *often })
}

/// How many processes of each side died at each failpoint.
#[derive(Debug, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Hits(BTreeMap<&'static str, BTreeMap<Side, u64>>);

impl Hits {
    /// Every failpoint of this build, with 0.
    pub fn none() -> Hits {
        if !are_built_in() {
            return Hits::default();
        }
        let none = |point: &'static Failpoint| {
            (point.name.as_str(), point.sides.iter().map(|side| (*side, 0)).collect())
        };
        Hits(ALL.iter().map(none).collect())
    }

    pub fn add(&mut self, side: Side, name: &'static str) {
        *self.0.entry(name).or_default().entry(side).or_default() += 1;
    }

    /// How many there are, and the least that any was hit.
    pub fn least(&self) -> (usize, u64) {
        let all = || self.0.values().flat_map(BTreeMap::values);
        (all().count(), all().min().copied().unwrap_or(0))
    }

    /// Those that were hit less often than `least`.
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

pub mod tests {
    use std::collections::BTreeSet;

    use super::*;

    pub fn a_failpoint_says_who_passes_it_and_how_often() {
        let text = concat!("a(); failpoint", "!(\"x.y\", [server, client], rarely);\n b();");
        let sides = vec![Side::Server, Side::Client];
        assert_eq!(failpoints_in(text), [Failpoint { name: "x.y".to_owned(), sides, often: Often::Rarely }]);
        for wrong in
            ["x.y", "x.y\", [server]", "x.y\", [], always", "x.y\", [user], always", "x.y\", [server], daily"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    pub fn every_failpoint_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|point| point.name.as_str()).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.len() > 100, "only {} were found", names.len());
    }
}
