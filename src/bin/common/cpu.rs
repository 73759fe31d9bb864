//! CPUs: lists those this process may use, and pins threads to them.

use std::fs;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this thread may run on, in ascending order.
pub fn allowed() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Pins the calling thread, and all threads it starts later, to `cpu`.
pub fn pin(cpu: usize) -> Result<(), String> {
    let cannot = || format!("cannot pin a thread to CPU {cpu}: this process may use {}", list(&allowed()));
    if cpu >= CpuSet::MAX_CPU {
        return Err(cannot());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|_| cannot())
}

/// Checks whether a thread can be pinned to `cpu`, by doing so and undoing it.
pub fn can_pin(cpu: usize) -> Result<(), String> {
    let before = sched_getaffinity(None)
        .map_err(|error| format!("cannot find out which CPUs may be used: {error}"))?;
    pin(cpu)?;
    sched_setaffinity(None, &before).map_err(|error| format!("cannot unpin from CPU {cpu}: {error}"))
}

/// Restores the calling thread's CPUs when dropped. Children inherit the CPUs of the thread that starts them.
#[derive(Debug)]
pub struct SavedAffinity(Option<CpuSet>);

impl SavedAffinity {
    pub fn save() -> SavedAffinity {
        SavedAffinity(sched_getaffinity(None).ok())
    }
}

impl Drop for SavedAffinity {
    fn drop(&mut self) {
        if let Some(set) = &self.0 {
            let _ = sched_setaffinity(None, set);
        }
    }
}

/// Formats a list of CPUs: `CPU 3`, `CPUs 0-3,8`.
pub fn list(cpus: &[usize]) -> String {
    let mut text = String::from(if cpus.len() == 1 { "CPU " } else { "CPUs " });
    let mut rest = cpus;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|&(&cpu, next)| cpu == next).count();
        if rest.len() < cpus.len() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if run > 1 {
            text.push_str(&format!("-{}", first + run - 1));
        }
        rest = &rest[run..];
    }
    text
}

/// The CPUs on which the two ends of a measurement run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Pins {
    pub client: usize,
    pub server: usize,
}

impl Pins {
    /// The first two CPUs that this process may use, if it may use two.
    pub fn default_pins() -> Option<Pins> {
        match allowed()[..] {
            [client, server, ..] => Some(Pins { client, server }),
            _ => None,
        }
    }

    /// Whether the two CPUs are hyper-threads of one core; `None` if the kernel does not tell.
    pub fn same_core(self) -> Option<bool> {
        let path = format!("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", self.client);
        Some(in_list(fs::read_to_string(path).ok()?.trim(), self.server))
    }
}

impl FromStr for Pins {
    type Err = String;

    fn from_str(text: &str) -> Result<Pins, String> {
        let wanted = || "give two CPU numbers, CLIENT,SERVER, such as 0,1".to_string();
        let (client, server) = text.split_once(',').ok_or_else(wanted)?;
        let number = |text: &str| text.trim().parse().map_err(|_| wanted());
        Ok(Pins { client: number(client)?, server: number(server)? })
    }
}

/// Whether `cpu` is in a list in the kernel's format, such as `0-3,8`.
fn in_list(list: &str, cpu: usize) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<usize>(), last.parse::<usize>()), (Ok(first), Ok(last)) if (first..=last).contains(&cpu))
    })
}

/// The processor's name, as the kernel reports it.
pub fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| matches!(field.trim(), "model name" | "Model" | "cpu model"))
        .map(|(_, value)| value.trim().to_string())
}

/// The release of the running kernel.
pub fn kernel() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_two_numbers() {
        assert_eq!("0,1".parse(), Ok(Pins { client: 0, server: 1 }));
        assert_eq!("3, 2".parse(), Ok(Pins { client: 3, server: 2 }));
        for wrong in ["", "0", ",", "0,", "0,1,2", "a,b", "-1,0"] {
            assert!(wrong.parse::<Pins>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn cpu_lists_are_parsed_and_formatted() {
        assert!(in_list("0-3,8", 2) && in_list("0-3,8", 8) && in_list("5", 5));
        assert!(!in_list("0-3,8", 4) && !in_list("", 0) && !in_list("x-y", 0));
        assert_eq!(list(&[0]), "CPU 0");
        assert_eq!(list(&[0, 1, 2, 3, 8]), "CPUs 0-3,8");
        assert_eq!(list(&[1, 3]), "CPUs 1,3");
    }

    #[test]
    fn can_pin_refuses_impossible_cpus_and_undoes_possible_ones() {
        let before = allowed();
        assert!(can_pin(1_000_000).is_err());
        assert_eq!(can_pin(before[0]), Ok(()));
        assert_eq!(allowed(), before);
        {
            let _saved = SavedAffinity::save();
            pin(before[0]).unwrap();
            assert_eq!(allowed(), before[..1]);
        }
        assert_eq!(allowed(), before);
    }
}
