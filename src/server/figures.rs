//! The figures of the bus: what FIGURES is answered with, and when durations are measured.
//!
//! Everyone who may connect may look. Durations need a clock, which nobody reads otherwise: the workers and
//! the clients read it from a look of the server's own user or root on, until some seconds after their last
//! one.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::acceptor::Acceptor;
use super::connections::MOST_BODY;
use super::measured::Timed;
use super::member::Member;
use super::shared::Shared;
use super::watch::Watched;
use super::worker::Totals;
use crate::channel::Durations;
use crate::connect::figures::{Look, Page, Section};
use crate::connect::{ClientFigures, Figures, Fill, ServerFigures};
use crate::os::usage;
use crate::registry::{ClientInfo, RegistryError};
use crate::wire::Histogram;

/// For how long durations are measured after a look.
pub(crate) const STAMPED_TIME: Duration = Duration::from_secs(10);

/// Clients are asked to time one call in so many of those that they serve on links.
pub(crate) const STAMPED_ONE_IN: u32 = 16;

/// Clients, links and topics that are looked at before it is seen whether the page is full.
const CLIENTS_AT_ONCE: usize = 16;
const LINKS_AT_ONCE: usize = 128;
const TOPICS_AT_ONCE: usize = 32;

/// For how long a look at the server as a whole serves other users, too. It costs a step for each client.
const LOOK_LASTS: Duration = Duration::from_millis(100);

/// Until when durations are measured.
#[derive(Debug, Default)]
pub(super) struct Stamping {
    until: Option<Instant>,
}

/// The last look at the server as a whole.
#[derive(Debug, Default)]
pub(super) struct LastLook(Option<(Instant, Figures)>);

impl LastLook {
    /// A new look, or the last one if that will do.
    fn take(&mut self, shared: &Shared, may_be_old: bool) -> Look {
        match &self.0 {
            Some((at, figures)) if may_be_old && at.elapsed() < LOOK_LASTS => Look(figures.clone()),
            _ => {
                let look = shared.look();
                self.0 = Some((Instant::now(), look.0.clone()));
                look
            }
        }
    }
}

impl Acceptor {
    /// A page of the figures for a user.
    pub(super) fn figures(
        &mut self,
        uid: u32,
        section: Section,
        from: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let is_operator = self.shared.ledger.is_exempt(uid);
        if is_operator {
            self.stamp();
        }
        let page = Page::new(self.shared.uptime.number(), MOST_BODY);
        Ok(match section {
            Section::Server => page.with(&[self.last_look.take(&self.shared, !is_operator)], None),
            Section::Users => {
                let mut users = self.shared.ledger.users();
                users.retain(|user| u64::from(user.uid) >= from && (is_operator || user.uid == uid));
                page.with(&users, None)
            }
            Section::Clients => return self.shared.page_of_clients(page, from),
            Section::Links => {
                let (links, next) = self.broker.figures(from, LINKS_AT_ONCE);
                page.with(&links, next)
            }
            Section::Topics => {
                let (topics, next) = self.topics.figures(from, TOPICS_AT_ONCE, uid);
                page.with(&topics, next)
            }
        })
    }

    /// From now on durations are measured, for a while.
    fn stamp(&mut self) {
        if self.stamping.until.is_none() {
            self.shared.set_stamped(true);
        }
        self.stamping.until = Some(Instant::now() + STAMPED_TIME);
    }
}

impl Stamping {
    /// When [`look_after`](Self::look_after) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Ends it if nobody has looked for a while.
    pub(super) fn look_after(&mut self, shared: &Shared, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.end(shared);
        }
    }

    pub(super) fn end(&mut self, shared: &Shared) {
        if self.until.take().is_some() {
            shared.set_stamped(false);
        }
    }
}

impl Shared {
    fn set_stamped(&self, stamped: bool) {
        self.watch.set(Watched::STAMPED, stamped);
        self.members.all().iter().for_each(|member| member.set_stamped(stamped));
    }

    /// Whether durations are measured now.
    pub(super) fn is_stamped(&self) -> bool {
        self.watch.look().has(Watched::STAMPED)
    }

    fn look(&self) -> Look {
        let Totals { calls, messages, bytes_in, bytes_out } = self.workers.totals(&self.sums);
        let (hot, most) = self.scheduler.load();
        let server = ServerFigures {
            calls,
            messages,
            bytes_in,
            bytes_out,
            cpu: usage::of_process(),
            workers_hot: u32::try_from(hot).unwrap_or(u32::MAX),
            workers_most: u32::try_from(most).unwrap_or(u32::MAX),
            ..self.sums.figures()
        };
        let (uptime, stamped) = (self.uptime.length(), self.is_stamped());
        Look(Figures { uptime, stamped, server, ..Figures::default() })
    }

    fn page_of_clients(&self, mut page: Page, from: u64) -> Result<Vec<u8>, RegistryError> {
        let mut from = u32::try_from(from).unwrap_or(u32::MAX);
        loop {
            let (clients, next) = self.list(from, CLIENTS_AT_ONCE)?;
            for info in clients {
                let slot = info.key.slot();
                if !page.add(&self.client(info)) {
                    return Ok(page.end(Some(slot.into())));
                }
            }
            match next {
                Some(next) => from = next,
                None => return Ok(page.end(None)),
            }
        }
    }

    fn client(&self, info: ClientInfo) -> ClientFigures {
        match self.members.get(info.key) {
            Some(member) => member.figures(info),
            // It has just left.
            None => ClientFigures {
                info,
                requests: Fill::default(),
                responses: Fill::default(),
                inbox: Fill::default(),
                waiting_senders: 0,
                cpu: None,
                service: Histogram::default(),
                wake: Histogram::default(),
                own_wake: Histogram::default(),
                link_service: Histogram::default(),
                taken: 0,
                missed: 0,
                published: 0,
            },
        }
    }
}

impl Member {
    /// Lets its client measure, or not any more.
    pub(super) fn set_stamped(&self, stamped: bool) {
        if let Some(page) = &self.page {
            page.set_stamps(if stamped { STAMPED_ONE_IN } else { 0 });
        }
    }

    fn figures(&self, info: ClientInfo) -> ClientFigures {
        let [requests, responses] = self.measured.fills();
        let (inbox, waiting_senders) = self.inbox.fill();
        let says = self.page.as_ref();
        let samples = says.map(|page| page.samples()).unwrap_or_default();
        let durations = |which| says.map(|page| page.durations(which)).unwrap_or_default();
        ClientFigures {
            info,
            requests,
            responses,
            inbox,
            waiting_senders,
            cpu: self.measured.cpu(),
            service: self.measured.durations(Timed::Service),
            wake: self.measured.durations(Timed::Wake),
            own_wake: durations(Durations::OwnWakes),
            link_service: durations(Durations::LinkService),
            taken: samples.taken,
            missed: samples.missed,
            published: samples.published,
        }
    }
}
