//! What the peers that are programs of their own share.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, Outcome};

/// The first line that a program says about its version, or how to install it.
pub fn version_of(program: &str, package: &str) -> Outcome<String> {
    let missing = || {
        Failure::new(format!(
            "{program} is not installed: install your system's package {package} (apt-get install {package})"
        ))
    };
    let output = Command::new(program).arg("--version").output().map_err(|_| missing())?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_string()),
        _ => Err(Failure::new(format!("{program} --version fails: {}", output.status))),
    }
}

/// Becomes another program, which ends with the process that started this one, as this one would have.
pub fn become_program(command: &mut Command) -> Outcome {
    let error = command.exec();
    Err(Failure::new(format!("cannot run {}: {error}", command.get_program().display())))
}

/// What the names of shared memory begin with that is made for one run of one peer.
pub fn shm_prefix(dir: &Path) -> String {
    let dir = dir.file_name().map_or_else(|| "peers".into(), |name| name.to_string_lossy());
    format!("{dir}_")
}
