//! Runs the command of `ringpost serve --exec`: one process for each call, with the request as its standard
//! input and the response as its standard output.
//!
//! One thread serves the three pipes and waits for the end of the process at the same time, so a command may
//! read and write in any order, or not read at all. The response is complete when the process has ended, even
//! if processes that it started still hold its output.
//!
//! The process is started through `ringpost become`, which lets it die with this program and then becomes the
//! command. It leads a process group of its own, so that its children can be ended with it.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringpost::ServiceError;
use ringpost::cli::child::{become_command, bound, die_with_parent};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::place::this_program;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::time::Timespec;

/// The most bytes of the first line of standard error that a caller is told.
const LINE: usize = 512;

/// How long a command may take to end when it is asked to by SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// A command that answers calls.
pub struct Executed {
    program: PathBuf,
    command: Vec<OsString>,
    /// Readable for ever once `stopper` is dropped.
    stop: PipeReader,
    stopper: Mutex<Option<PipeWriter>>,
}

impl Executed {
    /// Fails if there is no such program.
    pub fn new(command: &[OsString]) -> Result<Executed, Failure> {
        let Some(name) = command.first() else { return Err(Failure::usage("--exec needs a command")) };
        if !is_found(name) {
            return Err(Failure::usage(format!(
                "--exec {}: there is no such program in the PATH, or it cannot be executed",
                name.to_string_lossy()
            )));
        }
        let (stop, stopper) =
            io::pipe().map_err(|error| Failure::failed(format!("cannot make a pipe: {error}")))?;
        Ok(Executed {
            program: this_program()?,
            command: command.to_vec(),
            stop,
            stopper: Mutex::new(Some(stopper)),
        })
    }

    /// Ends all processes that run, and every later one. Does not wait for them.
    pub fn stop(&self) {
        drop(self.stopper.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Runs the command once. Returns what it wrote, at most one byte more than `most`, or why it failed.
    pub fn answer(&self, request: &[u8], most: usize) -> Result<Vec<u8>, ServiceError> {
        let cannot = |error: io::Error| ServiceError::new(format!("the command cannot be started: {error}"));
        let mut command = Command::new(&self.program);
        bound(&mut command).arg("become").arg("--").args(&self.command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut running = Running::new(command.spawn().map_err(cannot)?).map_err(cannot)?;
        match running.serve(request, most, &self.stop).map_err(cannot)? {
            Ended::Itself(status) if !status.success() => {
                Err(ServiceError::new(verdict(status, &running.errors)))
            }
            Ended::Itself(_) | Ended::TooMuch => Ok(std::mem::take(&mut running.output)),
            Ended::Stopped => Err(ServiceError::new("the command was ended, because the service stops")),
        }
    }
}

/// The process of a call: dies with its parent, and becomes the command.
pub fn r#become(command: &[OsString]) -> Outcome {
    die_with_parent();
    let Some((name, arguments)) = command.split_first() else {
        return Err(Failure::usage("a command is missing"));
    };
    let error = become_command(Command::new(name).args(arguments));
    Err(Failure::failed(format!("cannot run {}: {error}", name.to_string_lossy())))
}

/// How a process ended.
enum Ended {
    Itself(ExitStatus),
    /// It was killed, because it wrote more than a response holds.
    TooMuch,
    /// It was ended, because the service stops.
    Stopped,
}

/// A running command. It is killed on drop.
struct Running {
    child: Child,
    /// Readable when the process has ended.
    process: OwnedFd,
    output: Vec<u8>,
    /// The beginning of what it wrote to standard error.
    errors: Vec<u8>,
}

impl Running {
    fn new(child: Child) -> io::Result<Running> {
        let process = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(process) => process,
            Err(error) => {
                end(child);
                return Err(error.into());
            }
        };
        let running = Running { child, process, output: Vec::new(), errors: Vec::new() };
        let Child { stdin, stdout, stderr, .. } = &running.child;
        for pipe in [
            stdin.as_ref().map(AsFd::as_fd),
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ] {
            pipe.map(|pipe| ioctl_fionbio(pipe, true)).transpose()?;
        }
        Ok(running)
    }

    /// Serves the pipes until the process has ended.
    fn serve(&mut self, mut request: &[u8], most: usize, stop: &PipeReader) -> io::Result<Ended> {
        let mut patience: Option<Instant> = None;
        loop {
            let (ended, stopped) = self.wait(stop, patience)?;
            self.feed(&mut request)?;
            take(&mut self.child.stdout, &mut self.output, most.saturating_add(1))?;
            take(&mut self.child.stderr, &mut self.errors, LINE)?;
            if self.output.len() > most {
                return Ok(Ended::TooMuch);
            }
            if ended {
                let status = self.child.wait()?;
                return Ok(if patience.is_some() { Ended::Stopped } else { Ended::Itself(status) });
            }
            match patience {
                None if stopped => {
                    self.signal(Signal::TERM);
                    patience = Some(Instant::now() + GRACE);
                }
                Some(end) if Instant::now() >= end => {
                    self.signal(Signal::KILL);
                    patience = Some(Instant::now() + GRACE);
                }
                _ => {}
            }
        }
    }

    /// Waits until there is something to do: for the end of the process, of the service, or a pipe. Returns
    /// whether the first two have come.
    fn wait(&self, stop: &PipeReader, patience: Option<Instant>) -> io::Result<(bool, bool)> {
        let Child { stdin, stdout, stderr, .. } = &self.child;
        let mut watched = vec![PollFd::new(&self.process, PollFlags::IN)];
        let time = match patience {
            None => {
                watched.push(PollFd::new(stop, PollFlags::IN));
                None
            }
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                let (tv_sec, tv_nsec) = (left.as_secs() as i64, left.subsec_nanos().into());
                Some(Timespec { tv_sec, tv_nsec })
            }
        };
        watched.extend(stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        watched.extend(stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        watched.extend(stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut watched, time.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, false)),
            Err(error) => return Err(error.into()),
        }
        let came = |index: usize| !watched[index].revents().is_empty();
        Ok((came(0), patience.is_none() && came(1)))
    }

    /// Writes as much of the request as the pipe takes. A process that closes its standard input does not
    /// want the rest.
    fn feed(&mut self, request: &mut &[u8]) -> io::Result<()> {
        while let Some(pipe) = &self.child.stdin {
            if request.is_empty() {
                self.child.stdin = None;
                break;
            }
            match rustix::io::write(pipe, request) {
                Ok(written) => *request = &request[written..],
                Err(Errno::PIPE) => *request = &[],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Signals the process, which has not been waited for, and those of its group.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads what a pipe holds, and keeps the first `most` bytes of it. Closes the pipe at its end.
fn take<P: AsFd>(pipe: &mut Option<P>, kept: &mut Vec<u8>, most: usize) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    // What is read in one turn is bounded, because somebody may go on writing.
    for _ in 0..64 {
        let Some(open) = pipe else { break };
        match rustix::io::read(open.as_fd(), &mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => {
                let room = most.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..read.min(room)]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Why a command failed, for its caller: how it ended, and the first line of what it complained of.
fn verdict(status: ExitStatus, errors: &[u8]) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command ended with status {code}"),
        (_, Some(signal)) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            format!("the command was ended by {name} ({signal})")
        }
        _ => format!("the command ended: {status}"),
    };
    let line = errors.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    match line {
        Some(line) => format!("{how}: {}", out::readable(line)),
        None => how,
    }
}

/// Whether the program `name` is in the `PATH`, or there if it is a path.
fn is_found(name: &OsString) -> bool {
    let executable =
        |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if name.as_encoded_bytes().contains(&b'/') {
        return executable(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&path).any(|directory| executable(&directory.join(name)))
}
