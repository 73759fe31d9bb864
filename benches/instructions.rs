//! Counts the instructions of the hot path, which do not depend on the machine's load.
//!
//! The peer has always committed already, so nothing spins or sleeps. A count of more than 3 % above its
//! entry in `instruction_counts.rs` fails. Better counts are entered there by hand.

#![allow(missing_docs, reason = "the macros make modules that cannot be documented")]

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use ringpost::ring::{self, Consumer, Producer};
use ringpost::testing::internals::{CallingEnd, FaceToFace, Forward, ServingEnd, TopicReader, TopicWriter};
use std::hint::black_box;
use std::time::Duration;

include!("instruction_counts.rs");

/// The blocks in each benchmark: enough to make one-time costs small.
const BLOCKS: usize = 100;

/// Makes a benchmark fail if its count is more than 3 % above the committed one.
fn at_most(count: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, count + count * 3 / 100)]));
    config
}

/// A ring that has wrapped once, with this many blocks committed.
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

/// A client and its worker after some calls, with this many requests committed, and served if `served`.
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

/// A client after some calls, with the responses to its next calls already committed.
fn answered(calls: usize) -> FaceToFace {
    let mut pair = face_to_face(0, false);
    for _ in 0..calls {
        assert!(pair.answer_ahead(&[0; 48]), "room");
    }
    pair
}

#[library_benchmark(config = at_most(CLIENT_CALL))]
#[bench::calls_of_48_bytes(answered(BLOCKS))]
fn client_call(mut pair: FaceToFace) -> FaceToFace {
    for _ in 0..BLOCKS {
        black_box(pair.call(black_box(&[0; 48])).expect("a response"));
    }
    pair
}

// A limit in time costs what none costs: the clock is read only when the client has to wait.
#[library_benchmark(config = at_most(CLIENT_CALL))]
#[bench::calls_of_48_bytes(answered(BLOCKS))]
fn client_call_timeout(mut pair: FaceToFace) -> FaceToFace {
    for _ in 0..BLOCKS {
        let reply = pair.call_timeout(black_box(&[0; 48]), black_box(Duration::from_secs(5)));
        black_box(reply.expect("a response"));
    }
    pair
}

// The worker serves all requests, in drains of up to 64.
#[library_benchmark(config = at_most(SERVER_SERVE))]
#[bench::calls_of_48_bytes(face_to_face(64, false))]
fn server_serve(mut pair: FaceToFace) -> FaceToFace {
    pair.serve();
    pair
}

library_benchmark_group!(
    name = call_path,
    benchmarks = [client_call, client_call_timeout, client_submit, client_collect, server_serve]
);

/// The calling end of a link after some calls and posts, with the responses to its next calls already
/// committed.
fn calling(calls: usize) -> CallingEnd {
    let mut end = CallingEnd::new(1 << 16).expect("a link");
    for _ in 0..1 << 11 {
        assert!(end.answer_ahead(&[0; 48]), "room");
        end.call(&[0; 48]).expect("a response");
        end.post(&[0; 48]).expect("room");
        end.take_all();
    }
    for _ in 0..calls {
        assert!(end.answer_ahead(&[0; 48]), "room");
    }
    end
}

/// The serving end of a link after some calls, with more already committed.
fn serving(calls: usize) -> ServingEnd {
    let mut end = ServingEnd::new(1 << 16).expect("a link");
    for _ in 0..1 << 11 {
        assert!(end.call(&[0; 48]), "room");
        end.serve();
        assert_eq!(end.collect(), 1);
    }
    for _ in 0..calls {
        assert!(end.call(&[0; 48]), "room");
    }
    end
}

// A call to another client costs what a call to the server costs.
#[library_benchmark(config = at_most(CLIENT_CALL))]
#[bench::calls_of_48_bytes(calling(BLOCKS))]
fn link_call(mut end: CallingEnd) -> CallingEnd {
    for _ in 0..BLOCKS {
        black_box(end.call(black_box(&[0; 48])).expect("a response"));
    }
    end
}

#[library_benchmark(config = at_most(LINK_POST))]
#[bench::posts_of_48_bytes(calling(0))]
fn link_post(mut end: CallingEnd) -> CallingEnd {
    for _ in 0..BLOCKS {
        end.post(black_box(&[0; 48])).expect("room");
    }
    end
}

/// They are all there.
fn collect_64(mut end: ServingEnd) {
    assert_eq!(end.collect(), 64);
}

// So does serving it.
#[library_benchmark(config = at_most(SERVER_SERVE))]
#[bench::calls_of_48_bytes(args = (64), setup = serving, teardown = collect_64)]
fn link_serve(mut end: ServingEnd) -> ServingEnd {
    end.serve();
    end
}

library_benchmark_group!(name = link_path, benchmarks = [link_call, link_post, link_serve]);

/// The progress of a message.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Not sent yet, but its acknowledgement is already committed: the sender finds it after sending.
    Acknowledged,
    /// Sent, but not yet taken by the worker.
    Sent,
    /// In the receiver's inbox.
    Delivered,
}

/// Two clients whose rings have wrapped once, with this many messages at a stage.
fn forward(messages: usize, stage: Stage) -> Forward {
    let mut pair = Forward::new(1 << 16).expect("two channels");
    for _ in 0..1 << 11 {
        pair.call(&[0; 48]).expect("a response");
        assert!(pair.deliver(&[0; 48]), "room");
        assert_eq!(pair.receive(), Some(48));
    }
    for _ in 0..messages {
        match stage {
            Stage::Acknowledged => assert!(pair.acknowledge_ahead(), "room"),
            Stage::Sent => {
                assert!(pair.acknowledge_ahead(), "room");
                pair.send(&[0; 48]).expect("an acknowledgement");
            }
            Stage::Delivered => assert!(pair.deliver(&[0; 48]), "room"),
        }
    }
    pair
}

#[library_benchmark(config = at_most(CLIENT_SEND))]
#[bench::messages_of_48_bytes(forward(BLOCKS, Stage::Acknowledged))]
fn client_send(mut pair: Forward) -> Forward {
    for _ in 0..BLOCKS {
        pair.send(black_box(&[0; 48])).expect("an acknowledgement");
    }
    pair
}

/// They are all there.
fn take_64(mut pair: Forward) {
    for _ in 0..64 {
        assert_eq!(pair.receive(), Some(48));
    }
    assert_eq!(pair.receive(), None);
}

#[library_benchmark(config = at_most(SERVER_FORWARD))]
#[bench::messages_of_48_bytes(args = (64, Stage::Sent), setup = forward, teardown = take_64)]
fn server_forward(mut pair: Forward) -> Forward {
    pair.serve();
    pair
}

#[library_benchmark(config = at_most(CLIENT_RECEIVE))]
#[bench::messages_of_48_bytes(forward(BLOCKS, Stage::Delivered))]
fn client_receive(mut pair: Forward) -> Forward {
    for _ in 0..BLOCKS {
        black_box(pair.receive()).expect("a message");
    }
    pair
}

library_benchmark_group!(name = forward_path, benchmarks = [client_send, server_forward, client_receive]);

/// The ends of a topic whose ring has wrapped, with so many samples that are not taken yet.
fn topic(may_sleep: bool, published: usize) -> (TopicWriter, TopicReader) {
    const RING: usize = 1 << 16;
    let mut writer = TopicWriter::new(RING, may_sleep).expect("a topic");
    let [segment, page] = &writer.descriptors;
    let mut reader = TopicReader::new(RING, segment, page).expect("a reader");
    for _ in 0..1 << 11 {
        assert!(writer.send(&[0; 48]) && reader.try_take().is_some());
    }
    for _ in 0..published {
        assert!(writer.send(&[0; 48]));
    }
    (writer, reader)
}

#[library_benchmark(config = at_most(TOPIC_PUBLISH))]
#[bench::samples_of_48_bytes(topic(false, 0))]
fn topic_publish((mut writer, reader): (TopicWriter, TopicReader)) -> (TopicWriter, TopicReader) {
    for _ in 0..BLOCKS {
        assert!(writer.send(black_box(&[0; 48])));
    }
    (writer, reader)
}

// With a fence, and a look at the word of the subscription that may sleep.
#[library_benchmark(config = at_most(TOPIC_PUBLISH_TO_SLEEPER))]
#[bench::samples_of_48_bytes(topic(true, 0))]
fn topic_publish_to_sleeper((mut writer, reader): (TopicWriter, TopicReader)) -> (TopicWriter, TopicReader) {
    for _ in 0..BLOCKS {
        assert!(writer.send(black_box(&[0; 48])));
    }
    (writer, reader)
}

#[library_benchmark(config = at_most(TOPIC_TAKE))]
#[bench::samples_of_48_bytes(topic(false, BLOCKS))]
fn topic_take((writer, mut reader): (TopicWriter, TopicReader)) -> (TopicWriter, TopicReader) {
    for _ in 0..BLOCKS {
        black_box(reader.try_take().expect("a sample"));
    }
    (writer, reader)
}

library_benchmark_group!(
    name = topic_path,
    benchmarks = [topic_publish, topic_publish_to_sleeper, topic_take]
);

main!(library_benchmark_groups = ring_path, call_path, link_path, forward_path, topic_path);
