//! Measures the floor for ends that sleep in event loops: a round trip between two processes over two pipes.
//!
//! Each end has a pipe and an epoll instance of its own. It writes into the other's pipe, waits in
//! `epoll_wait` and reads, and nothing else: one call each. The partner's pipes are its standard input and
//! output.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};

use super::child::{bound, die_with_parent, end, when_it_ends};
use super::cpu;
use super::exit::{Failure, Outcome};
use super::signals::Interrupt;

/// The most bytes of one message: a pipe takes so many at once.
pub const LARGEST: usize = 4096;

/// An epoll instance.
pub struct Epoll {
    instance: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Epoll {
    pub fn new() -> Result<Epoll, Failure> {
        let instance = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| Failure::failed(format!("cannot make an epoll instance: {error}")))?;
        Ok(Epoll { instance, events: Vec::with_capacity(64) })
    }

    /// Waits for this descriptor, too, until it is closed. `number` names it.
    pub fn add(&self, descriptor: impl AsFd, number: u64) -> Outcome {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.instance, descriptor, data, epoll::EventFlags::IN)
            .map_err(|error| Failure::failed(format!("cannot wait for a descriptor in epoll: {error}")))
    }

    /// Sleeps until a descriptor is readable or its other end is gone. Returns the numbers of those.
    #[inline]
    pub fn wait(&mut self) -> Result<impl Iterator<Item = u64>, Failure> {
        self.events.clear();
        loop {
            match epoll::wait(&self.instance, rustix::buffer::spare_capacity(&mut self.events), None) {
                Ok(_) => return Ok(self.events.iter().map(|event| event.data.u64())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::failed(format!("cannot wait in epoll: {error}"))),
            }
        }
    }
}

/// One end: it waits for its own pipe, and writes into the other's.
struct End<'a> {
    own: BorrowedFd<'a>,
    other: BorrowedFd<'a>,
    epoll: Epoll,
}

impl<'a> End<'a> {
    fn new(own: BorrowedFd<'a>, other: BorrowedFd<'a>) -> Result<End<'a>, Failure> {
        let epoll = Epoll::new()?;
        epoll.add(own, 0)?;
        Ok(End { own, other, epoll })
    }

    #[inline]
    fn tell(&self, message: &[u8]) -> io::Result<()> {
        let written = write(self.other, message)?;
        if written == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Waits for a message as long as `message`; false if the other end is gone.
    #[inline]
    fn hear(&mut self, message: &mut [u8]) -> Result<bool, Failure> {
        // Who is told has one descriptor.
        let _ = self.epoll.wait()?;
        Ok(read(self.own, &mut *message).map_err(broken)? == message.len())
    }
}

fn broken(error: impl Into<io::Error>) -> Failure {
    Failure::failed(format!("the pipes of the floor's measurement are broken: {}", error.into()))
}

/// The measuring end, with its partner process.
pub struct Pipes {
    /// `None` once the partner has been told to end.
    to: Option<OwnedFd>,
    from: OwnedFd,
    /// The write end of `from`, by which a wait for the partner is ended.
    own: Arc<OwnedFd>,
    partner: Child,
}

impl Pipes {
    /// Starts `program` with `arguments`, which must run [`partner`].
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Pipes, Failure> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(broken);
        let ((its, to), (from, own)) = (pipe()?, pipe()?);
        let theirs = own.try_clone().map_err(broken)?;
        let partner = bound(&mut Command::new(program))
            .args(arguments)
            .stdin(Stdio::from(its))
            .stdout(Stdio::from(theirs))
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start {}: {error}", program.display())))?;
        let pipes = Pipes { to: Some(to), from, own: Arc::new(own), partner };
        when_it_ends(&pipes.partner, pipes.breaker())?;
        Ok(pipes)
    }

    /// Returns a function that ends a wait for the partner.
    pub fn breaker(&self) -> impl FnOnce() + Send + 'static {
        let own = Arc::clone(&self.own);
        move || _ = write(&*own, b"broken")
    }

    /// Measures `count` round trips of `size` bytes after `warm` others, and returns the nanoseconds of one.
    pub fn block(
        &mut self,
        size: usize,
        warm: u32,
        count: u32,
        interrupt: &Interrupt,
    ) -> Result<f64, Failure> {
        let lost = || Failure::failed("the floor's partner process has ended");
        let to = self.to.as_ref().ok_or_else(lost)?;
        let mut end = End::new(self.from.as_fd(), to.as_fd())?;
        let mut message = vec![0x5a; size];
        let mut ask = || {
            end.tell(&message).map_err(broken)?;
            if end.hear(&mut message)? {
                return Ok(());
            }
            interrupt.check()?;
            Err(lost())
        };
        for _ in 0..warm {
            ask()?;
        }
        let start = Instant::now();
        for _ in 0..count {
            ask()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        self.to = None;
        end(&mut self.partner, Duration::from_millis(200));
    }
}

/// The partner process: returns each message of `size` bytes, until nobody sends any more.
pub fn partner(size: usize, cpu: Option<usize>) -> Outcome {
    die_with_parent();
    if let Some(cpu) = cpu {
        cpu::pin(cpu).map_err(Failure::Failed)?;
    }
    let (own, other) = (io::stdin(), io::stdout());
    let mut end = End::new(own.as_fd(), other.as_fd())?;
    let mut message = vec![0; size];
    while end.hear(&mut message)? {
        end.tell(&message).map_err(broken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_there_and_back_and_the_end_is_noticed() {
        let pipe = || pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let ((to_read, to), (from, from_write)) = (pipe(), pipe());
        let mut near = End::new(from.as_fd(), to.as_fd()).unwrap();
        let mut far = End::new(to_read.as_fd(), from_write.as_fd()).unwrap();
        let mut message = [7; 48];
        near.tell(&message).unwrap();
        assert_eq!(far.hear(&mut message), Ok(true));
        far.tell(&message).unwrap();
        assert_eq!(near.hear(&mut message), Ok(true));
        drop(far);
        drop(from_write);
        assert_eq!(near.hear(&mut message), Ok(false));
    }

    #[test]
    fn an_epoll_instance_names_what_is_readable() {
        let (read, written) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (other, _open) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut epoll = Epoll::new().unwrap();
        epoll.add(&read, 7).unwrap();
        epoll.add(&other, 8).unwrap();
        write(&written, &[1]).unwrap();
        assert_eq!(epoll.wait().unwrap().collect::<Vec<_>>(), [7]);
    }
}
