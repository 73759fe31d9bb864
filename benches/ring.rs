//! Measures single parts in one thread, without waiting or another core.
//!
//! `ringpost-bench` measures between processes. The parts of a call and of a message need `--features
//! internals`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringpost::ring;
use ringpost::testing::Segment;

/// Copies into and out of shared memory, of sizes that use the different methods.
fn copy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy");
    let segment = Segment::anonymous(1 << 20).expect("memory");
    for len in [8, 48, 256, 2048, 4096, 65_536, 1 << 20] {
        let mut bytes = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("in", len), &len, |bencher, _| {
            bencher.iter(|| segment.copy_in(0, black_box(&bytes)));
        });
        group.bench_with_input(BenchmarkId::new("out", len), &len, |bencher, _| {
            bencher.iter(|| segment.copy_out(0, black_box(&mut bytes)));
        });
    }
    group.finish();
}

/// One block in, one block out.
fn push_pop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("push_pop");
    for len in [0, 48, 256, 4096, 30_000] {
        let (mut producer, mut consumer) = ring::local(1 << 16).expect("a ring");
        let block = vec![7; len];
        let mut into = Vec::with_capacity(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &len, |bencher, _| {
            bencher.iter(|| {
                producer.try_send(black_box(&block)).expect("room");
                consumer.try_recv(black_box(&mut into)).expect("it is open").expect("a block")
            });
        });
    }
    group.finish();
}

/// Blocks of 48 bytes in batches: one fence for all of them.
fn batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    for count in [1u64, 8, 64] {
        let (mut producer, mut consumer) = ring::local(1 << 16).expect("a ring");
        let mut into = Vec::with_capacity(48);
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |bencher, _| {
            bencher.iter(|| {
                let mut batch = producer.batch();
                for _ in 0..count {
                    batch.push(black_box(&[7; 48])).expect("room");
                }
                batch.commit();
                for _ in 0..count {
                    consumer.try_recv(black_box(&mut into)).expect("it is open").expect("a block");
                }
            });
        });
    }
    group.finish();
}

/// A whole call: request, echo by the worker, and response, by the same code as between processes.
#[cfg(feature = "internals")]
fn call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("call");
    for len in [0, 48, 256, 4096, 30_000] {
        let mut pair = ringpost::testing::internals::FaceToFace::new(1 << 17).expect("a channel");
        let request = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &len, |bencher, _| {
            bencher.iter(|| {
                pair.submit(black_box(&request)).expect("room");
                pair.serve();
                pair.collect().expect("a response")
            });
        });
    }
    group.finish();
}

#[cfg(feature = "internals")]
criterion_group!(benches, copy, push_pop, batch, call);
#[cfg(not(feature = "internals"))]
criterion_group!(benches, copy, push_pop, batch);
criterion_main!(benches);
