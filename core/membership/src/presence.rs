//! Presence: every member, and what follows for each from who is reached.

use alloc::vec::Vec;

use core::time::Duration;
use skep_base::{ById, Incarnation, NodeId, NodeName, Outbox, Time};

use crate::event::Output;
use crate::facts::{NodeFacts, NodeState, Verdict, Watch, short_nonce};
use crate::machine::{MAX_MEMBERS, MemberView, Membership, Status};
use crate::reach::{Heard, ME, Reach};

/// The longest that a node may claim it will take to restart.
const MAX_RESTART: Duration = Duration::from_secs(600);

/// A member by its place in the list: searches run over numbers, not identities.
pub(crate) type Index = u32;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) name: Option<NodeName>,
    pub(crate) incarnation: Incarnation,
    pub(crate) facts: Option<NodeFacts>,
    pub(crate) status: Status,
    since: Time,
    /// Until then its own announcement, or the fresh start of a new life, is believed.
    believed_until: Time,
    pub(crate) reach: Reach,
}

/// All members by number and by identity.
#[derive(Debug, Default)]
pub(crate) struct Members {
    index: ById<Index>,
    pub(crate) list: Vec<Member>,
    /// Members of whom something has changed since presence was derived.
    pub(crate) touched: Vec<Index>,
    /// Members whose word may be believed for a while, whoever hears them.
    believed: Vec<Index>,
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
        self.index.get_or_insert_with(id, || at);
        self.list.push(Member {
            id,
            name: None,
            incarnation: Incarnation::default(),
            facts: None,
            status: Status::Unmet,
            since: Time::ZERO,
            believed_until: Time::ZERO,
            reach: Reach::of(at),
        });
        if at == ME {
            self.touch(at);
        }
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
        (0..)
            .zip(&self.list)
            .filter(|(_, member)| member.name.is_some())
            .map(|(at, _)| self.view_at(at))
    }

    pub(crate) fn view(&self, id: NodeId) -> Option<MemberView<'_>> {
        self.number(id).map(|at| self.view_at(at))
    }

    fn view_at(&self, at: Index) -> MemberView<'_> {
        let member = &self.list[at as usize];
        MemberView {
            node: member.id,
            name: member.name.as_ref(),
            incarnation: member.incarnation,
            status: member.status,
            since: member.since,
            facts: member.facts.as_ref(),
            heard_by: self.count_hearing(at),
        }
    }

    /// Whether presence must be derived again.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Those whose word was believed for a while are judged again.
    pub(crate) fn touch_believed(&mut self) {
        for at in core::mem::take(&mut self.believed) {
            self.believed.push(at);
            self.touch(at);
        }
    }

    /// Who is believed no longer drops out of the list, and the next one's time is noted.
    fn plan_next_change(&mut self, now: Time) {
        let Self { list, believed, next_change, .. } = self;
        believed.retain(|at| list[*at as usize].believed_until > now);
        *next_change = believed.iter().map(|at| list[*at as usize].believed_until).min();
    }

    pub(crate) fn check(&self, me: NodeId) {
        self.check_reach();
        assert!(self.list.len() <= MAX_MEMBERS, "too many members");
        self.index.check();
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

impl Membership {
    /// Whether `from` hears `to` now: by its newest watch record, or by our own links.
    #[must_use]
    pub fn hears(&self, from: NodeId, to: NodeId) -> bool {
        if from == self.me.id {
            return self.links.get(&to).is_some_and(|link| link.verdict != Verdict::Silent);
        }
        let (Some(from), Some(to)) = (self.members.number(from), self.members.number(to)) else {
            return false;
        };
        self.members.edges_of(from).iter().any(|edge| edge.is_heard(to))
    }

    pub(crate) fn facts_came(
        &mut self,
        now: Time,
        node: NodeId,
        incarnation: Incarnation,
        facts: NodeFacts,
    ) {
        let grace = self.config.silent_after;
        let Some(at) = self.members.intern(node) else {
            return;
        };
        let member = &mut self.members.list[at as usize];
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
        let believed = member.believed_until > now;
        let new_life = core::mem::replace(&mut member.incarnation, incarnation) != incarnation;
        member.name = Some(facts.name.clone());
        member.facts = Some(facts);
        if new_life {
            self.members.touch_all_heard_by(at);
        } else {
            self.members.touch(at);
        }
        if believed && !self.members.believed.contains(&at) {
            self.members.believed.push(at);
        }
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
        if let Some(at) = self.members.intern(node) {
            self.members.set_edges(at, incarnation, edges);
        }
    }

    pub(crate) fn forgotten(&mut self, now: Time, node: NodeId) {
        let Some(at) = self.members.number(node) else {
            return;
        };
        self.members.set_edges(at, Incarnation::default(), Vec::new());
        let member = &mut self.members.list[at as usize];
        member.facts = None;
        member.name = None;
        if member.status != Status::Present {
            member.status = Status::Unmet;
            member.since = now;
        }
        self.members.touch(at);
    }

    /// Derives who is present, and says what has changed.
    pub(crate) fn derive(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (mut some, mut others) = (false, false);
        let mut lost = false;
        for at in self.members.reach_again() {
            let reached = self.members.is_reached(at);
            let member = &mut self.members.list[at as usize];
            let status = judge(member, reached, now);
            if status != member.status {
                lost |= member.status == Status::Present;
                member.status = status;
                member.since = now;
                out.push(Output::Status { node: member.id, status });
            }
            let id = member.id;
            let absent = match status {
                Status::Silent | Status::Restarting => true,
                Status::Unmet => member.facts.is_some(),
                Status::Present | Status::Left => false,
            };
            some |= list(&mut self.members.present, id, status == Status::Present);
            others |= list(&mut self.members.absent, id, absent);
        }
        self.members.plan_next_change(now);
        if lost {
            self.watchers_lost(now);
        }
        self.watchers_changed(now);
        if some || others {
            self.statistics.changed += 1;
            let (present, absent) = (self.members.present.clone(), self.members.absent.clone());
            out.push(Output::Members { present, absent });
        }
    }

    /// A present member that hears another process of this node's name.
    pub(crate) fn foreign_watcher(&self, nonce: u32) -> bool {
        let mut watchers = self.members.my_watchers();
        watchers.any(|(watcher, heard)| watcher.status == Status::Present && heard != nonce)
    }

    /// What the links say of a peer, brought to the search.
    pub(crate) fn note_link(&mut self, peer: NodeId) {
        let link = self.links.get(&peer);
        let lost = self.lost.get(&peer);
        let linked = link.map_or(Incarnation::default(), |link| link.incarnation);
        let over_link = link.map(|link| (link.incarnation, link.verdict));
        let before = lost.map(|lost| (lost.incarnation, lost.verdict));
        let says = over_link.into_iter().chain(before);
        let heard = says.filter(|(_, verdict)| *verdict != Verdict::Silent).map(|(life, _)| life);
        let heard = heard.max();
        self.members.hear(peer, heard, linked);
    }

    /// Whether a present member other than this node hears `peer`, as last derived.
    pub(crate) fn heard_by_another(&self, peer: NodeId) -> bool {
        self.members.number(peer).is_some_and(|at| self.members.is_heard_by_another(at))
    }

    /// The nonce half that an edge to this node carries when it is about this process.
    pub(crate) fn my_short_nonce(&self) -> u32 {
        short_nonce(self.me.nonce)
    }
}

/// Takes `id` into a sorted list, or out of it. Says whether that changed the list.
fn list(ids: &mut Vec<NodeId>, id: NodeId, belongs: bool) -> bool {
    match (ids.binary_search(&id), belongs) {
        (Err(at), true) => ids.insert(at, id),
        (Ok(at), false) => drop(ids.remove(at)),
        (Ok(_), true) | (Err(_), false) => return false,
    }
    true
}

fn judge(member: &Member, reached: bool, now: Time) -> Status {
    if reached {
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
