//! A client process of the demo: executes the commands on its stdin, and answers each with a line.
//!
//! | line | answer after `ok` |
//! | --- | --- |
//! | (at the start) | the client's key |
//! | `find NAME` | the key |
//! | `send KEY TEXT` | |
//! | `receive` | name, key, text |
//! | `subscribe PATTERN` | |
//! | `publish TOPIC TEXT` | |
//! | `sample` | the publisher's name, topic, text |
//! | `serve CPU` | serves calls from now on, on that CPU; `-` for any |
//! | `connect NAME` | opens a link to that client |
//! | `block WHOM WARM COUNT` | nanoseconds per call of COUNT calls, after WARM others |
//! | `timed WHOM COUNT SECONDS` | the number of calls made in that time and their percentiles, as JSON |
//! | `unregister` | |
//!
//! `WHOM` is `server` or `link`. A failed command answers `error TEXT`. At the end of its input the client
//! unregisters. It ignores signals, which its parent handles.

use std::cell::Cell;
use std::io::{self, BufRead};
use std::path::Path;
use std::time::{Duration, Instant};

use ringpost::{CallError, Client, Key, Link, Name, Publisher, Reply, ServeHandle, Subscriber};
use serde::{Deserialize, Serialize};

use crate::cli::DemoClientOptions;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Summary, Times};
use ringpost::cli::{child, cpu, out};

/// The size of a measured request: with its headers it fills one cache line.
pub const SIZE: usize = 48;

const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(socket: &Path, options: &DemoClientOptions) -> Outcome {
    child::die_with_parent();
    let _interrupt = Interrupt::install()?;
    let registered = Client::builder(socket).timeout(PATIENCE).register(options.name.as_str());
    let mut client = match registered {
        Ok(client) => client,
        // The parent tells the user.
        Err(error) => return answer(Err(error.to_string())),
    };
    let led = answer(Ok(client.key().to_string())).and_then(|()| {
        if let Some(cpu) = options.cpu {
            cpu::pin(cpu).map_err(Failure::Failed)?;
        }
        follow(&mut client)
    });
    let left = client.unregister();
    if led? {
        return answer(left.map(|()| String::new()).map_err(text));
    }
    // The parent is gone or has given up, and reports why.
    Ok(())
}

/// Executes commands from stdin. Returns true after `unregister`, false at the end of input.
fn follow(client: &mut Client) -> Result<bool, Failure> {
    let mut open = Open { client, link: None, serving: None, publisher: None, subscriber: None };
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
        if line == "unregister" {
            return Ok(true);
        }
        answer(open.act(&line))?;
    }
    Ok(false)
}

/// What this client has opened.
struct Open<'a> {
    client: &'a mut Client,
    link: Option<Link>,
    serving: Option<ServeHandle>,
    publisher: Option<Publisher>,
    subscriber: Option<Subscriber>,
}

fn answer(result: Result<String, String>) -> Outcome {
    match result {
        Ok(text) => out::line(format!("ok {text}").trim_end()),
        Err(why) => out::line(&format!("error {why}")),
    }
}

impl Open<'_> {
    fn act(&mut self, line: &str) -> Result<String, String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let client = &mut *self.client;
        match verb {
            "find" => {
                let name: Name = rest.parse().map_err(text)?;
                let key = client.look_up(name).map_err(text)?;
                key.map(|key| key.to_string()).ok_or_else(|| format!("no client is registered as {name}"))
            }
            "send" => {
                let (key, message) = rest.split_once(' ').ok_or("send KEY TEXT")?;
                let key: Key = key.parse().map_err(text)?;
                client.send_timeout(key, message.as_bytes(), PATIENCE).map_err(text)?;
                Ok(String::new())
            }
            "receive" => {
                let message = client.recv_timeout(PATIENCE).map_err(text)?;
                let payload = out::readable(message.payload());
                Ok(format!("{} {} {payload}", message.sender_name(), message.sender()))
            }
            "subscribe" => {
                self.subscriber = Some(client.subscribe(rest).map_err(text)?);
                Ok(String::new())
            }
            "publish" => {
                let (topic, sample) = rest.split_once(' ').ok_or("TOPIC TEXT")?;
                let publisher = self.publisher.insert(client.publish(topic).map_err(text)?);
                publisher.send(sample.as_bytes()).map_err(text)?;
                Ok(String::new())
            }
            "sample" => {
                let subscriber = self.subscriber.as_mut().ok_or("subscribe PATTERN first")?;
                let sample = subscriber.recv_timeout(PATIENCE).map_err(text)?;
                let payload = out::readable(sample.payload());
                Ok(format!("{} {} {payload}", sample.publisher().name, sample.topic()))
            }
            "serve" => {
                let cpu = rest.parse().ok();
                let listener = client.listen().map_err(text)?;
                let serving = listener.serve(move |request, response| {
                    if let Some(cpu) = cpu {
                        pin_once(cpu);
                    }
                    response.write(request.payload())
                });
                self.serving = Some(serving.map_err(text)?);
                Ok(String::new())
            }
            "connect" => {
                let name: Name = rest.parse().map_err(text)?;
                self.link = Some(client.connect(name).map_err(text)?);
                Ok(String::new())
            }
            "block" | "timed" => {
                let [whom, one, two] = words(rest).ok_or("WHOM and two numbers")?;
                let calls: &mut dyn Calls = match (whom, &mut self.link) {
                    ("server", _) => client,
                    (_, Some(link)) => link,
                    (_, None) => return Err("connect NAME first".into()),
                };
                match verb {
                    "block" => block(calls, one.parse().map_err(text)?, two.parse().map_err(text)?),
                    _ => timed(calls, one.parse().map_err(text)?, two.parse().map_err(text)?),
                }
            }
            _ => Err(format!("{verb:?} is not a command")),
        }
    }
}

fn words(text: &str) -> Option<[&str; 3]> {
    text.split(' ').collect::<Vec<_>>().try_into().ok()
}

/// Keeps the calling thread, which the library started, on this CPU.
fn pin_once(cpu: usize) {
    thread_local! { static PINNED: Cell<bool> = const { Cell::new(false) } }
    if !PINNED.replace(true) {
        let _ = cpu::pin(cpu);
    }
}

/// Makes calls: to the server's service, or over a link.
trait Calls {
    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>, CallError>;
}

impl Calls for Client {
    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>, CallError> {
        Client::call(self, request)
    }
}

impl Calls for Link {
    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>, CallError> {
        Link::call(self, request)
    }
}

/// A request that differs for each number.
fn request(number: u64) -> [u8; SIZE] {
    let mut bytes = [0x5a; SIZE];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn block(client: &mut dyn Calls, warm: u64, count: u32) -> Result<String, String> {
    for number in 0..warm {
        verified_call(client, number)?;
    }
    let request = request(warm);
    let start = Instant::now();
    for _ in 0..count {
        let response = client.call(&request).map_err(text)?;
        if response.len() != SIZE {
            return Err(format!("a response has {} bytes instead of {SIZE}", response.len()));
        }
    }
    Ok(format!("{}", start.elapsed().as_nanos() as f64 / f64::from(count)))
}

fn timed(client: &mut dyn Calls, count: u64, seconds: u64) -> Result<String, String> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut times = Times::new();
    let mut done = 0;
    while done < count && Instant::now() < deadline {
        for _ in 0..100.min(count - done) {
            times.record(verified_call(client, done)?);
            done += 1;
        }
    }
    serde_json::to_string(&Timed { calls: done, times: times.summary() }).map_err(text)
}

/// The result of calls that were timed one by one.
#[derive(Serialize, Deserialize)]
pub struct Timed {
    pub calls: u64,
    pub times: Summary,
}

/// Makes a call and returns its time. Checks the response after that.
fn verified_call(client: &mut dyn Calls, number: u64) -> Result<Duration, String> {
    let request = request(number);
    let start = Instant::now();
    let response = client.call(&request).map_err(text)?;
    let time = start.elapsed();
    if response == request {
        Ok(time)
    } else {
        Err(format!("the response to call {number} differs from its request"))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
