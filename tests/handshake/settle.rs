//! Makes states equal that differ only in what cannot matter any more, so that there are fewer of them.

use super::model::Model;
use super::state::{Block, Child, Closing, Note, ROLES, Report, Side, Stage, State, Why};

impl State {
    pub fn settle(&mut self, model: &Model) {
        for link in 0..model.links.len() {
            for role in ROLES {
                self.settle_side(model, link, role);
            }
            let here = &mut self.links[link];
            if here.sides.iter().all(is_over) {
                (here.closed, here.caller_said, here.said, here.read) = (false, false, [Block::None; 2], 0);
            }
        }
        for client in 0..model.clients {
            self.settle_client(model, client);
        }
    }

    fn settle_side(&mut self, model: &Model, link: usize, role: usize) {
        let client = model.owner(link, role);
        let mut side = self.links[link].sides[role];
        if !is_over(&side) {
            return;
        }
        (side.owner, side.watcher, side.mapped, side.copied) = (Closing::No, Closing::No, false, false);
        let by_bit = |note: &Note| model.fault.is_none() && self.counts_as_ended(client, note);
        side.note = side.note.filter(|note| !note.ended && !by_bit(note));
        if self.clients[client].report == Report::None {
            (side.flipped, side.index, side.life) = (false, 0, 0);
        }
        // Why it ended matters only to who asks for attempts that failed without a reason.
        let asked = self.harms == 0 || model.only_listeners_change();
        if !asked && !matches!(side.stage, Stage::Ended(Why::Violation | Why::Untold)) {
            side.stage = Stage::Ended(Why::Closed);
        }
        self.links[link].sides[role] = side;
    }

    fn settle_client(&mut self, model: &Model, client: usize) {
        let links = self.links;
        let sides = || {
            let all = (0..model.links.len()).flat_map(|link| ROLES.map(|role| (link, role)));
            all.filter(|&(link, role)| model.owner(link, role) == client)
                .map(|(link, role)| links[link].sides[role])
        };
        let it = &mut self.clients[client];
        if !it.is_there() && !it.known {
            (it.serving, it.left, it.listened_again, it.has_reported) = (false, false, false, false);
            if !it.taker_copied && !sides().any(|side| side.child || side.copied || side.in_flight) {
                it.child = Child::None;
            }
        }
        // A bit has a meaning only beside the value that was noted.
        if model.fault.is_none() {
            let noted = sides().filter_map(|side| side.note).fold(0, |bits, note| bits | 1 << note.index);
            it.bits &= noted;
        }
    }
}

/// Whether a side has ended, and nothing of it is left with its owner.
fn is_over(side: &Side) -> bool {
    side.has_ended() && !side.is_closing() && !side.holds && !side.in_flight
}
