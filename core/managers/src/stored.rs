//! What is on disk: the small state, the image of the history, and the log after it.
//!
//! The host keeps three things and understands none of them: *state*, a few kilobytes that are
//! replaced as a whole; *image*, the history up to some place; and *entries*, the log after it. A
//! [`Write`] changes them together or not at all (invariant 10).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Digest, NodeId};
use skep_wire::{decode, encode};

use crate::config::{MAX_HISTORIES, MAX_ROSTER, MAX_VOTERS};
use crate::event::{Decided, Eligibility, Origin};
use crate::id::{Epoch, ForkId, Founding, Generation, Lineage, RaftId, Stamp};
use crate::orphan::RosterNote;
use crate::strict::Pledge;

/// One change of what is on disk. Done in the order of the fields, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// What happens to the entries that are there.
    pub cut: Cut,
    /// What happens to the image.
    pub image: ImageChange,
    /// Entries to append: consecutive, and right after what is there.
    pub entries: Vec<StoredEntry>,
    /// The state, if it is another.
    pub state: Option<Bytes>,
}

/// Which entries go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// None.
    #[default]
    Nothing,
    /// Those at and after this place.
    From(u64),
    /// Those up to and at this place: they are in the image now.
    Through(u64),
    /// All.
    All,
}

/// What happens to the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageChange {
    /// It stays.
    #[default]
    Keep,
    /// It is this one now.
    Replace(Bytes),
    /// There is none.
    Drop,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place.
    pub index: u64,
    /// What [`Restored`] gives back.
    pub body: Bytes,
}

/// What the disk holds at a start. All empty on a fresh one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The newest state.
    pub state: Option<Bytes>,
    /// The newest image.
    pub image: Option<Bytes>,
    /// All entries after it, in order.
    pub entries: Vec<StoredEntry>,
}

/// Why what the disk holds cannot be used. The node must not start with a guess: the operator
/// restores the file, or removes all of it, so that the node comes back as a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptStore {
    /// Bytes that nobody wrote.
    #[error("the managers' {what} cannot be read: remove the managers' store to come back as new")]
    Unreadable {
        /// State, image or entry.
        what: &'static str,
    },
    /// Written by another node: two were restored from one backup.
    #[error("the managers' store is another node's: remove it to come back as new")]
    NotMine,
    /// Something between is missing.
    #[error("the managers' log has a gap before {index}: remove the store to come back as new")]
    Gap {
        /// Before which place.
        index: u64,
    },
    /// The parts do not belong together.
    #[error("the managers' state and log are of two histories: remove the store")]
    Mismatch,
}

/// In [`Meta::merging`]: everything was handed over.
pub(crate) const ALL_ITEMS: u64 = u64::MAX;

/// The format of state, image and entries.
const VERSION: u8 = 5;

/// What a stored state promises for its node's later lives: for whoever watches a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The highest stamp seen. It never falls.
    pub seen: Stamp,
    /// Under which id the node votes, and in which history. Once let go of it never comes back.
    pub voter: Option<(Lineage, RaftId)>,
    /// The highest founding number seen: nothing is given under a lower one. It never falls.
    pub founding: Founding,
}

impl Kept {
    /// What [`Write::state`] or [`Restored::state`] says; nothing where it cannot be read.
    #[must_use]
    pub fn in_state(state: &[u8]) -> Option<Self> {
        let state: State = decode("state", state).ok()?;
        let voter = state.voter.map(|voter| (voter.lineage, voter.raft));
        Some(Self { seen: state.seen, voter, founding: state.founding })
    }
}

/// The small state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u8,
    pub(crate) me: NodeId,
    pub(crate) voter: Option<Voter>,
    /// The highest stamp seen, which never falls.
    pub(crate) seen: Stamp,
    /// The highest generation promised or met.
    pub(crate) promised: Generation,
    /// In which history that was: notes of lower generations of it are refused.
    pub(crate) promised_in: Option<Lineage>,
    /// The last flock with anything in its catalog that this node followed or managed.
    pub(crate) followed: Option<Lineage>,
    /// Sync sets of which others told, newest of each lineage.
    pub(crate) notes: Vec<Note>,
    /// Histories that ended, and in which.
    pub(crate) ended: Vec<(Lineage, Lineage)>,
    /// The last stamp that strict authority was given under.
    pub(crate) pledge: Option<Pledge>,
    pub(crate) solitude: Solitude,
    /// The highest founding number seen, which never falls.
    pub(crate) founding: Founding,
    /// The newest roster that a master told.
    pub(crate) roster: Option<RosterNote>,
}

/// How long a manager was alone, in all the lives that it was alone in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Solitude {
    pub(crate) seconds: u64,
    /// It was too long: this node manages nothing until it meets others.
    pub(crate) retired: bool,
}

/// This node's part in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Voter {
    pub(crate) raft: RaftId,
    pub(crate) lineage: Lineage,
    pub(crate) fork: ForkId,
    pub(crate) term: u64,
    pub(crate) vote: RaftId,
    pub(crate) commit: u64,
}

/// A sync set, as the roster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) lineage: Lineage,
    pub(crate) generation: Generation,
    pub(crate) stamp: Stamp,
    pub(crate) sync: SyncSet,
}

/// On whose disks every acknowledgement is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SyncSet {
    pub(crate) version: u64,
    pub(crate) members: Vec<NodeId>,
}

/// An entry of the engine's log, as it is on disk and in messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) payload: Payload,
}

/// What an entry says to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    /// Nothing: the first of a term.
    Empty,
    /// A [`Record`], or one of a newer schema, which is kept and passed over.
    Record(Bytes),
    /// Who votes. Empty: the joint configuration is left.
    Change(Vec<(ChangeKind, RaftId, NodeId)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ChangeKind {
    Voter,
    Learner,
    Remove,
}

/// What an entry says to the managers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A master begins: its stamp, and the sync set it begins with.
    Stamp { epoch: Epoch, master: NodeId, sync: SyncSet },
    /// The sync set is another.
    Sync(SyncSet),
    /// A place of the roster is new or another.
    Roster(Place),
    /// A place of the roster is gone.
    RosterGone(NodeId),
    /// For the catalog.
    Catalog(Bytes),
    /// For the catalog, from a history that merges into this one.
    Foreign { from: Holder, item: u64, origin: Origin, body: Bytes },
    /// All that a holder had was handed over: so many entries of the catalog.
    Absorbed { from: Holder, changes: u64 },
    /// This history ends; its flock goes on in another.
    Ended { into: Lineage },
    /// This history is strong under this number; of its roster these stay.
    Founding { number: Founding, roster: Vec<NodeId> },
    /// Most of the roster before this version has promised under it: nothing that parted before it
    /// can have them any more, and they are not asked for leases from here on.
    RosterSettled { version: u64 },
}

/// Who hands a foreign history over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) node: NodeId,
    pub(crate) lineage: Lineage,
    /// Drawn whenever a node begins to hand over: its list may be another after a restart.
    pub(crate) session: u64,
}

/// A place of the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) eligible: Eligibility,
    pub(crate) resources: u16,
    pub(crate) availability: u16,
    pub(crate) held: bool,
    pub(crate) given_up: bool,
}

impl Place {
    pub(crate) fn standing(&self) -> u16 {
        standing(self.resources, self.availability)
    }
}

/// What a node's place is worth: both parts are of a thousand, and so is this.
pub(crate) fn standing(resources: u16, availability: u16) -> u16 {
    u16::try_from(u32::from(resources) * u32::from(availability) / 1000).unwrap_or(u16::MAX)
}

/// The voters and learners of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conf {
    pub(crate) voters: Vec<RaftId>,
    pub(crate) learners: Vec<RaftId>,
    pub(crate) outgoing: Vec<RaftId>,
    pub(crate) learners_next: Vec<RaftId>,
    pub(crate) auto_leave: bool,
}

impl Conf {
    pub(crate) fn everybody(&self) -> impl Iterator<Item = RaftId> + '_ {
        let lists = [&self.voters, &self.learners, &self.outgoing, &self.learners_next];
        lists.into_iter().flatten().copied()
    }

    /// Whether the engine may be given it.
    pub(crate) fn is_sound(&self) -> bool {
        let unique = |list: &[RaftId]| {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            sorted.len() == list.len() && !sorted.contains(&RaftId(0))
        };
        let joint = !self.outgoing.is_empty();
        !self.voters.is_empty()
            && self.everybody().count() <= MAX_VOTERS
            && unique(&self.voters)
            && unique(&self.learners)
            && unique(&self.outgoing)
            && unique(&self.learners_next)
            && (joint || (self.learners_next.is_empty() && !self.auto_leave))
            && self.learners.iter().all(|id| {
                !self.voters.contains(id)
                    && !self.outgoing.contains(id)
                    && !self.learners_next.contains(id)
            })
            && self
                .learners_next
                .iter()
                .all(|id| self.outgoing.contains(id) && !self.voters.contains(id))
    }
}

/// The history up to some place, as it is on disk and as a learner gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    version: u8,
    pub(crate) meta: Meta,
    pub(crate) conf: Conf,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) history: History,
}

/// What the entries up to some place have made of the flock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) lineage: Lineage,
    pub(crate) generation: Generation,
    pub(crate) fork: ForkId,
    pub(crate) parent: Option<(Lineage, u64)>,
    /// It descends from the founding of this number, by majorities of its roster.
    pub(crate) strong: bool,
    pub(crate) founding: Founding,
    /// Anything was ever in the catalog, or it was ever made strong.
    pub(crate) acknowledged: bool,
    pub(crate) epoch: Epoch,
    pub(crate) master: Option<NodeId>,
    pub(crate) sync: SyncSet,
    pub(crate) roster: Vec<Place>,
    /// How often somebody entered or left the roster, and how often when this history parted from
    /// the one that it comes from.
    pub(crate) roster_version: u64,
    pub(crate) roster_base: u64,
    /// Who was on it before the last of these, until most of them have promised under this one.
    pub(crate) roster_before: Vec<NodeId>,
    /// Whose the raft ids are. Those of former managers are forgotten.
    pub(crate) names: Vec<(RaftId, NodeId)>,
    /// Of each holder that hands over, the next item.
    /// All, once it said so: [`ALL_ITEMS`].
    pub(crate) merging: Vec<(Holder, u64)>,
    /// Histories that ended in this one.
    pub(crate) absorbed: Vec<Lineage>,
    pub(crate) ended: Option<Lineage>,
}

/// The catalog's part of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    /// The host's catalog up to a place, when it ever gave one.
    pub(crate) checkpoint: Option<(u64, Bytes)>,
    /// The chain of all before the first of `entries`.
    pub(crate) chain: Chain,
    pub(crate) entries: Vec<Applied>,
}

/// A digest of everything up to an entry: where two histories have the same, they are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Chain(pub(crate) u128);

/// An entry of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) index: u64,
    pub(crate) stamp: Stamp,
    pub(crate) term: u64,
    pub(crate) origin: Origin,
    pub(crate) body: Bytes,
    /// Up to and with this one.
    pub(crate) chain: Chain,
}

impl History {
    pub(crate) fn head(&self) -> (u64, Chain) {
        let before = self.checkpoint.as_ref().map_or(0, |(index, _)| *index);
        self.entries.last().map_or((before, self.chain), |last| (last.index, last.chain))
    }

    pub(crate) fn push(&mut self, entry: Decided) {
        let chain = self.head().1.then(&entry);
        let Decided { index, stamp, term, origin, body } = entry;
        self.entries.push(Applied { index, stamp, term, origin, body, chain });
    }

    /// What came after the checkpoint, as the host is told of it.
    pub(crate) fn decided(&self) -> impl Iterator<Item = Decided> + '_ {
        self.entries.iter().map(|entry| {
            let Applied { index, stamp, term, origin, ref body, .. } = *entry;
            Decided { index, stamp, term, origin, body: body.clone() }
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        let checkpoint = self.checkpoint.as_ref().map_or(0, |(_, state)| state.len());
        checkpoint + self.entries.iter().map(|entry| Self::bytes_of(&entry.body)).sum::<usize>()
    }

    /// What one entry takes, about.
    pub(crate) fn bytes_of(body: &Bytes) -> usize {
        body.len() + 96
    }

    /// Puts the host's catalog in the place of the entries up to `index`.
    pub(crate) fn cut(&mut self, index: u64, state: Bytes) {
        let kept = self.entries.partition_point(|entry| entry.index <= index);
        if let Some(last) = self.entries.drain(..kept).next_back() {
            self.chain = last.chain;
        }
        self.checkpoint = Some((index, state));
    }
}

impl Chain {
    /// The term is in it: two entries that were never decided may be the same but for that.
    fn then(self, entry: &Decided) -> Self {
        let digest = Digest::of_parts(&[
            b"skep history",
            &self.0.to_le_bytes(),
            &entry.index.to_le_bytes(),
            &entry.term.to_le_bytes(),
            &entry.stamp.epoch.0.to_le_bytes(),
            &entry.stamp.fork.0.to_le_bytes(),
            &entry.body,
        ]);
        let mut first = [0; 16];
        first.copy_from_slice(&digest.0[..16]);
        Self(u128::from_le_bytes(first))
    }
}

impl State {
    pub(crate) fn new(me: NodeId) -> Self {
        Self {
            version: VERSION,
            me,
            voter: None,
            seen: Stamp::default(),
            promised: Generation(0),
            promised_in: None,
            followed: None,
            notes: Vec::new(),
            ended: Vec::new(),
            pledge: None,
            solitude: Solitude::default(),
            founding: Founding(0),
            roster: None,
        }
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    /// Keeps the newest sync set of each lineage, and of the newest lineages.
    pub(crate) fn note(&mut self, note: Note) -> bool {
        match self.notes.iter_mut().find(|known| known.lineage == note.lineage) {
            Some(known) if known.sync.version >= note.sync.version => return false,
            Some(known) => *known = note,
            None => {
                if self.notes.len() >= MAX_HISTORIES {
                    self.notes.remove(0);
                }
                self.notes.push(note);
            }
        }
        true
    }

    /// Remembers that `lineage` ended in `into`.
    pub(crate) fn end(&mut self, lineage: Lineage, into: Lineage) -> bool {
        if self.ended.iter().any(|(ended, _)| *ended == lineage) || lineage == into {
            return false;
        }
        if self.ended.len() >= MAX_HISTORIES {
            self.ended.remove(0);
        }
        self.ended.push((lineage, into));
        true
    }
}

impl Image {
    pub(crate) fn new(meta: Meta, conf: Conf, index: u64, term: u64, history: History) -> Self {
        Self { version: VERSION, meta, conf, index, term, history }
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    /// An image that came from a peer or the disk.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let image: Self = decode("image", bytes).ok()?;
        let ordered = |entries: &[Applied]| {
            let first = image.history.checkpoint.as_ref().map_or(0, |(index, _)| *index);
            let places = entries.iter().map(|entry| entry.index);
            places.clone().zip(places.skip(1)).all(|(a, b)| a < b)
                && entries.first().is_none_or(|entry| entry.index > first)
                && entries.last().is_none_or(|entry| entry.index <= image.index)
        };
        let sound = image.version == VERSION
            && image.conf.is_sound()
            && image.index > 0
            && image.term > 0
            && image.meta.roster.len() <= MAX_ROSTER
            && image.meta.roster_before.len() <= MAX_ROSTER
            && image.meta.names.len() <= MAX_VOTERS
            && image.history.checkpoint.as_ref().is_none_or(|(at, _)| *at <= image.index)
            && image
                .conf
                .everybody()
                .all(|id| image.meta.names.iter().any(|(named, _)| *named == id))
            && ordered(&image.history.entries);
        sound.then_some(image)
    }
}

/// What the disk held, read.
pub(crate) struct Read {
    pub(crate) state: State,
    pub(crate) image: Option<Image>,
    pub(crate) entries: Vec<Entry>,
}

impl Restored {
    pub(crate) fn read(&self, me: NodeId) -> Result<Read, CorruptStore> {
        let Some(state) = &self.state else {
            let empty = self.image.is_none() && self.entries.is_empty();
            let fresh = Read { state: State::new(me), image: None, entries: Vec::new() };
            return if empty { Ok(fresh) } else { Err(CorruptStore::Mismatch) };
        };
        let unreadable = |what| CorruptStore::Unreadable { what };
        let state: State = decode("state", state).map_err(|_| unreadable("state"))?;
        if state.version != VERSION {
            return Err(unreadable("state"));
        }
        if state.me != me {
            return Err(CorruptStore::NotMine);
        }
        let Some(image) = &self.image else {
            // A group of which nothing had come yet is no group.
            let state = State { voter: None, ..state };
            let none = Read { state, image: None, entries: Vec::new() };
            return if self.entries.is_empty() { Ok(none) } else { Err(CorruptStore::Mismatch) };
        };
        let image = Image::from_bytes(image).ok_or(unreadable("image"))?;
        let voter = state.voter.ok_or(CorruptStore::Mismatch)?;
        if (voter.lineage, voter.fork) != (image.meta.lineage, image.meta.fork) {
            return Err(CorruptStore::Mismatch);
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut last = (image.index, image.term);
        for stored in &self.entries {
            let entry: Entry = decode("entry", &stored.body).map_err(|_| unreadable("entry"))?;
            if entry.index != last.0 + 1 || entry.index != stored.index {
                return Err(CorruptStore::Gap { index: stored.index });
            }
            if entry.term < last.1 {
                return Err(CorruptStore::Mismatch);
            }
            last = (entry.index, entry.term);
            entries.push(entry);
        }
        if voter.commit > last.0 || voter.term < last.1 {
            return Err(CorruptStore::Gap { index: voter.commit });
        }
        Ok(Read { state, image: Some(image), entries })
    }
}

/// Whether bytes of a store, which a host may have on disk or a fuzzer made up, can be read. For
/// tests of the decoders; the managers read with [`crate::Managers::new`].
#[must_use]
pub fn can_read(restored: &Restored, me: NodeId) -> bool {
    restored.read(me).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(index: u64, stamp: Stamp, body: &'static [u8]) -> Decided {
        let (term, origin) = (3, Origin::Own);
        Decided { index, stamp, term, origin, body: Bytes::from_static(body) }
    }

    fn samples() -> Vec<(&'static str, Bytes)> {
        let node = |n: u8| NodeId::from_bytes([n; 16]);
        let (lineage, fork) = (Lineage(0x0102_0304_0506_0708), ForkId(0x1112_1314_1516_1718));
        let stamp = Stamp { epoch: Epoch(9), fork };
        let sync = SyncSet { version: 4, members: vec![node(1), node(2)] };
        let place = Place {
            node: node(1),
            eligible: Eligibility::Eligible,
            resources: 500,
            availability: 750,
            held: false,
            given_up: false,
        };
        let raft = RaftId(0x2122);
        let mut state = State::new(node(1));
        state.voter = Some(Voter { raft, lineage, fork, term: 3, vote: raft, commit: 7 });
        state.seen = stamp;
        state.promised = Generation(2);
        state.note(Note { lineage, generation: Generation(1), stamp, sync: sync.clone() });
        state.end(Lineage(5), lineage);
        state.solitude = Solitude { seconds: 300, retired: true };
        let founding = Founding(1);
        state.pledge = Some(Pledge { lineage, stamp, version: 2, founding });
        state.founding = Founding(2);
        state.roster = Some(RosterNote {
            lineage,
            index: 6,
            strong: true,
            founding,
            version: 2,
            before: vec![node(1), node(3)],
            places: vec![place],
        });
        let mut history = History::default();
        history.push(own(4, stamp, b"old"));
        history.cut(4, Bytes::from_static(b"catalog"));
        history.push(own(6, stamp, b"new"));
        let meta = Meta {
            lineage,
            generation: Generation(1),
            fork,
            parent: None,
            strong: true,
            founding,
            acknowledged: true,
            epoch: Epoch(9),
            master: Some(node(1)),
            sync: sync.clone(),
            roster: vec![place],
            roster_version: 2,
            roster_base: 1,
            roster_before: vec![node(1), node(3)],
            names: vec![(raft, node(1))],
            merging: Vec::new(),
            absorbed: Vec::new(),
            ended: None,
        };
        let conf = Conf { voters: vec![raft], ..Conf::default() };
        let image = Image::new(meta, conf, 6, 3, history);
        let holder = Holder { node: node(2), lineage: Lineage(5), session: 6 };
        let body = Bytes::from_static(b"entry");
        let into = Lineage(5);
        let origin = Origin::Foreign { lineage: into, generation: Generation(2) };
        let records = [
            ("stamp", Record::Stamp { epoch: Epoch(9), master: node(1), sync: sync.clone() }),
            ("sync", Record::Sync(sync)),
            ("roster", Record::Roster(place)),
            ("roster-gone", Record::RosterGone(node(2))),
            ("catalog", Record::Catalog(body.clone())),
            ("foreign", Record::Foreign { from: holder, item: 0, origin, body }),
            ("absorbed", Record::Absorbed { from: holder, changes: 1 }),
            ("ended", Record::Ended { into }),
            ("founding", Record::Founding { number: founding, roster: vec![node(1)] }),
            ("roster-settled", Record::RosterSettled { version: 2 }),
        ];
        let mut all = vec![("state", state.to_bytes()), ("image", image.to_bytes())];
        all.extend(records.into_iter().map(|(name, record)| {
            let payload = Payload::Record(encode(&record).into());
            (name, encode(&Entry { index: 7, term: 3, payload }).into())
        }));
        all
    }

    /// Invariant 4: what an earlier version wrote is read by the next.
    #[test]
    fn what_is_on_disk_is_the_golden_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
        let now: Vec<String> =
            samples().iter().map(|(name, bytes)| format!("{name} {}", hex(bytes))).collect();
        let golden: Vec<&str> = include_str!("golden-stored.txt").lines().collect();
        assert_eq!(now, golden, "golden-stored.txt would be:\n{}\n", now.join("\n"));
    }

    fn restored() -> Restored {
        let samples = samples();
        let named = |wanted| samples.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
        let entries = vec![StoredEntry { index: 7, body: named("catalog") }];
        Restored { state: Some(named("state")), image: Some(named("image")), entries }
    }

    #[test]
    fn a_corrupt_store_is_refused_and_says_what_to_do() {
        let me = NodeId::from_bytes([1; 16]);
        assert!(restored().read(me).is_ok());
        let other = restored().read(NodeId::from_bytes([2; 16])).err().unwrap();
        assert_eq!(other, CorruptStore::NotMine);
        let mut gap = restored();
        gap.entries[0].index = 8;
        assert_eq!(gap.read(me).err(), Some(CorruptStore::Gap { index: 8 }));
        let lost = Restored { entries: Vec::new(), ..restored() };
        assert_eq!(lost.read(me).err(), Some(CorruptStore::Gap { index: 7 }));
        let no_state = Restored { state: None, ..restored() };
        assert_eq!(no_state.read(me).err(), Some(CorruptStore::Mismatch));
        let mut torn = restored();
        torn.image = torn.image.map(|image| image.slice(1..));
        let why = torn.read(me).err().unwrap();
        assert_eq!(why, CorruptStore::Unreadable { what: "image" });
        assert!(why.to_string().contains("remove the managers' store"));
    }

    #[test]
    fn two_histories_have_the_same_chain_as_far_as_they_are_the_same() {
        let stamp = Stamp::default();
        let mut a = History::default();
        a.push(own(3, stamp, b"x"));
        let (mut b, mut c) = (a.clone(), a.clone());
        assert_eq!(a.head(), b.head());
        a.push(own(4, stamp, b"y"));
        b.push(own(4, stamp, b"z"));
        c.push(Decided { term: 4, ..own(4, stamp, b"y") });
        assert_ne!(a.head(), b.head());
        assert_ne!(a.head(), c.head(), "an entry of another term is another");
        let head = a.head();
        a.cut(4, Bytes::new());
        assert_eq!(a.head(), head, "a checkpoint leaves the chain as it was");
    }
}
