//! A manager's or learner's share of the flock: the engine, and what its decisions made.

use bytes::Bytes;
use skep_base::{NodeId, Rng};
use skep_wire::decode;

use crate::config::{Config, MAX_HISTORIES, MAX_ROSTER};
use crate::engine::Engine;
use crate::event::{Decided, Origin};
use crate::id::{Founding, Lineage, RaftId, Stamp};
use crate::stored::{
    ALL_ITEMS, ChangeKind, Conf, Entry, History, Holder, Image, Meta, Payload, Place, Record,
    SyncSet, Voter,
};

/// Images that are kept for learners which fetch them.
const IMAGES_KEPT: usize = 2;

pub(crate) struct Group {
    /// Which group of this process it is.
    pub(crate) life: u64,
    pub(crate) engine: Engine,
    pub(crate) meta: Meta,
    pub(crate) history: History,
    /// What an image of the history takes, about.
    pub(crate) bytes: usize,
    pub(crate) conf: Conf,
    pub(crate) applied: (u64, u64),
    /// Records of a newer schema, kept and passed over.
    pub(crate) unknown: u64,
    pub(crate) images: Vec<(Image, Bytes)>,
}

/// What an applied entry means to the machine.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    Nothing,
    Stamped { master: NodeId },
    SyncSet,
    Placed { node: NodeId, held: bool },
    Catalog(Decided),
    Absorbed { lineage: Lineage, changes: u64 },
    Ended { into: Lineage },
    Founded { founding: Founding },
    Voters,
}

impl Group {
    pub(crate) fn new(
        life: u64,
        config: &Config,
        voter: &Voter,
        image: Image,
        entries: &[Entry],
        rng: Rng,
    ) -> Option<Self> {
        let engine = Engine::new(config, voter, &image, entries, rng)?;
        let Image { meta, conf, index, term, history, .. } = image;
        let (applied, bytes, images) = ((index, term), history.bytes(), Vec::new());
        Some(Self { life, engine, meta, history, bytes, conf, applied, unknown: 0, images })
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { epoch: self.meta.epoch, fork: self.meta.fork }
    }

    pub(crate) fn node_of(&self, raft: RaftId) -> Option<NodeId> {
        let named = self.meta.names.iter().find(|(id, _)| *id == raft).map(|(_, node)| *node);
        named.or_else(|| self.engine.routes.get(&raft).copied())
    }

    /// The raft id under which a node is in the configuration.
    pub(crate) fn raft_of(&self, node: NodeId) -> Option<RaftId> {
        let ids = self.meta.names.iter().filter(|(_, named)| *named == node).map(|(id, _)| *id);
        ids.filter(|id| self.conf.everybody().any(|in_it| in_it == *id)).last()
    }

    fn named(&self, ids: &[RaftId]) -> Vec<NodeId> {
        ids.iter().filter_map(|id| self.node_of(*id)).collect()
    }

    /// Who votes, in either half of a joint configuration.
    pub(crate) fn voters(&self) -> Vec<NodeId> {
        let mut all = self.named(&self.conf.voters);
        all.extend(self.named(&self.conf.outgoing));
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn learners(&self) -> Vec<NodeId> {
        self.named(&self.conf.learners)
    }

    pub(crate) fn is_voter(&self) -> bool {
        let me = &self.engine.raft;
        self.conf.voters.contains(me) || self.conf.outgoing.contains(me)
    }

    /// Whether `nodes` are a majority of the voters, of both halves in a joint configuration.
    pub(crate) fn is_majority(&self, nodes: &[NodeId]) -> bool {
        let enough = |ids: &[RaftId]| {
            let there = self.named(ids).iter().filter(|node| nodes.contains(node)).count();
            ids.is_empty() || there > ids.len() / 2
        };
        enough(&self.conf.voters) && enough(&self.conf.outgoing)
    }

    /// The newest sync set that this log names, decided or not.
    pub(crate) fn newest_sync(&self) -> SyncSet {
        let tail = self.engine.records_after(self.applied.0).into_iter();
        let sets = tail.filter_map(|(_, _, record)| match record {
            Record::Stamp { sync, .. } | Record::Sync(sync) => Some(sync),
            Record::Roster(_)
            | Record::RosterGone(_)
            | Record::Catalog(_)
            | Record::Foreign { .. }
            | Record::Absorbed { .. }
            | Record::Ended { .. }
            | Record::Founding { .. }
            | Record::RosterSettled { .. } => None,
        });
        sets.last().unwrap_or_else(|| self.meta.sync.clone())
    }

    /// Entries of the catalog that may have been decided, as far as this node alone can tell: each
    /// under the term and the stamp under which it was proposed.
    pub(crate) fn tail(&self) -> Vec<Decided> {
        let mut stamp = self.stamp();
        let mut tail = Vec::new();
        for (index, term, record) in self.engine.records_after(self.applied.0) {
            let (origin, body) = match record {
                Record::Catalog(body) => (Origin::Own, body),
                Record::Foreign { origin, body, .. } => (origin, body),
                Record::Stamp { epoch, .. } => {
                    stamp.epoch = stamp.epoch.max(epoch);
                    continue;
                }
                Record::Sync(_)
                | Record::Roster(_)
                | Record::RosterGone(_)
                | Record::Absorbed { .. }
                | Record::Ended { .. }
                | Record::Founding { .. }
                | Record::RosterSettled { .. } => continue,
            };
            tail.push(Decided { index, stamp, term, origin, body });
        }
        tail
    }

    /// Whether the log has anything that is not decided, or not applied yet.
    pub(crate) fn is_undecided(&self) -> bool {
        self.engine.last().0 > self.applied.0
    }

    /// A place of the roster as this log has it, decided or not.
    pub(crate) fn newest_place(&self, node: NodeId) -> Option<Place> {
        let mut newest = self.meta.roster.iter().find(|place| place.node == node).copied();
        for (_, _, record) in self.engine.records_after(self.applied.0) {
            match record {
                Record::Roster(place) if place.node == node => newest = Some(place),
                Record::RosterGone(gone) if gone == node => newest = None,
                Record::Founding { roster, .. } if !roster.contains(&node) => newest = None,
                Record::Roster(_)
                | Record::RosterGone(_)
                | Record::RosterSettled { .. }
                | Record::Founding { .. }
                | Record::Stamp { .. }
                | Record::Sync(_)
                | Record::Catalog(_)
                | Record::Foreign { .. }
                | Record::Absorbed { .. }
                | Record::Ended { .. } => {}
            }
        }
        newest
    }

    /// The image of what is applied, for learner `to`: one that is kept when it will do.
    pub(crate) fn image_for(&mut self, to: RaftId) -> &(Image, Bytes) {
        let base = self.applied.0.saturating_sub(self.engine.log_len() as u64);
        let fits = |(image, _): &(Image, Bytes)| {
            image.index >= base && image.conf.everybody().any(|id| id == to)
        };
        let at = self.images.iter().position(fits).unwrap_or_else(|| {
            let image = self.image();
            let bytes = image.to_bytes();
            if self.images.len() >= IMAGES_KEPT {
                self.images.remove(0);
            }
            self.images.push((image, bytes));
            self.images.len() - 1
        });
        &self.images[at]
    }

    pub(crate) fn image(&self) -> Image {
        let (index, term) = self.applied;
        Image::new(self.meta.clone(), self.conf.clone(), index, term, self.history.clone())
    }

    pub(crate) fn install(&mut self, image: Image) {
        let Image { meta, conf, index, term, history, .. } = image;
        self.meta = meta;
        self.conf = conf;
        self.bytes = history.bytes();
        self.history = history;
        self.applied = (index, term);
        self.images.clear();
    }

    /// Applies a decided entry. The same on every node that has it.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Effect {
        let effect = match &entry.payload {
            Payload::Empty => Effect::Nothing,
            Payload::Change(changes) => {
                for (kind, raft, node) in changes {
                    self.meta.names.retain(|(id, _)| id != raft);
                    if *kind != ChangeKind::Remove {
                        self.meta.names.push((*raft, *node));
                    }
                }
                self.engine.apply_change(changes);
                self.conf = self.engine.conf();
                // A voter that leaves votes on in the outgoing half until the change is over.
                for (_, raft, node) in changes {
                    let still = self.conf.everybody().any(|id| id == *raft);
                    let named = self.meta.names.iter().any(|(id, _)| id == raft);
                    if still && !named {
                        self.meta.names.push((*raft, *node));
                    }
                }
                let Self { meta, conf, .. } = self;
                meta.names.retain(|(id, _)| conf.everybody().any(|in_it| in_it == *id));
                Effect::Voters
            }
            Payload::Record(bytes) => match decode::<Record>("record", bytes) {
                Ok(record) => self.apply_record((entry.index, entry.term), record),
                Err(_) => {
                    self.unknown += 1;
                    Effect::Nothing
                }
            },
        };
        self.applied = (entry.index, entry.term);
        self.engine.applied(entry.index);
        effect
    }

    fn apply_record(&mut self, at: (u64, u64), record: Record) -> Effect {
        match record {
            Record::Stamp { epoch, master, sync } => {
                self.meta.epoch = self.meta.epoch.max(epoch);
                self.meta.master = Some(master);
                self.set_sync(sync);
                Effect::Stamped { master }
            }
            Record::Sync(sync) => {
                self.set_sync(sync);
                Effect::SyncSet
            }
            Record::Roster(place) => {
                self.set_place(place);
                Effect::Placed { node: place.node, held: place.held }
            }
            Record::RosterGone(node) => {
                if self.meta.roster.iter().any(|place| place.node == node) {
                    self.roster_changes();
                }
                self.meta.roster.retain(|place| place.node != node);
                Effect::Nothing
            }
            Record::Catalog(body) => self.catalog(at, Origin::Own, body),
            Record::Foreign { from, item, origin, body } => {
                if self.next_item(from) != item {
                    return Effect::Nothing;
                }
                self.set_next_item(from, item + 1);
                self.catalog(at, origin, body)
            }
            Record::Absorbed { from, changes } => {
                self.set_next_item(from, ALL_ITEMS);
                let lineage = from.lineage;
                if !self.meta.absorbed.contains(&lineage) {
                    if self.meta.absorbed.len() >= MAX_HISTORIES {
                        self.meta.absorbed.remove(0);
                    }
                    self.meta.absorbed.push(lineage);
                }
                Effect::Absorbed { lineage, changes }
            }
            Record::Ended { into } => {
                self.meta.ended = Some(into);
                Effect::Ended { into }
            }
            Record::Founding { number, roster } => self.found(number, &roster),
            Record::RosterSettled { version } => {
                if version == self.meta.roster_version {
                    self.meta.roster_before.clear();
                }
                Effect::Nothing
            }
        }
    }

    /// The history is strong from here on. Every history that parts from it later has this roster
    /// or what strict authority made of it; what parted before is none of it.
    fn found(&mut self, founding: Founding, roster: &[NodeId]) -> Effect {
        if founding <= self.meta.founding {
            return Effect::Nothing;
        }
        self.roster_changes();
        self.meta.roster.retain(|place| roster.contains(&place.node));
        self.meta.roster_base = self.meta.roster_version;
        self.meta.roster_before.clear();
        (self.meta.strong, self.meta.founding) = (true, founding);
        // Whoever met it as nothing that counts would let its number go with it.
        self.meta.acknowledged = true;
        Effect::Founded { founding }
    }

    fn catalog(&mut self, (index, term): (u64, u64), origin: Origin, body: Bytes) -> Effect {
        let entry = Decided { index, stamp: self.stamp(), term, origin, body };
        self.meta.acknowledged = true;
        self.bytes += History::bytes_of(&entry.body);
        self.history.push(entry.clone());
        Effect::Catalog(entry)
    }

    fn set_sync(&mut self, sync: SyncSet) {
        if sync.version > self.meta.sync.version {
            self.meta.sync = sync;
        }
    }

    /// Somebody is about to enter or leave the roster.
    fn roster_changes(&mut self) {
        self.meta.roster_version = self.meta.roster_version.saturating_add(1);
        self.meta.roster_before = self.meta.roster.iter().map(|place| place.node).collect();
    }

    fn set_place(&mut self, place: Place) {
        if self.meta.roster.iter().all(|known| known.node != place.node) {
            if self.meta.roster.len() >= MAX_ROSTER {
                return;
            }
            self.roster_changes();
        }
        let roster = &mut self.meta.roster;
        match roster.iter().position(|known| known.node == place.node) {
            Some(at) => roster[at] = place,
            None => roster.push(place),
        }
        let rank = |place: &Place| (std::cmp::Reverse(place.standing()), place.node);
        roster.sort_by_key(rank);
    }

    pub(crate) fn next_item(&self, from: Holder) -> u64 {
        let known = self.meta.merging.iter().find(|(holder, _)| *holder == from);
        known.map_or(0, |(_, next)| *next)
    }

    fn set_next_item(&mut self, from: Holder, next: u64) {
        match self.meta.merging.iter_mut().find(|(holder, _)| *holder == from) {
            Some((_, known)) => *known = next,
            None => {
                if self.meta.merging.len() >= MAX_HISTORIES {
                    self.meta.merging.remove(0);
                }
                self.meta.merging.push((from, next));
            }
        }
    }
}
