//! The scenarios that are explored, and where each planted fault is found.

use super::model::{Fault, Harm, Model};
use super::rules;

/// All that may go wrong while the server stays the same, but for an exec beside a child.
const ANYTHING: &[Harm] = &[
    Harm::Dies,
    Harm::Forks,
    Harm::Execs,
    Harm::IsSlow,
    Harm::GivesUp,
    Harm::Fails,
    Harm::Closes,
    Harm::Unregisters,
    Harm::StopsListening,
    Harm::ServerDies,
    Harm::ServerShutsDown,
];

/// The same, with processes that stop. Who waits for them needs a deadline.
const WITH_STOPPED: &[Harm] = &[
    Harm::Dies,
    Harm::Stops,
    Harm::Forks,
    Harm::IsSlow,
    Harm::GivesUp,
    Harm::Fails,
    Harm::Closes,
    Harm::StopsListening,
    Harm::ServerDies,
];

/// The first ones without what a second link adds nothing to.
const MUCH: &[Harm] = &[
    Harm::Dies,
    Harm::Forks,
    Harm::IsSlow,
    Harm::GivesUp,
    Harm::Fails,
    Harm::Closes,
    Harm::StopsListening,
    Harm::ServerShutsDown,
];

/// What matters when a server comes back.
const AROUND_A_RESTART: &[Harm] = &[
    Harm::Dies,
    Harm::IsSlow,
    Harm::GivesUp,
    Harm::Fails,
    Harm::Closes,
    Harm::Unregisters,
    Harm::ServerDies,
    Harm::ServerShutsDown,
];

pub const ONE_LINK: Model = Model {
    name: "one link",
    clients: 2,
    links: &[(0, 1)],
    harm: ANYTHING,
    harms: 2,
    most_waiting: 8,
    backlog: 8,
    indices: 2,
    coarse: false,
    undecided: false,
    may_not_take: false,
    restarts: false,
    fault: None,
};

const UNDECIDED: Model = Model {
    name: "one link, perhaps never taken or decided",
    undecided: true,
    may_not_take: true,
    harm: WITH_STOPPED,
    harms: 2,
    ..ONE_LINK
};

const ONESELF: Model =
    Model { name: "a client that connects to itself", clients: 1, links: &[(0, 0)], ..ONE_LINK };

const TWO_LINKS: Model = Model { coarse: true, harms: 1, harm: MUCH, ..ONE_LINK };

const CROSSING: Model =
    Model { name: "two clients that connect to each other", links: &[(0, 1), (1, 0)], ..TWO_LINKS };

const TWO_CALLERS: Model =
    Model { name: "two callers of one callee", clients: 3, links: &[(0, 2), (1, 2)], ..TWO_LINKS };

const FULL_BACKLOGS: Model =
    Model { name: "two callers, both backlogs of one", most_waiting: 1, backlog: 1, ..TWO_CALLERS };

const TWO_CALLEES: Model =
    Model { name: "one caller of two callees", clients: 3, links: &[(0, 1), (0, 2)], ..TWO_LINKS };

const TWICE: Model = Model { name: "the same two, twice", links: &[(0, 1), (0, 1)], ..TWO_LINKS };

const ONE_INDEX: Model = Model { name: "the same two, twice, one index", indices: 1, ..TWICE };

const RESTART: Model = Model {
    name: "one link, the server comes back",
    harm: AROUND_A_RESTART,
    harms: 2,
    restarts: true,
    ..ONE_LINK
};

const RESTART_TWICE: Model = Model {
    name: "two links, the server comes back",
    harm: &[Harm::Dies, Harm::IsSlow, Harm::GivesUp, Harm::Closes, Harm::ServerDies],
    links: &[(0, 1), (0, 1)],
    coarse: true,
    harms: 1,
    ..RESTART
};

const QUICK: Model = Model { harm: &[], harms: 0, ..ONE_LINK };

const QUICK_CROSSING: Model =
    Model { name: "all quick: connect to each other", links: CROSSING.links, coarse: true, ..QUICK };

const QUICK_CALLERS: Model =
    Model { name: "all quick: two callers", clients: 3, links: TWO_CALLERS.links, ..QUICK };

const QUICK_BACKLOGS: Model = Model {
    name: "all quick: two callers, both backlogs of one",
    most_waiting: 1,
    backlog: 1,
    ..QUICK_CALLERS
};

const QUICK_LISTENERS: Model = Model {
    name: "all quick: a listener after another",
    harm: &[Harm::StopsListening],
    harms: 1,
    coarse: true,
    ..QUICK_CALLERS
};

pub const ALL: [Model; 15] = [
    ONE_LINK,
    UNDECIDED,
    ONESELF,
    CROSSING,
    TWO_CALLERS,
    FULL_BACKLOGS,
    TWO_CALLEES,
    TWICE,
    ONE_INDEX,
    RESTART,
    RESTART_TWICE,
    QUICK_CROSSING,
    QUICK_CALLERS,
    QUICK_BACKLOGS,
    QUICK_LISTENERS,
];

/// Each planted fault, the scenario in which it is found, and the rule that it breaks.
pub const FAULTS: &[(Fault, Model, &str)] = &[
    (Fault::CallerNeedsNoHello, ONE_LINK, rules::ONE_SIDED),
    (Fault::CalleeNeedsNoHello, ONE_LINK, rules::NEVER_ENDS),
    (Fault::HelloAwaitedForEver, ONE_LINK, rules::UNDECIDED),
    (Fault::AcceptedBeforeHello, ONE_LINK, rules::VIOLATION),
    (Fault::NoPidfd, ONE_LINK, rules::NEVER_ENDS),
    (Fault::NoHangUp, ONE_LINK, rules::NEVER_ENDS),
    (Fault::ClosedWordNotHeeded, ONE_LINK, rules::NEVER_ENDS),
    (Fault::EndBeforeAnswer, ONE_LINK, rules::NOT_TOLD),
    (Fault::ConnectNotDrained, ONE_LINK, rules::LINE_STAYS),
    (Fault::TakeNotDrained, ONE_LINK, rules::LINE_STAYS),
    (Fault::DrainedNotTold, ONE_LINK, rules::LINE_STAYS),
    (Fault::ConnectionUsedAgain, TWO_CALLEES, rules::TWO_LINKS),
    (Fault::ConnectNotUndone, ONE_LINK, rules::LINE_STAYS),
    (Fault::TakeNotUndone, ONE_LINK, rules::LINE_STAYS),
    (Fault::FullBacklogSilent, QUICK_BACKLOGS, rules::NEEDLESS),
    (Fault::NoExpiry, UNDECIDED, rules::SERVER_HOLDS),
    (Fault::KeptAfterTake, ONE_LINK, rules::SERVER_HOLDS),
    (Fault::FlippedTwice, ONE_LINK, rules::LINE_STAYS),
    (Fault::FlippedEarly, ONE_LINK, rules::TAKEN_FOR_ENDED),
    (Fault::IndexReused, TWICE, rules::TAKEN_FOR_ENDED),
    (Fault::EndNotNoted, ONE_INDEX, rules::LINE_STAYS),
    (Fault::ForgottenWhenExpired, ONE_LINK, rules::TAKEN_FOR_ENDED),
    (Fault::CallerForgotten, ONE_LINK, rules::TAKEN_FOR_ENDED),
    (Fault::TakesOnce, QUICK_CALLERS, rules::NEEDLESS),
    (Fault::BellEmptiedLate, QUICK_CALLERS, rules::NEEDLESS),
    (Fault::RingForgotten, QUICK_CALLERS, rules::NEEDLESS),
    (Fault::NewBellSilent, QUICK_LISTENERS, rules::NEEDLESS),
    (Fault::OpenedAfterLeaving, ONE_LINK, rules::AFTER_LEAVING),
    (Fault::EndWhileReported, RESTART, rules::LINE_STAYS),
    (Fault::ReportedToItsMaker, RESTART, rules::NOTED_TWICE),
    (Fault::ReportNotDrained, RESTART, rules::NOTED_TWICE),
    (Fault::LateNotReported, RESTART, rules::NOT_NOTED),
    (Fault::IndexOfOldPage, RESTART_TWICE, rules::TAKEN_FOR_ENDED),
];
