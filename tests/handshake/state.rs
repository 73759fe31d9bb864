//! What the model knows at one moment: the server, the clients and their children, and both sides of each
//! link.

/// No scenario has more clients or links.
pub const CLIENTS: usize = 3;
pub const LINKS: usize = 2;

/// The sides of a link.
pub const CALLER: usize = 0;
pub const CALLEE: usize = 1;
pub const ROLES: [usize; 2] = [CALLER, CALLEE];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub server: Server,
    /// The number of the server's life: 2 after a restart.
    pub life: u8,
    pub clients: [Client; CLIENTS],
    pub links: [Link; LINKS],
    /// How many harmful events have happened.
    pub harms: u8,
    /// The server has noted a side twice, so one of the two notes can never end.
    pub noted_twice: bool,
    /// A caller took the answer to another ask for its own.
    pub mixed_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    Up,
    ShuttingDown,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    pub process: Process,
    /// A process forked from this one. It only keeps what it has, until it ends.
    pub child: Child,
    /// Whether the present server has it as a client.
    pub known: bool,
    /// The life of the server with which it registered last.
    pub life: u8,
    /// It has unregistered.
    pub left: bool,
    /// It has a listener: the word in its page is 1, and the server has the write end of its bell.
    pub serving: bool,
    /// Its bell is readable, or its watcher means to try again.
    pub bell: bool,
    /// It has dropped a listener and made another one.
    pub listened_again: bool,
    pub taker: Taker,
    /// The child has a copy of the socket on which TAKE was asked.
    pub taker_copied: bool,
    /// The bits of its page that tell ends.
    pub bits: u8,
    pub report: Report,
    /// Its links were reported in this registration.
    pub has_reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    Runs,
    Stopped,
    Dead,
    /// It runs another program now. Its descriptors and mappings are gone, and nothing was told to anyone.
    Execed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Child {
    None,
    Runs,
}

/// The part of a client's watcher that takes introductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taker {
    Idle,
    Asked,
    /// The answer is in the socket: nothing waits, or it was refused.
    Nothing,
    /// The answer is in the socket: the callee's side of this link.
    Answered(u8),
    /// The queue of the socket is shut down, and not yet empty.
    GivingUp(u8),
}

/// A client's report of its open links to a new server. The sets have one bit for each side of each link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    None,
    Asked(u8),
    /// The answer is in the socket: these sides were noted.
    Answered(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    pub sides: [Side; 2],
    /// The closed word in the segment.
    pub closed: bool,
    /// The caller's hello is in the request ring.
    pub caller_said: bool,
    /// What the callee has committed in the response ring, and how much of it the caller has read.
    pub said: [Block; 2],
    pub read: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    None,
    Hello,
    Accepted,
    Refused,
    Busy,
}

/// One side of a link: what its owner believes, who has its descriptors, and what the server has noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    pub stage: Stage,
    /// The datagram with this side's descriptors is in a socket that somebody can still read.
    pub in_flight: bool,
    /// The child has a copy of the socket on which CONNECT was asked.
    pub copied: bool,
    /// The process has the descriptors.
    pub holds: bool,
    /// The child has copies of the descriptors.
    pub child: bool,
    /// The server has forgotten to close its copies.
    pub kept: bool,
    /// The segment is mapped.
    pub mapped: bool,
    /// The watcher watches the peer.
    pub watched: bool,
    /// How far the close by the side's owner has come, and that by the watcher.
    pub owner: Closing,
    pub watcher: Closing,
    /// One of the two has taken it upon itself to flip the bit.
    pub flipped: bool,
    /// The bit that this side was given, and the life of the server that gave it.
    pub index: u8,
    pub life: u8,
    pub note: Option<Note>,
}

/// What the present server's table says about a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    pub index: u8,
    /// The bit's value when the index was given.
    pub value: bool,
    pub ended: bool,
}

/// How far a side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Idle,
    /// The caller has asked CONNECT.
    Asked,
    /// The caller gave CONNECT up: the socket's queue is shut down, and not yet empty.
    GivingUp,
    /// The caller died after it had asked, and its child keeps the connection open.
    Orphaned,
    /// The server died before it answered CONNECT.
    CutOff,
    /// The callee's side waits in the server.
    Waiting,
    /// The callee's side was sent.
    Sent,
    /// The descriptors were received.
    Got,
    /// The segment is mapped, and the watch of the peer has begun.
    Begun,
    /// The hello is published.
    Said,
    /// The caller has read the callee's hello.
    Heard,
    /// The callee's side has a place in its listener's backlog, and its watcher waits for the caller's hello.
    Silent,
    /// The callee's side is in its listener's backlog.
    Incoming,
    /// The callee has published Refused or Busy, and has not yet closed.
    Refusing,
    Open,
    Ended(Why),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// What the server answered.
    NotRegistered,
    NotServing,
    Backlog,
    Quota,
    ShuttingDown,
    /// It never came to the callee: expired, or the server or the callee ended.
    NeverTaken,
    ServerGone,
    Died,
    GaveUp,
    /// A system call failed while it was opened.
    Failed,
    NoHello,
    Gone,
    /// It was told of the end and not of the decision before it.
    Untold,
    Refused,
    Busy,
    Violation,
    /// It was closed, or dropped, by its owner.
    Closed,
    Unregistered,
}

/// A close is three steps, and its process may die between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closing {
    No,
    /// The closed words are stored, if the segment was mapped.
    Stored,
    /// The watch is ended and the descriptors are dropped, unless the other one did or will.
    LetGo,
    /// So is the bit flipped.
    Done,
}

impl State {
    pub fn new(clients: usize, serving: &[usize]) -> State {
        let mut client = Client {
            process: Process::Runs,
            child: Child::None,
            known: true,
            life: 1,
            left: false,
            serving: false,
            bell: false,
            listened_again: false,
            taker: Taker::Idle,
            taker_copied: false,
            bits: 0,
            report: Report::None,
            has_reported: false,
        };
        let mut all = [client; CLIENTS];
        for &index in serving {
            all[index].serving = true;
        }
        client.process = Process::Dead;
        client.known = false;
        all[clients..].fill(client);
        let link = Link {
            sides: [Side::new(); 2],
            closed: false,
            caller_said: false,
            said: [Block::None; 2],
            read: 0,
        };
        State {
            server: Server::Up,
            life: 1,
            clients: all,
            links: [link; LINKS],
            harms: 0,
            noted_twice: false,
            mixed_up: false,
        }
    }

    /// Whether anybody has this side's end of the pipes: if not, its peer's write end shows an error.
    pub fn has_holder(&self, link: usize, role: usize) -> bool {
        let side = &self.links[link].sides[role];
        side.stage == Stage::Waiting || side.kept || side.in_flight || side.holds || side.child
    }

    /// Whether the server takes the side for ended.
    pub fn counts_as_ended(&self, client: usize, note: &Note) -> bool {
        let bit = self.clients[client].bits >> note.index & 1 == 1;
        note.ended || !self.clients[client].known || bit != note.value
    }
}

impl Client {
    /// Whether its process still has what it had, though it may stand still.
    pub fn is_there(&self) -> bool {
        matches!(self.process, Process::Runs | Process::Stopped)
    }
}

impl Side {
    fn new() -> Side {
        Side {
            stage: Stage::Idle,
            in_flight: false,
            copied: false,
            holds: false,
            child: false,
            kept: false,
            mapped: false,
            watched: false,
            owner: Closing::No,
            watcher: Closing::No,
            flipped: false,
            index: 0,
            life: 0,
            note: None,
        }
    }

    /// Whether a close has begun and is not over.
    pub fn is_closing(&self) -> bool {
        [self.owner, self.watcher].iter().any(|how| !matches!(how, Closing::No | Closing::Done))
    }

    pub fn is_closed_here(&self) -> bool {
        self.owner != Closing::No || self.watcher != Closing::No
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// Whether this side is on its way to its owner, or its owner has it and does not close it.
    pub fn lives(&self) -> bool {
        let has = !matches!(self.stage, Stage::Idle | Stage::Ended(_)) && (self.holds || self.in_flight);
        (has || self.stage == Stage::Waiting) && !self.is_closed_here()
    }
}
