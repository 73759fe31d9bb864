//! Instruction counts of the hot path, which do not depend on how busy the machine is. The peer has always committed
//! already, so nothing spins and nothing sleeps.
//!
//! A count more than 3 % over its entry in `instruction_counts.rs` fails. Better counts are entered there by hand.

#![allow(missing_docs, reason = "the macros make modules that cannot be documented")]

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use ringpost::internals::FaceToFace;
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

/// A client and its worker after some calls, with this many requests committed, and this many of them served.
fn face_to_face(committed: usize, served: bool) -> FaceToFace {
    let mut pair = FaceToFace::new(1 << 16).expect("a channel");
    for _ in 0..1 << 11 {
        pair.submit(&[0; 48]).expect("room");
        pair.serve();
        pair.collect().expect("a response");
    }
    for _ in 0..committed {
        pair.submit(&[0; 48]).expect("room");
        if served {
            pair.serve();
        }
    }
    pair
}

#[library_benchmark(config = at_most(CLIENT_SUBMIT))]
#[bench::calls_of_48_bytes(face_to_face(0, false))]
fn client_submit(mut pair: FaceToFace) -> FaceToFace {
    for _ in 0..BLOCKS {
        pair.submit(black_box(&[0; 48])).expect("room");
    }
    pair
}

#[library_benchmark(config = at_most(CLIENT_COLLECT))]
#[bench::calls_of_48_bytes(face_to_face(BLOCKS, true))]
fn client_collect(mut pair: FaceToFace) -> FaceToFace {
    for _ in 0..BLOCKS {
        black_box(pair.collect().expect("a response"));
    }
    pair
}

// The worker serves what is there in drains of up to 64.
#[library_benchmark(config = at_most(SERVER_SERVE))]
#[bench::calls_of_48_bytes(face_to_face(64, false))]
fn server_serve(mut pair: FaceToFace) -> FaceToFace {
    pair.serve();
    pair
}

library_benchmark_group!(name = call_path, benchmarks = [client_submit, client_collect, server_serve]);

main!(library_benchmark_groups = ring_path, call_path);
