//! Fuzzes a server's worker whose client, and the receiver of its messages, write arbitrary words and bytes.
//!
//! The worker must never panic (services may), write only its own memory, serve at most the requests that are
//! there, send valid responses, and disconnect a client that breaks a rule of its rings.

#![no_main]

mod input;
mod peer;

use std::cell::RefCell;

use input::Input;
use libfuzzer_sys::fuzz_target;
use peer::{LINE, RING, Reader, Writer, block, record_size, tamper};
use ringpost::CloseReason;
use ringpost::testing::fuzz::{
    Dispatcher, FuzzServer, INBOX, Memory, REQUESTS, RESPONSES, SPARE_HINTS, Served, work,
};

struct Stage {
    server: FuzzServer,
    alice: Memory,
    bob: Memory,
}

thread_local! {
    static STAGE: RefCell<Stage> =
        RefCell::new(Stage { server: FuzzServer::new(), alice: Memory::new(), bob: Memory::new() });
}

const SEND: u16 = 2;
const STATUSES: u16 = 11;

/// The most requests served in one drain, and the words that a request and everything else may read or write.
const DRAIN: u64 = 64;
const WORDS_FOR_A_REQUEST: u64 = 48;
const WORDS: u64 = 64;

struct Play<'a> {
    alice: &'a Memory,
    bob: &'a Memory,
    dispatcher: Dispatcher,
    requests: Writer,
    responses: Reader,
    messages: Reader,
    put: u64,
    sleeps: u64,
    /// Whether anything but valid blocks was written to memory that the worker uses.
    tampered: bool,
}

impl Play<'_> {
    fn request(&mut self, input: &mut Input<'_>) {
        let (code, form) = (u16::from(input.byte() % 12), input.byte());
        let flags = u16::from(form >> 6);
        let mut body = Vec::new();
        if code == SEND {
            match form % 8 {
                0 => {}
                1 => body.extend_from_slice(input.bytes(16)),
                2..5 => body.extend_from_slice(&self.dispatcher.keys()[0].to_bytes()),
                _ => body.extend_from_slice(&self.dispatcher.keys()[1].to_bytes()),
            }
        }
        if form & 0x20 == 0 {
            let len = usize::from(input.byte());
            body.extend_from_slice(input.bytes(len));
        } else {
            body.push(form % 7);
            body.resize(1 + usize::from(input.word16()) % self.alice.max_block(), 0x5a);
        }
        let block = block(code, flags, input.word32(), &body);
        let cut = block.len() - usize::from(input.byte() / 250).min(block.len());
        self.put += 1;
        // A valid client writes only what fits: the worker has not released more room.
        let free = RING.saturating_sub(self.requests.tail.wrapping_sub(self.alice.head(REQUESTS)));
        self.tampered |= cut > self.alice.max_block() || free < 2 * record_size(cut as u64) + LINE;
        self.requests.put(self.alice, &block[..cut]);
    }

    fn tamper(&mut self, input: &mut Input<'_>) {
        self.tampered = true;
        let memory = if input.byte() % 4 == 0 { self.bob } else { self.alice };
        tamper(memory, &[self.requests.end()], input);
    }

    fn serve(&mut self) -> Served {
        let (before, begun) = (self.alice.head(REQUESTS), work());
        let served = self.dispatcher.serve();
        let done = work().since(begun);
        assert!(done.words <= WORDS + DRAIN * WORDS_FOR_A_REQUEST + 6 * done.sleeps, "{done:?} in one drain");
        // Requests are read once. A response may move out of the ring once, and be replaced by an error text.
        let most = 4 * RING + DRAIN * 2 * self.alice.max_block() as u64;
        assert!(done.bytes <= most, "{done:?} in one drain");
        self.sleeps += done.sleeps;
        if !self.tampered {
            let moved = self.alice.head(REQUESTS) - before;
            assert!(moved <= RING && moved % LINE == 0, "at most a ring full at a time");
        }
        served
    }

    fn read(&mut self) {
        if self.tampered {
            return;
        }
        while let Some(response) = self.responses.next(self.alice) {
            assert!(response.len() >= 8, "an answer has a header");
            assert!(u16::from_le_bytes([response[0], response[1]]) <= STATUSES);
            assert!(self.put > 0, "more answers than requests");
            self.put -= 1;
        }
    }
}

fuzz_target!(|data: &[u8]| {
    STAGE.with_borrow_mut(|stage| {
        let mut input = Input(data);
        let max_block = if input.byte() % 4 == 0 { 256 + usize::from(input.byte()) * 7 } else { 2040 };
        stage.alice.begin(max_block);
        stage.bob.begin(max_block);
        let mut play = Play {
            alice: &stage.alice,
            bob: &stage.bob,
            dispatcher: stage.server.admit(&stage.alice, &stage.bob),
            requests: Writer::new(REQUESTS),
            responses: Reader::new(RESPONSES),
            messages: Reader::new(INBOX),
            put: 0,
            sleeps: 0,
            tampered: false,
        };
        while !input.is_empty() {
            match input.byte() % 12 {
                0..5 => play.request(&mut input),
                5..7 => {
                    play.serve();
                }
                7 => play.read(),
                8 if !play.tampered => while play.messages.next(play.bob).is_some() {},
                9 | 10 => play.tamper(&mut input),
                11 if input.byte() % 8 == 0 => play.dispatcher.end_intake(),
                11 if input.byte() % 8 == 0 => play.dispatcher.bob_leaves(),
                _ => {}
            }
        }
        // Each round takes at least one record, and a line of the ring holds at most one, so this ends.
        let mut rounds = 0;
        let end = loop {
            match play.serve() {
                Served::Some if rounds < RING / LINE => rounds += 1,
                Served::Some => panic!("it goes on and on"),
                done => break done,
            }
            play.read();
        };
        play.read();
        match end {
            Served::Ended(CloseReason::ProtocolViolation) => {
                assert!(play.tampered || play.put > 0, "an honest client was ended");
                assert!(play.tampered || play.alice.closed() != 0, "it was not told");
            }
            Served::Nothing if !play.tampered => assert_eq!(play.put, 0, "a request without an answer"),
            _ => {}
        }
        // Four rings, whose ends each bear a few hints to spare and one for each line given back; the rest
        // end a step or a request.
        let most = 4 * SPARE_HINTS + 8 * data.len() as u64 + 4 * RING / LINE;
        assert!(play.sleeps <= most, "it goes on sleeping: {} times", play.sleeps);
        assert!(play.alice.guards_hold() && play.bob.guards_hold());
    });
});
