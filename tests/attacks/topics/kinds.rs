//! The kinds of attacks over topics. Each ends when its time is up.

use crate::common::payload::Random;
use crate::common::raw::{DATA_RECORD, LINE, PADDING_RECORD, RawClient, header};
use crate::common::raw_links::ask;
use crate::common::raw_topics::{
    ARMS, ATTACHED, CURSOR, DATA, ENDED, ENTRIES, ENTRY, INTENT, Introduced, LAST, LATEST, LEFT, LOSSY,
    MAY_SLEEP, Memory, PARKED, PART, PUBLISHED, PUBLISHER_PARKED, PUBLISHERS_SEALS, Page, Part, RELIABLE,
    RawPublisher, STATE, SUBSCRIBE, TABLE, Wish,
};
use rustix::fs::{FallocateFlags, OFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_setfl};
use rustix::io::write;
use rustix::pipe::fcntl_setpipe_size;
use rustix::thread::futex;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What an attack uses, and what it has done.
pub struct Assault<'a> {
    pub client: &'a RawClient,
    pub path: &'a Path,
    pub random: &'a mut Random,
    pub until: Instant,
    /// Subscriptions and topics that it made.
    pub pairs: u64,
    /// Samples, and wakes.
    pub steps: u64,
    /// What it asked of the server besides.
    pub asked: u64,
}

impl Assault<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// A publisher's pages, as far as its subscribers have come.
    fn pages(&mut self) -> Vec<Page> {
        let mut pages = Vec::new();
        self.asked += 1;
        while let Some(part) = self.client.part(self.path) {
            if let Part::Publisher { line, page, .. } = part {
                pages.push(Page::of(&page, line));
            }
        }
        pages
    }
}

/// One publisher as the attacker subscribed to it.
pub struct Side {
    pub page: Page,
    pub part: Introduced,
    pub segment: Memory,
    position: u64,
}

type Subscribing = fn(&mut Assault<'_>, &mut [Side]);

/// What an attacker does.
pub enum Kind {
    /// It subscribes so, and does this with what it got.
    Subscriber { policy: u8, flags: u8, attack: Subscribing },
    /// It publishes a topic, and does this with it.
    Publisher { reliable: bool, attack: fn(&mut Assault<'_>, &mut RawPublisher) },
    /// It does this to the server, again and again.
    Client(fn(&mut Assault<'_>)),
}

/// Memory that is kept when all else was let go.
pub struct Kept {
    pub segment: Option<Memory>,
    pub pages: Vec<Page>,
}

pub fn called(name: &str) -> Kind {
    let subscriber = |policy, flags, attack: Subscribing| Kind::Subscriber { policy, flags, attack };
    let publisher = |attack| Kind::Publisher { reliable: false, attack };
    match name {
        "rewriter" => subscriber(RELIABLE, MAY_SLEEP, rewrite_the_page),
        "dozer" => subscriber(LOSSY, MAY_SLEEP, always_seem_to_sleep),
        "deaf" => subscriber(RELIABLE, MAY_SLEEP, |a, _| {
            while a.goes_on() {
                thread::sleep(Duration::from_millis(1));
            }
        }),
        "jumper" => subscriber(RELIABLE, MAY_SLEEP, forge_the_cursor),
        "crawler" => subscriber(RELIABLE, MAY_SLEEP, crawl),
        "waker" => subscriber(RELIABLE, MAY_SLEEP, |a, sides| {
            let pages: Vec<&Page> = sides.iter().map(|side| &side.page).collect();
            spoil_the_sleep(a, &pages);
        }),
        "kicker" => subscriber(LOSSY, MAY_SLEEP | ARMS, fill_the_pipes),
        "puncher" => subscriber(RELIABLE, MAY_SLEEP, punch_holes),
        "flooder" => Kind::Client(subscribe_without_end),
        "mute" => Kind::Client(take_and_never_answer),
        "false rewriter" => publisher(write_garbage),
        "false lapper" => publisher(lap),
        "false announcer" => publisher(announce),
        "false fidget" => publisher(change_samples),
        "false counter" => publisher(count_wrongly),
        "false idler" => Kind::Client(never_seal),
        "false ender" => publisher(end_and_go_on),
        "false waker" => publisher(|a, topic| {
            let pages = a.pages();
            for _ in 0..20 {
                topic.send(b"something to read");
            }
            spoil_the_sleep(a, &pages.iter().collect::<Vec<_>>());
        }),
        "false judge" => publisher(give_up_everyone),
        "false vanisher" => publisher(|a, topic| {
            (0..a.random.below(50)).for_each(|_| topic.send(b"the last ones"));
            if a.random.below(2) == 0 {
                topic.record(topic.tail).store(header(topic.tail, DATA_RECORD, 500), Ordering::Release);
            }
        }),
        other => panic!("no attack {other:?}"),
    }
}

// ---- by a subscriber

/// Subscribes, takes what there is, and does this with it. Returns what it keeps of it.
pub fn subscribe_and(a: &mut Assault<'_>, policy: u8, flags: u8, attack: Subscribing) -> Option<Kept> {
    a.pairs += 1;
    let Ok((id, _)) = a.client.subscribe(a.path, policy, flags, "open/**") else {
        // No more for the moment.
        thread::sleep(Duration::from_millis(1));
        return None;
    };
    let mut sides = Vec::new();
    while let Some(part) = a.client.part(a.path) {
        if let Part::Subscriber(part) = part {
            let segment = Memory::read_only(&part.segment).unwrap();
            sides.push(Side { page: Page::of(&part.page, part.line), part, segment, position: 0 });
        }
    }
    // The publisher's watcher attaches it soon.
    let soon = a.until;
    while sides.iter().any(|side| side.page.state() == 0) && Instant::now() < soon {
        thread::yield_now();
    }
    // Until the publisher has had enough of it, but not for ever.
    let patience = if policy == RELIABLE { Duration::from_secs(6) } else { Duration::ZERO };
    let longest = Instant::now() + patience;
    loop {
        attack(a, &mut sides);
        let gone = sides.iter().all(|side| side.page.state() != ATTACHED);
        if gone || Instant::now() >= longest {
            break;
        }
        a.until = Instant::now() + Duration::from_millis(20);
    }
    a.asked += 1;
    let _ = a.client.leave_topic(a.path, id);
    Some(Kept { segment: None, pages: sides.into_iter().map(|side| side.page).collect() })
}

/// A value that a word of a page may have, or nearly.
fn any_word(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next(),
        1 => random.next() % (1 << 20) * LINE,
        _ => random.next() % 4,
    }
}

fn rewrite(page: &Page, random: &mut Random) {
    for _ in 0..200 {
        let any = random.below(page.memory.len() / 8) * 8;
        page.memory.word64(any).store(any_word(random), Ordering::Relaxed);
        let own = [PARKED, CURSOR, PUBLISHER_PARKED, STATE, LEFT][random.below(5)];
        page.word64(own).store(any_word(random), Ordering::Relaxed);
    }
}

fn rewrite_the_page(a: &mut Assault<'_>, sides: &mut [Side]) {
    while a.goes_on() {
        sides.iter().for_each(|side| rewrite(&side.page, a.random));
    }
}

/// Says all the time that it sleeps, and now and then that it is elsewhere, so that it seems to get on.
fn always_seem_to_sleep(a: &mut Assault<'_>, sides: &mut [Side]) {
    while a.goes_on() {
        for side in &mut *sides {
            side.page.word32(PARKED).store(1, Ordering::Relaxed);
            if a.random.below(4) == 0 {
                side.position += LINE;
                side.page.word64(CURSOR).store(side.position, Ordering::Relaxed);
            }
        }
    }
}

/// Says that it has read what is not there yet, or that it is back where it was.
fn forge_the_cursor(a: &mut Assault<'_>, sides: &mut [Side]) {
    while a.goes_on() {
        for side in &mut *sides {
            let last = side.segment.word64(LAST).load(Ordering::Relaxed) & !1;
            let forged = match a.random.below(4) {
                0 => a.random.next(),
                1 => last + 1024 * LINE,
                2 => last.saturating_sub(a.random.next() % 100 * LINE),
                _ => last,
            };
            side.page.word64(CURSOR).store(forged, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_micros(20));
    }
}

/// Reads one line at a time, each as late as it can.
fn crawl(a: &mut Assault<'_>, sides: &mut [Side]) {
    while a.goes_on() {
        for side in &mut *sides {
            let last = side.segment.word64(LAST).load(Ordering::Relaxed) & !1;
            if side.page.word32(PUBLISHER_PARKED).load(Ordering::Relaxed) == 0
                && side.position + 900 * LINE > last
            {
                continue;
            }
            side.position = (side.position + LINE).min(last);
            side.page.word64(CURSOR).store(side.position, Ordering::Release);
            side.page.wake(PUBLISHER_PARKED);
            a.steps += 1;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Sets, clears, wakes and moves the words of both sides of each page.
fn spoil_the_sleep(a: &mut Assault<'_>, pages: &[&Page]) {
    let words: Vec<&AtomicU32> =
        pages.iter().flat_map(|page| [PARKED, PUBLISHER_PARKED].map(|word| page.word32(word))).collect();
    while a.goes_on() {
        if words.is_empty() {
            thread::yield_now();
            continue;
        }
        for _ in 0..100 {
            let (one, other) = (words[a.random.below(words.len())], words[a.random.below(words.len())]);
            match a.random.below(4) {
                0 => one.store((a.random.next() % 3) as u32, Ordering::Relaxed),
                // Waking somebody causes about as much load as a sample.
                1 => a.steps += futex::wake(one, futex::Flags::empty(), i32::MAX as u32).unwrap() as u64,
                _ => {
                    let value = one.load(Ordering::Relaxed);
                    let _ = futex::cmp_requeue(one, futex::Flags::empty(), 0, i32::MAX as u32, other, value);
                }
            }
        }
    }
}

/// Always waits in an event loop, with pipes that are full, closed, of packets or made to block.
fn fill_the_pipes(a: &mut Assault<'_>, sides: &mut [Side]) {
    let kind = a.random.below(5);
    for side in &mut *sides {
        let pipes = std::mem::take(&mut side.part.rest);
        let is_writer =
            |end: &OwnedFd| rustix::fs::fcntl_getfl(end).is_ok_and(|flags| flags.contains(OFlags::WRONLY));
        for end in pipes {
            match kind {
                0 => continue,
                1 if !is_writer(&end) => continue,
                2 => fcntl_setfl(&end, OFlags::DIRECT | OFlags::NONBLOCK).unwrap(),
                3 => fcntl_setfl(&end, OFlags::empty()).unwrap(),
                _ => _ = fcntl_setpipe_size(&end, 1 << 20),
            }
            if kind > 3 && is_writer(&end) {
                (0..70).for_each(|_| _ = write(&end, &[0; 4096]));
            }
            side.part.rest.push(end);
        }
    }
    while a.goes_on() {
        for side in &mut *sides {
            side.page.word32(PARKED).store(2, Ordering::Relaxed);
            let last = side.segment.word64(LAST).load(Ordering::Relaxed) & !1;
            side.page.word64(CURSOR).store(last, Ordering::Relaxed);
        }
    }
}

/// Punches holes into the pages that it has.
fn punch_holes(a: &mut Assault<'_>, sides: &mut [Side]) {
    while a.goes_on() {
        for side in &mut *sides {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&side.part.page, hole, 0, 4096).expect("a hole can be punched");
            // The segment is not its own.
            assert!(fallocate(&side.part.segment, hole, 0, 4096).is_err());
            side.page.word32(PARKED).store(1, Ordering::Relaxed);
        }
    }
}

/// Subscribes again and again, in every way, to everything, and hardly ever ends one.
fn subscribe_without_end(a: &mut Assault<'_>) {
    let mut ids = Vec::new();
    while a.goes_on() {
        let policy = [LOSSY, LATEST][a.random.below(2)];
        let pattern = ["**", "open/*", "open/**", "*/honest", "@ringpost/presence"][a.random.below(5)];
        a.pairs += 1;
        if let Ok((id, _)) = a.client.subscribe(a.path, policy, MAY_SLEEP, pattern) {
            ids.push(id);
        }
        if a.random.below(4) == 0 {
            a.asked += 1;
            let _ = ask(a.path, PART, &a.client.proof());
        }
    }
    for id in ids {
        let _ = a.client.leave_topic(a.path, id);
    }
}

/// Takes what it gets and forgets it, or never takes it; asks on connections whose answers it does not read.
fn take_and_never_answer(a: &mut Assault<'_>) {
    let mut lines = Vec::new();
    let mut ids = Vec::new();
    while a.goes_on() {
        let policy = [LOSSY, RELIABLE][a.random.below(2)];
        a.pairs += 1;
        if let Ok((id, _)) = a.client.subscribe(a.path, policy, MAY_SLEEP | ARMS, "open/**") {
            ids.push(id);
        }
        let what = [PART, SUBSCRIBE, PUBLISHED][a.random.below(3)];
        if let Ok(line) = crate::common::raw::try_dial(a.path) {
            let said = crate::common::raw::datagram(crate::common::raw::VERSION, what, &a.client.proof());
            let _ = rustix::net::send(&line, &said, rustix::net::SendFlags::NOSIGNAL);
            a.asked += 1;
            lines.push(line);
        }
        if lines.len() > 8 {
            lines.clear();
        }
        if ids.len() > 40 {
            ids.drain(..).for_each(|id| drop(a.client.leave_topic(a.path, id)));
        }
    }
    ids.drain(..).for_each(|id| drop(a.client.leave_topic(a.path, id)));
}

// ---- by a publisher

/// A position near the end of what was published.
fn near(topic: &RawPublisher, random: &mut Random) -> u64 {
    topic.tail.wrapping_add(random.next() % 40 * LINE).wrapping_sub(20 * LINE)
}

/// Writes any word of its memory, most of all headers, the intent, the table and the end.
fn write_garbage(a: &mut Assault<'_>, topic: &mut RawPublisher) {
    let mut pages = a.pages();
    while a.goes_on() {
        for _ in 0..10 {
            topic.send(&a.random.next().to_le_bytes());
            a.steps += 1;
        }
        for _ in 0..20 {
            garble(&topic.memory, near(topic, a.random), topic.ring_size, a.random);
        }
        pages.iter().for_each(|page| page.wake(PARKED));
        if pages.is_empty() {
            pages = a.pages();
        }
    }
}

fn garble(memory: &Memory, near: u64, ring_size: u64, random: &mut Random) {
    let word = match random.below(6) {
        0 => random.next(),
        1 => header(near, DATA_RECORD, random.next() % 2000),
        2 => header(near, PADDING_RECORD, random.next() % ring_size),
        3 => near | 1,
        4 => near.wrapping_add(random.next() % 4 * ring_size),
        _ => random.next() % 4,
    };
    let at = match random.below(8) {
        0 => INTENT,
        1 => LAST,
        2 if random.below(200) == 0 => ENDED,
        2 | 3 => TABLE + random.below(ENTRIES as usize * 2) * ENTRY / 2,
        4 => random.below(memory.len() / 8) * 8,
        _ => DATA + ((near % ring_size) & !63) as usize,
    };
    memory.word64(at).store(word, Ordering::Release);
}

/// Publishes as fast as it can, so that everybody is lapped.
fn lap(a: &mut Assault<'_>, topic: &mut RawPublisher) {
    let pages = a.pages();
    while a.goes_on() {
        for _ in 0..500 {
            topic.send(&[7; 900]);
            a.steps += 1;
        }
        pages.iter().for_each(|page| page.wake(PARKED));
    }
}

/// Announces that it will overwrite everything, again and again, and writes nothing.
fn announce(a: &mut Assault<'_>, topic: &mut RawPublisher) {
    let pages = a.pages();
    topic.send(b"the only one");
    while a.goes_on() {
        let intent = topic.memory.word64(INTENT);
        let more = if a.random.below(8) == 0 {
            u64::MAX
        } else {
            intent.load(Ordering::Relaxed).wrapping_add(topic.ring_size)
        };
        intent.store(more, Ordering::Release);
        pages.iter().for_each(|page| page.wake(PARKED));
    }
}

/// Changes payloads, lengths and headers while they are read.
fn change_samples(a: &mut Assault<'_>, topic: &mut RawPublisher) {
    let pages = a.pages();
    while a.goes_on() {
        let at = topic.tail;
        topic.send(&[1; 800]);
        a.steps += 1;
        pages.iter().for_each(|page| page.wake(PARKED));
        if topic.tail != at + 832 {
            continue;
        }
        for _ in 0..2000 {
            let len = a.random.next() % 800;
            topic.record(at).store(header(at, DATA_RECORD, len), Ordering::Relaxed);
            let word = topic.offset(at) + 8 + a.random.below(100) * 8;
            topic.memory.word64(word).store(a.random.next(), Ordering::Relaxed);
            topic.record(at).store(header(at, DATA_RECORD, 800), Ordering::Relaxed);
        }
    }
}

/// Publishes honestly, but for what its table and its last position say.
fn count_wrongly(a: &mut Assault<'_>, topic: &mut RawPublisher) {
    let pages = a.pages();
    while a.goes_on() {
        for _ in 0..200 {
            topic.send(&[3; 300]);
            a.steps += 1;
        }
        let entry = TABLE + a.random.below(ENTRIES as usize) * ENTRY;
        let wrong = topic.sequence.wrapping_add(a.random.next() % 2000).wrapping_sub(1000);
        topic.memory.word64(entry + 64).store(wrong, Ordering::Relaxed);
        if a.random.below(2) == 0 {
            let position = near(topic, a.random) | 1;
            topic.memory.word64(entry).store(position, Ordering::Release);
            topic.memory.word64(LAST).store(position, Ordering::Release);
        }
        pages.iter().for_each(|page| page.wake(PARKED));
    }
}

/// Asks for topics, and does not seal them, or not wholly, or does not say so, or says so twice.
fn never_seal(a: &mut Assault<'_>) {
    for number in 0.. {
        if !a.goes_on() {
            break;
        }
        let topic = format!("open/unsealed/{}", number % 16);
        a.pairs += 1;
        let Ok(unsealed) = a.client.ask_to_publish(a.path, &Wish::of(&topic)) else {
            thread::yield_now();
            continue;
        };
        let seals = [SealFlags::empty(), SealFlags::SEAL, SealFlags::FUTURE_WRITE, PUBLISHERS_SEALS];
        let which = a.random.below(4);
        let _ = fcntl_add_seals(&unsealed.segment, seals[which]);
        a.asked += 2;
        let said = if a.random.below(2) == 0 { a.client.say_published(a.path, unsealed.id) } else { Ok(0) };
        assert!(said.is_err() || which == 3 || said == Ok(0), "what is not sealed was published");
        let _ = a.client.leave_topic(a.path, unsealed.id);
    }
}

/// Ends, goes on, moves, and ends again.
fn end_and_go_on(a: &mut Assault<'_>, topic: &mut RawPublisher) {
    let pages = a.pages();
    while a.goes_on() {
        for _ in 0..a.random.below(20) {
            topic.send(b"not the last one");
            a.steps += 1;
        }
        topic.memory.word32(ENDED).store((a.random.next() % 4) as u32, Ordering::Release);
        pages.iter().for_each(|page| page.wake(PARKED));
    }
}

/// Tells each subscriber that it was evicted, refused, or never attached.
fn give_up_everyone(a: &mut Assault<'_>, topic: &mut RawPublisher) {
    let mut pages = a.pages();
    while a.goes_on() {
        topic.send(b"for nobody");
        a.steps += 1;
        for page in &pages {
            page.word32(STATE).store((a.random.next() % 6) as u32, Ordering::Release);
            page.wake(PARKED);
        }
        if pages.is_empty() {
            pages = a.pages();
        }
    }
}

/// Misuses memory of what has ended.
pub fn rage(kept: &Kept, random: &mut Random) {
    for page in &kept.pages {
        rewrite(page, random);
        page.wake(PARKED);
        page.wake(PUBLISHER_PARKED);
    }
    if let Some(segment) = &kept.segment {
        let near = random.next() % (1 << 20) * LINE;
        (0..200).for_each(|_| garble(segment, near, segment.len() as u64 - DATA as u64, random));
    }
    thread::yield_now();
}
