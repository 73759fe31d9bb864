//! Plays the steps of `cases.txt` with the library in Rust: see `play.py`.
//!
//! Each line of standard input is an operation with its arguments, and is answered by a line. Only the public
//! interface is used.

#![allow(unsafe_code, reason = "there is no safe fork")]

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringpost::{
    CallError, Caller, Client, Closer, Inbox, Key, Link, Listener, Policy, Publisher, Request, Response,
    ServeHandle, ServiceError, Subscriber,
};

mod words;
use words::Failed;

/// The limit of a step that names none.
const LONG: Duration = Duration::from_secs(30);

/// An answer, or the words of an error.
type Answer = Result<String, Failed>;

/// What a player has, each behind a lock of its own: one thread may wait while another goes on.
#[derive(Default)]
struct Player {
    caller: Slot<Caller>,
    inbox: Slot<Inbox>,
    closer: Slot<Closer>,
    link: Slot<Link>,
    link_closer: Slot<Closer>,
    listener: Slot<Listener>,
    serving: Slot<ServeHandle>,
    accepted: Mutex<Vec<(Closer, JoinHandle<()>)>>,
    viewing: AtomicBool,
    publisher: Slot<Publisher>,
    subscriber: Slot<Subscriber>,
    desk: Arc<Desk>,
    started: Slot<JoinHandle<String>>,
}

struct Slot<T>(Mutex<Option<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot(Mutex::new(None))
    }
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.0.lock().expect("a step panicked")
    }

    fn set(&self, value: T) {
        *self.lock() = Some(value);
    }

    fn take(&self) -> Option<T> {
        self.lock().take()
    }

    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        action(self.lock().as_mut().expect("the case has not made that"))
    }
}

/// What the service of a player's links knows.
#[derive(Default)]
struct Desk {
    open: Mutex<bool>,
    opened: Condvar,
    posts: AtomicU64,
}

impl Desk {
    fn set_open(&self, open: bool) {
        *self.open.lock().expect("a service panicked") = open;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let mut open = self.open.lock().expect("a service panicked");
        while !*open {
            open = self.opened.wait(open).expect("a service panicked");
        }
    }

    fn serve(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        let text = String::from_utf8_lossy(request.payload());
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("post", _) => {
                self.posts.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            ("fail", why) => Err(ServiceError::new(why)),
            ("big", len) => response.write(&pattern(len.parse().expect("a length"))[..]),
            ("who", _) => response.write(request.peer().name.as_str()),
            ("posts", _) => response.write(&self.posts.load(Ordering::Relaxed).to_string()[..]),
            ("wait", _) => {
                self.wait();
                response.write("waited")
            }
            _ => response.write(request.payload()),
        }
    }
}

/// A payload of this length, as all players and the driver make it.
fn pattern(len: usize) -> Vec<u8> {
    let letters = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    (0..len).map(|at| letters[(at + len) % 61]).collect()
}

fn escaped(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "''".to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = if text == "''" { "" } else { text };
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(&after[..2], 16).expect("two digits behind a %"));
        rest = &after[2..];
    }
    bytes.extend(rest.bytes());
    bytes
}

/// The arguments of a step.
struct Arguments<'a>(std::str::Split<'a, char>);

impl Arguments<'_> {
    fn bytes(&mut self) -> Vec<u8> {
        unescaped(self.0.next().expect("an argument"))
    }

    /// A text; what is not UTF-8 cannot be said in Rust.
    fn text(&mut self) -> Result<String, Failed> {
        String::from_utf8(self.bytes()).map_err(|_| Failed("inexpressible".to_owned()))
    }

    fn number(&mut self) -> u64 {
        self.0.next().expect("an argument").parse().expect("a number")
    }

    /// A time in milliseconds, or a long one.
    fn time(&mut self) -> Duration {
        self.0.next().map_or(LONG, |text| Duration::from_millis(text.parse().expect("a time")))
    }
}

impl Player {
    fn answer(self: &Arc<Player>, line: &str) -> String {
        let (operation, rest) = line.split_once(' ').unwrap_or((line, ""));
        match operation {
            "start" => {
                let (player, rest) = (Arc::clone(self), rest.to_owned());
                self.started.set(thread::spawn(move || player.answer(&rest)));
                "started".to_owned()
            }
            "finish" => self.started.take().expect("something was started").join().expect("a step panicked"),
            "forked" => forked(|| self.answer(rest)),
            _ => {
                let mut words = rest.split(' ');
                if rest.is_empty() {
                    words.next();
                }
                self.step(operation, Arguments(words)).unwrap_or_else(|failed| failed.0)
            }
        }
    }

    fn step(&self, operation: &str, mut with: Arguments<'_>) -> Answer {
        let ok = || Ok("ok".to_owned());
        match operation {
            "register" => {
                let (path, name) = (with.text()?, with.text()?);
                let client = Client::builder(path).timeout(with.time()).register(name)?;
                self.closer.set(client.closer());
                let (caller, inbox) = client.split();
                self.caller.set(caller);
                self.inbox.set(inbox);
                ok()
            }
            "unregister" => {
                self.inbox.take();
                self.caller.take().expect("a client").unregister()?;
                ok()
            }
            "close" => {
                self.closer.with(|closer| closer.close());
                ok()
            }
            "reset" => {
                self.desk.set_open(true);
                self.forget();
                self.desk.set_open(false);
                self.desk.posts.store(0, Ordering::Relaxed);
                self.viewing.store(false, Ordering::Relaxed);
                ok()
            }
            "key" => Ok(self.caller.with(|caller| caller.key().to_string())),
            "limits" => {
                let limits = self.caller.with(|caller| caller.limits());
                Ok(format!("{} {}", limits.max_call, limits.max_message))
            }
            "ping" => {
                self.caller.with(Caller::ping).map_err(question)?;
                ok()
            }
            "call" => {
                let (request, time) = (with.bytes(), with.time());
                self.caller.with(|caller| Ok(reply(caller.call_timeout(&request[..], time)?.payload())))
            }
            "submit" => {
                self.caller.with(|caller| caller.try_submit(&with.bytes()[..]))?;
                ok()
            }
            "response" => {
                self.caller.with(|caller| Ok(reply(caller.response_timeout(with.time())?.payload())))
            }
            "outstanding" => Ok(self.caller.with(|caller| caller.outstanding().to_string())),
            "send" => {
                let (to, message, time) = (with.text()?, with.bytes(), with.time());
                let message = &message[..];
                self.caller.with(|caller| match time {
                    Duration::ZERO => caller.try_send(to.as_str(), message),
                    _ => caller.send_timeout(to.as_str(), message, time),
                })?;
                ok()
            }
            "recv" => {
                let message = self.inbox.with(|inbox| inbox.recv_timeout(with.time()))?;
                let (name, payload) = (message.sender_name().as_str(), message.payload());
                Ok(format!("message {} {} {}", escaped(name.as_bytes()), message.sender(), escaped(payload)))
            }
            "look-up" => {
                let name = with.text()?;
                let found = self.caller.with(|caller| caller.look_up(name.as_str())).map_err(question)?;
                Ok(found.as_ref().map_or("none".to_owned(), Key::to_string))
            }
            "wait-for" => {
                let (name, time) = (with.text()?, with.time());
                let found = self.caller.with(|caller| caller.wait_for(name.as_str(), time));
                Ok(found.map_err(question)?.to_string())
            }
            "list" => {
                let list = self.caller.with(Caller::list).map_err(question)?;
                let mut names: Vec<_> =
                    list.iter().map(|info| escaped(info.name.as_str().as_bytes())).collect();
                names.sort();
                Ok(names.join(" "))
            }
            _ if operation.contains("sample")
                || operation.contains("subscrib")
                || operation.contains("publish") =>
            {
                self.topic_step(operation, with)
            }
            _ => self.link_step(operation, with),
        }
    }

    fn link_step(&self, operation: &str, mut with: Arguments<'_>) -> Answer {
        match operation {
            "serve" => {
                let listener = self.caller.with(Caller::listen)?;
                let desk = Arc::clone(&self.desk);
                self.serving.set(listener.serve(move |request, response| desk.serve(request, response))?);
            }
            "stop-serving" => {
                let serving = self.serving.take().expect("it serves");
                serving.stop();
                serving.join();
            }
            "listen" => self.listener.set(self.caller.with(Caller::listen)?),
            "accept" | "refuse" => return self.incoming(operation, with),
            "stop-listening" => drop(self.listener.take()),
            "open" => self.desk.set_open(true),
            "link" => {
                let (to, time) = (with.text()?, with.time());
                let link =
                    self.caller.with(|caller| Link::options().timeout(time).connect(caller, to.as_str()))?;
                self.link_closer.set(link.closer());
                self.link.set(link);
            }
            "link-peer" => {
                return Ok(self.link.with(|link| {
                    let peer = link.peer();
                    format!("{} {} {}", escaped(peer.name.as_str().as_bytes()), peer.key, peer.pid)
                }));
            }
            "link-call" => {
                let (request, time) = (with.bytes(), with.time());
                return self.link.with(|link| Ok(reply(link.call_timeout(&request[..], time)?.payload())));
            }
            "link-submit" => self.link.with(|link| link.try_submit(&with.bytes()[..]))?,
            "link-response" => {
                return self.link.with(|link| Ok(reply(link.response_timeout(with.time())?.payload())));
            }
            "link-post" => self.link.with(|link| link.try_post(&with.bytes()[..]))?,
            "link-close" => self.link_closer.with(|closer| closer.close()),
            "link-drop" => drop(self.link.take()),
            _ => panic!("no operation {operation}"),
        }
        Ok("ok".to_owned())
    }

    /// Who connects. An accepted link is served on a thread until it has ended.
    fn incoming(&self, operation: &str, mut with: Arguments<'_>) -> Answer {
        let incoming = self.listener.with(Listener::accept)?;
        let peer = *incoming.peer();
        if operation == "refuse" {
            incoming.refuse(with.text()?);
        } else {
            let (mut responder, desk) = (incoming.accept()?, Arc::clone(&self.desk));
            let closer = responder.closer();
            let serving = thread::spawn(move || {
                let _ = responder.serve(|request, response| desk.serve(request, response));
            });
            self.accepted.lock().expect("a step panicked").push((closer, serving));
        }
        Ok(format!("incoming {} {} {}", escaped(peer.name.as_str().as_bytes()), peer.key, peer.pid))
    }

    fn topic_step(&self, operation: &str, mut with: Arguments<'_>) -> Answer {
        match operation {
            // TOPIC RING-SIZE TIME: with a time of 0 it is not reliable.
            "publish" => {
                let (topic, ring_size, time) = (with.text()?, with.number(), with.number());
                let mut options = Publisher::options();
                if ring_size > 0 {
                    options = options.ring_size(ring_size as usize);
                }
                if time > 0 {
                    options = options.reliable(Duration::from_millis(time));
                }
                self.publisher.set(self.caller.with(|caller| options.publish(caller, topic.as_str()))?);
            }
            "publish-sample" => {
                let (sample, time) = (with.bytes(), with.time());
                self.publisher.with(|publisher| match time {
                    Duration::ZERO => publisher.try_send(&sample[..]),
                    _ => publisher.send_timeout(&sample[..], time),
                })?;
            }
            // ROOM BYTES: written in place; with `abandon` given up then.
            "grant-sample" | "abandon-sample" => {
                let (room, sample) = (with.number() as usize, with.bytes());
                self.publisher.with(|publisher| {
                    let mut grant = publisher.grant_timeout(room, LONG)?;
                    assert!(sample.len() <= grant.remaining(), "no room");
                    // SAFETY: the grant has room for so many bytes, and `sample` lies elsewhere.
                    unsafe { grant.as_mut_ptr().copy_from_nonoverlapping(sample.as_ptr(), sample.len()) };
                    grant.advance(sample.len());
                    if operation == "grant-sample" {
                        grant.commit();
                    }
                    Ok::<_, Failed>(())
                })?;
            }
            "max-sample" => return Ok(self.publisher.with(|publisher| publisher.max_sample().to_string())),
            "subscribers" => return Ok(self.publisher.with(|publisher| publisher.subscribers().to_string())),
            "stop-publishing" => drop(self.publisher.take()),
            // PATTERN POLICY HISTORY
            "subscribe" => {
                let (pattern, policy, history) = (with.text()?, with.text()?, with.number());
                let policy = match policy.as_str() {
                    "latest" => Policy::Latest,
                    "reliable" => Policy::Reliable,
                    _ => Policy::Lossy,
                };
                let options = Subscriber::options().policy(policy).history(history);
                self.subscriber.set(self.caller.with(|caller| options.subscribe(caller, pattern.as_str()))?);
            }
            "sample" => {
                return self.subscriber.with(|subscriber| {
                    let sample = subscriber.recv_timeout(with.time())?;
                    let (topic, name) = (sample.topic(), sample.publisher().name.as_str());
                    Ok(said(topic, name, sample.sequence(), sample.missed(), sample.payload()))
                });
            }
            // Read in place; with `late` checked only when the gate is open.
            "view-sample" | "late-sample" => {
                return self.subscriber.with(|subscriber| {
                    let view = subscriber.recv_ref_timeout(with.time())?;
                    // SAFETY: the view has so many bytes. They are copied one by one, and thrown away if
                    // the publisher has changed them meanwhile.
                    let payload: Vec<u8> =
                        (0..view.len()).map(|at| unsafe { view.as_ptr().add(at).read_volatile() }).collect();
                    let topic = view.topic().to_owned();
                    let name = view.publisher().name;
                    let (sequence, missed) = (view.sequence(), view.missed());
                    if operation == "late-sample" {
                        self.viewing.store(true, Ordering::Relaxed);
                        self.desk.wait();
                    }
                    let whole = view.check().and_then(|()| view.finish());
                    whole.map_err(|_| Failed("error overrun".to_owned()))?;
                    Ok(said(&topic, name.as_str(), sequence, missed, &payload))
                });
            }
            "viewing-sample" => return Ok(self.viewing.load(Ordering::Relaxed).to_string()),
            "stop-subscribing" => drop(self.subscriber.take()),
            _ => panic!("no operation {operation}"),
        }
        Ok("ok".to_owned())
    }

    /// Drops all that there is. What still waits in a thread ends by that.
    fn forget(&self) {
        for closer in [&self.closer, &self.link_closer] {
            if let Some(closer) = closer.take() {
                closer.close();
            }
        }
        if let Some(started) = self.started.take() {
            let _ = started.join();
        }
        drop((self.link.take(), self.publisher.take(), self.subscriber.take(), self.listener.take()));
        if let Some(serving) = self.serving.take() {
            serving.stop();
            serving.join();
        }
        for (closer, serving) in self.accepted.lock().expect("a step panicked").drain(..) {
            closer.close();
            serving.join().expect("a service panicked");
        }
        drop((self.inbox.take(), self.caller.take()));
    }
}

/// A question changes nothing: whether it was answered does not matter.
fn question(error: CallError) -> Failed {
    Failed(Failed::from(error).0.replace(" maybe", ""))
}

fn said(topic: &str, name: &str, sequence: u64, missed: u64, payload: &[u8]) -> String {
    let (topic, name, payload) = (escaped(topic.as_bytes()), escaped(name.as_bytes()), escaped(payload));
    format!("sample {topic} {name} {sequence} {missed} {payload}")
}

fn reply(payload: &[u8]) -> String {
    format!("reply {}", escaped(payload))
}

/// Answers in a forked child, which then ends.
fn forked(answer: impl FnOnce() -> String) -> String {
    let mut ends = [0; 2];
    // SAFETY: `ends` is an array of two numbers.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0, "no pipe");
    // SAFETY: both descriptors are new, and nothing else owns them.
    let [mut from, mut to] = ends.map(|end| unsafe { File::from_raw_fd(end) });
    // SAFETY: no other thread runs in this process while a case forks. The child answers, and ends without
    // running anything else of this program.
    match unsafe { libc::fork() } {
        0 => {
            let _ = to.write_all(answer().as_bytes());
            // SAFETY: it does not return.
            unsafe { libc::_exit(0) }
        }
        child => {
            drop(to);
            let mut text = String::new();
            from.read_to_string(&mut text).expect("the child's answer");
            // SAFETY: NULL is allowed for the status.
            assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child, "no child");
            text
        }
    }
}

fn main() {
    let player = Arc::new(Player::default());
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let answer = player.answer(&line.expect("a line"));
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("standard output");
    }
    player.forget();
}
