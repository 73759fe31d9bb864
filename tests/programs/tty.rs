//! Runs a program on a pseudo-terminal, and shows its screen.

use crate::common::LIMIT;
use crate::program::CLIENT;
use crate::screen::{Narrow, Screen};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Wide enough for every line.
const COLUMNS: u16 = 1000;

type Shared = Arc<(Mutex<Screen>, Condvar)>;

/// A `ringpost client` on a pseudo-terminal. It is killed on drop.
pub struct Tty {
    child: Child,
    keyboard: Option<File>,
    screen: Shared,
    light: Option<JoinHandle<()>>,
    dark: Arc<AtomicBool>,
}

impl Tty {
    /// Starts `ringpost client` with these arguments.
    pub fn client(socket: &Path, arguments: &[&str]) -> Tty {
        Tty::client_with(socket, arguments, |_| {})
    }

    pub fn client_with(socket: &Path, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Tty {
        let mut command = Command::new(CLIENT);
        command.arg("client").arg("--socket").arg(socket).args(arguments);
        Tty::start(command, set)
    }

    /// Starts `ringpost top` with these arguments, on a terminal of 80 columns and 24 rows.
    pub fn top(socket: &Path, arguments: &[&str]) -> Tty {
        Tty::top_with(socket, arguments, |_| {})
    }

    pub fn top_with(socket: &Path, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Tty {
        let mut command = Command::new(CLIENT);
        command.arg("top").arg("--socket").arg(socket).args(arguments).env_remove("NO_COLOR");
        Tty::start_on(command, (80, 24), true, set)
    }

    /// Starts `ringpost top` in a session of its own, in which no shell could let it go on.
    pub fn top_alone(socket: &Path) -> Tty {
        let mut command = Command::new("setsid");
        command.args([CLIENT, "top", "--socket"]).arg(socket);
        Tty::start_on(command, (80, 24), true, |_| {})
    }

    /// Starts a shell with job control, of which the terminal is the controlling one. Its prompt is `SHELL `.
    pub fn shell(socket: &Path) -> Tty {
        Tty::shell_for(socket, false)
    }

    /// A shell from which a program is started that uses the whole screen.
    pub fn whole_shell(socket: &Path) -> Tty {
        Tty::shell_for(socket, true)
    }

    fn shell_for(socket: &Path, whole: bool) -> Tty {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"]);
        command.env("PS1", "SHELL ").env("RINGPOST", CLIENT).env("AT", socket);
        Tty::start_on(command, (COLUMNS, 50), whole, |_| {})
    }

    /// Runs a command on a terminal.
    fn start(command: Command, set: impl FnOnce(&mut Command)) -> Tty {
        Tty::start_on(command, (COLUMNS, 50), false, set)
    }

    /// Runs a command on a terminal of so many columns and rows, of which it may use the `whole` screen.
    fn start_on(
        mut command: Command,
        (columns, rows): (u16, u16),
        whole: bool,
        set: impl FnOnce(&mut Command),
    ) -> Tty {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
            .open(std::ffi::OsStr::from_bytes(name.to_bytes()))
            .unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.env_remove("RINGPOST_SOCKET").env("TERM", "xterm");
        command.stdin(end()).stdout(end()).stderr(end());
        set(&mut command);
        let child = command.spawn().unwrap();
        // Also closes the command's copies, so that the reader notices the program's end.
        drop((command, slave));
        let keyboard = File::from(master);
        let output = keyboard.try_clone().unwrap();
        let mut emulator = Screen::new(columns.into());
        emulator.whole = whole;
        let (screen, dark) = (Shared::new((Mutex::new(emulator), Condvar::new())), Arc::default());
        let (shown, is_dark) = (Arc::clone(&screen), Arc::clone(&dark));
        let light = thread::spawn(move || light(output, &shown, &is_dark));
        Tty { child, keyboard: Some(keyboard), screen, light: Some(light), dark }
    }

    /// Types these keys. `\r` is Enter.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen satisfies the condition.
    pub fn until(&self, what: &str, mut wanted: impl FnMut(&Screen) -> bool) {
        let screen = self.screen.0.lock().unwrap();
        let (screen, _) = self.screen.1.wait_timeout_while(screen, LIMIT, |screen| !wanted(screen)).unwrap();
        assert!(wanted(&screen), "waited in vain until {what}; the screen:\n{}", screen.text());
    }

    /// Waits until the screen contains the text.
    pub fn shows(&self, text: &str) {
        self.until(&format!("{text:?} can be seen"), |screen| screen.text().contains(text));
    }

    /// Waits until this is the cursor's row.
    pub fn line_is(&self, line: &str) {
        self.until(&format!("the line is {line:?}"), |screen| screen.current() == line);
    }

    /// Gives the terminal another width, and tells the program, whose terminal it need not be.
    pub fn resize(&self, columns: u16, narrow: Narrow) {
        self.resize_to(columns, 50, narrow);
    }

    pub fn resize_to(&self, columns: u16, rows: u16, narrow: Narrow) {
        let mut screen = self.screen.0.lock().unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.keyboard.as_ref().unwrap(), size).unwrap();
        screen.resize(columns.into(), narrow);
        drop(screen);
        self.signal(Signal::WINCH);
    }

    pub fn bells(&self) -> usize {
        self.screen.0.lock().unwrap().bells
    }

    pub fn text(&self) -> String {
        self.screen.0.lock().unwrap().text()
    }

    /// Whether the terminal's settings are those from before the program.
    pub fn is_restored(&self) -> bool {
        let modes = tcgetattr(self.keyboard.as_ref().unwrap()).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Whether keys come one by one, without an echo.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.keyboard.as_ref().unwrap()).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Closes the terminal.
    pub fn hang_up(&mut self) {
        self.dark.store(true, Ordering::Relaxed);
        self.light.take().unwrap().join().unwrap();
        self.keyboard = None;
    }

    /// The leader of the job that has the terminal.
    pub fn foreground(&self) -> Pid {
        rustix::termios::tcgetpgrp(self.keyboard.as_ref().unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits until the program ends, and checks that it wrote no unknown sequence.
    pub fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.child.try_wait().unwrap();
            // The reader ends after the last output.
            let dark = self.light.as_ref().is_none_or(JoinHandle::is_finished);
            if let (Some(status), true) = (status, dark) {
                let unknown = &self.screen.0.lock().unwrap().unknown;
                assert!(unknown.is_empty(), "{unknown:?}");
                return status.code();
            }
            assert!(Instant::now() < deadline, "the program does not end; the screen:\n{}", self.text());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Feeds the program's output to the screen, until the program ends.
fn light(mut output: File, screen: &Shared, dark: &AtomicBool) {
    let mut bytes = [0; 4096];
    let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    while !dark.load(Ordering::Relaxed) {
        let ready = poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&moment));
        if ready == Ok(0) {
            continue;
        }
        let Ok(read @ 1..) = output.read(&mut bytes) else { return };
        let mut shown = screen.0.lock().unwrap();
        shown.write(&bytes[..read]);
        let answers = std::mem::take(&mut shown.answers);
        drop(shown);
        screen.1.notify_all();
        // A program that has ended needs none.
        let _ = output.write_all(&answers);
    }
}
