//! The calling end of a link, over which one client serves another.

use std::ffi::{c_char, c_int, c_void};

use bus::Link;

use crate::client::ringpost_client;
use crate::closer::ringpost_closer;
use crate::error::{ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::text::{bytes, limit, long_limit, nothing_yet, place, reply_place, ringpost_peer, text};

/// The calling end of a link.
pub struct ringpost_link {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_link {
    type End = Waits<Link>;
    type Side = ();
    const TAG: u32 = 0x7270_0004;
    const NAME: &'static str = "link";
}

/// Opens a link to a client, by its name or the text of its key, and waits until that has accepted or
/// refused. `arms`: the link will be waited for in an event loop. `*out` is yours: end it by
/// ringpost_link_free. The link ends with the client.
///
/// Requires: `client` is a handle, `to` is a text, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_connect(
    client: *mut ringpost_client,
    to: *const c_char,
    arms: bool,
    timeout_ns: i64,
    out: *mut *mut ringpost_link,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, to, out) =
            unsafe { (handle::alone(client)?, text(to, "the other client")?, place(out, "out")?) };
        let options = Link::options().timeout(long_limit(timeout_ns));
        let options = if arms { options.arms() } else { options };
        out.put(handle::give(Waits::new(options.connect(&mut caller.end, to)?)));
        Ok(())
    })
}

/// Calls the other client's service, and waits for the response. After RINGPOST_TIMED_OUT the call may still
/// be executed, and its response is thrown away. `*reply` belongs to the link, and is valid until the next
/// use of it.
///
/// Requires: `link` is a handle, `request` has `len` bytes, `reply` and `reply_len` point to a pointer and a
/// number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_call(
    link: *mut ringpost_link,
    request: *const c_void,
    len: usize,
    timeout_ns: i64,
    reply: *mut *const c_void,
    reply_len: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (to, mut end, request) =
            unsafe { (reply_place(reply, reply_len)?, handle::alone(link)?, bytes(request, len)?) };
        to.put(end.end.call_timeout(request, limit(timeout_ns))?.payload());
        Ok(())
    })
}

/// Sends a request without waiting for its response: ringpost_link_response gets that. Does not block.
///
/// RINGPOST_FULL: collect responses first.
///
/// Requires: `link` is a handle, `request` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_submit(
    link: *mut ringpost_link,
    request: *const c_void,
    len: usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, request) = unsafe { (handle::alone(link)?, bytes(request, len)?) };
        Ok(end.end.try_submit(request)?)
    })
}

/// Waits for the response to the oldest submitted request. After RINGPOST_TIMED_OUT it is still outstanding.
/// `*reply` belongs to the link, and is valid until the next use of it.
///
/// Requires: `link` is a handle, `reply` and `reply_len` point to a pointer and a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_response(
    link: *mut ringpost_link,
    timeout_ns: i64,
    reply: *mut *const c_void,
    reply_len: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, to) = unsafe { (handle::alone(link)?, reply_place(reply, reply_len)?) };
        let reply = match timeout_ns {
            0 => end.end.try_response()?.ok_or_else(nothing_yet)?,
            _ => end.end.response_timeout(limit(timeout_ns))?,
        };
        to.put(reply.payload());
        Ok(())
    })
}

/// Sends a request that gets no response. It arrives in order with the calls. Does not block.
///
/// RINGPOST_FULL: the other side has to serve some first.
///
/// Requires: `link` is a handle, `request` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_post(
    link: *mut ringpost_link,
    request: *const c_void,
    len: usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, request) = unsafe { (handle::alone(link)?, bytes(request, len)?) };
        Ok(end.end.try_post(request)?)
    })
}

/// Who serves. Does not block.
///
/// Requires: `link` is a handle, `peer` points to a peer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_peer(
    link: *mut ringpost_link,
    peer: *mut ringpost_peer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(link)?, place(peer, "peer")?) };
        out.put(end.end.peer().into());
        Ok(())
    })
}

/// A closer, which ends the link from any thread. Does not block. `*out` is yours: end it by
/// ringpost_closer_free.
///
/// Requires: `link` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_closer(
    link: *mut ringpost_link,
    out: *mut *mut ringpost_closer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(link)?, place(out, "out")?) };
        out.put(handle::give(end.end.closer()));
        Ok(())
    })
}

/// As ringpost_client_readiness, for responses. The link must have been opened with `arms`. Does not block.
///
/// Requires: `link` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_readiness(
    link: *mut ringpost_link,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(link)?, place(fd, "fd")?) };
        end.descriptor(out)
    })
}

/// As ringpost_client_arm.
///
/// Requires: `link` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_arm(link: *mut ringpost_link, armed: *mut bool) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(link)?, place(armed, "armed")?) };
        end.arm(out)
    })
}

/// Ends the link, and frees the handle. Does not block.
///
/// Requires: `link` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_link_free(link: *mut ringpost_link) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(link)? });
        Ok(())
    })
}
