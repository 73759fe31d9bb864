//! What a worker does around calls and messages for those who watch: spans, copies for a tap, and durations.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::measured::Timed;
use super::watch::Watched;
use super::worker::Operations;
use crate::connect::{Copied, TapKind};
use crate::link::observed::{self, in_span};
use crate::link::{Request, Response, ServiceError};
use crate::shm::backend::now;
use crate::wire::{Key, Name, Status};

impl Operations {
    /// Runs the service for a call that somebody watches.
    #[cold]
    #[inline(never)]
    pub(super) fn call_watched(
        &mut self,
        payload: &[u8],
        response: &mut Response<'_>,
    ) -> Result<(), ServiceError> {
        let answered = self.call_tapped(payload, response);
        // One call in a drain is measured.
        self.watched = self.watched.without(Watched::STAMPED);
        answered
    }

    fn call_tapped(&self, payload: &[u8], response: &mut Response<'_>) -> Result<(), ServiceError> {
        if !self.watched.has(Watched::TAPPED) {
            return self.call_measured(payload, response);
        }
        let most = self.shared.tap.most();
        observed::tell(
            response,
            most,
            |response| self.call_measured(payload, response),
            |served| {
                self.shared.tap.tell(&Copied {
                    kind: TapKind::Call,
                    status: served.status,
                    duration: served.duration,
                    from: &self.member.peer,
                    to: None,
                    to_name: None,
                    payload,
                    response: &served.response,
                    response_len: served.response_len,
                });
            },
        )
    }

    fn call_measured(&self, payload: &[u8], response: &mut Response<'_>) -> Result<(), ServiceError> {
        if !self.watched.has(Watched::STAMPED) {
            return self.call_in_span(payload, response);
        }
        let began = now();
        let answered = self.call_in_span(payload, response);
        self.member.measured.count(Timed::Service, now().saturating_duration_since(began));
        answered
    }

    fn call_in_span(&self, payload: &[u8], response: &mut Response<'_>) -> Result<(), ServiceError> {
        let request = Request::new(payload, &self.member.peer);
        if !self.watched.has(Watched::SPANS) {
            return (**self.service).call(request, response);
        }
        let number = response.number();
        in_span(&self.member.peer, number, || (**self.service).call(request, response))
    }

    /// Now, if what follows is copied for a tap.
    #[inline(always)]
    pub(super) fn tap_begins(&self) -> Option<Instant> {
        if self.watched.has(Watched::TAPPED) { Some(Instant::now()) } else { None }
    }

    /// Copies a message for a tap.
    #[cold]
    #[inline(never)]
    pub(super) fn tap_message(
        &self,
        (to, to_name): (Key, Option<&Name>),
        payload: &[u8],
        status: Status,
        began: Option<Instant>,
    ) {
        self.shared.tap.tell(&Copied {
            kind: TapKind::Message,
            status,
            duration: began.map_or(Duration::ZERO, |began| began.elapsed()),
            from: &self.member.peer,
            to: Some(to),
            to_name,
            payload,
            response: &[],
            response_len: 0,
        });
    }
}
