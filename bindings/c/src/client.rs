//! A client: registers, calls, sends, receives.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use bus::{Address, CallError, Caller, Client, Inbox, Message, SendError};

use crate::closer::ringpost_closer;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::server::path;
use crate::text::{
    RINGPOST_NAME_SIZE, bytes, fill, limit, long_limit, nothing_yet, place, read, reply_place, ringpost_key,
    text,
};

/// A registered client. One thread may receive while another does everything else: ringpost_client_recv and
/// the ringpost_client_inbox functions exclude each other, and all others exclude each other.
pub struct ringpost_client {
    _private: (),
}

/// The receiving half of a client, and the message that C may look at.
pub(crate) struct Receiving {
    inbox: Waits<Inbox>,
    message: Option<Message>,
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_client {
    type End = Waits<Caller>;
    type Side = Receiving;
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
    /// What was sent. It belongs to the client, and is valid until it receives again or is freed.
    pub payload: *const c_void,
    /// Its length in bytes.
    pub len: usize,
}

/// The caller, whose questions have this limit from now on.
pub(crate) fn within(caller: &mut Waits<Caller>, limit: Duration) -> &mut Caller {
    caller.end.set_timeout(limit);
    &mut caller.end
}

/// Registers a client with the server at a path, or at the default path if that is NULL. Waits for the
/// server.
///
/// `*out` is yours: end it by ringpost_client_unregister or ringpost_client_free. The first client of a
/// process also starts a thread of the library, which takes no signals.
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
        let (caller, inbox) = client.split();
        let receiving = Receiving { inbox: Waits::new(inbox), message: None };
        out.put(handle::give_with_side(Waits::new(caller), receiving));
        Ok(())
    })
}

/// Ends the registration, and waits until the server confirms it. After RINGPOST_OK the name is free. The
/// handle is freed, whatever this returns, except RINGPOST_IN_USE: then nothing was done.
///
/// Requires: `client` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_unregister(
    client: *mut ringpost_client,
    timeout_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut caller = unsafe { handle::take(client)? };
        within(&mut caller, long_limit(timeout_ns));
        Ok(caller.end.unregister()?)
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
        let (caller, out) = unsafe { (handle::alone(client)?, place(key, "key")?) };
        out.put(caller.end.key().into());
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
        let (caller, to_call, to_message) = unsafe {
            let outs = (place(max_call, "max_call")?, place(max_message, "max_message")?);
            (handle::alone(client)?, outs.0, outs.1)
        };
        let limits = caller.end.limits();
        to_call.put(limits.max_call);
        to_message.put(limits.max_message);
        Ok(())
    })
}

/// Calls the server's service, and waits for the response. After RINGPOST_TIMED_OUT the call may still be
/// executed, and its response is thrown away.
///
/// `*reply` belongs to the client, and is valid until it does anything but receive.
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
        let (to, mut caller, request) =
            unsafe { (reply_place(reply, reply_len)?, handle::alone(client)?, bytes(request, len)?) };
        to.put(caller.end.call_timeout(request, limit(timeout_ns))?.payload());
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
        let (mut caller, request) = unsafe { (handle::alone(client)?, bytes(request, len)?) };
        Ok(caller.end.try_submit(request)?)
    })
}

/// Waits for the response to the oldest submitted request. After RINGPOST_TIMED_OUT it is still outstanding.
///
/// `*reply` belongs to the client, and is valid until it does anything but receive.
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
        let (mut caller, to) = unsafe { (handle::alone(client)?, reply_place(reply, reply_len)?) };
        let reply = match timeout_ns {
            0 => caller.end.try_response()?.ok_or_else(nothing_yet)?,
            _ => caller.end.response_timeout(limit(timeout_ns))?,
        };
        to.put(reply.payload());
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
        let (caller, out) = unsafe { (handle::alone(client)?, place(outstanding, "outstanding")?) };
        out.put(caller.end.outstanding());
        Ok(())
    })
}

fn send(caller: &mut Caller, to: Address, message: &[u8], timeout_ns: i64) -> Result<(), Failure> {
    match timeout_ns {
        0 => caller.try_send(to, message)?,
        _ => caller.send_timeout(to, message, limit(timeout_ns))?,
    }
    Ok(())
}

/// Sends a message to a client, by its name or the text of its key. Waits while the other's inbox is full;
/// with a time-out of 0 only for the server's answer, which is immediate.
///
/// RINGPOST_OK: it lies in the inbox, and may not have been read.
/// RINGPOST_FULL: a time-out of 0, and there is no room.
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
        let (mut caller, to, message) =
            unsafe { (handle::alone(client)?, text(to, "the receiver")?, bytes(message, len)?) };
        send(&mut caller.end, Address::try_from(to)?, message, timeout_ns)
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
        let (mut caller, to, message) =
            unsafe { (handle::alone(client)?, read(to, "the receiver")?, bytes(message, len)?) };
        send(&mut caller.end, to.into(), message, timeout_ns)
    })
}

/// Sends a message as ringpost_client_send_to_key does, but does not block: ringpost_client_sent takes the
/// server's answer. The answers come in order with the responses to submitted requests: keep in mind which is
/// next. While the other's inbox is full the server waits for room, for `patience_ns` at most, and answers
/// nothing else that the client asks.
///
/// RINGPOST_FULL: collect responses first.
///
/// Requires: `client` is a handle, `to` points to a key, `message` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_submit_send(
    client: *mut ringpost_client,
    to: *const ringpost_key,
    message: *const c_void,
    len: usize,
    patience_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, to, message) =
            unsafe { (handle::alone(client)?, read(to, "the receiver")?, bytes(message, len)?) };
        Ok(caller.end.try_submit_send(to, message, long_limit(patience_ns))?)
    })
}

/// The answer to a message that was submitted with ringpost_client_submit_send, if that is what was submitted
/// first of all that has no answer yet. Does not block. RINGPOST_OK: it lies in the inbox.
///
/// RINGPOST_TIMED_OUT: there is no answer yet.
/// RINGPOST_FULL: there was no room for as long as `patience_ns`. It was not delivered.
///
/// Requires: `client` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_sent(client: *mut ringpost_client) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut caller = unsafe { handle::alone(client)? };
        if caller.end.outstanding() == 0 {
            return Err(CallError::NothingOutstanding.into());
        }
        match caller.end.try_sent() {
            Ok(answer) => answer.ok_or_else(nothing_yet),
            Err(SendError::TimedOut) => Err(SendError::InboxFull.into()),
            Err(error) => Err(error.into()),
        }
    })
}

/// Waits for a message. RINGPOST_TIMED_OUT: there is none. Another thread may use the client for anything
/// else meanwhile.
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
        let (mut side, out) = unsafe { (handle::side(client)?, place(message, "message")?) };
        let received = match timeout_ns {
            0 => side.inbox.end.try_recv()?.ok_or_else(nothing_yet)?,
            _ => side.inbox.end.recv_timeout(limit(timeout_ns))?,
        };
        let message = side.message.insert(received);
        out.put(ringpost_message {
            sender: message.sender().into(),
            sender_name: fill(message.sender_name().as_str()),
            payload: message.payload().as_ptr().cast(),
            len: message.payload().len(),
        });
        Ok(())
    })
}

/// A closer, which ends the client's registration from any thread. Does not block. `*out` is yours: end it by
/// ringpost_closer_free.
///
/// Requires: `client` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_closer(
    client: *mut ringpost_client,
    out: *mut *mut ringpost_closer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (caller, out) = unsafe { (handle::alone(client)?, place(out, "out")?) };
        out.put(handle::give(caller.end.closer()));
        Ok(())
    })
}

/// The descriptor by which an event loop waits for responses. Waits for the server the first time.
///
/// Put it into the loop, for reading, and before each wait: look, with a time-out of 0, until nothing is
/// there; arm; look again if that says false. Never read from it. It belongs to the client: take it out of
/// the loop before the client is freed, which closes it.
///
/// Requires: `client` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_readiness(
    client: *mut ringpost_client,
    timeout_ns: i64,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, out) = unsafe { (handle::alone(client)?, place(fd, "fd")?) };
        within(&mut caller, long_limit(timeout_ns));
        caller.descriptor(out)
    })
}

/// Says that the program is about to wait by ringpost_client_readiness. `*armed` is false if something has
/// come: look again. Does not block.
///
/// Requires: `client` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_arm(
    client: *mut ringpost_client,
    armed: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, out) = unsafe { (handle::alone(client)?, place(armed, "armed")?) };
        caller.arm(out)
    })
}

/// As ringpost_client_readiness, for messages: another descriptor. Waits for the server the first time, for
/// the time given to ringpost_register at most.
///
/// Requires: `client` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_inbox_readiness(
    client: *mut ringpost_client,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut side, out) = unsafe { (handle::side(client)?, place(fd, "fd")?) };
        side.inbox.descriptor(out)
    })
}

/// As ringpost_client_arm, for ringpost_client_inbox_readiness.
///
/// Requires: `client` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_inbox_arm(
    client: *mut ringpost_client,
    armed: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut side, out) = unsafe { (handle::side(client)?, place(armed, "armed")?) };
        side.inbox.arm(out)
    })
}
