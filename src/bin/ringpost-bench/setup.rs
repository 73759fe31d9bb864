//! `Setup`: a server process, this process as its client, and the floor's partner process.
//!
//! Server and partner share a CPU, so only one of them is awake at a time.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ringpost::{Client, WaitStrategy};

use ringpost::cli::child::{Helper, ServerChild};
use ringpost::cli::cpu::{self, Pins, SavedAffinity};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::{Blocks, Floor, Look};
use ringpost::cli::out::Progress;
use ringpost::cli::place::{TempDir, sibling, this_program};
use ringpost::cli::signals::Interrupt;

/// Bytes of a ring of a server that was told nothing else.
pub const DEFAULT_RING_SIZE: usize = 256 * 1024;

/// The parameters of a setup.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The size of the largest call.
    pub size: usize,
    pub wait: WaitStrategy,
    /// The CPUs to which client and server are pinned.
    pub pins: Option<Pins>,
    /// The CPUs to which the floor's two processes are pinned while they measure.
    pub floor_pins: Option<Pins>,
    /// The number of other clients.
    pub others: u32,
    /// The number of pairs of blocks.
    pub blocks: u32,
}

/// A running setup. The order of the fields is that of their drops: first the client, last the directory and
/// this thread's affinity.
pub struct Setup {
    pub client: Client,
    floor: Floor,
    server: ServerChild,
    pub interrupt: Interrupt,
    pub progress: Progress,
    socket: PathBuf,
    plan: Plan,
    _directory: TempDir,
    _freedom: SavedAffinity,
}

impl Setup {
    /// Starts server, partner and client.
    pub fn new(interrupt: &Interrupt, socket: Option<PathBuf>, plan: Plan) -> Result<Setup, Failure> {
        let freedom = SavedAffinity::save();
        let server_program = sibling("ringpost-server")?;
        let this_program = this_program()?;
        let directory = TempDir::new("bench")?;
        let socket = socket.unwrap_or_else(|| directory.path().join("bus.sock"));

        let mut options: Vec<OsString> = vec!["--wait".into(), plan.wait.to_string().into()];
        let ring = ring_size(plan.size)?;
        if ring > DEFAULT_RING_SIZE {
            options.extend(["--ring-size".into(), ring.to_string().into()]);
        }
        if plan.others > 0 {
            options.extend(["--max-clients".into(), (plan.others + 16).to_string().into()]);
        }
        let mut partner: Vec<OsString> = vec!["floor-partner".into()];
        if let Some(pins) = plan.pins {
            options.extend(["--pin".into(), pins.server.to_string().into()]);
        }
        if let Some(pins) = plan.floor_pins {
            partner.extend(["--cpu".into(), pins.server.to_string().into()]);
        }
        let server = ServerChild::start(&server_program, &socket, &options, interrupt, |_| {})?;
        let floor = Floor::with_buffers(&this_program, partner, ring)?;
        let client =
            Client::builder(&socket).wait(plan.wait).register("ringpost-bench").map_err(Failure::failed)?;
        // Pin this thread last: children and the client's threads inherit its CPUs.
        if let Some(pins) = plan.pins {
            cpu::pin(pins.client).map_err(Failure::Failed)?;
        }
        let setup = Setup {
            client,
            floor,
            server,
            interrupt: interrupt.clone(),
            progress: Progress::new(),
            socket,
            plan,
            _directory: directory,
            _freedom: freedom,
        };
        setup.end_waits_on_signals(|| {});
        Ok(setup)
    }

    /// From now on, a signal ends a wait of this thread for a call or for the floor's partner, and others by
    /// `others`.
    pub fn end_waits_on_signals(&self, others: impl FnOnce() + Send + 'static) {
        let closer = self.client.closer();
        let breaker = self.floor.breaker();
        self.interrupt.then(move || {
            closer.close();
            breaker();
            others();
        });
    }

    /// The server's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The CPUs to which client and server are pinned.
    pub fn pins(&self) -> Option<Pins> {
        self.plan.pins
    }

    /// The CPUs to which the floor's two processes are pinned.
    pub fn floor_pins(&self) -> Option<Pins> {
        self.plan.floor_pins
    }

    /// The numbers of the blocks.
    pub fn blocks(&self) -> std::ops::Range<u32> {
        0..self.plan.blocks
    }

    /// Shows the progress at the start of a block of `what`. Fails if a signal has come.
    pub fn begin(&mut self, block: u32, what: impl std::fmt::Display) -> Outcome {
        self.progress.show(format_args!("{what}: block {block} of {}", self.plan.blocks));
        self.interrupt.check()
    }

    /// The server's process id.
    pub fn server(&self) -> u32 {
        self.server.id()
    }

    /// Starts this program once more with `arguments`, and waits until it prints that it is ready.
    pub fn helper(&self, arguments: &[&OsStr], patience: Duration) -> Result<Helper, Failure> {
        let mut helper = Helper::start(&this_program()?, arguments, Stdio::null())?;
        helper.line(patience, &self.interrupt)?;
        Ok(helper)
    }

    /// Measures with the floor's partner while the server is idle: a spinning server is stopped, any other
    /// one soon sleeps by itself.
    pub fn beside<T>(
        &mut self,
        measure: impl FnOnce(&mut Floor, &Interrupt) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _freedom = match self.plan.floor_pins.filter(|_| self.plan.pins.is_none()) {
            None => None,
            Some(pins) => {
                let freedom = SavedAffinity::save();
                cpu::pin(pins.client).map_err(Failure::Failed)?;
                Some(freedom)
            }
        };
        if self.plan.wait != WaitStrategy::Spin {
            return measure(&mut self.floor, &self.interrupt);
        }
        self.server.pause()?;
        let measured = measure(&mut self.floor, &self.interrupt);
        self.server.resume();
        measured
    }

    /// Measures while the server stands still, if it would spin: for ends that share its CPU.
    pub fn without_server<T>(
        &mut self,
        measure: impl FnOnce(&mut Setup) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.plan.wait != WaitStrategy::Spin {
            return measure(self);
        }
        self.server.pause()?;
        let measured = measure(self);
        self.server.resume();
        measured
    }

    /// Measures one block of the floor in each way, while the server is idle.
    pub fn floor(&mut self, blocks: &mut Blocks, warm: u32, count: u32) -> Outcome {
        self.beside(|floor, interrupt| blocks.measure(floor, warm, count, interrupt))
    }

    /// Runs `measure`, then ends everything. If it failed because a signal came or the server ended, reports
    /// that instead.
    pub fn run<T>(mut self, measure: impl FnOnce(&mut Setup) -> Result<T, Failure>) -> Result<T, Failure> {
        match measure(&mut self) {
            Ok(measured) => self.end().map(|()| measured),
            Err(failure) => {
                // A signal to the whole process group may have ended the server first.
                let server = self.server.check();
                let causes = self.interrupt.check().and(server);
                let _ = self.end();
                Err(causes.err().unwrap_or(failure))
            }
        }
    }

    /// Unregisters the client and ends the processes.
    fn end(self) -> Outcome {
        let Setup { client, floor, server, interrupt, .. } = self;
        interrupt.forget();
        client.unregister().map_err(Failure::failed)?;
        drop(floor);
        server.stop()
    }
}

/// The ways of waiting in which the floor is measured.
pub fn ways(pins: Option<Pins>) -> &'static [Look] {
    Look::ways(pins)
}

/// The ring size for calls of `size` bytes: the default, or more if necessary.
pub fn ring_size(size: usize) -> Result<usize, Failure> {
    // A block is 8 bytes larger than its payload, and at most half a ring minus 8 bytes.
    const OVERHEAD: usize = 16;
    const MOST: usize = (1 << 29) - OVERHEAD;
    if size > MOST {
        return Err(Failure::usage(format!("a call has at most {MOST} bytes, got {size}")));
    }
    Ok((2 * (size + OVERHEAD)).next_power_of_two().max(DEFAULT_RING_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_large_enough_for_the_calls() {
        assert_eq!(ring_size(0), Ok(DEFAULT_RING_SIZE));
        assert_eq!(ring_size(DEFAULT_RING_SIZE / 2 - 16), Ok(DEFAULT_RING_SIZE));
        assert_eq!(ring_size(DEFAULT_RING_SIZE / 2 - 15), Ok(524_288));
        assert_eq!(ring_size((1 << 29) - 16), Ok(1 << 30));
        assert!(ring_size((1 << 29) - 15).is_err() && ring_size(usize::MAX).is_err());
    }
}
