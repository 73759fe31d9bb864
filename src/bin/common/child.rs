//! Processes that a program starts and must not leave behind.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Observer;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, set_parent_process_death_signal, waitid,
};

use super::exit::{Failure, Outcome};
use super::signals::Interrupt;

/// How long a server may take from its start until it accepts, and from SIGTERM to its end.
const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(10);

/// Tells a child who its parent is.
const PARENT: &str = "RINGPOST_PARENT_PID";

/// Lets [`die_with_parent`] notice in the child that this process ended before the child could ask to be
/// told.
pub fn bound(command: &mut Command) -> &mut Command {
    command.env(PARENT, std::process::id().to_string())
}

/// Ends this process, started as a child, when the thread that started it ends; SIGKILL, because it also
/// reaches a process that is stopped. The tidy ways (SIGTERM, end of input) come first; this is for a parent
/// that was killed.
pub fn die_with_parent() {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // A parent that has ended already sends nothing, and somebody else is the parent now.
    let told = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok());
    if told.is_some_and(|told| getppid().is_none_or(|now| now.as_raw_nonzero().get() != told)) {
        std::process::exit(1);
    }
}

/// Sends `signal` to a child that has not been waited for, whose number is therefore still its own.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until `child` ends, for at most `patience`.
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

/// Ends `child`: waits for `patience`, then kills it.
pub fn end(child: &mut Child, patience: Duration) {
    if wait(child, patience).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Runs `action` once `child` has ended, whoever waits for it; not before that, also if the child outlives
/// its owner's interest in it.
pub fn when_it_ends(child: &Child, action: impl FnOnce() + Send + 'static) -> Outcome {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(()) };
    std::thread::Builder::new()
        .name("child watch".into())
        .spawn(move || {
            // It is left to be waited for by its owner. An error: it has been.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Ok(None) | Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), look) {}
            action();
        })
        .map(drop)
        .map_err(|error| Failure::failed(format!("cannot watch a process: {error}")))
}

/// A process of this program's own that tells, line by line, how far it is. It is killed when this is
/// dropped: it keeps nothing that would have to be put in order.
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

    /// Runs `action` when it has ended.
    pub fn when_it_ends(&self, action: impl FnOnce() + Send + 'static) -> Outcome {
        when_it_ends(&self.child, action)
    }

    /// Its next line, for which it may take `patience`.
    pub fn line(&mut self, patience: Duration, interrupt: &Interrupt) -> Result<String, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            interrupt.check()?;
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => {
                    // It says why on standard error, which is ours.
                    let how = wait(&mut self.child, Duration::from_secs(1));
                    let how = how.map_or_else(|| "no output".to_string(), |status| status.to_string());
                    interrupt.check()?;
                    return Err(Failure::failed(format!("a helper process ended too early: {how}")));
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

    /// A failure if it has ended.
    pub fn check(&mut self) -> Outcome {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(Failure::failed(format!("a helper process ended too early: {status}"))),
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

/// A `ringpost-server` of our own.
pub struct ServerChild {
    child: Child,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    log: Option<JoinHandle<()>>,
    ended: bool,
}

impl ServerChild {
    /// Starts `program` on `socket` and returns once it accepts connections. `each_line` gets its log.
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
                // A line has no need to be longer; one that is comes in pieces.
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
        // The socket's path appears when connections are accepted, so that nothing is asked of it before.
        loop {
            if let Some(status) = server.child.try_wait().map_err(cannot)? {
                server.ended = true;
                let why = server.last_words(status);
                // A signal to all of us may have reached it first.
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

    /// Why the server ended: in its own words, if it had any, else its status.
    fn last_words(&mut self, status: ExitStatus) -> String {
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
        let lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        let why = lines.back().and_then(|line| line.strip_prefix("ringpost-server: "));
        why.map_or_else(|| status.to_string(), str::to_string)
    }

    /// Stops the process where it is, all of its threads, and returns once it stands still.
    pub fn pause(&mut self) -> Outcome {
        signal(&self.child, Signal::STOP);
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::failed("the server has no process number"))?;
        loop {
            // What is looked at is still there to be waited for: an end, then, by the child's owner.
            let either = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(pid), either) {
                Ok(Some(status)) if status.stopped() => {
                    let taken = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                    let _ = waitid(WaitId::Pid(pid), taken);
                    return Ok(());
                }
                Ok(Some(_)) => return self.check(),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(Failure::failed(format!("cannot wait for the server to stop: {error}")));
                }
            }
        }
    }

    /// A failure if the server has ended, which explains others.
    pub fn check(&mut self) -> Outcome {
        // Its channel is closed a little before its process can be waited for.
        match wait(&mut self.child, Duration::from_millis(20)) {
            None => Ok(()),
            Some(status) => {
                self.ended = true;
                Err(Failure::failed(format!("the server ended too early: {}", self.last_words(status))))
            }
        }
    }

    /// Lets the process go on.
    pub fn resume(&self) {
        if !self.ended {
            signal(&self.child, Signal::CONT);
        }
    }

    /// Asks the server to end, and waits until it has and its log has been read.
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
