//! The machine: its groups, and which handler an input goes to.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{Digest, GroupName, NodeId, Outbox, Rng, Time};

use super::body::Bodies;
use super::event::{Answer, Config, Event, Input, Output, Wanted};
use super::group::{Adopted, Group, Inspection};
use crate::computed::Topology;
use crate::computed::decree::{Decree, Stamp};
use crate::{covers, member_digest};

/// Groups whose decrees are kept: as many as one node may be in.
pub const MAX_GROUPS: usize = 256;
/// Decrees that one node may have out: a record each, beside which its other records need room. A
/// master of more groups leaves the rest to the hash overlay, and says so.
pub const SLOTS: u8 = 16;
/// Edges that a report of what is missing names.
const SHOWN_MISSING: usize = 8;

/// What a group's overlay begins with.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Differs between any two decrees: what layouts are remembered by.
    pub id: u64,
    /// The topology.
    pub topology: Arc<Topology>,
}

/// Which topologies are in force.
#[derive(Debug)]
pub struct Adoption {
    me: NodeId,
    config: Config,
    /// When this node began to publish.
    begun: Option<Time>,
    pub(super) groups: BTreeMap<GroupName, Group>,
    /// Which group each of our own slots is for.
    slots: BTreeMap<u8, GroupName>,
    bodies: Bodies,
    next_job: u64,
}

impl Adoption {
    /// Nothing is in force yet.
    #[must_use]
    pub fn new(me: NodeId, config: Config, rng: Rng) -> Self {
        let planned =
            |(name, plan): (&GroupName, &super::Plan)| (name.clone(), Group::planned(plan.clone()));
        let groups = config.plans.iter().take(MAX_GROUPS).map(planned).collect();
        Self {
            me,
            begun: None,
            groups,
            slots: BTreeMap::new(),
            bodies: Bodies::new(rng),
            next_job: 0,
            config,
        }
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Begun => {
                self.begun.get_or_insert(now);
            }
            Input::Members { group, present } => {
                if let Some(group) = self.group_mut(&group) {
                    group.members(now, present);
                }
            }
            Input::Laid { group, neighbours } => {
                if let Some(group) = self.group_mut(&group) {
                    group.laid = neighbours;
                }
            }
            Input::Missing { group, edges } => self.missing(now, &group, &edges, out),
            Input::Decree { owner, slot, body } => self.decree(now, owner, slot, body, out),
            Input::Forgotten { owner } => {
                self.groups.values_mut().for_each(|group| {
                    group.decrees.remove(&owner);
                });
            }
            Input::Computed { group, job, answer } => self.computed(now, &group, job, answer, out),
            Input::Link { peer, up } => self.bodies.link(peer, up),
            Input::Message { from, body } => {
                if self.bodies.message(now, from, &body, out).is_some() {
                    self.adopt_all(now, out);
                }
            }
        }
    }

    /// When [`Adoption::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let bodies = self.bodies.deadline().map(|at| (at, "a topology's body is asked for"));
        let groups = self.groups.values().flat_map(|group| {
            let compute = self.compute_due(group);
            let look = group.switching.map(|switching| switching.next_look);
            [
                compute.map(|at| (at, "a topology is to be computed")),
                look.map(|at| (at, "a new overlay may be whole")),
                group.job_lost_at().map(|at| (at, "a computation may be lost")),
            ]
        });
        groups.flatten().chain(bodies).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.bodies.tick(now, out);
        let names: Vec<GroupName> = self.groups.keys().cloned().collect();
        for name in names {
            self.tick_group(now, &name, out);
        }
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        assert!(self.groups.len() <= MAX_GROUPS, "too many groups");
        assert!(self.slots.keys().all(|slot| *slot < SLOTS), "a slot that is none");
        for (name, group) in &self.groups {
            if let Some(adopted) = &group.adopted {
                assert!(adopted.stamp <= group.highest, "{name}: a stamp above the highest seen");
            }
            assert!(
                group.switching.is_some() || group.old.is_empty(),
                "{name}: old neighbours are kept for nothing"
            );
        }
    }

    /// Who this node is.
    #[must_use]
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// Neighbours of earlier overlays of `group` that are kept while a new one is not whole.
    #[must_use]
    pub fn kept(&self, group: &GroupName) -> &[NodeId] {
        self.groups.get(group).map_or(&[], |group| &group.old)
    }

    /// A digest of who is present and which decrees are known: two nodes of which it is the same
    /// want the same links. Equal to the members' own while no decree is known.
    #[must_use]
    pub fn digest(&self, present: &[NodeId]) -> u64 {
        let members = member_digest(present);
        let mut bytes = Vec::new();
        for (name, group) in &self.groups {
            if let Some((_, newest)) = group.newest() {
                let stamp = newest.decree.stamp;
                bytes.extend_from_slice(name.as_str().as_bytes());
                bytes.extend_from_slice(&stamp.epoch.to_le_bytes());
                bytes.extend_from_slice(&stamp.fork.to_le_bytes());
            }
        }
        if bytes.is_empty() {
            return members.short();
        }
        Digest::of_parts(&[b"skep layout", &members.0, &bytes]).short()
    }

    /// When this node computes a group's topology, if it does.
    fn compute_due(&self, group: &Group) -> Option<Time> {
        let due = group.compute_due(self.me, &self.config)?;
        let members = u32::try_from(group.present.len()).unwrap_or(u32::MAX);
        let all = self.config.listen_of_each.saturating_mul(members);
        let listen = self.config.listen_first + all.min(self.config.listen_of_all);
        Some(due.max(self.begun? + listen))
    }

    fn group_mut(&mut self, name: &GroupName) -> Option<&mut Group> {
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(name) {
            return None;
        }
        Some(self.groups.entry(name.clone()).or_default())
    }

    fn decree(
        &mut self,
        now: Time,
        owner: NodeId,
        slot: u8,
        body: Option<Bytes>,
        out: &mut Outbox<Output>,
    ) {
        // A slot that is taken back, or used for another group, says nothing of the one before.
        for group in self.groups.values_mut() {
            group.decrees.retain(|of, known| *of != owner || known.slot != slot);
        }
        let Some(body) = body else { return };
        let decree = match Decree::from_bytes(&body) {
            Ok(decree) => decree,
            Err(error) => {
                let reason = alloc::format!("{error}");
                return out.push(Output::Reject { from: owner, reason });
            }
        };
        let name = decree.group.clone();
        let Some(group) = self.group_mut(&name) else { return };
        if !group.decreed(owner, slot, decree) {
            let reason = "a decree whose epoch is far beyond all that were seen".into();
            return out.push(Output::Reject { from: owner, reason });
        }
        if owner == self.me {
            self.slots.insert(slot, name);
        }
        self.adopt_all(now, out);
    }

    /// Puts in force what is newer than what is.
    fn adopt_all(&mut self, now: Time, out: &mut Outbox<Output>) {
        let wanted = self.groups.values().filter_map(Group::body).collect();
        self.bodies.want(now, &wanted);
        let names: Vec<GroupName> = self
            .groups
            .iter()
            .filter(|(_, group)| group.is_behind())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.adopt(now, &name, out);
        }
    }

    fn adopt(&mut self, now: Time, name: &GroupName, out: &mut Outbox<Output>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some((owner, known)) = group.newest() else { return };
        let apart = group.body().and_then(|(digest, _)| self.bodies.get(&digest));
        if group.body().is_some() && apart.is_none() {
            return;
        }
        let stamp = known.decree.stamp;
        let topology = match known.decree.topology(apart.map(|body| &body[..])) {
            Ok(topology) => Arc::new(topology),
            Err(error) => {
                let reason = alloc::format!("{error}");
                // Not asked again: what it says is signed, and will not change.
                group.decrees.remove(&owner);
                return out.push(Output::Reject { from: owner, reason });
            }
        };
        let (members, edges) = (topology.members().len(), topology.edges().len());
        group.adopt(Adopted { stamp, owner, topology, at: now });
        let group = name.clone();
        out.push(Output::Event(Event::Adopted { group, stamp, by: owner, members, edges }));
        out.push(Output::LayOut { group: name.clone() });
        if owner != self.me {
            self.withdraw(name, out);
        }
    }

    /// Takes our own decree for a group back: another's is in force.
    fn withdraw(&mut self, name: &GroupName, out: &mut Outbox<Output>) {
        let slot = self.slots.iter().find(|(_, group)| *group == name).map(|(slot, _)| *slot);
        if let Some(slot) = slot.filter(|_| self.begun.is_some()) {
            self.slots.remove(&slot);
            out.push(Output::Publish { slot, body: None });
        }
    }

    fn missing(
        &mut self,
        now: Time,
        name: &GroupName,
        edges: &[(NodeId, NodeId)],
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let stamp = group.adopted.as_ref().map(|adopted| adopted.stamp).unwrap_or_default();
        match group.inspected(now, edges) {
            Inspection::Wait => {}
            Inspection::Whole => {
                out.push(Output::Event(Event::Whole { group: name.clone(), stamp }));
                out.push(Output::LayOut { group: name.clone() });
            }
            Inspection::Lacking => {
                let edges = edges.iter().copied().take(SHOWN_MISSING).collect();
                out.push(Output::Event(Event::Lacking { group: name.clone(), edges }));
            }
        }
    }

    fn tick_group(&mut self, now: Time, name: &GroupName, out: &mut Outbox<Output>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if let Some(switching) = group.switching.as_mut().filter(|it| now >= it.next_look) {
            switching.next_look = now + super::group::INSPECT_EVERY;
            out.push(Output::Inspect { group: name.clone() });
        }
        if group.job_lost_at().is_some_and(|at| now >= at)
            && let Some((job, _)) = group.job
        {
            group.end_job(now, job, true);
        }
        let due = self.groups.get(name).and_then(|group| self.compute_due(group));
        let Some(group) = self.groups.get_mut(name).filter(|_| due.is_some_and(|at| now >= at))
        else {
            return;
        };
        self.next_job += 1;
        group.begin_job(now, self.next_job);
        out.push(Output::Compute(Wanted {
            group: name.clone(),
            job: self.next_job,
            members: group.present.clone(),
            standing: group.adopted.as_ref().map(|adopted| Arc::clone(&adopted.topology)),
            margin: group.margin.clone(),
            k: group.plan.as_ref().map_or(1, |plan| plan.k),
            apart: group.apart(now),
        }));
    }

    fn computed(
        &mut self,
        now: Time,
        name: &GroupName,
        job: u64,
        answer: Result<Answer, String>,
        out: &mut Outbox<Output>,
    ) {
        let me = self.me;
        let Some(group) = self.groups.get_mut(name) else { return };
        if !group.end_job(now, job, answer.is_err()) {
            return;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => return self.failed(now, name, why, out),
        };
        group.failure = None;
        let ours = |adopted: &Adopted| {
            adopted.owner == me && adopted.topology.members() == answer.topology.members()
        };
        let stands = answer.kept && group.adopted.as_ref().is_some_and(ours);
        if stands {
            group.stood(now, &answer.rtts);
        }
        // While it was computed the flock may have become another, or another the master.
        let of_use = covers(answer.topology.members(), &group.present);
        if stands || !of_use || group.stands_back(me).is_none() {
            return;
        }
        let epoch = group.highest.epoch.saturating_add(1);
        let stamp = Stamp { epoch, fork: fork_of(me) };
        self.publish(now, name, stamp, &answer.topology, out);
    }

    fn publish(
        &mut self,
        now: Time,
        name: &GroupName,
        stamp: Stamp,
        topology: &Topology,
        out: &mut Outbox<Output>,
    ) {
        let own = self.slots.iter().find(|(_, group)| *group == name).map(|(slot, _)| *slot);
        let free = || (0..SLOTS).find(|slot| !self.slots.contains_key(slot));
        let Some(slot) = own.or_else(free) else {
            let why = alloc::format!("a node is topology master of at most {SLOTS} groups");
            return self.failed(now, name, why, out);
        };
        self.slots.insert(slot, name.clone());
        let (decree, apart) = Decree::new(name.clone(), stamp, topology);
        if let Some(body) = apart {
            self.bodies.hold(body.into());
        }
        out.push(Output::Publish { slot, body: Some(decree.to_bytes().into()) });
    }

    fn failed(&mut self, now: Time, name: &GroupName, why: String, out: &mut Outbox<Output>) {
        if let Some(group) = self.groups.get_mut(name) {
            group.failure = Some((now, why.clone()));
        }
        out.push(Output::Event(Event::Failed { group: name.clone(), why }));
    }
}

/// Tells apart what two masters decree at one time.
fn fork_of(master: NodeId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *master.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Adopted {
    pub(super) fn id(&self) -> u64 {
        let (epoch, fork) = (self.stamp.epoch.to_le_bytes(), self.stamp.fork.to_le_bytes());
        let members = self.topology.member_digest();
        Digest::of_parts(&[b"skep topology", self.owner.as_bytes(), &epoch, &fork, &members.0])
            .short()
    }
}
