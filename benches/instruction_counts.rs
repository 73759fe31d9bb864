// Instructions for 100 blocks of 48 bytes, as `cargo bench --bench instructions` shows them with the toolchain of CI.
const PUBLISH: u64 = 14_934;
const CONSUME: u64 = 15_346;
const BATCH: u64 = 10_589;

// The client's half of 100 calls of 48 bytes, in two parts, and the worker's part of 64.
const CLIENT_SUBMIT: u64 = 30_000;
const CLIENT_COLLECT: u64 = 30_000;
const SERVER_SERVE: u64 = 30_000;
