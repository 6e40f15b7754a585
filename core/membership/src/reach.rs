//! Reach: whom a chain of watchers leads to, kept up to date edge by edge.
//!
//! Among a thousand members some edge changes all the time, and nearly always nobody's presence
//! hangs on it. So the search is not made again: each reached member remembers one watcher that
//! vouches for it, which makes a tree with this node at its root. Whatever changes names the
//! members it touches; those whose voucher no longer holds fall off together with what hangs below
//! them, and each is taken up again by any other reached watcher that hears it. What that costs is
//! in proportion to what changed.

use alloc::vec;
use alloc::vec::Vec;

use skep_base::{Incarnation, NodeId};

use crate::facts::{NodeState, Verdict};
use crate::presence::{Index, Member, Members};

/// This node's own number: it is the first that is interned.
pub(crate) const ME: Index = 0;
/// The voucher of a member that nobody reaches.
const NOBODY: Index = Index::MAX;

/// An edge of a watch record, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) to: Index,
    pub(crate) incarnation: Incarnation,
    pub(crate) nonce: u32,
    pub(crate) verdict: Verdict,
}

impl Heard {
    /// Whether this is about that member, and it is heard.
    pub(crate) fn is_heard(&self, to: Index) -> bool {
        self.to == to && self.verdict != Verdict::Silent
    }
}

/// What the search knows of one member.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Whom its newest watch record names, by number, nobody twice.
    edges: Vec<Heard>,
    /// The life that heard them.
    watched_as: Incarnation,
    /// Whose newest records name this member.
    watchers: Vec<Index>,
    /// As which life this node itself hears it, over a link that is up or that only just broke.
    heard_as: Option<Incarnation>,
    /// As which life this node is linked to it.
    linked_as: Incarnation,
    /// Who vouches for it.
    via: Index,
    touched: bool,
}

impl Reach {
    pub(crate) fn of(at: Index) -> Self {
        Self {
            edges: Vec::new(),
            watched_as: Incarnation::default(),
            watchers: Vec::new(),
            heard_as: None,
            linked_as: Incarnation::default(),
            via: if at == ME { ME } else { NOBODY },
            touched: false,
        }
    }
}

impl Members {
    /// Whether a chain of watchers leads to a member, as last derived.
    pub(crate) fn is_reached(&self, at: Index) -> bool {
        self.reach(at).via != NOBODY
    }

    /// A member of whom something has changed that reach or status may depend on.
    pub(crate) fn touch(&mut self, at: Index) {
        let reach = self.reach_mut(at);
        if !core::mem::replace(&mut reach.touched, true) {
            self.touched.push(at);
        }
    }

    /// As [`Members::touch`], together with all whom it hears.
    pub(crate) fn touch_all_heard_by(&mut self, at: Index) {
        self.touch(at);
        for edge in 0..self.reach(at).edges.len() {
            let to = self.reach(at).edges[edge].to;
            self.touch(to);
        }
    }

    /// Whom this node itself hears: what its links say. `heard` is the life that it hears, if any,
    /// and `linked` the one at the other end of the link.
    pub(crate) fn hear(&mut self, peer: NodeId, heard: Option<Incarnation>, linked: Incarnation) {
        let Some(at) = self.intern(peer) else {
            return;
        };
        let reach = self.reach_mut(at);
        let heard_changed = core::mem::replace(&mut reach.heard_as, heard) != heard;
        if core::mem::replace(&mut reach.linked_as, linked) != linked {
            self.touch_all_heard_by(at);
        } else if heard_changed {
            self.touch(at);
        }
    }

    /// A watcher's record is replaced.
    pub(crate) fn set_edges(&mut self, at: Index, life: Incarnation, mut edges: Vec<Heard>) {
        edges.sort_by_key(|edge| edge.to);
        edges.dedup_by_key(|edge| edge.to);
        let reach = self.reach_mut(at);
        let old = core::mem::replace(&mut reach.edges, edges);
        if core::mem::replace(&mut reach.watched_as, life) != life {
            self.touch_all_heard_by(at);
        }
        let (mut before, mut after) = (0, 0);
        loop {
            let was = old.get(before).copied();
            let is = self.reach(at).edges.get(after).copied();
            let ends = [was.map(|edge| edge.to), is.map(|edge| edge.to)];
            let Some(to) = ends.into_iter().flatten().min() else {
                return;
            };
            let was = was.filter(|edge| edge.to == to);
            let is = is.filter(|edge| edge.to == to);
            before += usize::from(was.is_some());
            after += usize::from(is.is_some());
            if was != is {
                self.touch(to);
            }
            match (was, is) {
                (Some(_), None) => self.reach_mut(to).watchers.retain(|watcher| *watcher != at),
                (None, Some(_)) => self.reach_mut(to).watchers.push(at),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }

    /// Takes note of all that was touched. Returns the members whose status must be judged again,
    /// by number.
    pub(crate) fn reach_again(&mut self) -> Vec<Index> {
        let mut changed = core::mem::take(&mut self.touched);
        for at in 0..changed.len() {
            let at = changed[at];
            self.reach_mut(at).touched = false;
            if at != ME && self.is_reached(at) && !self.is_vouched_for(at) {
                self.fell(at, &mut changed);
            }
        }
        let mut taken_up: Vec<Index> = Vec::new();
        for at in &changed {
            if !self.is_reached(*at)
                && let Some(via) = self.find_voucher(*at)
            {
                self.reach_mut(*at).via = via;
                taken_up.push(*at);
            }
        }
        let mut next = 0;
        while let Some(at) = taken_up.get(next).copied() {
            next += 1;
            if !self.speaks_for_its_life(at) {
                continue;
            }
            for edge in 0..self.reach(at).edges.len() {
                let edge = self.reach(at).edges[edge];
                if !self.is_reached(edge.to) && self.counts(&edge) {
                    self.reach_mut(edge.to).via = at;
                    taken_up.push(edge.to);
                }
            }
        }
        changed.append(&mut taken_up);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// How many hear a member, this node included, as last derived.
    pub(crate) fn count_hearing(&self, at: Index) -> usize {
        let watchers = self.reach(at).watchers.iter();
        let others = watchers.filter(|watcher| self.vouches(**watcher, at)).count();
        others + usize::from(self.hears_itself(at))
    }

    /// Whether somebody else hears a member, as last derived.
    pub(crate) fn is_heard_by_another(&self, at: Index) -> bool {
        self.reach(at).watchers.iter().any(|watcher| self.vouches(*watcher, at))
    }

    /// The present watchers of this node, each with the nonce half of the process it hears.
    pub(crate) fn my_watchers(&self) -> impl Iterator<Item = (&Member, u32)> + '_ {
        self.reach(ME).watchers.iter().filter_map(|watcher| {
            let edge = self.edge(*watcher, ME)?;
            let speaks = *watcher != ME && self.speaks_for_its_life(*watcher);
            (speaks && edge.verdict != Verdict::Silent)
                .then(|| (&self.list[*watcher as usize], edge.nonce))
        })
    }

    /// Whom a member hears in the newest life of it that this node knows.
    pub(crate) fn edges_of(&self, at: Index) -> &[Heard] {
        if self.speaks_for_its_life(at) { &self.reach(at).edges } else { &[] }
    }

    /// What must hold between calls: the same as a search from the beginning finds.
    pub(crate) fn check_reach(&self) {
        if !self.touched.is_empty() {
            return;
        }
        let mut found = vec![false; self.list.len()];
        found[ME as usize] = true;
        let mine = (0..).zip(&self.list).filter(|(at, _)| *at != ME && self.hears_itself(*at));
        let mut queue: Vec<Index> = mine.map(|(at, _)| at).collect();
        queue.iter().for_each(|at| found[*at as usize] = true);
        while let Some(at) = queue.pop() {
            if !self.speaks_for_its_life(at) {
                continue;
            }
            for edge in self.reach(at).edges.iter().filter(|edge| self.counts(edge)) {
                if !core::mem::replace(&mut found[edge.to as usize], true) {
                    queue.push(edge.to);
                }
            }
        }
        for (at, found) in (0..).zip(found) {
            let id = self.list[at as usize].id;
            assert_eq!(self.is_reached(at), found, "{id:?} is reached, or is not, by mistake");
        }
    }

    fn reach(&self, at: Index) -> &Reach {
        &self.list[at as usize].reach
    }

    fn reach_mut(&mut self, at: Index) -> &mut Reach {
        &mut self.list[at as usize].reach
    }

    /// A member that nobody vouches for any more, and all that hang on it, are reached no longer.
    fn fell(&mut self, at: Index, fallen: &mut Vec<Index>) {
        self.reach_mut(at).via = NOBODY;
        let mut next = fallen.len();
        fallen.push(at);
        while let Some(at) = fallen.get(next).copied() {
            next += 1;
            for edge in 0..self.reach(at).edges.len() {
                let to = self.reach(at).edges[edge].to;
                if to != ME && self.reach(to).via == at {
                    self.reach_mut(to).via = NOBODY;
                    fallen.push(to);
                }
            }
        }
    }

    fn is_vouched_for(&self, at: Index) -> bool {
        match self.reach(at).via {
            ME => self.hears_itself(at),
            via => self.vouches(via, at),
        }
    }

    fn find_voucher(&self, at: Index) -> Option<Index> {
        if self.hears_itself(at) {
            return Some(ME);
        }
        self.reach(at).watchers.iter().copied().find(|watcher| self.vouches(*watcher, at))
    }

    /// Whether this node's own links reach a member.
    fn hears_itself(&self, at: Index) -> bool {
        let member = &self.list[at as usize];
        member.is_up() && member.reach.heard_as.is_some_and(|life| life >= member.incarnation)
    }

    /// Whether a member is reached, and what it says of another counts.
    fn vouches(&self, watcher: Index, at: Index) -> bool {
        watcher != ME
            && self.is_reached(watcher)
            && self.speaks_for_its_life(watcher)
            && self.edge(watcher, at).is_some_and(|edge| self.counts(edge))
    }

    fn edge(&self, watcher: Index, to: Index) -> Option<&Heard> {
        let edges = &self.reach(watcher).edges;
        edges.binary_search_by_key(&to, |edge| edge.to).ok().map(|at| &edges[at])
    }

    /// Whether the watch record of a member is of the newest life of it that this node knows. After
    /// a restart of many at once, disks are full of what was heard before it.
    fn speaks_for_its_life(&self, watcher: Index) -> bool {
        let member = &self.list[watcher as usize];
        let newest = member.reach.linked_as.max(member.incarnation);
        member.reach.watched_as >= newest
    }

    /// Whether an edge leads to a living member. The search passes only through those that mean to
    /// stay.
    fn counts(&self, edge: &Heard) -> bool {
        let to = &self.list[edge.to as usize];
        let alive = edge.verdict != Verdict::Silent && edge.incarnation >= to.incarnation;
        alive && edge.to != ME && to.is_up()
    }
}

impl Member {
    fn is_up(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.state == NodeState::Up)
    }
}
