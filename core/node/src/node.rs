//! The node: its machines, and what of the outside goes to which of them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{GroupName, Incarnation, NodeId, Outbox, Rng, Time};
use skep_estimates::Estimates;
use skep_flood::Flood;
use skep_membership::{Heartbeat, Membership, Watch};
use skep_records::{Message, Records, Stored, kind as record};
use skep_routing::Routing;
use skep_topology::adoption::Adoption;
use skep_topology::{Layout, LayoutSource, Overlay, Shape};
use skep_wire::{Frame, decode, kind};

use crate::api::{
    Birth, Config, Deadline, DownReason, Event, Farewell, Goodbye, Input, LinkId, LinkView,
    MemberView, NodeFacts, NodeState, Output,
};

/// Layout of the bodies of our own records.
pub(crate) const SCHEMA: u16 = 1;

/// One node of a bloc.
pub struct Node {
    pub(crate) id: NodeId,
    pub(crate) records: Records,
    pub(crate) membership: Membership,
    pub(crate) flood: Flood,
    pub(crate) routing: Routing,
    pub(crate) estimates: Estimates,
    /// Numbers dials for errands.
    pub(crate) errands: u64,
    /// Numbers pings over others.
    pub(crate) pings: u64,
    /// The one whose answer is waited for.
    pub(crate) pinging: Option<(skep_routing::Token, NodeId)>,
    pub(crate) layouts: alloc::boxed::Box<dyn LayoutSource + Send>,
    pub(crate) shape: Shape,
    pub(crate) layout: Option<Arc<Layout>>,
    pub(crate) adoption: Adoption,
    /// Who links to whom in each group that this node is in besides `all`.
    pub(crate) overlays: BTreeMap<GroupName, Overlay>,
    /// Members to find again.
    pub(crate) absent: Vec<NodeId>,
    /// What overlays follow from has changed, besides who is present.
    pub(crate) lay_out_again: bool,
    /// Seeds computations.
    pub(crate) rng: Rng,
    /// The membership was handed a layout and has not drawn its conclusions.
    pub(crate) laid_out: bool,
    pub(crate) groups: Vec<GroupName>,
    /// Peers to whom updates would be flooded, were it not for restricted links.
    pub(crate) flood_wanted: BTreeSet<NodeId>,
    /// Links over which updates are flooded.
    pub(crate) flood_peers: BTreeMap<NodeId, LinkId>,
    /// Links for renewal and membership alone, and whether an update over each was refused.
    pub(crate) restricted: BTreeMap<LinkId, bool>,
    pub(crate) flood_peers_changed: bool,
    /// Links have come or gone, and the routed requests do not know yet.
    pub(crate) peers_changed: bool,
    pub(crate) state: NodeState,
    /// When a machine that few inputs concern has something to do, as these last said.
    pub(crate) seldom_due: Option<Deadline>,
    /// Something happened to one of them since.
    pub(crate) seldom_changed: bool,
    /// Frames of a kind that no machine here knows: a newer peer's.
    pub(crate) unknown_frames: u64,
    /// The managers, and what is told to them.
    pub(crate) managed: crate::managed::Managed,
    /// Orders that wait to be carried out.
    pub(crate) fence: crate::fence::Fence,
    /// The catalog.
    pub(crate) catalog: skep_catalog::Replica,
    /// Who may what.
    pub(crate) access: crate::access::Access,
    /// What is asked of the master.
    pub(crate) desk: crate::desk::Desk,
    pub(crate) from_managers: Outbox<skep_managers::Output>,
    pub(crate) from_catalog: Outbox<skep_catalog::Output>,
    pub(crate) from_records: Outbox<skep_records::Output>,
    pub(crate) from_membership: Outbox<skep_membership::Output>,
    pub(crate) from_flood: Outbox<skep_flood::Output>,
    pub(crate) from_routing: Outbox<skep_routing::Output>,
    pub(crate) from_estimates: Outbox<skep_estimates::Output>,
    pub(crate) from_adoption: Outbox<skep_topology::adoption::Output>,
}

impl Node {
    /// A node that is about to look around. It has something to do at once: call [`Node::tick`].
    #[must_use]
    pub fn new(now: Time, birth: Birth, config: Config) -> Self {
        let mut rng = Rng::seeded(birth.seed);
        let id = birth.me.id;
        let access = crate::access::Access::new(Arc::clone(&birth.verifier), &birth.catalog);
        let records =
            Records::new(id, config.records, rng.fork(), now, birth.signer, birth.verifier);
        let stored = birth.me.stored;
        let life = birth.me.nonce.0;
        let routing = Routing::new(id, life);
        let membership = Membership::new(birth.me, config.membership, rng.fork(), now);
        let groups =
            config.flood.groups.iter().filter(|group| **group != GroupName::all()).cloned();
        let groups = groups.collect();
        let mut flood = Flood::new(id, stored.next(), config.flood, rng.fork());
        flood.restore_purged(birth.purged);
        flood.restore(now, birth.log, birth.log_next, birth.clock_went_back);
        let estimates = Estimates::new(id, config.estimates, rng.fork(), now);
        let mut node = Self {
            id,
            records,
            membership,
            flood,
            routing,
            estimates,
            errands: 0,
            pings: 0,
            pinging: None,
            layouts: birth.layouts,
            shape: config.shape,
            layout: None,
            adoption: Adoption::new(id, config.adoption, rng.fork()),
            overlays: BTreeMap::new(),
            absent: Vec::new(),
            lay_out_again: false,
            rng,
            laid_out: false,
            groups,
            flood_wanted: BTreeSet::new(),
            flood_peers: BTreeMap::new(),
            restricted: BTreeMap::new(),
            flood_peers_changed: false,
            peers_changed: false,
            state: NodeState::Up,
            seldom_due: None,
            seldom_changed: true,
            unknown_frames: 0,
            managed: crate::managed::Managed::new(now, birth.managers, config.fit),
            fence: crate::fence::Fence::default(),
            catalog: skep_catalog::Replica::new(id, config.catalog, birth.catalog),
            access,
            desk: crate::desk::Desk::new(life),
            from_managers: Outbox::new(),
            from_catalog: Outbox::new(),
            from_records: Outbox::new(),
            from_membership: Outbox::new(),
            from_flood: Outbox::new(),
            from_routing: Outbox::new(),
            from_estimates: Outbox::new(),
            from_adoption: Outbox::new(),
        };
        node.restore(now, birth.records, birth.address_book, birth.clock_went_back);
        node.unsay_office(now);
        node
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::LinkUp { link, peer } => {
                self.member(now, skep_membership::Input::LinkUp { link, peer });
            }
            Input::LinkDown { link, why } => {
                self.restricted.remove(&link);
                if why == DownReason::Goodbye(Goodbye::Stopping) {
                    // Why it stops is in its last record, which may still wait for its batch.
                    self.records.flush(now, &mut self.from_records);
                    self.settle(now, out);
                }
                self.managed.last_down = self.membership.peer(link).map(|peer| (peer, why));
                self.member(now, skep_membership::Input::LinkDown { link, why });
            }
            Input::Restrict { link, on } => self.restrict(link, on),
            Input::Frame { link, frame } => self.frame(now, link, frame, out),
            Input::DialFailed { dial, why } => {
                self.dial_of_manager_failed(now, dial, why);
                self.member(now, skep_membership::Input::DialFailed { dial, why });
            }
            Input::Found { addresses, source } => {
                self.member(now, skep_membership::Input::Found { addresses, source });
            }
            Input::Addresses(addresses) => {
                self.membership.set_addresses(addresses);
                self.publish_facts(now);
            }
            Input::Renewed(signer) => {
                self.record(now, skep_records::Input::Renewed { signer: signer.0 });
            }
            Input::Publish { kind, body, .. } if skep_records::stamped::is_order(kind) => {
                self.publish_order(now, kind, body);
            }
            Input::Publish { kind, schema, body } => {
                self.record(now, skep_records::Input::Publish { kind, schema, body });
            }
            Input::Looked(samples) => {
                self.estimate(now, skep_estimates::Input::Looked(samples));
                self.hand_distances(now);
            }
            Input::Computed { group, job, answer } => {
                self.adopt(now, skep_topology::adoption::Input::Computed { group, job, answer });
            }
            Input::Knocked { peer, took } => {
                self.estimate(now, skep_estimates::Input::Knocked { peer, took });
            }
            // Nothing that happens to the flood concerns another machine, and it happens often.
            // What was restored from the disk still waits for the first settling, though.
            Input::Flood(input) => {
                self.flood.handle(now, input, &mut self.from_flood);
                if self.is_settled() {
                    return self.carry_from_flood(out);
                }
            }
            Input::Ask { token, to, service, body, within } => {
                let routes = self.ways_to(to);
                let input = skep_routing::Input::Ask { token, routes, service, body, within };
                self.routed(now, input);
            }
            Input::Answer { ticket, outcome } => {
                self.routed(now, skep_routing::Input::Answer { ticket, outcome });
            }
            Input::Spare { resources, parts } => self.spare_is(now, resources, parts),
            Input::Managers(input) => self.manage_here(now, input),
            Input::Wish { token, wish } => self.wish(now, token, wish, out),
            Input::Stop(farewell) => self.stop(now, farewell, out),
        }
        self.settle(now, out);
    }

    /// When [`Node::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let seldom = if self.seldom_changed { self.ask_seldom_due() } else { self.seldom_due };
        let often = [self.records.deadline(), self.membership.deadline(), self.flood.deadline()];
        often.into_iter().chain([seldom]).flatten().min()
    }

    /// Asks the machines that few inputs concern.
    pub(crate) fn ask_seldom_due(&self) -> Option<Deadline> {
        let machines = [
            self.routing.deadline(),
            self.estimates.deadline(),
            self.adoption.deadline(),
            self.managed.deadline(),
            self.catalog.deadline(),
            self.desk.deadline(),
            self.fence.deadline(),
        ];
        machines.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.records.tick(now, &mut self.from_records);
        self.membership.tick(now, &mut self.from_membership);
        self.flood.tick(now, &mut self.from_flood);
        if self.seldom_changed || self.seldom_due.is_some_and(|(at, _)| at <= now) {
            self.seldom_changed = true;
            self.routing.tick(now, &mut self.from_routing);
            self.estimates.tick(now, &mut self.from_estimates);
            self.adoption.tick(now, &mut self.from_adoption);
            self.tick_managers(now);
            self.catalog.tick(now, &mut self.from_catalog);
            self.tick_desk(now, out);
            self.tick_fence(now);
        }
        self.settle(now, out);
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        self.records.check();
        self.membership.check();
        self.flood.check();
        self.routing.check();
        self.estimates.check();
        assert!(
            self.is_settled() && self.from_flood.is_empty() && self.from_routing.is_empty(),
            "a machine's output was left lying"
        );
        self.adoption.check();
        self.managed.check();
        self.catalog.check();
        self.desk.check();
        self.fence.check();
        assert!(
            self.seldom_changed || self.seldom_due == self.ask_seldom_due(),
            "a machine has something to do at another time than it said"
        );
        let present = self.membership.present();
        if let Some(layout) = &self.layout {
            assert_eq!(layout.members(), present, "the layout is not that of the present");
        }
    }

    /// Who this node is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// As which life it publishes, or will.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.membership.incarnation()
    }

    /// Whether it publishes.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.membership.has_begun()
    }

    /// Whether another live process has this node's name, as far as anybody told.
    #[must_use]
    pub fn name_contested(&self, now: Time) -> Option<skep_membership::Contest> {
        self.membership.contested(now)
    }

    /// Who is present, sorted, this node among them.
    #[must_use]
    pub fn present(&self) -> &[NodeId] {
        self.membership.present()
    }

    /// All members that have a name.
    pub fn members(&self) -> impl Iterator<Item = MemberView<'_>> + '_ {
        self.membership.members()
    }

    /// One member.
    #[must_use]
    pub fn member_view(&self, node: NodeId) -> Option<MemberView<'_>> {
        self.membership.member(node)
    }

    /// Ways to a member over the links of others, as [`Input::Ask`] would take them.
    #[must_use]
    pub fn ways_to(&self, node: NodeId) -> Vec<Vec<NodeId>> {
        self.membership.routes(node, skep_routing::MAX_HOPS, skep_routing::MAX_ROUTES)
    }

    /// All control links.
    pub fn links(&self) -> impl Iterator<Item = LinkView> + '_ {
        self.membership.links()
    }

    /// Who links to whom among those that are present here.
    #[must_use]
    pub fn layout(&self) -> Option<&Arc<Layout>> {
        self.layout.as_ref()
    }

    /// The records that the node holds.
    #[must_use]
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// What its membership counted since the start.
    #[must_use]
    pub const fn membership_statistics(&self) -> skep_membership::Statistics {
        self.membership.statistics()
    }

    /// The catalog, as this node shows it.
    #[must_use]
    pub const fn catalog(&self) -> &skep_catalog::Replica {
        &self.catalog
    }

    /// What this node knows of its flock's management.
    #[must_use]
    pub fn management(&self, now: Time) -> skep_managers::View {
        self.managed.view(now)
    }

    /// Whether this node reaches a master of its flock now.
    #[must_use]
    pub fn reach(&self, now: Time) -> skep_managers::Reach {
        self.managed.reach(now)
    }

    /// What this node has in its managers' log and not in its catalog, and as what it came there.
    #[must_use]
    pub fn undecided(&self) -> Vec<(skep_catalog::Dot, skep_catalog::Origin, Bytes)> {
        self.managed.undecided()
    }

    /// What a present node says that it may become, and that it has to spare; nothing of a node
    /// that is expelled, or of a build without managers.
    #[must_use]
    pub fn fit(&self, node: NodeId) -> Option<crate::managed::Fit> {
        self.fit_of(node)
    }

    /// The update flood.
    #[must_use]
    pub const fn flood(&self) -> &Flood {
        &self.flood
    }

    /// Frames that came and that no machine here knows.
    #[must_use]
    pub const fn unknown_frames(&self) -> u64 {
        self.unknown_frames
    }

    /// One record.
    #[must_use]
    pub fn stored(&self, owner: NodeId, kind: u16) -> Option<&Stored> {
        self.records.get(owner, kind)
    }

    fn frame(&mut self, now: Time, link: LinkId, frame: Frame, out: &mut Outbox<Output>) {
        let Some(from) = self.membership.peer(link) else {
            return;
        };
        self.member(now, skep_membership::Input::Heard { link });
        let of_members = matches!(frame.kind, kind::RECORDS | kind::MEMBERSHIP);
        if self.restricted.contains_key(&link) && !of_members {
            return self.refuse_in_grace(link, from, out);
        }
        match frame.kind {
            kind::RECORDS => match Message::read(&frame.body) {
                Ok(message) => {
                    self.record(now, skep_records::Input::Message { from, message });
                }
                Err(error) => self.broken(link, from, &error, out),
            },
            kind::MEMBERSHIP if frame.body.is_empty() => {
                self.member(now, skep_membership::Input::Heartbeat { link, heartbeat: None });
            }
            kind::MEMBERSHIP => match decode::<Heartbeat>("heartbeat", &frame.body) {
                Ok(heartbeat) => {
                    let heartbeat = Some(heartbeat);
                    self.member(now, skep_membership::Input::Heartbeat { link, heartbeat });
                }
                Err(error) => self.broken(link, from, &error, out),
            },
            kind::FLOOD => {
                let body = frame.body;
                let input = skep_flood::Input::Received { from, body };
                self.flood.handle(now, input, &mut self.from_flood);
            }
            kind::ROUTED => {
                let body = frame.body;
                self.routed(now, skep_routing::Input::Received { from, body });
            }
            kind::TOPOLOGY => {
                let body = frame.body;
                self.adopt(now, skep_topology::adoption::Input::Message { from, body });
            }
            kind::MANAGERS => {
                let body = frame.body;
                self.manage(now, skep_managers::Input::Message { from, body });
            }
            kind::CATALOG => {
                let body = frame.body;
                self.catalogue(now, skep_catalog::Input::Message { from, body });
            }
            kind::WISHES => match skep_catalog::Forward::from_body(&frame.body) {
                Ok(message) => self.wish_came(now, from, message, out),
                Err(error) => self.broken(link, from, &error, out),
            },
            kind::ESTIMATES => {
                let body = frame.body;
                self.estimate(now, skep_estimates::Input::Message { from, body });
            }
            _ => self.unknown_frames += 1,
        }
    }

    fn restrict(&mut self, link: LinkId, on: bool) {
        if on {
            self.restricted.entry(link).or_default();
        } else {
            self.restricted.remove(&link);
        }
        if let Some(peer) = self.membership.peer(link) {
            self.place_flood(peer);
        }
    }

    /// Says once for each link that what comes over it is not taken: the peer goes on as ever.
    fn refuse_in_grace(&mut self, link: LinkId, peer: NodeId, out: &mut Outbox<Output>) {
        let said = self.restricted.entry(link).or_default();
        if !core::mem::replace(said, true) {
            let reason = "anything but heartbeats and records while its certificate has expired: \
                          it must renew it first";
            out.push(Output::Event(Event::Rejected { peer, reason: reason.into() }));
        }
    }

    /// A peer that cannot be understood cannot be talked to either.
    fn broken(
        &self,
        link: LinkId,
        peer: NodeId,
        error: &skep_wire::Malformed,
        out: &mut Outbox<Output>,
    ) {
        let reason = alloc::format!("{error}");
        out.push(Output::Event(Event::Rejected { peer, reason }));
        out.push(Output::Close { link, why: Goodbye::Protocol });
    }

    fn stop(&mut self, now: Time, farewell: Farewell, out: &mut Outbox<Output>) {
        self.state = match farewell {
            Farewell::Leaving => NodeState::Left,
            Farewell::Restarting(span) => {
                let back_within_ms = u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
                NodeState::Restarting { back_within_ms }
            }
        };
        self.member(now, skep_membership::Input::Stopping);
        self.publish_facts(now);
        self.records.flush(now, &mut self.from_records);
        self.settle(now, out);
        self.member(now, skep_membership::Input::HangUp);
    }

    pub(crate) fn member(&mut self, now: Time, input: skep_membership::Input) {
        self.membership.handle(now, input, &mut self.from_membership);
    }

    pub(crate) fn record(&mut self, now: Time, input: skep_records::Input) {
        self.records.handle(now, input, &mut self.from_records);
    }

    /// Says what this node is, if it may speak at all.
    pub(crate) fn publish_facts(&mut self, now: Time) {
        let facts = self.membership.facts(self.state, &self.groups);
        let body = Some(Bytes::from(facts.to_body()));
        self.record(now, skep_records::Input::Publish { kind: record::NODE, schema: SCHEMA, body });
    }
}

/// What a record of another node means to the membership.
pub(crate) fn facts_of(stored: &Stored) -> Option<NodeFacts> {
    (stored.schema == SCHEMA && !stored.retracted)
        .then(|| NodeFacts::from_body(&stored.body).ok())
        .flatten()
}

/// Whom a watch record names.
pub(crate) fn watch_of(stored: &Stored) -> Option<Watch> {
    (stored.schema == SCHEMA && !stored.retracted)
        .then(|| Watch::from_body(&stored.body).ok())
        .flatten()
}
