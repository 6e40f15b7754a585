//! Which edges carry the bodies of an origin's updates, and which carry their ids only.
//!
//! Every edge begins by carrying bodies. Whoever gets one that it has already tells the sender so,
//! and from then on hears of that origin's updates over that edge by id. What is left is, for each
//! origin, a tree of the edges over which its updates came first: a single tree for all origins
//! would send most of them a long way round. Forgetting any of this is harmless: the edge carries
//! bodies again until the next one comes too late.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use core::time::Duration;

use skep_base::{NodeId, Time};

use crate::id::{Serial, UpdateId};
use crate::life::GroupIx;

/// Origins whose edges are remembered, over all groups. Each takes about 250 bytes with three
/// neighbours; beyond them the longest unused are forgotten.
pub(crate) const MAX_BRANCHES: usize = 16_384;
/// A neighbour that goes on sending bodies is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// How often in a row another neighbour must have been well ahead before it carries the bodies.
const AHEAD_IN_A_ROW: u8 = 3;
/// Updates that come together are ahead together: those of a moment count once.
const AHEAD_AGAIN: Duration = Duration::from_millis(20);
/// For how long another neighbour carries the bodies before a third may. Where queues decide who is
/// ahead, each change moves the queue, and what is in it comes twice.
const CHANGE_AGAIN: Duration = Duration::from_secs(2);

/// The edges of one origin in one group.
#[derive(Debug, Default)]
struct Branch {
    /// Neighbours that want ids only; sorted.
    lazy: Vec<NodeId>,
    /// Neighbours that were told to send ids only, and when.
    cut: Vec<(NodeId, Time)>,
    /// Over which edge the last body came first.
    parent: Option<NodeId>,
    /// The last body that came unasked over an edge that goes on bringing them, and when.
    came: Option<(Serial, Time)>,
    /// A neighbour whose ids came well before the bodies, how often in a row, and when last.
    ahead: Option<(NodeId, u8, Time)>,
    /// When a neighbour was last asked for the bodies because it was ahead.
    changed: Option<Time>,
    /// When it was last looked at, in [`Branches::uses`].
    used: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    of: BTreeMap<(GroupIx, NodeId), Branch>,
    uses: u64,
}

impl Branches {
    fn branch(&mut self, group: GroupIx, origin: NodeId) -> &mut Branch {
        self.uses += 1;
        if self.of.len() >= MAX_BRANCHES && !self.of.contains_key(&(group, origin)) {
            self.forget_oldest();
        }
        let branch = self.of.entry((group, origin)).or_default();
        branch.used = self.uses;
        branch
    }

    /// A quarter at once, so that looking for them costs little for each.
    fn forget_oldest(&mut self) {
        let mut uses: Vec<u64> = self.of.values().map(|branch| branch.used).collect();
        let (_, quarter, _) = uses.select_nth_unstable(MAX_BRANCHES / 4);
        let quarter = *quarter;
        self.of.retain(|_, branch| branch.used > quarter);
    }

    /// Neighbours that want no bodies of this origin; notes that it is used.
    pub(crate) fn lazy(&mut self, group: GroupIx, origin: NodeId) -> &[NodeId] {
        self.uses += 1;
        match self.of.get_mut(&(group, origin)) {
            Some(branch) => {
                branch.used = self.uses;
                &branch.lazy
            }
            None => &[],
        }
    }

    /// A neighbour wants no bodies of this origin.
    pub(crate) fn prune(&mut self, group: GroupIx, origin: NodeId, peer: NodeId) {
        let branch = self.branch(group, origin);
        if let Err(at) = branch.lazy.binary_search(&peer) {
            branch.lazy.insert(at, peer);
        }
    }

    /// A neighbour wants the bodies of this origin.
    pub(crate) fn graft(&mut self, group: GroupIx, origin: NodeId, peer: NodeId) {
        if let Some(branch) = self.of.get_mut(&(group, origin)) {
            branch.lazy.retain(|lazy| *lazy != peer);
        }
    }

    /// A body came that was not here, unasked for. What a neighbour sent before it heard that it
    /// should not says nothing of what it will send.
    pub(crate) fn came_from(&mut self, group: GroupIx, id: UpdateId, peer: NodeId, now: Time) {
        let branch = self.branch(group, id.origin);
        if branch.cut.iter().all(|(cut, _)| *cut != peer) {
            branch.parent = Some(peer);
            branch.came = Some((id.serial, now));
        }
    }

    /// Whether bodies of the origin before this one came within the last while, so that this one is
    /// behind them: an edge brings them in their order.
    pub(crate) fn is_on_its_way(
        &self,
        group: GroupIx,
        id: UpdateId,
        (now, within): (Time, Duration),
    ) -> bool {
        let came = self.of.get(&(group, id.origin)).and_then(|branch| branch.came);
        came.is_some_and(|(last, at)| last < id.serial && at + within > now)
    }

    /// A body came that was here. Says whether its sender should be told to send ids only: not the
    /// parent, so that one edge always is left that brings the bodies, and not again and again
    /// while what it sent before is on its way.
    pub(crate) fn came_late(
        &mut self,
        group: GroupIx,
        origin: NodeId,
        (peer, own): (NodeId, bool),
        now: Time,
    ) -> bool {
        let branch = self.branch(group, origin);
        if !own && branch.parent.is_none_or(|parent| parent == peer) {
            return false;
        }
        if own {
            // Traces of an earlier life came from it once; what is ours nobody has to bring.
            branch.parent = branch.parent.filter(|parent| *parent != peer);
        }
        match branch.cut.iter_mut().find(|(cut, _)| *cut == peer) {
            Some((_, told)) if *told + TELL_AGAIN > now => return false,
            Some((_, told)) => *told = now,
            None => branch.cut.push((peer, now)),
        }
        true
    }

    /// A neighbour is asked for the bodies of this origin.
    pub(crate) fn uncut(&mut self, group: GroupIx, origin: NodeId, peer: NodeId) {
        if let Some(branch) = self.of.get_mut(&(group, origin)) {
            branch.cut.retain(|(cut, _)| *cut != peer);
        }
    }

    /// A body came, and a neighbour's id had come well before it. Says whether that happened often
    /// enough in a row for that neighbour to carry the bodies from now on.
    pub(crate) fn was_ahead(
        &mut self,
        group: GroupIx,
        origin: NodeId,
        peer: NodeId,
        now: Time,
    ) -> bool {
        let branch = self.branch(group, origin);
        let times = match branch.ahead {
            Some((before, _, last)) if before == peer && last + AHEAD_AGAIN > now => return false,
            Some((before, times, _)) if before == peer => times.saturating_add(1),
            _ => 1,
        };
        let settled = branch.changed.is_none_or(|changed| changed + CHANGE_AGAIN <= now);
        let enough = times >= AHEAD_IN_A_ROW && settled;
        branch.ahead = (!enough).then_some((peer, times, now));
        if enough {
            branch.changed = Some(now);
        }
        enough
    }

    /// A body came, and nobody's id well before it.
    pub(crate) fn was_first(&mut self, group: GroupIx, origin: NodeId) {
        if let Some(branch) = self.of.get_mut(&(group, origin)) {
            branch.ahead = None;
        }
    }

    /// A neighbour is gone: should it come back, it begins anew.
    pub(crate) fn forget_peer(&mut self, group: GroupIx, peer: NodeId) {
        for (_, branch) in self.of.iter_mut().filter(|((of, _), _)| *of == group) {
            branch.lazy.retain(|lazy| *lazy != peer);
            branch.ahead = branch.ahead.filter(|(ahead, ..)| *ahead != peer);
            if branch.parent == Some(peer) {
                branch.parent = None;
                branch.came = None;
            }
            branch.cut.retain(|(cut, _)| *cut != peer);
        }
    }

    pub(crate) fn forget(&mut self, of: impl Fn(GroupIx, NodeId) -> bool) {
        self.of.retain(|(group, origin), _| !of(*group, *origin));
    }

    pub(crate) fn check(&self) {
        assert!(self.of.len() <= MAX_BRANCHES, "branches are bounded");
        for branch in self.of.values() {
            assert!(branch.lazy.is_sorted(), "lazy edges are in order");
            let parent_is_cut = branch.cut.iter().any(|(cut, _)| branch.parent == Some(*cut));
            assert!(!parent_is_cut, "one edge is left that brings bodies");
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_base::Incarnation;

    use super::*;

    const GROUP: GroupIx = GroupIx(0);

    fn id(number: u64) -> NodeId {
        NodeId::from_bytes(u128::from(number).to_be_bytes())
    }

    /// One of node 1.
    fn update(sequence: u64) -> UpdateId {
        UpdateId { origin: id(1), serial: Serial { incarnation: Incarnation(1), sequence } }
    }

    #[test]
    fn an_edge_is_pruned_for_one_origin_and_grafted_again() {
        let mut branches = Branches::default();
        branches.prune(GROUP, id(1), id(9));
        branches.prune(GROUP, id(1), id(8));
        branches.prune(GROUP, id(1), id(9));
        assert_eq!(branches.lazy(GROUP, id(1)), [id(8), id(9)]);
        assert!(branches.lazy(GROUP, id(2)).is_empty());
        branches.graft(GROUP, id(1), id(9));
        assert_eq!(branches.lazy(GROUP, id(1)), [id(8)]);
        branches.forget_peer(GROUP, id(8));
        assert!(branches.lazy(GROUP, id(1)).is_empty());
        branches.check();
    }

    #[test]
    fn with_too_many_origins_the_longest_unused_are_forgotten() {
        let mut branches = Branches::default();
        let count = MAX_BRANCHES as u64 + 1;
        for origin in 0..count {
            branches.prune(GROUP, id(origin), id(1_000_000));
            assert_eq!(branches.lazy(GROUP, id(0)).len(), 1, "it is used all the time");
        }
        branches.check();
        assert!(branches.lazy(GROUP, id(1)).is_empty());
        assert_eq!(branches.lazy(GROUP, id(count - 1)).len(), 1);
    }

    #[test]
    fn what_is_on_its_way_neither_cuts_the_last_edge_nor_is_told_again() {
        let mut branches = Branches::default();
        let (p, q, at) = (id(8), id(9), Time::from_millis);
        branches.came_from(GROUP, update(1), p, at(1));
        assert!(branches.came_late(GROUP, id(1), (q, false), at(1)));
        // Both go on until the other hears of it, and the other is first now and then.
        branches.came_from(GROUP, update(2), q, at(2));
        assert!(!branches.came_late(GROUP, id(1), (p, false), at(2)), "the only one left");
        assert!(!branches.came_late(GROUP, id(1), (q, false), at(3)));
        assert!(branches.came_late(GROUP, id(1), (q, false), at(3_000)), "it did not listen");
        branches.uncut(GROUP, id(1), q);
        branches.came_from(GROUP, update(2), q, at(2));
        assert!(branches.came_late(GROUP, id(1), (p, false), at(3_001)), "now the other is left");
        branches.check();
        branches.forget_peer(GROUP, q);
        assert!(!branches.came_late(GROUP, id(1), (p, false), at(9_000)), "nobody else is known");
    }

    #[test]
    fn who_brought_what_an_earlier_life_lost_may_be_cut_like_others() {
        let mut branches = Branches::default();
        branches.came_from(GROUP, update(1), id(9), Time::ZERO);
        assert!(branches.came_late(GROUP, id(1), (id(9), true), Time::from_millis(1)));
        branches.check();
    }

    #[test]
    fn another_carries_the_bodies_when_it_was_ahead_in_a_row() {
        let mut branches = Branches::default();
        let mut ahead =
            |peer, ms| branches.was_ahead(GROUP, id(1), id(peer), Time::from_millis(ms));
        assert!(!ahead(9, 0));
        assert!(!ahead(9, 20));
        assert!(!ahead(9, 39), "it came with the one before");
        assert!(!ahead(8, 40), "another one");
        assert!(!ahead(8, 60));
        assert!(ahead(8, 80));
        assert!(!ahead(9, 100));
        assert!(!ahead(9, 120));
        assert!(!ahead(9, 140), "the queues have not settled yet");
        assert!(ahead(9, 2_080));
        assert!(!ahead(8, 5_000));
        assert!(!ahead(8, 5_100));
        branches.was_first(GROUP, id(1));
        assert!(!branches.was_ahead(GROUP, id(1), id(8), Time::from_millis(5_200)), "not in a row");
    }

    #[test]
    fn what_is_behind_others_that_come_is_on_its_way() {
        let mut branches = Branches::default();
        let (p, q, at) = (id(8), id(9), Time::from_millis);
        let within = Duration::from_millis(20);
        assert!(!branches.is_on_its_way(GROUP, update(5), (at(1), within)));
        branches.came_from(GROUP, update(3), p, at(1));
        assert!(branches.is_on_its_way(GROUP, update(5), (at(20), within)));
        assert!(!branches.is_on_its_way(GROUP, update(5), (at(21), within)), "it has stopped");
        assert!(!branches.is_on_its_way(GROUP, update(2), (at(2), within)), "it was left out");
        assert!(branches.came_late(GROUP, id(1), (q, false), at(3)));
        branches.came_from(GROUP, update(4), q, at(30));
        assert!(!branches.is_on_its_way(GROUP, update(5), (at(31), within)), "q sends no more");
        branches.came_from(GROUP, update(4), p, at(32));
        branches.forget_peer(GROUP, p);
        assert!(!branches.is_on_its_way(GROUP, update(5), (at(33), within)));
    }
}
