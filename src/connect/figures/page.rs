//! Pages of figures: what FIGURES is answered with, and what an observer makes of the answers.
//!
//! `docs/PROTOCOL.md` describes them byte by byte. What a server sends is checked as what clients send is: it
//! may be a stranger's.

use std::time::Duration;

use super::super::introduction::{push_link, take_link};
use super::super::listing::{number32, number64, push_client, take_client};
use super::super::topics::{push_topic, take_topic};
use super::types::{ClientFigures, Figures, Fill, LinkFigures, ServerFigures, TopicFigures, UserFigures};
use crate::wire::{Histogram, take};

/// What a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Server = 0,
    Users = 1,
    Clients = 2,
    Links = 3,
    Topics = 4,
}

impl Section {
    pub(crate) fn from_code(code: u8) -> Option<Section> {
        use Section::*;
        [Server, Users, Clients, Links, Topics].into_iter().find(|section| *section as u8 == code)
    }
}

/// In place of the place at which the next page starts: this is the last one.
const NO_MORE: u64 = u64::MAX;

/// In place of a worker's processor time: the system did not tell.
const NOT_TOLD: u64 = u64::MAX;

/// What a page lists.
pub(crate) trait Entry: Sized {
    /// Where it stands in the order of its section.
    fn place(&self) -> u64;
    fn push(&self, page: &mut Vec<u8>);
    fn take(bytes: &[u8]) -> Option<(Self, &[u8])>;
}

/// A page that is being made.
pub(crate) struct Page {
    bytes: Vec<u8>,
    most: usize,
}

impl Page {
    /// A page of at most so many bytes. `server` is a number that no other server at this path has.
    pub(crate) fn new(server: u64, most: usize) -> Page {
        Page { bytes: [server, NO_MORE].map(u64::to_le_bytes).concat(), most }
    }

    /// Adds an entry. Returns false if it has no room: then the next page is to begin with it.
    pub(crate) fn add(&mut self, entry: &impl Entry) -> bool {
        let before = self.bytes.len();
        entry.push(&mut self.bytes);
        let fits = self.bytes.len() <= self.most;
        if !fits {
            self.bytes.truncate(before);
        }
        fits
    }

    /// Adds those that have room. `next` is where the next page starts behind all of them.
    pub(crate) fn with(mut self, entries: &[impl Entry], next: Option<u64>) -> Vec<u8> {
        let left_out = entries.iter().find(|entry| !self.add(*entry));
        self.end(left_out.map(Entry::place).or(next))
    }

    /// The finished page, and where the next one starts, if there is one.
    pub(crate) fn end(mut self, next: Option<u64>) -> Vec<u8> {
        self.bytes[8..16].copy_from_slice(&next.unwrap_or(NO_MORE).to_le_bytes());
        self.bytes
    }
}

/// What a page holds.
struct Decoded<E> {
    server: u64,
    entries: Vec<E>,
    next: Option<u64>,
}

/// Decodes a page that was asked for from a place on; `None` if it is malformed.
///
/// The entries must be in order, and the next page must start behind them, so that no server can send an
/// endless list.
fn decode<E: Entry>(page: &[u8], from: u64) -> Option<Decoded<E>> {
    let (server, rest) = number64(page)?;
    let (next, mut rest) = number64(rest)?;
    let (mut entries, mut least) = (Vec::new(), from);
    while !rest.is_empty() {
        let entry;
        (entry, rest) = E::take(rest)?;
        if entry.place() < least {
            return None;
        }
        least = entry.place().checked_add(1)?;
        entries.push(entry);
    }
    match next {
        NO_MORE => Some(Decoded { server, entries, next: None }),
        next if next > from && next >= least => Some(Decoded { server, entries, next: Some(next) }),
        _ => None,
    }
}

/// Asks for all pages, one after the other, and puts them together. If another server answers in between, it
/// begins anew.
pub(crate) fn collect<E>(
    mut ask: impl FnMut(Section, u64) -> Result<Vec<u8>, E>,
    malformed: impl Fn() -> E,
) -> Result<Figures, E> {
    loop {
        let first = decode::<Look>(&ask(Section::Server, 0)?, 0);
        let Some(Decoded { server, entries, .. }) = first else { return Err(malformed()) };
        let Ok([look]) = <[Look; 1]>::try_from(entries) else { return Err(malformed()) };
        let mut figures = look.0;
        let users = all(&mut ask, Section::Users, server, &malformed)?;
        let clients = all(&mut ask, Section::Clients, server, &malformed)?;
        let links = all(&mut ask, Section::Links, server, &malformed)?;
        let topics = all(&mut ask, Section::Topics, server, &malformed)?;
        if let (Some(users), Some(clients), Some(links), Some(topics)) = (users, clients, links, topics) {
            figures.server.users = users;
            return Ok(Figures { clients, links, topics, ..figures });
        }
    }
}

/// All entries of a section; `None` if another server answered.
fn all<T: Entry, E>(
    ask: &mut impl FnMut(Section, u64) -> Result<Vec<u8>, E>,
    section: Section,
    server: u64,
    malformed: &impl Fn() -> E,
) -> Result<Option<Vec<T>>, E> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let page = decode(&ask(section, from)?, from).ok_or_else(malformed)?;
        if page.server != server {
            return Ok(None);
        }
        all.extend(page.entries);
        match page.next {
            None => return Ok(Some(all)),
            Some(next) => from = next,
        }
    }
}

/// The only entry of the section *server*: the figures without lists.
pub(crate) struct Look(pub(crate) Figures);

impl Entry for Look {
    fn place(&self) -> u64 {
        0
    }

    fn push(&self, page: &mut Vec<u8>) {
        let Figures { uptime, stamped, server, .. } = &self.0;
        push_duration(page, *uptime);
        page.push((*stamped).into());
        let ServerFigures { calls, messages, bytes_in, bytes_out, .. } = server;
        push_all(page, [calls, messages, bytes_in, bytes_out]);
        let ServerFigures { registered, died, violations, refused, .. } = server;
        push_all(page, [registered, died, violations, refused]);
        push_duration(page, server.cpu);
        page.extend_from_slice(&server.workers_hot.to_le_bytes());
        page.extend_from_slice(&server.workers_most.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<(Look, &[u8])> {
        let (uptime, rest) = take_duration(bytes)?;
        let ([stamped @ (0 | 1)], rest) = take(rest)? else { return None };
        let ([calls, messages, bytes_in, bytes_out], rest) = take_all(rest)?;
        let ([registered, died, violations, refused], rest) = take_all(rest)?;
        let (cpu, rest) = take_duration(rest)?;
        let (workers_hot, rest) = number32(rest)?;
        let (workers_most, rest) = number32(rest)?;
        let server = ServerFigures {
            calls,
            messages,
            bytes_in,
            bytes_out,
            registered,
            died,
            violations,
            refused,
            cpu,
            workers_hot,
            workers_most,
            users: Vec::new(),
        };
        Some((Look(Figures { uptime, stamped: stamped == 1, server, ..Figures::default() }), rest))
    }
}

impl Entry for UserFigures {
    fn place(&self) -> u64 {
        self.uid.into()
    }

    fn push(&self, page: &mut Vec<u8>) {
        let UserFigures { uid, asking, clients, ring_bytes, spinning, links, topics, subscriptions } = *self;
        for number in [uid, asking, clients, spinning, links, topics, subscriptions] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        page.extend_from_slice(&ring_bytes.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<(UserFigures, &[u8])> {
        let (uid, rest) = number32(bytes)?;
        let (asking, rest) = number32(rest)?;
        let (clients, rest) = number32(rest)?;
        let (spinning, rest) = number32(rest)?;
        let (links, rest) = number32(rest)?;
        let (topics, rest) = number32(rest)?;
        let (subscriptions, rest) = number32(rest)?;
        let (ring_bytes, rest) = number64(rest)?;
        let user = UserFigures { uid, asking, clients, ring_bytes, spinning, links, topics, subscriptions };
        Some((user, rest))
    }
}

impl Entry for ClientFigures {
    fn place(&self) -> u64 {
        self.info.key.slot().into()
    }

    fn push(&self, page: &mut Vec<u8>) {
        push_client(page, &self.info);
        for fill in [self.requests, self.responses, self.inbox] {
            push_all(page, [&fill.used, &fill.size]);
        }
        page.extend_from_slice(&self.waiting_senders.to_le_bytes());
        let cpu = self.cpu.map_or(NOT_TOLD, |cpu| nanoseconds(cpu).min(NOT_TOLD - 1));
        push_all(page, [&cpu, &self.taken, &self.missed, &self.published]);
        for histogram in [&self.service, &self.wake, &self.own_wake, &self.link_service] {
            push_histogram(page, histogram);
        }
    }

    fn take(bytes: &[u8]) -> Option<(ClientFigures, &[u8])> {
        let (info, rest) = take_client(bytes)?;
        let (numbers, rest) = take_all::<6>(rest)?;
        let fill = |number: usize| Fill { used: numbers[2 * number], size: numbers[2 * number + 1] };
        let (waiting_senders, rest) = number32(rest)?;
        let ([cpu, taken, missed, published], rest) = take_all(rest)?;
        let (service, rest) = take_histogram(rest)?;
        let (wake, rest) = take_histogram(rest)?;
        let (own_wake, rest) = take_histogram(rest)?;
        let (link_service, rest) = take_histogram(rest)?;
        let client = ClientFigures {
            info,
            requests: fill(0),
            responses: fill(1),
            inbox: fill(2),
            waiting_senders,
            cpu: (cpu != NOT_TOLD).then(|| Duration::from_nanos(cpu)),
            service,
            wake,
            own_wake,
            link_service,
            taken,
            missed,
            published,
        };
        Some((client, rest))
    }
}

impl Entry for LinkFigures {
    fn place(&self) -> u64 {
        self.info.id
    }

    fn push(&self, page: &mut Vec<u8>) {
        push_link(page, &self.info);
        push_all(page, [&self.requests, &self.bytes_out, &self.served, &self.bytes_in]);
    }

    fn take(bytes: &[u8]) -> Option<(LinkFigures, &[u8])> {
        let (info, rest) = take_link(bytes)?;
        let ([requests, bytes_out, served, bytes_in], rest) = take_all(rest)?;
        Some((LinkFigures { info, requests, bytes_out, served, bytes_in }, rest))
    }
}

impl Entry for TopicFigures {
    fn place(&self) -> u64 {
        self.info.id
    }

    fn push(&self, page: &mut Vec<u8>) {
        push_topic(page, &self.info);
        push_all(page, [&self.samples, &self.bytes]);
    }

    fn take(bytes: &[u8]) -> Option<(TopicFigures, &[u8])> {
        let (info, rest) = take_topic(bytes)?;
        let ([samples, bytes], rest) = take_all(rest)?;
        Some((TopicFigures { info, samples, bytes }, rest))
    }
}

fn push_all<const N: usize>(page: &mut Vec<u8>, numbers: [&u64; N]) {
    numbers.iter().for_each(|number| page.extend_from_slice(&number.to_le_bytes()));
}

fn take_all<const N: usize>(bytes: &[u8]) -> Option<([u64; N], &[u8])> {
    let (mut numbers, mut rest) = ([0; N], bytes);
    for number in &mut numbers {
        (*number, rest) = number64(rest)?;
    }
    Some((numbers, rest))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn push_duration(page: &mut Vec<u8>, duration: Duration) {
    page.extend_from_slice(&nanoseconds(duration).to_le_bytes());
}

fn take_duration(bytes: &[u8]) -> Option<(Duration, &[u8])> {
    let (nanoseconds, rest) = number64(bytes)?;
    Some((Duration::from_nanos(nanoseconds), rest))
}

/// How many steps hold durations, then each: its number, and its count in groups of seven bits, the lowest
/// first, each but the last with the highest bit set.
fn push_histogram(page: &mut Vec<u8>, histogram: &Histogram) {
    page.push(histogram.filled().count() as u8);
    for (bucket, mut count) in histogram.filled() {
        page.push(bucket as u8);
        while count > 0x7f {
            page.push(count as u8 | 0x80);
            count >>= 7;
        }
        page.push(count as u8);
    }
}

fn take_histogram(bytes: &[u8]) -> Option<(Histogram, &[u8])> {
    let ([filled], mut rest) = take(bytes)?;
    let (mut counts, mut least) = ([0; Histogram::BUCKETS], 0);
    for _ in 0..filled {
        let ([bucket], behind) = take(rest)?;
        let bucket = usize::from(bucket);
        let count = (bucket >= least).then_some(counts.get_mut(bucket)?)?;
        (*count, rest) = take_count(behind)?;
        least = bucket + 1;
    }
    Some((Histogram::of(counts), rest))
}

/// `None` for 0, and for what is longer than it must be.
fn take_count(mut bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut count = 0;
    for shift in (0..64).step_by(7) {
        let [byte];
        ([byte], bytes) = take(bytes)?;
        let part = u64::from(byte & 0x7f);
        count |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return (byte != 0).then_some((count, bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::{LinkInfo, TopicInfo};
    use crate::registry::{ClientInfo, ClientState, Counters};
    use crate::wire::{Key, Name, Topic};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn any_histogram() -> impl Strategy<Value = Histogram> {
        vec(prop_oneof![Just(0), 1..300_u64, any::<u64>()], 0..=Histogram::BUCKETS).prop_map(Histogram::of)
    }

    fn client(slot: u16) -> ClientFigures {
        let info = ClientInfo {
            name: Name::new(&"ü".repeat(32)).unwrap(),
            key: Key::new(slot, 1, [2; 10]),
            state: ClientState::Live,
            pid: 1,
            uid: 2,
            gid: 3,
            registered: SystemTime::UNIX_EPOCH,
            counters: Counters::default(),
            serves: true,
            links: 9,
        };
        ClientFigures {
            info,
            requests: Fill { used: 1, size: 2 },
            responses: Fill { used: 3, size: 4 },
            inbox: Fill { used: 5, size: 6 },
            waiting_senders: 7,
            cpu: None,
            service: Histogram::default(),
            wake: Histogram::default(),
            own_wake: Histogram::default(),
            link_service: Histogram::default(),
            taken: 8,
            missed: 9,
            published: 10,
        }
    }

    fn any_client() -> impl Strategy<Value = ClientFigures> {
        let histograms = [any_histogram(), any_histogram(), any_histogram(), any_histogram()];
        (any::<u16>(), any::<[u64; 9]>(), any::<Option<u32>>(), histograms).prop_map(
            |(slot, numbers, cpu, [service, wake, own_wake, link_service])| {
                let fill = |number| Fill { used: numbers[number], size: numbers[number + 1] };
                ClientFigures {
                    requests: fill(0),
                    responses: fill(2),
                    inbox: fill(4),
                    waiting_senders: slot.into(),
                    cpu: cpu.map(|cpu| Duration::from_nanos(cpu.into())),
                    service,
                    wake,
                    own_wake,
                    link_service,
                    taken: numbers[6],
                    missed: numbers[7],
                    published: numbers[8],
                    ..client(slot)
                }
            },
        )
    }

    fn link(id: u64) -> LinkFigures {
        let [caller, callee] = ["a", "b"].map(|name| Name::new(name).unwrap());
        let info = LinkInfo { id, caller, callee, age: Duration::from_millis(id) };
        LinkFigures { info, requests: id, bytes_out: 2, served: 3, bytes_in: u64::MAX }
    }

    fn topic(id: u64) -> TopicFigures {
        let info = TopicInfo {
            id,
            topic: Topic::new("a/b").unwrap(),
            publisher: Name::new("x").unwrap(),
            subscriptions: 1,
            age: Duration::ZERO,
            ring_size: 4096,
        };
        TopicFigures { info, samples: 7, bytes: 8 }
    }

    fn look(calls: u64) -> Figures {
        let server = ServerFigures {
            calls,
            messages: 1,
            bytes_in: 2,
            bytes_out: 3,
            registered: 4,
            died: 5,
            violations: 6,
            refused: 7,
            cpu: Duration::from_nanos(8),
            workers_hot: 9,
            workers_most: 10,
            users: vec![],
        };
        Figures { uptime: Duration::from_nanos(11), stamped: true, server, ..Figures::default() }
    }

    /// What a server answers that has all of these.
    fn answer(server: u64, figures: &Figures, section: Section, from: u64, most: usize) -> Vec<u8> {
        fn behind<E: Entry + Clone>(entries: &[E], from: u64) -> Vec<E> {
            entries.iter().filter(|entry| entry.place() >= from).cloned().collect()
        }
        let page = Page::new(server, most);
        match section {
            Section::Server => page.with(&[Look(figures.clone())], None),
            Section::Users => page.with(&behind(&figures.server.users, from), None),
            Section::Clients => page.with(&behind(&figures.clients, from), None),
            Section::Links => page.with(&behind(&figures.links, from), None),
            Section::Topics => page.with(&behind(&figures.topics, from), None),
        }
    }

    #[test]
    fn what_comes_in_many_pages_is_put_together() {
        let mut figures = look(1);
        let user = |uid| UserFigures { uid, ring_bytes: u64::MAX, subscriptions: 3, ..Default::default() };
        figures.server.users = vec![user(0), user(1000), user(u32::MAX)];
        figures.clients = [0, 1, 9, u16::MAX].map(client).into();
        figures.links = [0, 7, u64::MAX - 1].map(link).into();
        figures.topics = [3, 4].map(topic).into();
        for most in [300, 600, 16_000] {
            let mut pages = 0;
            let collected = collect(
                |section, from| {
                    pages += 1;
                    Ok::<_, ()>(answer(5, &figures, section, from, most))
                },
                || (),
            );
            assert_eq!(collected, Ok(figures.clone()));
            assert!((most == 16_000) == (pages == 5), "{pages}");
        }
    }

    #[test]
    fn figures_of_two_servers_are_not_mixed() {
        let [mut first, mut second] = [look(1), look(2)];
        (first.clients, second.clients) = (vec![client(1)], vec![client(2)]);
        let mut asked = 0;
        let collected = collect(
            |section, from| {
                asked += 1;
                let (server, figures) = if asked <= 2 { (1, &first) } else { (2, &second) };
                Ok::<_, ()>(answer(server, figures, section, from, 9999))
            },
            || (),
        );
        assert_eq!(collected, Ok(second));
    }

    #[test]
    fn no_server_can_send_an_endless_page_or_list() {
        let page = |slots: &[u16], next| {
            let clients: Vec<_> = slots.iter().map(|slot| client(*slot)).collect();
            decode::<ClientFigures>(&Page::new(1, 16_000).with(&clients, next), 4).is_some()
        };
        assert!(page(&[4, 5, 9], Some(10)) && page(&[], Some(5)) && page(&[u16::MAX], None));
        assert!(!page(&[], Some(4)) && !page(&[7], Some(7)) && !page(&[3], None) && !page(&[5, 5], None));
        let twice = Page::new(1, 16_000).with(&[Look(look(1)), Look(look(2))], None);
        assert!(decode::<Look>(&twice, 0).is_none());
        let none = Page::new(1, 16_000).end(None);
        assert_eq!(collect(|_, _| Ok(none.clone()), || "malformed"), Err("malformed"));
    }

    #[test]
    fn the_largest_client_fits_a_page() {
        let full = Histogram::of([u64::MAX; Histogram::BUCKETS]);
        let [service, wake, own_wake, link_service] = [(); 4].map(|()| full.clone());
        let largest = ClientFigures { service, wake, own_wake, link_service, ..client(1) };
        assert!(Page::new(1, crate::connect::MOST_BYTES / 2).add(&largest));
    }

    #[test]
    fn a_count_has_one_form() {
        assert_eq!(take_count(&[0x7f]), Some((0x7f, &[][..])));
        assert_eq!(take_count(&[0x80, 1, 9]), Some((0x80, &[9][..])));
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(take_count(&most), Some((u64::MAX, &[][..])));
        let too_much = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3];
        for malformed in [&[0][..], &[], &[0x80], &[0x80, 0], &too_much, &[0x80; 12]] {
            assert_eq!(take_count(malformed), None, "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_page_of_figures_decodes_to_what_was_encoded(
            mut clients in vec(any_client(), 0..3),
            at: prop::sample::Index,
            byte: u8,
            noise in vec(any::<u8>(), 0..300),
        ) {
            clients.sort_by_key(Entry::place);
            clients.dedup_by_key(|client| client.place());
            let page = Page::new(1, usize::MAX).with(&clients, None);
            let decoded = decode(&page, 0);
            prop_assert_eq!(decoded.map(|page| page.entries), Some(clients));
            let mut changed = page;
            let at = at.index(changed.len());
            changed[at] = byte;
            for bytes in [changed, noise] {
                if let Some(Decoded { server, entries, next }) = decode::<ClientFigures>(&bytes, 0) {
                    let again = Page::new(server, usize::MAX).with(&entries, next);
                    // The state of a client has one byte, of which all values but one mean the same.
                    prop_assert_eq!(again.len(), bytes.len());
                }
                let _ = (decode::<Look>(&bytes, 0), decode::<UserFigures>(&bytes, 0));
                let _ = (decode::<LinkFigures>(&bytes, 0), decode::<TopicFigures>(&bytes, 0));
            }
        }
    }
}
