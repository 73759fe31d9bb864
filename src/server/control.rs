//! Carries out the commands of operators, which the server's program understands.
//!
//! A command may read files or wait for a disk, so it does not run on the acceptor's thread, which everyone
//! depends on. A thread of its own runs one command after the other, and ends when none is left. The acceptor
//! sends the answers, because it alone may use the connections.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connections::{ConnectionId, Connections, OBSERVING_TIME};
use super::events::{Event, Refused};
use super::panics::contain;
use super::shared::{Shared, lock};
use crate::connect::Credentials;
use crate::connect::control::Obeyed;
use crate::os::threads;

/// How many commands may wait.
const MOST_WAITING: usize = 16;

/// What the program does for a command.
#[derive(Clone)]
pub(super) struct Commands(Arc<Obey>);

type Obey = dyn Fn(&str) -> Result<String, String> + Send + Sync;

impl Commands {
    pub(super) fn new(obey: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static) -> Commands {
        Commands(Arc::new(obey))
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commands")
    }
}

/// The commands, as the acceptor sees them.
pub(super) struct Control {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

/// What the acceptor and the thread share.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// The thread has nothing left to do.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Order>,
    answers: Vec<(ConnectionId, Obeyed)>,
    /// There is a thread.
    runs: bool,
}

/// A command and who gave it.
struct Order {
    from: ConnectionId,
    who: Credentials,
    command: String,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>) -> Control {
        Control { shared, queue: Arc::default() }
    }

    /// Takes a command. Its answer comes later, unless it is refused.
    pub(super) fn take(&mut self, connections: &mut Connections, id: ConnectionId, command: String) {
        let Some(who) = connections.get(id).map(|connection| connection.socket.who()) else { return };
        match self.order(Order { from: id, who, command }) {
            Ok(()) => {
                if let Some(asking) = connections.asking_mut(id) {
                    asking.commands = true;
                    asking.asks += 1;
                }
                connections.set_deadline(id, Instant::now() + OBSERVING_TIME);
            }
            Err(refused) => answer(connections, id, &refused),
        }
    }

    fn order(&self, order: Order) -> Result<(), Obeyed> {
        if !self.shared.ledger.is_exempt(order.who.uid) {
            let refused = Refused::new("control", "a command of a user who may give none").of(order.who);
            self.shared.events.tell(Event::Refused(refused));
            return Err(Obeyed::NotPermitted);
        }
        let commands = self.shared.settings.control.clone().ok_or(Obeyed::NoCommands)?;
        let mut state = lock(&self.queue.state);
        if state.waiting.len() >= MOST_WAITING {
            return Err(Obeyed::Busy);
        }
        state.waiting.push_back(order);
        if !state.runs {
            let (shared, queue) = (Arc::clone(&self.shared), Arc::clone(&self.queue));
            if let Err(error) = threads::spawn("rp-control", move || run(&shared, &queue, &commands)) {
                state.waiting.clear();
                return Err(Obeyed::Failed(format!("the server cannot start a thread: {error}")));
            }
            state.runs = true;
        }
        Ok(())
    }

    /// Sends the answers that are there.
    pub(super) fn answer(&mut self, connections: &mut Connections) {
        let answers = std::mem::take(&mut lock(&self.queue.state).answers);
        for (id, obeyed) in answers {
            if let Some(asking) = connections.asking_mut(id) {
                asking.commands = false;
                answer(connections, id, &obeyed);
            }
        }
    }

    /// Takes no more commands, waits until `until` for the one that is being carried out, and answers it.
    pub(super) fn finish(&mut self, connections: &mut Connections, until: Option<Instant>) {
        let mut state = lock(&self.queue.state);
        for order in std::mem::take(&mut state.waiting) {
            let stopping = Obeyed::Failed("the server is shutting down, and has not carried it out".into());
            state.answers.push((order.from, stopping));
        }
        let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        let waited = self.queue.idle.wait_timeout_while(state, left, |state| state.runs);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.answer(connections);
    }
}

fn answer(connections: &mut Connections, id: ConnectionId, obeyed: &Obeyed) {
    if connections.answer(id, &obeyed.encode(), &[]).is_err() {
        connections.remove(id);
    }
}

/// The thread's work.
fn run(shared: &Shared, queue: &Queue, commands: &Commands) {
    loop {
        let mut state = lock(&queue.state);
        let Some(Order { from, who, command }) = state.waiting.pop_front() else {
            state.runs = false;
            queue.idle.notify_all();
            return;
        };
        drop(state);
        let obeyed = match contain(|| (commands.0)(&command)) {
            Ok(Ok(text)) => Obeyed::Done(text),
            Ok(Err(why)) => Obeyed::Failed(why),
            Err(panic) => Obeyed::Failed(format!("it panicked: {panic}")),
        };
        let error = if let Obeyed::Failed(why) = &obeyed { Some(why.clone()) } else { None };
        shared.events.tell(Event::Control { who, command, error });
        lock(&queue.state).answers.push((from, obeyed));
        shared.stop.wake_acceptor();
    }
}
