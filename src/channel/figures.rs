//! What a client and its server tell each other about their times and counts, in the second page of the
//! client's channel: the *figures*, as in the table *Figures of a client* in `docs/PROTOCOL.md`.
//!
//! The client writes all of it but three words, and may write anything there. So the server takes each value
//! for a number that the client claims: it shows the number, and uses it for nothing else.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::layout::{CHANNEL_DATA, FIGURES, Ring};
use crate::ring::{Closer, Stamps};
use crate::shm::View;
use crate::shm::backend::Ordering;
use crate::wire::Histogram;

const STAMPS: usize = FIGURES;
const WOKEN_AT: usize = FIGURES + 64;
const ANSWERED_AT: usize = FIGURES + 128;
const DELIVERED_AT: usize = FIGURES + 136;
const SAMPLES: usize = FIGURES + 192;
const OWN_WAKES: usize = FIGURES + 256;
const LINK_SERVICE: usize = OWN_WAKES + 8 * Histogram::BUCKETS;
const LINKS: usize = LINK_SERVICE + 8 * Histogram::BUCKETS;
const LINK: usize = 16;

/// What a client's publishers and subscribers did since it registered, as it says itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// Samples taken, and their bytes.
    pub(crate) taken: u64,
    pub(crate) taken_bytes: u64,
    /// Samples that were lost for its subscribers.
    pub(crate) missed: u64,
    /// Samples published, and their bytes.
    pub(crate) published: u64,
    pub(crate) published_bytes: u64,
}

/// What one end of a link did since the link began, as it says itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LinkCounts {
    /// Requests sent or served.
    pub(crate) blocks: u64,
    /// Bytes of requests sent, or of responses.
    pub(crate) bytes: u64,
}

/// Which durations a client counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durations {
    /// From the server's wake until the client is awake.
    OwnWakes,
    /// Of the service of the links that it serves.
    LinkService,
}

/// The figures in a channel, for either side.
#[derive(Clone)]
pub(crate) struct FiguresPage {
    view: View,
    closer: Closer,
}

// Relaxed: nothing else is published by these words.
impl FiguresPage {
    /// How many links of a client have counts here: those with an index below this.
    pub(crate) const LINKS: u16 = ((CHANNEL_DATA - LINKS) / LINK) as u16;

    pub(super) fn new(view: View, closer: Closer) -> FiguresPage {
        FiguresPage { view, closer }
    }

    // ---- the server's

    /// Asks the client to write when it wakes the server, and to time one service in so many; 0: it need not.
    pub(crate) fn set_stamps(&self, one_in: u32) {
        self.view.word32(STAMPS).store(one_in, Ordering::Relaxed);
    }

    /// What the client says of its publishers and subscribers.
    pub(crate) fn samples(&self) -> Samples {
        let [taken, taken_bytes, missed, published, published_bytes] =
            std::array::from_fn(|number| self.load(SAMPLES + 8 * number));
        Samples { taken, taken_bytes, missed, published, published_bytes }
    }

    /// The durations that the client says it has counted. Later counts may be less.
    pub(crate) fn durations(&self, which: Durations) -> Histogram {
        Histogram::of((0..Histogram::BUCKETS).map(|bucket| self.load(which.at() + 8 * bucket)))
    }

    /// What the client says of its link with this index; nothing from [`LINKS`](Self::LINKS) on.
    pub(crate) fn link(&self, index: u16) -> Option<LinkCounts> {
        let at = link_at(index)?;
        Some(LinkCounts { blocks: self.load(at), bytes: self.load(at + 8) })
    }

    // ---- the client's. None of it does anything in a forked child, because the page belongs to its parent.

    /// 0 if nobody looks; else the client is to time one service in so many. A server that was killed leaves
    /// anything here, so it is 0 from the end of the channel on.
    pub(crate) fn stamps(&self) -> u32 {
        if self.closer.is_closed() { 0 } else { self.view.word32(STAMPS).load(Ordering::Relaxed) }
    }

    /// Adds to what was said of publishers and subscribers. Several threads may do that at once.
    pub(crate) fn add_samples(&self, more: Samples) {
        let Samples { taken, taken_bytes, missed, published, published_bytes } = more;
        let more = [taken, taken_bytes, missed, published, published_bytes];
        for (number, more) in more.into_iter().enumerate().filter(|(_, more)| *more > 0) {
            self.add(SAMPLES + 8 * number, more);
        }
    }

    /// Counts a duration. Several threads may do that at once.
    pub(crate) fn count(&self, which: Durations, took: Duration) {
        let nanos = took.as_nanos().try_into().unwrap_or(u64::MAX);
        self.add(which.at() + 8 * Histogram::bucket(nanos), 1);
    }

    /// Says what this end of the link with this index did. Does nothing from [`LINKS`](Self::LINKS) on.
    pub(crate) fn set_link(&self, index: u16, counts: LinkCounts) {
        if let Some(at) = link_at(index)
            && !self.closer.is_forked()
        {
            self.view.word64(at).store(counts.blocks, Ordering::Relaxed);
            self.view.word64(at + 8).store(counts.bytes, Ordering::Relaxed);
        }
    }

    fn add(&self, at: usize, more: u64) {
        if !self.closer.is_forked() {
            self.view.word64(at).fetch_add(more, Ordering::Relaxed);
        }
    }

    fn load(&self, at: usize) -> u64 {
        self.view.word64(at).load(Ordering::Relaxed)
    }
}

/// Where the wakes of a ring's consumer are timed.
pub(super) fn stamps(view: View, ring: Ring) -> Stamps {
    let at = match ring {
        Ring::Request => WOKEN_AT,
        Ring::Response => ANSWERED_AT,
        Ring::Inbox => DELIVERED_AT,
    };
    Stamps::new(view, STAMPS, at)
}

impl Durations {
    fn at(self) -> usize {
        match self {
            Durations::OwnWakes => OWN_WAKES,
            Durations::LinkService => LINK_SERVICE,
        }
    }
}

fn link_at(index: u16) -> Option<usize> {
    (index < FiguresPage::LINKS).then(|| LINKS + usize::from(index) * LINK)
}

impl fmt::Debug for FiguresPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FiguresPage").field("stamps", &self.stamps()).finish_non_exhaustive()
    }
}

/// The figures of a client's newest registration, for what outlives a registration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Newest(Arc<Mutex<Option<FiguresPage>>>);

impl Newest {
    /// The client has registered.
    pub(crate) fn set(&self, page: FiguresPage) {
        if let Ok(mut newest) = self.0.lock() {
            *newest = Some(page);
        }
    }

    /// Does this with the page, unless there is none or another thread has it. So it never waits, also not in
    /// a forked child for a thread of its parent. Returns whether it was done.
    pub(crate) fn try_with(&self, act: impl FnOnce(&FiguresPage)) -> bool {
        self.0.try_lock().is_ok_and(|newest| newest.as_ref().map(act).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::tests::served;
    use crate::ring::{Consumer, Producer};
    use crate::wire::CloseReason;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    #[test]
    fn a_server_reads_what_its_client_says() {
        let (host, guest) = served();
        host.figures.set_stamps(16);
        assert_eq!(guest.figures.stamps(), 16);
        guest.closer.close_as(CloseReason::Died);
        assert_eq!(guest.figures.stamps(), 0, "the server may have been killed");
        let more = Samples { taken: 1, taken_bytes: 20, missed: 3, published: 4, published_bytes: 50 };
        guest.figures.add_samples(more);
        guest.figures.add_samples(Samples { missed: 1, ..Samples::default() });
        assert_eq!(host.figures.samples(), Samples { missed: 4, ..more });
        for (which, other) in
            [(Durations::OwnWakes, Durations::LinkService), (Durations::LinkService, Durations::OwnWakes)]
        {
            let before = host.figures.durations(other);
            for nanos in [0, 100, 100, u64::MAX] {
                guest.figures.count(which, Duration::from_nanos(nanos));
            }
            let counted: Vec<_> = host.figures.durations(which).filled().collect();
            assert_eq!(counted, [(0, 1), (Histogram::bucket(100), 2), (Histogram::BUCKETS - 1, 1)]);
            assert_eq!(host.figures.durations(other), before);
        }
        let last = FiguresPage::LINKS - 1;
        let counts = LinkCounts { blocks: 7, bytes: 700 };
        guest.figures.set_link(last, counts);
        assert_eq!(host.figures.link(last), Some(counts));
        assert_eq!(host.figures.link(0), Some(LinkCounts::default()));
        for beyond in [FiguresPage::LINKS, u16::MAX] {
            guest.figures.set_link(beyond, counts);
            assert_eq!(host.figures.link(beyond), None);
        }
    }

    /// Lets the consumer sleep until the producer has sent.
    fn wake(producer: &mut Producer, consumer: &mut Consumer) {
        let (tell, told) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let sleeper = scope.spawn(move || {
                tell.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                consumer.recv(&mut Vec::new()).unwrap()
            });
            let stat = format!("/proc/self/task/{}/stat", told.recv().unwrap());
            // Who has parked looks once more before it sleeps.
            while !producer.consumer_looks_parked()
                || !std::fs::read_to_string(&stat).unwrap().contains(") S ")
            {
                thread::yield_now();
            }
            producer.send(b"block").unwrap();
            sleeper.join().unwrap();
        });
    }

    #[test]
    fn both_sides_time_their_wakes_while_somebody_looks() {
        let (mut host, mut guest) = served();
        let counted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&counted);
        host.requests.on_wake(Arc::new(move |_| _ = count.fetch_add(1, Ordering::Relaxed)));
        let mut rounds = |looks: bool, [server, client]: [u64; 2]| {
            host.figures.set_stamps(looks.into());
            wake(&mut guest.requests, &mut host.requests);
            assert_eq!(counted.load(Ordering::Relaxed) as u64, server, "looks: {looks}");
            wake(&mut host.responses, &mut guest.responses);
            wake(&mut host.inbox, &mut guest.inbox);
            assert_eq!(host.figures.durations(Durations::OwnWakes).count(), client, "looks: {looks}");
        };
        rounds(false, [0, 0]);
        rounds(true, [1, 2]);
        rounds(false, [1, 2]);
    }

    #[test]
    fn what_outlives_a_registration_is_told_under_the_newest() {
        let newest = Newest::default();
        let count = |page: &FiguresPage| page.add_samples(Samples { taken: 1, ..Samples::default() });
        assert!(!newest.try_with(count), "not registered");
        let [(first, guest), (second, again)] = [served(), served()];
        newest.set(guest.figures.clone());
        assert!(newest.try_with(count));
        newest.set(again.figures.clone());
        assert!(newest.try_with(count));
        assert!(newest.try_with(|_| assert!(!newest.try_with(count), "it never waits")));
        assert_eq!([first, second].map(|host| host.figures.samples().taken), [1, 1]);
    }

    #[cfg(not(miri))]
    #[test]
    fn a_forked_child_says_nothing() {
        use rustix::process::{WaitOptions, waitpid};
        let (host, guest) = served();
        let child = crate::registry::fork(|| {
            guest.figures.add_samples(Samples { taken: 1, ..Samples::default() });
            guest.figures.count(Durations::OwnWakes, Duration::ZERO);
            guest.figures.set_link(0, LinkCounts { blocks: 1, bytes: 1 });
        });
        let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(host.figures.samples(), Samples::default());
        assert_eq!(host.figures.durations(Durations::OwnWakes).count(), 0);
        assert_eq!(host.figures.link(0), Some(LinkCounts::default()));
    }
}
