//! Tests of the table of links, with clients that have a channel and no connection.

use std::sync::Arc;

use super::LinkMarks;
use super::table::{NoPlace, Noted, Table};
use crate::channel::{self, Geometry, Guest, LinkWords};
use crate::connect::{Quotas, Role, Secret};
use crate::registry::{Owner, Registered, Registry};
use crate::ring::WaitStrategy;
use crate::server::delivery::Inbox;
use crate::server::member::Member;
use crate::server::quotas::{Ledger, LinkShare, Share};
use crate::wire::{Name, Peer};

struct Stage {
    registry: Registry,
    ledger: Arc<Ledger>,
    table: Table,
}

/// A user other than this process's and root.
const USER: u32 = 70_001;

impl Stage {
    fn new() -> Stage {
        let quotas = Quotas { links: 5000, ..Quotas::default() };
        Stage {
            registry: Registry::create(8).unwrap(),
            ledger: Arc::new(Ledger::new(quotas)),
            table: Table::default(),
        }
    }

    fn client(&self, name: &str) -> (Arc<Member>, Guest) {
        let name = Name::new(name).unwrap();
        let owner = Owner { pid: 1, uid: USER, gid: 3 };
        let Registered { key, counters } = self.registry.register(&name, owner).unwrap();
        let peer = Peer { name, key, pid: 1, uid: USER, gid: 3 };
        let geometry = Geometry::new(4096).unwrap();
        let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
        let guest = channel::open_for_client(&descriptor, WaitStrategy::Park).unwrap();
        let inbox = Inbox::new(host.inbox, host.intake.clone(), counters.clone());
        let member = Member::new(peer, inbox, (host.closer, host.intake), counters, 2);
        let member =
            member.with(Secret::new([7; 16]), LinkMarks::new(host.links), host.kicks, Share::default());
        (Arc::new(member), guest)
    }

    fn share(&self) -> LinkShare {
        self.ledger.begin_link(USER, 10, true).unwrap()
    }

    fn begin(&mut self, caller: &Arc<Member>, callee: &Arc<Member>) -> Result<Noted, NoPlace> {
        let share = self.share();
        self.table.begin(caller, callee, share)
    }

    /// How many links count against the user's quota.
    fn counted(&self) -> u32 {
        self.ledger.links_of(USER)
    }
}

#[test]
fn each_side_counts_for_itself_and_the_line_goes_with_the_last() {
    let mut stage = Stage::new();
    let ((alice, alices), (bob, bobs)) = (stage.client("alice"), stage.client("bob"));
    let key = bob.peer.key;
    let one = stage.begin(&alice, &bob).unwrap();
    let other = stage.begin(&alice, &bob).unwrap();
    assert!(one.id < other.id && one.caller != other.caller && one.callee != other.callee);
    assert_eq!((stage.counted(), stage.table.of_user_at(USER, key)), (2, 2));
    // The caller says that it has ended, which frees its quota and not its place at the callee.
    alices.links.flip(one.caller);
    stage.table.look_at(alice.peer.key);
    assert_eq!((stage.counted(), stage.table.of_user_at(USER, key), stage.table.len()), (1, 2, 2));
    bobs.links.flip(one.callee);
    stage.table.look_at(key);
    assert_eq!((stage.counted(), stage.table.of_user_at(USER, key), stage.table.len()), (1, 1, 1));
    // The callee says so first.
    bobs.links.flip(other.callee);
    stage.table.look_at_user(USER);
    assert_eq!((stage.counted(), stage.table.of_user_at(USER, key), stage.table.len()), (1, 0, 1));
    alices.links.flip(other.caller);
    stage.table.look_at_user(USER);
    assert_eq!((stage.counted(), stage.table.len()), (0, 0));
    assert!(stage.table.is_empty());
}

/// A side that is stopped, or that has not noticed yet, says so late. Its bit must not end another link.
#[test]
fn a_place_is_kept_until_its_client_says_that_the_link_has_ended() {
    for role in [Role::Caller, Role::Callee] {
        let mut stage = Stage::new();
        let ((alice, alices), (bob, bobs)) = (stage.client("alice"), stage.client("bob"));
        let link = stage.begin(&alice, &bob).unwrap();
        stage.table.end(link.id, if role == Role::Caller { Role::Callee } else { Role::Caller });
        let (late, guest, index) = match role {
            Role::Caller => (&alice, &alices, link.caller),
            Role::Callee => (&bob, &bobs, link.callee),
        };
        stage.table.look_at_user(USER);
        assert_eq!((late.links.open(), stage.table.len()), (1, 1));
        assert_eq!(stage.counted(), u32::from(role == Role::Caller), "the caller pays");
        // All other places are taken once, and given back.
        for _ in 0..LinkWords::MOST {
            let other = stage.begin(&alice, &bob).unwrap();
            assert!(other.caller != link.caller || role == Role::Callee);
            assert!(other.callee != link.callee || role == Role::Caller);
            stage.table.end(other.id, Role::Caller);
            stage.table.end(other.id, Role::Callee);
        }
        guest.links.flip(index);
        stage.table.look_at_user(USER);
        assert!(stage.table.is_empty() && late.links.open() == 0 && stage.counted() == 0);
    }
}

#[test]
fn a_client_that_leaves_ends_its_sides_only() {
    let mut stage = Stage::new();
    let ((alice, _alices), (bob, bobs)) = (stage.client("alice"), stage.client("bob"));
    let link = stage.begin(&alice, &bob).unwrap();
    let own = stage.begin(&alice, &alice).unwrap();
    assert_ne!(own.caller, own.callee);
    stage.begin(&bob, &alice).unwrap();
    assert_eq!((alice.links.open(), bob.links.open(), stage.counted()), (4, 2, 3));
    stage.table.left(alice.peer.key);
    assert_eq!((alice.links.open(), bob.links.open(), stage.counted(), stage.table.len()), (0, 2, 1, 2));
    assert!(stage.table.page(0, 10).0.is_empty());
    bobs.links.flip(link.callee);
    stage.table.left(bob.peer.key);
    assert!(stage.table.is_empty() && stage.counted() == 0 && bob.links.open() == 0);
}

#[test]
fn places_that_ended_are_found_when_all_are_taken() {
    let mut stage = Stage::new();
    let ((alice, alices), (bob, bobs)) = (stage.client("alice"), stage.client("bob"));
    let mut all: Vec<Noted> = (0..LinkWords::MOST).map(|_| stage.begin(&alice, &bob).unwrap()).collect();
    assert_eq!(stage.begin(&alice, &bob), Err(NoPlace(Role::Caller)));
    assert_eq!(alice.links.open(), u32::from(LinkWords::MOST), "nothing is taken by what failed");
    let ended = all.remove(100);
    alices.links.flip(ended.caller);
    assert_eq!(stage.begin(&alice, &bob), Err(NoPlace(Role::Callee)));
    assert_eq!(u32::from(LinkWords::MOST) - 1, alice.links.open());
    bobs.links.flip(ended.callee);
    let again = stage.begin(&alice, &bob).unwrap();
    assert_eq!((again.caller, again.callee), (ended.caller, ended.callee));
    assert_eq!(stage.counted(), u32::from(LinkWords::MOST));
}

/// A page may be short, and its next number leads on.
#[test]
fn pages_have_the_open_links_in_order() {
    let mut stage = Stage::new();
    let ((alice, alices), (bob, _bobs)) = (stage.client("alice"), stage.client("bob"));
    let all: Vec<Noted> = (0..10).map(|_| stage.begin(&alice, &bob).unwrap()).collect();
    alices.links.flip(all[3].caller);
    let ids = |page: &[crate::connect::LinkInfo]| page.iter().map(|link| link.id).collect::<Vec<_>>();
    let (first, next) = stage.table.page(0, 4);
    assert_eq!((ids(&first), next), (vec![1, 2, 3, 5], Some(6)));
    let (second, next) = stage.table.page(6, 4);
    assert_eq!((ids(&second), next), (vec![6, 7, 8, 9], Some(10)));
    let (third, next) = stage.table.page(10, 4);
    assert_eq!((ids(&third), next), (vec![10], None));
    assert_eq!((third[0].caller.as_str(), third[0].callee.as_str()), ("alice", "bob"));
    assert_eq!(stage.table.page(11, 4), (vec![], None));
}

#[test]
fn a_link_reported_by_both_is_one_and_pays_for_its_caller() {
    let mut stage = Stage::new();
    let ((alice, alices), (bob, _bobs)) = (stage.client("alice"), stage.client("bob"));
    let (alices_name, bobs_name) = (alice.peer.name, bob.peer.name);
    let share = || stage.ledger.begin_link(USER, 0, true).unwrap();
    let (id, _) = stage.table.report(&bob, Role::Callee, alices_name, share()).unwrap();
    assert_eq!((stage.table.of_user_at(USER, bob.peer.key), stage.table.page(0, 9).0.len()), (0, 0));
    let (link, calls) = stage.table.report(&alice, Role::Caller, bobs_name, share()).unwrap();
    assert_eq!(link, id);
    assert_eq!((stage.table.len(), stage.table.of_user_at(USER, bob.peer.key)), (1, 1));
    assert_eq!(stage.table.page(0, 9).0.len(), 1);
    stage.table.report(&alice, Role::Caller, bobs_name, share()).unwrap();
    assert_eq!((stage.table.len(), stage.counted()), (2, 2), "another one");
    alices.links.flip(calls);
    stage.table.look_at_user(USER);
    assert_eq!((stage.table.len(), stage.counted()), (2, 1));
    stage.table.left(alice.peer.key);
    stage.table.left(bob.peer.key);
    assert!(stage.table.is_empty() && stage.counted() == 0);
}
