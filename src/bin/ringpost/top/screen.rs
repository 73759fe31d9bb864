//! `ringpost top` on a terminal: one thread looks, one reads keys, and both draw.
//!
//! Keys come from the reader that `ringpost client` has, because crossterm's reads for ever without a pause
//! once the terminal is gone.

use std::io;
use std::panic;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ratatui::backend::{Backend, ClearType, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::queue;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::Rect;
use ringpost::Observer;
use rustix::termios::Termios;

use super::draw::{Palette, draw, page};
use super::looks::{self, Found};
use super::state::{State, Wish};
use crate::client::keys::{Decoder, Key};
use crate::client::terminal::{self, Next, Signals, Terminal};
use crate::session;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;

/// How long to wait for the rest of a key.
const KEY: Duration = Duration::from_millis(50);

/// A terminal that says to be larger than this is not drawn to its edges.
const LARGEST: (usize, usize) = (1000, 500);

/// Why it ends.
enum End {
    /// A key or a signal.
    Asked,
    Failed(Failure),
}

/// What the threads share.
struct Live {
    state: State,
    palette: Palette,
    terminal: Terminal,
    /// What the terminal shows.
    drawn: Buffer,
    /// The terminal belongs to somebody else again.
    closed: bool,
}

/// Runs until somebody quits, or a signal comes.
pub fn run(terminal: Terminal, observer: Observer, interval: Duration, state: State) -> Outcome {
    let interrupt = Interrupt::install()?;
    let mut signals = Signals::catch().map_err(cannot)?;
    signals.catch_stops().map_err(cannot)?;
    let settings = terminal.settings();
    restore_at_panic(settings.clone());
    interrupt.at_last(move || leave(&settings));

    let palette = Palette::from_environment();
    let live = Live { state, palette, terminal, drawn: Buffer::default(), closed: false };
    let live = Arc::new(Mutex::new(live));
    let entered = lock(&live).enter();
    let end = entered.and_then(|()| {
        let (ends, ended) = mpsc::channel();
        let (shared, on_end) = (Arc::clone(&live), ends.clone());
        session::spawn("keyboard", move || {
            let _last = Last(on_end.clone());
            let _ = on_end.send(read(&shared, signals));
        })?;
        let (shared, on_end, on_signal) = (Arc::clone(&live), ends.clone(), ends);
        session::spawn("looks", move || {
            let _last = Last(on_end.clone());
            looks::watch(&observer, interval, |found| show(&shared, found, &on_end));
        })?;
        interrupt.then(move || drop(on_signal.send(End::Asked)));
        match ended.recv() {
            Ok(End::Asked) => Ok(()),
            Ok(End::Failed(failure)) => Err(failure),
            Err(_) => Err(Failure::failed("all threads have ended")),
        }
    });
    lock(&live).close();
    end
}

/// Tells that its thread ended, which is a fault unless it told why before.
struct Last(Sender<End>);

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.0.send(End::Failed(Failure::failed("a thread of this program has failed")));
    }
}

fn cannot(error: io::Error) -> Failure {
    Failure::failed(format!("cannot handle signals: {error}; raise the limit on open files (ulimit -n)"))
}

/// A thread that panicked has drawn for the last time.
fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restores the terminal before a panic is told, so that it can be read and the terminal used.
fn restore_at_panic(settings: Termios) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        leave(&settings);
        before(info);
    }));
}

/// Gives the terminal back as it was. Needs no lock, because it is also done when somebody holds it.
fn leave(settings: &Termios) {
    let mut bytes = Vec::new();
    let _ = queue!(bytes, LeaveAlternateScreen, Show);
    let _ = out::put(&bytes);
    terminal::restore(settings);
}

/// Reads keys until there is a reason to end.
fn read(live: &Mutex<Live>, mut signals: Signals) -> End {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 4096];
    loop {
        let patience = decoder.expects().is_some().then_some(KEY);
        let keys: Vec<Key> = match signals.wait(patience) {
            Ok(Next::Nothing) => decoder.flush().into_iter().collect(),
            Ok(Next::Input) => match rustix::io::read(io::stdin(), &mut bytes) {
                // The terminal is gone.
                Ok(0) | Err(rustix::io::Errno::IO) => return End::Asked,
                Ok(read) => bytes[..read].iter().filter_map(|&byte| decoder.feed(byte)).collect(),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
                Err(error) => return End::Failed(Failure::failed(format!("cannot read keys: {error}"))),
            },
            Ok(Next::Resized) => Vec::new(),
            // The shell has written to the terminal and set it.
            Ok(next @ (Next::Continued | Next::Stop)) => {
                let mut live = lock(live);
                let entered = if next == Next::Stop { live.stop(&mut signals) } else { live.enter() };
                if let Err(failure) = entered {
                    return End::Failed(failure);
                }
                continue;
            }
            Err(error) => return End::Failed(Failure::failed(format!("cannot wait for keys: {error}"))),
        };
        let mut live = lock(live);
        for key in keys {
            let done = match live.state.press(&key) {
                Wish::Quit => return End::Asked,
                Wish::Stop => {
                    terminal::ask_to_stop();
                    Ok(())
                }
                Wish::Redraw => live.enter(),
                Wish::Nothing => Ok(()),
            };
            if let Err(failure) = done {
                return End::Failed(failure);
            }
        }
        if let Err(failure) = live.draw() {
            return End::Failed(failure);
        }
    }
}

/// Shows what a look found. Returns whether to go on.
fn show(live: &Mutex<Live>, found: Found, ends: &Sender<End>) -> bool {
    let mut live = lock(live);
    match found {
        Found::Bus(bus) => live.state.look(*bus),
        Found::Gone(why) => live.state.gone = Some(why),
    }
    if let Err(failure) = live.draw() {
        let _ = ends.send(End::Failed(failure));
        return false;
    }
    !live.closed
}

impl Live {
    /// Sets the terminal, and draws everything on an empty screen.
    fn enter(&mut self) -> Outcome {
        if self.closed {
            return Ok(());
        }
        self.terminal.enter()?;
        let mut bytes = Vec::new();
        let _ = queue!(bytes, EnterAlternateScreen, Hide);
        out::put(&bytes)?;
        self.drawn = Buffer::default();
        self.draw()
    }

    /// Writes what has changed since it was drawn last.
    fn draw(&mut self) -> Outcome {
        if self.closed {
            return Ok(());
        }
        let size = terminal::size();
        let within = |number: usize, most| u16::try_from(number.min(most)).unwrap_or(u16::MAX);
        let area = Rect::new(0, 0, within(size.columns, LARGEST.0), within(size.rows, LARGEST.1));
        self.state.page = page(area.height);
        let mut picture = Buffer::empty(area);
        draw(&self.state, self.palette, area, &mut picture);

        let mut bytes = Vec::new();
        let mut backend = CrosstermBackend::new(&mut bytes);
        // The terminal itself has changed what it shows, or shows something else.
        let anew = self.drawn.area != area;
        if anew {
            backend.clear_region(ClearType::All).map_err(Failure::failed)?;
            self.drawn = Buffer::empty(area);
        }
        let changes = self.drawn.diff(&picture);
        if changes.is_empty() && !anew {
            return Ok(());
        }
        backend.draw(changes.into_iter()).map_err(Failure::failed)?;
        self.drawn = picture;
        out::put(&bytes)
    }

    /// Stops as a shell's job. The lock is held, so that nobody draws until the terminal is set again.
    fn stop(&mut self, signals: &mut Signals) -> Outcome {
        self.give_back();
        self.terminal.stop_as_asked(signals);
        self.enter()
    }

    fn give_back(&self) {
        self.terminal.leave();
        leave(&self.terminal.settings());
    }

    fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::{Command, Stdio};

    use rustix::fs::OFlags;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    /// Set for the process in which the other test below is to panic.
    const PANIC: &str = "RINGPOST_TEST_PANIC";

    #[test]
    fn panics_on_a_terminal() {
        if std::env::var_os(PANIC).is_none() {
            return;
        }
        let terminal = Terminal::open().unwrap().unwrap();
        restore_at_panic(terminal.settings());
        let palette = Palette::from_environment();
        let (state, drawn) = (State::default(), Buffer::default());
        let mut live = Live { state, palette, terminal, drawn, closed: false };
        live.enter().unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits().cast_signed())
            .open(std::ffi::OsStr::from_bytes(name.to_bytes()))
            .unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "top::screen::tests::panics_on_a_terminal", "--nocapture"]);
        command.env(PANIC, "1").env("TERM", "xterm").env_remove("RUST_BACKTRACE");
        command.stdin(end()).stdout(end()).stderr(end());
        let modes = tcgetattr(&slave).unwrap().local_modes;
        let mut child = command.spawn().unwrap();
        drop(command);
        drop(slave);
        let mut output = Vec::new();
        // The end of a terminal is an error of the other side.
        let _ = File::from(master.try_clone().unwrap()).read_to_end(&mut output);
        assert!(!child.wait().unwrap().success());
        let output = String::from_utf8_lossy(&output);
        let at = |text: &str| output.find(text).unwrap_or_else(|| panic!("{text:?} is not in {output:?}"));
        let (taken, given_back) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(taken < given_back && given_back < at("on purpose"), "{output:?}");
        assert!(at("\x1b[?25l") < at("\x1b[?25h"));
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        let after = tcgetattr(&master).unwrap().local_modes;
        assert!(after.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    }
}
