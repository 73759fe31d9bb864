//! A process that writes blocks, grants and batches into a channel of its own, until it dies: what arrives is
//! a beginning of what it wrote, and every batch is whole.

use std::io;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clap::Args;
use ringpost::channel::{self, Host};

use super::failpoints::{self, Armed, Side};
use super::random::Random;
use super::server::no_core;
use ringpost::cli::child::{bound, die_with_parent};
use ringpost::cli::exit::{Failure, Outcome};

const RING: usize = 4096;
/// Number of the batch, place in it, how many there are.
const HEAD: usize = 16;

/// What the writer is told.
#[derive(Debug, Args)]
pub struct StreamOptions {
    seed: u64,
}

/// The block at this place of the batch.
fn block(seed: u64, batch: u64, place: u32, count: u32) -> Vec<u8> {
    let mut random = Random::of(&[seed, batch, place.into()]);
    let mut bytes = vec![0; HEAD + random.length(1200)];
    bytes[..8].copy_from_slice(&batch.to_le_bytes());
    bytes[8..12].copy_from_slice(&place.to_le_bytes());
    bytes[12..16].copy_from_slice(&count.to_le_bytes());
    random.fill(&mut bytes[HEAD..]);
    bytes
}

/// The writer's process.
pub fn write(options: &StreamOptions) -> Outcome {
    die_with_parent();
    no_core();
    let mut guest = channel::open(io::stdin(), Default::default()).map_err(Failure::failed)?;
    let ring = &mut guest.requests;
    let mut random = Random::of(&[options.seed, 1]);
    for number in 0.. {
        match random.below(3) {
            0 => ring.send(&block(options.seed, number, 0, 1)).map_err(Failure::failed)?,
            1 => {
                let bytes = block(options.seed, number, 0, 1);
                let mut grant = ring.grant(bytes.len()).map_err(Failure::failed)?;
                let half = bytes.len() / 2;
                grant.write_all(&bytes[..half]).map_err(Failure::failed)?;
                grant.write_all(&bytes[half..]).map_err(Failure::failed)?;
                grant.commit();
            }
            _ => {
                let count = 2 + random.below(4) as u32;
                let mut batch = ring.batch();
                let pushed =
                    (0..count).try_for_each(|place| batch.push(&block(options.seed, number, place, count)));
                if pushed.is_ok() {
                    batch.commit();
                } else {
                    // It leaves no trace, and another block of this number comes in its place.
                    drop(batch);
                    ring.send(&block(options.seed, number, 0, 1)).map_err(Failure::failed)?;
                }
            }
        }
    }
    Ok(())
}

/// The reader's side.
pub struct Stream {
    pub child: Child,
    pub point: Option<Armed>,
    seed: u64,
    host: Host,
    /// What comes next: the batch, and the place in it if it has begun, with how many there are.
    batch: u64,
    within: Option<(u32, u32)>,
    buffer: Vec<u8>,
    pub blocks: u64,
}

impl Stream {
    pub fn start(program: &Path, seed: u64, turn: u64) -> Result<Stream, Failure> {
        let (host, descriptor) = channel::create(RING, Default::default()).map_err(Failure::failed)?;
        let mut random = Random::of(&[seed, 2]);
        let point = failpoints::choose(Side::Channel, turn, &mut random);
        let mut command = Command::new(program);
        bound(&mut command).args(["role-writer", &seed.to_string()]).stdin(Stdio::from(descriptor));
        command.stdout(Stdio::null()).env_remove(failpoints::VARIABLE).env_remove(failpoints::FAULT);
        if let Some(point) = &point {
            command.env(failpoints::VARIABLE, point.told());
        }
        let child = command.spawn().map_err(Failure::failed)?;
        Ok(Stream { child, point, seed, host, batch: 0, within: None, buffer: Vec::new(), blocks: 0 })
    }

    /// Reads what there is, at most so much.
    pub fn read(&mut self, most: usize) -> Result<usize, String> {
        for count in 0..most {
            match self.host.requests.try_recv(&mut self.buffer) {
                Ok(Some(_)) => self.check()?,
                Ok(None) => return Ok(count),
                Err(error) => return Err(format!("the channel's reader: {error}")),
            }
        }
        Ok(most)
    }

    fn check(&mut self) -> Result<(), String> {
        self.blocks += 1;
        let (place, count) = match (self.within, self.buffer.get(8..16)) {
            (Some(within), _) => within,
            (None, Some(head)) => {
                let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
                (word(0), word(4))
            }
            (None, None) => return Err(format!("a block of {} bytes", self.buffer.len())),
        };
        if self.within.is_none() && place != 0 || self.buffer != block(self.seed, self.batch, place, count) {
            return Err(format!("not block {place} of {count} of batch {}", self.batch));
        }
        self.within = (place + 1 < count).then_some((place + 1, count));
        self.batch += u64::from(self.within.is_none());
        Ok(())
    }

    /// Reads the rest, after the writer's death.
    pub fn finish(&mut self) -> Result<(), String> {
        while self.read(1024)? > 0 {}
        match self.within {
            None => Ok(()),
            Some((place, count)) => {
                Err(format!("{place} blocks of a batch of {count} arrived (batch {})", self.batch))
            }
        }
    }
}
