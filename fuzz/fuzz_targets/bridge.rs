//! Fuzzes what a bridge reads from other nodes: keys, questions, answers and samples.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../bridge/tests/decoders.rs"]
mod decoders;

fuzz_target!(|data: &[u8]| decoders::check(data));
