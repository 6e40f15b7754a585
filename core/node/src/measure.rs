//! Estimates among the other machines: what they are told, and what is done with what they say.

use core::net::SocketAddr;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};
use skep_estimates::{Between, Costs, Estimates, Report, Reports, Ways};
use skep_records::kind as record;
use skep_wire::kind;

use crate::api::{DialId, Event, Output};
use crate::node::{Node, SCHEMA};

/// Dials for errands are numbered from here: the membership counts its own from one, and is not
/// told how these end.
const FIRST_ERRAND: u64 = 1 << 62;

impl Node {
    /// What this node measures.
    #[must_use]
    pub const fn estimates(&self) -> &Estimates {
        &self.estimates
    }

    /// What is known of the round trip between two nodes; nothing where nobody knows anything.
    #[must_use]
    pub fn between(&self, now: Time, a: NodeId, b: NodeId) -> Option<Between> {
        self.estimates.between(now, a, b, &Published(self))
    }

    /// What is known of all pairs of `members`.
    #[must_use]
    pub fn costs(&self, members: &[NodeId]) -> Costs {
        Costs::new(members, &Published(self))
    }

    /// The estimates that a node published last.
    #[must_use]
    pub fn report_of(&self, node: NodeId) -> Option<Report> {
        Report::from_body(self.body_of(node, record::ESTIMATES)?).ok()
    }

    /// Whom a node cannot meet, as it published last.
    #[must_use]
    pub fn ways_of(&self, node: NodeId) -> Option<Ways> {
        Ways::from_body(self.body_of(node, record::WAYS)?).ok()
    }

    fn body_of(&self, node: NodeId, kind: u16) -> Option<&Bytes> {
        let stored = self.records.get(node, kind)?;
        (stored.schema == SCHEMA && !stored.retracted).then_some(&stored.body)
    }

    pub(crate) fn estimate(&mut self, now: Time, input: skep_estimates::Input) {
        self.seldom_changed = true;
        self.estimates.handle(now, input, &mut self.from_estimates);
    }

    pub(crate) fn carry_from_estimates(&mut self, now: Time, out: &mut Outbox<Output>) {
        while let Some(output) = self.from_estimates.pop() {
            match output {
                skep_estimates::Output::Send { to, body } => {
                    self.send(to, kind::ESTIMATES, body, out);
                }
                skep_estimates::Output::Knock { peer } => {
                    let addresses = self.addresses_of(peer);
                    out.push(Output::Knock { peer, addresses });
                }
                skep_estimates::Output::Ask { peer } => self.ping_over_others(now, peer),
                skep_estimates::Output::Reach { peer } => {
                    self.errands += 1;
                    let dial = DialId(FIRST_ERRAND + self.errands);
                    let addresses = self.addresses_of(peer);
                    out.push(Output::Dial { dial, expect: Some(peer), addresses });
                }
                skep_estimates::Output::Look => out.push(Output::Look),
                skep_estimates::Output::Publish { body } => {
                    let (kind, body) = (record::ESTIMATES, Some(body));
                    self.record(now, skep_records::Input::Publish { kind, schema: SCHEMA, body });
                }
                skep_estimates::Output::PublishWays { body } => {
                    let kind = record::WAYS;
                    self.record(now, skep_records::Input::Publish { kind, schema: SCHEMA, body });
                }
                skep_estimates::Output::Reject { from, reason } => {
                    let reason = alloc::string::String::from(reason);
                    out.push(Output::Event(Event::Rejected { peer: from, reason }));
                }
            }
        }
    }

    /// A record of estimates, or of ways, is new or newer.
    pub(crate) fn estimates_changed(&mut self, now: Time, owner: NodeId, kind: u16) {
        let body = self.body_of(owner, kind).cloned();
        self.estimate(
            now,
            match kind {
                record::WAYS => skep_estimates::Input::Ways { node: owner, body },
                _ => skep_estimates::Input::Record { node: owner, body },
            },
        );
    }

    /// Tells the flood who of its neighbours is near: what it can fetch from several it fetches
    /// from these first.
    pub(crate) fn hand_distances(&mut self, now: Time) {
        for peer in self.flood_peers.keys() {
            if let Some(time) = self.estimates.rtt(now, *peer) {
                let input = skep_flood::Input::Distance { peer: *peer, time };
                self.flood.handle(now, input, &mut self.from_flood);
            }
        }
    }

    fn addresses_of(&self, peer: NodeId) -> alloc::vec::Vec<SocketAddr> {
        let facts = self.membership.member(peer).and_then(|member| member.facts);
        facts.map_or_else(Default::default, |facts| {
            facts.addresses.iter().map(|address| address.socket).collect()
        })
    }
}

/// What everybody published, read where it is.
struct Published<'a>(&'a Node);

impl Reports for Published<'_> {
    fn report(&self, node: NodeId) -> Option<Report> {
        self.0.report_of(node)
    }

    fn ways(&self, node: NodeId) -> Option<Ways> {
        self.0.ways_of(node)
    }
}
