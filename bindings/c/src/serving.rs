//! The serving end of links: accepted one by one, or served by threads of the library.

use std::ffi::{c_char, c_int, c_void};
use std::time::Instant;

use bus::{CloseReason, Incoming, Listener, Request, Responder, Response, ServeHandle, Service};

use crate::client::{ringpost_client, within};
use crate::closer::ringpost_closer;
use crate::ending::Ending;
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::service::{Callback, ringpost_release, ringpost_service};
use crate::text::{limit, long_limit, nothing_yet, place, ringpost_peer, text};

/// Where links to a client come in.
pub struct ringpost_listener {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_listener {
    type End = Waits<Listener>;
    type Side = ();
    const TAG: u32 = 0x7270_0005;
    const NAME: &'static str = "listener";
}

/// A client that asks for a link, and waits to be accepted or refused.
pub struct ringpost_incoming {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_incoming {
    type End = Incoming;
    type Side = ();
    const TAG: u32 = 0x7270_000a;
    const NAME: &'static str = "incoming link";
}

/// The serving end of a link.
pub struct ringpost_responder {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_responder {
    type End = Waits<Responder>;
    type Side = ();
    const TAG: u32 = 0x7270_0006;
    const NAME: &'static str = "responder";
}

/// A listener that serves by itself, on a thread for each link.
pub struct ringpost_serving {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_serving {
    type End = Ending<ServeHandle, ()>;
    type Side = ();
    const TAG: u32 = 0x7270_0007;
    const NAME: &'static str = "serving";
}

/// Lets other clients open links to this one. Waits for the server. `*out` is yours: end it by
/// ringpost_listener_serve or ringpost_listener_free. The listener ends with the client.
///
/// Requires: `client` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listen(
    client: *mut ringpost_client,
    timeout_ns: i64,
    out: *mut *mut ringpost_listener,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, out) = unsafe { (handle::alone(client)?, place(out, "out")?) };
        let listener = within(&mut caller, long_limit(timeout_ns)).listen()?;
        out.put(handle::give(Waits::new(listener)));
        Ok(())
    })
}

/// Waits for a client that connects: look at it with ringpost_incoming_peer, and accept or refuse it. Its
/// ringpost_connect waits meanwhile. `*out` is yours: end it by ringpost_incoming_accept, _refuse or _free.
///
/// Requires: `listener` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listener_accept(
    listener: *mut ringpost_listener,
    timeout_ns: i64,
    out: *mut *mut ringpost_incoming,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(listener)?, place(out, "out")?) };
        let incoming = match timeout_ns {
            0 => end.end.try_accept()?.ok_or_else(nothing_yet)?,
            _ => end.end.accept_timeout(limit(timeout_ns))?,
        };
        out.put(handle::give(incoming));
        Ok(())
    })
}

/// Who connects: its name, its process and its user, as the server knows them. Does not block.
///
/// Requires: `incoming` is a handle, `peer` points to a peer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_incoming_peer(
    incoming: *mut ringpost_incoming,
    peer: *mut ringpost_peer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (incoming, out) = unsafe { (handle::alone(incoming)?, place(peer, "peer")?) };
        out.put(incoming.peer().into());
        Ok(())
    })
}

/// Accepts the link, and takes `incoming`: it is freed, whatever this returns, unless `out` is NULL or the
/// handle is in use. `arms`: the responder will be waited for in an event loop. Does not block. `*out` is
/// yours: end it by ringpost_responder_free.
///
/// Requires: `incoming` is a handle that no other thread uses, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_incoming_accept(
    incoming: *mut ringpost_incoming,
    arms: bool,
    out: *mut *mut ringpost_responder,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (out, incoming) = unsafe { (place(out, "out")?, handle::take(incoming)?) };
        let incoming = if arms { incoming.arms() } else { incoming };
        out.put(handle::give(Waits::new(incoming.accept()?)));
        Ok(())
    })
}

/// Refuses the link, and takes `incoming`. The other client gets RINGPOST_REFUSED and the text, at most 1,024
/// bytes of it. Does not block.
///
/// Requires: `incoming` is a handle that no other thread uses, `why` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_incoming_refuse(
    incoming: *mut ringpost_incoming,
    why: *const c_char,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (why, incoming) = unsafe { (text(why, "the reason")?, handle::take(incoming)?) };
        incoming.refuse(why);
        Ok(())
    })
}

/// Ends the link before it began, and frees the handle. The other client gets RINGPOST_GONE. Does not block.
///
/// Requires: `incoming` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_incoming_free(incoming: *mut ringpost_incoming) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(incoming)? });
        Ok(())
    })
}

/// Serves by itself from now on, every client that connects, on a thread for each link; these take no
/// signals. It takes the listener: its handle is freed, whatever this returns, unless an argument is NULL or
/// the handle is in use. Does not block.
///
/// `release` is called with the context when no thread uses it any more, also if this fails, but not if
/// `service` is NULL. `*out` is yours: end it by ringpost_serving_stop.
///
/// Requires: `listener` is a handle that no other thread uses, `out` points to a pointer. `service` may be
/// called with `context` by any number of threads until `release` is called.
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
        out.put(handle::give(Ending::Runs(listener.end.serve_with(callback)?)));
        Ok(())
    })
}

/// A closer, which lets no more links in, from any thread. Links that were accepted go on. Does not block.
/// `*out` is yours: end it by ringpost_closer_free.
///
/// Requires: `listener` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_listener_closer(
    listener: *mut ringpost_listener,
    out: *mut *mut ringpost_closer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(listener)?, place(out, "out")?) };
        out.put(handle::give(end.end.closer()));
        Ok(())
    })
}

/// As ringpost_client_readiness, for clients that connect. Does not block.
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

/// Ends all links of a serving, waits for the services that run, and frees the handle.
///
/// RINGPOST_TIMED_OUT: a service still runs. The handle is still yours: stop it again, to wait further. In a
/// service of this serving, a time-out of 0 or more is over before that service has returned; a negative one
/// does not wait for it.
///
/// Requires: `serving` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_serving_stop(
    serving: *mut ringpost_serving,
    timeout_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut end = unsafe { handle::alone(serving)? };
        let ends = |serving: ServeHandle| {
            serving.stop();
            serving.join();
        };
        end.end(ends, limit(timeout_ns))?;
        // SAFETY: nothing borrows it. Other threads find it in use until it is taken.
        let _ = unsafe { end.lend() };
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(serving)? });
        Ok(())
    })
}

/// Serves the requests that are there, on this thread, and returns. `*ended` is true if the link has ended
/// and no more will come.
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

/// Serves requests on this thread until the link has ended: RINGPOST_OK. RINGPOST_TIMED_OUT: the time is
/// over, and the link goes on. A service that runs is not ended by that.
///
/// A time-out of 0 or more is for links that were accepted with `arms`, as it waits by the descriptor.
/// Without a limit, a closer ends it.
///
/// Requires: `responder` is a handle, `service` may be called with `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_responder_serve(
    responder: *mut ringpost_responder,
    service: ringpost_service,
    context: *mut c_void,
    timeout_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (callback, mut end) =
            unsafe { (Callback::new(service, context, None)?, handle::alone(responder)?) };
        let mut serve = |request: Request<'_>, response: &mut Response<'_>| callback.call(request, response);
        let Some(limit) = limit(timeout_ns) else { return ended(end.end.serve(serve)?) };
        end.may_wait()?;
        let begun = Instant::now();
        loop {
            if let Some(reason) = end.end.serve_ready(&mut serve)? {
                return ended(reason);
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Failure::new(RINGPOST_TIMED_OUT, "the link has not ended in time"));
            }
            end.wait(left)?;
        }
    })
}

fn ended(reason: CloseReason) -> Result<(), Failure> {
    match reason {
        CloseReason::Forked => Err(Failure::new(RINGPOST_FORKED, reason)),
        _ => Ok(()),
    }
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

/// A closer, which ends the link from any thread. Does not block. `*out` is yours: end it by
/// ringpost_closer_free.
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

/// As ringpost_client_readiness, for requests. The link must have been accepted with `arms`. Does not block.
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

/// Ends the link, and frees the handle. Does not block.
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
