//! The processors: how many there are for those that poll, how fast they may go, and what reading the clock
//! costs.

use super::finding::Finding;
use super::subject::Subject;
use super::tree::{Tree, cpus_in};
use ringpost::cli::stats::thousands;

const CLOCKS: &str = "/sys/devices/system/clocksource/clocksource0";

pub fn check(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    vec![cpus(tree, subject), quota(tree, subject), governor(tree), clock(tree)]
}

/// The CPUs that the process may use.
fn allowed(tree: &Tree, subject: &Subject) -> Option<u64> {
    cpus_in(&tree.field(&format!("{}/status", subject.process), "Cpus_allowed_list")?)
}

fn cpus(tree: &Tree, subject: &Subject) -> Finding {
    let check = "CPUs";
    let Some(allowed) = allowed(tree, subject) else {
        return Finding::unknown(check, "it cannot be read how many may be used");
    };
    let online = tree.read("/sys/devices/system/cpu/online").and_then(|list| cpus_in(&list));
    let online = online.unwrap_or(allowed).max(allowed);
    let found = match (allowed, online) {
        (1, 1) => "there is one".to_owned(),
        (allowed, online) if allowed == online => format!("all {online} may be used"),
        (allowed, online) => format!("{allowed} of {online} may be used"),
    };
    let more = if online > allowed {
        "let it use more: taskset, CPUAffinity= in the unit, or the cpuset of its container"
    } else {
        "give the machine more CPUs"
    };
    // Both ends of a call that does not sleep need one.
    let spinners = subject.clients.max(1) * 2;
    if subject.spins && spinners > allowed {
        let means = format!(
            "The server is set to spin: the worker of each of its {} clients keeps a CPU busy, and the client needs another one. \
             Who finds none waits for milliseconds.",
            thousands(subject.clients.max(1))
        );
        return Finding::problem(
            check,
            found,
            means,
            format!("start the server with --wait adaptive; or {more}"),
        );
    }
    if allowed == 1 {
        let means = "A client and its worker take turns on it, so each call costs two switches between them: some microseconds \
                     in place of a fraction of one.";
        return Finding::warning(check, found, means, more);
    }
    Finding::ok(check, found)
}

/// What a control group may use of the CPUs.
struct Quota {
    /// In microseconds.
    quota: u64,
    period: u64,
    group: String,
    throttled: u64,
}

fn quota_of(tree: &Tree, group: &str) -> Option<Quota> {
    let (quota, period) = match tree.read(&format!("{group}/cpu.max")) {
        Some(line) => {
            let (quota, period) = line.split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
        None => {
            let number = |name| tree.number(&format!("{group}/{name}"));
            (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
        }
    };
    let statistics = tree.read(&format!("{group}/cpu.stat")).unwrap_or_default();
    let throttled = statistics.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok());
    Some(Quota { quota, period: period.max(1), group: group.to_owned(), throttled: throttled.unwrap_or(0) })
}

fn quota(tree: &Tree, subject: &Subject) -> Finding {
    let check = "CPU quota";
    let groups = tree.groups(&subject.process, "cpu");
    let quotas = groups.iter().filter_map(|group| quota_of(tree, group));
    let Some(least) = quotas.min_by(|a, b| {
        (u128::from(a.quota) * u128::from(b.period)).cmp(&(u128::from(b.quota) * u128::from(a.period)))
    }) else {
        return Finding::ok(check, "no control group limits the time on CPUs");
    };
    let Quota { quota, period, group, throttled } = least;
    let cpus = quota as f64 / period as f64;
    let mut found = format!("the control group {group} may use {cpus:.2} CPUs");
    if throttled > 0 {
        found.push_str(&format!(", and was stopped {} times", thousands(throttled)));
    }
    let is_enough = allowed(tree, subject).is_some_and(|allowed| cpus >= allowed as f64);
    if throttled == 0 && (is_enough || cpus >= 2.0 && !subject.spins) {
        return Finding::ok(check, found);
    }
    let means = format!(
        "Who polls uses the quota up. Then everything in the group stands still until the next period, up to {} ms.",
        period.div_ceil(1000)
    );
    let mend = "a larger quota (CPUQuota= in the unit, --cpus of a container), or a server with --wait park, and clients that park";
    Finding::warning(check, found, means, mend)
}

fn governor(tree: &Tree) -> Finding {
    let check = "governor";
    let directory = "/sys/devices/system/cpu";
    let cpus = tree.names(directory);
    let is_cpu = |name: &&String| {
        name.strip_prefix("cpu")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let of = |cpu: &String, file: &str| tree.read(&format!("{directory}/{cpu}/cpufreq/{file}"));
    let governors: Vec<(String, String)> = cpus
        .iter()
        .filter(is_cpu)
        .filter_map(|cpu| Some((of(cpu, "scaling_governor")?, of(cpu, "scaling_driver").unwrap_or_default())))
        .collect();
    let Some((governor, driver)) = governors.first() else {
        return Finding::unknown(
            check,
            "the kernel does not say how fast the CPUs go, as in most virtual machines",
        );
    };
    // With these drivers `powersave` means that the processor chooses.
    let is_slow = |(governor, driver): &&(String, String)| {
        let chooses = driver == "intel_pstate" || driver.starts_with("amd-pstate");
        matches!(governor.as_str(), "powersave" | "conservative" | "ondemand")
            && !(chooses && governor == "powersave")
    };
    let slow = governors.iter().filter(is_slow).count();
    if slow == 0 {
        return Finding::ok(check, format!("{governor} ({driver})"));
    }
    let (governor, driver) = governors.iter().find(is_slow).unwrap_or(&governors[0]);
    Finding::warning(
        check,
        format!("{governor} ({driver}) on {slow} of {} CPUs", governors.len()),
        "A CPU that was idle is slow at first. Who sleeps and is woken takes longer, sometimes several times as long.",
        "cpupower frequency-set -g performance (or schedutil)",
    )
}

fn clock(tree: &Tree) -> Finding {
    let check = "clock";
    let Some(clock) = tree.read(&format!("{CLOCKS}/current_clocksource")) else {
        return Finding::unknown(check, "the kernel does not say how it reads the time");
    };
    let is_quick = |clock: &str| {
        matches!(
            clock,
            "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "arch_sys_counter" | "riscv_clocksource"
        )
    };
    if is_quick(&clock) {
        return Finding::ok(check, format!("{clock}, which is read without a system call"));
    }
    let available = tree.read(&format!("{CLOCKS}/available_clocksource")).unwrap_or_default();
    let mend = match available.split_whitespace().find(|clock| is_quick(clock)) {
        Some(better) => format!("echo {better} > {CLOCKS}/current_clocksource"),
        None => "if the processor's counter is reliable, boot with tsc=reliable; in a virtual machine ask its operator".into(),
    };
    Finding::warning(
        check,
        clock,
        "Each look at the time takes a system call and up to some microseconds: operations with a limit in time, the log, and \
         measurements are slower.",
        mend,
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::subject::tests::subject;
    use super::super::tree::tests::tree;
    use super::*;

    #[test]
    fn one_cpu_is_a_warning_and_spinners_without_cpus_a_problem() {
        let of = |allowed: &str, online: &str, spins, clients| {
            let (tree, _directory) = tree(&[
                ("proc/self/status", &format!("Cpus_allowed_list:\t{allowed}\n")),
                ("sys/devices/system/cpu/online", online),
            ]);
            cpus(&tree, &Subject { spins, clients, ..subject() })
        };
        assert_eq!(of("0-7", "0-7\n", false, 100), Finding::ok("CPUs", "all 8 may be used"));
        let one = of("3", "0-7\n", false, 1);
        assert_eq!((one.verdict, one.mend.contains("taskset")), (Verdict::Warning, true), "{one:?}");
        assert!(of("0", "0\n", false, 1).mend.contains("more CPUs"));
        assert_eq!(of("0-7", "0-7\n", true, 4).verdict, Verdict::Ok);
        let spinners = of("0-7", "0-7\n", true, 5);
        assert_eq!((spinners.verdict, spinners.mend.contains("--wait adaptive")), (Verdict::Problem, true));
    }

    #[test]
    fn a_quota_hurts_if_it_is_small_or_was_used_up() {
        let of = |quota: &str, statistics: &str, spins| {
            let (tree, _directory) = tree(&[
                ("proc/self/cgroup", "0::/a/b\n"),
                ("proc/self/status", "Cpus_allowed_list:\t0-7\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/cpu.max", quota),
                ("sys/fs/cgroup/a/cpu.stat", statistics),
            ]);
            super::quota(&tree, &Subject { spins, ..subject() })
        };
        assert_eq!(of("max 100000\n", "nr_throttled 0\n", false).verdict, Verdict::Ok);
        assert_eq!(of("400000 100000\n", "nr_throttled 0\n", false).verdict, Verdict::Ok);
        assert_eq!(of("400000 100000\n", "nr_throttled 0\n", true).verdict, Verdict::Warning);
        assert_eq!(of("800000 100000\n", "nr_throttled 0\n", true).verdict, Verdict::Ok);
        let used = of("400000 100000\n", "usage_usec 1\nnr_throttled 1234\n", false);
        assert_eq!((used.verdict, used.found.contains("1,234 times")), (Verdict::Warning, true), "{used:?}");
        let small = of("50000 100000\n", "", false);
        assert!(small.found.contains("0.50 CPUs") && small.means.contains("100 ms"), "{small:?}");
    }

    #[test]
    fn quotas_of_the_first_version_are_found() {
        let of = |quota: &str| {
            let (tree, _directory) = tree(&[
                ("proc/self/cgroup", "1:cpu,cpuacct:/\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ]);
            super::quota(&tree, &subject()).verdict
        };
        assert_eq!((of("-1\n"), of("50000\n")), (Verdict::Ok, Verdict::Warning));
    }

    #[test]
    fn slow_governors_are_told() {
        let of = |governor: &str, driver: &str| {
            let at = |file| format!("sys/devices/system/cpu/cpu1/cpufreq/{file}");
            let (tree, _directory) = tree(&[
                (&at("scaling_governor"), governor),
                (&at("scaling_driver"), driver),
                ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
            ]);
            super::governor(&tree).verdict
        };
        assert_eq!(of("performance\n", "acpi-cpufreq\n"), Verdict::Ok);
        assert_eq!(of("schedutil\n", "acpi-cpufreq\n"), Verdict::Ok);
        assert_eq!(of("powersave\n", "intel_pstate\n"), Verdict::Ok);
        assert_eq!(of("powersave\n", "acpi-cpufreq\n"), Verdict::Warning);
        assert_eq!(of("ondemand\n", "acpi-cpufreq\n"), Verdict::Warning);
        assert_eq!(super::governor(&Tree::at("/nowhere")).verdict, Verdict::Unknown);
    }

    #[test]
    fn clocks_that_take_a_system_call_are_told() {
        let of = |clock: &str, available: &str| {
            let directory = "sys/devices/system/clocksource/clocksource0";
            let (tree, _directory) = tree(&[
                (&format!("{directory}/current_clocksource"), clock),
                (&format!("{directory}/available_clocksource"), available),
            ]);
            super::clock(&tree)
        };
        assert_eq!(of("tsc\n", "tsc hpet\n").verdict, Verdict::Ok);
        let slow = of("hpet\n", "tsc hpet acpi_pm \n");
        assert_eq!((slow.verdict, slow.mend.starts_with("echo tsc > /sys/")), (Verdict::Warning, true));
        assert!(of("acpi_pm\n", "acpi_pm \n").mend.contains("tsc=reliable"));
    }
}
