//! Closers: end another handle's connection from any thread.

use bus::Closer;

use crate::error::{ringpost_status, run};
use crate::handle::{self, Opaque};

/// Ends the connection of the handle that it came from. Any thread may use it, also while others do, and
/// after that handle was freed.
pub struct ringpost_closer {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_closer {
    type End = Closer;
    type Side = ();
    const TAG: u32 = 0x7270_0001;
    const NAME: &'static str = "closer";
}

/// Ends the connection: every wait on it ends with RINGPOST_DISCONNECTED. Closing twice does no harm. Does
/// not block. Any thread may call it at any time, and a signal handler may.
///
/// Requires: `closer` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_closer_close(closer: *const ringpost_closer) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { handle::shared(closer)? }.close();
        Ok(())
    })
}

/// Frees a closer. It closes nothing. Does not block.
///
/// Requires: `closer` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_closer_free(closer: *mut ringpost_closer) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(closer)? });
        Ok(())
    })
}
