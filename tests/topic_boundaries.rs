//! Tests of what a party of a topic can not access: subscribers that would write into the segment, users to
//! whom a topic is not given, and what was in memory before.

#![allow(unsafe_code, reason = "system calls on memory that must refuse them")]

mod common;

use common::raw::RawClient;
use common::raw_links::ask;
use common::raw_topics::{
    DATA, INTENT, Introduced, LEAVE, LOSSY, MAY_SLEEP, Memory, PART, Page, Part, RELIABLE, RawPublisher,
    Wish, all_topics,
};
use common::role::{self, Role, Stage, say, setting};
use common::users::is_root;
use common::{Bus, Place, eventually};
use ringpost::Server;
use rustix::fs::{
    FallocateFlags, Mode, OFlags, SealFlags, XattrFlags, fallocate, fchmod, fcntl_add_seals, fcntl_getfl,
    fcntl_setfl, fsetxattr, fstat, ftruncate, open, sendfile,
};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

const OTHER_USER: u32 = 65_532;
const THIRD_USER: u32 = 65_531;

#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "reader" => read_and_reach_in(&stage),
        "asker" => ask_for_a_topic(&stage),
        "whole bus" => serve_and_publish(&stage),
        other => panic!("no role {other:?}"),
    }
}

/// Starts a role as a user, if this process is root. `None` if that user cannot execute this program.
fn start_as(user: Option<u32>, role: &str, settings: &[(&str, &str)]) -> Option<Role> {
    let started = Role::start_as(role, settings, |command| {
        if let Some(user) = user.filter(|_| is_root()) {
            command.uid(user).gid(user).current_dir("/");
        }
    });
    if let Err(error) = &started {
        eprintln!("skipped: another user cannot run this program: {error}");
    }
    started.ok()
}

/// A bus to which these users may connect.
fn open_bus(users: &[u32]) -> Bus {
    let bus = Bus::with(|builder| users.iter().fold(builder, |builder, user| builder.allow_user(*user)));
    fs::set_permissions(bus.place.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    bus
}

/// Takes the next subscriber's part, which must come.
fn await_part(client: &RawClient, path: &Path) -> Introduced {
    let mut part = None;
    eventually("a part comes", || {
        part = client.part(path);
        part.is_some()
    });
    part.unwrap().subscribers()
}

// ---- a subscriber's descriptors

/// Tries every known way to write into a segment by this descriptor, and returns what succeeded.
fn reach_in(segment: &OwnedFd, len: usize) -> Vec<&'static str> {
    let mut got = Vec::new();
    let mut note = |what, succeeded: bool| {
        if succeeded {
            got.push(what);
        }
    };
    let number = segment.as_raw_fd();
    let map = |protection| {
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else refers to it.
        let at = unsafe { libc::mmap(null_mut(), len, protection, libc::MAP_SHARED, number, 0) };
        (at != libc::MAP_FAILED).then_some(at)
    };
    for (what, protection) in [
        ("a writable mapping", libc::PROT_READ | libc::PROT_WRITE),
        ("a mapping to write only", libc::PROT_WRITE),
        ("a mapping to execute", libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC),
    ] {
        note(what, map(protection).is_some());
    }
    let at = map(libc::PROT_READ).expect("it can be read");
    for (what, protection) in [
        ("mprotect", libc::PROT_READ | libc::PROT_WRITE),
        ("mprotect to execute", libc::PROT_WRITE | libc::PROT_EXEC),
    ] {
        // SAFETY: the whole mapping made above, through which nothing is accessed.
        note(what, unsafe { libc::mprotect(at, len, protection) } == 0);
    }
    for (what, advice) in [
        ("MADV_REMOVE", libc::MADV_REMOVE),
        ("MADV_POPULATE_WRITE", libc::MADV_POPULATE_WRITE),
        ("MADV_FREE", libc::MADV_FREE),
    ] {
        // SAFETY: as above. What it may drop is the file's to keep.
        note(what, unsafe { libc::madvise(at, len, advice) } == 0);
    }
    // SAFETY: as above. A private copy may be written, and is no longer the file's.
    let moved = unsafe { libc::mremap(at, len, len, libc::MREMAP_MAYMOVE) };
    note("mremap moves it elsewhere", moved != at);
    // By the kernel's own view of this process, which passes over protections of private mappings.
    if let Ok(memory) = fs::OpenOptions::new().write(true).open("/proc/self/mem") {
        note("/proc/self/mem", memory.write_at(b"reached", at as u64 + DATA as u64).is_ok());
    }
    let (bytes, place) = (*b"reached", at.wrapping_byte_add(DATA));
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: place, iov_len: bytes.len() };
    let own = std::process::id() as libc::pid_t;
    // SAFETY: both ranges are mapped; the second one cannot be written, which is what is tried.
    let written = unsafe { libc::process_vm_writev(own, &raw const local, 1, &raw const remote, 1, 0) };
    note("process_vm_writev", written > 0);
    // SAFETY: the mapping made above, to which nothing refers any more.
    unsafe { libc::munmap(at, len) };

    note("a write", rustix::io::write(segment, b"reached").is_ok());
    note("a write at an offset", rustix::io::pwrite(segment, b"reached", DATA as u64).is_ok());
    let own_program = fs::File::open("/proc/self/exe").unwrap();
    note("sendfile", sendfile(segment, &own_program, None, 4096).is_ok());
    note("copy_file_range", rustix::fs::copy_file_range(&own_program, None, segment, None, 4096).is_ok());
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (what, flags, from, bytes) in [
        ("a hole", hole, 0, len as u64),
        ("a hole of a page", hole, DATA as u64, 4096),
        ("a range of zeros", FallocateFlags::ZERO_RANGE, 0, len as u64),
        ("a collapsed range", FallocateFlags::COLLAPSE_RANGE, 0, 4096),
        ("an inserted range", FallocateFlags::INSERT_RANGE, 0, 4096),
        ("allocation", FallocateFlags::empty(), 0, len as u64),
        ("more allocation", FallocateFlags::KEEP_SIZE, 0, 2 * len as u64),
    ] {
        note(what, fallocate(segment, flags, from, bytes).is_ok());
    }
    for bytes in [0, 1, len as u64 - 1, len as u64 + 1] {
        note("another length", ftruncate(segment, bytes).is_ok());
    }
    for seals in [SealFlags::WRITE, SealFlags::FUTURE_WRITE, SealFlags::SEAL, SealFlags::EXEC] {
        note("another seal", fcntl_add_seals(segment, seals).is_ok());
    }
    let attributed = fsetxattr(segment, c"user.reached", b"in", XattrFlags::empty());
    note("an attribute", attributed.is_ok());
    // `F_SETFL` takes the flags, and leaves out those of access.
    let _ = fcntl_setfl(segment, OFlags::RDWR | OFlags::APPEND);
    note("flags of access", fcntl_getfl(segment).unwrap() & OFlags::RWMODE != OFlags::RDONLY);
    got
}

/// What another descriptor of the same file, opened to write, would bring.
fn reopen(segment: &OwnedFd, len: usize) -> Vec<&'static str> {
    let mut got = Vec::new();
    let place = format!("/proc/self/fd/{}", segment.as_raw_fd());
    for flags in [OFlags::RDWR, OFlags::WRONLY, OFlags::RDWR | OFlags::TRUNC] {
        let Ok(reopened) = open(&place, flags | OFlags::CLOEXEC, Mode::empty()) else { continue };
        got.push("reopened");
        if flags == OFlags::RDWR {
            got.extend(reach_in(&reopened, len).into_iter().filter(|what| *what != "flags of access"));
        } else if rustix::io::write(&reopened, b"reached").is_ok() {
            got.push("a write");
        }
    }
    got
}

/// The role of a subscriber's process: says what it got at by its descriptors.
fn read_and_reach_in(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let client = RawClient::register(&path, "reader");
    let (_, publishers) = client.subscribe(&path, LOSSY, MAY_SLEEP, "prices/**").unwrap();
    assert_eq!(publishers, 1);
    let part = await_part(&client, &path);
    let len = fstat(&part.segment).unwrap().st_size as usize;
    assert_eq!(len as u64, DATA as u64 + part.ring_size);
    let memory = Memory::read_only(&part.segment).unwrap();
    assert!(memory.bytes().windows(7).any(|seen| seen == b"honest!"), "it can be read");
    // Its own page it may write: that is what it is for.
    Page::of(&part.page, part.line).word64(common::raw_topics::CURSOR).store(64, Ordering::Relaxed);

    let mut direct = reach_in(&part.segment, len);
    direct.extend(reopen(&part.segment, len));
    say(format_args!("direct {}", direct.join(", ")));
    let mode = fchmod(&part.segment, Mode::from_raw_mode(0o666)).is_ok();
    say(format_args!("mode {mode}"));
    say(format_args!("then {}", reopen(&part.segment, len).join(", ")));
    stage.await_order("end");
}

/// What the file's owner and root may do, because they may change its mode: no byte is written by it, and its
/// length and seals stay. To allocate pages is to use what the topic was charged for anyway.
const OWNERS: [&str; 4] = ["reopened", "allocation", "an attribute", "flags of access"];

/// `owner`: this user, or root, who may change the mode of what the server has made.
fn only_read(path: &Path, user: Option<u32>, owner: bool) {
    let publisher = RawClient::register(path, "publisher");
    let wish = Wish { ring_size: 65_536, ..Wish::of("prices/AAPL") };
    let mut topic = publisher.publish_topic(path, &wish).unwrap();
    for _ in 0..700 {
        topic.send(b"honest!");
    }
    let before = (topic.memory.bytes(), fstat(&topic.segment).unwrap());
    let Some(mut reader) = start_as(user, "reader", &[("PATH", path.to_str().unwrap())]) else { return };
    let said = |text: String| text.split(", ").map(str::to_owned).filter(|word| !word.is_empty()).collect();
    let direct: Vec<String> = said(reader.hear("direct"));
    let mode = reader.hear("mode");
    let then: Vec<String> = said(reader.hear("then"));
    println!("user {user:?} got {direct:?}; may change the mode: {mode}; then {then:?}");
    let allowed = |what: &&String| owner && OWNERS.contains(&what.as_str());
    let wrong: Vec<&String> = direct.iter().chain(&then).filter(|what| !allowed(what)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(owner || mode == "false", "another user changed the mode");
    let (bytes, found) = (topic.memory.bytes(), fstat(&topic.segment).unwrap());
    assert!(bytes == before.0, "bytes were changed");
    assert_eq!(found.st_size, before.1.st_size);
    if !owner {
        assert_eq!(found.st_blocks, before.1.st_blocks, "pages came or went");
    }
    reader.tell("end");
    reader.end();
}

#[test]
fn a_subscriber_of_another_user_can_only_read() {
    if !is_root() {
        return eprintln!("skipped: only root can start another user's process");
    }
    let bus = open_bus(&[OTHER_USER]);
    only_read(bus.path(), Some(OTHER_USER), false);
}

#[test]
fn a_subscriber_of_the_same_user_cannot_write() {
    let bus = Bus::start();
    only_read(bus.path(), None, true);
}

/// The same where server, publisher and subscriber all belong to one user without privileges.
#[test]
fn a_subscriber_without_privileges_cannot_write() {
    let place = Place::new();
    if is_root() {
        chown(place.directory.path(), Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    }
    let settings = [("PATH", place.path.to_str().unwrap())];
    let Some(mut bus) = start_as(Some(OTHER_USER), "whole bus", &settings) else { return };
    bus.hear("in order");
}

fn serve_and_publish(_: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let _server = Server::builder(&path).start().unwrap();
    only_read(&path, None, true);
    say("in order");
}

/// The server keeps a descriptor of each topic, by which nothing can be written either. Publishers and
/// subscribers of the library keep none.
#[test]
fn descriptors_of_topics_that_are_kept_can_only_be_read() {
    let bus = Bus::start();
    let publisher = RawClient::register(bus.path(), "publisher");
    let topic = publisher.publish_topic(bus.path(), &Wish::of("prices/AAPL")).unwrap();
    let file = |fd: &Path| {
        let found = fs::metadata(fd).ok()?;
        Some((std::os::unix::fs::MetadataExt::dev(&found), std::os::unix::fs::MetadataExt::ino(&found)))
    };
    let of = |number: i32| PathBuf::from(format!("/proc/self/fd/{number}"));
    let own = topic.segment.as_raw_fd();
    let wanted = file(&of(own)).unwrap();
    let mut kept = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        if number == own || file(&of(number)) != Some(wanted) {
            continue;
        }
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = OFlags::from_bits_retain(u32::from_str_radix(flags, 8).unwrap());
        assert_eq!(flags & OFlags::RWMODE, OFlags::RDONLY, "{info}");
        assert!(flags.contains(OFlags::CLOEXEC), "{info}");
        kept += 1;
    }
    assert_eq!(kept, 1, "the server's");
}

/// A publisher that does not seal its segment, or not with all seals, or puts something else in its place, is
/// not a publisher.
#[test]
fn a_segment_that_is_not_sealed_is_given_to_nobody() {
    let bus = Bus::start();
    let path = bus.path();
    let publisher = RawClient::register(path, "publisher");
    let reader = RawClient::register(path, "reader");
    reader.subscribe(path, LOSSY, MAY_SLEEP, "**").unwrap();
    for seals in [SealFlags::empty(), SealFlags::SEAL] {
        let unsealed = publisher.ask_to_publish(path, &Wish::of("prices/AAPL")).unwrap();
        fcntl_add_seals(&unsealed.segment, seals).unwrap();
        let (_, text) = publisher.say_published(path, unsealed.id).unwrap_err();
        assert!(text.contains("seal"), "{text}");
        assert!(reader.part(path).is_none(), "{seals:?}");
        assert!(all_topics(path).is_empty(), "{seals:?}");
        // It can be tried again, unless it was given up by that.
        let _ = publisher.leave_topic(path, unsealed.id);
    }
    let mut topic = publisher.publish_topic(path, &Wish::of("prices/AAPL")).unwrap();
    topic.send(b"honest!");
    assert_eq!(await_part(&reader, path).topic, "prices/AAPL");
}

// ---- users to whom a topic is not given

/// The role of a client that looks for a topic in every way, and says which samples' publishers it got.
fn ask_for_a_topic(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let client = RawClient::register(&path, "asker");
    let bell = client.attend(&path);
    let mut matched = 0;
    for pattern in ["**", "secret/plan", "secret/*"] {
        matched += client.subscribe(&path, LOSSY, MAY_SLEEP, pattern).unwrap().1;
        matched += client.subscribe(&path, RELIABLE, MAY_SLEEP, pattern).unwrap().1;
    }
    say(format_args!("matched {matched}"));
    loop {
        match stage.order().as_str() {
            "look" => {
                let mut got = Vec::new();
                while let Some(part) = client.part(&path) {
                    if let Part::Subscriber(introduced) = part {
                        got.push(introduced.topic);
                    }
                }
                got.sort_unstable();
                say(format_args!("got {}", got.join(" ")));
            }
            // With another's number and another's proof.
            "meddle" => {
                let id: u64 = stage.order().parse().unwrap();
                let ended = client.leave_topic(&path, id).is_ok();
                let mut wrong = client.proof();
                wrong[31] ^= 1;
                let taken = ask(&path, PART, &wrong).is_ok();
                let left = ask(&path, LEAVE, &[&wrong[..], &id.to_le_bytes()].concat()).is_ok();
                say(format_args!("meddled {ended} {taken} {left}"));
            }
            _ => break,
        }
    }
    drop(bell);
}

/// Runs as root only, because nobody else can start a process of another user.
#[test]
fn a_topic_for_some_users_is_not_given_to_others() {
    if !is_root() {
        return eprintln!("skipped: only root can start another user's process");
    }
    let bus = open_bus(&[OTHER_USER, THIRD_USER]);
    let path = bus.path();
    let publisher = RawClient::register(path, "publisher");
    let secret = Wish { users: &[OTHER_USER], reliable: true, ..Wish::of("secret/plan") };
    // Subscribed before, and after.
    for published_first in [true, false] {
        let publish =
            || [&secret, &Wish::of("secret")].map(|wish| publisher.publish_topic(path, wish).unwrap()).into();
        let mut topics: Vec<RawPublisher> = Vec::new();
        if published_first {
            topics = publish();
        }
        let settings = [("PATH", path.to_str().unwrap())];
        for (user, wanted) in [(OTHER_USER, "secret/plan"), (THIRD_USER, "")] {
            let Some(mut asker) = start_as(Some(user), "asker", &settings) else { return };
            // Three patterns in two policies; the open topic matches one of them.
            let all = if wanted.is_empty() { 2 } else { 8 };
            let matched = asker.hear("matched");
            assert_eq!(matched, if published_first { all.to_string() } else { "0".into() });
            if !published_first {
                topics = publish();
            }
            asker.tell("look");
            let expected = [vec!["secret"; 2], vec![wanted; if wanted.is_empty() { 0 } else { 6 }]].concat();
            assert_eq!(asker.hear("got"), expected.join(" "), "user {user}");
            asker.tell("meddle");
            asker.tell(&topics[0].id.to_string());
            assert_eq!(asker.hear("meddled"), "false false false");
            assert_eq!(all_topics(path).len(), 2, "it was not ended");
            asker.tell("end");
            asker.end();
            let is_gone = || bus.server.clients().unwrap().iter().all(|client| client.name != "asker");
            eventually("the server knows that it has ended", is_gone);
            if !published_first {
                topics.drain(..).for_each(|topic| drop(publisher.leave_topic(path, topic.id).unwrap()));
            }
        }
        topics.drain(..).for_each(|topic| drop(publisher.leave_topic(path, topic.id).unwrap()));
        eventually("the topics are gone", || all_topics(path).is_empty());
    }
}

/// The same for a server's own user, where a topic is for another one.
#[test]
fn a_topic_for_others_is_not_given_to_the_own_user() {
    let bus = Bus::start();
    let path = bus.path();
    let publisher = RawClient::register(path, "publisher");
    let others = [rustix::process::geteuid().as_raw() + 1];
    let topic = publisher.publish_topic(path, &Wish { users: &others, ..Wish::of("secret/plan") }).unwrap();
    let reader = RawClient::register(path, "reader");
    assert_eq!(reader.subscribe(path, LOSSY, MAY_SLEEP, "**").unwrap().1, 0);
    assert!(reader.part(path).is_none());
    drop(topic);
}

// ---- what was in memory before

const SECRET: &[u8] = b"never to be seen; ";

fn shows_the_secret(memory: &Memory) -> bool {
    memory.bytes().windows(8).any(|bytes| bytes == &SECRET[..8])
}

/// All that a subscriber and a publisher are given is zero, whatever topics, pages and samples there were
/// before.
#[test]
fn a_new_topic_shows_no_old_byte() {
    let bus = Bus::start();
    let path = bus.path();
    let publisher = RawClient::register(path, "publisher");
    let reader = RawClient::register(path, "reader");
    for round in 0..40_u64 {
        let topic = ["prices/AAPL", "prices/MSFT"][round as usize % 2];
        let wish = Wish { epoch: round, ..Wish::of(topic) };
        let unsealed = publisher.ask_to_publish(path, &wish).unwrap();
        let fresh = Memory::writable(&unsealed.segment).unwrap();
        assert!(fresh.bytes().iter().all(|byte| *byte == 0), "round {round}");
        drop((fresh, publisher.leave_topic(path, unsealed.id)));
        let mut topic = publisher.publish_topic(path, &wish).unwrap();
        let (subscription, _) = reader.subscribe(path, LOSSY, MAY_SLEEP, "prices/*").unwrap();
        let part = await_part(&reader, path);
        let (seen, page) = (Memory::read_only(&part.segment).unwrap(), Memory::writable(&part.page).unwrap());
        assert!(!shows_the_secret(&seen) && seen.bytes()[DATA..].iter().all(|byte| *byte == 0));
        assert!(page.bytes().iter().all(|byte| *byte == 0), "round {round}: a page");
        for _ in 0..100 {
            topic.send(&SECRET.repeat(3));
        }
        assert!(shows_the_secret(&seen), "it would be seen");
        // A publisher may write all of its memory, and a subscriber all of its page.
        topic.memory.word64(INTENT).store(u64::MAX, Ordering::Relaxed);
        page.write(0, &SECRET.repeat(200));
        if round % 3 > 0 {
            publisher.leave_topic(path, topic.id).unwrap();
        }
        reader.leave_topic(path, subscription).unwrap();
        if round % 3 == 0 {
            publisher.leave_topic(path, topic.id).unwrap();
        }
        while reader.part(path).is_some() {}
        while publisher.part(path).is_some() {}
        eventually("the topic is gone", || all_topics(path).is_empty());
    }
}
