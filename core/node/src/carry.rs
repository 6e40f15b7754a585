//! Carrying: what one machine says to the others, until none has anything left to say.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, NodeId, NodeName, Outbox, Time};
use skep_records::{Rejection, kind as record};
use skep_wire::{encode, kind};

use crate::api::{Event, Output, Status};
use crate::node::{Node, SCHEMA, facts_of, watch_of};

impl Node {
    /// Lets every machine draw its conclusions and carries them to the others. Each round a machine
    /// can only say something because another did, and what they say is bounded by what happened,
    /// so this ends.
    pub(crate) fn settle(&mut self, now: Time, out: &mut Outbox<Output>) {
        loop {
            self.carry_from_estimates(now, out);
            self.carry_from_records(now, out);
            self.membership.settle(now, &mut self.from_membership);
            self.carry_from_membership(now, out);
            self.carry_from_adoption(now, out);
            self.carry_from_managers(now, out);
            self.carry_from_catalog(now, out);
            if core::mem::take(&mut self.lay_out_again) && self.layout.is_some() {
                self.lay_out(now);
            }
            if self.flood_peers_changed {
                self.flood_peers_changed = false;
                self.hand_neighbours(now);
            }
            self.carry_from_flood(out);
            self.hand_peers(now);
            self.carry_from_routing(now, out);
            let laid_out = core::mem::take(&mut self.laid_out);
            if !laid_out && self.is_settled() {
                if core::mem::take(&mut self.seldom_changed) {
                    self.seldom_due = self.ask_seldom_due();
                }
                return;
            }
        }
    }

    /// Whether no machine has said anything that another must hear.
    pub(crate) fn is_settled(&self) -> bool {
        self.from_records.is_empty()
            && self.from_membership.is_empty()
            && self.from_estimates.is_empty()
            && self.from_adoption.is_empty()
            && self.from_managers.is_empty()
            && self.from_catalog.is_empty()
            && self.fence.is_settled()
    }

    pub(crate) fn restore(
        &mut self,
        now: Time,
        records: Vec<(Bytes, Duration)>,
        address_book: Vec<(NodeId, NodeName, Vec<SocketAddr>)>,
        clock_went_back: bool,
    ) {
        // Foreign facts of unknown age are left to the peers: they have them, with their age.
        let is_ours = |raw: &Bytes| {
            skep_records::Record::parse(raw.clone())
                .is_ok_and(|record| record.content.owner == self.id)
        };
        let mut kept: Vec<(Bytes, Duration)> =
            records.into_iter().filter(|(raw, _)| !clock_went_back || is_ours(raw)).collect();
        // A certificate precedes what it signed.
        kept.sort_by_key(|(raw, _)| {
            skep_records::Record::parse(raw.clone()).map_or(u16::MAX, |record| record.content.kind)
        });
        for (raw, age) in kept {
            self.record(now, skep_records::Input::Restore { raw, age });
        }
        for (node, name, addresses) in address_book {
            let input = skep_membership::Input::Remembered { node, name, addresses };
            self.member(now, input);
        }
        self.publish_facts(now);
        self.publish_fit(now);
    }

    fn carry_from_records(&mut self, now: Time, out: &mut Outbox<Output>) {
        while let Some(output) = self.from_records.pop() {
            match output {
                skep_records::Output::Send { to, message } => {
                    self.send(to, kind::RECORDS, encode(&message).into(), out);
                }
                skep_records::Output::Changed { owner, kind } => {
                    self.record_changed(now, owner, kind);
                    out.push(Output::Event(Event::Record { owner, kind }));
                }
                skep_records::Output::Forgotten { owner } => {
                    self.access_forgets(now, owner);
                    self.member(now, skep_membership::Input::Forgotten { node: owner });
                    self.estimate(now, skep_estimates::Input::Forgotten { node: owner });
                    self.adopt(now, skep_topology::adoption::Input::Forgotten { owner });
                    self.orders_forgotten(owner);
                    out.push(Output::ForgetRecords { owner });
                    out.push(Output::Event(Event::Forgotten { node: owner }));
                }
                skep_records::Output::Persist { owner, kind, raw } => {
                    out.push(Output::PersistRecord { owner, kind, raw });
                }
                skep_records::Output::Synced { .. } => {
                    self.member(now, skep_membership::Input::Synced);
                }
                skep_records::Output::ForeignSelf { incarnation, kind, body } => {
                    let facts = (kind == record::NODE)
                        .then(|| skep_membership::NodeFacts::from_body(&body).ok())
                        .flatten();
                    let input = skep_membership::Input::ForeignSelf { incarnation, facts };
                    self.member(now, input);
                }
                // Known to happen while certificates change, and repaired by itself.
                skep_records::Output::Reject { reason: Rejection::UnknownCertificate, .. } => {}
                skep_records::Output::Reject { from, reason } => {
                    let reason = alloc::format!("{reason}");
                    out.push(Output::Event(Event::Rejected { peer: from, reason }));
                }
            }
        }
    }

    fn record_changed(&mut self, now: Time, owner: NodeId, kind: u16) {
        let Some(stored) = self.records.get(owner, kind) else {
            return;
        };
        if kind == record::CERTIFICATE {
            return self.certificate_changed(now, owner);
        }
        if matches!(kind, record::ESTIMATES | record::WAYS) {
            return self.estimates_changed(now, owner, kind);
        }
        if skep_records::stamped::is_order(kind) {
            return self.order_changed(now, owner, kind);
        }
        if matches!(kind, record::ELIGIBILITY | record::MANAGERS | record::CATALOG) {
            return self.flock_record_changed(now, owner, kind);
        }
        let incarnation = stored.version.incarnation;
        let regrouped = kind == record::NODE && self.is_regrouped(owner, stored);
        let input = match kind {
            record::NODE => facts_of(stored).map(|facts| skep_membership::Input::Facts {
                node: owner,
                incarnation,
                facts,
            }),
            // Our own links say more than our record of them.
            record::WATCH if owner != self.id => watch_of(stored)
                .map(|watch| skep_membership::Input::Watch { node: owner, incarnation, watch }),
            _ => None,
        };
        if let Some(input) = input {
            self.member(now, input);
        }
        if kind == record::NODE {
            self.look_whether_expelled(now, owner);
            self.tell_managers_of(now, owner);
        }
        self.lay_out_again |= regrouped;
    }

    /// Whether a record names other groups than its owner named before, which matters where this
    /// node is in any.
    fn is_regrouped(&self, owner: NodeId, stored: &skep_records::Stored) -> bool {
        if self.groups.is_empty() || owner == self.id {
            return false;
        }
        let before = self.membership.member(owner).and_then(|member| member.facts);
        let before = before.map(|facts| &facts.groups);
        before != facts_of(stored).as_ref().map(|facts| &facts.groups)
    }

    fn carry_from_membership(&mut self, now: Time, out: &mut Outbox<Output>) {
        while let Some(output) = self.from_membership.pop() {
            match output {
                skep_membership::Output::Dial { dial, expect, addresses } => {
                    self.managed.dials(dial, expect);
                    out.push(Output::Dial { dial, expect, addresses });
                }
                skep_membership::Output::Heartbeat { link, heartbeat } => {
                    let body = heartbeat.map_or_else(Bytes::new, |beat| encode(&beat).into());
                    out.push(Output::Send { link, kind: kind::MEMBERSHIP, body });
                }
                skep_membership::Output::Close { link, why } => {
                    out.push(Output::Close { link, why });
                }
                skep_membership::Output::Linked { peer, link } => {
                    self.peers_changed = true;
                    self.record(now, skep_records::Input::PeerUp { peer });
                    // A link that replaces another begins anew: what was sent on the old one may
                    // never have arrived.
                    self.flood_over(peer, false);
                    if core::mem::take(&mut self.flood_peers_changed) {
                        self.hand_neighbours(now);
                    }
                    self.estimate(now, skep_estimates::Input::Link { peer, up: true });
                    self.adopt(now, skep_topology::adoption::Input::Link { peer, up: true });
                    self.manage(now, skep_managers::Input::LinkUp { node: peer });
                    self.flood_peers_changed |= !self.groups.is_empty();
                    out.push(Output::Event(Event::Linked { peer, link }));
                }
                skep_membership::Output::Unlinked { peer } => {
                    self.peers_changed = true;
                    self.record(now, skep_records::Input::PeerDown { peer });
                    self.flood_over(peer, false);
                    self.estimate(now, skep_estimates::Input::Link { peer, up: false });
                    self.adopt(now, skep_topology::adoption::Input::Link { peer, up: false });
                    self.link_of_manager_down(now, peer);
                    self.flood_peers_changed |= !self.groups.is_empty();
                    out.push(Output::Event(Event::Unlinked { peer }));
                }
                skep_membership::Output::Flood { peer, on } => {
                    self.record(now, skep_records::Input::Flood { peer, on });
                    self.flood_over(peer, on);
                }
                skep_membership::Output::Publish { watch } => {
                    let kind = record::WATCH;
                    let body = Some(watch);
                    let input = skep_records::Input::Publish { kind, schema: SCHEMA, body };
                    self.record(now, input);
                }
                skep_membership::Output::Members { present, absent } => {
                    self.absent = absent;
                    self.estimate(now, skep_estimates::Input::Present(present));
                    self.lay_out(now);
                }
                skep_membership::Output::Status { node, status } => {
                    self.status_changed(now, node, status, out);
                }
                skep_membership::Output::Begin { incarnation } => {
                    // On disk before anything that carries it is sent.
                    out.push(Output::PersistIncarnation(incarnation));
                    self.record(now, skep_records::Input::Begin { incarnation });
                    self.adopt(now, skep_topology::adoption::Input::Begun);
                    let begin = skep_flood::Input::Begin { incarnation };
                    self.flood.handle(now, begin, &mut self.from_flood);
                    out.push(Output::Event(Event::Started { incarnation }));
                }
                skep_membership::Output::NameTaken => {
                    self.record(now, skep_records::Input::Mute);
                    out.push(Output::Event(Event::NameTaken));
                }
                skep_membership::Output::NameContested { by } => {
                    out.push(Output::Event(Event::NameContested { by }));
                }
                skep_membership::Output::Reached { node, name, addresses } => {
                    out.push(Output::PersistAddress { node, name, addresses });
                }
            }
        }
    }

    fn status_changed(
        &mut self,
        now: Time,
        node: NodeId,
        status: Status,
        out: &mut Outbox<Output>,
    ) {
        let present = status == Status::Present;
        self.record(now, skep_records::Input::Presence { owner: node, present });
        self.tell_managers_of_status(now, node, status);
        if status != Status::Unmet {
            let name = self.membership.member(node).and_then(|member| member.name.cloned());
            let present = self.membership.present().len();
            out.push(Output::Event(Event::Status { node, name, status, present }));
        }
    }

    fn flood_over(&mut self, peer: NodeId, on: bool) {
        if on {
            self.flood_wanted.insert(peer);
        } else {
            self.flood_wanted.remove(&peer);
        }
        self.place_flood(peer);
    }

    /// Says over which link updates go to `peer`, if over any.
    pub(crate) fn place_flood(&mut self, peer: NodeId) {
        let wanted = self.flood_wanted.contains(&peer);
        let link = self.membership.link(peer).filter(|_| wanted);
        let link = link.filter(|link| !self.restricted.contains_key(link));
        let before = match link {
            Some(link) => self.flood_peers.insert(peer, link),
            None => self.flood_peers.remove(&peer),
        };
        self.flood_peers_changed |= before != link;
    }

    /// Hands the flood machine the neighbours of each group.
    fn hand_neighbours(&mut self, now: Time) {
        let peers = self.flood_peers.keys().copied().collect();
        let group = GroupName::all();
        let input = skep_flood::Input::Neighbours { group, peers };
        self.flood.handle(now, input, &mut self.from_flood);
        let peers = self.flood_peers.keys().copied().collect();
        self.catalogue(now, skep_catalog::Input::Neighbours(peers));
        for group in self.groups.clone() {
            let peers = self.group_peers(&group);
            let input = skep_flood::Input::Neighbours { group, peers };
            self.flood.handle(now, input, &mut self.from_flood);
        }
        self.hand_distances(now);
    }

    pub(crate) fn carry_from_flood(&mut self, out: &mut Outbox<Output>) {
        while let Some(output) = self.from_flood.pop() {
            if let skep_flood::Output::Send { to, body } = output {
                self.send(to, kind::FLOOD, body, out);
            } else {
                out.push(Output::Flood(output));
            }
        }
    }

    pub(crate) fn send(&self, to: NodeId, kind: u8, body: Bytes, out: &mut Outbox<Output>) {
        if let Some(link) = self.membership.link(to) {
            out.push(Output::Send { link, kind, body });
        }
    }
}
