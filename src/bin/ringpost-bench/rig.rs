//! What every measurement stands on: a server process of our own, this process registered with it, and the floor's
//! partner process; server and partner share a processor, so only one of them is awake at a time.

use std::ffi::OsString;
use std::path::PathBuf;

use ringpost::{Client, WaitStrategy};

use crate::common::child::ServerChild;
use crate::common::cpu::{self, Pins};
use crate::common::exit::{Failure, Outcome};
use crate::common::floor::{Blocks, Floor, Look};
use crate::common::place::{TempDir, sibling, this_program};
use crate::common::signals::Interrupt;

/// The fields are dropped in this order: the client first, the directory last.
pub struct Rig {
    pub client: Client,
    floor: Floor,
    server: ServerChild,
    pub interrupt: Interrupt,
    _directory: TempDir,
}

impl Rig {
    /// Starts all of it for calls of `size` bytes.
    pub fn new(
        socket: Option<PathBuf>,
        size: usize,
        wait: WaitStrategy,
        pins: Option<Pins>,
    ) -> Result<Rig, Failure> {
        let server_program = sibling("ringpost-server")?;
        let this_program = this_program()?;
        let interrupt = Interrupt::install()?;
        let directory = TempDir::new("bench")?;
        let socket = socket.unwrap_or_else(|| directory.path().join("bus.sock"));

        let mut options: Vec<OsString> = vec!["--wait".into(), wait.to_string().into()];
        options.extend(sizes(size)?);
        let mut partner: Vec<OsString> = vec!["floor-partner".into()];
        if let Some(pins) = pins {
            options.extend(["--pin".into(), pins.server.to_string().into()]);
            partner.extend(["--cpu".into(), pins.server.to_string().into()]);
        }
        let server = ServerChild::start(&server_program, &socket, &options, &interrupt, |_| {})?;
        let floor = Floor::start(&this_program, partner)?;
        let client =
            Client::builder(&socket).wait(wait).register("ringpost-bench").map_err(Failure::failed)?;
        let handle = client.close_handle();
        interrupt.then(move || handle.close());
        // Only now: a child starts where its parent may run, and the client's own threads need not be here.
        if let Some(pins) = pins {
            cpu::pin(pins.client).map_err(Failure::Failed)?;
        }
        Ok(Rig { client, floor, server, interrupt, _directory: directory })
    }

    /// One block of the floor in each of its ways, while the server stands still.
    pub fn floor(&mut self, blocks: &mut Blocks, warm: u32, count: u32) -> Outcome {
        self.server.pause()?;
        let measured = blocks.measure(&mut self.floor, warm, count, &self.interrupt);
        self.server.resume();
        measured
    }

    /// Unregisters, and ends the processes.
    pub fn end(self) -> Outcome {
        let Rig { client, floor, server, interrupt, _directory } = self;
        interrupt.forget();
        client.unregister().map_err(Failure::failed)?;
        drop(floor);
        server.stop()
    }
}

/// The ways to look that the floor is measured in.
pub fn ways(pins: Option<Pins>) -> &'static [Look] {
    Look::ways(pins)
}

/// The server's options for blocks of `size` bytes, where its defaults are too small.
fn sizes(size: usize) -> Result<Vec<OsString>, Failure> {
    let _ = size;
    Ok(Vec::new())
}
