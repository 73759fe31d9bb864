//! Counts what a process holds (threads, descriptors, channels, memory), from /proc.

use std::fs;

use serde::Serialize;

/// Threads, descriptors, mappings of channels and links, memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Holdings {
    pub threads: u64,
    pub descriptors: u64,
    pub channels: u64,
    pub links: u64,
    /// Those of segments and pages of topics.
    pub topics: u64,
    /// Resident, without pages of files.
    pub memory_kib: u64,
}

impl Holdings {
    /// Those of a process; nothing if it is gone.
    pub fn of(pid: u32) -> Option<Holdings> {
        let count = |what: &str| {
            let entries = fs::read_dir(format!("/proc/{pid}/{what}")).ok()?;
            Some(entries.count() as u64)
        };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mapped = |name: &str| maps.lines().filter(|line| line.contains(name)).count() as u64;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        Some(Holdings {
            threads: count("task")?,
            descriptors: count("fd")?,
            channels: mapped("ringpost-channel"),
            links: mapped("ringpost-link"),
            topics: mapped("ringpost-topic") + mapped("ringpost-page"),
            memory_kib: field("RssAnon:")? + field("RssShmem:")?,
        })
    }

    /// Whether nothing is held beyond `base`, but for so much memory, and for the topic of registrations,
    /// which a server makes when it is first asked for.
    pub fn is_back_at(&self, base: &Holdings, allowance_kib: u64) -> bool {
        let presence = self.topics.saturating_sub(base.topics).min(1);
        self.threads == base.threads
            && (base.descriptors..=base.descriptors + 2 * presence).contains(&self.descriptors)
            && self.channels == base.channels
            && self.links == base.links
            && self.topics == base.topics + presence
            && self.memory_kib <= base.memory_kib + allowance_kib
    }
}

pub mod tests {
    use super::*;

    pub fn this_process_holds_something() {
        let held = Holdings::of(std::process::id()).unwrap();
        assert!(held.threads > 0 && held.descriptors > 2 && held.memory_kib > 0);
        let less = Holdings { memory_kib: held.memory_kib - 1, ..held };
        assert!(held.is_back_at(&held, 0) && held.is_back_at(&less, 1) && !held.is_back_at(&less, 0));
        assert!(!held.is_back_at(&Holdings { threads: 0, ..held }, 1 << 30));
    }
}
