//! The machine: its state, and which handler an input goes to.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{Incarnation, NodeId, Outbox, Rng, Time};

use crate::message::Message;
use crate::receive::{MAX_PENDING, Pending};
use crate::record::{Signer, Verifier};
use crate::store::{Store, Stored};
use crate::sync::Peer;

/// In large flocks records are gathered for longer while many change: most of what is new then is
/// replaced before it has been everywhere.
const GATHER_PER_OWNER: Duration = Duration::from_micros(50);

/// The more a batch held the longer the next one gathers: while many records come, each frame and
/// each version of a record that is never sent saves every node of the flock some work.
const GATHER_PER_KEPT: Duration = Duration::from_millis(5);
/// But no longer than this on that account: a flock is some four such waits across.
const GATHER_AT_MOST: Duration = Duration::from_millis(50);

/// After a calm what others say is passed on this much later: by then most neighbours have sent it
/// themselves, and need not be sent it.
const RELAY_WAIT: Duration = Duration::from_millis(2);

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
        /// The fact, at most [`crate::MAX_BODY_BYTES`]; nothing retracts it.
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
    /// Signatures checked, those of certificates' issuers included.
    pub verified: u64,
    /// Of these, chains of certificates that were not known by their hash.
    pub certificates: u64,
    /// Records that came, known or not.
    pub received: u64,
    /// Records sent.
    pub sent: u64,
    /// Records of our own published.
    pub published: u64,
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

/// The records of one node.
pub struct Records {
    pub(crate) me: NodeId,
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) own: Own,
    pub(crate) store: Store,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) pending: Pending,
    pub(crate) last_batch: Option<Time>,
    /// Records that the last batch kept.
    pub(crate) last_kept: u32,
    /// An exchange with somebody was completed.
    pub(crate) synced_once: bool,
    /// Before then no comparison begins.
    pub(crate) next_comparison: Time,
    /// When the first comparison is due that waits for that.
    pub(crate) first_comparison: Option<Time>,
    /// Some peer may have news waiting for it.
    pub(crate) has_news: bool,
    pub(crate) next_repair: Time,
    next_purge: Time,
    pub(crate) statistics: Statistics,
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
            pending: Pending::default(),
            last_batch: None,
            last_kept: 0,
            synced_once: false,
            next_comparison: Time::ZERO,
            first_comparison: None,
            has_news: false,
            next_repair,
            next_purge: now + Self::PURGE_EVERY,
            statistics: Statistics::default(),
            config,
        }
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::PeerUp { peer } => self.peer_up(now, peer, out),
            Input::PeerDown { peer } => {
                self.peers.remove(&peer);
            }
            Input::Flood { peer, on } => self.flood_over(now, peer, on, out),
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
        let gathered = (!self.pending.is_empty() || self.has_news)
            .then(|| (self.batch_due(), "records were gathered"));
        let regular = [
            (self.next_repair, "digests are compared slowly all the time"),
            (self.next_purge, "owners not heard for long are forgotten"),
        ];
        let compared = self.first_comparison.map(|at| (at, "digests are compared on a new link"));
        gathered.into_iter().chain(compared).chain(regular).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        if now >= self.batch_due() {
            self.process_batch(now, out);
        }
        self.compare(now, out);
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

    /// Whether this node says something of that kind, or will as soon as its life begins.
    #[must_use]
    pub fn says(&self, kind: u16) -> bool {
        self.own.facts.get(&kind).is_some_and(|(_, body)| body.is_some())
    }

    /// One record.
    #[must_use]
    pub fn get(&self, owner: NodeId, kind: u16) -> Option<&Stored> {
        self.store.get(owner, kind)
    }

    /// All records of a kind, by owner, retracted ones left out.
    pub fn of_kind(&self, kind: u16) -> impl Iterator<Item = (NodeId, &Stored)> + '_ {
        self.store.owners.iter().filter_map(move |(id, owner)| {
            let stored = owner.get(kind).filter(|stored| !stored.retracted)?;
            Some((*id, stored))
        })
    }

    /// All records, for listing and for the reference model.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u16, &Stored)> + '_ {
        self.store
            .owners
            .iter()
            .flat_map(|(id, owner)| owner.records().map(|(kind, stored)| (*id, kind, stored)))
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

    pub(crate) fn batch_due(&self) -> Time {
        let owners = u32::try_from(self.store.owners.len()).unwrap_or(u32::MAX);
        let busy = (GATHER_PER_KEPT * self.last_kept).min(GATHER_AT_MOST);
        let gather = self.config.gather_for.max(GATHER_PER_OWNER * owners).max(busy);
        let gathered = self.last_batch.map_or(Time::ZERO, |last| last + gather);
        match self.pending.since() {
            Some(since) if !self.has_news => gathered.max(since + RELAY_WAIT),
            _ => gathered,
        }
    }
}
