//! What the node tells the main loop, noted for people and handed to the other parts of the agent.

use std::sync::atomic::Ordering;

use skep_base::{NodeId, NodeName};
use skep_control::api::EventKind;
use skep_managers::Stamp;
use skep_node::{Event, LinkId, Status};
use skep_records::kind as record;

use super::Spine;
use super::words::presence;

impl Spine {
    pub(super) fn node_event(&mut self, event: Event) {
        match event {
            Event::Started { incarnation } => {
                self.life.store(incarnation.0, Ordering::Relaxed);
                self.duplicate = None;
                self.note(EventKind::Started { incarnation: incarnation.0 });
                self.history_begins();
            }
            Event::Status { node, name, status, present } => {
                self.status_event(node, name, status, present);
            }
            Event::Forgotten { node } => {
                tracing::info!(%node, "forgotten");
                self.orders_forgotten(node);
            }
            Event::NameTaken => {
                self.duplicate = Some(self.clock.now());
                let remote = self.told_by.clone().unwrap_or_else(|| "a present member".into());
                tracing::error!(
                    told_by = %remote,
                    "another live process holds this node's name; this one stays silent until you \
                     stop one of the two, or give it a certificate of its own"
                );
                self.note(EventKind::Duplicate { remote, keeps: false });
            }
            Event::NameContested { by } => {
                let me = by == self.node.id();
                let by = self.name_of(by);
                tracing::warn!(%by, "another live process has this node's name, which stays here");
                if !me {
                    self.note(EventKind::Duplicate { remote: by, keeps: true });
                }
            }
            Event::Record { owner, kind: record::ORDERS } => self.orders_told(owner),
            Event::Record { kind: record::FLOCK_EVENTS, .. } => self.history_told(),
            // What an expelled node says of waves counts for nothing.
            Event::Record { owner, .. } if self.node.is_expelled(owner) => {}
            Event::Record { owner, kind } => {
                let of_waves = [record::CERTIFICATE, record::NODE, record::WAVE_STATUS];
                if of_waves.contains(&kind)
                    && let Some(stored) = self.node.stored(owner, kind)
                {
                    self.rollout.record(owner, kind, stored);
                }
            }
            Event::Ordered { owner, kind, body, .. } if kind == record::WAVE_ORDER => {
                self.rollout.order(owner, body);
            }
            // Topologies are told of when they are adopted.
            Event::Ordered { .. } => {}
            Event::OrderRefused { owner, kind, stamp, seen } => {
                self.order_refused(owner, kind, stamp, seen);
            }
            Event::Linked { link, .. } => {
                if let Some(note) = self.links.get(&link).cloned() {
                    let view = self.node.links().find(|view| view.link == link);
                    let dialled = view.is_some_and(|view| view.dialled);
                    let remote = note.remote.to_string();
                    self.note(EventKind::LinkUp { node: note.name, remote, dialled });
                }
            }
            Event::Topology(event) => self.topology_event(event),
            Event::Unlinked { .. } => {}
            Event::Rejected { peer, reason } => {
                let name = self.name_of(peer);
                tracing::warn!(peer = %name, %reason, "refused what a peer sent");
            }
        }
    }

    fn order_refused(
        &mut self,
        owner: NodeId,
        kind: u16,
        stamp: Option<Stamp>,
        seen: Option<Stamp>,
    ) {
        let name = self.name_of(owner);
        let order = if kind == record::WAVE_ORDER { "a wave" } else { "a topology" };
        let under = stamp.map_or_else(|| "no stamp".to_owned(), |stamp| format!("stamp {stamp}"));
        let seen = seen.map_or_else(|| "none".to_owned(), |seen| seen.to_string());
        let what = format!("{order} of {name} under {under} is refused: {seen} was seen here");
        tracing::warn!("{what}");
        self.note(EventKind::Managers { what });
    }

    fn status_event(
        &mut self,
        node: NodeId,
        name: Option<NodeName>,
        status: Status,
        present: usize,
    ) {
        let (Some(name), Some(presence)) = (name, presence(status)) else {
            return;
        };
        if node == self.node.id() {
            return;
        }
        let incarnation = self.node.member_view(node).map_or(0, |member| member.incarnation.0);
        tracing::info!(node = %name, %presence, present, "member");
        self.note(EventKind::Member { node: name, presence, incarnation });
        self.rollout.presence(node, status == Status::Present);
        self.flock_changed = true;
    }

    /// A process was refused whose name a live one holds: whoever runs either wants to know.
    pub(super) fn report_second_process(&mut self, link: LinkId) {
        if let Some(note) = self.links.get(&link) {
            let (name, remote) = (note.name.clone(), note.remote.to_string());
            tracing::warn!(node = %name, %remote, "refused: another live process has this name");
            if note.certificate.id == self.node.id() {
                self.note(EventKind::Duplicate { remote, keeps: true });
            } else {
                let why = format!("another live process has the name {name} and was there first");
                self.note(EventKind::Refused { remote, why });
            }
        }
    }

    /// Notes what the flock is now, once for all that happened together.
    pub(super) fn note_flock(&mut self) {
        if std::mem::take(&mut self.flock_changed) {
            let present = u32::try_from(self.node.present().len()).unwrap_or(u32::MAX);
            self.alone = match self.alone {
                _ if present > 1 => None,
                None => Some(self.clock.now()),
                since => since,
            };
            let name = self.flock_name();
            self.note(EventKind::Flock { name, present });
            self.look_soon();
        }
    }
}
