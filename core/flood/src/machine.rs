//! The machine: its state, and which handler takes which input.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, Incarnation, NodeId, Outbox, Rng, Time};

use crate::branch::Branches;
use crate::cache::Cache;
use crate::config::Config;
use crate::cursor::{Batch, Cursor};
use crate::event::{
    CursorName, Input, LogEntry, Missed, Output, PublishToken, PurgedMark, ReadToken, Rejection,
};
use crate::group::Group;
use crate::held::Held;
use crate::id::{Position, UpdateId};
use crate::index::Index;
use crate::large::Want;
use crate::life::GroupIx;
use crate::message::{Message, Packet};
use crate::note::Note;
use crate::pull::Pull;
use crate::room::Unread;
use crate::rumour::Rumours;
use crate::serve::Serving;
use crate::stats::Stats;

/// How often what is over its age is looked for, unless the purge age is short.
const PURGE_PERIOD: Duration = Duration::from_secs(60);

/// The updates of one node's groups: what it has, what it lacks, and who should get it.
#[derive(Debug)]
pub struct Flood {
    pub(crate) me: NodeId,
    /// The life under which it publishes, once it has begun.
    pub(crate) incarnation: Incarnation,
    pub(crate) begun: bool,
    /// The last sequence used in this life.
    pub(crate) sequence: u64,
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) stats: Stats,

    pub(crate) groups: BTreeMap<GroupName, Group>,
    pub(crate) names: BTreeMap<GroupIx, GroupName>,
    next_group: u32,
    pub(crate) index: Index,
    pub(crate) cache: Cache,

    /// Goes to the log at the next flush.
    pub(crate) appending: Vec<LogEntry>,
    /// Whether a publisher waits for something in `appending`.
    pub(crate) sync: bool,
    /// Everything below is written.
    pub(crate) written: Position,
    /// The log was told that it may forget everything below.
    pub(crate) purged_below: Position,
    /// Large updates whose announcement waits until they can be read back.
    pub(crate) unannounced: VecDeque<(Position, GroupIx, Option<NodeId>)>,
    /// Own updates that are not durable yet, in the order of their positions.
    pub(crate) unacknowledged: VecDeque<(Position, PublishToken, UpdateId)>,

    pub(crate) held: Held,
    pub(crate) branches: Branches,
    pub(crate) rumours: Rumours,
    pub(crate) round_trips: BTreeMap<NodeId, Duration>,
    pub(crate) distances: BTreeMap<NodeId, Duration>,
    pub(crate) pulls: BTreeMap<u32, Pull>,
    pub(crate) next_pull: u32,
    pub(crate) serving: BTreeMap<(NodeId, GroupIx, u32), Serving>,
    pub(crate) wants: BTreeMap<(GroupIx, UpdateId), Want>,
    pub(crate) cursors: BTreeMap<CursorName, Cursor>,
    /// Gaps in the log, by position, for those who read it.
    pub(crate) notes: BTreeMap<u64, Note>,
    /// Notes that the disk did not take.
    pub(crate) failed_notes: Vec<Note>,
    /// Gaps to report at the next flush.
    pub(crate) reports: Vec<Missed>,
    /// What was dropped unread since the last flush.
    pub(crate) unread: Unread,
    /// Where room was found last.
    pub(crate) room_from: u64,
    pub(crate) reads: BTreeMap<ReadToken, ReadFor>,
    next_read: u64,

    purge_at: Time,
    /// When a timer may be due. May be early, never late.
    wake: (Time, &'static str),
}

/// What a read from the log is for.
#[derive(Debug)]
pub(crate) enum ReadFor {
    /// A part of a pull's answer.
    Serve((NodeId, GroupIx, u32)),
    /// Updates that a neighbour asked for by id.
    Asked { peer: NodeId, group: GroupIx },
    /// A subscriber's next updates.
    Cursor { name: CursorName, batch: Batch },
}

impl Flood {
    /// A machine with an empty log. `incarnation` is the least that this life may turn out to have;
    /// nothing is published before [`Input::Begin`] says which it is.
    #[must_use]
    pub fn new(me: NodeId, incarnation: Incarnation, config: Config, rng: Rng) -> Self {
        let cache_max = usize::try_from(config.cache_max.0).unwrap_or(usize::MAX);
        let mut flood = Self {
            me,
            incarnation,
            begun: false,
            sequence: 0,
            rng,
            stats: Stats::default(),
            groups: BTreeMap::new(),
            names: BTreeMap::new(),
            next_group: 0,
            index: Index::default(),
            cache: Cache::new(cache_max),
            appending: Vec::new(),
            sync: false,
            written: Position(0),
            purged_below: Position(0),
            unannounced: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            held: Held::default(),
            branches: Branches::default(),
            rumours: Rumours::default(),
            round_trips: BTreeMap::new(),
            distances: BTreeMap::new(),
            pulls: BTreeMap::new(),
            next_pull: 0,
            serving: BTreeMap::new(),
            wants: BTreeMap::new(),
            cursors: BTreeMap::new(),
            notes: BTreeMap::new(),
            failed_notes: Vec::new(),
            reports: Vec::new(),
            unread: Unread::new(),
            room_from: 0,
            reads: BTreeMap::new(),
            next_read: 0,
            purge_at: Time::ZERO,
            wake: (Time::ZERO, "start"),
            config,
        };
        let groups: Vec<_> = flood.config.groups.iter().cloned().collect();
        for group in groups {
            flood.join(Time::ZERO, group);
        }
        flood
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Begin { incarnation } => self.begin(incarnation),
            Input::Neighbours { group, peers } => self.neighbours(now, &group, peers, out),
            Input::Join { group } => self.join(now, group),
            Input::Leave { group } => self.leave(&group),
            Input::RoundTrip { peer, time } => self.round_trip(peer, time),
            Input::Distance { peer, time } => self.distance(peer, time),
            Input::Received { from, body } => self.received(now, from, &body, out),
            Input::Publish { group, body, token, label } => {
                self.publish(now, &group, body, (token, label), out);
            }
            Input::PublishSpooled { group, body, token, label } => {
                self.publish_spooled(now, &group, body, (token, label), out);
            }
            Input::BodyOpened { id, missing } => self.body_opened(now, id, missing, out),
            Input::LeavesKept { id, kept } => self.leaves_kept(now, id, kept, out),
            Input::PieceKept { id, piece, kept } => self.piece_kept(now, id, piece, kept, out),
            Input::Appended { up_to, durable } => self.appended(now, up_to, durable, out),
            Input::AppendFailed { from } => self.append_failed(now, from, out),
            Input::Read { token, records } => self.read(now, token, records, out),
            Input::CursorOpen { name, group, from, durable } => {
                self.cursor_open(now, name, group, from, durable, out)
            }
            Input::CursorCommit { name, up_to } => self.cursor_commit(now, &name, up_to, out),
            Input::CursorClose { name } => {
                self.cursors.remove(&name);
            }
            Input::Forget { origin } => {
                let me = self.me;
                self.index.forget(|_, of| of == origin && of != me);
                self.held.forget(|_, of| of == origin);
                self.branches.forget(|_, of| of == origin);
                self.rumours.forget(|_, of| of == origin);
                self.wants.retain(|(_, id), _| id.origin != origin);
            }
        }
    }

    /// When [`Flood::tick`] has work, and which. It may be at once: call `tick` when all inputs
    /// that are there have been handled, and everything they caused goes out in few batches.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.has_unflushed() {
            return Some((Time::ZERO, "batches to send"));
        }
        Some(self.wake)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.flush(now, out);
        if self.wake.0 > now {
            return;
        }
        self.wake = (Time::NEVER, "nothing");
        self.tick_held(now, out);
        self.tick_ids(now, out);
        self.tick_rumours(now, out);
        self.tick_pulls(now, out);
        self.tick_wants(now, out);
        self.tick_serving(now);
        self.tick_compare(now, out);
        if self.purge_at <= now {
            self.purge(now, out);
            self.purge_at = now + PURGE_PERIOD.min(self.config.purge_age / 16);
        }
        self.wake_at(self.purge_at, "purge");
        self.flush(now, out);
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How many updates the log holds that are not over their age.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.live()
    }

    /// Whether the log holds no update.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.live() == 0
    }

    /// Asserts what must hold between calls.
    pub fn check(&self) {
        self.index.check();
        self.held.check();
        self.branches.check();
        self.rumours.check();
        assert!(self.written.0 <= self.index.next(), "written is handed out");
        let waiting = self.unacknowledged.iter();
        assert!(
            waiting.clone().zip(waiting.skip(1)).all(|(a, b)| a.0 < b.0),
            "acknowledgements wait in the order of the log"
        );
        for cursor in self.cursors.values() {
            assert!(cursor.next.0 <= self.index.next(), "cursors end at the log");
        }
        for group in self.groups.values() {
            assert!(!group.peers.contains(&self.me), "no neighbour of itself");
        }
        self.check_bounds();
    }

    pub(crate) fn wake_at(&mut self, at: Time, why: &'static str) {
        if at < self.wake.0 {
            self.wake = (at, why);
        }
    }

    pub(crate) fn next_read(&mut self, purpose: ReadFor) -> ReadToken {
        self.next_read += 1;
        let token = ReadToken(self.next_read);
        self.reads.insert(token, purpose);
        token
    }

    pub(crate) fn reject(&mut self, from: NodeId, reason: Rejection, out: &mut Outbox<Output>) {
        self.stats.rejected += 1;
        out.push(Output::Reject { from, reason });
    }

    pub(crate) fn send(&mut self, to: NodeId, packet: &Packet, out: &mut Outbox<Output>) {
        self.send_bytes(to, packet.to_bytes(), out);
    }

    pub(crate) fn send_bytes(&mut self, to: NodeId, body: Bytes, out: &mut Outbox<Output>) {
        self.stats.sent_bytes += body.len() as u64;
        out.push(Output::Send { to, body });
    }

    pub(crate) fn group_name(&self, ix: GroupIx) -> Option<&GroupName> {
        self.names.get(&ix)
    }

    pub(crate) fn group_at(&mut self, ix: GroupIx) -> Option<&mut Group> {
        let name = self.names.get(&ix)?;
        self.groups.get_mut(name)
    }

    /// A new life begins: its sequences start anew, and nothing is published under an older one.
    fn begin(&mut self, incarnation: Incarnation) {
        if incarnation > self.incarnation {
            self.incarnation = incarnation;
            self.sequence = 0;
        }
        self.begun |= incarnation >= self.incarnation;
    }

    fn received(&mut self, now: Time, from: NodeId, frame: &Bytes, out: &mut Outbox<Output>) {
        let packet = match Packet::from_bytes(frame) {
            Ok(packet) => packet,
            Err(error) => {
                return self.reject(from, Rejection::Malformed(error.to_string()), out);
            }
        };
        let Some(group) = self.groups.get(packet.message.group()) else {
            let name = packet.message.group().clone();
            return self.reject(from, Rejection::NotMember(name), out);
        };
        let ix = group.ix;
        let Packet { message, bodies } = packet;
        match message {
            Message::Updates { headers, .. } => {
                self.receive_updates(now, ix, from, headers, bodies, false, out);
            }
            Message::Compare { digest, answer, .. } => {
                self.compared(now, ix, from, digest, answer, out);
            }
            Message::Pull { token, from: first, to: last, marks, .. } => {
                self.serve(now, (from, ix, token), (first, last), &marks, out)
            }
            Message::Pulled { token, floors, headers, done, .. } => {
                self.pulled(now, ix, (from, token, done), &floors, headers, bodies, out)
            }
            Message::More { token, .. } => self.serve_more(now, (from, ix, token), out),
            Message::Fetch { id, leaves, first, count, .. } => {
                self.fetch((ix, from), id, leaves, (first, count), out)
            }
            Message::Leaves { id, .. } => {
                let bytes = bodies.into_iter().next().unwrap_or_default();
                self.leaves_came(now, (ix, from), id, bytes, out);
            }
            Message::Piece { id, piece, .. } => {
                let bytes = bodies.into_iter().next().unwrap_or_default();
                self.piece_came(now, (ix, from), (id, piece), bytes, out);
            }
            Message::Missing { id, .. } => self.missing(now, (ix, from), id, out),
            Message::Have { runs, .. } => self.heard(now, ix, from, &runs),
            Message::Prune { origins, .. } => self.pruned(ix, from, &origins),
            Message::Graft { origins, runs, .. } => {
                self.grafted(now, ix, from, (&origins, &runs), out)
            }
        }
    }

    fn neighbours(
        &mut self,
        now: Time,
        group: &GroupName,
        peers: Vec<NodeId>,
        out: &mut Outbox<Output>,
    ) {
        let me = self.me;
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        let peers = peers.into_iter().filter(|peer| *peer != me).collect();
        let before = core::mem::replace(&mut group.peers, peers);
        let come: Vec<_> = group.peers.difference(&before).copied().collect();
        let gone: Vec<_> = before.difference(&group.peers).copied().collect();
        gone.iter().for_each(|peer| group.forget_peer(*peer));
        let ix = group.ix;
        for peer in gone {
            self.peer_gone(now, ix, peer, out);
        }
        for peer in come {
            self.send_compare(ix, peer, false, out);
        }
    }

    fn peer_gone(&mut self, now: Time, group: GroupIx, peer: NodeId, out: &mut Outbox<Output>) {
        self.serving.retain(|(to, of, _), _| (*to, *of) != (peer, group));
        self.branches.forget_peer(group, peer);
        self.rumours.forget_peer(group, peer, now);
        if !self.groups.values().any(|group| group.peers.contains(&peer)) {
            self.round_trips.remove(&peer);
            self.distances.remove(&peer);
        }
        self.wake_at(now, "ids without bodies");
        self.abandon_pulls(now, group, peer, out);
        self.drop_holder(now, group, peer, out);
    }

    pub(crate) fn join(&mut self, now: Time, name: GroupName) {
        if self.groups.contains_key(&name) {
            return;
        }
        let ix = GroupIx(self.next_group);
        self.next_group += 1;
        let compare_at = now + self.rng.jitter(self.config.compare_period, 0.5);
        self.wake_at(compare_at, "compare");
        self.names.insert(ix, name.clone());
        self.groups.insert(name.clone(), Group::new(ix, name, compare_at));
    }

    fn leave(&mut self, name: &GroupName) {
        let Some(group) = self.groups.remove(name) else {
            return;
        };
        let ix = group.ix;
        self.names.remove(&ix);
        self.index.forget(|of, _| of == ix);
        self.held.forget(|of, _| of == ix);
        self.branches.forget(|of, _| of == ix);
        self.rumours.forget(|of, _| of == ix);
        self.wants.retain(|(of, _), _| *of != ix);
        self.pulls.retain(|_, pull| pull.group != ix);
        self.serving.retain(|(_, of, _), _| *of != ix);
        self.unannounced.retain(|(_, of, _)| *of != ix);
    }

    fn purge(&mut self, now: Time, out: &mut Outbox<Output>) {
        let failed = core::mem::take(&mut self.failed_notes);
        self.renew_notes(now, failed);
        let age = i64::try_from(self.config.purge_age.as_millis()).unwrap_or(i64::MAX);
        let now = millis(now);
        let horizon = now.saturating_sub(age);
        self.release_notes(horizon);
        self.stats.purged += self.index.purge(horizon, now.saturating_sub(age.saturating_mul(2)));
        self.tell_purged(out);
    }

    /// Tells the log when its beginning has moved.
    pub(crate) fn tell_purged(&mut self, out: &mut Outbox<Output>) {
        let newly = self.index.take_newly_purged();
        let names: BTreeMap<_, _> = self.groups.values().map(|it| (it.ix, &it.name)).collect();
        let marks = newly.into_iter().filter_map(|((ix, origin), serial)| {
            let group = (*names.get(&ix)?).clone();
            Some(PurgedMark { group, origin, serial })
        });
        let marks: Vec<_> = marks.collect();
        // Before the log loses them: a kill between the two leaves them in both.
        if !marks.is_empty() {
            out.push(Output::Purged(marks));
        }
        let first = Position(self.index.first());
        if first > self.purged_below {
            self.purged_below = first;
            out.push(Output::Purge { below: first });
        }
    }

    fn check_bounds(&self) {
        assert!(self.index.live() <= self.config.index_max, "the index is bounded");
        assert!(
            self.index.bytes() <= self.config.storage_max.0,
            "{}",
            format!("the log is bounded: {} bytes", self.index.bytes())
        );
        assert!(self.notes.len() <= crate::note::MAX_NOTES, "notes are bounded");
        self.check_wants();
        assert!(self.serving.len() <= crate::serve::MAX_SERVING, "service is bounded");
    }
}

/// Milliseconds on the machine's clock, with room for what was born before its zero.
pub(crate) const fn millis(now: Time) -> i64 {
    #[expect(clippy::cast_possible_wrap, reason = "2^64 ns are 2^44 ms")]
    let millis = (now.as_nanos() / 1_000_000) as i64;
    millis
}

/// The age of what was born then.
pub(crate) fn age_ms(now: Time, born: i64) -> u64 {
    u64::try_from(millis(now).saturating_sub(born)).unwrap_or(0)
}

/// When something of this age was born.
pub(crate) fn born_ms(now: Time, age_ms: u64) -> i64 {
    millis(now).saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX))
}
