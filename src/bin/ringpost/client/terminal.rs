//! The terminal's settings, size and signals, and stopping as a shell's job.

use std::io::{self, IsTerminal, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringpost::cli::exit::Outcome;
use ringpost::cli::out;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGCONT, SIGTSTP, SIGWINCH};
use signal_hook::low_level::{emulate_default_handler, pipe};

use super::typing::Special;
use super::view::Size;

/// The values of TERM whose terminals cannot move their cursor.
const UNABLE: [&str; 3] = ["dumb", "cons25", "emacs"];

/// How long to wait for being stopped. A process without a job-control shell is not stopped at all.
const STOP: Duration = Duration::from_millis(500);

/// Lets the terminal mark what is pasted.
const MARK_PASTES: &str = "\x1b[?2004h";

const NO_MARKS: &str = "\x1b[?2004l";

/// A terminal on standard input and output.
pub struct Terminal {
    /// The settings from before this program changed them.
    settings: Termios,
}

impl Terminal {
    /// `None` if standard input and output are not a terminal that can move its cursor.
    pub fn open() -> io::Result<Option<Terminal>> {
        let unable = std::env::var("TERM").is_ok_and(|term| UNABLE.contains(&term.as_str()));
        if unable || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        Ok(Some(Terminal { settings: tcgetattr(io::stdin())? }))
    }

    /// The settings from before this program changed them.
    pub fn settings(&self) -> Termios {
        self.settings.clone()
    }

    /// The keys that the settings name.
    pub fn special(&self) -> Special {
        let letter = |index| match self.settings.special_codes[index] {
            code @ 1..=26 => Some(char::from(code - 1 + b'a')),
            code @ 27..=31 => Some(char::from(code + b'@')),
            _ => None,
        };
        Special {
            interrupt: letter(SpecialCodeIndex::VINTR),
            quit: letter(SpecialCodeIndex::VQUIT),
            end: letter(SpecialCodeIndex::VEOF),
            stop: letter(SpecialCodeIndex::VSUSP),
        }
    }

    /// Lets keys come one by one, without an echo.
    pub fn enter(&self) -> Outcome {
        let mut raw = self.settings.clone();
        raw.input_modes &= !(InputModes::BRKINT
            | InputModes::ICRNL
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ISTRIP
            | InputModes::IXON);
        raw.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // If the terminal is gone, reading says so.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &raw);
        out::put(MARK_PASTES.as_bytes())
    }

    /// Restores the settings.
    pub fn leave(&self) {
        let _ = out::put(NO_MARKS.as_bytes());
        restore(&self.settings);
    }

    /// Stops this process and those of its job, until the shell lets them go on. [`leave`](Self::leave) comes
    /// before it.
    ///
    /// The stop may reach this thread after the call that asks for it has returned. So the signal by which
    /// the shell ends it is waited for.
    pub fn stop(&mut self, signals: &mut Signals) {
        signals.take_continued();
        if kill_current_process_group(Signal::TSTP).is_ok() {
            signals.wait_for_continued(STOP);
        }
        self.look_anew();
    }

    /// Stops this process after [`Next::Stop`], until the shell lets it go on. [`leave`](Self::leave) comes
    /// before it.
    pub fn stop_as_asked(&mut self, signals: &mut Signals) {
        let _ = emulate_default_handler(SIGTSTP);
        signals.take_continued();
        self.look_anew();
    }

    /// Takes the settings that there are now, which the shell may have changed.
    fn look_anew(&mut self) {
        if let Ok(settings) = tcgetattr(io::stdin()) {
            self.settings = settings;
        }
    }
}

/// Asks this process and those of its job to stop, if there is a shell that could let them go on. The kernel
/// does not stop others either.
pub fn ask_to_stop() {
    if has_shell() {
        let _ = kill_current_process_group(Signal::TSTP);
    }
}

/// Whether a process of this session, but of another group, is the parent of this one's group.
fn has_shell() -> bool {
    shell_above(|process| std::fs::read_to_string(format!("/proc/{process}/stat")).ok())
}

/// The same with a reader of /proc/PID/stat. `getsid` and `getpgid` cannot be asked: they return 0 for what
/// leads from outside this PID namespace, which rustix takes for a fault of the kernel.
fn shell_above(stat: impl Fn(&str) -> Option<String>) -> bool {
    let family = |process: &str| stat(process).and_then(|stat| Family::of(&stat));
    let Some(own) = family("self") else { return false };
    let mut parent = own.parent;
    while let Some(process) = family(&parent.to_string()) {
        if process.session != own.session {
            return false;
        }
        if process.group != own.group {
            return true;
        }
        parent = process.parent;
    }
    false
}

/// Where a process belongs. 0 is a process outside this PID namespace.
struct Family {
    parent: i32,
    group: i32,
    session: i32,
}

impl Family {
    /// From the text of /proc/PID/stat. The process name, in parentheses, may contain anything.
    fn of(stat: &str) -> Option<Family> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(1).map(|field| field.parse().ok());
        Some(Family { parent: fields.next()??, group: fields.next()??, session: fields.next()?? })
    }
}

/// Restores a terminal's settings.
pub fn restore(settings: &Termios) {
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
}

/// The terminal's size; a usual one if it has none.
pub fn size() -> Size {
    let size = tcgetwinsize(io::stdout()).ok();
    let known = |number: u16, usual| if number == 0 { usual } else { usize::from(number) };
    Size {
        columns: size.map_or(80, |size| known(size.ws_col, 80)),
        rows: size.map_or(24, |size| known(size.ws_row, 24)),
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Bytes, or the end of them.
    Input,
    /// The terminal has another size.
    Resized,
    /// The process was stopped, and goes on.
    Continued,
    /// The process is asked to stop.
    Stop,
    /// Nothing in the time given.
    Nothing,
}

/// The signals by which the kernel tells of the terminal.
pub struct Signals {
    resized: UnixStream,
    continued: UnixStream,
    stop: Option<UnixStream>,
}

impl Signals {
    pub fn catch() -> io::Result<Signals> {
        Ok(Signals { resized: caught(SIGWINCH)?, continued: caught(SIGCONT)?, stop: None })
    }

    /// Catches what asks the process to stop, too, so that it can give the terminal back before it does.
    pub fn catch_stops(&mut self) -> io::Result<()> {
        self.stop = Some(caught(SIGTSTP)?);
        Ok(())
    }

    /// Waits for input or a signal, without a limit if `time` is `None`.
    pub fn wait(&mut self, time: Option<Duration>) -> io::Result<Next> {
        let time = time.map(timespec);
        let stdin = io::stdin();
        let mut ends = [
            PollFd::new(&self.continued, PollFlags::IN),
            PollFd::new(&self.resized, PollFlags::IN),
            PollFd::new(&stdin, PollFlags::IN),
            // Without it, once more what is looked at anyway.
            PollFd::new(self.stop.as_ref().unwrap_or(&self.resized), PollFlags::IN),
        ];
        loop {
            match poll(&mut ends, time.as_ref()) {
                Ok(0) => return Ok(Next::Nothing),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let [continued, resized, _, stop] = ends.map(|end| !end.revents().is_empty());
        if let Some(end) = self.stop.as_mut().filter(|_| stop) {
            drain(end);
            return Ok(Next::Stop);
        }
        if continued {
            self.take_continued();
            return Ok(Next::Continued);
        }
        if resized {
            drain(&mut self.resized);
            return Ok(Next::Resized);
        }
        Ok(Next::Input)
    }

    fn take_continued(&mut self) {
        drain(&mut self.continued);
    }

    fn wait_for_continued(&mut self, time: Duration) {
        let mut end = [PollFd::new(&self.continued, PollFlags::IN)];
        // A signal that interrupts it is that one.
        let _ = poll(&mut end, Some(&timespec(time)));
        self.take_continued();
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() }
}

fn caught(signal: i32) -> io::Result<UnixStream> {
    let (end, other) = UnixStream::pair()?;
    end.set_nonblocking(true)?;
    pipe::register(signal, other)?;
    Ok(end)
}

fn drain(end: &mut UnixStream) {
    let mut bytes = [0; 64];
    while end.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the process `self` has a shell, if /proc has these processes: name, parent, group, session.
    fn has_shell_with(processes: &[(&str, i32, i32, i32)]) -> bool {
        shell_above(|name| {
            let &(_, parent, group, session) = processes.iter().find(|process| process.0 == name)?;
            Some(format!("7 (a ) b (c) S {parent} {group} {session} 34816 7 4194304"))
        })
    }

    #[test]
    fn a_shell_is_a_parent_of_the_same_session_and_another_group() {
        assert!(has_shell_with(&[("self", 5, 7, 5), ("5", 1, 5, 5)]));
        // A process between them, of the job.
        assert!(has_shell_with(&[("self", 6, 6, 5), ("6", 5, 6, 5), ("5", 1, 5, 5)]));
        // In a session of its own.
        assert!(!has_shell_with(&[("self", 5, 7, 7), ("5", 1, 5, 5)]));
        // Its parent leads its group.
        assert!(!has_shell_with(&[("self", 5, 5, 5), ("5", 1, 5, 5), ("1", 0, 1, 1)]));
    }

    /// For whoever was started from outside the PID namespace.
    #[test]
    fn what_leads_from_outside_the_namespace_is_0() {
        assert!(!has_shell_with(&[("self", 5, 7, 7), ("5", 0, 0, 0)]));
        assert!(has_shell_with(&[("self", 5, 7, 0), ("5", 0, 5, 0)]));
        assert!(!has_shell_with(&[("self", 0, 0, 0)]));
    }

    #[test]
    fn without_a_readable_proc_there_is_no_shell() {
        assert!(!has_shell_with(&[]));
        assert!(!shell_above(|_| Some("rubbish".to_owned())));
        assert!(!shell_above(|_| Some("1 (a) S 1 x".to_owned())));
    }
}
