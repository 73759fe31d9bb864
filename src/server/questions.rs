//! `Questions`: what threads of the server's own program ask its acceptor, which alone knows links and
//! topics.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::acceptor::Acceptor;
use super::shared::{Shared, lock};
use super::workers::Part;
use crate::connect::Figures;
use crate::connect::figures::{Section, collect};

/// How long the acceptor may take for an answer. It takes microseconds, unless the whole computer stands
/// still.
const PATIENCE: Duration = Duration::from_secs(5);

/// The questions that wait. `None` once nobody answers any more.
#[derive(Debug)]
pub(super) struct Questions(Mutex<Option<Vec<Question>>>);

/// A page of figures that is asked for.
#[derive(Debug)]
struct Question {
    section: Section,
    from: u64,
    answer: SyncSender<Result<Vec<u8>, String>>,
}

impl Questions {
    pub(super) fn new() -> Questions {
        Questions(Mutex::new(Some(Vec::new())))
    }

    /// Answers no more. Who waits is told so.
    pub(super) fn close(&self) {
        let waiting = lock(&self.0).take();
        drop(waiting);
    }

    fn take(&self) -> Vec<Question> {
        lock(&self.0).as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Shared {
    /// All figures, for the server's own program. Waits for the acceptor, briefly.
    pub(super) fn figures(&self) -> io::Result<Figures> {
        if self.workers.part_of_this_thread() == Part::Acceptor {
            return Err(ended());
        }
        collect(|section, from| self.ask(section, from), || io::Error::other("the figures are malformed"))
    }

    fn ask(&self, section: Section, from: u64) -> io::Result<Vec<u8>> {
        let (answer, answered) = sync_channel(1);
        match &mut *lock(&self.questions.0) {
            Some(questions) => questions.push(Question { section, from, answer }),
            None => return Err(ended()),
        }
        self.stop.wake_acceptor();
        match answered.recv_timeout(PATIENCE) {
            Ok(answer) => answer.map_err(io::Error::other),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the server's own thread does not answer"))
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server has ended")
}

impl Acceptor {
    /// Answers the questions that wait.
    pub(super) fn answer_program(&mut self) {
        let own = rustix::process::geteuid().as_raw();
        for Question { section, from, answer } in self.shared.questions.take() {
            let page = self.figures(own, section, from).map_err(|error| error.to_string());
            let _ = answer.try_send(page);
        }
    }
}
