//! Reads what the kernel tells in files: below a root directory, so that tests can put other files there.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most of a file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// The files of the system, or of a test.
#[derive(Debug)]
pub struct Tree(PathBuf);

/// A limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    Of(u64),
    Unlimited,
}

impl Tree {
    pub fn at(root: impl Into<PathBuf>) -> Tree {
        Tree(root.into())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The text of a file, without the white space around it.
    pub fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    pub fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// The names in a directory, in order; none if it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// What a line `KEY: value` says, as in `/proc/PID/status`.
    pub fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.read(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// A limit of a process by its name in `/proc/PID/limits`: the soft one, and the hard one.
    pub fn limits(&self, process: &str, name: &str) -> Option<(Limit, Limit)> {
        let text = self.read(&format!("{process}/limits"))?;
        let mut values = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        let mut limit = || match values.next()? {
            "unlimited" => Some(Limit::Unlimited),
            number => number.parse().ok().map(Limit::Of),
        };
        Some((limit()?, limit()?))
    }

    /// The directories of a process's control group and of those above it, for one controller, from the
    /// inside out. In a container the path may be that outside of it, of which only the root can be seen.
    pub fn groups(&self, process: &str, controller: &str) -> Vec<String> {
        let mut found = Vec::new();
        for line in self.read(&format!("{process}/cgroup")).unwrap_or_default().lines() {
            let Some((controllers, group)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
            else {
                continue;
            };
            let mounts: Vec<String> = if controllers.is_empty() {
                vec!["/sys/fs/cgroup".into(), "/sys/fs/cgroup/unified".into()]
            } else if controllers.split(',').any(|name| name == controller) {
                vec![format!("/sys/fs/cgroup/{controller}"), format!("/sys/fs/cgroup/{controllers}")]
            } else {
                continue;
            };
            for above in Path::new(group).ancestors() {
                for mount in &mounts {
                    found.push(format!("{mount}{}", above.display()).trim_end_matches('/').to_owned());
                }
            }
        }
        found.dedup();
        found
    }
}

/// How many CPUs are in a list of the kernel, such as `0-3,8`.
pub fn cpus_in(list: &str) -> Option<u64> {
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').map(count).sum()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A tree of these files, which is removed with the directory.
    pub fn tree(files: &[(&str, &str)]) -> (Tree, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        (Tree::at(directory.path()), directory)
    }

    #[test]
    fn values_are_read_and_what_is_not_there_is_not_known() {
        let (tree, _directory) = tree(&[
            ("proc/sys/vm/max_map_count", "65530\n"),
            ("proc/self/status", "Name:\tx\nVmLck:\t      12 kB\n"),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max file size             unlimited            unlimited            bytes     \n\
                 Max open files            1024                 524288               files     \n",
            ),
        ]);
        assert_eq!(tree.number("/proc/sys/vm/max_map_count"), Some(65_530));
        assert_eq!(tree.number("/proc/sys/vm/missing"), None);
        assert_eq!(tree.field("/proc/self/status", "VmLck").as_deref(), Some("12 kB"));
        assert_eq!(tree.field("/proc/self/status", "Vm"), None);
        let limit = |name| tree.limits("/proc/self", name);
        assert_eq!(limit("Max open files"), Some((Limit::Of(1024), Limit::Of(524_288))));
        assert_eq!(limit("Max file size"), Some((Limit::Unlimited, Limit::Unlimited)));
        assert_eq!(limit("Max nothing"), None);
        assert!(Limit::Of(u64::MAX) < Limit::Unlimited);
        assert_eq!(tree.names("/proc/self"), ["limits", "status"]);
        assert!(tree.names("/nowhere").is_empty());
    }

    #[test]
    fn control_groups_are_found_in_both_versions() {
        let groups = |text, controller| {
            let (tree, _directory) = tree(&[("proc/self/cgroup", text)]);
            tree.groups("/proc/self", controller)
        };
        let second = groups("0::/a/b\n", "cpu");
        let plain: Vec<&String> = second.iter().filter(|path| !path.contains("unified")).collect();
        assert_eq!(plain, ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]);
        let first = groups("5:cpu,cpuacct:/box\n4:memory:/y\n", "cpu");
        assert!(first.contains(&"/sys/fs/cgroup/cpu/box".to_owned()), "{first:?}");
        assert!(first.contains(&"/sys/fs/cgroup/cpu,cpuacct/box".to_owned()), "{first:?}");
        assert!(!first.iter().any(|path| path.ends_with('y')), "{first:?}");
    }

    #[test]
    fn cpus_are_counted() {
        for (list, count) in [("0", Some(1)), ("0-3,8", Some(5)), ("", None), ("x", None), ("3-1", None)] {
            assert_eq!(cpus_in(list), count, "{list:?}");
        }
    }
}
