//! `Machine`: collects what the report says about the computer.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use ringpost::cli::cpu::{self, Pins};
use serde::{Deserialize, Serialize};

/// The properties of the computer.
#[derive(Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: String,
    pub virtual_machine: bool,
    pub same_core: String,
    pub memory: String,
    pub kernel: String,
    pub system: String,
    pub governor: String,
    pub time: String,
    pub optimized: bool,
}

const UNKNOWN: &str = "unknown";

impl Machine {
    pub fn look() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let allowed = cpu::allowed();
        let info = read("/proc/cpuinfo");
        let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
        let same_core = match Pins::default_pins().and_then(Pins::same_core) {
            Some(true) => "the first two are hyper-threads of one core, which makes times shorter",
            Some(false) => "the first two are different cores",
            None => UNKNOWN,
        };
        let governor = allowed.first().map(|cpu| {
            read(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")).trim().to_string()
        });
        Machine {
            cpu: cpu::model().unwrap_or_else(|| UNKNOWN.into()),
            cpus: format!("{} ({})", allowed.len(), cpu::list(&allowed)),
            virtual_machine: flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            same_core: same_core.into(),
            memory: memory(&read("/proc/meminfo")),
            kernel: cpu::kernel().map_or_else(|| UNKNOWN.into(), |release| format!("Linux {release}")),
            system: pretty_name(&read("/etc/os-release")),
            governor: governor.filter(|name| !name.is_empty()).unwrap_or_else(|| UNKNOWN.into()),
            time: now(),
            optimized: !cfg!(debug_assertions),
        }
    }
}

fn memory(meminfo: &str) -> String {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map_or_else(|| UNKNOWN.into(), |kib| format!("{:.1} GiB", kib / f64::from(1 << 20)))
}

fn pretty_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| UNKNOWN.into(), |name| name.trim_matches('"').to_string())
}

/// The date and the time.
pub fn now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
}

/// Formats seconds since 1970 as date and time.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02} {:02}:{:02} UTC", month + 1, day + 1, rest / 3600, rest / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_calendar_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn proc_and_os_release_files_are_parsed() {
        assert_eq!(memory("MemTotal:       16384000 kB\n"), "15.6 GiB");
        assert_eq!(memory(""), UNKNOWN);
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"A System 1\"\n"), "A System 1");
    }
}
