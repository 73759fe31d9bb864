//! Instruction counts of the hot path, which do not depend on how busy the machine is. The peer has always committed
//! already, so nothing spins and nothing sleeps.
//!
//! A count more than 3 % over its entry in `instruction_counts.rs` fails. Better counts are entered there by hand.

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use ringpost::ring::{self, Consumer, Producer};
use std::hint::black_box;

include!("instruction_counts.rs");

/// Blocks in each benchmark, so that what happens once weighs little.
const BLOCKS: usize = 100;

/// Fails above 3 % more than the committed count.
fn at_most(count: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, count + count * 3 / 100)]));
    config
}

/// A ring that has been once around, with so many blocks committed.
fn ring_with(committed: usize) -> (Producer, Consumer, Vec<u8>) {
    let (mut producer, mut consumer) = ring::local(1 << 14).expect("a ring");
    let mut into = Vec::with_capacity(64);
    for _ in 0..1 << 8 {
        producer.try_send(&[0; 48]).expect("room");
        consumer.try_recv(&mut into).expect("a block");
    }
    for _ in 0..committed {
        producer.try_send(&[0; 48]).expect("room");
    }
    (producer, consumer, into)
}

#[library_benchmark(config = at_most(PUBLISH))]
#[bench::blocks_of_48_bytes(ring_with(0))]
fn publish((mut producer, consumer, into): (Producer, Consumer, Vec<u8>)) -> (Producer, Consumer, Vec<u8>) {
    for _ in 0..BLOCKS {
        producer.try_send(black_box(&[0; 48])).expect("room");
    }
    (producer, consumer, into)
}

#[library_benchmark(config = at_most(CONSUME))]
#[bench::blocks_of_48_bytes(ring_with(BLOCKS))]
fn consume(
    (producer, mut consumer, mut into): (Producer, Consumer, Vec<u8>),
) -> (Producer, Consumer, Vec<u8>) {
    for _ in 0..BLOCKS {
        consumer.try_recv(black_box(&mut into)).expect("a block");
    }
    (producer, consumer, into)
}

#[library_benchmark(config = at_most(BATCH))]
#[bench::blocks_of_48_bytes(ring_with(0))]
fn batch((mut producer, consumer, into): (Producer, Consumer, Vec<u8>)) -> (Producer, Consumer, Vec<u8>) {
    let mut batch = producer.batch();
    for _ in 0..BLOCKS {
        batch.push(black_box(&[0; 48])).expect("room");
    }
    batch.commit();
    (producer, consumer, into)
}

library_benchmark_group!(name = ring_path, benchmarks = [publish, consume, batch]);

// The client's and the server's halves of a call belong into a group of their own here.

main!(library_benchmark_groups = ring_path);
