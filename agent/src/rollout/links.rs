//! Bulk links: who is at the other end, what they want to be told of, and whom to dial.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skep_base::{Digest, NodeId, Time};
use skep_transport::LinkId;
use skep_wave::Part;
use tokio::sync::mpsc;

use super::serve::Wanted;

/// Peers that a target dials besides the queen: enough paths for pieces to spread quickly, and few
/// enough connections in a flock of any size.
pub(super) const PEERS: usize = 8;
/// Parts that one peer may want to be told of.
const MAX_SUBSCRIPTIONS: usize = 32;
/// The first pause after a dial that came to nothing; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Link {
    pub(super) node: NodeId,
    /// What the peer wants to be told of.
    pub(super) interests: BTreeSet<Part>,
    /// What it asked for.
    pub(super) wants: mpsc::Sender<Wanted>,
}

#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) up: BTreeMap<LinkId, Link>,
    by_node: BTreeMap<NodeId, LinkId>,
    /// To whom a way is being looked for.
    dialling: BTreeSet<NodeId>,
    pauses: BTreeMap<NodeId, (Time, u32)>,
}

impl Links {
    pub(super) fn add(&mut self, (id, node): (LinkId, NodeId), wants: mpsc::Sender<Wanted>) {
        self.pauses.remove(&node);
        self.up.insert(id, Link { node, interests: BTreeSet::new(), wants });
        self.by_node.entry(node).or_insert(id);
    }

    /// Takes a link out: the node, should there be no other link to it.
    pub(super) fn remove(&mut self, id: LinkId) -> Option<NodeId> {
        let node = self.up.remove(&id)?.node;
        if self.by_node.get(&node) == Some(&id) {
            self.by_node.remove(&node);
        }
        let other = self.up.iter().find(|(_, link)| link.node == node).map(|(id, _)| *id);
        match other {
            Some(other) => {
                self.by_node.entry(node).or_insert(other);
                None
            }
            None => Some(node),
        }
    }

    /// The link to ask a node over.
    pub(super) fn to(&self, node: NodeId) -> Option<LinkId> {
        self.by_node.get(&node).copied()
    }

    pub(super) fn node(&self, link: LinkId) -> Option<NodeId> {
        self.up.get(&link).map(|link| link.node)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, LinkId)> + '_ {
        self.by_node.iter().map(|(node, link)| (*node, *link))
    }

    /// Notes what a peer wants to be told of; the oldest by order goes when there are too many.
    pub(super) fn interest(&mut self, link: LinkId, part: Part) {
        if let Some(link) = self.up.get_mut(&link) {
            link.interests.insert(part);
            while link.interests.len() > MAX_SUBSCRIPTIONS {
                link.interests.pop_first();
            }
        }
    }

    /// The links whose peers want to be told of a part.
    pub(super) fn interested(&self, part: Part) -> Vec<LinkId> {
        let wanting = self.up.iter().filter(|(_, link)| link.interests.contains(&part));
        wanting.map(|(id, _)| *id).collect()
    }

    /// Whether a way to `node` is to be looked for, which is noted until it has ended: not where
    /// there is a link, or it is too early.
    pub(super) fn may_dial(&mut self, node: NodeId, now: Time) -> bool {
        let busy = self.by_node.contains_key(&node)
            || self.pauses.get(&node).is_some_and(|(until, _)| *until > now);
        !busy && self.dialling.insert(node)
    }

    /// What came of it. A link that is about to come up is waited for a little.
    pub(super) fn dial_ended(&mut self, node: NodeId, linked: bool, now: Time) {
        self.dialling.remove(&node);
        if !linked || !self.by_node.contains_key(&node) {
            self.pause(node, now);
        }
    }

    /// Leaves a node alone for a while, longer each time.
    pub(super) fn pause(&mut self, node: NodeId, now: Time) {
        let (until, times) = self.pauses.entry(node).or_insert((now, 0));
        *until = now + BACK_OFF.saturating_mul(1 << (*times).min(8)).min(LONGEST_BACK_OFF);
        *times += 1;
    }

    /// A node is there again: what was learnt of it does not count.
    pub(super) fn forgive(&mut self, node: NodeId) {
        self.pauses.remove(&node);
    }
}

/// The nodes among `targets` that `me` should have links to: those with which it has the lowest
/// common number. Both ends of a pair compute the same number, so links are shared.
pub(super) fn peers_of(me: NodeId, targets: &[NodeId]) -> Vec<NodeId> {
    let mut scored: Vec<(u64, NodeId)> = targets
        .iter()
        .filter(|node| **node != me)
        .map(|node| {
            let (low, high) = if *node < me { (*node, me) } else { (me, *node) };
            (Digest::of_parts(&[low.as_bytes(), high.as_bytes()]).short(), *node)
        })
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(PEERS).map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; NodeId::LEN])
    }

    fn link(links: &mut Links, id: u64, number: u8) {
        let (wants, _) = mpsc::channel(1);
        links.add((LinkId::from_number(id), node(number)), wants);
    }

    #[test]
    fn one_dial_at_a_time_and_pauses_grow() {
        let mut links = Links::default();
        let now = Time::from_millis(1000);
        assert!(links.may_dial(node(1), now));
        assert!(!links.may_dial(node(1), now));
        links.dial_ended(node(1), false, now);
        assert!(!links.may_dial(node(1), now));
        assert!(links.may_dial(node(1), now + BACK_OFF));
        links.dial_ended(node(1), false, now);
        assert!(!links.may_dial(node(1), now + BACK_OFF));
        links.forgive(node(1));
        assert!(links.may_dial(node(1), now));
        link(&mut links, 7, 2);
        assert!(!links.may_dial(node(2), now));
        // The news of the way came before the news of the link.
        links.dial_ended(node(1), true, now);
        assert!(!links.may_dial(node(1), now));
        link(&mut links, 8, 1);
        links.remove(LinkId::from_number(8));
        assert!(links.may_dial(node(1), now));
    }

    #[test]
    fn a_second_link_stands_in_for_the_first() {
        let mut links = Links::default();
        link(&mut links, 1, 5);
        link(&mut links, 2, 5);
        assert_eq!(links.to(node(5)), Some(LinkId::from_number(1)));
        assert_eq!(links.remove(LinkId::from_number(1)), None);
        assert_eq!(links.to(node(5)), Some(LinkId::from_number(2)));
        assert_eq!(links.remove(LinkId::from_number(2)), Some(node(5)));
        assert_eq!(links.to(node(5)), None);
    }

    #[test]
    fn every_target_can_reach_every_other_over_the_chosen_peers() {
        let targets: Vec<NodeId> = (0..100)
            .map(|n: u8| {
                let mut id = [0; NodeId::LEN];
                id.copy_from_slice(&Digest::of(&[n]).0[..NodeId::LEN]);
                NodeId::from_bytes(id)
            })
            .collect();
        let mut reached = BTreeSet::from([targets[0]]);
        let mut fresh = vec![targets[0]];
        let chosen: BTreeMap<NodeId, Vec<NodeId>> =
            targets.iter().map(|node| (*node, peers_of(*node, &targets))).collect();
        while let Some(node) = fresh.pop() {
            let dialled_by = chosen.iter().filter(|(_, peers)| peers.contains(&node));
            let near = chosen[&node].iter().chain(dialled_by.map(|(other, _)| other));
            fresh.extend(near.filter(|near| reached.insert(**near)));
        }
        assert_eq!(reached.len(), targets.len());
    }
}
