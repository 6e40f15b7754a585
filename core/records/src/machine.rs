//! The machine: records are published, received, verified, flooded, forgotten.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde_bytes::ByteBuf;
use skep_base::{Digest, Incarnation, NodeId, Outbox, Rng, Time};

use crate::message::{Entry, MAX_BATCH_BYTES, Message};
use crate::record::{
    Content, MAX_BODY_BYTES, Record, Signatory, Signer, Verifier, Version, kind, peek,
};
use crate::store::{Full, MAX_KINDS_PER_OWNER, Store, Stored, certificates_first};
use crate::sync::Peer;

/// Received records that may wait for verification; more are verified at once.
const MAX_PENDING: usize = 8_192;

/// In large flocks records are gathered for longer while many change: most of what is new then is
/// replaced before it has been everywhere.
const GATHER_PER_OWNER: Duration = Duration::from_micros(50);

/// How records are kept and repaired.
#[derive(Clone, Debug)]
pub struct Config {
    /// Owners not heard for longer are forgotten, and their records refused. 72 h: a long weekend
    /// and a day (floodd's `site-purge-period`).
    pub purge_after: Duration,
    /// How often digests are compared with one neighbour drawn at random, though nothing happened.
    pub repair_every: Duration,
    /// How long new records are gathered before they are verified and sent on, when the last batch
    /// left less than this ago. The first goes at once.
    pub gather_for: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            purge_after: Duration::from_secs(72 * 3600),
            repair_every: Duration::from_secs(60),
            gather_for: Duration::from_millis(10),
        }
    }
}

/// What may happen to the records of a node.
pub enum Input {
    /// A link to `peer` is up: digests are compared. The side with the lower identity begins.
    PeerUp {
        /// Who is there.
        peer: NodeId,
    },
    /// The link to `peer` is gone.
    PeerDown {
        /// Who is gone.
        peer: NodeId,
    },
    /// Whether new records are flooded over the link to `peer`, beside the repair that every link
    /// gets.
    Flood {
        /// Over which link.
        peer: NodeId,
        /// Whether they are.
        on: bool,
    },
    /// A message came.
    Message {
        /// From whom.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// The node announces a fact of its own, or retracts it.
    Publish {
        /// What it is about.
        kind: u16,
        /// How the body is laid out.
        schema: u16,
        /// The fact, at most [`MAX_BODY_BYTES`]; nothing retracts it.
        body: Option<Bytes>,
    },
    /// The certificate was renewed: everything of ours is signed again.
    Renewed {
        /// The new key.
        signer: Arc<dyn Signer>,
    },
    /// From now on the node publishes as this life. Everything of ours that stands is published
    /// again.
    Begin {
        /// On disk already.
        incarnation: Incarnation,
    },
    /// Nothing of ours is published until the next [`Input::Begin`].
    Mute,
    /// Whether `owner` is present, as this node derives it.
    Presence {
        /// Who.
        owner: NodeId,
        /// Whether a present watcher hears it.
        present: bool,
    },
    /// A record from this node's disk, at start.
    Restore {
        /// The record's bytes.
        raw: Bytes,
        /// The owner's age at the last write, plus the wall clock's advance since.
        age: Duration,
    },
}

/// What the records want done.
#[derive(Debug)]
pub enum Output {
    /// Send this to a peer.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// A record is new or newer. Also said of our own.
    Changed {
        /// Whose.
        owner: NodeId,
        /// Which.
        kind: u16,
    },
    /// All records of an owner are forgotten.
    Forgotten {
        /// Whose.
        owner: NodeId,
    },
    /// Keep this on disk.
    Persist {
        /// Whose.
        owner: NodeId,
        /// Which.
        kind: u16,
        /// The record's bytes.
        raw: Bytes,
    },
    /// The first exchange with this peer since its link came up is complete.
    Synced {
        /// With whom.
        peer: NodeId,
    },
    /// A record in our own name came that this life did not make, as new as ours or newer.
    ForeignSelf {
        /// The life that made it.
        incarnation: Incarnation,
        /// Which.
        kind: u16,
        /// The fact.
        body: Bytes,
    },
    /// What a peer sent was refused, and why.
    Reject {
        /// Who sent it.
        from: NodeId,
        /// Why.
        reason: Rejection,
    },
}

/// Why something from a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Rejection {
    /// Not a record.
    #[error("bytes that are not a record")]
    Malformed,
    /// The signature is not its owner's.
    #[error("a record with a wrong signature")]
    Signature,
    /// A certificate whose chain does not end at our CA, or that names somebody else.
    #[error("a record of kind certificate that our CA did not issue to its owner")]
    Certificate,
    /// The certificate that signed it is not known here; the repair brings it.
    #[error("a record signed with a certificate that is not known here")]
    UnknownCertificate,
    /// Its owner has not been heard for longer than the purge age.
    #[error("a record of an owner past the purge age")]
    Purged,
    /// Too many owners already.
    #[error("more owners than the bound allows")]
    TooManyOwners,
    /// Too many kinds of one owner.
    #[error("more kinds of one owner than the bound allows")]
    TooManyKinds,
}

/// Counts since the start.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Signatures checked, certificates included.
    pub verified: u64,
    /// Records that came and were known already.
    pub duplicates: u64,
    /// Records kept.
    pub accepted: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<Rejection, u64>,
}

pub(crate) struct Own {
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) sequence: u64,
    /// What this node wants to say, whether or not it may publish yet.
    pub(crate) facts: BTreeMap<u16, (u16, Option<Bytes>)>,
}

/// A received record that waits to be verified, by who sent it.
struct Pending {
    record: Record,
    last_heard: Time,
}

/// The records of one node.
pub struct Records {
    pub(crate) me: NodeId,
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    verifier: Arc<dyn Verifier>,
    pub(crate) own: Own,
    pub(crate) store: Store,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pending: BTreeMap<(u16, NodeId, u16, NodeId), Pending>,
    last_batch: Option<Time>,
    pub(crate) next_repair: Time,
    next_purge: Time,
    statistics: Statistics,
}

impl Records {
    /// How often the store is searched for owners to forget.
    const PURGE_EVERY: Duration = Duration::from_secs(60);

    /// The records of `me`: none yet. Nothing of its own is published before [`Input::Begin`].
    #[must_use]
    pub fn new(
        me: NodeId,
        config: Config,
        mut rng: Rng,
        now: Time,
        signer: Arc<dyn Signer>,
        verifier: Arc<dyn Verifier>,
    ) -> Self {
        let next_repair = now + rng.jitter(config.repair_every, 0.5);
        Self {
            me,
            rng,
            verifier,
            own: Own { signer, incarnation: None, sequence: 0, facts: BTreeMap::new() },
            store: Store::new(),
            peers: BTreeMap::new(),
            pending: BTreeMap::new(),
            last_batch: None,
            next_repair,
            next_purge: now + Self::PURGE_EVERY,
            statistics: Statistics::default(),
            config,
        }
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::PeerUp { peer } => self.peer_up(peer, out),
            Input::PeerDown { peer } => {
                self.peers.remove(&peer);
            }
            Input::Flood { peer, on } => self.flood_over(peer, on, out),
            Input::Message { from, message } => self.message(now, from, message, out),
            Input::Publish { kind, schema, body } => self.publish(now, kind, schema, body, out),
            Input::Renewed { signer } => {
                self.own.signer = signer;
                self.publish_all(now, out);
            }
            Input::Begin { incarnation } => {
                self.own.incarnation = Some(incarnation);
                self.own.sequence = 0;
                self.publish_all(now, out);
            }
            Input::Mute => self.own.incarnation = None,
            Input::Presence { owner, present } => self.presence(now, owner, present),
            Input::Restore { raw, age } => self.restore(now, raw, age, out),
        }
    }

    /// When [`Records::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let gathered = (!self.pending.is_empty() || self.peers.values().any(Peer::has_news))
            .then(|| (self.batch_due(), "records were gathered"));
        let regular = [
            (self.next_repair, "digests are compared slowly all the time"),
            (self.next_purge, "owners not heard for long are forgotten"),
        ];
        gathered.into_iter().chain(regular).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        if now >= self.batch_due() {
            self.process_batch(now, out);
        }
        if now >= self.next_repair {
            self.next_repair = now + self.rng.jitter(self.config.repair_every, 0.5);
            self.repair_one(out);
        }
        if now >= self.next_purge {
            self.next_purge = now + Self::PURGE_EVERY;
            self.purge(now, out);
        }
    }

    /// Verifies and sends what was gathered, though it is not due.
    pub fn flush(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.process_batch(now, out);
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        self.store.check();
        assert!(self.pending.len() <= MAX_PENDING, "too many records wait for verification");
        for kind in self.own.facts.keys() {
            let stored = self.store.version(self.me, *kind);
            if let (Some(incarnation), Some(version)) = (self.own.incarnation, stored) {
                assert!(
                    version.incarnation == incarnation && version.sequence <= self.own.sequence,
                    "our record of kind {kind} is not of this life"
                );
            }
        }
    }

    /// One record.
    #[must_use]
    pub fn get(&self, owner: NodeId, kind: u16) -> Option<&Stored> {
        self.store.get(owner, kind)
    }

    /// All records of a kind, by owner, retracted ones left out.
    pub fn of_kind(&self, kind: u16) -> impl Iterator<Item = (NodeId, &Stored)> + '_ {
        self.store.owners.iter().filter_map(move |(id, owner)| {
            let stored = owner.records.get(&kind).filter(|stored| !stored.retracted)?;
            Some((*id, stored))
        })
    }

    /// All records, for listing and for the reference model.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u16, &Stored)> + '_ {
        self.store
            .owners
            .iter()
            .flat_map(|(id, owner)| owner.records.iter().map(|(kind, stored)| (*id, *kind, stored)))
    }

    /// One number over everything held, and how many records that is.
    #[must_use]
    pub fn digest(&self) -> (u64, u32) {
        self.store.root()
    }

    /// How long ago a present watcher last heard `owner`.
    #[must_use]
    pub fn age(&self, owner: NodeId, now: Time) -> Duration {
        self.store.age(owner, now)
    }

    /// Counts since the start.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn batch_due(&self) -> Time {
        let owners = u32::try_from(self.store.owners.len()).unwrap_or(u32::MAX);
        let gather = self.config.gather_for.max(GATHER_PER_OWNER * owners);
        self.last_batch.map_or(Time::ZERO, |last| last + gather)
    }

    // Publishing.

    fn publish(
        &mut self,
        now: Time,
        kind: u16,
        schema: u16,
        body: Option<Bytes>,
        out: &mut Outbox<Output>,
    ) {
        debug_assert!(body.as_ref().is_none_or(|body| body.len() <= MAX_BODY_BYTES));
        let unchanged = self.own.facts.get(&kind) == Some(&(schema, body.clone()));
        self.own.facts.insert(kind, (schema, body));
        if !unchanged && self.own.incarnation.is_some() {
            self.publish_fact(now, kind, out);
            self.flush_if_due(now, out);
        }
    }

    fn publish_all(&mut self, now: Time, out: &mut Outbox<Output>) {
        let certificate = self.own.signer.certificate();
        self.own.facts.insert(kind::CERTIFICATE, (1, Some(certificate)));
        if self.own.incarnation.is_none() {
            return;
        }
        let mut kinds: Vec<u16> = self.own.facts.keys().copied().collect();
        kinds.sort_by_key(|kind| certificates_first(*kind));
        for kind in kinds {
            self.publish_fact(now, kind, out);
        }
        self.flush_if_due(now, out);
    }

    fn publish_fact(&mut self, now: Time, kind: u16, out: &mut Outbox<Output>) {
        let (Some(incarnation), Some((schema, body))) =
            (self.own.incarnation, self.own.facts.get(&kind))
        else {
            return;
        };
        self.own.sequence += 1;
        let certificate = self.own.signer.certificate();
        let content = Content {
            owner: self.me,
            kind,
            schema: *schema,
            version: Version { incarnation, sequence: self.own.sequence },
            signer: Digest::of(&certificate),
            retracted: body.is_none(),
            body: ByteBuf::from(body.as_deref().unwrap_or_default()),
        };
        let record = Record::sign(content, &*self.own.signer);
        let signatory =
            (kind == kind::CERTIFICATE).then(|| self.verifier.certificate(&certificate)).flatten();
        if self.store.insert(&record, signatory, now).is_ok() {
            self.keep(None, &record, out);
        }
    }

    /// A record was stored: the disk, the composer and the neighbours hear of it.
    fn keep(&mut self, from: Option<NodeId>, record: &Record, out: &mut Outbox<Output>) {
        let Content { owner, kind, .. } = record.content;
        out.push(Output::Persist { owner, kind, raw: record.raw().clone() });
        out.push(Output::Changed { owner, kind });
        for (peer, state) in &mut self.peers {
            if state.floods() && Some(*peer) != from {
                state.queue(owner, kind);
            }
        }
    }

    // Receiving.

    /// Puts received entries aside for the next batch, newest version per sender.
    pub(crate) fn receive(
        &mut self,
        now: Time,
        from: NodeId,
        entries: Vec<Entry>,
        out: &mut Outbox<Output>,
    ) {
        for entry in entries {
            let age = Duration::from_millis(entry.age_ms);
            if age <= self.config.purge_after
                && let Some((owner, kind, version)) = peek(&entry.raw)
                && self.store.version(owner, kind).is_some_and(|known| known >= version)
            {
                self.duplicate(from, owner, kind, version);
                self.younger(now, owner, age);
                continue;
            }
            let Ok(record) = Record::parse(Bytes::from(entry.raw.into_vec())) else {
                self.reject(from, Rejection::Malformed, out);
                continue;
            };
            self.accept_for_batch(now, from, record, age, out);
        }
        self.flush_if_due(now, out);
    }

    fn accept_for_batch(
        &mut self,
        now: Time,
        from: NodeId,
        record: Record,
        age: Duration,
        out: &mut Outbox<Output>,
    ) {
        let Content { owner, kind, version, .. } = record.content;
        if age > self.config.purge_after {
            return self.reject(from, Rejection::Purged, out);
        }
        let key = (certificates_first(kind), owner, kind, from);
        let newest =
            self.pending.get(&key).is_none_or(|waiting| waiting.record.version() < version);
        if newest {
            let last_heard = now - age;
            self.pending.insert(key, Pending { record, last_heard });
        }
        if self.pending.len() >= MAX_PENDING {
            self.process_batch(now, out);
        }
    }

    /// A known record came. Whoever sent the version that is about to be sent to it has it.
    fn duplicate(&mut self, from: NodeId, owner: NodeId, kind: u16, version: Version) {
        self.statistics.duplicates += 1;
        if self.store.version(owner, kind) == Some(version)
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.has(owner, kind);
        }
    }

    /// A known record came with an age: the minimum wins.
    fn younger(&mut self, now: Time, owner: NodeId, age: Duration) {
        if let Some(owner) = self.store.owners.get_mut(&owner) {
            owner.last_heard = owner.last_heard.max(now - age);
        }
    }

    pub(crate) fn flush_if_due(&mut self, now: Time, out: &mut Outbox<Output>) {
        if now >= self.batch_due() {
            self.process_batch(now, out);
        }
    }

    pub(crate) fn process_batch(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.pending.is_empty() && !self.peers.values().any(Peer::has_news) {
            return;
        }
        self.last_batch = Some(now);
        let pending = core::mem::take(&mut self.pending);
        for ((_, owner, kind, from), Pending { record, last_heard }) in pending {
            // A batch may hold one version from several peers: the first that verifies is enough.
            if self.store.version(owner, kind).is_some_and(|known| known >= record.version()) {
                self.duplicate(from, owner, kind, record.version());
                continue;
            }
            self.verify_and_keep(now, from, &record, last_heard, out);
        }
        self.send_news(now, out);
    }

    fn verify_and_keep(
        &mut self,
        now: Time,
        from: NodeId,
        record: &Record,
        last_heard: Time,
        out: &mut Outbox<Output>,
    ) {
        if let Err(reason) = self.verify(record) {
            return self.reject(from, reason, out);
        }
        if record.content.owner == self.me {
            return self.foreign_self(now, record, out);
        }
        let signatory = self.own_signatory(record);
        match self.store.insert(record, signatory, last_heard) {
            Ok(()) => {
                self.statistics.accepted += 1;
                self.keep(Some(from), record, out);
            }
            Err(Full::Owners) => self.reject(from, Rejection::TooManyOwners, out),
            Err(Full::Kinds) => self.reject(from, Rejection::TooManyKinds, out),
        }
    }

    /// A record of ours that this life did not make. What an earlier life said and this one does
    /// not is taken back, or it would be repaired to and fro for ever.
    fn foreign_self(&mut self, now: Time, record: &Record, out: &mut Outbox<Output>) {
        let Content { kind, version, .. } = record.content;
        if self.own.incarnation.is_some_and(|ours| ours > version.incarnation) {
            if !self.own.facts.contains_key(&kind) && self.own.facts.len() < MAX_KINDS_PER_OWNER {
                self.own.facts.insert(kind, (record.content.schema, None));
                self.publish_fact(now, kind, out);
            }
        } else {
            let body = Bytes::copy_from_slice(&record.content.body);
            out.push(Output::ForeignSelf { incarnation: version.incarnation, kind, body });
        }
    }

    fn verify(&mut self, record: &Record) -> Result<(), Rejection> {
        let content = &record.content;
        let signatory = if content.kind == kind::CERTIFICATE {
            self.statistics.verified += 1;
            self.own_signatory(record).ok_or(Rejection::Certificate)?
        } else {
            self.store
                .signatory(content.owner, &content.signer)
                .ok_or(Rejection::UnknownCertificate)?
        };
        self.statistics.verified += 1;
        record.verify(&signatory, &*self.verifier).then_some(()).ok_or(Rejection::Signature)
    }

    /// Whom a certificate record names, when it is its owner and the hash is right. A certificate
    /// that was verified once is remembered by its hash.
    fn own_signatory(&self, record: &Record) -> Option<Signatory> {
        let content = &record.content;
        if content.kind != kind::CERTIFICATE || content.retracted {
            return None;
        }
        if let Some(known) = self.store.signatory(content.owner, &content.signer) {
            return Some(known);
        }
        (Digest::of(&content.body) == content.signer)
            .then(|| self.verifier.certificate(&content.body))
            .flatten()
            .filter(|signatory| signatory.node == content.owner)
    }

    fn reject(&mut self, from: NodeId, reason: Rejection, out: &mut Outbox<Output>) {
        *self.statistics.rejected.entry(reason).or_default() += 1;
        out.push(Output::Reject { from, reason });
    }

    /// Sends each flood link what was queued for it, in batches, certificates first.
    fn send_news(&mut self, now: Time, out: &mut Outbox<Output>) {
        let peers: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.has_news()).map(|(id, _)| *id).collect();
        for to in peers {
            let wanted = self.peers.get_mut(&to).map(Peer::take_news).unwrap_or_default();
            self.send_records(now, to, wanted.into_iter(), None, out);
        }
    }

    /// Sends the records named, in frames of at most [`MAX_BATCH_BYTES`]. With `done`, the last
    /// frame is sent even when empty and carries that flag.
    pub(crate) fn send_records(
        &self,
        now: Time,
        to: NodeId,
        wanted: impl Iterator<Item = (NodeId, u16)>,
        done: Option<bool>,
        out: &mut Outbox<Output>,
    ) {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (owner, kind) in wanted {
            let Some(stored) = self.store.get(owner, kind) else {
                continue;
            };
            let age = self.store.age(owner, now);
            if age > self.config.purge_after {
                continue;
            }
            if bytes + stored.raw.len() > MAX_BATCH_BYTES {
                let entries = core::mem::take(&mut entries);
                out.push(Output::Send { to, message: Message::Records { entries, done: false } });
                bytes = 0;
            }
            // Room for the age and the length besides the record.
            bytes += stored.raw.len() + 16;
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            entries.push(Entry { age_ms, raw: ByteBuf::from(stored.raw.to_vec()) });
        }
        if !entries.is_empty() || done.is_some() {
            let done = done.unwrap_or(false);
            out.push(Output::Send { to, message: Message::Records { entries, done } });
        }
    }

    // Age.

    fn presence(&mut self, now: Time, owner: NodeId, present: bool) {
        if let Some(owner) = self.store.owners.get_mut(&owner) {
            if owner.present || present {
                owner.last_heard = now;
            }
            owner.present = present;
        }
    }

    fn purge(&mut self, now: Time, out: &mut Outbox<Output>) {
        let old: Vec<NodeId> = self
            .store
            .owners
            .keys()
            .filter(|id| **id != self.me && self.store.age(**id, now) > self.config.purge_after)
            .copied()
            .collect();
        for owner in old {
            self.store.remove(owner);
            out.push(Output::Forgotten { owner });
        }
    }

    /// Takes a record from this node's own disk. What no longer verifies is left out: another CA
    /// may have been laid on the disk since.
    fn restore(&mut self, now: Time, raw: Bytes, age: Duration, out: &mut Outbox<Output>) {
        let Ok(record) = Record::parse(raw) else {
            return self.reject(self.me, Rejection::Malformed, out);
        };
        let content = &record.content;
        if age > self.config.purge_after && content.owner != self.me {
            return out.push(Output::Forgotten { owner: content.owner });
        }
        if content.owner == self.me {
            // Facts of an earlier life that still stand are said again by the next one.
            if content.kind > kind::WATCH && !content.retracted {
                let body = Bytes::copy_from_slice(&content.body);
                self.own.facts.entry(content.kind).or_insert((content.schema, Some(body)));
            }
            return;
        }
        if let Err(reason) = self.verify(&record) {
            return self.reject(self.me, reason, out);
        }
        let signatory = self.own_signatory(&record);
        if self.store.insert(&record, signatory, now - age).is_ok() {
            let Content { owner, kind, .. } = record.content;
            out.push(Output::Changed { owner, kind });
        }
    }
}
