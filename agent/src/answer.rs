//! Answers to what is asked over the control socket, made from the main loop's own state.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{GroupName, NodeId, NodeName};
use skep_control::api::{
    Accepted, CaStatus, Code, Flock, Group, JoinAddress, Link, LinkKind, Member, Metric,
    MetricKind, Presence, Refusal, Shutdown, Text,
};
use skep_control::{Reply, Request};
use skep_identity::CertInfo;
use skep_node::{Farewell, Input, MemberView, Source, Verdict};
use skep_records::kind as record;
use skep_transport::discovery::JoinAddress as JoinTarget;

use crate::look::Word;
use crate::spine::{Spine, presence};
use crate::status::{count, millis, roles};

/// How long a planned stop may keep this node away before others see it silent.
pub const BACK_WITHIN: Duration = Duration::from_secs(30);
/// A member that was silent for this long is dialled rarely: see `docs/protocol/membership.md`.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3600);

impl Spine {
    /// Answers one question.
    pub async fn answer(&mut self, request: Request) {
        match request {
            Request::Status(reply) => reply.ok(self.status()),
            Request::Health(reply) => reply.ok(self.health()),
            Request::Members(reply) => reply.ok(self.members()),
            Request::Flock { query, reply } => self.look_at_flock(query, reply).await,
            catalog @ (Request::ManageFlock { .. }
            | Request::FlockRecovery(_)
            | Request::Catalog { .. }
            | Request::CatalogEntry { .. }
            | Request::CatalogDiff { .. }
            | Request::CatalogExport(_)
            | Request::WriteCatalog { .. }
            | Request::CatalogImport { .. }
            | Request::CatalogReapply { .. }) => self.answer_catalog(catalog).await,
            Request::Notify(reply) => reply.ok(self.notices()),
            Request::NotifyTest { test, reply } => self.test_notify(test, reply),
            Request::Links(reply) => reply.ok(self.link_rows()),
            Request::Metrics(reply) => reply.ok(self.metrics()),
            Request::Certificate(reply) => reply.ok(self.certificate()),
            Request::Ca(reply) => self.answer_ca(reply),
            Request::Events { query, reply } => {
                let read = match query.flock {
                    true => self.flock_events(query),
                    false => self.log.read(query),
                };
                reply.send(read);
            }
            Request::Groups(reply) => reply.ok(self.group_rows()),
            Request::Group { group, reply } => self.answer_group(&group, reply),
            Request::Topology { group, query, reply } => {
                self.answer_topology(&group, query, reply);
            }
            Request::Rtt { from, to, reply } => self.answer_rtt(from, to, reply),
            Request::Publish { group, body, trail, pid, reply } => {
                self.publish(group, body, (trail, pid), reply).await;
            }
            Request::Updates { group, query, reply } => {
                self.read_updates(group, query, reply).await;
            }
            Request::Commit { group, subscriber, commit, reply } => {
                self.commit(group, &subscriber, commit, reply).await;
            }
            Request::Unsubscribe { group, subscriber, reply } => {
                self.unsubscribe(group, &subscriber, reply).await;
            }
            Request::StartWave { order, reply } => self.start_wave(order, reply).await,
            rollout @ (Request::Images(_)
            | Request::Image { .. }
            | Request::PruneImages { .. }
            | Request::Waves(_)
            | Request::Wave { .. }) => self.rollout.call(rollout),
            Request::JoinAddress { addresses, reply } => {
                self.join_address(&addresses, reply).await;
            }
            Request::Shutdown { how, reply } => self.shut_down(how, reply),
        }
    }

    /// A readable, transient name of the flock as this node sees it (BLOC-4, BLOC-11): its lowest
    /// member, and how many they are.
    #[must_use]
    pub fn flock_name(&self) -> String {
        let present = self.node.present();
        let digest = skep_topology::member_digest(present).abbreviated(6);
        let lowest = present.first().copied().unwrap_or(self.node.id());
        format!("{}-{digest}", self.name_of(lowest))
    }

    fn members(&self) -> Vec<Member> {
        let watchers = self.watchers();
        let mut rows: Vec<Member> =
            self.node.members().filter_map(|member| self.member_row(&member, &watchers)).collect();
        rows.sort_by(|a, b| a.node.cmp(&b.node));
        rows
    }

    fn member_row(
        &self,
        member: &MemberView<'_>,
        watchers: &BTreeMap<NodeId, Vec<NodeName>>,
    ) -> Option<Member> {
        let facts = member.facts;
        let certificate = self.certificate_of(member.node);
        Some(Member {
            node: member.name?.clone(),
            me: member.node == self.node.id(),
            presence: self.presence_of(member)?,
            since_ms: millis(self.clock.now().since(member.since)),
            network: certificate.as_ref().and_then(|info| info.network.clone()),
            certificate_until: certificate.as_ref().map(|info| info.not_after),
            roles: certificate.as_ref().map(roles).unwrap_or_default(),
            incarnation: member.incarnation.0,
            version: facts.map(|facts| facts.version.clone()).unwrap_or_default(),
            addresses: facts
                .map(|facts| {
                    facts.addresses.iter().map(|address| address.socket.to_string()).collect()
                })
                .unwrap_or_default(),
            watchers: watchers.get(&member.node).cloned().unwrap_or_default(),
            rtt_us: self.round_trip(member.node),
        })
    }

    /// The word for a member: what is derived of it, and whether it is still looked for.
    fn presence_of(&self, member: &MemberView<'_>) -> Option<Presence> {
        let word = presence(member.status)?;
        let long = self.clock.now().since(member.since) > GIVEN_UP_AFTER;
        Some(if word == Presence::Silent && long { Presence::GivenUp } else { word })
    }

    /// Who hears whom, as present watchers say it.
    fn watchers(&self) -> BTreeMap<NodeId, Vec<NodeName>> {
        let mut watchers: BTreeMap<NodeId, Vec<NodeName>> = BTreeMap::new();
        for (watcher, stored) in self.node.records().of_kind(record::WATCH) {
            let Some(view) = self.node.member_view(watcher) else { continue };
            let (Some(name), skep_node::Status::Present) = (view.name, view.status) else {
                continue;
            };
            let Ok(watch) = skep_membership::Watch::from_body(&stored.body) else { continue };
            for edge in watch.edges.iter().filter(|edge| edge.verdict != Verdict::Silent) {
                watchers.entry(edge.node).or_default().push(name.clone());
            }
        }
        watchers
    }

    fn certificate_of(&self, node: NodeId) -> Option<CertInfo> {
        let stored = self.node.stored(node, record::CERTIFICATE)?;
        self.identity.current().trust().verify_chain_only(&stored.body).ok()
    }

    pub(crate) fn round_trip(&self, node: NodeId) -> Option<u32> {
        let link = self.node.links().find(|link| link.peer == node)?;
        let id = skep_transport::LinkId::from_number(link.link.0);
        let sample = self.transport.sample(id)?;
        u32::try_from(sample.tcp.rtt.as_micros()).ok()
    }

    pub(crate) fn flock(&self, word: &Word) -> Flock {
        let present = self.node.present();
        let name =
            |node: &NodeId| self.node.member_view(*node).and_then(|member| member.name.cloned());
        let layout = self.node.layout();
        let edges = layout.map(|layout| {
            let edges = layout.overlay().edges();
            edges.filter_map(|(a, b)| {
                let (a, b) = (name(&a)?, name(&b)?);
                Some(if a <= b { (a, b) } else { (b, a) })
            })
        });
        let absent = self.node.members().filter_map(|member| {
            let presence = self.presence_of(&member).filter(|word| *word != Presence::Present)?;
            Some((member.name?.clone(), presence))
        });
        let connectivity = layout.map_or(0, |layout| {
            layout.shape().connectivity.min(layout.members().len().saturating_sub(1))
        });
        // Up to so many members all are joined to all.
        let complete = connectivity + 1 >= present.len();
        let computed = self.node.adoption().standing(&GroupName::all()).is_some();
        let overlay = match (complete, computed) {
            (true, _) => "complete",
            (_, true) => "computed",
            (_, false) => "hash",
        };
        Flock {
            name: self.flock_name(),
            digest: Text(skep_topology::member_digest(present)),
            present: in_order(present.iter().filter_map(name)),
            absent: in_order(absent),
            agreed: self.node.links().all(|link| link.agrees),
            edges: edges.map(in_order).unwrap_or_default(),
            overlay: overlay.into(),
            connectivity: count(connectivity),
            management: self.management(word),
        }
    }

    fn link_rows(&self) -> Vec<Link> {
        let row = |link: skep_node::LinkView| {
            let note = self.links.get(&link.link)?;
            let id = skep_transport::LinkId::from_number(link.link.0);
            let sample = self.transport.sample(id);
            let kind = kind_of(&link);
            Some(Link {
                peer: note.name.clone(),
                kind,
                remote: note.remote.to_string(),
                dialled: link.dialled,
                up_ms: millis(self.clock.now().since(link.since)),
                bulk: self.rollout.has_bulk(link.peer),
                rtt_us: sample
                    .as_ref()
                    .and_then(|sample| u32::try_from(sample.tcp.rtt.as_micros()).ok()),
                rate: sample
                    .as_ref()
                    .map(|sample| sample.tcp.delivery_rate)
                    .filter(|rate| *rate > 0),
                received: sample.as_ref().map_or(0, |sample| sample.received_bytes),
                sent: sample.as_ref().map_or(0, |sample| sample.sent_bytes),
                queued: self.transport.queued_bytes(id).map_or(0, |bytes| bytes as u64),
            })
        };
        let mut rows: Vec<Link> = self.node.links().filter_map(row).collect();
        rows.sort_by(|a, b| a.peer.cmp(&b.peer));
        rows
    }

    fn answer_ca(&self, reply: Reply<CaStatus>) {
        let Some(authority) = &self.authority else {
            let refusal = Refusal::new(Code::NotFound, "this node does not serve the CA")
                .hint("ask a node that was started with `skep ca serve` or `[ca] serve = true`");
            return reply.refuse(refusal);
        };
        authority.answer_status(reply);
    }

    /// The groups that are known here.
    pub(crate) fn group_names(&self) -> Vec<GroupName> {
        let mut names: Vec<GroupName> = vec![GroupName::all()];
        for member in self.node.members() {
            names.extend(member.facts.iter().flat_map(|facts| facts.groups.iter().cloned()));
        }
        names.sort();
        names.dedup();
        names
    }

    fn group_rows(&self) -> Vec<Group> {
        self.group_names().iter().map(|name| self.group_row(name)).collect()
    }

    pub(crate) fn group_row(&self, name: &GroupName) -> Group {
        let all = *name == GroupName::all();
        let mut members = Vec::new();
        let mut joined = all;
        for member in self.node.members() {
            let belongs = all || member.facts.is_some_and(|facts| facts.groups.contains(name));
            joined |= belongs && member.node == self.node.id();
            if let (true, Some(node), Some(presence)) =
                (belongs, member.name, self.presence_of(&member))
            {
                members.push((node.clone(), presence));
            }
        }
        members.sort();
        let neighbours = self.node.links().filter(|link| link.neighbour);
        let neighbours = neighbours.filter_map(|link| {
            let name = self.links.get(&link.link)?.name.clone();
            members.iter().any(|(member, _)| *member == name).then_some(name)
        });
        let figures = self.node.flood().group_figures(self.clock.now(), name);
        Group {
            name: name.clone(),
            joined,
            neighbours: neighbours.collect(),
            updates: figures.updates,
            bytes: figures.bytes,
            oldest_ms: figures.oldest.map_or(0, millis),
            missing: figures.waiting,
            subscribers: self.subscribers(name),
            members,
        }
    }

    fn answer_group(&self, name: &GroupName, reply: Reply<Group>) {
        let group = self.group_row(name);
        if group.members.is_empty() {
            let refusal = Refusal::new(Code::NotFound, format!("no node is in group {name}"))
                .hint("`skep group` lists the groups that are known here");
            return reply.refuse(refusal);
        }
        reply.ok(group);
    }

    async fn join_address(&mut self, addresses: &JoinAddress, reply: Reply<Accepted>) {
        let mut found = Vec::new();
        for text in &addresses.addresses {
            let resolved = match text.parse::<JoinTarget>() {
                Ok(target) => target.resolve().await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match resolved {
                Ok(resolved) => found.extend(resolved),
                Err(error) => {
                    return reply.refuse(Refusal::new(Code::Refused, format!("{text}: {error}")));
                }
            }
        }
        let message = format!("dialling {} addresses", found.len());
        self.feed(Input::Found { addresses: found, source: Source::Operator }).await;
        reply.ok(Accepted { message });
    }

    fn shut_down(&mut self, how: Shutdown, reply: Reply<Accepted>) {
        let (farewell, message) = if how.leave {
            (Farewell::Leaving, "leaving the bloc's flock and stopping")
        } else {
            (Farewell::Restarting(BACK_WITHIN), "stopping; others expect it back soon")
        };
        self.stopping = Some(farewell);
        reply.ok(Accepted { message: message.into() });
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let counter = |name: &str, unit: &str, help: &str, value: u64| Metric {
            name: name.into(),
            labels: Vec::new(),
            kind: MetricKind::Counter,
            unit: unit.into(),
            help: help.into(),
            value,
        };
        let gauge = |name: &str, help: &str, value: usize| Metric {
            kind: MetricKind::Gauge,
            ..counter(name, "", help, value as u64)
        };
        let records = self.node.records().statistics();
        let flood = self.node.flood().stats();
        let transport = self.transport.stats();
        let (pairs, relayed) = self.reach.relayed();
        let waits = self.reach.channels().served().iter().map(|(_, waits)| *waits).sum();
        let mut metrics = vec![
            gauge("members_present", "members that are present", self.node.present().len()),
            gauge("members_known", "members that are known", self.node.members().count()),
            gauge("links", "control links that are up", self.links.len()),
            counter("records_accepted", "", "records that were kept", records.accepted),
            counter("records_duplicate", "", "records that were known", records.duplicates),
            counter("signatures_verified", "", "signatures checked", records.verified),
            counter("updates_published", "", "updates published here", flood.published),
            counter("updates_accepted", "", "updates of others put into the log", flood.accepted),
            counter("updates_duplicate", "", "updates that came once more", flood.duplicates),
            counter("updates_late", "", "of those accepted, after a gap", flood.late),
            counter("updates_stale", "", "updates refused for their age", flood.stale),
            counter("updates_rejected", "", "updates and messages refused", flood.rejected),
            counter("updates_purged", "", "updates past the purge age", flood.purged),
            counter("update_gaps", "", "gaps reported", flood.gaps),
            counter("update_pulls", "", "times that neighbours were asked for more", flood.pulls),
            counter("updates_asked", "", "updates asked for by their ids", flood.asked),
            counter("update_prunes", "", "origins that edges were pruned for", flood.prunes_sent),
            counter("update_grafts", "", "origins that edges carry again", flood.grafts_sent),
            counter("fetched", "bytes", "pieces of large updates that came", flood.fetched_bytes),
            counter("received", "bytes", "received over all links", transport.received_bytes),
            counter("sent", "bytes", "sent over all links", transport.sent_bytes),
            gauge("channel_waits", "waits of applications for channels", waits),
            gauge("relayed_pairs", "pairs of nodes whose bytes are passed on here", pairs),
            counter("relayed", "bytes", "passed on between nodes that cannot meet", relayed),
            counter("frames_unknown", "", "frames of unknown kinds", self.node.unknown_frames()),
        ];
        for (reason, help, value) in dropped(flood) {
            metrics.push(Metric {
                labels: vec![("reason".into(), reason.into())],
                ..counter("updates_dropped", "", help, value)
            });
        }
        metrics.extend(self.exports.metrics());
        metrics.extend(self.notify.iter().flat_map(crate::notify::metrics));
        for (reason, value) in flood.gaps_by_reason() {
            metrics.push(Metric {
                labels: vec![("reason".into(), reason.into())],
                ..counter("update_gaps_by_reason", "", "gaps reported, by why", value)
            });
        }
        for (reason, value) in transport.refused {
            metrics.push(Metric {
                labels: vec![("reason".into(), reason.as_str().into())],
                ..counter("peers_refused", "", "peers that were refused", value)
            });
        }
        for (reason, value) in &records.rejected {
            metrics.push(Metric {
                labels: vec![("reason".into(), reason.to_string())],
                ..counter("records_rejected", "", "records that were refused", *value)
            });
        }
        metrics
    }
}

/// What the flood dropped, by its reasons (FLOOD-33), in the words of `docs/protocol/flood.md`.
fn dropped(flood: &skep_flood::Stats) -> [(&'static str, &'static str, u64); 9] {
    [
        ("for_absent", "no room: only absent members waited", flood.dropped_for_absent),
        ("unsent", "no room: a neighbour had yet to get it", flood.dropped_unsent),
        ("unread", "no room: a subscriber had not had it", flood.dropped_unread),
        ("storage", "the disk did not take it", flood.dropped_storage),
        ("held", "too many waited for earlier ones", flood.dropped_held),
        ("rumours", "too many ids without bodies", flood.dropped_rumours),
        ("fetches", "too many large ones were pulled", flood.dropped_fetches),
        ("notes", "too many gaps were noted", flood.dropped_notes),
        ("lives", "too many lives of origins", flood.dropped_lives),
    ]
}

/// People look for names.
fn in_order<T: Ord>(names: impl Iterator<Item = T>) -> Vec<T> {
    let mut names: Vec<T> = names.collect();
    names.sort();
    names
}

/// Why a link is kept, as far as is known by now.
fn kind_of(link: &skep_node::LinkView) -> LinkKind {
    match (link.neighbour, link.watched) {
        (true, _) => LinkKind::Neighbour,
        (false, true) => LinkKind::Watch,
        (false, false) if link.wanted_by_peer => LinkKind::Watch,
        (false, false) => LinkKind::Errand,
    }
}
