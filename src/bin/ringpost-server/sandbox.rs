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
    let filter = filter().map_err(|error| cannot("make a filter of system calls", &error))?;
    seccompiler::apply_filter_all_threads(&filter).map_err(|error| cannot("limit its system calls", &error))
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

/// Refuses with `EPERM` what the table does not contain, and of some calls all but what is needed.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in CALLS.iter().chain(PROGRAM) {
        rules.insert(call.number, Vec::new());
    }
    let is = |argument, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let lacks = |argument, bits: u64| {
        let masked = SeccompCmpOp::MaskedEq(bits);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, masked, 0)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let [unix, exec] = [libc::AF_UNIX, libc::PROT_EXEC].map(|value| value as u64);
    for socket in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(socket, vec![is(0, unix)?]);
    }
    // Memory that can be executed is never made.
    for map in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(map, vec![lacks(2, exec)?]);
    }
    // A signal is sent to nobody; whether a process exists may be asked.
    rules.insert(libc::SYS_kill, vec![is(1, 0)?]);
    SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}
