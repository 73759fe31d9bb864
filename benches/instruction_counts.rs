// Instruction counts as shown by `.ci/run instructions`. These are for 100 blocks of 48 bytes.
const PUBLISH: u64 = 11_670;
const CONSUME: u64 = 9_293;
const BATCH: u64 = 9_735;

// The client's part of 100 calls of 48 bytes, whose responses have arrived; the same in two halves, with a
// fence each; and the worker's part of 64 calls.
const CLIENT_CALL: u64 = 23_888;
const CLIENT_SUBMIT: u64 = 16_178;
const CLIENT_COLLECT: u64 = 18_486;
const SERVER_SERVE: u64 = 18_251;

// 100 posts of 48 bytes over a link, with a fence each. Calls over a link, and serving them, may take no more
// than calls to the server, so they have no counts of their own.
const LINK_POST: u64 = 16_163;

// Messages of 48 bytes from client to client: 100 sends with their acknowledgements; the worker's part of 64;
// receiving 100.
const CLIENT_SEND: u64 = 38_180;
const SERVER_FORWARD: u64 = 49_370;
const CLIENT_RECEIVE: u64 = 57_639;

// Samples of 48 bytes: 100 published to a subscription that spins, and to one that may sleep and does not now;
// 100 taken. Those of a topic's ends on bare memory.
const TOPIC_PUBLISH: u64 = 8_603;
const TOPIC_PUBLISH_TO_SLEEPER: u64 = 11_032;
const TOPIC_TAKE: u64 = 9_328;
