//! Starts child processes, watches them, and makes sure that none outlives its parent.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Observer;
use crate::os::signals;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, set_parent_process_death_signal, waitid,
};

use super::exit::{Failure, Outcome};
use super::signals::Interrupt;

/// How long a server may take until it accepts connections, and from SIGTERM until it ends.
const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(10);

/// The environment variable with the parent's process id.
const PARENT: &str = "RINGPOST_PARENT_PID";

/// Tells the child this process's id, so that [`die_with_parent`] also works if this process ends before the
/// child calls it.
pub fn bound(command: &mut Command) -> &mut Command {
    command.env(PARENT, std::process::id().to_string())
}

/// Becomes this command, as if it had been started by a shell: without the parent's process id, and with no
/// signal blocked. (A thread of the library, which started this process, blocks them all.) Returns only if
/// that fails.
pub fn become_command(command: &mut Command) -> io::Error {
    use std::os::unix::process::CommandExt;
    signals::unblock_all();
    command.env_remove(PARENT).exec()
}

/// Kills this process when the thread that started it ends. This is for parents that were killed; others end
/// their children in an orderly way. It uses SIGKILL because that also ends a stopped process.
pub fn die_with_parent() {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // If the parent has already ended, no signal comes, but the parent's id differs from the one passed.
    let told = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok());
    if told.is_some_and(|told| getppid().is_none_or(|now| now.as_raw_nonzero().get() != told)) {
        std::process::exit(1);
    }
}

/// Sends `signal` to a child that has not been waited for, so that its process id is still its own.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Stops a child with SIGSTOP. Returns once all its threads are stopped, or `false` if it has ended.
///
/// Somebody else may continue it: the kernel does, when its process group loses its shell. So it is stopped
/// again until it is seen to be.
fn pause(child: &Child) -> Result<bool, Failure> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::failed("a process that was started has no process id"))?;
    loop {
        signal(child, Signal::STOP);
        // `NOWAIT`: if it has ended, its owner still has to wait for it.
        let either = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(pid), either | WaitIdOptions::NOHANG) {
            Ok(Some(status)) if status.stopped() => {
                let taken = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                let _ = waitid(WaitId::Pid(pid), taken);
                return Ok(true);
            }
            Ok(Some(_)) => return Ok(false),
            Ok(None) | Err(rustix::io::Errno::INTR) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => {
                return Err(Failure::failed(format!("cannot wait for a process to stop: {error}")));
            }
        }
    }
}

/// Waits until `child` ends, but not longer than `patience`.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// Waits for `child` to end, and kills it after `patience`.
pub fn end(child: &mut Child, patience: Duration) {
    if wait(child, patience).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Runs `action` on a new thread once `child` has ended. Does not wait for it in the caller's place.
pub fn when_it_ends(child: &Child, action: impl FnOnce() + Send + 'static) -> Outcome {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(()) };
    std::thread::Builder::new()
        .name("child watch".into())
        .spawn(move || {
            // `NOWAIT` leaves the child to be waited for by its owner. An error says that this has happened.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Ok(None) | Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), look) {}
            action();
        })
        .map(drop)
        .map_err(|error| Failure::failed(format!("cannot watch a process: {error}")))
}

/// A helper process that reports its progress as lines on its standard output. It is killed on drop, which is
/// safe because it has nothing to clean up.
pub struct Helper {
    child: Child,
    lines: Receiver<String>,
}

impl Helper {
    /// Starts `program`, which must [die with its parent](die_with_parent).
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        stdin: Stdio,
    ) -> Result<Helper, Failure> {
        let cannot = |error| Failure::failed(format!("cannot start {}: {error}", program.display()));
        let mut child = bound(&mut Command::new(program))
            .args(arguments)
            .env_remove("RINGPOST_SOCKET")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take();
        let helper = Helper { child, lines };
        if let Some(stdout) = stdout {
            let reader = std::thread::Builder::new().name("helper".into()).spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
            reader.map_err(cannot)?;
        }
        Ok(helper)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs `action` when the process has ended.
    pub fn when_it_ends(&self, action: impl FnOnce() + Send + 'static) -> Outcome {
        when_it_ends(&self.child, action)
    }

    /// Its next line. Fails if that does not come within `patience`.
    pub fn line(&mut self, patience: Duration, interrupt: &Interrupt) -> Result<String, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            interrupt.check()?;
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => {
                    // The process has written the reason to the standard error that it shares with us.
                    let how = wait(&mut self.child, Duration::from_secs(1));
                    let how = how.map_or_else(|| "no output".to_string(), |status| status.to_string());
                    interrupt.check()?;
                    return Err(Failure::failed(format!("a helper process ended unexpectedly: {how}")));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(Failure::failed(format!(
                        "a helper process was not ready within {} seconds",
                        patience.as_secs()
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Stops the process with SIGSTOP, and returns once all its threads are stopped.
    pub fn pause(&mut self) -> Outcome {
        if pause(&self.child)? { Ok(()) } else { self.check() }
    }

    /// Continues the process after [`pause`](Self::pause).
    pub fn resume(&self) {
        signal(&self.child, Signal::CONT);
    }

    /// Fails if the process has ended.
    pub fn check(&mut self) -> Outcome {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                Err(Failure::failed(format!("a helper process ended unexpectedly: {status}")))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `ringpost-server` that this program started.
pub struct ServerChild {
    child: Child,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    log: Option<JoinHandle<()>>,
    ended: bool,
}

impl ServerChild {
    /// Starts `program` on `socket` and returns once it accepts connections. `each_line` gets each line of
    /// its log.
    pub fn start(
        program: &Path,
        socket: &Path,
        options: &[OsString],
        interrupt: &Interrupt,
        mut each_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<ServerChild, Failure> {
        let cannot = |error| Failure::failed(format!("cannot start {}: {error}", program.display()));
        let mut child = bound(&mut Command::new(program))
            .arg("--with-parent")
            .arg("--socket")
            .arg(socket)
            .args(options)
            .env_remove("RINGPOST_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let stderr = child.stderr.take();
        let last_lines = Arc::new(Mutex::new(VecDeque::new()));
        let mut server = ServerChild { child, last_lines: Arc::clone(&last_lines), log: None, ended: false };
        if let Some(stderr) = stderr {
            let log = std::thread::Builder::new().name("server log".into()).spawn(move || {
                let mut lines = BufReader::new(stderr);
                let mut bytes = Vec::new();
                // Bounds the memory: a longer line is split.
                while matches!(lines.by_ref().take(4096).read_until(b'\n', &mut bytes), Ok(1..)) {
                    let line = String::from_utf8_lossy(&bytes).trim_end().to_string();
                    each_line(&line);
                    let mut last = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
                    if last.len() == 8 {
                        last.pop_front();
                    }
                    last.push_back(line);
                    drop(last);
                    bytes.clear();
                }
            });
            server.log = Some(log.map_err(cannot)?);
        }
        let deadline = Instant::now() + START;
        // The path appears shortly before the server accepts connections, so there is no point in trying
        // before.
        loop {
            if let Some(status) = server.child.try_wait().map_err(cannot)? {
                server.ended = true;
                let why = server.last_words(status);
                // A signal to the whole process group may have ended the server first.
                interrupt.check()?;
                return Err(Failure::failed(format!("the server did not start: {why}")));
            }
            interrupt.check()?;
            if socket.exists() && Observer::connect(socket).is_ok() {
                return Ok(server);
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format!(
                    "the server was started but did not accept connections on {} within {} seconds",
                    socket.display(),
                    START.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Why the server ended: the last line it wrote, or else its exit status.
    fn last_words(&mut self, status: ExitStatus) -> String {
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
        let lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        let why = lines.back().and_then(|line| line.strip_prefix("ringpost-server: "));
        why.map_or_else(|| status.to_string(), str::to_string)
    }

    /// Stops the process with SIGSTOP, and returns once all its threads are stopped.
    pub fn pause(&mut self) -> Outcome {
        if pause(&self.child)? { Ok(()) } else { self.check() }
    }

    /// Fails if the server has ended, which then explains other failures.
    pub fn check(&mut self) -> Outcome {
        // A server closes its channels a little before its process can be waited for.
        match wait(&mut self.child, Duration::from_millis(20)) {
            None => Ok(()),
            Some(status) => {
                self.ended = true;
                Err(Failure::failed(format!("the server ended unexpectedly: {}", self.last_words(status))))
            }
        }
    }

    /// Continues the process after [`pause`](Self::pause).
    pub fn resume(&self) {
        if !self.ended {
            signal(&self.child, Signal::CONT);
        }
    }

    /// Sends SIGTERM, and waits until the server has ended and its log has been read.
    pub fn stop(mut self) -> Outcome {
        self.ask_to_end();
        match wait(&mut self.child, STOP) {
            Some(status) => {
                self.ended = true;
                let last = self.last_words(status);
                if status.success() {
                    Ok(())
                } else {
                    Err(Failure::failed(format!("the server ended with {status}: {last}")))
                }
            }
            None => Err(Failure::failed(format!(
                "the server did not end within {} seconds of SIGTERM",
                STOP.as_secs()
            ))),
        }
    }

    fn ask_to_end(&self) {
        signal(&self.child, Signal::TERM);
        signal(&self.child, Signal::CONT);
    }
}

impl Drop for ServerChild {
    fn drop(&mut self) {
        if !self.ended {
            self.ask_to_end();
            end(&mut self.child, Duration::from_secs(3));
        }
    }
}
