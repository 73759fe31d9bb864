//! Redis publish and subscribe over a Unix socket. Each client has two connections, one that is subscribed
//! and one that publishes, as the protocol demands. A publishes to `b`; B, who is subscribed to it, publishes
//! the answer to `a`.
//!
//! The protocol is spoken here by hand, in one write and one read for a message, so that no library's cost is
//! in the figure.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use super::tools::{become_program, version_of};
use super::{Kind, Peer, Play, SIZES, Version};
use crate::context::Context;
use crate::failure::{Failure, OrFail, Outcome};
use crate::measure::{Measured, measure};
use crate::work::{Work, answer_in_place};

pub static REDIS: Peer = Peer {
    name: "redis",
    kind: Kind::Forwarding,
    what: "two PUBLISH to subscribers, over a Unix socket",
    sizes: SIZES,
    version: Version::Asked(|| version_of("redis-server", "redis-server").map(|line| short(&line))),
    play: Play::Brokered { broker, server, client },
};

pub static NAMED: Peer =
    Peer { name: "named-redis", kind: Kind::Named, play: Play::Named { broker, server, client }, ..REDIS };

/// The socket in the private directory.
pub(super) const NAME: &str = "redis";

/// `Redis server v=7.0.15 sha=…` without what nobody needs.
fn short(line: &str) -> String {
    let version = line.split_whitespace().find_map(|word| word.strip_prefix("v="));
    version.map_or_else(|| line.to_string(), str::to_string)
}

pub(super) fn broker(context: &Context) -> Outcome {
    let socket = context.path(NAME);
    context.ready(&socket)?;
    let mut redis = Command::new("redis-server");
    // No network, nothing on disk.
    redis.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
    redis.arg("--dir").arg(&context.dir).arg("--unixsocket").arg(&socket);
    become_program(&mut redis)
}

/// One connection and what was read from it but not used yet.
pub(super) struct Line {
    stream: UnixStream,
    read: Vec<u8>,
    out: Vec<u8>,
}

impl Line {
    pub(super) fn connect(context: &Context, socket: &Path) -> Outcome<Line> {
        let stream = context.reach(|| UnixStream::connect(socket).or_fail("connect to redis-server"))?;
        Ok(Line { stream, read: Vec::new(), out: Vec::new() })
    }

    pub(super) fn command(&mut self, words: &[&[u8]]) -> Outcome {
        self.out.clear();
        // Writing to memory does not fail.
        let _ = write!(self.out, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.out, "${}\r\n", word.len());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&self.out).or_fail("write to redis-server")
    }

    /// Reads until there are so many bytes.
    fn fill(&mut self, len: usize) -> Outcome {
        let mut buffer = [0; 16 * 1024];
        while self.read.len() < len {
            match self.stream.read(&mut buffer).or_fail("read from redis-server")? {
                0 => return Err(Failure::new("redis-server closed the connection")),
                count => self.read.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(())
    }

    /// The end of the line that begins at `from`, behind its `\r\n`.
    fn line_end(&mut self, from: usize) -> Outcome<usize> {
        let mut at = from;
        loop {
            if let Some(end) = self.read[at..].windows(2).position(|two| two == b"\r\n") {
                return Ok(at + end + 2);
            }
            at = self.read.len().saturating_sub(1).max(from);
            self.fill(self.read.len() + 1)?;
        }
    }

    /// A whole reply, wherever it lies in `read`: the place of its last string, and where it ends.
    fn reply(&mut self, from: usize) -> Outcome<(std::ops::Range<usize>, usize)> {
        let end = self.line_end(from)?;
        let line = &self.read[from..end - 2];
        let number = || {
            let text = std::str::from_utf8(&line[1..]).ok();
            text.and_then(|text| text.parse::<usize>().ok())
                .ok_or_else(|| Failure::new("redis-server says what is not a number"))
        };
        match line.first() {
            Some(b':' | b'+') => Ok((from + 1..end - 2, end)),
            Some(b'$') => {
                let len = number()?;
                self.fill(end + len + 2)?;
                Ok((end..end + len, end + len + 2))
            }
            Some(b'*') => {
                let mut place = (from..from, end);
                for _ in 0..number()? {
                    place = self.reply(place.1)?;
                }
                Ok(place)
            }
            _ => Err(Failure::new(format!("redis-server says {}", String::from_utf8_lossy(line)))),
        }
    }

    /// Reads one reply and hands its last string to `each`.
    pub(super) fn take<T>(&mut self, each: impl FnOnce(&mut [u8]) -> T) -> Outcome<T> {
        let (place, end) = self.reply(0)?;
        let result = each(&mut self.read[place]);
        self.read.drain(..end);
        Ok(result)
    }
}

/// A subscribed connection and one that publishes.
fn lines(context: &Context, own: &[u8]) -> Outcome<(Line, Line)> {
    let mut inbox = Line::connect(context, context.other())?;
    inbox.command(&[b"SUBSCRIBE", own])?;
    inbox.take(|_| ())?;
    Ok((inbox, Line::connect(context, context.other())?))
}

fn server(context: &Context) -> Outcome {
    let (mut inbox, mut outbox) = lines(context, b"b")?;
    context.ready(&context.address)?;
    let mut message = Vec::new();
    loop {
        inbox.take(|payload| {
            message.clear();
            message.extend_from_slice(payload);
        })?;
        let last = answer_in_place(&mut message)?;
        outbox.command(&[b"PUBLISH", b"a", &message])?;
        outbox.take(|_| ())?;
        if last {
            return Ok(());
        }
    }
}

fn client(context: &Context) -> Outcome<Measured> {
    let (mut inbox, mut outbox) = lines(context, b"a")?;
    let ask = |work: &mut Work| {
        outbox.command(&[b"PUBLISH", b"b", work.next()])?;
        inbox.take(|payload| work.check(payload))??;
        // How many received it: there by now.
        outbox.take(|_| ())
    };
    measure(ask, context.size, context.budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line whose other end wrote these bytes, in pieces, and went away.
    fn line(bytes: &'static [u8], piece: usize) -> Line {
        let (stream, mut other) = UnixStream::pair().expect("sockets");
        std::thread::spawn(move || {
            for piece in bytes.chunks(piece) {
                other.write_all(piece).expect("written");
            }
        });
        Line { stream, read: Vec::new(), out: Vec::new() }
    }

    #[test]
    fn replies_are_read_whole_however_they_come() {
        let bytes = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n:1\r\n+OK\r\n-ERR no\r\n";
        for piece in [1, 2, 7, 1000] {
            let mut line = line(bytes, piece);
            assert_eq!(line.take(|text| text.to_vec()), Ok(b"\r\n\r\n".to_vec()));
            assert_eq!(line.take(|text| text.to_vec()), Ok(b"1".to_vec()));
            assert_eq!(line.take(|text| text.to_vec()), Ok(b"OK".to_vec()));
            assert_eq!(line.take(|_| ()), Err(Failure::new("redis-server says -ERR no")));
        }
    }

    #[test]
    fn an_end_in_the_middle_is_a_failure() {
        assert_eq!(
            line(b"$4\r\nab", 2).take(|_| ()),
            Err(Failure::new("redis-server closed the connection"))
        );
    }
}
