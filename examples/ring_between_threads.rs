//! A ring between two threads without a server: single blocks, blocks written in place, batches and drains.
//!
//! ```text
//! cargo run --release --example ring_between_threads
//! ```

use std::error::Error;
use std::io::Write;
use std::thread;
use std::time::Instant;

use ringpost::ring::{self, CloseReason, Consumer, Producer, RecvError, SendError};

const NUMBERS: u64 = 200_000;

/// An error that a thread can return.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let (producer, consumer) = ring::local(64 * 1024)?;
    println!("blocks of up to {} bytes", producer.max_block());

    let began = Instant::now();
    let writer = thread::spawn(move || write(producer));
    let (blocks, sum) = read(consumer)?;
    writer.join().map_err(|_| "the writer panicked")??;

    if sum != (0..NUMBERS).sum::<u64>() {
        return Err(format!("the numbers come to {sum}").into());
    }
    println!("{blocks} blocks in {:.1} ms; the numbers are all there", began.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn write(mut producer: Producer) -> Result<(), Failure> {
    // A grant writes directly into the ring. The block has the length that was written, and becomes visible
    // with the commit.
    let mut grant = producer.grant(64)?;
    write!(grant, "numbers below {NUMBERS}")?;
    grant.commit();

    // A batch commits several blocks together, with one fence. It takes what fits and never waits.
    let mut next = 0;
    while next < NUMBERS / 2 {
        let mut batch = producer.batch();
        let first = next;
        while next < NUMBERS / 2 && next < first + 32 {
            match batch.push(&next.to_le_bytes()) {
                Ok(()) => next += 1,
                Err(SendError::Full) => break,
                Err(error) => return Err(error.into()),
            }
        }
        batch.commit();
        if next == first {
            // Nothing fitted, so wait for room for one block.
            producer.send(&next.to_le_bytes())?;
            next += 1;
        }
    }

    // Single blocks, which wait for room.
    for number in next..NUMBERS {
        producer.send(&number.to_le_bytes())?;
    }
    Ok(())
    // Dropping the producer closes the ring. The consumer still receives everything that was committed.
}

fn read(mut consumer: Consumer) -> Result<(u64, u64), Failure> {
    let mut block = Vec::new();
    consumer.recv(&mut block)?;
    println!("title: {:?}", String::from_utf8_lossy(&block));
    let (mut blocks, mut sum) = (1, 0);
    let mut add = |block: &[u8]| -> Result<(), Failure> {
        sum += u64::from_le_bytes(block.try_into()?);
        blocks += 1;
        Ok(())
    };
    loop {
        match consumer.recv(&mut block) {
            Ok(_) => add(&block)?,
            Err(RecvError::Disconnected(CloseReason::PEER)) => return Ok((blocks, sum)),
            Err(error) => return Err(error.into()),
        }
        // A drain takes the other blocks that have arrived, and releases their room together.
        let mut drain = consumer.drain();
        while drain.try_recv(&mut block)?.is_some() {
            add(&block)?;
        }
    }
}
