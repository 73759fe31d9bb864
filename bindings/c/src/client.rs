//! A client: registers, calls, sends, receives, and asks who is there.

use std::ffi::{c_char, c_int, c_void};

use bus::{Address, CallError, Client, Key, Message};

use crate::closer::ringpost_closer;
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::server::path;
use crate::text::{
    RINGPOST_NAME_SIZE, bytes, fill, limit, long_limit, nothing_yet, null, place, read, ringpost_key,
    ringpost_peer, text,
};

/// A registered client.
pub struct ringpost_client {
    _private: (),
}

/// What a [`ringpost_client`] is.
pub(crate) struct ClientEnd {
    pub(crate) client: Waits<Client>,
    /// The last one received, which C may look at.
    message: Option<Message>,
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_client {
    type End = ClientEnd;
    const TAG: u32 = 0x7270_0003;
    const NAME: &'static str = "client";
}

/// A message that was received.
#[repr(C)]
pub struct ringpost_message {
    /// Who sent it: the address for a response.
    pub sender: ringpost_key,
    /// The name that the sender had.
    pub sender_name: [c_char; RINGPOST_NAME_SIZE],
    /// What was sent. It is valid until the next use of the client.
    pub payload: *const c_void,
    /// Its length in bytes.
    pub len: usize,
}

/// A client in a list.
#[repr(C)]
pub struct ringpost_client_info {
    /// Who it is.
    pub peer: ringpost_peer,
    /// Whether it listens for links.
    pub serves: bool,
    /// Links that it has open.
    pub links: u32,
    /// Calls that it has made.
    pub calls: u64,
    /// Messages that it has sent.
    pub sent: u64,
    /// Messages that it has received.
    pub received: u64,
}

/// Called for each client of a list. Return 0 to go on, another number to end the list.
pub type ringpost_visit_client =
    Option<unsafe extern "C" fn(context: *mut c_void, info: *const ringpost_client_info) -> c_int>;

/// Registers a client with the server at a path, or at the default path if that is NULL. `timeout_ns` is also
/// the limit of ringpost_client_unregister, _ping, _look_up, _list and _listen.
///
/// Requires: `path` is NULL or a text, `name` is a text, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_register(
    path: *const c_char,
    name: *const c_char,
    timeout_ns: i64,
    out: *mut *mut ringpost_client,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (path, name, out) = unsafe { (self::path(path)?, text(name, "the name")?, place(out, "out")?) };
        let client = Client::builder(path).timeout(long_limit(timeout_ns)).register(name)?;
        out.put(handle::give(ClientEnd { client: Waits::new(client), message: None }));
        Ok(())
    })
}

/// Ends the registration, waits until the server confirms it, and frees the handle, whatever it returns.
/// After RINGPOST_OK the name is free.
///
/// Requires: `client` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_unregister(client: *mut ringpost_client) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let ClientEnd { client, .. } = unsafe { handle::take(client)? };
        Ok(client.end.unregister()?)
    })
}

/// As ringpost_client_unregister, but tells of no failure, and waits for a second at most.
///
/// Requires: `client` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_free(client: *mut ringpost_client) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(client)? });
        Ok(())
    })
}

/// The client's key: its address for others. Does not block.
///
/// Requires: `client` is a handle, `key` points to a key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_key(
    client: *mut ringpost_client,
    key: *mut ringpost_key,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(client)?, place(key, "key")?) };
        out.put(end.client.key().into());
        Ok(())
    })
}

/// The longest payload of a call, and of a message, in bytes. Does not block.
///
/// Requires: `client` is a handle, `max_call` and `max_message` point to numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_limits(
    client: *mut ringpost_client,
    max_call: *mut usize,
    max_message: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, max_call, max_message) = unsafe {
            (handle::alone(client)?, place(max_call, "max_call")?, place(max_message, "max_message")?)
        };
        let limits = end.client.limits();
        max_call.put(limits.max_call);
        max_message.put(limits.max_message);
        Ok(())
    })
}

/// Calls the server's service, and waits for the response. `*reply` is valid until the next use of the
/// client.
///
/// Requires: `client` is a handle, `request` has `len` bytes, `reply` and `reply_len` point to a pointer and
/// a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_call(
    client: *mut ringpost_client,
    request: *const c_void,
    len: usize,
    timeout_ns: i64,
    reply: *mut *const c_void,
    reply_len: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, request, to, to_len) = unsafe {
            let outs = (place(reply, "reply")?, place(reply_len, "reply_len")?);
            (handle::alone(client)?, bytes(request, len)?, outs.0, outs.1)
        };
        let reply = end.client.end.call_timeout(request, limit(timeout_ns))?.payload();
        to.put(reply.as_ptr().cast());
        to_len.put(reply.len());
        Ok(())
    })
}

/// Sends a request without waiting for its response: ringpost_client_response gets that. Does not block.
///
/// RINGPOST_FULL: collect responses first.
///
/// Requires: `client` is a handle, `request` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_submit(
    client: *mut ringpost_client,
    request: *const c_void,
    len: usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, request) = unsafe { (handle::alone(client)?, bytes(request, len)?) };
        Ok(end.client.end.caller().try_submit(request)?)
    })
}

/// Waits for the response to the oldest submitted request. After RINGPOST_TIMED_OUT it is still outstanding.
/// `*reply` is valid until the next use of the client.
///
/// Requires: `client` is a handle, `reply` and `reply_len` point to a pointer and a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_response(
    client: *mut ringpost_client,
    timeout_ns: i64,
    reply: *mut *const c_void,
    reply_len: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, to, to_len) =
            unsafe { (handle::alone(client)?, place(reply, "reply")?, place(reply_len, "reply_len")?) };
        let caller = end.client.end.caller();
        let reply = match timeout_ns {
            0 => caller.try_response()?.ok_or_else(nothing_yet)?,
            _ => caller.response_timeout(limit(timeout_ns))?,
        };
        let reply = reply.payload();
        to.put(reply.as_ptr().cast());
        to_len.put(reply.len());
        Ok(())
    })
}

/// How many submitted requests have a response to collect. Does not block.
///
/// Requires: `client` is a handle, `outstanding` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_outstanding(
    client: *mut ringpost_client,
    outstanding: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(client)?, place(outstanding, "outstanding")?) };
        out.put(end.client.end.caller().outstanding());
        Ok(())
    })
}

/// Asks the server for nothing, and waits for its answer, for the time given to ringpost_register at most.
///
/// Requires: `client` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_ping(client: *mut ringpost_client) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut end = unsafe { handle::alone(client)? };
        Ok(end.client.end.caller().ping()?)
    })
}

fn send(client: &mut Client, to: Address, message: &[u8], timeout_ns: i64) -> Result<(), Failure> {
    match timeout_ns {
        0 => client.try_send(to, message)?,
        _ => client.send_timeout(to, message, limit(timeout_ns))?,
    }
    Ok(())
}

/// Sends a message to a client, by its name or the text of its key. Waits while the other's inbox is full.
/// RINGPOST_OK: it lies in the inbox, and may not have been read.
///
/// Requires: `client` is a handle, `to` is a text, `message` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_send(
    client: *mut ringpost_client,
    to: *const c_char,
    message: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, to, message) =
            unsafe { (handle::alone(client)?, text(to, "the receiver")?, bytes(message, len)?) };
        send(&mut end.client.end, Address::try_from(to)?, message, timeout_ns)
    })
}

/// As ringpost_client_send, by the key.
///
/// Requires: `client` is a handle, `to` points to a key, `message` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_send_to_key(
    client: *mut ringpost_client,
    to: *const ringpost_key,
    message: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, to, message) =
            unsafe { (handle::alone(client)?, read(to, "the receiver")?, bytes(message, len)?) };
        send(&mut end.client.end, to.into(), message, timeout_ns)
    })
}

/// Waits for a message. RINGPOST_TIMED_OUT: there is none.
///
/// Requires: `client` is a handle, `message` points to a message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_recv(
    client: *mut ringpost_client,
    timeout_ns: i64,
    message: *mut ringpost_message,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(client)?, place(message, "message")?) };
        let received = match timeout_ns {
            0 => end.client.end.try_recv()?.ok_or_else(nothing_yet)?,
            _ => end.client.end.recv_timeout(limit(timeout_ns))?,
        };
        let message = end.message.insert(received);
        out.put(ringpost_message {
            sender: message.sender().into(),
            sender_name: fill(message.sender_name().as_str()),
            payload: message.payload().as_ptr().cast(),
            len: message.payload().len(),
        });
        Ok(())
    })
}

/// The key of the client with a name. RINGPOST_NOT_FOUND: there is none. Waits for the server, for the time
/// given to ringpost_register at most.
///
/// Requires: `client` is a handle, `name` is a text, `key` points to a key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_look_up(
    client: *mut ringpost_client,
    name: *const c_char,
    key: *mut ringpost_key,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, name, out) =
            unsafe { (handle::alone(client)?, text(name, "the name")?, place(key, "key")?) };
        let found: Option<Key> = end.client.end.look_up(name)?;
        let none = || Failure::new(RINGPOST_NOT_FOUND, format_args!("there is no client {name:?}"));
        out.put(found.ok_or_else(none)?.into());
        Ok(())
    })
}

/// As ringpost_client_look_up, but waits until there is such a client.
///
/// Requires: As ringpost_client_look_up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_wait_for(
    client: *mut ringpost_client,
    name: *const c_char,
    timeout_ns: i64,
    key: *mut ringpost_key,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, name, out) =
            unsafe { (handle::alone(client)?, text(name, "the name")?, place(key, "key")?) };
        out.put(end.client.end.wait_for(name, limit(timeout_ns))?.into());
        Ok(())
    })
}

/// Calls `visit` for each client that is registered, after the whole list has come. Waits for the server, for
/// the time given to ringpost_register at most.
///
/// Requires: `client` is a handle. `visit` may be called with `context`, and must return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_list(
    client: *mut ringpost_client,
    visit: ringpost_visit_client,
    context: *mut c_void,
) -> ringpost_status {
    run(|| {
        let visit = visit.ok_or_else(|| null("visit"))?;
        // SAFETY: the caller's promise.
        let mut end = unsafe { handle::alone(client)? };
        let clients: Result<_, CallError> = end.client.end.list();
        drop(end); // `visit` may use the client
        for client in clients? {
            let peer = ringpost_peer {
                key: client.key.into(),
                name: fill(client.name.as_str()),
                pid: client.pid,
                uid: client.uid,
                gid: client.gid,
            };
            let info = ringpost_client_info {
                peer,
                serves: client.serves,
                links: client.links,
                calls: client.counters.calls,
                sent: client.counters.sent,
                received: client.counters.received,
            };
            // SAFETY: the caller's promise.
            if unsafe { visit(context, &info) } != 0 {
                break;
            }
        }
        Ok(())
    })
}

/// A closer, which ends the client's registration from any thread.
///
/// Requires: `client` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_closer(
    client: *mut ringpost_client,
    out: *mut *mut ringpost_closer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(client)?, place(out, "out")?) };
        out.put(handle::give(end.client.closer()));
        Ok(())
    })
}

/// The descriptor by which an event loop waits for responses and messages. Put it into the loop, for reading,
/// and before each wait: look, with a time-out of 0, until nothing is there; arm; look again if that says
/// false. Never read from it. It is closed when the client is freed. Blocks until the server has answered.
///
/// Requires: `client` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_readiness(
    client: *mut ringpost_client,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(client)?, place(fd, "fd")?) };
        end.client.descriptor(out)
    })
}

/// Says that the program is about to wait by the descriptor. `*armed` is false if something has come: look
/// again. Does not block.
///
/// Requires: `client` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_arm(
    client: *mut ringpost_client,
    armed: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(client)?, place(armed, "armed")?) };
        end.client.arm(out)
    })
}
