//! Links: one client serves another over two rings that only these two share.

use std::ffi::{c_char, c_int, c_void};

use bus::{Incoming, Link, Listener, Responder, ServeHandle};

use crate::client::ringpost_client;
use crate::closer::ringpost_closer;
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::service::{Callback, ringpost_release, ringpost_service};
use crate::text::{bytes, limit, long_limit, nothing_yet, place, ringpost_peer, text};

/// The calling end of a link.
pub struct ringpost_link {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_link {
    type End = Waits<Link>;
    const TAG: u32 = 0x7270_0004;
    const NAME: &'static str = "link";
}

/// Where links to a client come in.
pub struct ringpost_listener {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_listener {
    type End = Waits<Listener>;
    const TAG: u32 = 0x7270_0005;
    const NAME: &'static str = "listener";
}

/// The serving end of a link.
pub struct ringpost_responder {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_responder {
    type End = Waits<Responder>;
    const TAG: u32 = 0x7270_0006;
    const NAME: &'static str = "responder";
}

/// A listener that serves by itself, on a thread for each link. Several threads may use it at once.
pub struct ringpost_serving {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_serving {
    type End = ServeHandle;
    const TAG: u32 = 0x7270_0007;
    const NAME: &'static str = "serving";
}

/// Opens a link to a client, by its name or the text of its key, and waits until that has accepted or refused.
/// `arms`: the link will be waited for in an event loop.
///
/// Requires: `client` is a handle, `to` is a text, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_connect(
    client: *mut ringpost_client,
    to: *const c_char,
    timeout_ns: i64,
    arms: bool,
    out: *mut *mut ringpost_link,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, to, out) =
            unsafe { (handle::alone(client)?, text(to, "the other client")?, place(out, "out")?) };
        let options = Link::options().timeout(long_limit(timeout_ns));
        let options = if arms { options.arms() } else { options };
        out.put(handle::give(Waits::new(options.connect(end.client.end.caller(), to)?)));
        Ok(())
    })
}

/// Calls the other client's service, and waits for the response. `*reply` is valid until the next use of the link.
///
/// Requires: `link` is a handle, `request` has `len` bytes, `reply` and `reply_len` point to a pointer and a number.
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
        let (mut end, request, to, to_len) = unsafe {
            let outs = (place(reply, "reply")?, place(reply_len, "reply_len")?);
            (handle::alone(link)?, bytes(request, len)?, outs.0, outs.1)
        };
        let reply = end.end.call_timeout(request, limit(timeout_ns))?.payload();
        to.put(reply.as_ptr().cast());
        to_len.put(reply.len());
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
/// `*reply` is valid until the next use of the link.
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
        let (mut end, to, to_len) =
            unsafe { (handle::alone(link)?, place(reply, "reply")?, place(reply_len, "reply_len")?) };
        let reply = match timeout_ns {
            0 => end.end.try_response()?.ok_or_else(nothing_yet)?,
            _ => end.end.response_timeout(limit(timeout_ns))?,
        };
        let reply = reply.payload();
        to.put(reply.as_ptr().cast());
        to_len.put(reply.len());
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

/// A closer, which ends the link from any thread.
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

/// As ringpost_client_readiness, for responses. The link must have been opened with `arms`.
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

/// Lets other clients open links to this one. Waits for the server, for the time given to ringpost_register at most.
///
/// Requires: `client` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listen(
    client: *mut ringpost_client,
    out: *mut *mut ringpost_listener,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(client)?, place(out, "out")?) };
        out.put(handle::give(Waits::new(end.client.end.listen()?)));
        Ok(())
    })
}

/// Waits for a client that connects, and accepts it. `arms`: the responder will be waited for in an event loop.
///
/// Requires: `listener` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listener_accept(
    listener: *mut ringpost_listener,
    timeout_ns: i64,
    arms: bool,
    out: *mut *mut ringpost_responder,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(listener)?, place(out, "out")?) };
        let incoming: Incoming = match timeout_ns {
            0 => end.end.try_accept()?.ok_or_else(nothing_yet)?,
            _ => end.end.accept_timeout(limit(timeout_ns))?,
        };
        let incoming = if arms { incoming.arms() } else { incoming };
        out.put(handle::give(Waits::new(incoming.accept()?)));
        Ok(())
    })
}

/// Serves by itself from now on, on a thread for each link, and takes the listener: its handle is freed, whatever this
/// returns. `release` is called with the context when no thread uses it any more, also if this fails, but not
/// if `service` is NULL.
///
/// Requires: `listener` is a handle that no other thread uses, `out` points to a pointer. `service` may be called
/// with `context` by any number of threads until `release` is called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listener_serve(
    listener: *mut ringpost_listener,
    service: ringpost_service,
    context: *mut c_void,
    release: ringpost_release,
    out: *mut *mut ringpost_serving,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (callback, out, listener) = unsafe {
            (Callback::new(service, context, release)?, place(out, "out")?, handle::take(listener)?)
        };
        out.put(handle::give(listener.end.serve_with(callback)?));
        Ok(())
    })
}

/// As ringpost_client_readiness, for clients that connect.
///
/// Requires: `listener` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listener_readiness(
    listener: *mut ringpost_listener,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(listener)?, place(fd, "fd")?) };
        end.descriptor(out)
    })
}

/// As ringpost_client_arm.
///
/// Requires: `listener` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listener_arm(
    listener: *mut ringpost_listener,
    armed: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(listener)?, place(armed, "armed")?) };
        end.arm(out)
    })
}

/// Lets no more links in, and frees the handle. Links that were accepted go on.
///
/// Requires: `listener` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listener_free(listener: *mut ringpost_listener) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(listener)? });
        Ok(())
    })
}

/// Ends all links of a serving, waits for the services that run, and frees the handle. Blocks for as long as they take.
///
/// Requires: `serving` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_serving_stop(serving: *mut ringpost_serving) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let serving = unsafe { handle::take(serving)? };
        serving.stop();
        serving.join();
        Ok(())
    })
}

/// Serves the requests that are there, on this thread, and returns. `*ended` is true if the link has ended and no more
/// will come.
///
/// Requires: `responder` is a handle, `service` may be called with `context`, `ended` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_serve_ready(
    responder: *mut ringpost_responder,
    service: ringpost_service,
    context: *mut c_void,
    ended: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (callback, out, mut end) = unsafe {
            (Callback::new(service, context, None)?, place(ended, "ended")?, handle::alone(responder)?)
        };
        let over =
            end.end.serve_ready(|request, response| bus::Service::call(&callback, request, response))?;
        out.put(over.is_some());
        Ok(())
    })
}

/// Serves requests on this thread until the link has ended.
///
/// Requires: `responder` is a handle, `service` may be called with `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_serve(
    responder: *mut ringpost_responder,
    service: ringpost_service,
    context: *mut c_void,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (callback, mut end) =
            unsafe { (Callback::new(service, context, None)?, handle::alone(responder)?) };
        match end.end.serve(|request, response| bus::Service::call(&callback, request, response))? {
            bus::CloseReason::Forked => Err(Failure::new(RINGPOST_FORKED, bus::CloseReason::Forked)),
            _ => Ok(()),
        }
    })
}

/// Who calls. Does not block.
///
/// Requires: `responder` is a handle, `peer` points to a peer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_peer(
    responder: *mut ringpost_responder,
    peer: *mut ringpost_peer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(responder)?, place(peer, "peer")?) };
        out.put(end.end.peer().into());
        Ok(())
    })
}

/// A closer, which ends the link from any thread.
///
/// Requires: `responder` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_closer(
    responder: *mut ringpost_responder,
    out: *mut *mut ringpost_closer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(responder)?, place(out, "out")?) };
        out.put(handle::give(end.end.closer()));
        Ok(())
    })
}

/// As ringpost_client_readiness, for requests. The link must have been accepted with `arms`.
///
/// Requires: `responder` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_readiness(
    responder: *mut ringpost_responder,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(responder)?, place(fd, "fd")?) };
        end.descriptor(out)
    })
}

/// As ringpost_client_arm.
///
/// Requires: `responder` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_arm(
    responder: *mut ringpost_responder,
    armed: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(responder)?, place(armed, "armed")?) };
        end.arm(out)
    })
}

/// Ends the link, and frees the handle.
///
/// Requires: `responder` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_free(responder: *mut ringpost_responder) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(responder)? });
        Ok(())
    })
}
