//! Limits on what a server takes: open files, threads, mappings, memory, pipes.

use super::finding::Finding;
use super::subject::Subject;
use super::tree::{Limit, Tree};
use ringpost::cli::args::readable_bytes;
use ringpost::cli::stats::thousands;

/// What a server has open, and runs, besides its clients.
const OWN: u64 = 100;

/// Mappings that a client takes in the server: its memory, and its thread's stack and signal stack, each with
/// a guard page.
const MAPPINGS: u64 = 5;

/// Pages in pipes of the links that one user may open by default.
const PIPES: u64 = 2048;

pub fn check(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    vec![
        open_files(tree, subject),
        threads(tree, subject),
        mappings(tree, subject),
        file_size(tree, subject),
        address_space(tree, subject),
        locked_memory(tree, subject),
        memory(tree, subject),
        pipes(tree, subject),
    ]
}

/// How many clients fit if there are `most` of something, of which each client takes `each`.
fn clients(most: u64, each: u64) -> String {
    thousands(most.saturating_sub(OWN) / each)
}

fn open_files(tree: &Tree, subject: &Subject) -> Finding {
    let check = "open files";
    let Some((soft, hard)) = tree.limits(&subject.process, "Max open files") else {
        return Finding::unknown(check, "the limit cannot be read");
    };
    // `ringpost-server` raises the one to the other when it starts.
    let limit = if subject.is_server { soft } else { hard };
    let Limit::Of(limit) = limit else {
        return Finding::ok(check, format!("{} may open any number", subject.who()));
    };
    let found = format!("{} may open {}", subject.who(), thousands(limit));
    let needed = subject.max_clients + OWN;
    if limit >= needed {
        return Finding::ok(check, format!("{found}; {} clients fit", thousands(subject.max_clients)));
    }
    let means = format!(
        "It refuses clients beyond about {}, but is set for {}.",
        clients(limit, 1),
        thousands(subject.max_clients)
    );
    let mend = format!(
        "ulimit -n {needed} in the shell that starts the server, or LimitNOFILE={needed} in its unit; or a smaller --max-clients"
    );
    if limit <= OWN {
        Finding::problem(check, found, means, mend)
    } else {
        Finding::warning(check, found, means, mend)
    }
}

fn threads(tree: &Tree, subject: &Subject) -> Finding {
    let check = "threads";
    let wanted = subject.max_clients.saturating_sub(subject.clients) + 30;
    let mut least: Option<(u64, String, String)> = None;
    let mut consider = |limit: u64, used: u64, found: String, mend: String| {
        let left = limit.saturating_sub(used);
        if least.as_ref().is_none_or(|(least, ..)| left < *least) {
            least = Some((left, found, mend));
        }
    };
    let status = format!("{}/status", subject.process);
    let uid = tree.field(&status, "Uid").and_then(|ids| ids.split_whitespace().nth(1).map(str::to_owned));
    // The limit does not hold for root.
    if let (Some((Limit::Of(limit), _)), Some(uid)) = (tree.limits(&subject.process, "Max processes"), &uid)
        && uid != "0"
    {
        let used = threads_of(tree, uid);
        consider(
            limit,
            used,
            format!("user {uid} may have {} and has {}", thousands(limit), thousands(used)),
            format!("ulimit -u {}, or LimitNPROC= in the unit", used + wanted),
        );
    }
    for group in tree.groups(&subject.process, "pids") {
        let number = |name| tree.number(&format!("{group}/{name}"));
        if let (Some(limit), Some(used)) = (number("pids.max"), number("pids.current")) {
            consider(
                limit,
                used,
                format!(
                    "its control group {group} may have {} and has {}",
                    thousands(limit),
                    thousands(used)
                ),
                format!(
                    "TasksMax={} in the unit, --pids-limit of a container, or pids.max of the group",
                    used + wanted
                ),
            );
        }
    }
    if let Some(limit) = tree.number("/proc/sys/kernel/threads-max") {
        let load = tree.read("/proc/loadavg").unwrap_or_default();
        let all = load.split_whitespace().nth(3).and_then(|tasks| tasks.split_once('/')?.1.parse().ok());
        let used = all.unwrap_or(0);
        consider(
            limit,
            used,
            format!("the system may have {} and has {}", thousands(limit), thousands(used)),
            format!("sysctl -w kernel.threads-max={}", used + wanted),
        );
    }
    match least {
        None => Finding::unknown(check, "no limit can be read"),
        Some((left, found, _)) if left >= wanted => Finding::ok(check, found),
        Some((left, found, mend)) => {
            let means = format!(
                "Each client takes one. About {} more clients fit, but the server is set for {} in all.",
                thousands(left.saturating_sub(30)),
                thousands(subject.max_clients)
            );
            Finding::warning(check, found, means, mend)
        }
    }
}

/// How many threads a user has, as far as that can be seen.
fn threads_of(tree: &Tree, uid: &str) -> u64 {
    let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let of = |name: String| {
        let status = format!("/proc/{name}/status");
        let real = tree.field(&status, "Uid")?;
        (real.split_whitespace().next() == Some(uid))
            .then(|| tree.field(&status, "Threads"))??
            .parse::<u64>()
            .ok()
    };
    tree.names("/proc").into_iter().filter(is_number).filter_map(of).sum::<u64>()
}

fn mappings(tree: &Tree, subject: &Subject) -> Finding {
    let check = "mappings";
    let Some(limit) = tree.number("/proc/sys/vm/max_map_count") else {
        return Finding::unknown(check, "vm.max_map_count cannot be read");
    };
    let found = format!("a process may have {} (vm.max_map_count)", thousands(limit));
    let needed = subject.max_clients * MAPPINGS + OWN;
    if limit >= needed {
        return Finding::ok(check, found);
    }
    let means = format!(
        "Each client takes {MAPPINGS} in the server. It refuses clients beyond about {}, but is set for {}.",
        clients(limit, MAPPINGS),
        thousands(subject.max_clients)
    );
    Finding::warning(check, found, means, format!("sysctl -w vm.max_map_count={needed}"))
}

fn file_size(tree: &Tree, subject: &Subject) -> Finding {
    let check = "file size";
    // Three rings and two pages.
    let needed = 3 * subject.ring_size + 8192;
    match tree.limits(&subject.process, "Max file size") {
        None => Finding::unknown(check, "the limit cannot be read"),
        Some((Limit::Of(limit), _)) if limit < needed => Finding::problem(
            check,
            format!("{} may make files of {} bytes", subject.who(), thousands(limit)),
            format!("The memory of a client is a file of {} bytes. None can register.", thousands(needed)),
            "ulimit -f unlimited in the shell that starts the server, LimitFSIZE=infinity in its unit, or a smaller --ring-size",
        ),
        Some((Limit::Of(limit), _)) => {
            Finding::ok(check, format!("{} bytes, enough for a client's memory", thousands(limit)))
        }
        Some((Limit::Unlimited, _)) => Finding::ok(check, "not limited"),
    }
}

fn address_space(tree: &Tree, subject: &Subject) -> Finding {
    let check = "address space";
    // The memory of a client, and the stack of its worker.
    let each = 3 * subject.ring_size + (2 << 20);
    match tree.limits(&subject.process, "Max address space") {
        None => Finding::unknown(check, "the limit cannot be read"),
        Some((Limit::Of(limit), _)) if limit / each < subject.max_clients => Finding::warning(
            check,
            format!("{} may map {} KiB", subject.who(), thousands(limit / 1024)),
            format!(
                "A client takes {} KiB of addresses. Fewer than {} fit, but the server is set for {}.",
                thousands(each / 1024),
                thousands(limit / each + 1),
                thousands(subject.max_clients)
            ),
            "ulimit -v unlimited, LimitAS=infinity in the unit, or a smaller --ring-size or --max-clients",
        ),
        Some((Limit::Of(limit), _)) => Finding::ok(check, format!("{} KiB", thousands(limit / 1024))),
        Some((Limit::Unlimited, _)) => Finding::ok(check, "not limited"),
    }
}

/// Only a process that locks all its memory (`mlockall`) can reach this limit.
fn locked_memory(tree: &Tree, subject: &Subject) -> Finding {
    let check = "locked memory";
    let limit = tree.limits(&subject.process, "Max locked memory");
    let locked = tree.field(&format!("{}/status", subject.process), "VmLck");
    let locked = locked.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    match (limit, locked) {
        (None, _) | (_, None) => Finding::unknown(check, "it cannot be read"),
        (_, Some(0)) => {
            Finding::ok(check, format!("{} locks none, so its limit does not matter", subject.who()))
        }
        (Some((Limit::Of(limit), _)), Some(locked)) => Finding::warning(
            check,
            format!(
                "{} has locked {} KiB of the {} KiB that it may lock",
                subject.who(),
                thousands(locked),
                thousands(limit / 1024)
            ),
            "What it maps for new clients is locked, too. At the limit it refuses them.",
            "ulimit -l unlimited in the shell that starts the server, or LimitMEMLOCK=infinity in its unit",
        ),
        (Some((Limit::Unlimited, _)), Some(_)) => Finding::ok(check, "not limited"),
    }
}

/// The memory of the control group, against that of all rings.
fn memory(tree: &Tree, subject: &Subject) -> Finding {
    let check = "memory";
    let groups = tree.groups(&subject.process, "memory");
    let limit = |group: &String| {
        let number = |name| tree.number(&format!("{group}/{name}"));
        // Without a limit the one has no number, and the other an enormous one.
        let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"));
        limit.filter(|limit| *limit < 1 << 60).map(|limit| (limit, group.clone()))
    };
    let Some((limit, group)) = groups.iter().filter_map(limit).min() else {
        return Finding::ok(check, "no control group limits it");
    };
    let all = subject.max_clients * 3 * subject.ring_size;
    let found = format!("the control group {group} may have {}", in_units(limit));
    if all + (64 << 20) <= limit {
        return Finding::ok(check, found);
    }
    let means = format!(
        "The rings of {} clients take {} if all are full. At the limit the kernel ends a process of the group.",
        thousands(subject.max_clients),
        in_units(all)
    );
    let mend = "a larger memory.max (MemoryMax= in a unit, --memory of a container), or a smaller --ring-size or --max-clients";
    Finding::warning(check, found, means, mend)
}

/// Bytes in whole MiB, if there are so many.
fn in_units(bytes: u64) -> String {
    let whole = if bytes >= 1 << 20 { bytes >> 20 << 20 } else { bytes };
    readable_bytes(usize::try_from(whole).unwrap_or(usize::MAX))
}

fn pipes(tree: &Tree, subject: &Subject) -> Finding {
    let check = "pipes";
    let Some(limit) = tree.number("/proc/sys/fs/pipe-user-pages-hard") else {
        return Finding::unknown(check, "fs.pipe-user-pages-hard cannot be read");
    };
    let needed = subject.max_clients * 2 + PIPES;
    let found = format!("a user may have {} pages in pipes (fs.pipe-user-pages-hard)", thousands(limit));
    match limit {
        0 => Finding::ok(check, "a user may have any number (fs.pipe-user-pages-hard is 0)"),
        limit if limit >= needed => Finding::ok(check, found),
        _ => Finding::warning(
            check,
            found,
            "Each link takes two of the server's user, and each client that waits in an event loop one or two. Beyond the limit \
             links and pipes are refused.",
            format!("sysctl -w fs.pipe-user-pages-hard={needed}, or 0 for no limit"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::subject::tests::subject;
    use super::super::tree::tests::tree;
    use super::*;

    fn limits(name: &str, soft: &str, hard: &str) -> String {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n{name}  {soft}  {hard}  x\n"
        )
    }

    /// The finding of a check in a tree with this file.
    fn found(
        path: &str,
        text: &str,
        check: impl Fn(&Tree, &Subject) -> Finding,
        subject: &Subject,
    ) -> Finding {
        let (tree, _directory) = tree(&[(path, text)]);
        check(&tree, subject)
    }

    fn running() -> Subject {
        Subject { process: "/proc/7".into(), is_server: true, ..subject() }
    }

    #[test]
    fn too_few_open_files_are_a_warning_and_hardly_any_a_problem() {
        let of = |soft, hard, subject: Subject| {
            let path = format!("{}/limits", subject.process);
            found(&path, &limits("Max open files", soft, hard), open_files, &subject)
        };
        assert_eq!(of("1024", "unlimited", subject()).verdict, Verdict::Ok);
        assert_eq!(of("64", "2000", subject()).verdict, Verdict::Ok, "the server raises it");
        let few = of("1024", "1024", subject());
        assert_eq!(few.verdict, Verdict::Warning);
        assert!(few.means.contains("beyond about 924") && few.mend.contains("ulimit -n 1124"), "{few:?}");
        // A server that runs has raised it as far as it may.
        let few = of("512", "4096", running());
        assert_eq!(
            (few.verdict, few.means.contains("beyond about 412")),
            (Verdict::Warning, true),
            "{few:?}"
        );
        assert_eq!(of("90", "90", running()).verdict, Verdict::Problem);
        assert_eq!(open_files(&Tree::at("/nowhere"), &subject()).verdict, Verdict::Unknown);
    }

    #[test]
    fn the_narrowest_limit_of_threads_is_told() {
        let status = "Uid:\t1000\t1000\t1000\t1000\nThreads:\t10\n";
        let files = |nproc: &str, pids: &'static str, system: &'static str| {
            vec![
                ("proc/self/limits", limits("Max processes", nproc, nproc)),
                ("proc/self/status", status.to_owned()),
                ("proc/12/status", status.to_owned()),
                ("proc/13/status", "Uid:\t0\t0\t0\t0\nThreads:\t500\n".to_owned()),
                ("proc/self/cgroup", "0::/box\n".to_owned()),
                ("sys/fs/cgroup/box/pids.max", pids.to_owned()),
                ("sys/fs/cgroup/box/pids.current", "20\n".to_owned()),
                ("proc/sys/kernel/threads-max", system.to_owned()),
                ("proc/loadavg", "0.1 0.1 0.1 1/300 7\n".to_owned()),
            ]
        };
        let of = |nproc, pids, system| {
            let files = files(nproc, pids, system);
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
            let (tree, _directory) = tree(&files);
            threads(&tree, &subject())
        };
        assert_eq!(of("9000", "max", "60000").verdict, Verdict::Ok);
        let user = of("500", "max", "60000");
        assert_eq!(
            (user.verdict, user.mend.contains("ulimit -u 1064")),
            (Verdict::Warning, true),
            "{user:?}"
        );
        let group = of("9000", "500", "60000");
        assert!(
            group.mend.contains("TasksMax=1074") && group.found.contains("/sys/fs/cgroup/box"),
            "{group:?}"
        );
        let system = of("9000", "max", "1000");
        assert!(system.mend.contains("kernel.threads-max=1354"), "{system:?}");
        assert_eq!(threads(&Tree::at("/nowhere"), &subject()).verdict, Verdict::Unknown);
    }

    #[test]
    fn mappings_must_suffice_for_all_clients() {
        let of = |text, most| {
            let subject = Subject { max_clients: most, ..subject() };
            found("proc/sys/vm/max_map_count", text, mappings, &subject)
        };
        assert_eq!(of("65530", 1024).verdict, Verdict::Ok);
        let few = of("65530", 20_000);
        assert_eq!(few.verdict, Verdict::Warning);
        assert!(few.mend.contains("vm.max_map_count=100100") && few.means.contains("13,086"), "{few:?}");
    }

    #[test]
    fn limits_of_sizes_are_compared_with_the_rings() {
        let of = |name, limit, check: fn(&Tree, &Subject) -> Finding| {
            found("proc/self/limits", &limits(name, limit, "unlimited"), check, &subject())
        };
        assert_eq!(of("Max file size", "unlimited", file_size).verdict, Verdict::Ok);
        assert_eq!(of("Max file size", "1000000", file_size).verdict, Verdict::Ok);
        assert_eq!(of("Max file size", "700000", file_size).verdict, Verdict::Problem);
        assert_eq!(of("Max address space", "unlimited", address_space).verdict, Verdict::Ok);
        let few = of("Max address space", "1073741824", address_space);
        assert_eq!((few.verdict, few.means.contains("Fewer than 373")), (Verdict::Warning, true), "{few:?}");
    }

    #[test]
    fn locked_memory_matters_to_who_locks() {
        let of = |locked: &str, limit: &str| {
            let (tree, _directory) = tree(&[
                ("proc/self/limits", &limits("Max locked memory", limit, limit)),
                ("proc/self/status", &format!("VmLck:\t {locked} kB\n")),
            ]);
            locked_memory(&tree, &subject()).verdict
        };
        assert_eq!(of("0", "65536"), Verdict::Ok);
        assert_eq!(of("64", "65536"), Verdict::Warning);
        assert_eq!(of("64", "unlimited"), Verdict::Ok);
    }

    #[test]
    fn a_small_control_group_is_told() {
        let of = |path, limit: &str, groups: &str| {
            let (tree, _directory) = tree(&[("proc/self/cgroup", groups), (path, limit)]);
            memory(&tree, &subject()).verdict
        };
        assert_eq!(of("sys/fs/cgroup/box/memory.max", "max\n", "0::/box/in\n"), Verdict::Ok);
        assert_eq!(of("sys/fs/cgroup/box/memory.max", "134217728\n", "0::/box/in\n"), Verdict::Warning);
        assert_eq!(of("sys/fs/cgroup/box/memory.max", "1073741824\n", "0::/box/in\n"), Verdict::Ok);
        let first = "sys/fs/cgroup/memory/box/memory.limit_in_bytes";
        assert_eq!(of(first, "134217728\n", "4:memory:/box\n"), Verdict::Warning);
        assert_eq!(of(first, "9223372036854771712\n", "4:memory:/box\n"), Verdict::Ok);
    }

    #[test]
    fn few_pages_in_pipes_are_told() {
        let of = |text| found("proc/sys/fs/pipe-user-pages-hard", text, pipes, &subject());
        assert_eq!(of("0").verdict, Verdict::Ok);
        assert_eq!(of("16384").verdict, Verdict::Ok);
        assert_eq!((of("100").verdict, of("100").mend.contains("=4096")), (Verdict::Warning, true));
    }
}
