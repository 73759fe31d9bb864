//! What every measurement stands on: a server process of our own, this process registered with it, and the floor's
//! partner process; server and partner share a processor, so only one of them is awake at a time.

use std::ffi::OsString;
use std::path::PathBuf;

use ringpost::{Client, DEFAULT_RING_SIZE, WaitStrategy};

use crate::common::child::ServerChild;
use crate::common::cpu::{self, Pins};
use crate::common::exit::{Failure, LEAVING, Outcome};
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

    /// Why a measurement failed: a signal, or the server's end, if there was one of them; both close the channel.
    pub fn explain(&mut self, failure: Failure) -> Failure {
        let causes = self.interrupt.check().and_then(|()| self.server.check());
        causes.err().unwrap_or(failure)
    }

    /// Unregisters, and ends the processes.
    pub fn end(self) -> Outcome {
        let Rig { client, floor, server, interrupt, _directory } = self;
        interrupt.forget();
        client.unregister_timeout(LEAVING).map_err(Failure::failed)?;
        drop(floor);
        server.stop()
    }
}

/// The ways to look that the floor is measured in.
pub fn ways(pins: Option<Pins>) -> &'static [Look] {
    Look::ways(pins)
}

/// The server's options for calls of `size` bytes, where its default rings are too small.
fn sizes(size: usize) -> Result<Vec<OsString>, Failure> {
    // A block is the payload and 8 bytes, and takes at most half a ring less 8 bytes.
    const OVERHEAD: usize = 16;
    const MOST: usize = (1 << 29) - OVERHEAD;
    if size > MOST {
        return Err(Failure::usage(format!("--size {size}: a call has at most {MOST} bytes")));
    }
    let ring = (2 * (size + OVERHEAD)).next_power_of_two();
    if ring <= DEFAULT_RING_SIZE {
        return Ok(Vec::new());
    }
    Ok(vec!["--ring-size".into(), ring.to_string().into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_grow_with_the_calls() {
        assert_eq!(sizes(0), Ok(vec![]));
        assert_eq!(sizes(DEFAULT_RING_SIZE / 2 - 16), Ok(vec![]));
        let larger: Vec<OsString> = vec!["--ring-size".into(), "524288".into()];
        assert_eq!(sizes(DEFAULT_RING_SIZE / 2 - 15), Ok(larger));
        assert_eq!(sizes((1 << 29) - 16).unwrap()[1], "1073741824");
        assert!(sizes((1 << 29) - 15).is_err() && sizes(usize::MAX).is_err());
    }
}
