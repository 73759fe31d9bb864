//! The processes of a peer, seen from the program that starts them. None outlives its [`Process`], and none
//! is waited for without a limit.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::Part;
use crate::context::FAILED;
use crate::failure::{Failure, Outcome};

/// How often to look after the other processes while one is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// What a process says.
enum Said {
    Out(String),
    Err(String),
}

/// One process that was started, and is ended when this is dropped.
pub struct Process {
    part: Part,
    child: Child,
    said: Receiver<Said>,
    last_error: Option<String>,
    /// How it is asked to end before it is killed; some end by themselves.
    asked: Option<Signal>,
}

impl Process {
    /// Starts `command`. `asked` is the signal that ends it in good order, if it does not end by itself.
    pub fn start(part: Part, mut command: Command, asked: Option<Signal>) -> Outcome<Process> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start the {}: {error}", part.name())))?;
        let (sender, said) = channel();
        if let Some(out) = child.stdout.take() {
            listen(out, sender.clone(), Said::Out);
        }
        if let Some(err) = child.stderr.take() {
            listen(err, sender, Said::Err);
        }
        Ok(Process { part, child, said, last_error: None, asked })
    }

    /// Waits until it says a line that begins with `word`: the rest of that line. Trouble of the others, on
    /// which it depends, ends the wait.
    pub fn hear(&mut self, word: &str, patience: Duration, others: &mut [&mut Process]) -> Outcome<String> {
        let deadline = Instant::now() + patience;
        loop {
            match self.said.recv_timeout(LOOK) {
                Ok(Said::Out(line)) => match line.split_once(' ').unwrap_or((&line, "")) {
                    (first, rest) if first == word => return Ok(rest.to_string()),
                    (FAILED, why) => {
                        let own = self.failed(why);
                        // What happened to another one explains it better.
                        return Err(others.iter_mut().find_map(|other| other.trouble(LOOK)).unwrap_or(own));
                    }
                    // A library's own words.
                    _ => {}
                },
                Ok(Said::Err(line)) => self.last_error = Some(line),
                Err(RecvTimeoutError::Disconnected) => {
                    self.wait(Duration::from_secs(1));
                    return Err(self.ended());
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(why) = others.iter_mut().find_map(|other| other.trouble(Duration::ZERO)) {
                        return Err(why);
                    }
                    if Instant::now() >= deadline {
                        let limit = patience.as_secs_f32();
                        return Err(self.failed(&format!("not {word} within {limit} s, so it was ended")));
                    }
                }
            }
        }
    }

    /// Why it cannot be of use any more, if that is so within `patience`.
    fn trouble(&mut self, patience: Duration) -> Option<Failure> {
        let status = self.wait(patience);
        while let Ok(said) = self.said.try_recv() {
            match said {
                Said::Err(line) => self.last_error = Some(line),
                Said::Out(line) => {
                    if let Some((FAILED, why)) = line.split_once(' ') {
                        return Some(self.failed(why));
                    }
                }
            }
        }
        status.filter(|status| !status.success()).map(|_| self.ended())
    }

    /// It ended without a word of why, except perhaps to stderr.
    fn ended(&mut self) -> Failure {
        let why = match (self.last_error.take(), self.wait(Duration::ZERO)) {
            (Some(line), _) => line,
            (None, Some(status)) => format!("ended too early: {status}"),
            (None, None) => "closed its output".to_string(),
        };
        self.failed(&why)
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::new(format!("{}: {why}", self.part.name()))
    }

    fn wait(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => return None,
            }
        }
    }

    /// Lets it end by itself, for at most `patience`.
    pub fn let_end(mut self, patience: Duration) {
        self.wait(patience);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // It was not waited for, so that its number is still its own.
        if let Some(signal) = self.asked
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && kill_process(pid, signal).is_ok()
            && self.wait(Duration::from_secs(2)).is_some()
        {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what a process says until it closes that end.
fn listen(from: impl Read + Send + 'static, to: Sender<Said>, said: fn(String) -> Said) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut bytes = Vec::new();
        // A line that is longer comes in pieces.
        while matches!(lines.by_ref().take(1 << 16).read_until(b'\n', &mut bytes), Ok(1..)) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_string();
            bytes.clear();
            // Whoever does not listen any more does not matter; the pipe is emptied all the same.
            if !line.is_empty() {
                let _ = to.send(said(line));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, asked: Option<Signal>) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(Part::Server, command, asked).expect("sh")
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_process_is_heard() {
        let mut process = shell("echo something else; echo ready here I am; echo ready", None);
        assert_eq!(process.hear("ready", LONG, &mut []), Ok("here I am".to_string()));
        assert_eq!(process.hear("ready", LONG, &mut []), Ok(String::new()));
    }

    #[test]
    fn a_failure_is_told_in_the_processes_own_words() {
        for (script, why) in [
            ("echo failed no luck; exec sleep 60", "server: no luck"),
            ("echo it broke >&2; exit 3", "server: it broke"),
            ("exit 3", "server: ended too early: exit status: 3"),
        ] {
            assert_eq!(shell(script, None).hear("ready", LONG, &mut []), Err(Failure::new(why)), "{script}");
        }
    }

    #[test]
    fn trouble_of_another_ends_the_wait_and_is_what_is_told() {
        for own in ["exec sleep 60", "echo failed nobody there; exec sleep 60"] {
            let mut other = shell("echo no memory >&2; exit 3", None);
            let told = shell(own, None).hear("ready", LONG, &mut [&mut other]);
            assert_eq!(told, Err(Failure::new("server: no memory")));
        }
    }

    #[test]
    fn silence_ends_at_its_limit_and_so_does_the_process() {
        for asked in [None, Some(Signal::TERM)] {
            let mut process = shell("exec sleep 600", asked);
            assert!(process.hear("ready", Duration::from_millis(20), &mut []).is_err());
            drop(process); // waits for its end
        }
    }
}
