// Instructions for 100 blocks of 48 bytes, as `cargo bench --bench instructions` shows them with the toolchain of CI.
const PUBLISH: u64 = 14_934;
const CONSUME: u64 = 15_346;
const BATCH: u64 = 10_589;
