//! What the kernel and a container refuse, and settings of the kernel that memory files meet.

use super::finding::Finding;
use super::subject::Subject;
use super::tree::Tree;
use ringpost::cli::lacks::Refused;

pub fn check(tree: &Tree, subject: &Subject) -> Vec<Finding> {
    vec![
        calls(tree, &ringpost::cli::lacks::refused()),
        users(tree, subject),
        memory_files(tree),
        huge_pages(tree),
        overcommit(tree),
    ]
}

/// Which calls this process is refused. Those that a server in a container of its own is refused, it says in
/// its log.
fn calls(tree: &Tree, refused: &[Refused]) -> Finding {
    let check = "system calls";
    if refused.is_empty() {
        return Finding::ok(check, "none is refused here");
    }
    let kernel = tree.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let by = match tree.field("/proc/self/status", "Seccomp").as_deref() {
        Some("0") => format!("the kernel (Linux {kernel})"),
        _ => format!("a filter of system calls, or the kernel (Linux {kernel})"),
    };
    let list = |of: &dyn Fn(&Refused) -> String| refused.iter().map(of).collect::<Vec<_>>().join("; ");
    Finding::warning(
        check,
        format!("refused by {by}: {}", list(&|one| format!("{} ({})", one.call, one.error))),
        format!("In place of that, who is refused it {}.", list(&|one| one.instead.to_owned())),
        "allow it in the container's filter: docs/CONTAINERS.md has lists that suffice; else a newer kernel",
    )
}

fn users(tree: &Tree, subject: &Subject) -> Finding {
    let check = "user namespace";
    let Some(map) = tree.read(&format!("{}/uid_map", subject.process)) else {
        return Finding::unknown(check, "it cannot be read");
    };
    let numbers: Vec<u64> = map.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    if numbers == [0, 0, 4_294_967_295] {
        return Finding::ok(check, "none: users have the same numbers everywhere");
    }
    let mapped: u64 = numbers.iter().skip(2).step_by(3).sum();
    let found = format!("{} is in one that has numbers for {mapped} users", subject.who());
    if mapped >= 65_536 {
        return Finding::ok(check, format!("{found}; those outside of it are strangers there"));
    }
    Finding::warning(
        check,
        found,
        "All other users look alike there (65534), and none of them is let in, whatever --allow-user says.",
        "map more users (/etc/subuid, --userns of a container), or let the members of a group in with --allow-group",
    )
}

/// Memory files that may be executed can be forbidden. Those of Ringpost are not to be executed.
fn memory_files(tree: &Tree) -> Finding {
    let check = "memory files";
    match tree.number("/proc/sys/vm/memfd_noexec") {
        None => Finding::ok(check, "any are allowed (there is no vm.memfd_noexec)"),
        Some(0) => Finding::ok(check, "any are allowed (vm.memfd_noexec is 0)"),
        Some(level @ 1..=2) => Finding::ok(
            check,
            format!("those that cannot be executed, which Ringpost's cannot (vm.memfd_noexec is {level})"),
        ),
        Some(level) => {
            Finding::unknown(check, format!("vm.memfd_noexec is {level}, which is not known here"))
        }
    }
}

fn huge_pages(tree: &Tree) -> Finding {
    let check = "huge pages";
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let Some(modes) = tree.read(path) else {
        return Finding::ok(check, "the kernel has none for shared memory");
    };
    let mode = modes.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'));
    match mode {
        Some(mode @ ("always" | "force")) => Finding::warning(
            check,
            format!("shared memory always gets them ({mode})"),
            "Each client then takes some megabytes as soon as it registers, in place of a few pages.",
            format!("echo advise > {path}"),
        ),
        Some(mode) => Finding::ok(check, format!("shared memory gets them as it asks ({mode})")),
        None => Finding::unknown(check, "the kernel does not say whether shared memory gets them"),
    }
}

fn overcommit(tree: &Tree) -> Finding {
    let check = "overcommit";
    match tree.number("/proc/sys/vm/overcommit_memory") {
        None => Finding::unknown(check, "vm.overcommit_memory cannot be read"),
        Some(2) => Finding::warning(
            check,
            "the kernel promises no more memory than it has (vm.overcommit_memory is 2)",
            "The rings of a client count in full when it registers, not when they are used, so fewer clients fit.",
            "sysctl -w vm.overcommit_memory=0, or a smaller --ring-size",
        ),
        Some(mode) => {
            Finding::ok(check, format!("memory is taken when it is used (vm.overcommit_memory is {mode})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::subject::tests::subject;
    use super::super::tree::tests::tree;
    use super::*;
    use std::io;

    #[test]
    fn refused_calls_are_told_with_what_is_done_instead() {
        let (tree, _directory) =
            tree(&[("proc/self/status", "Seccomp:\t2\n"), ("proc/sys/kernel/osrelease", "5.10.0\n")]);
        assert_eq!(calls(&tree, &[]).verdict, Verdict::Ok);
        let error = io::Error::from_raw_os_error(1);
        let refused = Refused { call: "futex_waitv", error, instead: "sleeps in slices" };
        let some = calls(&tree, &[refused]);
        assert_eq!(some.verdict, Verdict::Warning);
        assert!(
            some.found.contains("a filter") && some.found.contains("futex_waitv (Operation not"),
            "{some:?}"
        );
        assert!(some.found.contains("Linux 5.10.0") && some.means.contains("sleeps in slices"), "{some:?}");
    }

    #[test]
    fn a_namespace_with_few_users_is_told() {
        let of = |map| {
            let (tree, _directory) = tree(&[("proc/self/uid_map", map)]);
            users(&tree, &subject()).verdict
        };
        assert_eq!(of("         0          0 4294967295\n"), Verdict::Ok);
        assert_eq!(of("         0       1000          1\n"), Verdict::Warning);
        assert_eq!(of("  0  1000  1\n  1  100000  65536\n"), Verdict::Ok);
        assert_eq!(users(&Tree::at("/nowhere"), &subject()).verdict, Verdict::Unknown);
    }

    #[test]
    fn settings_of_memory_are_judged() {
        let of = |path, text, check: fn(&Tree) -> Finding| {
            let (tree, _directory) = tree(&[(path, text)]);
            check(&tree).verdict
        };
        let noexec = "proc/sys/vm/memfd_noexec";
        assert_eq!(of(noexec, "2\n", memory_files), Verdict::Ok);
        assert_eq!(of(noexec, "7\n", memory_files), Verdict::Unknown);
        let huge = "sys/kernel/mm/transparent_hugepage/shmem_enabled";
        assert_eq!(of(huge, "always within_size advise [never] deny force\n", huge_pages), Verdict::Ok);
        assert_eq!(of(huge, "[always] within_size advise never deny force\n", huge_pages), Verdict::Warning);
        assert_eq!(of(huge, "always never deny [force]\n", huge_pages), Verdict::Warning);
        let overcommitted = "proc/sys/vm/overcommit_memory";
        assert_eq!(of(overcommitted, "0\n", overcommit), Verdict::Ok);
        assert_eq!(of(overcommitted, "2\n", overcommit), Verdict::Warning);
    }
}
