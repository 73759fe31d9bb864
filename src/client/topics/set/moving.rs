//! From one registration to the next: what the former server knew, who brings it to the next one, and what a
//! server did not take.

#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{State, Topics};
use crate::client::topics::publication::Publication;
use crate::client::topics::renewal;
use crate::client::topics::subscription::Subscription;
use crate::os::futex::{self, Scope, Wait};

/// What no server knows.
#[derive(Default)]
pub(in crate::client::topics) struct Homeless {
    pub(in crate::client::topics) publications: Vec<Arc<Publication>>,
    pub(in crate::client::topics) subscriptions: Vec<Arc<Subscription>>,
}

impl Topics {
    /// Waits until no other thread does what this flag stands for. `None` if one still does at the deadline.
    pub(super) fn take_turn(&self, of: Flag, deadline: Instant) -> Option<Turn<'_>> {
        loop {
            let seen = self.changed.load(Ordering::Acquire);
            if !std::mem::replace(of(&mut self.lock()), true) {
                return Some(Turn { topics: self, of });
            }
            if Instant::now() >= deadline {
                return None;
            }
            let wait = Wait { word: &self.changed, expected: seen, scope: Scope::Private };
            futex::wait(&[wait], Some(deadline));
        }
    }

    /// To be had while publications and subscriptions are brought to another server.
    pub(in crate::client::topics) fn begin_to_place(&self, deadline: Instant) -> Option<Turn<'_>> {
        self.take_turn(|state| &mut state.placing, deadline)
    }

    /// Everything that the former server knew, for the server of a new registration. What is still being made
    /// is left out: who makes it notices that, and asks again.
    pub(in crate::client::topics) fn move_out(&self) -> Homeless {
        let (homeless, bell) = {
            let mut state = self.lock();
            let mut homeless = std::mem::take(&mut state.homeless);
            let publications = state.publications.drain().map(|(_, publication)| publication);
            homeless.publications.extend(publications.filter(|publication| publication.is_made()));
            let subscriptions = state.subscriptions.drain().map(|(_, subscription)| subscription);
            homeless.subscriptions.extend(subscriptions.filter(|subscription| subscription.is_made()));
            state.session = Weak::new();
            (homeless, state.bell.take())
        };
        if let Some(bell) = bell {
            bell.end();
        }
        homeless
    }

    /// What the server of this registration does not know yet.
    pub(in crate::client::topics) fn take_homeless(&self) -> Homeless {
        std::mem::take(&mut self.lock().homeless)
    }

    /// It is made: its publisher has it, and it goes on with another registration. If this one has ended
    /// already, that is for the next one to do.
    pub(in crate::client::topics) fn publication_is_made(self: &Arc<Self>, publication: &Arc<Publication>) {
        let mut state = self.lock();
        publication.is_made_now();
        match state.ended {
            Some(reason) => publication.close(reason),
            None => state.keep_publication(publication),
        }
        drop(state);
        self.see_to_the_homeless();
    }

    /// The same of a subscription.
    pub(in crate::client::topics) fn subscription_is_made(
        self: &Arc<Self>,
        subscription: &Arc<Subscription>,
    ) {
        let mut state = self.lock();
        subscription.is_made_now();
        match state.ended {
            Some(reason) => subscription.close(reason),
            None => state.keep_subscription(subscription),
        }
        drop(state);
        self.see_to_the_homeless();
    }

    /// If the server does not know it, it is tried again later.
    pub(in crate::client::topics) fn keep_publication(&self, publication: &Arc<Publication>) {
        self.lock().keep_publication(publication);
    }

    /// The same of a subscription.
    pub(in crate::client::topics) fn keep_subscription(&self, subscription: &Arc<Subscription>) {
        self.lock().keep_subscription(subscription);
    }

    /// Whether there is nothing for which the client has to be registered.
    pub(in crate::client::topics) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.ended.is_some() || !state.has_any()
    }

    /// If something is to be brought to a server and no thread does that, one begins.
    pub(in crate::client::topics) fn see_to_the_homeless(self: &Arc<Self>) {
        let reconnector = {
            let mut state = self.lock();
            let reconnector = state.reconnector.upgrade();
            if state.registering
                || state.homeless.is_empty()
                || state.ended.is_some()
                || reconnector.is_none()
            {
                return;
            }
            state.registering = true;
            reconnector
        };
        if let Some(reconnector) = reconnector {
            renewal::begin(Arc::downgrade(self), &reconnector);
        }
    }

    /// The thread that registers the client again is about to end. Returns false if something is still to be
    /// done.
    pub(in crate::client::topics) fn stops_registering(&self) -> bool {
        let mut state = self.lock();
        let registered = state.session.upgrade().is_some_and(|session| session.closer.reason().is_none());
        let over = state.ended.is_some() || state.is_dry || !state.has_any();
        state.registering = !(over || registered && state.homeless.is_empty());
        !state.registering
    }
}

impl State {
    fn keep_publication(&mut self, publication: &Arc<Publication>) {
        let mut known = self.publications.values().chain(&self.homeless.publications);
        if !known.any(|known| Arc::ptr_eq(known, publication)) {
            self.homeless.publications.push(Arc::clone(publication));
        }
    }

    fn keep_subscription(&mut self, subscription: &Arc<Subscription>) {
        let mut known = self.subscriptions.values().chain(&self.homeless.subscriptions);
        if !known.any(|known| Arc::ptr_eq(known, subscription)) {
            self.homeless.subscriptions.push(Arc::clone(subscription));
        }
    }
}

impl Homeless {
    pub(in crate::client::topics) fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.subscriptions.is_empty()
    }
}

/// One of the flags of which one thread at a time has the turn.
type Flag = fn(&mut State) -> &mut bool;

/// A turn, until this is dropped.
pub(in crate::client::topics) struct Turn<'t> {
    topics: &'t Topics,
    of: Flag,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *(self.of)(&mut self.topics.lock()) = false;
        self.topics.tell_change();
    }
}
