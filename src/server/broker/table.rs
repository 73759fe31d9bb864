//! The table of links: who is at either side of each, and for whom it has ended.
//!
//! The server keeps nothing else of a link that both sides have taken. It hears of a link's end by the bits
//! that either client flips ([`LinkMarks`](super::LinkMarks)), and looks at them only when it wants to know.
//! A client that lies about its bits must harm nobody else, so each side counts for itself:
//!
//! - What a user has of its quota is freed when *its* client says that the link has ended.
//! - How many links a user may have at one client counts until *that* client says so.
//! - The line goes when both have. Until a client says so, or is gone, its place is not given to another
//!   link: a bit that is flipped late would end that one. A client that never says so cheats itself only.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::channel::LinkWords;
use crate::connect::{LinkFigures, LinkInfo, Role};
use crate::server::member::Member;
use crate::server::quotas::LinkShare;
use crate::wire::{Key, Name};

/// How many lines are looked at for one page.
const LOOKED_AT: usize = 512;

/// The number of a link. It is never used again.
pub(super) type LinkId = u64;

#[derive(Debug, Default)]
pub(super) struct Table {
    last_id: LinkId,
    lines: BTreeMap<LinkId, Line>,
    clients: HashMap<Key, Client>,
    /// Links that one side has reported and the other has not: the names of caller and callee.
    halves: HashMap<(Name, Name), Vec<LinkId>>,
}

#[derive(Debug)]
struct Line {
    caller: Side,
    callee: Side,
    /// The caller's user, if the server has seen the caller.
    uid: Option<u32>,
    made: Instant,
    /// What it takes of the quotas of the side that pays.
    share: Option<(Role, LinkShare)>,
}

#[derive(Debug)]
struct Side {
    name: Arc<Name>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The link is open for this client, at that place.
    Open(Key, u16),
    Ended,
    /// Only the other side has reported the link.
    Unseen,
}

/// A client that has or had links.
#[derive(Debug)]
struct Client {
    member: Arc<Member>,
    name: Arc<Name>,
    links: HashMap<u16, (LinkId, Role)>,
    /// Where to look for the next free place.
    next: u16,
    /// How many links each user has here.
    of_users: HashMap<u32, u32>,
}

/// A link that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) id: LinkId,
    pub(super) caller: u16,
    pub(super) callee: u16,
}

/// A client has no place for one more link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoPlace(pub(super) Role);

impl Line {
    fn side(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Caller => &mut self.caller,
            Role::Callee => &mut self.callee,
        }
    }

    fn is_over(&self) -> bool {
        !matches!(self.caller.state, State::Open(..)) && !matches!(self.callee.state, State::Open(..))
    }
}

impl Table {
    fn client(&mut self, member: &Arc<Member>) -> &mut Client {
        self.clients.entry(member.peer.key).or_insert_with(|| Client {
            member: Arc::clone(member),
            name: Arc::new(member.peer.name),
            links: HashMap::new(),
            next: 0,
            of_users: HashMap::new(),
        })
    }

    /// Whether all places of a client are taken.
    pub(super) fn is_full(&self, member: &Member) -> bool {
        let client = self.clients.get(&member.peer.key);
        client.is_some_and(|client| client.links.len() >= LinkWords::MOST.into())
    }

    /// Takes a place for a link at a client.
    fn place(&mut self, member: &Arc<Member>, id: LinkId, role: Role) -> Result<u16, NoPlace> {
        let client = self.client(member);
        let index = member.links.take(client.next).ok_or(NoPlace(role))?;
        client.links.insert(index, (id, role));
        client.next = index + 1;
        Ok(index)
    }

    /// Notes a link that is about to be introduced.
    pub(super) fn begin(
        &mut self,
        caller: &Arc<Member>,
        callee: &Arc<Member>,
        share: LinkShare,
    ) -> Result<Noted, NoPlace> {
        for member in [caller, callee] {
            if self.is_full(member) {
                self.look_at(member.peer.key);
            }
        }
        let id = self.last_id + 1;
        let at_caller = self.place(caller, id, Role::Caller)?;
        let at_callee = match self.place(callee, id, Role::Callee) {
            Ok(index) => index,
            Err(no_place) => {
                self.free(caller.peer.key, at_caller);
                return Err(no_place);
            }
        };
        self.last_id = id;
        let uid = caller.peer.uid;
        let callee_client = self.client(callee);
        *callee_client.of_users.entry(uid).or_default() += 1;
        let callee_name = Arc::clone(&callee_client.name);
        let caller_name = Arc::clone(&self.client(caller).name);
        let line = Line {
            caller: Side { name: caller_name, state: State::Open(caller.peer.key, at_caller) },
            callee: Side { name: callee_name, state: State::Open(callee.peer.key, at_callee) },
            uid: Some(uid),
            made: Instant::now(),
            share: Some((Role::Caller, share)),
        };
        self.lines.insert(id, line);
        Ok(Noted { id, caller: at_caller, callee: at_callee })
    }

    /// Notes a link that a client had before it registered here. The other side may report it, too. Returns
    /// the link's number, and its place at the client.
    pub(super) fn report(
        &mut self,
        member: &Arc<Member>,
        role: Role,
        other: Name,
        share: LinkShare,
    ) -> Result<(LinkId, u16), NoPlace> {
        let own = member.peer.name;
        let names = match role {
            Role::Caller => (own, other),
            Role::Callee => (other, own),
        };
        let unseen = self.halves.get(&names).and_then(|ids| {
            ids.iter()
                .copied()
                .find(|id| self.lines.get_mut(id).is_some_and(|line| line.side(role).state == State::Unseen))
        });
        let id = unseen.unwrap_or(self.last_id + 1);
        let index = self.place(member, id, role)?;
        let state = State::Open(member.peer.key, index);
        let uid = member.peer.uid;
        if unseen.is_some() {
            self.forget_half(names, id);
            let Some(line) = self.lines.get_mut(&id) else { return Ok((id, index)) };
            line.side(role).state = state;
            if role == Role::Caller {
                line.uid = Some(uid);
                line.share = Some((role, share));
            }
            let (callee, uid) = (line.callee.state, line.uid);
            if let (State::Open(callee, _), Some(uid)) = (callee, uid)
                && let Some(client) = self.clients.get_mut(&callee)
            {
                *client.of_users.entry(uid).or_default() += 1;
            }
            return Ok((id, index));
        }
        self.last_id = id;
        let own = Side { name: Arc::clone(&self.client(member).name), state };
        let other = Side { name: Arc::new(other), state: State::Unseen };
        let (caller, callee, uid) = match role {
            Role::Caller => (own, other, Some(uid)),
            Role::Callee => (other, own, None),
        };
        let made = Instant::now();
        let line = Line { caller, callee, uid, made, share: Some((role, share)) };
        self.lines.insert(id, line);
        self.halves.entry(names).or_default().push(id);
        Ok((id, index))
    }

    fn forget_half(&mut self, names: (Name, Name), id: LinkId) {
        if let Some(ids) = self.halves.get_mut(&names) {
            ids.retain(|half| *half != id);
            if ids.is_empty() {
                self.halves.remove(&names);
            }
        }
    }

    fn free(&mut self, key: Key, index: u16) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.links.remove(&index);
            client.member.links.free(index);
        }
    }

    /// A link has ended for one side.
    pub(super) fn end(&mut self, id: LinkId, role: Role) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let State::Open(key, index) = line.side(role).state else { return };
        line.side(role).state = State::Ended;
        if line.share.as_ref().is_some_and(|(payer, _)| *payer == role) {
            line.share = None;
        }
        let (uid, is_over) = (line.uid, line.is_over());
        self.free(key, index);
        if role == Role::Callee
            && let (Some(uid), Some(client)) = (uid, self.clients.get_mut(&key))
            && let Some(count) = client.of_users.get_mut(&uid)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                client.of_users.remove(&uid);
            }
        }
        if is_over && let Some(line) = self.lines.remove(&id) {
            let is_half = [&line.caller, &line.callee].iter().any(|side| side.state == State::Unseen);
            if is_half {
                self.forget_half((*line.caller.name, *line.callee.name), id);
            }
        }
    }

    /// Looks whether a link has ended, for either side.
    fn look(&mut self, id: LinkId) {
        let Some(line) = self.lines.get(&id) else { return };
        let has_ended = |state| match state {
            State::Open(key, index) => {
                self.clients.get(&key).is_none_or(|client| client.member.links.has_ended(index))
            }
            State::Ended | State::Unseen => false,
        };
        let (caller, callee) = (has_ended(line.caller.state), has_ended(line.callee.state));
        if callee {
            self.end(id, Role::Callee);
        }
        if caller {
            self.end(id, Role::Caller);
        }
    }

    /// Looks which links of a client have ended for it. This costs little, however many links it has:
    /// strangers can bring it about.
    pub(super) fn look_at(&mut self, key: Key) {
        let Some(client) = self.clients.get(&key) else { return };
        let ended = client.member.links.ended();
        let ended: Vec<_> = ended.iter().filter_map(|index| client.links.get(index).copied()).collect();
        ended.into_iter().for_each(|(id, role)| self.end(id, role));
    }

    /// Looks which links of a user's clients have ended.
    pub(super) fn look_at_user(&mut self, uid: u32) {
        let of_user = self.clients.values().filter(|client| client.member.peer.uid == uid);
        let keys: Vec<Key> = of_user.map(|client| client.member.peer.key).collect();
        keys.into_iter().for_each(|key| self.look_at(key));
    }

    /// A client is gone, and all its links have ended for it.
    pub(super) fn left(&mut self, key: Key) {
        let Some(client) = self.clients.get(&key) else { return };
        let links: Vec<(LinkId, Role)> = client.links.values().copied().collect();
        links.into_iter().for_each(|(id, role)| self.end(id, role));
        self.clients.remove(&key);
    }

    /// How many links a user has at a client.
    pub(super) fn of_user_at(&self, uid: u32, key: Key) -> u32 {
        self.clients.get(&key).and_then(|client| client.of_users.get(&uid)).copied().unwrap_or(0)
    }

    /// Open links in the order of their numbers, starting at one: as many as `most`, or fewer. If there may
    /// be more, also gives the number at which to go on.
    pub(super) fn page(&mut self, from: LinkId, most: usize) -> (Vec<LinkInfo>, Option<LinkId>) {
        self.page_of(from, most, |_, info, _| info)
    }

    /// The same links, with what either side says that it did.
    pub(super) fn figures(&mut self, from: LinkId, most: usize) -> (Vec<LinkFigures>, Option<LinkId>) {
        self.page_of(from, most, |table, info, sides| {
            let [caller, callee] = sides.map(|(key, index)| {
                let client = table.clients.get(&key);
                client.and_then(|client| client.member.page.as_ref()?.link(index)).unwrap_or_default()
            });
            LinkFigures {
                info,
                requests: caller.blocks,
                bytes_out: caller.bytes,
                served: callee.blocks,
                bytes_in: callee.bytes,
            }
        })
    }

    /// Open links, and what is told of each. It is called with the places of both sides.
    fn page_of<T>(
        &mut self,
        from: LinkId,
        most: usize,
        tell: impl Fn(&Table, LinkInfo, [(Key, u16); 2]) -> T,
    ) -> (Vec<T>, Option<LinkId>) {
        let now = Instant::now();
        let ids: Vec<LinkId> = self.lines.range(from..).map(|(id, _)| *id).take(LOOKED_AT + 1).collect();
        let mut links = Vec::new();
        for (looked_at, id) in ids.into_iter().enumerate() {
            if links.len() == most || looked_at == LOOKED_AT {
                return (links, Some(id));
            }
            self.look(id);
            let Some(line) = self.lines.get(&id) else { continue };
            if let (State::Open(one, at), State::Open(other, there)) = (line.caller.state, line.callee.state)
            {
                let (caller, callee) = (*line.caller.name, *line.callee.name);
                let info = LinkInfo { id, caller, callee, age: now.saturating_duration_since(line.made) };
                links.push(tell(self, info, [(one, at), (other, there)]));
            }
        }
        (links, None)
    }

    /// Whether nothing is noted.
    #[cfg(any(fuzzing, test))]
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.halves.is_empty()
    }

    /// How many lines there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }
}
