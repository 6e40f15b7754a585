//! Topologies among the other machines: what overlays begin with, and whom this node links to.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{GroupName, NodeId, NodeName, Outbox, Time};
use skep_membership::Layout as Wanted;
use skep_records::kind as record;
use skep_topology::adoption::{
    Adoption, Input as Adopt, Output as Adopts, SLOTS, Wanted as Compute,
};
use skep_topology::{Layout, Overlay, shared_overlay, standing_overlay};
use skep_wire::kind;

use crate::api::{Event, Output};
use crate::job::{Job, MAX_LINKS};
use crate::node::Node;

/// Present nodes that dial an absent one eagerly.
const CHASERS: usize = 3;
/// Disjoint paths in the overlay of a group that has no topology of its own. Part of the protocol:
/// all its members must want the same links.
const GROUP_CONNECTIVITY: usize = 3;
/// Edges that are named when an overlay is not whole.
const MAX_MISSING: usize = 64;

impl Node {
    /// Which topologies are in force.
    #[must_use]
    pub const fn adoption(&self) -> &Adoption {
        &self.adoption
    }

    /// Who links to whom in a group that this node is in.
    #[must_use]
    pub fn overlay(&self, group: &GroupName) -> Option<&Overlay> {
        if *group == GroupName::all() {
            return self.layout.as_ref().map(|layout| layout.overlay());
        }
        self.overlays.get(group)
    }

    pub(crate) fn adopt(&mut self, now: Time, input: Adopt) {
        self.seldom_changed = true;
        self.adoption.handle(now, input, &mut self.from_adoption);
    }

    pub(crate) fn carry_from_adoption(&mut self, now: Time, out: &mut Outbox<Output>) {
        while let Some(output) = self.from_adoption.pop() {
            match output {
                Adopts::Compute(wanted) => {
                    let job = Box::new(self.job(wanted));
                    out.push(Output::Compute(job));
                }
                Adopts::Publish { slot, body } => {
                    let kind = record::TOPOLOGY + u16::from(slot);
                    self.publish_order(now, kind, body);
                }
                Adopts::LayOut { .. } => self.lay_out_again = true,
                Adopts::Inspect { group } => {
                    let edges = self.missing(&group);
                    self.adopt(now, Adopt::Missing { group, edges });
                }
                Adopts::Send { to, body } => self.send(to, kind::TOPOLOGY, body, out),
                Adopts::Reject { from, reason } => {
                    out.push(Output::Event(Event::Rejected { peer: from, reason }));
                }
                Adopts::Event(event) => out.push(Output::Event(Event::Topology(event))),
            }
        }
    }

    /// Whether a record's kind is that of a decree, and in which slot.
    pub(crate) fn slot_of(kind: u16) -> Option<u8> {
        let slot = u8::try_from(kind.checked_sub(record::TOPOLOGY)?).ok()?;
        (slot < SLOTS).then_some(slot)
    }

    /// A decree that this node obeys is new or newer, or taken back.
    pub(crate) fn decreed(&mut self, now: Time, owner: NodeId, slot: u8, body: Option<Bytes>) {
        self.adopt(now, Adopt::Decree { owner, slot, body });
    }

    /// Everybody's place follows from who is present and from what was decreed.
    pub(crate) fn lay_out(&mut self, now: Time) {
        let present = self.membership.present().to_vec();
        self.adopt(now, Adopt::Members { group: GroupName::all(), present: present.clone() });
        let standing = self.adoption.standing(&GroupName::all());
        let layout = self.layouts.layout(&present, self.shape, standing.as_ref());
        let mine = layout.neighbours(&self.id).to_vec();
        let mut neighbours = mine.clone();
        neighbours.extend(self.kept(&GroupName::all(), &present));
        let mut watched = layout.extra_watched_by(&self.id).to_vec();
        for peer in self.pinned() {
            if present.binary_search(&peer).is_ok()
                && !neighbours.contains(&peer)
                && !watched.contains(&peer)
            {
                watched.push(peer);
            }
        }
        let ring = layout.watch_ring();
        let chased = self
            .absent
            .iter()
            .filter(|node| ring.successors(node).take(CHASERS).any(|chaser| chaser == self.id))
            .copied()
            .collect();
        self.layout = Some(layout);
        self.adopt(now, Adopt::Laid { group: GroupName::all(), neighbours: mine });
        self.lay_out_groups(now, &present, neighbours.len(), &mut watched);
        let digest = self.adoption.digest(&present);
        self.laid_out = true;
        self.flood_peers_changed = true;
        let wanted = Wanted { digest, neighbours, watched, chased };
        self.member(now, skep_membership::Input::Layout(wanted));
    }

    /// The overlays of the groups that this node is in. What they need besides the links that are
    /// there for everybody is added to `extra`, as far as the bound on links allows.
    fn lay_out_groups(
        &mut self,
        now: Time,
        present: &[NodeId],
        links: usize,
        extra: &mut Vec<NodeId>,
    ) {
        for group in self.groups.clone() {
            let members: Vec<NodeId> =
                present.iter().copied().filter(|id| self.is_in(*id, &group)).collect();
            self.adopt(now, Adopt::Members { group: group.clone(), present: members.clone() });
            let Some(layout) = &self.layout else { continue };
            let overlay = self.group_overlay(&group, &members, layout);
            let mine = overlay.neighbours(&self.id).to_vec();
            self.overlays.insert(group.clone(), overlay);
            let kept = self.kept(&group, &members);
            for peer in mine.iter().copied().chain(kept) {
                if links + extra.len() < usize::from(MAX_LINKS) && !extra.contains(&peer) {
                    extra.push(peer);
                }
            }
            self.adopt(now, Adopt::Laid { group, neighbours: mine });
        }
    }

    /// Who links to whom among the `members` of a group besides `all`.
    pub(crate) fn group_overlay(
        &self,
        group: &GroupName,
        members: &[NodeId],
        layout: &Layout,
    ) -> Overlay {
        match self.adoption.standing_among(group, members) {
            Some(standing) => {
                let k = standing.topology.connectivity();
                standing_overlay(members, k, &standing.topology)
            }
            None => shared_overlay(members, GROUP_CONNECTIVITY, layout.overlay()),
        }
    }

    /// Neighbours of until now that are still there.
    fn kept(&self, group: &GroupName, present: &[NodeId]) -> Vec<NodeId> {
        let kept = self.adoption.kept(group).iter().copied();
        kept.filter(|peer| present.binary_search(peer).is_ok()).collect()
    }

    /// Whether a member says that it is in a group.
    pub(crate) fn is_in(&self, node: NodeId, group: &GroupName) -> bool {
        if node == self.id {
            return true;
        }
        let facts = self.membership.member(node).and_then(|member| member.facts);
        facts.is_some_and(|facts| facts.groups.contains(group))
    }

    /// The neighbours in a group that can be flooded to now: those of its overlay, those of the one
    /// before it while it is not whole, and over links whose other end sees other members also
    /// those that it may want.
    pub(crate) fn group_peers(&self, group: &GroupName) -> Vec<NodeId> {
        let Some(overlay) = self.overlays.get(group) else {
            return Vec::new();
        };
        let kept = self.adoption.kept(group);
        let links = self.membership.links().filter(|link| {
            let peer = link.peer;
            let own = overlay.joins(&self.id, &peer) || kept.contains(&peer);
            let in_doubt = !link.agrees && self.flood_peers.contains_key(&peer);
            own || in_doubt && self.is_in(peer, group)
        });
        links.map(|link| link.peer).collect()
    }

    /// The first few edges of a group's overlay that neither end hears the other over.
    fn missing(&self, group: &GroupName) -> Vec<(NodeId, NodeId)> {
        let Some(overlay) = self.overlay(group) else {
            return Vec::new();
        };
        let heard =
            |a: NodeId, b: NodeId| self.membership.hears(a, b) || self.membership.hears(b, a);
        overlay.edges().filter(|(a, b)| !heard(*a, *b)).take(MAX_MISSING).collect()
    }

    fn job(&mut self, wanted: Compute) -> Job {
        let estimates = self.costs(&wanted.members);
        let name = |id: &NodeId| {
            let name = self.membership.member(*id).and_then(|member| member.name.cloned());
            // A member without a name was never introduced; its identity is as good as one.
            name.or_else(|| NodeName::new(&alloc::format!("{id}")).ok())
        };
        let names: Vec<NodeName> = wanted.members.iter().filter_map(name).collect();
        let mut shared = Vec::new();
        if wanted.group != GroupName::all()
            && let Some(layout) = &self.layout
        {
            for (at, id) in wanted.members.iter().enumerate() {
                let place = |to: &NodeId| wanted.members.binary_search(to).ok();
                let targets = layout.neighbours(id).iter().filter_map(place);
                shared.extend(targets.filter(|to| at < *to).map(|to| (at, to)));
            }
        }
        let seed = self.rng.bits();
        Job::new(wanted, names, estimates, &shared, seed)
    }
}
