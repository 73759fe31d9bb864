//! Fuzzes the calling end of a link whose callee writes arbitrary words and bytes, from the handshake on.
//!
//! The caller must never panic, write only its own memory, match responses to its calls and never to its
//! posts, close what it gives up, and stay closed after it has found a broken rule.

#![no_main]

mod input;
mod peer;

use std::cell::RefCell;
use std::time::Instant;

use input::Input;
use libfuzzer_sys::fuzz_target;
use peer::{LINE, RING, Reader, Writer, block, tamper};
use ringpost::testing::fuzz::{Memory, REQUESTS, RESPONSES, SPARE_HINTS, Work, link_on, work};
use ringpost::{CallError, ConnectError};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory::new());
}

const OK: u16 = 0;
const HELLO: u16 = 12;
const CALL: u16 = 1;
const SAYS_HELLO: u16 = 8;
const POST: u16 = 9;

static REQUEST: [u8; 4096] = [1; 4096];
static BODY: [u8; 4096] = [b'x'; 4096];

/// The longest text of a refusal, in characters.
const LONGEST_TEXT: usize = 1024;

/// The words that a step may read or write, besides six for each sleep and for each block that fits into its
/// ring.
const WORDS: u64 = 40;
const WORDS_FOR_A_BLOCK: u64 = 24;

/// The callee, and what it knows.
struct Callee<'a> {
    memory: &'a Memory,
    responses: Writer,
    requests: Reader,
    /// The numbers of the next response and of the next call to come.
    next: u32,
    expected: u32,
    greeted: bool,
    /// Whether anything but valid blocks was written.
    tampered: bool,
}

impl Callee<'_> {
    /// Says something nearly valid, at once or while the caller sleeps.
    fn say(&mut self, status: u16, number: u32, body: &[u8], input: &mut Input<'_>) {
        let form = input.byte();
        let block = block(status, 0, number.wrapping_add(u32::from(form / 252)), body);
        let cut = block.len() - usize::from(input.byte() / 250).min(block.len());
        if form % 4 == 0 {
            self.responses.put_later(self.memory, block[..cut].to_vec());
        } else {
            self.responses.put(self.memory, &block[..cut]);
        }
    }

    /// A step before there is a link.
    fn prepare(&mut self, input: &mut Input<'_>) {
        match input.byte() % 8 {
            0 => self.tamper(input),
            form => {
                let status = [HELLO, OK, 13, 14, input.byte().into()][usize::from(form) % 5];
                let body = match input.byte() % 4 {
                    0 => &BODY[..usize::from(input.word16()) % 2100],
                    1 => {
                        let len = usize::from(input.byte());
                        input.bytes(len)
                    }
                    _ => &[],
                };
                self.say(status, 0, body, input);
            }
        }
    }

    fn respond(&mut self, input: &mut Input<'_>) {
        let (status, form) = (u16::from(input.byte() % 16), input.byte());
        let body = if form % 3 == 0 {
            &BODY[..usize::from(input.word16()) % 2100]
        } else {
            let len = usize::from(input.byte());
            input.bytes(len)
        };
        self.say(status, self.next, body, input);
        self.next = self.next.wrapping_add(1);
    }

    fn tamper(&mut self, input: &mut Input<'_>) {
        self.tampered = true;
        tamper(self.memory, &[self.responses.end()], input);
    }

    /// A plausible position up to which it has consumed.
    fn consume(&mut self, input: &mut Input<'_>) {
        self.tampered = true;
        let lines = u64::from(input.byte() % 64);
        self.memory.set_head(REQUESTS, self.memory.head(REQUESTS).wrapping_add(lines * LINE));
    }

    /// Reads what the caller has said, which must be valid.
    fn read(&mut self) {
        if self.tampered {
            return;
        }
        while let Some(request) = self.requests.next(self.memory) {
            let number = u32::from_le_bytes(request[4..8].try_into().expect("a request has a header"));
            match u16::from_le_bytes([request[0], request[1]]) {
                SAYS_HELLO => assert!(!self.greeted && number == 0 && request.len() == 8),
                CALL => {
                    assert_eq!(number, self.expected, "calls have their numbers");
                    self.expected += 1;
                }
                POST => assert_eq!(number, 0, "posts have none"),
                other => panic!("a request {other}"),
            }
            assert!(request[2..4] == [0; 2] && (self.greeted || request[0] == 8), "hello comes first");
            self.greeted = true;
        }
    }
}

/// The work of one step is bounded, whatever the callee does.
fn check_work(done: Work) {
    // At most one request for each response in the ring, and each is read once.
    let most = WORDS + RING / LINE * WORDS_FOR_A_BLOCK + 6 * done.sleeps;
    assert!(done.words <= most, "{done:?} in one step");
    assert!(done.bytes <= 3 * RING, "{done:?} in one step");
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input(data);
        let form = input.byte();
        memory.begin(if form % 4 == 0 { 256 + usize::from(input.byte()) * 7 } else { 2040 });
        let memory = &*memory;
        let mut callee = Callee {
            memory,
            responses: Writer::new(RESPONSES),
            requests: Reader::new(REQUESTS),
            next: 0,
            expected: 0,
            greeted: false,
            tampered: false,
        };
        if form & 0x40 == 0 {
            callee.responses.put(memory, &block(HELLO, 0, 0, &[]));
            callee.responses.put(memory, &block(OK, 0, 0, &[]));
        } else {
            (0..input.byte() % 5).for_each(|_| callee.prepare(&mut input));
        }
        let begun = work();
        let connected = link_on(memory);
        check_work(work().since(begun));
        let mut link = match connected {
            Ok(link) => link,
            Err(error) => {
                assert!(form & 0x40 != 0, "{error}");
                assert!(!error.to_string().is_empty());
                if let ConnectError::Refused(text) = error {
                    assert!(text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control));
                }
                assert_ne!(memory.closed(), 0, "the callee is not told of the end");
                callee.read();
                assert!(memory.guards_hold());
                return;
            }
        };
        let max = link.limits().max_call;
        let (began, mut steps, mut broken) = (work(), 0, false);
        while !input.is_empty() {
            steps += 1;
            let begun = work();
            let error = match input.byte() % 12 {
                0..3 => {
                    callee.respond(&mut input);
                    None
                }
                3 => {
                    callee.tamper(&mut input);
                    None
                }
                4 => {
                    callee.consume(&mut input);
                    None
                }
                5 => {
                    callee.read();
                    None
                }
                6 => {
                    let len = usize::from(input.word16()) % (max + 2);
                    let called = link.call_timeout(&REQUEST[..len], Instant::now());
                    assert!(len <= max || called.is_err());
                    called.map(|response| assert!(response.len() <= max)).err()
                }
                7 | 8 => {
                    let len = usize::from(input.word16()) % (max + 2);
                    let posted = link.post(&REQUEST[..len]);
                    assert!(len <= max || posted.is_err());
                    posted.err()
                }
                9 => {
                    let several = input.byte() % 4;
                    let submitted = match several {
                        0 => link.submit(input.bytes(5)),
                        several => link.submit_all((0..several).map(|_| input.bytes(5))),
                    };
                    assert!(link.outstanding() <= 1 << 17);
                    submitted.err()
                }
                _ => {
                    let outstanding = link.outstanding();
                    let response = match input.byte() % 3 {
                        0 => link.response().map(|_| ()),
                        1 => link.try_response().map(|_| ()),
                        _ => link.response_timeout(Instant::now()).map(|_| ()),
                    };
                    assert!(outstanding > 0 || response == Err(CallError::NothingOutstanding));
                    response.err()
                }
            };
            broken |= matches!(error, Some(CallError::Violation(_)));
            check_work(work().since(begun));
        }
        // Two rings, whose ends each bear a few hints to spare and one for each block; a block takes a
        // header, or a step.
        let most = 2 * SPARE_HINTS + 4 * steps + data.len() as u64;
        assert!(work().since(began).sleeps <= most, "it goes on sleeping");
        if broken {
            assert!(link.closer().reason().is_some(), "it goes on after a broken rule");
            assert!(link.call(b"x").is_err() && link.post(b"x").is_err());
        }
        if form & 0x80 == 0 {
            link.closer().close();
        }
        drop(link);
        assert_ne!(memory.closed(), 0, "the callee is not told of the end");
        callee.read();
        assert!(memory.guards_hold());
    });
});
