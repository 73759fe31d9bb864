// Instructions for 100 blocks of 48 bytes, as `.ci/run instructions` shows them.
const PUBLISH: u64 = 10_834;
const CONSUME: u64 = 9_357;
const BATCH: u64 = 9_595;

// The client's half of 100 calls of 48 bytes, in two parts, and the worker's part of 64.
const CLIENT_SUBMIT: u64 = 17_756;
const CLIENT_COLLECT: u64 = 18_764;
const SERVER_SERVE: u64 = 17_458;

// A message of 48 bytes from client to client: 100 sends with their acknowledgements, the worker's part of 64, 100 received.
const CLIENT_SEND: u64 = 41_243;
const SERVER_FORWARD: u64 = 58_993;
const CLIENT_RECEIVE: u64 = 115_136;
