//! The sandbox (`--sandbox`): limits which files this process can reach, and which system calls it can make.
//!
//! Both limits hold for the whole process and cannot be lifted. The kernel limits files for a thread and
//! those that it starts, so that is done before there is a second one. Calls are limited for all threads,
//! when the start is over and what only the start needs is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use ringpost::cli::calls::{CALLS, PROGRAM};
use ringpost::cli::exit::Failure;

/// What the kernel and the standard library tell about this process and the processors.
const READABLE: [&str; 4] = ["/proc/self", "/proc/sys/kernel", "/sys/devices/system/cpu", "/sys/fs/cgroup"];

/// The newest kernel interface whose rights are known here. Older kernels limit less.
const NEWEST: ABI = ABI::V6;

/// The files of a server.
pub struct Files<'a> {
    pub socket: &'a Path,
    pub log: Option<&'a Path>,
    pub config: Option<&'a Path>,
    /// The socket of the metrics, which is there already, and is removed at the end.
    pub metrics: Option<&'a Path>,
}

/// From now on this thread, and those that it starts, reach only these files and what they need to make anew,
/// rotate and remove them. No TCP port can be opened or reached.
pub fn limit_files(files: &Files<'_>) -> Result<(), Failure> {
    let status = restrict(files).map_err(|error| cannot("limit which files it reaches", &error))?;
    if status == RulesetStatus::NotEnforced {
        return Err(cannot(
            "limit which files it reaches",
            &"this kernel has no Landlock, which came with Linux 5.13 and may be turned off (lsm= at boot)",
        ));
    }
    Ok(())
}

/// From now on no thread of this process makes other calls than a server that runs.
pub fn limit_calls() -> Result<(), Failure> {
    let [listed, no_clone3] = filters().map_err(|error| cannot("make a filter of system calls", &error))?;
    // In this order: the list does not contain what installs a filter.
    for filter in [&no_clone3, &listed] {
        seccompiler::apply_filter_all_threads(filter)
            .map_err(|error| cannot("limit its system calls", &error))?;
    }
    Ok(())
}

fn cannot(what: &str, why: &dyn Display) -> Failure {
    Failure::failed(format!("--sandbox: the server cannot {what}: {why}; or start it without --sandbox"))
}

fn restrict(files: &Files<'_>) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Making, renaming and removing are rights in the directory.
    let write = AccessFs::ReadFile
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .create()?;
    for place in READABLE {
        rules = allow(rules, Path::new(place), read)?;
    }
    for directory in directories(files.socket) {
        rules = allow(rules, &directory, write | AccessFs::MakeSock)?;
    }
    for directory in files.log.into_iter().flat_map(directories) {
        rules = allow(rules, &directory, write)?;
    }
    for directory in files.metrics.into_iter().flat_map(directories) {
        rules = allow(rules, &directory, AccessFs::RemoveFile.into())?;
    }
    for directory in files.config.into_iter().flat_map(directories) {
        rules = allow(rules, &directory, read)?;
    }
    if files.config.is_some() {
        // A configuration that is loaded anew may name users and groups.
        rules = allow(rules, Path::new("/etc"), AccessFs::ReadFile.into())?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// What is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    place: &Path,
    rights: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(place) {
        Ok(opened) => rules.add_rule(PathBeneath::new(opened, rights)),
        Err(_) => Ok(rules),
    }
}

/// The directory in which a file is, and the one in which the file is that a link there leads to.
fn directories(file: &Path) -> BTreeSet<PathBuf> {
    let of = |file: PathBuf| file.parent().map(Path::to_owned);
    let direct = std::path::absolute(file).ok().and_then(of);
    let linked = std::fs::canonicalize(file).ok().and_then(of);
    direct.into_iter().chain(linked).collect()
}

// ---- calls

/// What `clone` must not make.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// How an argument is compared.
enum Only {
    Equal(u64),
    /// None of these bits is set.
    Without(u64),
}

/// The filters: one refuses with `EPERM` what the tables do not contain, and of some calls all but what is
/// needed. The other says of `clone3` that there is none: a filter cannot see its arguments, and the C
/// library takes `clone` then.
fn filters() -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in CALLS.iter().chain(PROGRAM) {
        rules.insert(call.number, Vec::new());
    }
    let some = |argument, only: &[Only]| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        only.iter().map(|only| rule(argument, only)).collect()
    };
    let unix = [Only::Equal(libc::AF_UNIX as u64)];
    rules.insert(libc::SYS_socket, some(0, &unix)?);
    rules.insert(libc::SYS_socketpair, some(0, &unix)?);
    // Memory that can be executed is never made.
    let data = [Only::Without(libc::PROT_EXEC as u64)];
    rules.insert(libc::SYS_mmap, some(2, &data)?);
    rules.insert(libc::SYS_mprotect, some(2, &data)?);
    rules.insert(libc::SYS_clone, some(0, &[Only::Without(NAMESPACES as u64)])?);
    // A signal is sent to nobody; whether a process exists may be asked.
    rules.insert(libc::SYS_kill, some(1, &[Only::Equal(0)])?);
    // What is unread, whether a log goes to a terminal, and the mode of a socket.
    let asked = [libc::TIOCOUTQ, libc::TCGETS, libc::FIONBIO].map(Only::Equal);
    rules.insert(libc::SYS_ioctl, some(1, &asked)?);
    // The names of threads and of memory.
    let names = [libc::PR_SET_NAME, libc::PR_SET_VMA].map(|what| Only::Equal(what as u64));
    rules.insert(libc::SYS_prctl, some(0, &names)?);
    let [refused, unknown] = [libc::EPERM, libc::ENOSYS].map(|errno| SeccompAction::Errno(errno as u32));
    let listed = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?;
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, unknown, architecture)?;
    Ok([listed.try_into()?, no_clone3.try_into()?])
}

fn rule(argument: u8, only: &Only) -> Result<SeccompRule, seccompiler::BackendError> {
    let (compared, with) = match *only {
        Only::Equal(value) => (SeccompCmpOp::Eq, value),
        Only::Without(bits) => (SeccompCmpOp::MaskedEq(bits), 0),
    };
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compared, with)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::thread;

    use rustix::process::{Signal, getpid, kill_process, test_kill_process};
    use tempfile::TempDir;

    /// Runs it on a thread of its own, which is limited alone.
    fn apart<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(run).join().unwrap()
    }

    #[test]
    fn calls_are_those_of_a_server() {
        apart(|| {
            let directory = TempDir::new().unwrap();
            let [listed, no_clone3] = filters().unwrap();
            for filter in [&no_clone3, &listed] {
                if seccompiler::apply_filter(filter).is_err() {
                    return eprintln!("skipped: there are no filters here");
                }
            }
            assert_eq!(apart(|| 1), 1, "threads can be started");
            let file = directory.path().join("file");
            fs::write(&file, b"x").unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"x");
            assert!(UnixListener::bind(directory.path().join("socket")).is_ok());
            let denied = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
            assert!(TcpListener::bind("127.0.0.1:0").is_err_and(denied));
            assert!(Command::new("/bin/true").status().is_err_and(denied));
            assert!(fs::create_dir(directory.path().join("directory")).is_err_and(denied));
            // Its default is to be ignored.
            assert!(kill_process(getpid(), Signal::WINCH).is_err());
            assert!(test_kill_process(getpid()).is_ok());
        });
    }

    #[test]
    fn files_are_those_of_a_server() {
        apart(|| {
            let directory = TempDir::new().unwrap();
            let at = |path: &str| directory.path().join(path);
            for inner in ["socket", "log", "config", "metrics", "other", "linked"] {
                fs::create_dir(at(inner)).unwrap();
                fs::write(at(inner).join("file"), b"x").unwrap();
            }
            let (socket, log) = (at("socket/bus"), at("log/link"));
            std::os::unix::fs::symlink(at("linked/file"), &log).unwrap();
            let (config, metrics) = (at("config/file"), at("metrics/file"));
            let files =
                Files { socket: &socket, log: Some(&log), config: Some(&config), metrics: Some(&metrics) };
            if let Err(failure) = limit_files(&files) {
                return eprintln!("skipped: {failure:?}");
            }
            assert!(UnixListener::bind(&socket).is_ok());
            fs::remove_file(&socket).unwrap();
            // As rotation does.
            fs::rename(at("log/file"), at("log/file.1")).unwrap();
            fs::write(at("log/file"), b"y").unwrap();
            fs::remove_file(at("log/file.1")).unwrap();
            fs::write(&log, b"y").unwrap();
            assert_eq!(fs::read(&config).unwrap(), b"x");
            for readable in ["/proc/self/status", "/etc/passwd"] {
                assert!(fs::read(readable).is_ok(), "{readable}");
            }
            let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(fs::write(&metrics, b"y").is_err_and(denied));
            fs::remove_file(&metrics).unwrap();
            assert!(fs::read(at("other/file")).is_err_and(denied));
            assert!(fs::write(&config, b"y").is_err_and(denied));
            assert!(fs::remove_file(&config).is_err_and(denied));
            assert!(fs::write(at("other/new"), b"y").is_err_and(denied));
            assert!(fs::create_dir(at("socket/directory")).is_err_and(denied));
        });
    }
}
