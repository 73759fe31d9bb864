//! Ringpost for Python: the module `ringpost._ringpost`, which the package `ringpost` shows under its own
//! name.
//!
//! It uses the library's public interface and nothing else. Every wait lets go of the interpreter's lock, and
//! looks for signals between times: see `waits`.

#![deny(unsafe_code)]

mod armed;
mod calls;
mod client;
mod errors;
mod lending;
mod links;
mod listening;
mod payload;
mod presence;
mod records;
mod server;
mod service;
mod topics;
mod turn;
mod views;
mod waits;

use std::path::PathBuf;

use pyo3::prelude::*;

use errors::Raise;

/// The path of the socket that is used where none is given: ``ringpost/bus.sock`` in ``$XDG_RUNTIME_DIR``, or
/// else ``/tmp/ringpost-UID/bus.sock``.
#[pyfunction]
fn default_path() -> PyResult<PathBuf> {
    ringpost::default_path().map_err(Raise::raise)
}

#[pymodule(gil_used = true)]
fn _ringpost(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(default_path, module)?)?;
    module.add_class::<client::Client>()?;
    module.add_class::<links::Link>()?;
    module.add_class::<links::Serving>()?;
    module.add_class::<listening::Incoming>()?;
    module.add_class::<listening::Listener>()?;
    module.add_class::<listening::Responder>()?;
    module.add_class::<presence::Change>()?;
    module.add_class::<presence::Presence>()?;
    module.add_class::<records::ClientInfo>()?;
    module.add_class::<records::Message>()?;
    module.add_class::<records::Peer>()?;
    module.add_class::<records::Sample>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<topics::Publisher>()?;
    module.add_class::<topics::Subscriber>()?;
    module.add_class::<views::Grant>()?;
    module.add_class::<views::View>()?;
    Ok(())
}
