//! The flock's managers among the other machines: what they are told of members and links, and
//! where what they say goes.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{NodeId, Outbox, Time};
use skep_catalog::{Catalog, Dot, Origin, Place, Stamp};
use skep_managers::{
    Decided, Down, Eligibility, ForkId, Managers, Parts, Reach, Role, USUAL_RESOURCES, View,
};
use skep_membership::{DialFailure, DialId, DownReason, Goodbye};
use skep_records::kind as record;
use skep_wire::{decode, encode, kind};

use crate::api::{Event, Output, Status};
use crate::node::{Node, SCHEMA, facts_of};

/// Builds of this feature level and above have managers: others are asked nothing of the kind.
const FEATURE_LEVEL: u16 = 2;
/// A node without a history looks around for so long before its managers begin.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// And for so long after the last that it heard of others, for a flock that forms has better to do;
/// but while others come and go all the time no longer than this.
const LOOK_AROUND_AT_MOST: Duration = Duration::from_secs(10);
/// And for so much longer for each present node that may begin before it: of a fleet that is
/// switched on at once one founds the flock, and the others hear of it and join.
const NEXT_IN_TURN: Duration = Duration::from_secs(3);
/// Nodes that begin one after the other; all others begin with the last of them.
const MAX_TURNS: usize = 8;
/// Nodes without an office that say what they are good for. More records would serve nobody: a
/// flock has three managers, and whoever is needed later says so then.
const MAX_CANDIDATES: usize = 16;
/// Dials of managers under way that are remembered.
const MAX_DIALS: usize = 64;

/// What a node may become among the managers: the body of a record, where it is not the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fit {
    /// By certificate or configuration.
    pub eligible: Eligibility,
    /// What it has to spare, 0 to 1000 (DVM-12).
    pub resources: u16,
    /// Of what that is made, where it was measured and not set.
    pub parts: Option<Parts>,
}

impl Default for Fit {
    fn default() -> Self {
        Self { eligible: Eligibility::Eligible, resources: USUAL_RESOURCES, parts: None }
    }
}

/// The managers, and what they were told.
pub(crate) struct Managed {
    managers: Box<Managers>,
    fit: Fit,
    /// What of it the node's record says.
    said: Fit,
    /// Links that they want.
    pins: BTreeSet<NodeId>,
    /// When it is looked at next whether they begin; nothing where they have.
    waits: Option<Time>,
    /// When this process began.
    born: Time,
    /// When it last heard of members and links, while it waits.
    heard_of: Time,
    /// Whether this node is well, where that was said before they began.
    baseline: Option<skep_managers::Input>,
    /// Something happened to them, and what follows for the catalog was not looked at.
    stirred: bool,
    /// Why the last link went down that did.
    pub(crate) last_down: Option<(NodeId, DownReason)>,
    /// Dials to nodes that they want links to.
    dialled: BTreeMap<DialId, NodeId>,
}

impl Managed {
    pub(crate) fn new(now: Time, managers: Box<Managers>, fit: Fit) -> Self {
        let view = managers.status(now);
        let fresh = view.flock.is_none() && view.seen.epoch.0 == 0;
        Self {
            managers,
            fit,
            said: Fit::default(),
            waits: fresh.then_some(now + LOOK_AROUND),
            born: now,
            heard_of: now,
            pins: BTreeSet::new(),
            baseline: None,
            stirred: true,
            last_down: None,
            dialled: BTreeMap::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        match self.waits {
            Some(at) => Some((at, "managers look around before they begin")),
            None => self.managers.deadline(),
        }
    }

    pub(crate) fn check(&self) {
        self.managers.check();
    }

    /// The highest stamp that this node saw, if it saw any.
    pub(crate) fn seen(&self) -> Option<skep_managers::Stamp> {
        self.managers.seen()
    }

    /// The stamp of the flock that this node manages or follows.
    pub(crate) fn order_stamp(&self) -> Option<skep_managers::Stamp> {
        self.managers.order_stamp()
    }

    pub(crate) fn view(&self, now: Time) -> View {
        self.managers.status(now)
    }

    /// What it shows to whoever looks, where it is the master.
    pub(crate) fn look(&self, now: Time) -> Result<skep_managers::Shown, skep_managers::Refusal> {
        self.managers.look(now)
    }

    pub(crate) fn reach(&self, now: Time) -> Reach {
        self.managers.reach(now)
    }

    pub(crate) fn undecided(&self) -> Vec<(Dot, Origin, Bytes)> {
        let tail = self.managers.undecided().into_iter();
        tail.map(|entry| (dot_of(&entry), origin_of(entry.origin), entry.body)).collect()
    }

    pub(crate) fn known_master(&self) -> Option<NodeId> {
        self.managers.known_master()
    }

    /// Remembers whom a dial is for: a refusal says that no process is there.
    pub(crate) fn dials(&mut self, dial: DialId, expect: Option<NodeId>) {
        let Some(peer) = expect.filter(|peer| self.pins.contains(peer)) else { return };
        if self.dialled.len() >= MAX_DIALS {
            self.dialled.pop_first();
        }
        self.dialled.insert(dial, peer);
    }
}

impl Node {
    pub(crate) fn manage(&mut self, now: Time, input: skep_managers::Input) {
        use skep_managers::Input as Happens;
        self.seldom_changed = true;
        let told_again = matches!(
            input,
            Happens::Member { .. }
                | Happens::Silent { .. }
                | Happens::Left { .. }
                | Happens::LinkUp { .. }
                | Happens::LinkDown { .. }
                | Happens::Baseline { .. }
                | Happens::Expelled(_)
        );
        if self.managed.waits.is_some() {
            if told_again {
                self.managed.heard_of = now;
                if let Happens::Baseline { .. } = input {
                    self.managed.baseline = Some(input);
                }
                return;
            }
            // Somebody has begun, or asks this node to: whoever began first is to be the first that
            // founds, and looks around for no longer than this.
            self.managed.managers.look_from(now + LOOK_AROUND + LOOK_AROUND / 2);
            self.begin_to_manage(now);
        }
        self.managed.stirred = true;
        self.managed.managers.handle(now, input, &mut self.from_managers);
    }

    /// What is for the managers of this node alone. Whoever shall found a flock by an operator's
    /// word must hold what this node has of the catalog.
    pub(crate) fn manage_here(&mut self, now: Time, input: skep_managers::Input) {
        use skep_managers::{Command, Input as Happens};
        if matches!(input, Happens::Command { command: Command::RecoverForce, .. }) {
            let fed = self.managed.view(now).flock.is_some_and(|flock| flock.term > 0);
            if !fed {
                let catalog = self.catalog.catalog();
                // Nothing is no catalog: whoever never had one founds from nothing.
                if catalog.index() > 0 {
                    let (index, state) = (catalog.index(), catalog.to_bytes());
                    self.manage(now, Happens::Checkpoint { index, state });
                }
            }
        }
        self.manage(now, input);
    }

    /// The managers begin, and are told of all that is there.
    fn begin_to_manage(&mut self, now: Time) {
        if self.managed.waits.take().is_none() {
            return;
        }
        if let Some(baseline) = self.managed.baseline.take() {
            self.manage(now, baseline);
        }
        let present = self.membership.present().to_vec();
        self.tell_managers_of_expelled(now);
        self.tell_managers_of(now, self.id);
        // First who leads, so that nobody founds a flock beside one that is there.
        for node in &present {
            self.tell_announcement(now, *node);
        }
        for node in &present {
            self.tell_managers_of(now, *node);
        }
        let linked: Vec<NodeId> = self.membership.links().map(|link| link.peer).collect();
        for node in linked {
            self.manage(now, skep_managers::Input::LinkUp { node });
        }
    }

    /// Present nodes that may be managers and come before this one.
    fn before_this(&self) -> usize {
        let present = self.membership.present().iter().take_while(|node| **node < self.id);
        let fit = |node: &&NodeId| {
            self.fit_of(**node).is_some_and(|fit| fit.eligible == Eligibility::Eligible)
        };
        present.filter(fit).count()
    }

    /// Whether this node should say what it is good for, holding no office.
    fn is_candidate(&self) -> bool {
        let role = self.managed.managers.part().role;
        let plain = matches!(role, Role::Eligible | Role::Host);
        !plain || self.before_this() < MAX_CANDIDATES
    }

    pub(crate) fn tick_managers(&mut self, now: Time) {
        if self.managed.waits.is_some_and(|at| at <= now) {
            let turn = u32::try_from(self.before_this().min(MAX_TURNS)).unwrap_or(0);
            let born = self.managed.born;
            let calm = (self.managed.heard_of + LOOK_AROUND).min(born + LOOK_AROUND_AT_MOST);
            let at = calm.max(born + LOOK_AROUND + NEXT_IN_TURN * turn);
            self.managed.waits = Some(at);
            if at <= now {
                self.begin_to_manage(now);
            }
        }
        if self.managed.waits.is_none() && self.managed.deadline().is_some_and(|(at, _)| at <= now)
        {
            self.managed.stirred = true;
            self.managed.managers.tick(now, &mut self.from_managers);
        }
    }

    pub(crate) fn catalogue(&mut self, now: Time, input: skep_catalog::Input) {
        self.seldom_changed = true;
        self.catalog.handle(now, input, &mut self.from_catalog);
    }

    /// Nodes that links are wanted to besides those of the overlay.
    pub(crate) fn pinned(&self) -> Vec<NodeId> {
        self.managed.pins.iter().copied().chain(self.desk.wants_link()).collect()
    }

    /// What this node has to spare was measured.
    pub(crate) fn spare_is(&mut self, now: Time, resources: u16, parts: Parts) {
        let resources = resources.min(1000);
        self.managed.fit = Fit { resources, parts: Some(parts.bounded()), ..self.managed.fit };
        self.publish_fit(now);
        self.tell_managers_of(now, self.id);
    }

    /// Says what this node may become, unless it is what every node may. What it has to spare says
    /// only who may be asked for something: more records would serve nobody.
    pub(crate) fn publish_fit(&mut self, now: Time) {
        let mut fit = self.managed.fit;
        if !self.is_candidate() {
            fit = Fit { eligible: fit.eligible, ..Fit::default() };
        }
        self.managed.said = fit;
        let body = (fit != Fit::default()).then(|| Bytes::from(encode(&fit)));
        let said = self.records.get(self.id, record::ELIGIBILITY).is_some();
        if body.is_some() || said {
            let kind = record::ELIGIBILITY;
            self.record(now, skep_records::Input::Publish { kind, schema: SCHEMA, body });
        }
    }

    /// What this node was to its flock in its last life is not what it is now; and a disk that lost
    /// power gives back what was said even before that.
    pub(crate) fn unsay_office(&mut self, now: Time) {
        for kind in [record::MANAGERS, record::CATALOG] {
            if self.records.says(kind) {
                let publish = skep_records::Input::Publish { kind, schema: SCHEMA, body: None };
                self.record(now, publish);
            }
        }
    }

    /// What a present node may become.
    pub(crate) fn fit_of(&self, node: NodeId) -> Option<Fit> {
        if self.access.is_expelled(node) {
            return None;
        }
        if node == self.id {
            return Some(self.access.certified(node, self.managed.fit));
        }
        let facts = self.records.get(node, record::NODE).and_then(facts_of)?;
        if facts.feature_level < FEATURE_LEVEL {
            return None;
        }
        let Some(body) = self.body_said(node, record::ELIGIBILITY) else {
            return Some(self.access.certified(node, Fit::default()));
        };
        let fit: Fit = decode("eligibility", &body).ok()?;
        let (resources, parts) = (fit.resources.min(1000), fit.parts.map(Parts::bounded));
        Some(self.access.certified(node, Fit { resources, parts, ..fit }))
    }

    fn body_said(&self, owner: NodeId, kind: u16) -> Option<Bytes> {
        let stored = self.records.get(owner, kind)?;
        (stored.schema == SCHEMA && !stored.retracted).then(|| stored.body.clone())
    }

    /// Tells the managers what a node says of itself, if it is present.
    pub(crate) fn tell_managers_of(&mut self, now: Time, node: NodeId) {
        if self.membership.present().binary_search(&node).is_err() && node != self.id {
            return;
        }
        let Some(incarnation) = self.membership.member(node).map(|member| member.incarnation)
        else {
            return;
        };
        let Some(Fit { eligible, resources, .. }) = self.fit_of(node) else { return };
        let input = skep_managers::Input::Member { node, incarnation, eligible, resources };
        self.manage(now, input);
    }

    pub(crate) fn tell_managers_of_status(&mut self, now: Time, node: NodeId, status: Status) {
        match status {
            _ if node == self.id => {}
            Status::Present => {
                self.tell_managers_of(now, node);
                self.tell_announcement(now, node);
            }
            Status::Silent => self.manage(now, skep_managers::Input::Silent { node }),
            Status::Restarting | Status::Left => {
                self.manage(now, skep_managers::Input::Left { node });
            }
            Status::Unmet => {}
        }
    }

    pub(crate) fn tell_announcement(&mut self, now: Time, node: NodeId) {
        let present = self.membership.present().binary_search(&node).is_ok();
        // What a node said in a life before is nothing that it says now.
        let life = self.membership.member(node).map(|member| member.incarnation);
        let said = self.records.get(node, record::MANAGERS).map(|it| it.version.incarnation);
        let present = present && life == said;
        if let Some(body) = self.body_said(node, record::MANAGERS).filter(|_| present) {
            self.manage(now, skep_managers::Input::Announced { node, body });
        }
    }

    /// A record that the managers or the catalog are about is new or newer.
    pub(crate) fn flock_record_changed(&mut self, now: Time, owner: NodeId, kind: u16) {
        if owner == self.id {
            return;
        }
        match kind {
            record::ELIGIBILITY => self.tell_managers_of(now, owner),
            record::MANAGERS => self.tell_announcement(now, owner),
            _ => {
                let Some(body) = self.body_said(owner, record::CATALOG) else { return };
                let Ok(head) = skep_catalog::Head::from_body(&body) else { return };
                // A master that certificates name no more signs until another has taken over.
                let fit = self.fit_of(owner);
                let may = fit.is_some_and(|fit| fit.eligible == Eligibility::Eligible);
                let leads = || self.managed.known_master() == Some(owner);
                if may || (fit.is_some() && leads()) {
                    self.catalogue(now, skep_catalog::Input::Head { owner, head });
                }
            }
        }
    }

    pub(crate) fn link_of_manager_down(&mut self, now: Time, peer: NodeId) {
        let why = self.managed.last_down.filter(|(of, _)| *of == peer).map(|(_, why)| why);
        let why = match why {
            Some(DownReason::Closed | DownReason::Goodbye(Goodbye::Stopping)) => Down::Closed,
            Some(DownReason::Local) | None => Down::Ours,
            Some(DownReason::TimedOut | DownReason::Fault | DownReason::Goodbye(_)) => Down::Silent,
        };
        self.manage(now, skep_managers::Input::LinkDown { node: peer, why });
        self.link_of_desk_down(now, peer);
    }

    /// Where somebody refuses connections no process listens.
    pub(crate) fn dial_of_manager_failed(&mut self, now: Time, dial: DialId, why: DialFailure) {
        let Some(node) = self.managed.dialled.remove(&dial) else { return };
        if why == DialFailure::Refused && self.membership.link(node).is_none() {
            self.manage(now, skep_managers::Input::LinkDown { node, why: Down::Refused });
        }
    }

    pub(crate) fn carry_from_managers(&mut self, now: Time, out: &mut Outbox<Output>) {
        use skep_managers::Output as Says;
        while let Some(output) = self.from_managers.pop() {
            match output {
                Says::Send { to, body } => self.send_for_managers(now, to, body, out),
                Says::Announce { body } if self.is_candidate() => {
                    if self.managed.said != self.managed.fit {
                        self.publish_fit(now);
                    }
                    let (kind, body) = (record::MANAGERS, Some(body));
                    self.record(now, skep_records::Input::Publish { kind, schema: SCHEMA, body });
                }
                Says::Announce { .. } => {}
                Says::Install { index, state, .. } => self.install(now, index, state, out),
                Says::Committed(entry) => {
                    // What is fed is fed before it is looked at who feeds.
                    self.catalogue(now, skep_catalog::Input::Place(self.fed_place()));
                    let (at, origin) = (dot_of(&entry), origin_of(entry.origin));
                    let command = Some(entry.body);
                    let input = skep_catalog::Input::Committed { at, origin, command };
                    self.catalogue(now, input);
                    self.carry_from_catalog(now, out);
                }
                Says::Accepted { token, index, stamp, strength } => {
                    self.accepted(now, token, (index, stamp_of(stamp), strength), out);
                }
                Says::Called { token, authority } => self.called(now, token, authority, out),
                Says::Done { token } => self.ordered(now, token, out),
                Says::Obeyed { token } => self.obeyed(now, token),
                Says::Disobeyed { token, seen } => self.disobeyed(now, token, seen, out),
                Says::Refused { token, why } => self.refused(now, token, &why, out),
                Says::Wanted { token, lineage } => self.wanted(now, token, lineage, out),
                Says::WantCheckpoint => {
                    let catalog = self.catalog.catalog();
                    let (index, state) = (catalog.index(), catalog.to_bytes());
                    self.manage(now, skep_managers::Input::Checkpoint { index, state });
                }
                Says::WantHandOver { checkpoint, entries, common } => {
                    self.hand_over(now, checkpoint.map(|(_, state)| state), &entries, common, out);
                }
                Says::Pin(pins) => {
                    self.lay_out_again |= pins != self.managed.pins;
                    self.managed.pins = pins;
                }
                Says::Reject { from, reason } => {
                    let reason = alloc::format!("{reason}");
                    out.push(Output::Event(Event::Rejected { peer: from, reason }));
                }
                up @ (Says::Persist { .. } | Says::ReadGranted { .. } | Says::Event(_)) => {
                    out.push(Output::Managers(up));
                }
            }
        }
        if core::mem::take(&mut self.managed.stirred) {
            let place = self.place();
            self.catalogue(now, skep_catalog::Input::Place(place));
            self.restamp(now);
            self.desk_follows(now, out);
        }
        self.carry_orders(now, out);
    }

    /// The managers' log begins with a catalog.
    fn install(&mut self, now: Time, index: u64, state: Option<Bytes>, out: &mut Outbox<Output>) {
        let catalog = state.map_or(Ok(Catalog::new()), |bytes| Catalog::from_bytes(&bytes));
        match catalog {
            Ok(mut catalog) => {
                let stamp = catalog.stamp();
                catalog.pass(index, stamp);
                self.catalogue(now, skep_catalog::Input::Place(self.fed_place()));
                self.catalogue(now, skep_catalog::Input::Installed(catalog));
                self.carry_from_catalog(now, out);
            }
            Err(error) => {
                let reason = alloc::format!("a catalog in the managers' log: {error}");
                out.push(Output::Event(Event::Rejected { peer: self.id, reason }));
            }
        }
    }

    /// What another history shall take over of the one in the managers' log. Whatever this node
    /// shows now may be another flock's. A log that cannot be read is kept as it is.
    fn hand_over(
        &mut self,
        now: Time,
        checkpoint: Option<Bytes>,
        entries: &[Decided],
        common: u64,
        out: &mut Outbox<Output>,
    ) {
        let catalog = checkpoint.map_or(Ok(Catalog::new()), |bytes| Catalog::from_bytes(&bytes));
        match catalog {
            Ok(mut catalog) => {
                for entry in entries {
                    catalog.apply(dot_of(entry), origin_of(entry.origin), &entry.body);
                }
                let (items, entries) = (catalog.hand_over(common), catalog.handed_over(common));
                self.manage(now, skep_managers::Input::HandOver { items, entries });
            }
            Err(error) => {
                let reason = alloc::format!("a catalog that is to be handed over: {error}");
                out.push(Output::Event(Event::Rejected { peer: self.id, reason }));
            }
        }
    }

    /// Whoever is fed and signs already goes on signing.
    fn fed_place(&self) -> Place {
        match self.catalog.place() {
            Place::Host => Place::Backup,
            fed @ (Place::Backup | Place::Master { .. }) => fed,
        }
    }

    /// What feeds the catalog of this node.
    fn place(&self) -> Place {
        let part = self.managed.managers.part();
        match (part.role, part.history) {
            (Role::Master, Some((lineage, stamp))) if part.decided => {
                Place::Master { lineage: lineage.0, stamp: stamp_of(stamp) }
            }
            // A mastership that goes on deciding goes on signing.
            (
                Role::Master | Role::Backup | Role::SemiMaster | Role::Holding | Role::Retired,
                Some(_),
            ) => self.fed_place(),
            _ if part.learns => Place::Backup,
            _ => Place::Host,
        }
    }

    fn send_for_managers(&mut self, now: Time, to: NodeId, body: Bytes, out: &mut Outbox<Output>) {
        let link = self.membership.link(to);
        if let Some(link) = link.filter(|link| !self.restricted.contains_key(link)) {
            out.push(Output::Send { link, kind: kind::MANAGERS, body });
        } else {
            self.ask_for_flock(now, to, crate::service::MANAGERS, body, crate::desk::BRIEF);
        }
    }

    pub(crate) fn carry_from_catalog(&mut self, now: Time, out: &mut Outbox<Output>) {
        use skep_catalog::Output as Says;
        while let Some(output) = self.from_catalog.pop() {
            match output {
                Says::Send { to, body } => self.send(to, kind::CATALOG, body, out),
                Says::Publish(head) => {
                    let (kind, body) = (record::CATALOG, Some(Bytes::from(head.to_body())));
                    self.record(now, skep_records::Input::Publish { kind, schema: SCHEMA, body });
                }
                Says::Changed { keys } => {
                    self.access_changed(now, &keys);
                    out.push(Output::Catalog { keys });
                }
                Says::Decided { index, outcome } => self.desk.decided(index, outcome),
                Says::NotTaken { why } => {
                    let reason = alloc::format!(
                        "what a flock that merges into this one hands over, which is kept in its \
                         log alone: {why}; make room"
                    );
                    out.push(Output::Event(Event::Rejected { peer: self.id, reason }));
                }
                Says::Epoch(epoch) => {
                    let Place::Master { stamp, .. } = self.catalog.place() else { continue };
                    if epoch > stamp.epoch {
                        let (epoch, fork) = (skep_managers::Epoch(epoch), ForkId(0));
                        let stamp = skep_managers::Stamp { epoch, fork };
                        self.manage(now, skep_managers::Input::StampRefused { stamp });
                    }
                }
                Says::Reject { from, reason } => {
                    out.push(Output::Event(Event::Rejected { peer: from, reason }));
                }
            }
        }
    }
}

const fn stamp_of(stamp: skep_managers::Stamp) -> Stamp {
    Stamp { epoch: stamp.epoch.0, fork: stamp.fork.0 }
}

const fn dot_of(entry: &Decided) -> Dot {
    Dot { stamp: stamp_of(entry.stamp), term: entry.term, index: entry.index }
}

const fn origin_of(origin: skep_managers::Origin) -> Origin {
    match origin {
        skep_managers::Origin::Own => Origin::Own,
        skep_managers::Origin::Foreign { .. } => Origin::Foreign,
    }
}
