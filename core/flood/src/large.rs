//! Large bodies: announced by everybody who has them, pulled once, piece by piece, from those that
//! are nearest.
//!
//! A body is never in the machine. Its owner keeps what was fetched so far on its disk, under the
//! update's id, and checks each piece against the digest of the announcement before it keeps it
//! ([`skep_base::tree`]). So what was fetched once is not fetched again, whoever gave it and
//! however often this node was killed meanwhile.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time, tree};

use crate::event::{Body, Kept, Output, Rejection};
use crate::id::{Position, UpdateId};
use crate::life::{GroupIx, Place};
use crate::machine::Flood;
use crate::message::{Header, MAX_FETCH_PIECES, Message, Packet};

/// Large updates known and not here yet.
pub(crate) const MAX_WANTS: usize = 256;
/// Of those, being pulled.
const MAX_ACTIVE: usize = 8;
/// Holders remembered of each.
const MAX_HOLDERS: usize = 8;
/// Holders that are asked for pieces of one body at the same time.
const MAX_SOURCES: usize = 3;
/// Pieces that one holder is asked for and has not given: two megabytes, enough for a gigabit over
/// a link round a continent.
const WINDOW_PIECES: usize = 8;
/// Pieces asked for and not on disk yet, of all bodies together: what they may take in memory.
pub(crate) const MAX_PENDING_PIECES: usize = 64;
/// How long the next piece is awaited before another holder is asked. The first may have to wait
/// for a connection.
const FETCH_STALL: Duration = Duration::from_secs(3);
/// How long a disk that did not take a piece is left alone.
const DISK_PAUSE: Duration = Duration::from_secs(5);
/// What is taken for the distance of a holder that was not measured: it is asked last.
const FAR: Duration = Duration::from_secs(1);

/// A large update whose body is not here.
#[derive(Debug)]
pub(crate) struct Want {
    header: Header,
    born: i64,
    holders: Vec<NodeId>,
    state: State,
    /// When somebody gave a piece, or nobody was left to ask.
    progress: Time,
}

#[derive(Debug)]
enum State {
    /// Until there is room among those that are pulled, and not before this.
    Idle(Time),
    /// The disk is asked what it has of it.
    Opening,
    Open(Pulling),
}

/// A body that is being pulled.
#[derive(Debug, Default)]
struct Pulling {
    leaves: Leaves,
    /// Pieces that nobody was asked for.
    todo: BTreeSet<u32>,
    sources: BTreeMap<NodeId, Source>,
    /// Pieces that are being checked and written, and who gave them.
    writing: BTreeMap<u32, NodeId>,
}

/// The list against which pieces are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leaves {
    /// The disk has it.
    #[default]
    Here,
    Missing,
    /// This holder was asked for it, and is the only one that is asked for pieces meanwhile.
    Asked(NodeId),
}

#[derive(Debug)]
struct Source {
    asked: BTreeSet<u32>,
    progress: Time,
}

impl Pulling {
    fn pending(&self) -> usize {
        self.writing.len() + self.sources.values().map(|source| source.asked.len()).sum::<usize>()
    }

    fn is_done(&self) -> bool {
        self.todo.is_empty() && self.pending() == 0
    }

    /// Nobody gives these any more.
    fn drop_source(&mut self, peer: NodeId) {
        if let Some(source) = self.sources.remove(&peer) {
            self.todo.extend(source.asked);
        }
        if self.leaves == Leaves::Asked(peer) {
            self.leaves = Leaves::Missing;
        }
    }
}

impl Want {
    const fn pulling(&mut self) -> Option<&mut Pulling> {
        match &mut self.state {
            State::Open(pulling) => Some(pulling),
            State::Idle(_) | State::Opening => None,
        }
    }

    const fn is_active(&self) -> bool {
        !matches!(self.state, State::Idle(_))
    }
}

type WantKey = (GroupIx, UpdateId);

impl Flood {
    /// Somebody has a large update that is not here. Says whether it is new to us.
    pub(crate) fn want(
        &mut self,
        now: Time,
        ix: GroupIx,
        header: Header,
        born: i64,
        from: NodeId,
        out: &mut Outbox<Output>,
    ) -> bool {
        let key = (ix, header.id);
        if let Some(want) = self.wants.get_mut(&key) {
            if want.holders.len() < MAX_HOLDERS && !want.holders.contains(&from) {
                want.holders.push(from);
                self.ask_more(now, key, out);
            }
            self.start_fetches(now, out);
            return false;
        }
        if self.wants.len() >= MAX_WANTS {
            self.stats.dropped_fetches += 1;
            return false;
        }
        let holders = [from].into();
        let state = State::Idle(now);
        self.wants.insert(key, Want { header, born, holders, state, progress: now });
        self.start_fetches(now, out);
        true
    }

    /// Starts to pull bodies while few are under way, those of low identities first.
    pub(crate) fn start_fetches(&mut self, now: Time, out: &mut Outbox<Output>) {
        let active = self.wants.values().filter(|want| want.is_active()).count();
        let room = MAX_ACTIVE.saturating_sub(active);
        let may = |want: &Want| {
            matches!(want.state, State::Idle(from) if from <= now) && !want.holders.is_empty()
        };
        let idle = self.wants.iter().filter(|(_, want)| may(want));
        let idle: Vec<_> = idle.map(|(key, _)| *key).take(room).collect();
        for key in idle {
            // What comes in needs room as well; one body always may, since it is a quarter at most.
            let length = self.wants.get(&key).map_or(0, |want| want.header.length);
            let coming = self.coming_bytes();
            if coming > 0 && coming.saturating_add(length) > self.config.storage_max.0 / 4 {
                continue;
            }
            if let Some(want) = self.wants.get_mut(&key)
                && let Some(digest) = want.header.digest
            {
                want.state = State::Opening;
                want.progress = now;
                out.push(Output::BodyOpen { id: key.1, length, digest });
            }
            self.make_room();
        }
    }

    /// Bytes of the bodies that are being pulled, whole.
    pub(crate) fn coming_bytes(&self) -> u64 {
        let active = self.wants.values().filter(|want| want.is_active());
        active.map(|want| want.header.length).sum()
    }

    /// What the disk has of a body already: whether the leaves, and which pieces it lacks.
    pub(crate) fn body_opened(
        &mut self,
        now: Time,
        id: UpdateId,
        missing: Option<(bool, Vec<u32>)>,
        out: &mut Outbox<Output>,
    ) {
        let Some(key) = self.want_of(id) else {
            return;
        };
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let Some((leaves, missing)) = missing else {
            want.state = State::Idle(now + DISK_PAUSE);
            return self.wake_at(now + DISK_PAUSE, "large bodies");
        };
        let pieces = tree::pieces(want.header.length);
        let todo = missing.into_iter().filter(|piece| *piece < pieces).collect();
        let leaves = if leaves { Leaves::Here } else { Leaves::Missing };
        want.state = State::Open(Pulling { leaves, todo, ..Pulling::default() });
        want.progress = now;
        if !self.complete(now, key, out) {
            self.ask_more(now, key, out);
        }
    }

    /// The want of that update, in whichever group.
    fn want_of(&self, id: UpdateId) -> Option<WantKey> {
        self.wants.keys().find(|key| key.1 == id).copied()
    }

    /// Pieces that all holders together may still be asked for.
    fn pending_room(&self) -> usize {
        let open = self.wants.values().filter_map(|want| match &want.state {
            State::Open(pulling) => Some(pulling.pending()),
            State::Idle(_) | State::Opening => None,
        });
        MAX_PENDING_PIECES.saturating_sub(open.sum())
    }

    /// Asks the nearest holders for what nobody was asked for, each for as much as fits its window.
    fn ask_more(&mut self, now: Time, key: WantKey, out: &mut Outbox<Output>) {
        let mut room = self.pending_room();
        let Some(group) = self.group_name(key.0).cloned() else {
            return;
        };
        // A link that carries little tells less than what was estimated of it: its smoothed time
        // has the peer's delayed acknowledgements in it.
        let known = |peer: &NodeId| {
            self.distances.get(peer).or_else(|| self.round_trips.get(peer)).copied()
        };
        let far = |peer: &NodeId| known(peer).unwrap_or(FAR);
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let mut near = want.holders.clone();
        // Among equals the one that said so first.
        near.sort_by_key(far);
        let Some(pulling) = want.pulling() else {
            return;
        };
        let mut asks = Vec::new();
        for peer in near {
            let known = pulling.sources.get(&peer);
            let asked = known.map_or(0, |source| source.asked.len());
            // Half a window at a time, or each piece would be asked for by itself.
            let fits = (WINDOW_PIECES - asked.min(WINDOW_PIECES)).min(room);
            let worth = fits >= WINDOW_PIECES / 2 || asked == 0;
            let may = known.is_some() || pulling.sources.len() < MAX_SOURCES;
            let other = matches!(pulling.leaves, Leaves::Asked(asked) if asked != peer);
            if !worth || !may || other || fits == 0 || pulling.todo.is_empty() {
                continue;
            }
            let leaves = pulling.leaves == Leaves::Missing;
            if leaves {
                pulling.leaves = Leaves::Asked(peer);
            }
            let pieces: Vec<u32> = pulling.todo.iter().take(fits).copied().collect();
            let source = Source { asked: BTreeSet::new(), progress: now };
            let source = pulling.sources.entry(peer).or_insert(source);
            if source.asked.is_empty() {
                source.progress = now;
            }
            for piece in &pieces {
                pulling.todo.remove(piece);
                source.asked.insert(*piece);
            }
            room -= pieces.len();
            asks.push((peer, leaves, pieces));
        }
        for (peer, leaves, pieces) in asks {
            out.push(Output::Fetching { from: peer });
            for (at, (first, count)) in runs(&pieces).into_iter().enumerate() {
                let (group, leaves) = (group.clone(), leaves && at == 0);
                let message = Message::Fetch { group, id: key.1, leaves, first, count };
                self.send(peer, &Packet::bare(message), out);
            }
            self.wake_at(now + FETCH_STALL, "large bodies");
        }
    }

    /// The leaves of a body came in: the disk checks them and keeps them.
    pub(crate) fn leaves_came(
        &mut self,
        now: Time,
        (ix, from): (GroupIx, NodeId),
        id: UpdateId,
        leaves: Bytes,
        out: &mut Outbox<Output>,
    ) {
        let Some(source) = self.source_of((ix, id), from) else {
            return;
        };
        source.progress = now;
        out.push(Output::BodyLeaves { id, leaves });
    }

    /// A piece of a large body came in: the disk checks it and keeps it.
    pub(crate) fn piece_came(
        &mut self,
        now: Time,
        (ix, from): (GroupIx, NodeId),
        (id, piece): (UpdateId, u32),
        bytes: Bytes,
        out: &mut Outbox<Output>,
    ) {
        let key = (ix, id);
        // What comes from a holder that was given up is late, not wrong.
        let Some(source) = self.source_of(key, from) else {
            return;
        };
        if !source.asked.remove(&piece) {
            return self.reject(from, Rejection::Unasked(id, piece), out);
        }
        source.progress = now;
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        want.progress = now;
        let wrong = tree::piece_bytes(want.header.length, piece) != Some(bytes.len());
        if let Some(pulling) = want.pulling() {
            if wrong {
                pulling.todo.insert(piece);
            } else {
                pulling.writing.insert(piece, from);
            }
        }
        if wrong {
            self.reject(from, Rejection::WrongBody(id), out);
            return self.next_holder(now, key, (from, false), out);
        }
        self.stats.fetched_bytes += bytes.len() as u64;
        out.push(Output::BodyPiece { id, piece, bytes });
        self.ask_more(now, key, out);
    }

    fn source_of(&mut self, key: WantKey, from: NodeId) -> Option<&mut Source> {
        self.wants.get_mut(&key)?.pulling()?.sources.get_mut(&from)
    }

    /// The disk has dealt with the leaves of a body.
    pub(crate) fn leaves_kept(
        &mut self,
        now: Time,
        id: UpdateId,
        kept: Kept,
        out: &mut Outbox<Output>,
    ) {
        let Some(key) = self.want_of(id) else {
            return;
        };
        let Some(pulling) = self.wants.get_mut(&key).and_then(Want::pulling) else {
            return;
        };
        let asked = pulling.leaves;
        pulling.leaves = if kept == Kept::Yes { Leaves::Here } else { Leaves::Missing };
        match (kept, asked) {
            (Kept::Yes, _) => self.ask_more(now, key, out),
            (Kept::Wrong | Kept::Unchecked, Leaves::Asked(from)) => {
                self.reject(from, Rejection::WrongBody(id), out);
                self.next_holder(now, key, (from, false), out);
            }
            (Kept::Wrong | Kept::Unchecked, Leaves::Here | Leaves::Missing) => {}
            (Kept::No, _) => self.pause(now, key),
        }
    }

    /// The disk has dealt with a piece.
    pub(crate) fn piece_kept(
        &mut self,
        now: Time,
        id: UpdateId,
        piece: u32,
        kept: Kept,
        out: &mut Outbox<Output>,
    ) {
        let Some(key) = self.want_of(id) else {
            return;
        };
        let Some(pulling) = self.wants.get_mut(&key).and_then(Want::pulling) else {
            return;
        };
        let Some(from) = pulling.writing.remove(&piece) else {
            return;
        };
        if kept != Kept::Yes {
            pulling.todo.insert(piece);
        }
        match kept {
            Kept::Yes => {
                if !self.complete(now, key, out) {
                    self.ask_more(now, key, out);
                }
            }
            Kept::Wrong => {
                self.reject(from, Rejection::WrongBody(id), out);
                self.next_holder(now, key, (from, false), out);
            }
            // A holder that gives pieces and no leaves is of no use; after wrong leaves it is gone.
            Kept::Unchecked => self.unchecked(now, key, from, out),
            Kept::No => self.pause(now, key),
        }
    }

    fn unchecked(&mut self, now: Time, key: WantKey, from: NodeId, out: &mut Outbox<Output>) {
        let leaves = self.wants.get_mut(&key).and_then(Want::pulling).map(|it| {
            if it.leaves == Leaves::Here {
                it.leaves = Leaves::Missing;
            }
            it.leaves
        });
        match leaves {
            Some(Leaves::Asked(asked)) if asked == from => {
                self.next_holder(now, key, (from, false), out);
            }
            _ => self.ask_more(now, key, out),
        }
    }

    /// Leaves a body alone until the disk may take more of it.
    fn pause(&mut self, now: Time, key: WantKey) {
        if let Some(want) = self.wants.get_mut(&key) {
            want.state = State::Idle(now + DISK_PAUSE);
            self.wake_at(now + DISK_PAUSE, "large bodies");
        }
    }

    /// Takes a body in when all of it is here. Says whether it was.
    fn complete(&mut self, now: Time, key: WantKey, out: &mut Outbox<Output>) -> bool {
        let done = self.wants.get_mut(&key).and_then(Want::pulling).is_some_and(|it| it.is_done());
        if !done {
            return false;
        }
        if let Some(want) = self.wants.remove(&key) {
            self.stats.fetched += 1;
            let from = want.holders.first().copied().unwrap_or(self.me);
            if self.index.place(key.0, key.1) == Place::Known {
                out.push(Output::BodyDrop { id: key.1 });
            } else {
                self.arrived(now, key.0, want.header, want.born, Body::Fetched, from, out);
            }
        }
        self.start_fetches(now, out);
        true
    }

    pub(crate) fn missing(
        &mut self,
        now: Time,
        (ix, from): (GroupIx, NodeId),
        id: UpdateId,
        out: &mut Outbox<Output>,
    ) {
        if self.source_of((ix, id), from).is_some() {
            self.next_holder(now, (ix, id), (from, false), out);
        }
    }

    /// Goes on without a holder; with `again`, it may be asked once more later.
    fn next_holder(
        &mut self,
        now: Time,
        key: WantKey,
        (peer, again): (NodeId, bool),
        out: &mut Outbox<Output>,
    ) {
        if let Some(want) = self.wants.get_mut(&key) {
            want.holders.retain(|holder| *holder != peer);
            if again {
                want.holders.push(peer);
            }
            if want.holders.is_empty() {
                want.progress = now;
            }
            if let Some(pulling) = want.pulling() {
                pulling.drop_source(peer);
            }
        }
        self.ask_more(now, key, out);
    }

    pub(crate) fn drop_holder(
        &mut self,
        now: Time,
        ix: GroupIx,
        peer: NodeId,
        out: &mut Outbox<Output>,
    ) {
        let held =
            self.wants.iter().filter(|(key, want)| key.0 == ix && want.holders.contains(&peer));
        let held: Vec<_> = held.map(|(key, _)| *key).collect();
        for key in held {
            self.next_holder(now, key, (peer, false), out);
        }
    }

    pub(crate) fn tick_wants(&mut self, now: Time, out: &mut Outbox<Output>) {
        let forget = self.config.pull_timeout;
        // Nobody has it any more: a comparison shows it again when somebody does. What is on disk
        // of it stays there for then.
        self.wants.retain(|_, want| !want.holders.is_empty() || want.progress + forget > now);
        let mut stalled = Vec::new();
        for (key, want) in &self.wants {
            if let State::Open(pulling) = &want.state {
                let waits = pulling.sources.iter().filter(|(_, source)| !source.asked.is_empty());
                let late = waits.filter(|(_, source)| source.progress + FETCH_STALL <= now);
                stalled.extend(late.map(|(peer, _)| (*key, *peer)));
            }
        }
        for (key, peer) in stalled {
            self.next_holder(now, key, (peer, true), out);
        }
        self.start_fetches(now, out);
        let next = self.wants.values().filter_map(|want| want.deadline(forget));
        // Those that wait for others to be through are started by them.
        if let Some(at) = next.filter(|at| *at > now).min() {
            self.wake_at(at, "large bodies");
        }
    }

    /// A peer asks for pieces of a large body.
    pub(crate) fn fetch(
        &mut self,
        (ix, peer): (GroupIx, NodeId),
        id: UpdateId,
        leaves: bool,
        (first, count): (u32, u32),
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group_name(ix).cloned() else {
            return;
        };
        let entry = self.index.find(ix, id).filter(|entry| entry.large);
        let entry = entry.filter(|entry| entry.position < self.written.0);
        let Some(entry) = entry.filter(|entry| first < tree::pieces(entry.bytes)) else {
            let message = Message::Missing { group, id };
            return self.send(peer, &Packet::bare(message), out);
        };
        let length = entry.bytes;
        let end = first.saturating_add(count).min(tree::pieces(length));
        let position = Position(entry.position);
        let leaves = leaves && tree::pieces(length) > 1;
        out.push(Output::Serve { to: peer, group, id, position, length, leaves, first, end });
    }

    pub(crate) fn check_wants(&self) {
        assert!(self.wants.len() <= MAX_WANTS, "wants are bounded");
        assert!(self.wants.values().filter(|it| it.is_active()).count() <= MAX_ACTIVE);
        assert!(self.pending_room() <= MAX_PENDING_PIECES, "pieces are bounded");
        for want in self.wants.values() {
            if let State::Open(pulling) = &want.state {
                assert!(pulling.sources.len() <= MAX_SOURCES, "sources are bounded");
                let asked = pulling.sources.values().flat_map(|it| &it.asked);
                let each = asked.chain(pulling.writing.keys()).chain(&pulling.todo);
                let unique: BTreeSet<_> = each.clone().collect();
                assert_eq!(unique.len(), each.count(), "each piece is in one place");
            }
        }
    }
}

impl Want {
    /// When something has to be looked at again.
    fn deadline(&self, forget: Duration) -> Option<Time> {
        if self.holders.is_empty() {
            return Some(self.progress + forget);
        }
        match &self.state {
            State::Idle(from) => Some(*from),
            State::Opening => None,
            State::Open(pulling) => {
                let waits = pulling.sources.values().filter(|source| !source.asked.is_empty());
                waits.map(|source| source.progress + FETCH_STALL).min()
            }
        }
    }
}

/// Ascending numbers as runs: the first of each and how many.
fn runs(pieces: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == *piece && *count < MAX_FETCH_PIECES => {
                *count += 1;
            }
            _ => runs.push((*piece, 1)),
        }
    }
    runs
}
