//! Ways to a member over the links that nodes publish: for what cannot be sent to it directly.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use skep_base::NodeId;

use crate::facts::Verdict;
use crate::machine::{Membership, Status};
use crate::presence::Index;

impl Membership {
    /// Up to `count` ways to a present node of at most `max_hops` links each, the shortest first,
    /// from the first hop to the node itself. No two pass through the same node, so what breaks one
    /// leaves the others. Empty when there is none, and for this node.
    #[must_use]
    pub fn routes(&self, to: NodeId, max_hops: usize, count: usize) -> Vec<Vec<NodeId>> {
        let mut routes: Vec<Vec<NodeId>> = Vec::new();
        let (Some(me), Some(target)) = (self.members.number(self.me.id), self.members.number(to))
        else {
            return routes;
        };
        if me == target {
            return routes;
        }
        let mut taken = vec![false; self.members.count() as usize];
        let mut direct = false;
        while routes.len() < count {
            let Some(way) = self.shortest(me, target, max_hops, &taken, direct) else {
                break;
            };
            direct |= way.len() == 1;
            for at in way.iter().filter(|at| **at != target) {
                taken[*at as usize] = true;
            }
            let ids = way.iter().filter_map(|at| self.members.numbered(*at));
            routes.push(ids.map(|member| member.id).collect());
        }
        routes
    }

    /// The shortest way that passes through nobody who is `taken`, and not over our own link to the
    /// target where that is.
    fn shortest(
        &self,
        me: Index,
        target: Index,
        max_hops: usize,
        taken: &[bool],
        not_direct: bool,
    ) -> Option<Vec<Index>> {
        let mut before: Vec<Option<Index>> = vec![None; taken.len()];
        let mut queue = VecDeque::from([(me, 0)]);
        while let Some((at, hops)) = queue.pop_front() {
            if at == target {
                return Some(walk_back(me, target, &before));
            }
            if hops == max_hops {
                continue;
            }
            for next in self.linked_to(me, at) {
                let slot = next as usize;
                let free = next != me && before[slot].is_none() && !taken[slot];
                if free && !(not_direct && at == me && next == target) {
                    before[slot] = Some(at);
                    queue.push_back((next, hops + 1));
                }
            }
        }
        None
    }

    /// Whom a member has a live link to, as it says itself; of this node, as it is.
    fn linked_to(&self, me: Index, at: Index) -> Vec<Index> {
        if at == me {
            let live = self.links.iter().filter(|(_, link)| link.verdict != Verdict::Silent);
            return live.filter_map(|(peer, _)| self.members.number(*peer)).collect();
        }
        let member = self.members.numbered(at);
        if member.is_none_or(|member| member.status != Status::Present) {
            return Vec::new();
        }
        let heard = self.members.edges_of(at).iter();
        heard.filter(|edge| edge.verdict != Verdict::Silent).map(|edge| edge.to).collect()
    }
}

fn walk_back(me: Index, target: Index, before: &[Option<Index>]) -> Vec<Index> {
    let mut way = vec![target];
    let mut at = target;
    while let Some(previous) = before[at as usize].filter(|previous| *previous != me) {
        way.push(previous);
        at = previous;
    }
    way.reverse();
    way
}
