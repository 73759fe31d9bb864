//! Fuzzes a client whose server writes arbitrary words and bytes of the channel.
//!
//! These are responses, messages, `head`, futex words and the closed word. The client must never panic, write
//! only its own memory, match responses to their requests, and stay closed after it has found a broken rule.

#![no_main]

mod input;
mod peer;

use std::cell::RefCell;
use std::time::Instant;

use input::Input;
use libfuzzer_sys::fuzz_target;
use peer::{LINE, RING, Writer, block, tamper};
use ringpost::testing::fuzz::{INBOX, Memory, REQUESTS, RESPONSES, SPARE_HINTS, client_on, work};
use ringpost::{CallError, ClientInfo, Key, RecvError, SendError};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory::new());
}

const MESSAGE: u16 = 0x100;

static REQUEST: [u8; 4096] = [1; 4096];
static BODY: [u8; 4096] = [b'x'; 4096];

/// The words that a step may read or write, besides six for each sleep and for each block that fits into its
/// ring.
const WORDS: u64 = 40;
const WORDS_FOR_A_BLOCK: u64 = 24;

/// A nearly valid page of the registry's list.
fn page(input: &mut Input<'_>) -> Vec<u8> {
    let mut page = match input.byte() % 3 {
        0 => u32::MAX.to_le_bytes().to_vec(),
        _ => input.word32().to_le_bytes().to_vec(),
    };
    for _ in 0..input.byte() % 3 {
        page.extend_from_slice(input.bytes(16 + 1 + 3 * 4 + 6 * 8));
        let len = input.byte() % 70;
        page.push(len);
        page.extend_from_slice(input.bytes(len.into()));
    }
    page
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input(data);
        let form = input.byte();
        memory.begin(if form % 4 == 0 { 256 + usize::from(input.byte()) * 7 } else { 2040 });
        let mut client = client_on(memory);
        let max = client.limits().max_call;
        let mut responses = Writer::new(RESPONSES);
        let mut messages = Writer::new(INBOX);
        let mut number = 0_u32;
        let mut broken = false;
        let (began, mut steps) = (work(), 0);
        while !input.is_empty() {
            steps += 1;
            let mut found = false;
            let begun = work();
            match input.byte() % 14 {
                // A nearly valid response: its number is the next one or a little off.
                0..4 => {
                    let (status, form) = (u16::from(input.byte() % 14), input.byte());
                    let body = match form % 4 {
                        0 => page(&mut input),
                        1 => input.bytes(16).to_vec(),
                        2 => BODY[..usize::from(input.word16()) % 2100].to_vec(),
                        _ => {
                            let len = usize::from(input.byte());
                            input.bytes(len).to_vec()
                        }
                    };
                    let block = block(status, 0, number.wrapping_add(u32::from(form / 252)), &body);
                    number = number.wrapping_add(1);
                    let cut = block.len() - usize::from(input.byte() / 250).min(block.len());
                    responses.put(memory, &block[..cut]);
                }
                // A nearly valid message.
                4 | 5 => {
                    let form = input.byte();
                    let name_len = input.byte() % 70;
                    let mut body = input.bytes(16 + usize::from(name_len)).to_vec();
                    body.resize(body.len() + usize::from(form) * 7 % 2000, b'm');
                    let code = if form > 250 { 1 } else { MESSAGE };
                    messages.put(memory, &block(code, u16::from(name_len), 0, &body));
                }
                6 => tamper(memory, &[responses.end(), messages.end()], &mut input),
                7 => {
                    // A plausible position up to which the server has consumed.
                    let lines = u64::from(input.byte() % 64);
                    memory.set_head(REQUESTS, memory.head(REQUESTS).wrapping_add(lines * LINE));
                    if input.byte() > 250 {
                        memory.set_closed(input.word32());
                    }
                }
                8 => {
                    let len = usize::from(input.word16()) % (max + 2);
                    match client.call_timeout(&REQUEST[..len], Instant::now()) {
                        Ok(response) => assert!(response.len() <= max),
                        Err(CallError::TooLarge { .. }) => assert!(len > max),
                        Err(error) => found = matches!(error, CallError::Violation(_)),
                    }
                }
                9 => {
                    let submitted = client.caller().submit(input.bytes(5));
                    found = matches!(submitted, Err(CallError::Violation(_)));
                    assert!(client.caller().outstanding() <= 1 << 17);
                }
                10 => {
                    let error = match input.byte() % 3 {
                        0 => client.caller().response().err(),
                        1 => client.caller().try_response().err(),
                        _ => client.caller().try_submit(b"request").err(),
                    };
                    found = matches!(error, Some(CallError::Violation(_)));
                }
                11 => {
                    let error = match input.byte() % 6 {
                        0 => client
                            .list()
                            .map(|list| assert!(list.is_sorted_by(|a, b| slot(a) < slot(b))))
                            .err(),
                        1 => client.caller().statistics().err(),
                        2 => client.caller().ping().err(),
                        3 => client.look_up("bob").err(),
                        _ => {
                            let sent = match input.byte() % 3 {
                                0 => client.try_send(Key::from_bytes(u128::to_le_bytes(1)), b"message"),
                                1 => client.send("bob", b"message"),
                                _ => client.send_timeout(
                                    Key::from_bytes(u128::to_le_bytes(1)),
                                    b"message",
                                    Instant::now(),
                                ),
                            };
                            found = matches!(sent, Err(SendError::Violation(_)));
                            None
                        }
                    };
                    found |= matches!(error, Some(CallError::Violation(_)));
                }
                12 => match client.try_recv() {
                    Ok(Some(message)) => {
                        assert!(message.payload().len() <= max && !message.sender_name().is_empty())
                    }
                    Ok(None) => {}
                    Err(error) => found = matches!(error, RecvError::Violation(_)),
                },
                _ => {
                    let end = client.recv_timeout(Instant::now());
                    found = matches!(end, Err(RecvError::Violation(_)));
                }
            }
            broken |= found;
            let done = work().since(begun);
            // At most one request for each response in the ring, and each is read once.
            let most = WORDS + RING / LINE * WORDS_FOR_A_BLOCK + 6 * done.sleeps;
            assert!(done.words <= most, "{done:?} in one step");
            assert!(done.bytes <= 3 * RING, "{done:?} in one step");
        }
        // Three rings, whose ends each bear a few hints to spare and one for each block; a block takes a
        // header, or a step.
        let most = 3 * SPARE_HINTS + 4 * steps + data.len() as u64;
        assert!(work().since(began).sleeps <= most, "it goes on sleeping");
        if broken {
            assert!(client.closer().reason().is_some(), "it goes on after a broken rule");
            assert!(client.call(b"x").is_err());
        }
        // Nobody answers its request to unregister, unless a response is already there.
        let begun = work();
        if form & 0x80 == 0 {
            client.closer().close();
            drop(client);
        } else {
            let _ = client.unregister();
        }
        let done = work().since(begun);
        let most = WORDS + RING / LINE * WORDS_FOR_A_BLOCK + 6 * done.sleeps;
        assert!(done.words <= most && done.sleeps <= SPARE_HINTS + data.len() as u64, "{done:?} at the end");
        assert!(memory.guards_hold());
    });
});

/// The slot of a client's key: its last two bytes.
fn slot(client: &ClientInfo) -> u16 {
    (u128::from_le_bytes(client.key.to_bytes()) >> 112) as u16
}
