// Instructions for 100 blocks of 48 bytes, as `.ci/run instructions` shows them.
const PUBLISH: u64 = 11_770;
const CONSUME: u64 = 9_093;
const BATCH: u64 = 9_833;

// The client's part of 100 calls of 48 bytes whose responses are there; the same in two halves, with a fence each; and the worker's
// part of 64.
const CLIENT_CALL: u64 = 23_578;
const CLIENT_SUBMIT: u64 = 16_568;
const CLIENT_COLLECT: u64 = 18_376;
const SERVER_SERVE: u64 = 17_406;

// A message of 48 bytes from client to client: 100 sends with their acknowledgements, the worker's part of 64, 100 received.
const CLIENT_SEND: u64 = 36_566;
const SERVER_FORWARD: u64 = 48_841;
const CLIENT_RECEIVE: u64 = 53_960;
