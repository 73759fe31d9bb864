//! Contains panics of the program's code: its service and its `tracing` subscriber.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::link::dispose;

/// Runs code that may panic, and returns the panic's text. The program's panic hook has reported it already.
pub(super) fn contain<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "a panic without a text".to_owned(),
        };
        dispose(panic);
        text
    })
}
