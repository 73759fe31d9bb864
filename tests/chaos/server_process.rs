//! A round's server process as the harness sees it: starts, signals it and learns how it ended.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::failpoints::{self, Armed};
use super::history::now;
use super::plan::Plan;
use ringpost::cli::child::bound;
use ringpost::cli::exit::Failure;

/// The server's grace period at a shutdown, in milliseconds.
pub const GRACE: u64 = 500;

pub struct ServerProcess {
    child: Child,
    pub point: Option<Armed>,
    /// When it was killed, told to stop, or found dead.
    pub ended_at: Option<u64>,
    status: Option<ExitStatus>,
}

impl ServerProcess {
    pub fn start(
        program: &Path,
        socket: &Path,
        plan: &Plan,
        fault: Option<&str>,
    ) -> Result<ServerProcess, Failure> {
        let mut command = Command::new(program);
        bound(&mut command).arg("role-server").arg(socket);
        command.args([
            plan.ring_size.to_string(),
            plan.wait.to_string(),
            GRACE.to_string(),
            plan.descriptors.to_string(),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.env_remove(failpoints::VARIABLE).env_remove(failpoints::FAULT);
        if let Some(point) = &plan.server_failpoint {
            command.env(failpoints::VARIABLE, point.told());
        }
        if let Some(fault) = fault {
            command.env(failpoints::FAULT, fault);
        }
        let child = command.spawn().map_err(Failure::failed)?;
        Ok(ServerProcess { child, point: plan.server_failpoint.clone(), ended_at: None, status: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                self.ended_at.get_or_insert_with(now);
            }
        }
        self.status
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.status.is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            self.ended_at.get_or_insert_with(now);
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
