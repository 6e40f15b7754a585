//! The catalog of one node, kept like everybody's.
//!
//! A manager's is *fed*: the managers' log says what happens to it. Everybody else's *follows*: it
//! takes over what neighbours have, and shows it once the root is the one that a master signed.
//! What does not match yet is kept as a draft, which the next answer completes; so a node that
//! comes back after a week catches up also while entries change all the time.
//!
//! Small changes are pushed from neighbour to neighbour as a [`Delta`], once the head that signs
//! them is known; whoever cannot use one is told where the sender stands and asks. An idle replica
//! sends nothing.

mod message;
mod serve;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, NodeId, Outbox, Time};

use crate::catalog::{Catalog, Origin, Outcome, Refusal, Slots};
use crate::context::Dot;
use crate::key::Key;
use crate::slot::Stamp;

pub use message::{Delta, Give, Head, MAX_DELTA_BYTES, MAX_GIVE_BYTES, Message, Tell, Want};

/// Deltas that wait for the head that signs them. One a neighbour is usual.
const MAX_PENDING: usize = 16;
/// Entries that may change between two heads before they are told of and no longer sent.
const MAX_DELTA_KEYS: usize = 256;

/// The timers of a replica.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Between two heads of one master: each is a signature, and a record that all nodes get.
    pub publish_every: Duration,
    /// How long a neighbour may take to answer before another is asked.
    pub answer_within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { publish_every: Duration::from_millis(50), answer_within: Duration::from_secs(2) }
    }
}

/// What feeds a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody here: it follows the heads of masters.
    Host,
    /// The managers' log.
    Backup,
    /// The managers' log, and this node signs heads.
    Master {
        /// Of which flock.
        lineage: u64,
        /// Under which mastership.
        stamp: Stamp,
    },
}

/// What may happen to a replica.
#[derive(Debug)]
pub enum Input {
    /// These are the neighbours now.
    Neighbours(BTreeSet<NodeId>),
    /// What this node is has changed.
    Place(Place),
    /// A node that may be a master signed this.
    Head {
        /// Who.
        owner: NodeId,
        /// What.
        head: Head,
    },
    /// The managers' log says that this happens.
    Committed {
        /// Its place in the log.
        at: Dot,
        /// What it is.
        origin: Origin,
        /// It; nothing where the log's entry is about something else.
        command: Option<Bytes>,
    },
    /// The managers' log begins with this catalog.
    Installed(Catalog),
    /// A message came.
    Message {
        /// From whom.
        from: NodeId,
        /// What.
        body: Bytes,
    },
}

/// What a replica wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        body: Bytes,
    },
    /// Sign this, as a record of this node.
    Publish(Head),
    /// The catalog that is shown has changed, or stands somewhere else.
    Changed {
        /// Which entries say something else.
        keys: Vec<Key>,
    },
    /// Entries that another flock handed over are not taken over: they are in its log alone.
    NotTaken {
        /// Why not.
        why: Refusal,
    },
    /// What came of a command of the managers' log.
    Decided {
        /// Which.
        index: u64,
        /// What.
        outcome: Outcome,
    },
    /// Somebody has seen an epoch that is higher than any seen here.
    Epoch(u64),
    /// Somebody said something that is refused.
    Reject {
        /// Who.
        from: NodeId,
        /// Why.
        reason: String,
    },
}

/// How fresh what is shown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The newest head that is known, and who signed it.
    pub head: Option<(NodeId, Head)>,
    /// How long it has been known.
    pub known_for: Duration,
    /// Whether what is shown is what it signs, or newer.
    pub current: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Replica {
    id: NodeId,
    config: Config,
    /// What is shown.
    catalog: Catalog,
    /// On the way to the newest head.
    draft: Option<Catalog>,
    place: Place,
    head: Option<(NodeId, Head, Time)>,
    /// The highest epoch of any master.
    seen: u64,
    /// Neighbours, and where each said that it stands.
    peers: BTreeMap<NodeId, Option<Digest>>,
    pending: Vec<(NodeId, Delta)>,
    /// Who is asked, up to where he told, and until when he may answer.
    pull: Option<(NodeId, Option<Key>, Time)>,
    /// Who was asked in vain, and has said nothing new since.
    tried: BTreeSet<NodeId>,
    /// When they are asked once more, as nobody else is left.
    again: Option<Time>,
    /// When this node may sign the next head, and what the last one signed.
    publish_at: Time,
    published: Option<Head>,
    /// The root of what neighbours were told last, and what changed since; nothing where that is
    /// too much.
    told: Digest,
    news: Option<BTreeSet<Key>>,
}

impl Replica {
    /// The replica of node `id`, with what its disk held.
    #[must_use]
    pub fn new(id: NodeId, config: Config, catalog: Catalog) -> Self {
        Self {
            id,
            config,
            seen: catalog.stamp().epoch,
            told: catalog.root(),
            catalog,
            draft: None,
            place: Place::Host,
            head: None,
            peers: BTreeMap::new(),
            pending: Vec::new(),
            pull: None,
            tried: BTreeSet::new(),
            again: None,
            publish_at: Time::ZERO,
            published: None,
            news: Some(BTreeSet::new()),
        }
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Neighbours(peers) => self.neighbours(peers, out),
            Input::Place(place) => self.placed(now, place, out),
            Input::Head { owner, head } => self.headed(now, owner, head, out),
            Input::Committed { at, origin, command } => {
                self.committed(now, at, origin, command, out);
            }
            Input::Installed(catalog) => self.installed(now, catalog, out),
            Input::Message { from, body } => match Message::from_body(&body) {
                Ok(message) => self.message(now, from, message, out),
                Err(error) => {
                    let reason = alloc::format!("{error}");
                    out.push(Output::Reject { from, reason });
                }
            },
        }
    }

    /// When [`Replica::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let publish = self.unsaid().map(|_| (self.publish_at, "sign the catalog"));
        let pull = self.pull.as_ref().map(|(_, _, until)| (*until, "catalog asked for in vain"));
        let again = self.again.map(|at| (at, "catalog to be asked for again"));
        [publish, pull, again].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        if now >= self.publish_at
            && let Some(head) = self.to_publish()
        {
            self.publish_at = now + self.config.publish_every;
            self.published = Some(head);
            self.see(head.stamp.epoch, out);
            self.head = Some((self.id, head, now));
            out.push(Output::Publish(head));
            self.tell_news(out);
        }
        if let Some((peer, _, until)) = &self.pull
            && now >= *until
        {
            let peer = *peer;
            self.asked_in_vain(now, peer, out);
        }
        if self.again.is_some_and(|at| now >= at) {
            self.again = None;
            self.tried.clear();
            self.follow(now, out);
        }
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        self.catalog.check();
        assert!(self.pending.len() <= MAX_PENDING, "deltas pile up");
        assert!(self.seen >= self.catalog.stamp().epoch, "an epoch was shown and not seen");
        if self.place != Place::Host {
            assert!(self.pull.is_none() && self.draft.is_none(), "a manager asks hosts");
            assert!(self.again.is_none(), "a manager wants to ask hosts");
        }
    }

    /// What is shown.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What feeds it.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// The highest epoch that any master is known to have had.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// How fresh what is shown is.
    #[must_use]
    pub fn freshness(&self, now: Time) -> Freshness {
        let head = self.head.map(|(owner, head, _)| (owner, head));
        let known_for = self.head.map_or(Duration::ZERO, |(_, _, since)| now.since(since));
        // A manager knows the place and the stamp of what it applied last: of a mastership under
        // which nothing was decided yet it knows neither.
        let ahead =
            |head: &Head| self.catalog.stamp() == head.stamp && self.catalog.index() >= head.index;
        let reached = |head: &Head| self.catalog.root() == head.root || ahead(head);
        let current = head.as_ref().is_some_and(|(_, head)| reached(head));
        Freshness { head, known_for, current }
    }

    fn neighbours(&mut self, peers: BTreeSet<NodeId>, out: &mut Outbox<Output>) {
        self.peers.retain(|peer, _| peers.contains(peer));
        self.tried.retain(|peer| peers.contains(peer));
        if self.pull.as_ref().is_some_and(|(peer, _, _)| !peers.contains(peer)) {
            // The next one is asked when the deadline has passed, or when another tells.
            self.pull = self.pull.take().map(|(peer, after, _)| (peer, after, Time::ZERO));
        }
        for peer in peers {
            if self.peers.contains_key(&peer) || peer == self.id {
                continue;
            }
            self.peers.insert(peer, None);
            if self.seen > 0 || !self.catalog.is_empty() {
                self.send(peer, &Message::Tell(self.stand()), out);
            }
        }
    }

    fn placed(&mut self, now: Time, place: Place, out: &mut Outbox<Output>) {
        if place == self.place {
            return;
        }
        self.place = place;
        if let Place::Master { stamp, .. } = place {
            self.see(stamp.epoch, out);
        }
        if place == Place::Host {
            self.follow(now, out);
        } else {
            self.asks_nobody();
            self.pending.clear();
        }
    }

    /// Somebody who may be a master says where the catalog stands.
    fn headed(&mut self, now: Time, owner: NodeId, head: Head, out: &mut Outbox<Output>) {
        if owner == self.id {
            return;
        }
        if let Err(reason) = self.judge(&head) {
            if let Some(reason) = reason {
                out.push(Output::Reject { from: owner, reason: reason.into() });
            }
            return;
        }
        self.see(head.stamp.epoch, out);
        self.head = Some((owner, head, now));
        self.tell_as_backup(out);
        self.follow(now, out);
    }

    /// Why a head is not followed; nothing to say of one that is merely old.
    fn judge(&self, head: &Head) -> Result<(), Option<&'static str>> {
        let known = self.head.map_or(self.catalog.stamp(), |(_, known, _)| known.stamp);
        let newest = known.max(self.catalog.stamp());
        if head.stamp.epoch > self.seen.saturating_add(Stamp::MAX_JUMP) {
            return Err(Some("a catalog of an epoch that is far beyond any that was seen"));
        }
        if head.stamp.epoch < newest.epoch {
            return Err(None);
        }
        let other = head.stamp.epoch == newest.epoch && head.stamp.fork != newest.fork;
        if other && newest.epoch > 0 && !self.nothing_known() {
            // Two flocks that formed apart: one of them gets a higher epoch when they merge.
            return Err(None);
        }
        let older = self
            .head
            .is_some_and(|(_, known, _)| known.stamp == head.stamp && head.index <= known.index);
        if older { Err(None) } else { Ok(()) }
    }

    /// Whether all that is known is an empty catalog: of a flock that ended before it decided
    /// anything nothing merges, and nobody's epoch grows.
    fn nothing_known(&self) -> bool {
        let shown = self.catalog.root();
        let follows = self.place == Place::Host && self.catalog.is_empty();
        follows && self.head.is_none_or(|(_, known, _)| known.root == shown)
    }

    fn see(&mut self, epoch: u64, out: &mut Outbox<Output>) {
        if epoch > self.seen {
            self.seen = epoch;
            out.push(Output::Epoch(epoch));
        }
    }

    fn committed(
        &mut self,
        now: Time,
        at: Dot,
        origin: Origin,
        command: Option<Bytes>,
        out: &mut Outbox<Output>,
    ) {
        if self.place == Place::Host {
            return;
        }
        self.see(at.stamp.epoch, out);
        let Some(command) = command else {
            self.catalog.pass(at.index, at.stamp);
            return self.tell_as_backup(out);
        };
        let outcome = self.catalog.apply(at, origin, &command);
        if let Outcome::Applied { changed } = &outcome {
            self.note_news(changed);
            out.push(Output::Changed { keys: changed.clone() });
        }
        if let (Origin::Foreign, Outcome::Refused(why)) = (origin, &outcome) {
            out.push(Output::NotTaken { why: why.clone() });
        }
        out.push(Output::Decided { index: at.index, outcome });
        self.tell_as_backup(out);
        if now >= self.publish_at {
            self.tick(now, out);
        }
    }

    fn installed(&mut self, now: Time, catalog: Catalog, out: &mut Outbox<Output>) {
        let keys = self.catalog.differing(&catalog);
        self.see(catalog.stamp().epoch, out);
        self.catalog = catalog;
        self.news = None;
        self.asks_nobody();
        out.push(Output::Changed { keys: keys.into_iter().collect() });
        if self.place == Place::Host {
            self.follow(now, out);
        }
    }

    /// Under which lineage and stamp there is something new to sign, if this node signs.
    fn unsaid(&self) -> Option<(u64, Stamp)> {
        let Place::Master { lineage, stamp } = self.place else { return None };
        let new = self.published.is_none_or(|last| {
            last.lineage != lineage || last.stamp != stamp || last.index != self.catalog.index()
        });
        new.then_some((lineage, stamp))
    }

    fn to_publish(&self) -> Option<Head> {
        let (lineage, stamp) = self.unsaid()?;
        let (index, root) = (self.catalog.index(), self.catalog.root());
        Some(Head { lineage, stamp, index, root })
    }

    /// A backup has what the master signs: its neighbours may get it from here.
    fn tell_as_backup(&mut self, out: &mut Outbox<Output>) {
        let Some((_, head, _)) = self.head else { return };
        let there = self.catalog.index() == head.index && self.catalog.root() == head.root;
        if self.place == Place::Backup && there {
            self.tell_news(out);
        }
    }

    /// Goes on towards the newest head, if this node follows heads.
    fn follow(&mut self, now: Time, out: &mut Outbox<Output>) {
        let Some((owner, head, _)) = self.head else { return };
        if self.place != Place::Host || self.reached(head, out) {
            return;
        }
        while let Some(at) = self.pending.iter().position(|(_, delta)| self.fits(delta)) {
            let (from, delta) = self.pending.swap_remove(at);
            self.use_delta(from, delta, out);
            if self.reached(head, out) {
                return;
            }
        }
        if self.pull.is_some() {
            return;
        }
        let has = |peer: &NodeId| self.peers.get(peer).is_some_and(|told| *told == Some(head.root));
        let asks = |peer: &NodeId| has(peer) && !self.tried.contains(peer);
        let anybody = self.peers.keys().copied().find(|peer| asks(peer));
        if let Some(peer) = Some(owner).filter(|peer| asks(peer)).or(anybody) {
            self.again = None;
            self.ask(now, peer, None, out);
        } else if self.again.is_none() && self.tried.iter().any(has) {
            // What they were asked, or what they answered, was lost on the way. They will not say
            // anew what they said: an idle catalog sends nothing.
            self.again = Some(now + self.config.answer_within);
        }
    }

    /// A neighbour did not answer, or not with what it had said that it has: until it says
    /// something new, or nobody else is left, others are asked.
    fn asked_in_vain(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        self.pull = None;
        if self.peers.contains_key(&peer) {
            self.tried.insert(peer);
        }
        self.follow(now, out);
    }

    fn asks_nobody(&mut self) {
        (self.pull, self.draft, self.again) = (None, None, None);
        self.tried.clear();
    }

    /// Whether what is shown, or the draft, is what `head` signs; shows it then.
    fn reached(&mut self, head: Head, out: &mut Outbox<Output>) -> bool {
        let mut keys = Vec::new();
        if self.catalog.root() != head.root {
            let Some(draft) = self.draft.take_if(|draft| draft.root() == head.root) else {
                return false;
            };
            keys.extend(self.catalog.differing(&draft));
            self.catalog = draft;
        }
        self.asks_nobody();
        self.pending.retain(|(_, delta)| delta.from == head.root);
        if (self.catalog.index(), self.catalog.stamp()) == (head.index, head.stamp) {
            return true;
        }
        self.catalog.set_place(head.index, head.stamp);
        self.note_news(&keys);
        out.push(Output::Changed { keys });
        self.tell_news(out);
        true
    }

    fn fits(&self, delta: &Delta) -> bool {
        let root = self.draft.as_ref().map_or_else(|| self.catalog.root(), Catalog::root);
        root == delta.from
    }

    /// Makes a draft of what a delta leads to.
    fn use_delta(&mut self, from: NodeId, delta: Delta, out: &mut Outbox<Output>) {
        let draft = self.draft.get_or_insert_with(|| self.catalog.clone());
        let led = draft.exchange(delta.slots);
        if !led.is_ok_and(|before| draft.root() == delta.to || undo(draft, before)) {
            let reason = "entries that do not lead to the catalog that they were said to".into();
            out.push(Output::Reject { from, reason });
        }
    }

    fn note_news(&mut self, keys: &[Key]) {
        if let Some(news) = &mut self.news {
            news.extend(keys.iter().cloned());
            if news.len() > MAX_DELTA_KEYS {
                self.news = None;
            }
        }
    }

    /// Tells the neighbours what changed since they were told last, or only that something did.
    fn tell_news(&mut self, out: &mut Outbox<Output>) {
        let (from, to) = (self.told, self.catalog.root());
        self.told = to;
        let news = self.news.replace(BTreeSet::new());
        let slots = news.filter(|_| from != to).map(|keys| self.slots_of(keys));
        let delta = slots.filter(|slots| bytes_of(slots) <= MAX_DELTA_BYTES);
        let tell = Message::Tell(self.stand());
        let delta = delta.map(|slots| Message::Delta(Delta { from, to, slots }));
        let peers: Vec<(NodeId, bool)> =
            self.peers.iter().map(|(peer, told)| (*peer, *told == Some(to))).collect();
        for (peer, has_it) in peers {
            if let Some(delta) = delta.as_ref().filter(|_| !has_it) {
                self.send(peer, delta, out);
            }
            self.send(peer, &tell, out);
        }
    }

    fn slots_of(&self, keys: BTreeSet<Key>) -> Slots {
        let slot = |key: Key| {
            let slot = self.catalog.slot(&key).cloned();
            (key, slot)
        };
        keys.into_iter().map(slot).collect()
    }

    fn stand(&self) -> Tell {
        Tell { root: self.catalog.root(), index: self.catalog.index(), seen: self.seen }
    }

    fn send(&self, to: NodeId, message: &Message, out: &mut Outbox<Output>) {
        out.push(Output::Send { to, body: message.to_body().into() });
    }
}

/// Takes back what led nowhere; says that it did not.
fn undo(draft: &mut Catalog, before: Slots) -> bool {
    // What was there before was within its bounds.
    drop(draft.exchange(before));
    false
}

fn bytes_of(slots: &Slots) -> usize {
    let bytes = |(key, slot): &(Key, Option<crate::slot::Slot>)| {
        slot.as_ref().map_or(key.name().len(), |slot| slot.bytes(key)) + crate::slot::OVERHEAD
    };
    slots.iter().map(bytes).sum()
}
