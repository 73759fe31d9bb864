//! `Server`: a server in this process.

use std::path::PathBuf;

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::client::{path_or_default, strategy};
use crate::errors::Raise;
use crate::records::ClientInfo;
use crate::service;

/// A server of the bus, on threads of its own. ``service(request, peer)`` answers the calls: it gets
/// ``bytes`` and a ``Peer``, and returns ``bytes``, another buffer, or ``None``. It runs on several threads.
/// Without one, calls get an empty response.
///
/// Only this user and root may connect, and those in ``allow_users`` and ``allow_groups``.
///
/// >>> with ringpost.Server(path) as server:
/// ...     server.clients()
/// []
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct Server {
    server: Mutex<Option<ringpost::Server>>,
    /// The path of its socket.
    #[pyo3(get)]
    path: PathBuf,
}

#[pymethods]
impl Server {
    /// Starts it. ``ring_size`` in bytes, a power of two, of each of a client's three rings.
    #[new]
    #[pyo3(signature = (
        path=None, service=None, *, ring_size=None, max_clients=None,
        allow_users=Vec::new(), allow_groups=Vec::new(), wait="adaptive"
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        service: Option<Py<PyAny>>,
        ring_size: Option<usize>,
        max_clients: Option<u32>,
        allow_users: Vec<u32>,
        allow_groups: Vec<u32>,
        wait: &str,
    ) -> PyResult<Server> {
        let path = path_or_default(path)?;
        let mut builder = ringpost::Server::builder(&path).wait(strategy(wait)?);
        if let Some(service) = service {
            builder = builder.service(service::of(service));
        }
        if let Some(ring_size) = ring_size {
            builder = builder.ring_size(ring_size);
        }
        if let Some(max_clients) = max_clients {
            builder = builder.max_clients(max_clients);
        }
        builder = allow_users.into_iter().fold(builder, ringpost::ServerBuilder::allow_user);
        builder = allow_groups.into_iter().fold(builder, ringpost::ServerBuilder::allow_group);
        let server = py.detach(|| builder.start()).map_err(Raise::raise)?;
        Ok(Server { server: Mutex::new(Some(server)), path })
    }

    /// The clients that are registered; none once it has stopped.
    fn clients(&self) -> PyResult<Vec<ClientInfo>> {
        let server = self.server.lock();
        let Some(server) = server.as_ref() else { return Ok(Vec::new()) };
        Ok(server.clients()?.into_iter().map(ClientInfo::from).collect())
    }

    /// Ends it: calls under way are answered first. May be called twice.
    fn stop(&self, py: Python<'_>) {
        let server = self.server.lock().take();
        // Its threads may want the interpreter's lock for their services.
        py.detach(|| {
            if let Some(server) = server {
                server.shutdown();
                server.join();
            }
        });
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.stop(py);
    }

    fn __repr__(&self) -> String {
        format!("Server({:?})", self.path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let server = self.server.get_mut().take();
        Python::try_attach(|py| py.detach(|| drop(server)));
    }
}
