//! Where the measurement takes place.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// The CPUs of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pins {
    pub client: usize,
    pub server: usize,
}

impl Pins {
    /// The first two CPUs that this process may use; the same one twice if there is one only.
    pub fn choose() -> Outcome<Pins> {
        let cannot = |why: String| Failure::new(format!("cannot tell which CPUs may be used: {why}"));
        let set = sched_getaffinity(None).map_err(|error| cannot(error.to_string()))?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
        let client = allowed.next().ok_or_else(|| cannot("none".into()))?;
        Ok(Pins { client, server: allowed.next().unwrap_or(client) })
    }

    /// Whether each end has a CPU to itself.
    pub fn differ(self) -> bool {
        self.client != self.server
    }
}

/// Keeps the calling thread, and those that it starts from here on, on `cpu`.
pub fn pin(cpu: usize) -> Outcome {
    let cannot =
        |why: &dyn std::fmt::Display| Failure::new(format!("cannot keep a thread on CPU {cpu}: {why}"));
    if cpu >= CpuSet::MAX_CPU {
        return Err(cannot(&"there are not that many"));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| cannot(&error))
}

/// What readers of the figures want to know.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub kernel: String,
    pub pins: Pins,
    /// Whether the two CPUs are hyper-threads of one core, which flatters; none where the kernel does not
    /// say.
    pub same_core: Option<bool>,
}

impl Machine {
    pub fn look(pins: Pins) -> Machine {
        let unknown = || "unknown".to_string();
        let siblings = format!("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", pins.client);
        Machine {
            cpu: model().unwrap_or_else(unknown),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_string()),
            pins,
            same_core: fs::read_to_string(siblings).ok().map(|list| in_list(list.trim(), pins.server)),
        }
    }
}

fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| matches!(field.trim(), "model name" | "Model"))?;
    Some(value.trim().to_string())
}

/// Whether `cpu` is in a list as the kernel writes it, such as `0-3,8`.
fn in_list(list: &str, cpu: usize) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<usize>(), last.parse::<usize>()), (Ok(first), Ok(last)) if (first..=last).contains(&cpu))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_understood() {
        assert!(in_list("0-3,8", 2) && in_list("0-3,8", 8) && in_list("5", 5));
        assert!(!in_list("0-3,8", 4) && !in_list("", 0) && !in_list("x-y", 0));
    }
}
