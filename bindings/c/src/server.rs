//! A server in a C program.

use std::ffi::{OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use bus::{Server, ServerSummary, Stopper};

use crate::ending::Ending;
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::service::{Callback, ringpost_release, ringpost_service};
use crate::text::{limit, place, slice};

/// A server. Several threads may use it at once.
pub struct ringpost_server {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_server {
    type End = Ending<Server, ServerSummary>;
    type Side = Stopper;
    const TAG: u32 = 0x7270_0002;
    const NAME: &'static str = "server";
}

/// How a server differs from the usual one. Set `size`, and only what differs: 0 and NULL mean the usual, so
///
/// ringpost_server_options options = {.size = sizeof options, .max_clients = 100};
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ringpost_server_options {
    /// sizeof(ringpost_server_options): by it a library tells an older program, which knows less of them.
    pub size: usize,
    /// The most clients at once: 1 to 65536. Usually 1024.
    pub max_clients: u32,
    /// Of each ring of a client, in bytes: a power of two, 4 KiB to 1 GiB. Usually 256 KiB.
    pub ring_size: usize,
    /// The largest call or message, in bytes, with its header: 256 to half a ring less 8. Usually that.
    pub max_block: usize,
    /// How long ringpost_server_stop waits for services that run, in nanoseconds. A negative number: not at
    /// all. Usually five seconds.
    pub grace_ns: i64,
    /// Users that may use the server besides its own and root.
    pub allow_users: *const u32,
    /// How many they are.
    pub allow_users_len: usize,
    /// Groups whose members may use it.
    pub allow_groups: *const u32,
    /// How many they are.
    pub allow_groups_len: usize,
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

/// Starts a server at the path of a socket, or at the default path if that is NULL. It works on threads of
/// its own, which take no signals. Does not wait for clients.
///
/// `options` may be NULL. `service` answers the calls; if it is NULL the server echoes them. `release` is
/// called with the context when no thread uses it any more, also if this fails, but not if `service` is NULL.
/// `*out` is yours: end it by ringpost_server_stop.
///
/// Requires: `path` is NULL or a text, `options` is NULL or points to options, `out` points to a pointer.
/// `service` may be called with `context` by any number of threads until `release` is called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_start(
    path: *const c_char,
    options: *const ringpost_server_options,
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
        // SAFETY: the caller's promise.
        if let Some(options) = unsafe { options.as_ref() } {
            // SAFETY: as above.
            builder = unsafe { set(builder, options)? };
        }
        let server = builder.start()?;
        let stopper = server.stopper();
        out.put(handle::give_with_side(Ending::Runs(server), stopper));
        Ok(())
    })
}

/// # Safety
///
/// The lists of the options are there.
unsafe fn set(
    mut builder: bus::ServerBuilder,
    options: &ringpost_server_options,
) -> Result<bus::ServerBuilder, Failure> {
    if options.size != size_of::<ringpost_server_options>() {
        let text = format_args!(
            "options.size is {}, and this library's options have {} bytes: set it to sizeof(ringpost_server_options)",
            options.size,
            size_of::<ringpost_server_options>()
        );
        return Err(Failure::new(RINGPOST_INVALID_ARGUMENT, text));
    }
    if options.max_clients != 0 {
        builder = builder.max_clients(options.max_clients);
    }
    if options.ring_size != 0 {
        builder = builder.ring_size(options.ring_size);
    }
    if options.max_block != 0 {
        builder = builder.max_block(options.max_block);
    }
    if options.grace_ns != 0 {
        builder = builder.grace(limit(options.grace_ns).unwrap_or(Duration::ZERO));
    }
    // SAFETY: the caller's promise.
    for user in unsafe { slice(options.allow_users, options.allow_users_len, "allow_users")? } {
        builder = builder.allow_user(*user);
    }
    // SAFETY: as above.
    for group in unsafe { slice(options.allow_groups, options.allow_groups_len, "allow_groups")? } {
        builder = builder.allow_group(*group);
    }
    Ok(builder)
}

/// Begins the shutdown: no client comes in any more, calls that are being served end. Does not block. Any
/// thread may call it at any time, a service and a signal handler too.
///
/// Requires: `server` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_shutdown(server: *const ringpost_server) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { handle::shared_side(server)? }.shutdown();
        Ok(())
    })
}

/// Shuts the server down, waits until it has ended, and frees the handle. It gives services that run the time
/// that the options say, `grace_ns`, and then a second.
///
/// RINGPOST_TIMED_OUT: it has not ended yet, and goes on ending. The handle is still yours: stop it again, to
/// wait further. In a service of this server, a time-out of 0 or more is over before that service has
/// returned; a negative one does not wait for it.
///
/// Requires: `server` is a handle that no other thread uses, `summary` is NULL or points to a summary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_stop(
    server: *mut ringpost_server,
    timeout_ns: i64,
    summary: *mut ringpost_server_summary,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut end = unsafe { handle::alone(server)? };
        let done = end.end(Server::join_after_shutdown, limit(timeout_ns))?;
        drop(end);
        // SAFETY: as above.
        drop(unsafe { handle::take(server)? });
        // SAFETY: as above.
        if let Ok(out) = unsafe { place(summary, "summary") } {
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

/// The number of clients that are registered. Does not block.
///
/// Requires: `server` is a handle, `clients` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_server_clients(
    server: *const ringpost_server,
    clients: *mut u32,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::shared(server)?, place(clients, "clients")?) };
        out.put(end.running()?.info().clients);
        Ok(())
    })
}
