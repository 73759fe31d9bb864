// Instructions for 100 blocks of 48 bytes, as `.ci/run instructions` shows them.
const PUBLISH: u64 = 15_470;
const CONSUME: u64 = 13_497;
const BATCH: u64 = 10_517;

// The client's half of 100 calls of 48 bytes, in two parts, and the worker's part of 64.
const CLIENT_SUBMIT: u64 = 19_048;
const CLIENT_COLLECT: u64 = 21_554;
const SERVER_SERVE: u64 = 26_008;
