//! What a search explores: who connects to whom, what may go wrong, the limits, and the planted fault.

use super::state::{CALLER, State};

/// A scenario.
#[derive(Clone, Copy)]
pub struct Model {
    pub name: &'static str,
    pub clients: usize,
    /// Caller and callee of each link.
    pub links: &'static [(usize, usize)],
    /// What may go wrong, and how often in all.
    pub harm: &'static [Harm],
    pub harms: u8,
    /// The server's limit of introductions that wait for one client, and the listener's of incoming links.
    pub most_waiting: usize,
    pub backlog: usize,
    /// How many sides of links the server can tell apart in one client.
    pub indices: u8,
    /// What one party does in a row is one step where nothing but its own end can come between, and children
    /// never end. For scenarios with two links; those with one link explore what is left out.
    pub coarse: bool,
    /// The callee's owner may leave an incoming link undecided, and each `connect` has a deadline. Otherwise
    /// each is decided, and a `connect` may wait for ever.
    pub undecided: bool,
    /// The callee's watcher may never take.
    pub may_not_take: bool,
    pub restarts: bool,
    pub fault: Option<Fault>,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A client's process dies.
    Dies,
    /// It stands still for ever, or is another program that keeps what it gets and does nothing with it.
    Stops,
    /// It forks a child, which keeps copies of all descriptors, and ends at any time or never.
    Forks,
    /// It executes another program. Not while it has a child.
    Execs,
    /// The same, also while it has a child.
    ExecsBesideChild,
    /// A process or thread stands still, and five seconds are over before it goes on. Without this harm a
    /// time-out happens only when nothing else can.
    IsSlow,
    /// Someone who waits gives up: a deadline, an error, a drop.
    GivesUp,
    /// A system call fails while a link is opened.
    Fails,
    /// A side closes its open link, or drops an incoming one.
    Closes,
    Unregisters,
    /// A listener is dropped, and perhaps another one made.
    StopsListening,
    ServerDies,
    ServerShutsDown,
}

/// What an implementation might get wrong. Each is one rule of the protocol left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A caller need not say hello to join the backlog.
    CallerNeedsNoHello,
    /// The caller waits for the callee's hello without a limit.
    CalleeNeedsNoHello,
    /// The callee's watcher waits for the caller's hello without a limit.
    HelloAwaitedForEver,
    /// The callee publishes its decision before its hello.
    AcceptedBeforeHello,
    /// Ends are noticed by the pipes only.
    NoPidfd,
    /// Ends are not noticed by the pipes.
    NoHangUp,
    /// The shared closed word is not looked at.
    ClosedWordNotHeeded,
    /// The closed word counts before what was committed ahead of it.
    EndBeforeAnswer,
    /// Who gives CONNECT up only closes the connection.
    ConnectNotDrained,
    /// Who gives TAKE up only closes the connection.
    TakeNotDrained,
    /// What was received only to be dropped is not told to the server.
    DrainedNotTold,
    /// A connection on which an ask was given up is used for the next one.
    ConnectionUsedAgain,
    /// The server introduces though it could not send the caller's answer.
    ConnectNotUndone,
    /// The server forgets an introduction when it could not send the answer to TAKE.
    TakeNotUndone,
    /// A full listener closes without a word.
    FullBacklogSilent,
    /// The server keeps an introduction until it is taken.
    NoExpiry,
    /// The server keeps its copies of what was taken.
    KeptAfterTake,
    /// The owner and the watcher both flip the bit.
    FlippedTwice,
    /// The bit is flipped when the side is received.
    FlippedEarly,
    /// The server gives an index without looking whether a side has it.
    IndexReused,
    /// The server gives the index of an ended side anew, and does not note that the side has ended.
    EndNotNoted,
    /// The server forgets a link whose introduction was not taken in time, although its caller has its side.
    ForgottenWhenExpired,
    /// Some time after the callee has ended, the server takes the caller for ended too.
    CallerForgotten,
    /// The watcher takes once when the bell rings.
    TakesOnce,
    /// The watcher empties its bell after it took.
    BellEmptiedLate,
    /// A bell that rings while TAKE is under way is emptied, and forgotten.
    RingForgotten,
    /// A new listener's bell is not rung for what waits already.
    NewBellSilent,
    /// A link that is opened while its client unregisters is not closed.
    OpenedAfterLeaving,
    /// An end that falls between a report and its answer is not told to the new server.
    EndWhileReported,
    /// A report has links that the same server made.
    ReportedToItsMaker,
    /// Who gives a report up does not read an answer that has come.
    ReportNotDrained,
    /// A link that the old server made, and that is opened after the report, is not reported.
    LateNotReported,
    /// An index of the old server is used in the new page.
    IndexOfOldPage,
}

impl Model {
    pub fn first(&self) -> State {
        let serving: Vec<usize> = self.links.iter().map(|link| link.1).collect();
        State::new(self.clients, &serving)
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Nothing goes wrong but that a listener is dropped. It is then followed by another one soon.
    pub fn only_listeners_change(&self) -> bool {
        self.harm == [Harm::StopsListening]
    }

    /// The client that owns a side.
    pub fn owner(&self, link: usize, role: usize) -> usize {
        let (caller, callee) = self.links[link];
        if role == CALLER { caller } else { callee }
    }
}
