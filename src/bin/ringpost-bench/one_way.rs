//! `OneWayRing`: measures a ring in one direction, from this process to a reader thread or reader process.
//!
//! A second ring goes back. The reader is told how many blocks will come, and answers how many bytes they
//! had.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Instant;

use clap::ValueEnum;
use ringpost::WaitStrategy;
use ringpost::channel;
use ringpost::ring::{self, Closer, Consumer, Producer, RecvError, SendError};
use serde::Serialize;

use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::cpu::{self, Pins, SavedAffinity};
use ringpost::cli::exit::{Failure, Outcome};

/// What kinds of ends the ring connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Between {
    Threads,
    Processes,
}

/// The sending end.
pub struct OneWayRing {
    forth: Producer,
    back: Consumer,
    reader: Reader,
}

enum Reader {
    Thread(Option<JoinHandle<Outcome>>),
    Process {
        _helper: Helper,
        /// Kept because dropping it would close the channel.
        _inbox: Box<Producer>,
    },
}

impl OneWayRing {
    /// Starts a reader. Both ends use `wait` during a block; between blocks the reader sleeps.
    pub fn start(
        between: Between,
        ring_size: usize,
        wait: WaitStrategy,
        pins: Option<Pins>,
        program: &Path,
    ) -> Result<OneWayRing, Failure> {
        let cpu = pins.map(|pins| pins.server);
        match between {
            Between::Threads => OneWayRing::with_thread(ring_size, wait, cpu),
            Between::Processes => OneWayRing::with_process(ring_size, wait, cpu, program),
        }
    }

    fn with_thread(ring_size: usize, wait: WaitStrategy, cpu: Option<usize>) -> Result<OneWayRing, Failure> {
        let ring = || ring::local_with(ring_size, wait).map_err(Failure::failed);
        let (forth, from) = ring()?;
        let (to, back) = ring()?;
        let reader = std::thread::Builder::new()
            .name("reader".into())
            .spawn(move || {
                if let Some(cpu) = cpu {
                    cpu::pin(cpu).map_err(Failure::Failed)?;
                }
                read(from, to, wait)
            })
            .map_err(Failure::failed)?;
        Ok(OneWayRing { forth, back, reader: Reader::Thread(Some(reader)) })
    }

    fn with_process(
        ring_size: usize,
        wait: WaitStrategy,
        cpu: Option<usize>,
        program: &Path,
    ) -> Result<OneWayRing, Failure> {
        let (host, descriptor) = channel::create(ring_size, wait).map_err(Failure::failed)?;
        let mut arguments = vec!["ring-reader".to_string(), wait.to_string()];
        arguments.extend(cpu.map(|cpu| cpu.to_string()));
        let helper = Helper::start(program, arguments, Stdio::from(descriptor))?;
        // Else this end could wait for room for ever.
        let closer = host.closer.clone();
        helper.when_it_ends(move || closer.close())?;
        let reader = Reader::Process { _helper: helper, _inbox: Box::new(host.inbox) };
        Ok(OneWayRing { forth: host.responses, back: host.requests, reader })
    }

    /// Returns a function that ends every wait of this end.
    pub fn breaker(&self) -> impl FnOnce() + Send + 'static {
        let closers = [self.forth.closer(), self.back.closer()];
        move || closers.iter().for_each(Closer::close)
    }

    /// Sends `payload` `count` times in batches of `batch`. Returns the nanoseconds per payload, until the
    /// last one was read.
    pub fn block(&mut self, payload: &[u8], count: u64, batch: u64) -> Result<f64, Failure> {
        let gone =
            |error: &dyn std::fmt::Display| Failure::failed(format!("the ring's reader is gone: {error}"));
        self.forth.send(&count.to_le_bytes()).map_err(|error| gone(&error))?;
        self.answer()?;
        let start = Instant::now();
        self.send_all(payload, count, batch).map_err(|error| gone(&error))?;
        let bytes = self.answer()?;
        let time = start.elapsed();
        if bytes == count * payload.len() as u64 {
            Ok(time.as_nanos() as f64 / count as f64)
        } else {
            Err(Failure::failed("the reader did not receive what was sent, so the measurement is invalid"))
        }
    }

    fn send_all(&mut self, payload: &[u8], count: u64, batch: u64) -> Result<(), ring::SendError> {
        if batch == 1 {
            return (0..count).try_for_each(|_| self.forth.send(payload));
        }
        let mut left = count;
        while left > 0 {
            let mut blocks = self.forth.batch();
            let mut pushed = 0;
            while pushed < batch.min(left) {
                match blocks.push(payload) {
                    Ok(()) => pushed += 1,
                    Err(SendError::Full) => break,
                    // The next `send` returns the error.
                    Err(_) => break,
                }
            }
            blocks.commit();
            left -= pushed;
            if pushed < batch && left > 0 {
                self.forth.send(payload)?;
                left -= 1;
            }
        }
        Ok(())
    }

    /// Receives the reader's next number.
    fn answer(&mut self) -> Result<u64, Failure> {
        let mut block = Vec::new();
        match self.back.recv(&mut block) {
            Ok(_) => number(&block),
            Err(error) => match &mut self.reader {
                // The thread's result has the reason.
                Reader::Thread(thread) => Err(thread
                    .take()
                    .and_then(|thread| thread.join().ok())
                    .and_then(Result::err)
                    .unwrap_or_else(|| Failure::failed(error))),
                Reader::Process { .. } => Err(Failure::failed(format!("the ring's reader is gone: {error}"))),
            },
        }
    }
}

impl Drop for OneWayRing {
    fn drop(&mut self) {
        self.forth.closer().close();
        if let Reader::Thread(thread) = &mut self.reader
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn number(block: &[u8]) -> Result<u64, Failure> {
    block
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| Failure::failed("a number does not have 8 bytes: the two ends of the ring disagree"))
}

/// The reader: runs until the ring is closed.
fn read(mut from: Consumer, mut to: Producer, wait: WaitStrategy) -> Outcome {
    let mut block = Vec::new();
    loop {
        from.set_wait_strategy(WaitStrategy::Park);
        match from.recv(&mut block) {
            Ok(_) => {}
            Err(RecvError::Disconnected(_)) => return Ok(()),
            Err(error) => return Err(Failure::failed(error)),
        }
        let count = number(&block)?;
        from.set_wait_strategy(wait);
        to.send(&0_u64.to_le_bytes()).map_err(Failure::failed)?;
        let mut bytes = 0;
        for _ in 0..count {
            bytes += from.recv(&mut block).map_err(Failure::failed)? as u64;
        }
        to.send(&bytes.to_le_bytes()).map_err(Failure::failed)?;
    }
}

/// The body of the reader process. It gets the channel as its standard input.
pub fn reader(wait: WaitStrategy, cpu: Option<usize>) -> Outcome {
    die_with_parent();
    let guest = channel::open(io::stdin(), wait).map_err(Failure::failed)?;
    let _freedom = SavedAffinity::save();
    if let Some(cpu) = cpu {
        cpu::pin(cpu).map_err(Failure::Failed)?;
    }
    read(guest.responses, guest.requests, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_blocks_are_read_for_every_batch_size() {
        let mut ring = OneWayRing::with_thread(4096, WaitStrategy::Adaptive, None).unwrap();
        for (size, count, batch) in [(56, 300, 1), (56, 300, 16), (0, 7, 16), (1000, 50, 64)] {
            assert!(ring.block(&vec![1; size], count, batch).unwrap() > 0.0, "{size} {count} {batch}");
        }
    }
}
