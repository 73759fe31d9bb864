//! Kills one server or one client and times how soon that is noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringpost::testing::Segment;
use ringpost::{Client, Observer, RegisterError};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::roles::State;
use crate::history::{BYTES, Gate, Kind, Reader, now};
use ringpost::cli::child::bound;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::place::this_program;
use ringpost::cli::signals::Interrupt;

/// What takes longer has failed.
const LIMIT: Duration = Duration::from_secs(300);
const NAME: &str = "death";
/// How long a call stays in the service, in milliseconds: beyond the trial, or not for ever where the server
/// lives on.
const STAY_FOR_EVER: u64 = 600_000;
const STAY: u64 = 500;

/// A process that is killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Process, Failure> {
        Ok(Process(bound(command).stdout(Stdio::null()).spawn().map_err(Failure::failed)?))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops it where it is; when this returns it stands still.
    fn pause(&self) -> Outcome {
        self.signal(Signal::STOP);
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::failed("a process has no number"))?;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED) {}
        Ok(())
    }

    fn is_asleep(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client's process, and what it tells.
struct Waiter {
    process: Process,
    reader: Reader,
}

pub struct Trials {
    program: PathBuf,
    socket: PathBuf,
    interrupt: Interrupt,
    /// The server of clients' deaths.
    server: Option<Process>,
}

impl Trials {
    pub fn new(socket: &Path, interrupt: &Interrupt) -> Result<Trials, Failure> {
        let (socket, interrupt) = (socket.to_owned(), interrupt.clone());
        Ok(Trials { program: this_program()?, socket, interrupt, server: None })
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
        let deadline = Instant::now() + LIMIT;
        while !holds() {
            self.interrupt.check()?;
            if Instant::now() > deadline {
                return Err(Failure::failed(format!("waited in vain until {what}")));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    fn start_server(&self) -> Result<Process, Failure> {
        let server = Process::start(
            Command::new(&self.program).arg("role-death-server").arg(&self.socket).stdin(Stdio::null()),
        )?;
        self.until("the server takes connections", || {
            self.socket.exists() && Observer::connect(&self.socket).is_ok()
        })?;
        Ok(server)
    }

    /// A client that is in this state.
    fn start_waiter(&self, state: State, stay: u64, server: &Process) -> Result<Waiter, Failure> {
        let (segment, descriptor) = Segment::create("ringpost-history", BYTES).map_err(Failure::failed)?;
        let mut reader = Reader::new(segment);
        let mut command = Command::new(&self.program);
        command.arg("role-death-client").arg(&self.socket);
        command.args([&state.word(), NAME, &stay.to_string()]).stdin(Stdio::from(descriptor));
        let process = Process::start(&mut command)?;
        self.hear(&mut reader, Kind::Idle)?;
        if state == State::Registering {
            server.pause()?;
        }
        reader.set_gate(Gate::Open(1));
        if state == State::Unregistering {
            self.hear(&mut reader, Kind::Idle)?;
            server.pause()?;
            reader.set_gate(Gate::Hold(1));
        }
        self.hear(&mut reader, Kind::Begin)?;
        if state.sleeps() {
            self.until("the client sleeps", || process.is_asleep())?;
        } else {
            // It is at it by now; how far cannot be seen.
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Waiter { process, reader })
    }

    /// Waits for its next record of this kind; when that was written.
    fn hear(&self, reader: &mut Reader, kind: Kind) -> Result<u64, Failure> {
        let mut time = None;
        self.until("a client is ready", || {
            time = reader.next().filter(|event| event.kind == kind).map(|event| event.time);
            time.is_some()
        })?;
        time.ok_or_else(|| Failure::failed("a client told nothing"))
    }

    /// How long a client in this state takes to notice that the server was killed.
    pub fn server_death(&mut self, state: State) -> Result<Duration, Failure> {
        self.server = None;
        let server = self.start_server()?;
        let mut waiter = self.start_waiter(state, STAY_FOR_EVER, &server)?;
        let killed = now();
        server.signal(Signal::KILL);
        let noticed = self.hear(&mut waiter.reader, Kind::End)?;
        Ok(Duration::from_nanos(noticed.saturating_sub(killed)))
    }

    /// How long it takes until the name of a client that was killed in this state is another's.
    pub fn client_death(&mut self, state: State) -> Result<Duration, Failure> {
        let server = match self.server.take() {
            Some(server) => server,
            None => self.start_server()?,
        };
        let waiter = self.start_waiter(state, STAY, &server)?;
        let mut since = now();
        waiter.process.signal(Signal::KILL);
        if state.needs_a_still_server() {
            drop(waiter);
            since = now();
            server.signal(Signal::CONT);
        }
        let builder = Client::builder(&self.socket).timeout(LIMIT);
        let client = loop {
            self.interrupt.check()?;
            match builder.register(NAME) {
                Ok(client) => break client,
                Err(RegisterError::NameTaken { .. }) => std::thread::sleep(Duration::from_micros(50)),
                // This process was held up between connecting and asking.
                Err(RegisterError::Refused(why)) if why.contains("nothing was asked in time") => {}
                Err(error) => return Err(Failure::failed(error)),
            }
        };
        let free = now();
        client.unregister().map_err(Failure::failed)?;
        self.server = Some(server);
        Ok(Duration::from_nanos(free.saturating_sub(since)))
    }
}
