//! Dialling without end: whom, where, and how often.
//!
//! Wanted edges are dialled at once, by the lower identity first. Absent members are dialled with a
//! back-off of a few seconds by the few present nodes that the layout makes responsible for them,
//! and rarely by everybody else, so that the effort for a dead node does not grow with the flock.
//! Addresses without a name (config, operator, multicast, beacon) are dialled unless a member that
//! is present listens there (BLOC-16, BLOC-17, BLOC-40).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use skep_base::{NodeId, NodeName, Outbox, Time};

use crate::event::{DialFailure, DialId, Output, Peer, Source};
use crate::facts::MAX_ADDRESSES;
use crate::machine::{Membership, Status};

/// Dials in progress at one time.
const MAX_IN_PROGRESS: usize = 64;
/// Addresses without a name that are kept.
const MAX_SEEDS: usize = 1024;
/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// While members come and go, most edges are wanted for a moment only. A node that has enough of
/// them dials another when nothing has changed for so long, or when it was wanted for a beat.
pub(crate) const CALM: Duration = Duration::from_millis(150);
/// An absent member is dialled by those who are responsible for it after this long.
const CHASED_AFTER: Duration = Duration::from_millis(400);
/// Edges of the overlay that are dialled though the members still change: so many hold a node.
const ENOUGH_EDGES: usize = 2;
/// Dialling is eager for this long.
const EAGER_FOR: Duration = Duration::from_secs(3600);
/// An address that multicast or the beacon named is dropped when it was not named again for this
/// long.
const HINT_LASTS: Duration = Duration::from_secs(120);
/// A dial whose answer never comes is given up after this long; the transport's own limits are
/// shorter.
const LOST_AFTER: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Node(NodeId),
    Seed(SocketAddr),
}

/// When something may be dialled next.
#[derive(Clone, Copy, Debug)]
struct Wait {
    next: Time,
    wait: Duration,
    since: Time,
    /// The edge was never dialled: it waits for the members to settle.
    settles: bool,
}

impl Wait {
    /// Due at `next`, with all its back-off before it.
    const fn fresh(next: Time, since: Time) -> Self {
        Self { next, wait: FIRST_WAIT, since, settles: false }
    }
}

#[derive(Debug)]
struct Seed {
    source: Source,
    wait: Wait,
    named_at: Time,
    ourselves: bool,
    /// Who was found to listen there: asked first, the next time.
    lives: Option<NodeId>,
}

#[derive(Debug, Default)]
pub(crate) struct Dialling {
    next_id: u64,
    in_progress: BTreeMap<DialId, (Target, Time)>,
    seeds: BTreeMap<SocketAddr, Seed>,
    nodes: BTreeMap<NodeId, Wait>,
    addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
}

impl Dialling {
    pub(crate) fn check(&self) {
        assert!(self.in_progress.len() <= MAX_IN_PROGRESS, "too many dials in progress");
        assert!(self.seeds.len() <= MAX_SEEDS, "too many addresses");
    }

    fn busy(&self, target: Target) -> bool {
        self.in_progress.values().any(|(busy, _)| *busy == target)
    }

    /// Whether a node is dialled at this address, or the other way round: two links that come up at
    /// once between the same two nodes may each be given up by one of them.
    fn crosses(&self, target: Target) -> bool {
        let lives_at = |node: &NodeId, address| {
            self.addresses.get(node).is_some_and(|at| at.contains(address))
        };
        self.in_progress.values().any(|(busy, _)| match (busy, &target) {
            (Target::Node(node), Target::Seed(address))
            | (Target::Seed(address), Target::Node(node)) => lives_at(node, address),
            (Target::Node(_), Target::Node(_)) | (Target::Seed(_), Target::Seed(_)) => false,
        })
    }
}

impl Membership {
    pub(crate) fn found(&mut self, now: Time, addresses: &[SocketAddr], source: Source) {
        self.dial_plan = None;
        for address in addresses.iter().take(MAX_SEEDS) {
            let full = self.dialling.seeds.len() >= MAX_SEEDS;
            match self.dialling.seeds.get_mut(address) {
                Some(seed) => {
                    seed.named_at = now;
                    seed.source = seed.source.min(source);
                    // An operator who names an address again wants it dialled now.
                    if source == Source::Operator {
                        seed.wait = Wait::fresh(now, now);
                    }
                }
                None if full => {}
                None => {
                    let wait = Wait::fresh(now, now);
                    let seed = Seed { source, wait, named_at: now, ourselves: false, lives: None };
                    self.dialling.seeds.insert(*address, seed);
                }
            }
        }
    }

    pub(crate) fn remembered(
        &mut self,
        now: Time,
        node: NodeId,
        name: NodeName,
        addresses: &[SocketAddr],
    ) {
        self.dial_plan = None;
        if node == self.me.id {
            return;
        }
        if let Some(member) = self.members.get_mut(node) {
            member.name.get_or_insert(name);
            let kept = addresses.iter().copied().take(MAX_ADDRESSES).collect();
            self.dialling.addresses.insert(node, kept);
            // Its records may be forgotten: the address book alone has it dialled.
            self.dialling.nodes.insert(node, Wait::fresh(now, now));
        }
    }

    /// A member says where it listens.
    pub(crate) fn learn_addresses(&mut self, now: Time, node: NodeId) {
        let Some(facts) = self.members.get(node).and_then(|member| member.facts.as_ref()) else {
            return;
        };
        if node == self.me.id {
            return;
        }
        let addresses: Vec<SocketAddr> =
            facts.addresses.iter().map(|address| address.socket).collect();
        if self.dialling.addresses.get(&node) != Some(&addresses) {
            self.dialling.addresses.insert(node, addresses);
            self.dial_plan = None;
            if let Some(wait) = self.dialling.nodes.get_mut(&node) {
                *wait = Wait::fresh(now, now);
            }
        }
    }

    pub(crate) fn reached(&mut self, peer: &Peer, out: &mut Outbox<Output>) {
        let mut addresses: Vec<SocketAddr> =
            peer.addresses.iter().map(|address| address.socket).collect();
        if peer.dialled.is_some() && !addresses.contains(&peer.remote) {
            addresses.insert(0, peer.remote);
        }
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() || self.dialling.addresses.get(&peer.id) == Some(&addresses) {
            return;
        }
        self.dialling.addresses.insert(peer.id, addresses.clone());
        let (node, name) = (peer.id, peer.name.clone());
        out.push(Output::Reached { node, name, addresses });
    }

    pub(crate) fn dial_succeeded(&mut self, now: Time, peer: &Peer) {
        self.dial_plan = None;
        if let Some(dial) = peer.dialled
            && let Some((Target::Seed(address), _)) = self.dialling.in_progress.remove(&dial)
            && let Some(seed) = self.dialling.seeds.get_mut(&address)
        {
            seed.wait = Wait::fresh(now + self.config.redial, now);
            seed.ourselves = peer.id == self.me.id && peer.nonce == self.me.nonce;
        }
        self.dialling.nodes.remove(&peer.id);
    }

    pub(crate) fn dial_failed(&mut self, now: Time, dial: DialId, why: DialFailure) {
        self.dial_plan = None;
        let Some((target, _)) = self.dialling.in_progress.remove(&dial) else {
            return;
        };
        self.statistics.dials_failed += 1;
        match target {
            Target::Node(node) => {
                if let Some(lost) = self.lost.get_mut(&node) {
                    lost.verdict = crate::Verdict::Silent;
                    self.note_link(node);
                    self.heard_changed();
                }
                self.back_off_node(now, node);
            }
            Target::Seed(address) => {
                let wait = self.dialling.seeds.get(&address).map(|seed| seed.wait);
                let wait = wait.map(|wait| self.backed_off(now, wait));
                if let (Some(seed), Some(wait)) = (self.dialling.seeds.get_mut(&address), wait) {
                    seed.wait = wait;
                    seed.ourselves = why == DialFailure::Ourselves;
                }
            }
        }
    }

    /// A link broke: its node is dialled at once, for its process may still be there.
    pub(crate) fn dial_again_now(&mut self, now: Time, node: NodeId) {
        self.dial_plan = None;
        self.dialling.nodes.insert(node, Wait::fresh(now, now));
    }

    /// A link was closed on purpose. If it is wanted all the same, the next attempt waits: the
    /// purpose may still stand.
    pub(crate) fn dial_again_soon(&mut self, now: Time, node: NodeId) {
        self.dial_plan = None;
        let next = now + self.rng.jitter(self.config.heartbeat, 0.5);
        self.dialling.nodes.insert(node, Wait::fresh(next, now));
    }

    /// The wanted edges changed: those that this node should dial first are due soon.
    pub(crate) fn wanted_changed(&mut self, now: Time) {
        self.dial_plan = None;
        let there = self.neighbours.len() - self.missing.len();
        let mut needed = ENOUGH_EDGES.saturating_sub(there);
        let wanted = self.neighbours.iter().chain(&self.watched).copied();
        let unlinked: Vec<NodeId> = wanted.filter(|node| !self.links.contains_key(node)).collect();
        for node in unlinked {
            let at_once = needed > 0 && self.neighbours.contains(&node);
            needed -= usize::from(at_once);
            self.edge_wanted(now, node, at_once);
        }
        // Before the first exchange is complete nobody can be told from the absent.
        if !self.has_begun() {
            return;
        }
        for node in self.layout.chased.clone() {
            // Most who are heard of for the first time are there already, and about to be vouched
            // for by whoever they joined through.
            let wait = Wait::fresh(now + CHASED_AFTER, now);
            let wait = self.dialling.nodes.entry(node).or_insert(wait);
            // Whoever has only just become responsible does not inherit a long wait.
            wait.next = wait.next.min(now + self.config.redial);
        }
    }

    /// An edge to `node` is wanted and is not there.
    fn edge_wanted(&mut self, now: Time, node: NodeId, at_once: bool) {
        let known = self.dialling.nodes.get(&node).copied();
        let settling = known.filter(|wait| wait.settles);
        // An attempt that is due within the usual wait keeps its back-off; one that was put off for
        // long, while nobody wanted the edge, does not.
        let soon = now + self.config.redial;
        if settling.is_none() && known.is_some_and(|wait| wait.next <= soon) {
            return;
        }
        let since = settling.map_or(now, |wait| wait.since);
        let settled = (now + CALM).min(since + self.config.heartbeat);
        let due = if at_once { since } else { settled };
        let courtesy = self.neighbours.contains(&node) && node < self.me.id;
        let next = if courtesy { due + self.config.courtesy } else { due };
        let wait = Wait { settles: true, ..Wait::fresh(next, since) };
        self.dialling.nodes.insert(node, wait);
    }

    /// When somebody is to be dialled next. Reckoned again only after something has changed.
    pub(crate) fn first_dial(&self) -> Time {
        if let Some(at) = self.dial_plan {
            return at;
        }
        let full = self.dialling.in_progress.len() >= MAX_IN_PROGRESS;
        let lost = self.dialling.in_progress.values().map(|(_, at)| *at + LOST_AFTER).min();
        let nodes = self.dialling.nodes.iter().filter(|(node, _)| {
            !self.links.contains_key(node) && !self.dialling.busy(Target::Node(**node))
        });
        let seeds = self
            .dialling
            .seeds
            .iter()
            .filter(|(address, _)| !self.dialling.busy(Target::Seed(**address)));
        let next = nodes
            .map(|(_, wait)| wait.next)
            .chain(seeds.map(|(_, seed)| seed.wait.next))
            .min()
            .filter(|_| !full && !self.stopping);
        next.into_iter().chain(lost).min().unwrap_or(Time::NEVER)
    }

    pub(crate) fn dial(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.dial_plan.is_some_and(|at| now < at) {
            return;
        }
        self.dial_plan = None;
        let lost = |at: &Time| now.since(*at) >= LOST_AFTER;
        self.dialling.in_progress.retain(|_, (_, at)| !lost(at));
        if !self.stopping {
            self.dial_nodes(now, out);
            self.dial_seeds(now, out);
        }
        self.dial_plan = Some(self.first_dial());
    }

    fn dial_nodes(&mut self, now: Time, out: &mut Outbox<Output>) {
        let due: Vec<NodeId> = self
            .dialling
            .nodes
            .iter()
            .filter(|(_, wait)| wait.next <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            let wanted = self.neighbours.contains(&node) || self.watched.contains(&node);
            let status = self.members.get(node).map(|member| member.status);
            let settled = matches!(status, Some(Status::Present)) && !wanted;
            let gone = matches!(status, None | Some(Status::Left));
            if self.links.contains_key(&node) || settled && !self.lost.contains_key(&node) || gone {
                self.dialling.nodes.remove(&node);
                continue;
            }
            let target = Target::Node(node);
            if self.dialling.crosses(target) {
                if let Some(wait) = self.dialling.nodes.get_mut(&node) {
                    wait.next = now + FIRST_WAIT;
                }
                continue;
            }
            let addresses = self.dialling.addresses.get(&node).cloned().unwrap_or_default();
            let dialled = !self.dialling.busy(target)
                && (addresses.is_empty() || self.start_dial(now, target, addresses, out));
            if dialled {
                self.back_off_node(now, node);
            }
        }
    }

    fn dial_seeds(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.dialling.seeds.retain(|_, seed| {
            matches!(seed.source, Source::Config | Source::Operator)
                || now.since(seed.named_at) < HINT_LASTS
        });
        let due: Vec<SocketAddr> = self
            .dialling
            .seeds
            .iter()
            .filter(|(_, seed)| seed.wait.next <= now)
            .map(|(address, _)| *address)
            .collect();
        for address in due {
            let target = Target::Seed(address);
            if self.dialling.crosses(target) {
                if let Some(seed) = self.dialling.seeds.get_mut(&address) {
                    seed.wait.next = now + FIRST_WAIT;
                }
                continue;
            }
            let known = self.is_ours_or_present(address);
            let dialled = !known
                && !self.dialling.busy(target)
                && self.start_dial(now, target, alloc::vec![address], out);
            if let Some(seed) = self.dialling.seeds.get(&address) {
                let wait = seed.wait;
                let rest = Wait { next: now + self.config.redial, ..wait };
                let wait = if dialled || !known { self.backed_off(now, wait) } else { rest };
                if let Some(seed) = self.dialling.seeds.get_mut(&address) {
                    seed.wait = wait;
                }
            }
        }
    }

    /// Whether nobody new can be met at an address: it is ours, or a present member's.
    fn is_ours_or_present(&mut self, address: SocketAddr) -> bool {
        if self.me.addresses.iter().any(|mine| mine.socket == address) {
            return true;
        }
        let seed = self.dialling.seeds.get(&address);
        if seed.is_some_and(|seed| seed.ourselves) {
            return true;
        }
        let of = |node: &NodeId, addresses: &[SocketAddr]| {
            addresses.contains(&address)
                && (self.members.is_present(*node) || self.links.contains_key(node))
        };
        let last = seed.and_then(|seed| seed.lives);
        let known = last.and_then(|node| self.dialling.addresses.get_key_value(&node));
        if known.is_some_and(|(node, addresses)| of(node, addresses)) {
            return true;
        }
        let found = self.dialling.addresses.iter().find(|(node, addresses)| of(node, addresses));
        let found = found.map(|(node, _)| *node);
        if let Some(seed) = self.dialling.seeds.get_mut(&address) {
            seed.lives = found;
        }
        found.is_some()
    }

    fn start_dial(
        &mut self,
        now: Time,
        target: Target,
        addresses: Vec<SocketAddr>,
        out: &mut Outbox<Output>,
    ) -> bool {
        if self.dialling.in_progress.len() >= MAX_IN_PROGRESS {
            return false;
        }
        self.dialling.next_id += 1;
        let dial = DialId(self.dialling.next_id);
        self.dialling.in_progress.insert(dial, (target, now));
        let expect = match target {
            Target::Node(node) => Some(node),
            Target::Seed(_) => None,
        };
        self.statistics.dials += 1;
        out.push(Output::Dial { dial, expect, addresses });
        true
    }

    fn back_off_node(&mut self, now: Time, node: NodeId) {
        let wait = self.dialling.nodes.get(&node).copied();
        let wait = wait.unwrap_or(Wait::fresh(now, now));
        let mut wait = self.backed_off(now, wait);
        let wanted = self.neighbours.contains(&node) || self.watched.contains(&node);
        if !wanted && self.layout.chased.binary_search(&node).is_err() {
            // Others are responsible for it: rarely, in case they cannot reach it and we can.
            let rarely = self.rng.jitter(self.config.redial_late, 0.5);
            wait.next = wait.next.max(now + rarely);
        }
        self.dialling.nodes.insert(node, wait);
    }

    fn backed_off(&mut self, now: Time, wait: Wait) -> Wait {
        let eager = now.since(wait.since) < EAGER_FOR;
        let longest = if eager { self.config.redial } else { self.config.redial_late };
        let next = now + self.rng.jitter(wait.wait, 0.25).min(longest);
        let wait = Wait { wait: (wait.wait * 2).min(longest), settles: false, ..wait };
        Wait { next, ..wait }
    }
}
