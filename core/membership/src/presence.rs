//! Presence, derived: a breadth-first search along what present watchers hear.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use core::time::Duration;
use skep_base::{Incarnation, NodeId, NodeName, Outbox, Time};

use crate::event::Output;
use crate::facts::{NodeFacts, NodeState, Verdict, Watch, short_nonce};
use crate::machine::{MAX_MEMBERS, MemberView, Membership, Status};

/// The longest that a node may claim it will take to restart.
const MAX_RESTART: Duration = Duration::from_secs(600);

/// A member by its place in the list: searches run over numbers, not identities.
pub(crate) type Index = u32;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) to: Index,
    incarnation: Incarnation,
    nonce: u32,
    pub(crate) verdict: Verdict,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) name: Option<NodeName>,
    pub(crate) incarnation: Incarnation,
    pub(crate) facts: Option<NodeFacts>,
    pub(crate) status: Status,
    since: Time,
    edges: Vec<Heard>,
    /// The life that heard them.
    watched_as: Incarnation,
    /// Until then its own announcement, or the fresh start of a new life, is believed.
    believed_until: Time,
    heard_by: u32,
}

/// All members by number and by identity.
#[derive(Debug, Default)]
pub(crate) struct Members {
    index: BTreeMap<NodeId, Index>,
    list: Vec<Member>,
    present: Vec<NodeId>,
    absent: Vec<NodeId>,
    next_change: Option<Time>,
}

impl Members {
    /// The member with this identity, made if it is new and there is room.
    pub(crate) fn intern(&mut self, id: NodeId) -> Option<Index> {
        if let Some(at) = self.index.get(&id) {
            return Some(*at);
        }
        if self.list.len() >= MAX_MEMBERS {
            return None;
        }
        let at = Index::try_from(self.list.len()).ok()?;
        self.index.insert(id, at);
        self.list.push(Member {
            id,
            name: None,
            incarnation: Incarnation::default(),
            facts: None,
            status: Status::Unmet,
            since: Time::ZERO,
            edges: Vec::new(),
            watched_as: Incarnation::default(),
            believed_until: Time::ZERO,
            heard_by: 0,
        });
        Some(at)
    }

    /// The number of the member with this identity.
    pub(crate) fn number(&self, id: NodeId) -> Option<Index> {
        self.index.get(&id).copied()
    }

    /// The member with this number, which this list gave out.
    pub(crate) fn numbered(&self, at: Index) -> Option<&Member> {
        self.list.get(at as usize)
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Member> {
        self.index.get(&id).map(|at| &self.list[*at as usize])
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Member> {
        let at = self.intern(id)?;
        self.list.get_mut(at as usize)
    }

    pub(crate) fn is_present(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|member| member.status == Status::Present)
    }

    pub(crate) fn present(&self) -> &[NodeId] {
        &self.present
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn next_change(&self) -> Option<Time> {
        self.next_change
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = MemberView<'_>> + '_ {
        self.list.iter().filter(|member| member.name.is_some()).map(Member::view)
    }

    pub(crate) fn view(&self, id: NodeId) -> Option<MemberView<'_>> {
        self.get(id).map(Member::view)
    }

    pub(crate) fn check(&self, me: NodeId) {
        assert!(self.list.len() <= MAX_MEMBERS, "too many members");
        assert_eq!(self.index.len(), self.list.len(), "a member without a number");
        assert!(self.present.is_sorted(), "the present are not sorted");
        assert!(
            self.present.is_empty() || self.present.binary_search(&me).is_ok(),
            "we are not present to ourselves"
        );
        for id in &self.present {
            let member = self.get(*id);
            assert!(
                member.is_some_and(|member| member.status == Status::Present),
                "{id:?} is listed and not present"
            );
        }
    }
}

impl Member {
    fn view(&self) -> MemberView<'_> {
        MemberView {
            node: self.id,
            name: self.name.as_ref(),
            incarnation: self.incarnation,
            status: self.status,
            since: self.since,
            facts: self.facts.as_ref(),
            heard_by: self.heard_by as usize,
        }
    }
}

impl Membership {
    pub(crate) fn facts_came(
        &mut self,
        now: Time,
        node: NodeId,
        incarnation: Incarnation,
        facts: NodeFacts,
    ) {
        let grace = self.config.silent_after;
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        if member.incarnation > incarnation {
            return;
        }
        match facts.state {
            NodeState::Restarting { back_within_ms } => {
                let span = Duration::from_millis(back_within_ms.into()).min(MAX_RESTART);
                member.believed_until = now + span;
            }
            // A new life of a member that was there: its watchers need a moment to say so.
            NodeState::Up if incarnation > member.incarnation => {
                member.believed_until = match member.status {
                    Status::Present => now + grace,
                    Status::Restarting => member.believed_until.max(now + grace),
                    Status::Unmet | Status::Silent | Status::Left => Time::ZERO,
                };
            }
            NodeState::Up | NodeState::Left => {}
        }
        member.incarnation = incarnation;
        member.name = Some(facts.name.clone());
        member.facts = Some(facts);
        self.dirty = true;
        self.learn_addresses(now, node);
    }

    pub(crate) fn watch_came(&mut self, node: NodeId, incarnation: Incarnation, watch: &Watch) {
        let mut edges = Vec::with_capacity(watch.edges.len());
        for edge in &watch.edges {
            if let Some(to) = self.members.intern(edge.node) {
                let (incarnation, nonce) = (edge.incarnation, edge.nonce);
                edges.push(Heard { to, incarnation, nonce, verdict: edge.verdict });
            }
        }
        if let Some(member) = self.members.get_mut(node) {
            member.edges = edges;
            member.watched_as = incarnation;
            self.dirty = true;
        }
    }

    pub(crate) fn forgotten(&mut self, now: Time, node: NodeId) {
        if let Some(member) = self.members.get_mut(node) {
            member.facts = None;
            member.edges.clear();
            member.status = Status::Unmet;
            member.since = now;
            member.name = None;
            self.dirty = true;
        }
    }

    /// Derives who is present, and says what has changed.
    pub(crate) fn derive(&mut self, now: Time, out: &mut Outbox<Output>) {
        let reached = self.search();
        let mut next_change = None;
        let mut present = Vec::with_capacity(self.members.present.len());
        let mut absent = Vec::new();
        for (at, member) in self.members.list.iter_mut().enumerate() {
            member.heard_by = reached[at];
            let status = judge(member, reached[at] > 0, member.id == self.me.id, now);
            if status != Status::Silent && member.believed_until > now {
                next_change =
                    Some(next_change.map_or(member.believed_until, |next: Time| {
                        next.min(member.believed_until)
                    }));
            }
            if status != member.status {
                member.status = status;
                member.since = now;
                out.push(Output::Status { node: member.id, status });
            }
            match status {
                Status::Present => present.push(member.id),
                Status::Silent | Status::Restarting => absent.push(member.id),
                Status::Unmet if member.facts.is_some() => absent.push(member.id),
                Status::Unmet | Status::Left => {}
            }
        }
        self.members.next_change = next_change;
        present.sort_unstable();
        absent.sort_unstable();
        if present != self.members.present || absent != self.members.absent {
            self.members.present.clone_from(&present);
            self.members.absent.clone_from(&absent);
            out.push(Output::Members { present, absent });
        }
    }

    /// How many present watchers hear each member, by number. The search starts from this node's
    /// own links, and passes only through members that mean to stay.
    fn search(&self) -> Vec<u32> {
        let members = &self.members.list;
        let mut reached = vec![0_u32; members.len()];
        let mut queue: Vec<Index> = Vec::with_capacity(members.len());
        let me = self.members.index.get(&self.me.id).copied().unwrap_or(0);
        reached[me as usize] = 1;
        let visit = |to: Index,
                     incarnation: Incarnation,
                     reached: &mut Vec<u32>,
                     queue: &mut Vec<Index>| {
            let member = &members[to as usize];
            let up = member.facts.as_ref().is_some_and(|facts| facts.state == NodeState::Up);
            if up && incarnation >= member.incarnation {
                if reached[to as usize] == 0 {
                    queue.push(to);
                }
                reached[to as usize] += 1;
            }
        };
        for (peer, link) in &self.links {
            if link.verdict != Verdict::Silent
                && let Some(to) = self.members.index.get(peer)
            {
                visit(*to, link.incarnation, &mut reached, &mut queue);
            }
        }
        for (peer, lost) in &self.lost {
            if lost.verdict != Verdict::Silent
                && let Some(to) = self.members.index.get(peer)
            {
                visit(*to, lost.incarnation, &mut reached, &mut queue);
            }
        }
        while let Some(at) = queue.pop() {
            for edge in self.heard_by(&members[at as usize]) {
                if edge.verdict != Verdict::Silent && edge.to != me {
                    visit(edge.to, edge.incarnation, &mut reached, &mut queue);
                }
            }
        }
        reached
    }

    /// A present member that hears another process of this node's name.
    pub(crate) fn foreign_watcher(&self, nonce: u32) -> bool {
        let Some(me) = self.members.index.get(&self.me.id) else {
            return false;
        };
        let watchers = self.members.list.iter();
        let mut watchers = watchers.filter(|watcher| watcher.status == Status::Present);
        watchers.any(|watcher| {
            watcher.id != self.me.id
                && self.heard_by(watcher).iter().any(|edge| {
                    edge.to == *me && edge.nonce != nonce && edge.verdict != Verdict::Silent
                })
        })
    }

    /// What a watcher hears in the newest life of it that this node knows. After a restart of many
    /// at once, disks are full of what was heard before it.
    pub(crate) fn heard_by<'a>(&self, watcher: &'a Member) -> &'a [Heard] {
        let linked = self.links.get(&watcher.id).map(|link| link.incarnation);
        let newest = linked.unwrap_or_default().max(watcher.incarnation);
        if watcher.watched_as >= newest { &watcher.edges } else { &[] }
    }

    /// Whether a present member other than this node hears `peer`, as last derived.
    pub(crate) fn heard_by_another(&self, peer: NodeId) -> bool {
        let ours = self.links.get(&peer).is_some_and(|link| link.verdict != Verdict::Silent);
        self.members.get(peer).is_some_and(|member| member.heard_by > u32::from(ours))
    }

    /// The nonce half that an edge to this node carries when it is about this process.
    pub(crate) fn my_short_nonce(&self) -> u32 {
        short_nonce(self.me.nonce)
    }
}

fn judge(member: &Member, reached: bool, myself: bool, now: Time) -> Status {
    if myself || reached {
        return Status::Present;
    }
    let believed = member.believed_until > now;
    match member.facts.as_ref().map(|facts| facts.state) {
        Some(NodeState::Left) => Status::Left,
        Some(NodeState::Restarting { .. }) if believed => Status::Restarting,
        Some(NodeState::Up) if believed => match member.status {
            Status::Restarting => Status::Restarting,
            Status::Present | Status::Unmet | Status::Silent | Status::Left => Status::Present,
        },
        Some(NodeState::Up | NodeState::Restarting { .. }) | None => match member.status {
            Status::Unmet => Status::Unmet,
            Status::Present | Status::Silent | Status::Restarting | Status::Left => Status::Silent,
        },
    }
}
