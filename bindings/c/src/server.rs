//! A server in a C program.

use std::ffi::{OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bus::Server;

use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::service::{Callback, ringpost_release, ringpost_service};
use crate::text::{null, place};

/// A server. Several threads may use it at once.
pub struct ringpost_server {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_server {
    type End = Server;
    const TAG: u32 = 0x7270_0002;
    const NAME: &'static str = "server";
}

/// What a server has done.
#[repr(C)]
pub struct ringpost_server_summary {
    /// Clients that were registered.
    pub registered: u64,
    /// Calls that were served.
    pub calls: u64,
    /// Messages that were delivered.
    pub messages: u64,
    /// Services that had not returned when the server gave up waiting for them.
    pub abandoned: u64,
}

/// A path from C, or the default one if it is NULL.
///
/// # Safety
///
/// The pointer is NULL or a text.
pub(crate) unsafe fn path(path: *const c_char) -> Result<PathBuf, Failure> {
    if path.is_null() {
        return bus::default_path().map_err(|error| Failure::new(RINGPOST_SYSTEM, error));
    }
    // SAFETY: the caller's promise.
    let path = unsafe { std::ffi::CStr::from_ptr(path) };
    Ok(OsStr::from_bytes(path.to_bytes()).into())
}

/// Starts a server at the path of a socket, or at the default path if that is NULL. `service` answers the
/// calls; if it is NULL the server echoes them. `release` is called with the context when no thread uses it
/// any more, also if this fails, but not if `service` is NULL. Does not wait for clients.
///
/// Requires: `path` is NULL or a text, `out` points to a pointer. `service` may be called with `context` by
/// any number of threads until `release` is called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_start(
    path: *const c_char,
    service: ringpost_service,
    context: *mut c_void,
    release: ringpost_release,
    out: *mut *mut ringpost_server,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise. It comes first, so that the context is released whatever fails.
        let callback = service.map(|_| unsafe { Callback::new(service, context, release) }).transpose()?;
        // SAFETY: the caller's promises.
        let (path, out) = unsafe { (self::path(path)?, place(out, "out")?) };
        let mut builder = Server::builder(path);
        if let Some(callback) = callback {
            builder = builder.service_with(callback);
        }
        out.put(handle::give(builder.start()?));
        Ok(())
    })
}

/// Begins the shutdown: no client comes in any more, calls that are being served end. Does not block. Not for
/// signal handlers.
///
/// Requires: `server` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_shutdown(server: *const ringpost_server) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { handle::shared(server)? }.shutdown();
        Ok(())
    })
}

/// Shuts the server down, waits until it has ended, and frees the handle. It waits for calls that are being
/// served, for at most 7 seconds. `summary` may be NULL.
///
/// Requires: `server` is a handle that no other thread uses, `summary` is NULL or points to a summary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_stop(
    server: *mut ringpost_server,
    summary: *mut ringpost_server_summary,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (server, out) = unsafe { (handle::take(server)?, place(summary, "summary").ok()) };
        let done = server.join_after_shutdown();
        if let Some(out) = out {
            out.put(ringpost_server_summary {
                registered: done.registered,
                calls: done.calls,
                messages: done.messages,
                abandoned: done.abandoned as u64,
            });
        }
        Ok(())
    })
}

/// The number of clients that are registered.
///
/// Requires: `server` is a handle, `clients` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_clients(
    server: *const ringpost_server,
    clients: *mut u32,
) -> ringpost_status {
    run(|| {
        if clients.is_null() {
            return Err(null("clients"));
        }
        // SAFETY: the caller's promises.
        let (server, out) = unsafe { (handle::shared(server)?, place(clients, "clients")?) };
        out.put(server.info().clients);
        Ok(())
    })
}
