//! One target's bookkeeping of one part: what it lacks, what was asked of whom, what came.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Digest, NodeId, Time};

use crate::bitmap::Bitmap;
use crate::message::MAX_WANTED;
use crate::plan::{Desired, Flight, Limits, Observed, PeerView, Report, bringer, plan};

/// Chunks of one piece that are asked for before the first has come.
const ASKED_AHEAD: usize = 2 * MAX_WANTED;
/// A peer that sends nothing for so long is asked no more, and others are.
const STALL: Duration = Duration::from_secs(10);
/// How long a peer that stalled is left alone.
const AVOID_STALLED: Duration = Duration::from_secs(5);
/// How long a peer that sent wrong bytes is left alone.
const AVOID_LIAR: Duration = Duration::from_secs(600);
/// Patience is at most so long, however slow the queen is.
const LONGEST_PATIENCE: Duration = Duration::from_secs(120);

/// A chunk by its digest and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chunk {
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// How many.
    pub len: u32,
}

/// Chunks to ask of a peer with one message; at most [`MAX_WANTED`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub from: NodeId,
    /// Which.
    pub chunks: Vec<Digest>,
    /// How many bytes they have together.
    pub bytes: u64,
}

/// What a chunk that came is to this transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was asked of this peer: store it, and say how that went.
    Wanted,
    /// It was not asked of this peer, or came already: drop it.
    Unasked,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the part that are here.
    pub have: u64,
    /// Bytes of the part.
    pub all: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Of them, bytes from the queen.
    pub from_queen: u64,
}

#[derive(Debug)]
struct Peer {
    has: Bitmap,
    avoid_until: Time,
}

#[derive(Debug)]
struct Fetching {
    from: NodeId,
    queue: VecDeque<(Digest, u32)>,
    asked: BTreeSet<Digest>,
    since: Time,
    moved: Time,
}

/// The transfer of one part to this node.
#[derive(Debug)]
pub struct Transfer {
    me: NodeId,
    queen: NodeId,
    targets: Vec<NodeId>,
    limits: Limits,
    /// What each piece still lacks; a piece that lacks nothing is not in it.
    lacking: BTreeMap<u32, BTreeMap<Digest, u32>>,
    index: BTreeMap<Digest, u32>,
    have: Bitmap,
    peers: BTreeMap<NodeId, Peer>,
    fetching: BTreeMap<u32, Fetching>,
    storing: BTreeSet<Digest>,
    progress: Progress,
    sources: BTreeSet<NodeId>,
    quiet_since: Time,
    slowest_piece: Duration,
    again_at: Option<Time>,
    report: Report,
}

impl Transfer {
    /// A transfer of a part of `pieces` to `me`, of which the chunks in `here` are there already.
    /// Among the pieces each chunk is in one alone.
    pub fn new<'a>(
        (me, queen): (NodeId, NodeId),
        limits: Limits,
        pieces: impl Iterator<Item = &'a [Chunk]>,
        here: &BTreeSet<Digest>,
        now: Time,
    ) -> Self {
        let mut lacking = BTreeMap::new();
        let mut index = BTreeMap::new();
        let mut progress = Progress::default();
        let mut count = 0;
        for (piece, chunks) in (0..).zip(pieces) {
            count = piece + 1;
            let mut lacks = BTreeMap::new();
            for chunk in chunks {
                progress.all += u64::from(chunk.len);
                if here.contains(&chunk.digest) {
                    progress.have += u64::from(chunk.len);
                } else {
                    index.insert(chunk.digest, piece);
                    lacks.insert(chunk.digest, chunk.len);
                }
            }
            if !lacks.is_empty() {
                lacking.insert(piece, lacks);
            }
        }
        let mut have = Bitmap::full(count);
        for piece in lacking.keys() {
            have.set(*piece, false);
        }
        Self {
            me,
            queen,
            targets: alloc::vec![me],
            limits,
            lacking,
            index,
            have,
            peers: BTreeMap::new(),
            fetching: BTreeMap::new(),
            storing: BTreeSet::new(),
            progress,
            sources: BTreeSet::new(),
            quiet_since: now,
            slowest_piece: Duration::ZERO,
            again_at: None,
            report: Report::default(),
        }
    }

    /// The present targets that have not failed; this node is added.
    pub fn set_targets(&mut self, mut targets: Vec<NodeId>) {
        targets.push(self.me);
        targets.sort_unstable();
        targets.dedup();
        self.targets = targets;
    }

    /// A peer that there is a link to says what it has; `false` when that is no set of this part's
    /// pieces.
    pub fn peer_has(&mut self, node: NodeId, pieces: &[u8], now: Time) -> bool {
        let Some(has) = Bitmap::from_bytes(self.have.len(), pieces) else {
            return false;
        };
        if node != self.queen && !has.is_empty() {
            self.quiet_since = now;
        }
        let avoid_until = self.peers.get(&node).map_or(Time::ZERO, |peer| peer.avoid_until);
        self.peers.insert(node, Peer { has, avoid_until });
        true
    }

    /// A peer got more.
    pub fn peer_got(&mut self, node: NodeId, pieces: &[u32], now: Time) {
        let count = self.have.len();
        let peer = self
            .peers
            .entry(node)
            .or_insert_with(|| Peer { has: Bitmap::empty(count), avoid_until: Time::ZERO });
        for piece in pieces {
            peer.has.set(*piece, true);
        }
        if node != self.queen {
            self.quiet_since = now;
        }
    }

    /// There is no link to the peer any more: what was asked of it will be asked of others.
    pub fn peer_gone(&mut self, node: NodeId) {
        self.peers.remove(&node);
        self.fetching.retain(|_, fetching| fetching.from != node);
    }

    /// A chunk came from a peer.
    pub fn arrived(&mut self, from: NodeId, digest: &Digest, now: Time) -> Arrival {
        let Some(piece) = self.index.get(digest) else {
            return Arrival::Unasked;
        };
        let Some(fetching) = self.fetching.get_mut(piece) else {
            return Arrival::Unasked;
        };
        if fetching.from != from || !fetching.asked.remove(digest) {
            return Arrival::Unasked;
        }
        fetching.moved = now;
        // What this node takes from the queen in another's place is no sign that the others move.
        if from != self.queen || bringer(&self.targets, *piece, 0) == Some(self.me) {
            self.quiet_since = now;
        }
        self.storing.insert(*digest);
        Arrival::Wanted
    }

    /// The chunk is stored, its bytes being what they should: the piece that is whole by it, if one
    /// is.
    pub fn stored(&mut self, from: NodeId, digest: &Digest, now: Time) -> Option<u32> {
        self.storing.remove(digest);
        let piece = self.index.remove(digest)?;
        let lacks = self.lacking.get_mut(&piece)?;
        let len = lacks.remove(digest).map_or(0, u64::from);
        self.progress.have += len;
        self.progress.fetched += len;
        self.sources.insert(from);
        if from == self.queen {
            self.progress.from_queen += len;
        }
        if !lacks.is_empty() {
            return None;
        }
        self.lacking.remove(&piece);
        self.have.set(piece, true);
        if let Some(done) = self.fetching.remove(&piece) {
            self.slowest_piece = self.slowest_piece.max(now.since(done.since));
        }
        Some(piece)
    }

    /// The chunk's bytes were others: the peer is left alone, and somebody else asked.
    pub fn wrong(&mut self, from: NodeId, digest: &Digest, now: Time) {
        self.storing.remove(digest);
        self.avoid(from, now + AVOID_LIAR);
    }

    /// The chunk could not be stored here; it will be asked for again.
    pub fn not_stored(&mut self, digest: &Digest) {
        self.storing.remove(digest);
        if let Some(piece) = self.index.get(digest) {
            self.fetching.remove(piece);
        }
    }

    /// A peer has not the chunk that was asked of it.
    pub fn lacks(&mut self, from: NodeId, digest: &Digest) {
        let Some(piece) = self.index.get(digest).copied() else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.has.set(piece, false);
        }
        if self.fetching.get(&piece).is_some_and(|fetching| fetching.from == from) {
            self.fetching.remove(&piece);
        }
    }

    /// What to ask for now. Call it after anything changed, and at [`Transfer::deadline`].
    ///
    /// No more is asked for than `room` bytes, but for the last chunk, which may go over: so a
    /// caller that asks only for what a rate allows gets no more than that rate. Where all of
    /// `room` was used, more may be asked for as soon as there is room again.
    pub fn asks(&mut self, now: Time, mut room: u64) -> Vec<Ask> {
        self.give_up_stalled(now);
        if self.fetching.len() < self.limits.in_all || self.again_at.is_some_and(|at| at <= now) {
            self.plan(now);
        }
        let mut asks = Vec::new();
        for fetching in self.fetching.values_mut() {
            while fetching.asked.len() + MAX_WANTED <= ASKED_AHEAD && room > 0 {
                let (mut chunks, mut bytes) = (Vec::new(), 0);
                while chunks.len() < MAX_WANTED
                    && bytes < room
                    && let Some((digest, len)) = fetching.queue.pop_front()
                {
                    bytes += u64::from(len);
                    chunks.push(digest);
                }
                if chunks.is_empty() {
                    break;
                }
                room = room.saturating_sub(bytes);
                if fetching.asked.is_empty() {
                    // It waited for room, not for the peer.
                    fetching.moved = now;
                }
                fetching.asked.extend(&chunks);
                asks.push(Ask { from: fetching.from, chunks, bytes });
            }
        }
        asks
    }

    /// When [`Transfer::asks`] is to be called though nothing happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let asked = self.fetching.values().filter(|fetching| !fetching.asked.is_empty());
        let stalls = asked.map(|fetching| fetching.moved + STALL);
        stalls.chain(self.again_at).min()
    }

    /// Whether everything is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lacking.is_empty()
    }

    /// What is here, for peers.
    #[must_use]
    pub const fn have(&self) -> &Bitmap {
        &self.have
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// Whom something came from.
    #[must_use]
    pub const fn sources(&self) -> &BTreeSet<NodeId> {
        &self.sources
    }

    /// What is waited for.
    #[must_use]
    pub const fn report(&self) -> Report {
        self.report
    }

    fn plan(&mut self, now: Time) {
        let flights: Vec<Flight> = self
            .fetching
            .iter()
            .map(|(piece, fetching)| Flight { piece: *piece, from: fetching.from })
            .collect();
        // What waits for the disk here is neither lacking nor to be asked for.
        let lacking: Vec<u32> = self
            .lacking
            .iter()
            .filter(|(_, lacks)| lacks.keys().any(|digest| !self.storing.contains(digest)))
            .map(|(piece, _)| *piece)
            .collect();
        let peers: Vec<PeerView<'_>> = self
            .peers
            .iter()
            .map(|(node, peer)| PeerView {
                node: *node,
                has: &peer.has,
                avoid_until: peer.avoid_until,
            })
            .collect();
        let desired = Desired { me: self.me, queen: self.queen, targets: &self.targets };
        let observed = Observed {
            now,
            lacking: &lacking,
            flights: &flights,
            peers: &peers,
            quiet_since: self.quiet_since,
            patience: (self.slowest_piece * 2).clamp(self.limits.patience, LONGEST_PATIENCE),
        };
        let (plan, report) = plan(&desired, &observed, &self.limits);
        self.again_at = plan.again_at;
        self.report = report;
        for fetch in plan.fetch {
            let lacks = self.lacking.get(&fetch.piece).into_iter().flatten();
            let lacks = lacks.filter(|(digest, _)| !self.storing.contains(digest));
            let queue = lacks.map(|(digest, len)| (*digest, *len)).collect();
            let fetching = Fetching {
                from: fetch.from,
                queue,
                asked: BTreeSet::new(),
                since: now,
                moved: now,
            };
            self.fetching.insert(fetch.piece, fetching);
        }
    }

    fn give_up_stalled(&mut self, now: Time) {
        let stalled: BTreeSet<NodeId> = self
            .fetching
            .values()
            .filter(|fetching| !fetching.asked.is_empty() && now.since(fetching.moved) >= STALL)
            .map(|fetching| fetching.from)
            .collect();
        for node in stalled {
            self.avoid(node, now + AVOID_STALLED);
        }
    }

    fn avoid(&mut self, node: NodeId, until: Time) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.avoid_until = peer.avoid_until.max(until);
        }
        self.fetching.retain(|_, fetching| fetching.from != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; NodeId::LEN])
    }

    fn chunks(count: u8) -> Vec<Chunk> {
        (0..count).map(|n| Chunk { digest: Digest::of(&[n]), len: 100 }).collect()
    }

    fn transfer(count: u8, here: &BTreeSet<Digest>) -> (Transfer, Vec<Chunk>) {
        let chunks = chunks(count);
        let ids = (node(1), node(0));
        let pieces = chunks.chunks(2);
        let transfer = Transfer::new(ids, Limits::default(), pieces, here, Time::ZERO);
        (transfer, chunks)
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn only_what_is_missing_is_asked_for_and_once() {
        let here = BTreeSet::from([Digest::of(&[0]), Digest::of(&[1]), Digest::of(&[2])]);
        let (mut transfer, chunks) = transfer(5, &here);
        assert_eq!(transfer.have().count(), 1);
        assert!(transfer.peer_has(node(0), Bitmap::full(3).as_bytes(), at(0)));
        let asks = transfer.asks(at(0), u64::MAX);
        let asked: BTreeSet<Digest> = asks.iter().flat_map(|ask| ask.chunks.clone()).collect();
        assert_eq!(asked, chunks[3..].iter().map(|chunk| chunk.digest).collect());
        assert_eq!(transfer.asks(at(1), u64::MAX), []);
        for (chunk, piece) in chunks[3..].iter().zip([1, 2]) {
            assert_eq!(transfer.arrived(node(0), &chunk.digest, at(2)), Arrival::Wanted);
            assert_eq!(transfer.arrived(node(0), &chunk.digest, at(2)), Arrival::Unasked);
            assert_eq!(transfer.stored(node(0), &chunk.digest, at(3)), Some(piece));
        }
        assert!(transfer.is_complete());
        let expected = Progress { have: 500, all: 500, fetched: 200, from_queen: 200 };
        assert_eq!(transfer.progress(), expected);
        assert_eq!(transfer.deadline(), None);
    }

    #[test]
    fn who_sends_wrong_bytes_is_marked_and_another_is_asked() {
        let (mut transfer, chunks) = transfer(1, &BTreeSet::new());
        transfer.peer_has(node(2), &[1], at(0));
        let asks = transfer.asks(at(0), u64::MAX);
        assert_eq!(asks, [Ask { from: node(2), chunks: vec![chunks[0].digest], bytes: 100 }]);
        assert_eq!(transfer.arrived(node(3), &chunks[0].digest, at(1)), Arrival::Unasked);
        assert_eq!(transfer.arrived(node(2), &chunks[0].digest, at(1)), Arrival::Wanted);
        transfer.wrong(node(2), &chunks[0].digest, at(1));
        assert_eq!(transfer.asks(at(2), u64::MAX), []);
        transfer.peer_has(node(3), &[1], at(3));
        assert_eq!(transfer.asks(at(3), u64::MAX)[0].from, node(3));
        assert_eq!(transfer.report().avoided, 1);
    }

    #[test]
    fn who_stalls_lacks_or_goes_is_replaced() {
        let (mut transfer, chunks) = transfer(1, &BTreeSet::new());
        transfer.peer_has(node(2), &[1], at(0));
        assert_eq!(transfer.asks(at(0), u64::MAX).len(), 1);
        assert_eq!(transfer.deadline(), Some(Time::ZERO + STALL));
        assert_eq!(transfer.asks(Time::ZERO + STALL, u64::MAX), []);
        let later = Time::ZERO + STALL + AVOID_STALLED;
        assert_eq!(transfer.deadline(), Some(later));
        assert_eq!(transfer.asks(later, u64::MAX)[0].from, node(2));
        transfer.lacks(node(2), &chunks[0].digest);
        assert_eq!(transfer.asks(later, u64::MAX), []);
        transfer.peer_has(node(3), &[1], later);
        assert_eq!(transfer.asks(later, u64::MAX)[0].from, node(3));
        transfer.peer_gone(node(3));
        assert_eq!(transfer.asks(later, u64::MAX), []);
        transfer.peer_got(node(4), &[0, 77], later);
        assert_eq!(transfer.asks(later, u64::MAX)[0].from, node(4));
    }

    #[test]
    fn no_more_is_asked_for_than_there_is_room_for() {
        let (mut transfer, chunks) = transfer(8, &BTreeSet::new());
        transfer.peer_has(node(2), Bitmap::full(4).as_bytes(), at(0));
        assert_eq!(transfer.asks(at(0), 0), []);
        assert_eq!(transfer.deadline(), None, "nobody was asked for anything");
        let asks = transfer.asks(at(1), 150);
        assert_eq!(asks.iter().map(|ask| ask.bytes).sum::<u64>(), 200, "the last may go over");
        for digest in asks.iter().flat_map(|ask| &ask.chunks) {
            assert_eq!(transfer.arrived(node(2), digest, at(2)), Arrival::Wanted);
            transfer.stored(node(2), digest, at(2));
        }
        // Who was not asked for want of room is not taken for stalled.
        let late = at(3) + STALL;
        let asks = transfer.asks(late, u64::MAX);
        assert!(asks.iter().any(|ask| ask.from == node(2)), "{asks:?}");
        assert_eq!(transfer.report().avoided, 0);
        assert!(transfer.asks(late, u64::MAX).is_empty(), "each is asked for once");
        let asked = asks.iter().flat_map(|ask| &ask.chunks);
        assert!(asked.clone().all(|digest| chunks.iter().any(|chunk| chunk.digest == *digest)));
    }

    #[test]
    fn a_chunk_that_could_not_be_stored_is_asked_for_again() {
        let (mut transfer, chunks) = transfer(2, &BTreeSet::new());
        transfer.peer_has(node(2), &[1], at(0));
        assert_eq!(transfer.asks(at(0), u64::MAX)[0].chunks.len(), 2);
        for chunk in &chunks {
            assert_eq!(transfer.arrived(node(2), &chunk.digest, at(1)), Arrival::Wanted);
        }
        transfer.not_stored(&chunks[0].digest);
        let asks = transfer.asks(at(2), u64::MAX);
        assert_eq!(asks, [Ask { from: node(2), chunks: vec![chunks[0].digest], bytes: 100 }]);
        assert_eq!(transfer.stored(node(2), &chunks[1].digest, at(3)), None);
    }

    #[test]
    fn a_set_that_does_not_fit_is_refused() {
        let (mut transfer, _) = transfer(5, &BTreeSet::new());
        assert!(!transfer.peer_has(node(2), &[0xFF], at(0)));
        assert!(!transfer.peer_has(node(2), &[1, 1], at(0)));
        assert!(transfer.peer_has(node(2), &[7], at(0)));
    }
}
