//! A worker without its thread, for this repository's own benchmarks, tests and fuzz targets.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each of its users needs a part")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::builder::Settings;
use super::inbox::Inbox;
use super::member::Member;
use super::service::{Request, Response, Service};
use super::shared::Shared;
use super::worker::Worker;
use crate::channel::{Geometry, Host};
use crate::protocol::Name;
use crate::registry::{Owner, Registry};
use crate::ring::WaitStrategy;

/// A worker that serves when it is told to.
pub(crate) struct Desk(Worker);

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    /// A worker that echoes.
    pub(crate) fn new(host: Host, geometry: Geometry) -> Result<Desk, Box<dyn Error>> {
        let echo = |request: Request<'_>, response: &mut Response<'_>| response.write(request.payload());
        Desk::with_service(host, geometry, echo)
    }

    pub(crate) fn with_service(
        host: Host,
        geometry: Geometry,
        service: impl Service,
    ) -> Result<Desk, Box<dyn Error>> {
        let settings = Settings {
            path: "unused".into(),
            max_clients: 1,
            geometry,
            wait: WaitStrategy::Spin,
            pin: None,
            users: Vec::new(),
            groups: Vec::new(),
            grace: Duration::ZERO,
        };
        let registry = Registry::create(1)?;
        let name = Name::new("benchmark")?;
        let owner = Owner { pid: 0, uid: 0, gid: 0 };
        let key = registry.register(&name, owner).map_err(|error| error.to_string())?;
        let counters = registry.counters(key)?.ok_or("no counters")?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared::new(settings, registry, Box::new(service), wake));
        let inbox = Inbox::new(host.inbox, host.intake.clone(), counters.clone());
        let member = Arc::new(Member::new(key, name, owner, inbox, (host.closer, host.intake), counters, 0));
        Ok(Desk(Worker::new(shared, member, host.requests, host.responses)))
    }

    /// Serves the requests that are there.
    pub(crate) fn serve(&mut self) {
        let _ = self.0.serve_some();
    }
}
