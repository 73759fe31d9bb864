//! Fuzzes the serving end of a link whose caller writes arbitrary words and bytes, from the handshake on.
//!
//! It must never panic (services may), write only its own memory, serve at most the requests that are there,
//! answer each call and no post, serve the posts that came before the caller's end, and close what it gives
//! up.

#![no_main]

mod input;
mod peer;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use input::Input;
use libfuzzer_sys::fuzz_target;
use peer::{LINE, RING, Reader, Writer, block, record_size, tamper};
use ringpost::testing::fuzz::{
    Memory, REQUESTS, RESPONSES, SPARE_HINTS, ServedLink, accept, incoming_on, serve_link, service, work,
};
use ringpost::{Request, Responder, Response, ServiceError};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory::new());
}

const CALL: u16 = 1;
const HELLO: u16 = 8;
const POST: u16 = 9;

const OK: u16 = 0;
const SAYS_HELLO: u16 = 12;
const REFUSED: u16 = 13;
/// The statuses that a response may have.
const STATUSES: u16 = 11;

/// The word by which a caller says that it has closed the link.
const CLOSED_BY_THE_PEER: u32 = 2;

static TEXT: [u8; 2000] = [b't'; 2000];
const LONGEST_TEXT: usize = 1024;

/// The most requests served at once: a drain, and after the end the posts of a ring. The words that a request
/// and everything else may read or write.
const MOST_SERVED: u64 = 64 + RING / LINE;
const WORDS_FOR_A_REQUEST: u64 = 48;
const WORDS: u64 = 64;

/// The caller, and what it knows.
struct Caller<'a> {
    memory: &'a Memory,
    requests: Writer,
    responses: Reader,
    /// The numbers of the calls that were not answered.
    called: VecDeque<u32>,
    posted: u64,
    /// Whether anything but valid blocks was written, or more than there was room for.
    tampered: bool,
    closed: bool,
    sleeps: u64,
}

impl Caller<'_> {
    fn request(&mut self, input: &mut Input<'_>) {
        let form = input.byte();
        let code = [CALL, CALL, POST, POST, u16::from(form / 16)][usize::from(form) % 5];
        let mut body = Vec::new();
        if form & 0x20 == 0 {
            let len = usize::from(input.byte());
            body.extend_from_slice(input.bytes(len));
        } else {
            body.push(form % 7);
            body.resize(1 + usize::from(input.word16()) % self.memory.max_block(), 0x5a);
        }
        let number = input.word32();
        let block = block(code, 0, number, &body);
        let cut = block.len() - usize::from(input.byte() / 250).min(block.len());
        // A valid caller writes only what fits, and nothing after the link was closed.
        let free = RING.saturating_sub(self.requests.tail.wrapping_sub(self.memory.head(REQUESTS)));
        self.tampered |= self.memory.closed() != 0 || cut < 8 || cut > self.memory.max_block();
        self.tampered |= free < 2 * record_size(cut as u64) + LINE;
        if code == POST {
            self.posted += 1;
        } else {
            self.called.push_back(number);
        }
        if form % 11 == 0 {
            self.tampered = true; // It may never come.
            self.requests.put_later(self.memory, block[..cut].to_vec());
        } else {
            self.requests.put(self.memory, &block[..cut]);
        }
    }

    fn tamper(&mut self, input: &mut Input<'_>) {
        self.tampered = true;
        tamper(self.memory, &[self.requests.end()], input);
    }

    fn close(&mut self) {
        self.closed = true;
        self.memory.set_closed(CLOSED_BY_THE_PEER);
    }

    /// The next block, whose form must be valid: code, number and body.
    fn hear(&mut self) -> Option<(u16, u32, &[u8])> {
        let block = self.responses.next(self.memory)?;
        let (header, body) = block.split_first_chunk::<8>().expect("a block has a header");
        let [c0, c1, f0, f1, number @ ..] = *header;
        assert_eq!([f0, f1], [0; 2]);
        Some((u16::from_le_bytes([c0, c1]), u32::from_le_bytes(number), body))
    }

    fn read(&mut self) {
        if self.tampered {
            return;
        }
        while let Some((status, number, _)) = self.hear() {
            assert!(status <= STATUSES);
            assert_eq!(Some(number), self.called.pop_front(), "each call is answered once and in order");
        }
    }

    fn serve<F>(&mut self, responder: &mut Responder, service: &mut F) -> ServedLink
    where
        F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
    {
        let begun = work();
        let served = serve_link(responder, service);
        let done = work().since(begun);
        let most = WORDS + MOST_SERVED * WORDS_FOR_A_REQUEST + 6 * done.sleeps;
        assert!(done.words <= most, "{done:?} at once");
        // Requests are read once. A response may move out of the ring once, and be replaced by a text.
        let most = 4 * RING + MOST_SERVED * 2 * self.memory.max_block() as u64;
        assert!(done.bytes <= most, "{done:?} at once");
        self.sleeps += done.sleeps;
        served
    }
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input(data);
        let form = input.byte();
        memory.begin(if form % 4 == 0 { 256 + usize::from(input.byte()) * 7 } else { 2040 });
        let memory = &*memory;
        let mut caller = Caller {
            memory,
            requests: Writer::new(REQUESTS),
            responses: Reader::new(RESPONSES),
            called: VecDeque::new(),
            posted: 0,
            tampered: false,
            closed: false,
            sleeps: 0,
        };
        let honest = form & 0x40 == 0;
        let hello = block(HELLO, 0, 0, &[]);
        let prepared = input.byte();
        match prepared % 8 {
            _ if honest => caller.requests.put(memory, &hello),
            0 => caller.requests.put_later(memory, hello),
            1..4 => {
                // If this is accepted, it was a hello.
                caller.request(&mut input);
                (caller.posted, caller.called) = (0, VecDeque::new());
            }
            4 => caller.close(),
            5 => {}
            _ => caller.tamper(&mut input),
        }
        let begun = work();
        let incoming = incoming_on(memory);
        let accepted = match prepared / 8 % 8 {
            0 => {
                let long = usize::from(input.word16()) % TEXT.len();
                incoming.refuse(std::str::from_utf8(&TEXT[..long]).expect("letters"));
                if !caller.tampered && !caller.closed {
                    assert_eq!(caller.hear(), Some((SAYS_HELLO, 0, &[][..])));
                    let most = LONGEST_TEXT.min(memory.max_block() - 8);
                    assert_eq!(caller.hear(), Some((REFUSED, 0, &TEXT[..long.min(most)])));
                }
                None
            }
            1 => {
                drop(incoming);
                None
            }
            _ => {
                let accepted = accept(incoming);
                assert!(!honest || accepted.is_some());
                accepted
            }
        };
        let done = work().since(begun);
        assert!(done.words <= WORDS + 6 * done.sleeps && done.bytes <= RING, "{done:?} in the handshake");
        let Some(mut responder) = accepted else {
            assert_ne!(memory.closed(), 0, "the caller is not told of the end");
            assert!(memory.guards_hold());
            return;
        };
        if !caller.tampered {
            assert_eq!(caller.hear(), Some((SAYS_HELLO, 0, &[][..])));
            assert_eq!(caller.hear(), Some((OK, 0, &[][..])));
        }
        let posts = Cell::new(0);
        let mut service = |request: Request<'_>, response: &mut Response<'_>| {
            posts.set(posts.get() + u64::from(!request.wants_response()));
            service(request, response)
        };
        while !input.is_empty() {
            match input.byte() % 12 {
                0..6 => caller.request(&mut input),
                6..9 => {
                    caller.serve(&mut responder, &mut service);
                }
                9 => caller.read(),
                10 if input.byte() % 8 == 0 => caller.close(),
                11 => caller.tamper(&mut input),
                _ => {}
            }
        }
        // Each round takes at least one record, and a line of the ring holds at most one, so this ends.
        let mut rounds = 0;
        let end = loop {
            match caller.serve(&mut responder, &mut service) {
                ServedLink::Some if rounds < RING / LINE => rounds += 1,
                ServedLink::Some => panic!("it goes on and on"),
                done => break done,
            }
            caller.read();
        };
        caller.read();
        match end {
            ServedLink::Ended(Err(violation)) => assert!(caller.tampered, "an honest caller: {violation}"),
            ServedLink::Nothing if !caller.tampered => {
                assert!(caller.called.is_empty(), "calls without an answer")
            }
            _ => {}
        }
        if matches!(end, ServedLink::Ended(_)) {
            assert_eq!(caller.serve(&mut responder, &mut service), end, "it ends once");
        }
        if !caller.tampered {
            assert_eq!(posts.get(), caller.posted, "posts are served once, also those before the end");
        }
        // Two rings, whose ends each bear a few hints to spare and one for each line given back; the rest
        // end a step or a request.
        let most = 2 * SPARE_HINTS + 8 * data.len() as u64 + 2 * RING / LINE;
        assert!(caller.sleeps <= most, "it goes on sleeping: {} times", caller.sleeps);
        drop(responder);
        assert_ne!(memory.closed(), 0, "the caller is not told of the end");
        assert!(memory.guards_hold());
    });
});
