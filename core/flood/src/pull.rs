//! Comparing with neighbours, and asking them for what is missing.
//!
//! Each side asks for what it lacks, from one neighbour at a time: so a node that comes back among
//! many neighbours gets its backlog once, not once from each. Every answer is cut into parts, and
//! the next is sent when one was dealt with.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, NodeId, Outbox, Time};
use skep_wire::encode;

use crate::event::{GapReason, Output};
use crate::life::{GroupIx, LifeKey};
use crate::machine::{Flood, millis};
use crate::message::{
    Floor, GAPS_PER_LIFE, Header, LIVES_PER_MARK, MARKS_PER_PULL, Mark, Message, Packet,
};

/// Pulls of single origins that run at the same time in a group, beside one of everything.
const MAX_ORIGIN_PULLS: usize = 4;
/// Neighbours that wait to be asked.
const MAX_TO_PULL: usize = 256;
/// How long the next part of an answer is awaited.
const PULL_STALL: Duration = Duration::from_secs(3);
/// How long news of an old update are gathered before the neighbours are told.
const COMPARE_SPACING: Duration = Duration::from_millis(200);
/// Marks in one request stay below this; one mark alone may take up to [`LIVES_PER_MARK`] lives
/// with [`GAPS_PER_LIFE`] gaps, and still fits the frame.
const MARKS_BYTES: usize = 16 * 1024;

const FIRST: NodeId = NodeId::from_bytes([0; NodeId::LEN]);
const LAST: NodeId = NodeId::from_bytes([0xFF; NodeId::LEN]);

/// One question that is being answered.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) group: GroupIx,
    pub(crate) peer: NodeId,
    /// The origins of the request under way.
    range: (NodeId, NodeId),
    /// The last origin of all requests of this pull.
    last: NodeId,
    progress: Time,
    /// Whether updates came that are too old to be passed on.
    old_news: bool,
}

impl Pull {
    fn is_full(&self) -> bool {
        self.last == LAST
    }
}

impl Flood {
    /// A digest of what there is in a group. What was purged is left out, because nodes purge the
    /// same thing at slightly different times.
    fn group_digest(&self, ix: GroupIx) -> u64 {
        let lives = self.index.lives_from(ix, FIRST);
        let lives = lives.filter(|life| !life.is_empty());
        let marks: Vec<_> = lives.map(|life| (life.key.origin, life.mark())).collect();
        Digest::of(&encode(&marks)).short()
    }

    pub(crate) fn send_compare(
        &mut self,
        ix: GroupIx,
        to: NodeId,
        answer: bool,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group_name(ix).cloned() else {
            return;
        };
        let digest = self.group_digest(ix);
        let message = Message::Compare { group, digest, answer };
        self.send(to, &Packet::bare(message), out);
    }

    pub(crate) fn compared(
        &mut self,
        now: Time,
        ix: GroupIx,
        from: NodeId,
        digest: u64,
        answer: bool,
        out: &mut Outbox<Output>,
    ) {
        if digest == self.group_digest(ix) {
            return;
        }
        self.stats.differences += 1;
        if answer {
            self.send_compare(ix, from, false, out);
        }
        let Some(group) = self.group_at(ix) else {
            return;
        };
        if !group.to_pull.contains(&from) && group.to_pull.len() < MAX_TO_PULL {
            group.to_pull.push_back(from);
        }
        self.pull_next(now, ix, out);
    }

    /// Asks the next neighbour for everything, unless one is answering.
    fn pull_next(&mut self, now: Time, ix: GroupIx, out: &mut Outbox<Output>) {
        let mut pulls = self.pulls.values();
        if pulls.any(|pull| pull.group == ix && pull.is_full()) {
            return;
        }
        let Some(peer) = self.group_at(ix).and_then(|it| it.to_pull.pop_front()) else {
            return;
        };
        self.pull(now, ix, peer, (FIRST, LAST), false, out);
    }

    /// Asks a neighbour for the updates of one origin, unless that is being done.
    pub(crate) fn pull_origin(
        &mut self,
        now: Time,
        ix: GroupIx,
        origin: NodeId,
        peer: NodeId,
        out: &mut Outbox<Output>,
    ) {
        let pulls = self.pulls.values().filter(|pull| pull.group == ix);
        let single = pulls.filter(|pull| !pull.is_full());
        if single.clone().any(|pull| pull.last == origin) || single.count() >= MAX_ORIGIN_PULLS {
            return;
        }
        self.pull(now, ix, peer, (origin, origin), false, out);
    }

    fn pull(
        &mut self,
        now: Time,
        ix: GroupIx,
        peer: NodeId,
        (from, last): (NodeId, NodeId),
        old_news: bool,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group_name(ix).cloned() else {
            return;
        };
        let (marks, to) = self.marks(ix, from, last);
        self.next_pull = self.next_pull.wrapping_add(1);
        let token = self.next_pull;
        let pull = Pull { group: ix, peer, range: (from, to), last, progress: now, old_news };
        self.pulls.insert(token, pull);
        self.stats.pulls += 1;
        self.wake_at(now + PULL_STALL, "pulls");
        let message = Message::Pull { group, token, from, to, marks };
        self.send(peer, &Packet::bare(message), out);
    }

    /// What this node has of the origins in a range, as far as one request holds, and the last
    /// origin of that part.
    fn marks(&self, ix: GroupIx, from: NodeId, last: NodeId) -> (Vec<Mark>, NodeId) {
        let mut marks: Vec<Mark> = Vec::new();
        let mut bytes = 0;
        let mut lives = self.index.lives_from(ix, from).peekable();
        let mut purged = self.index.purged_from(ix, from).peekable();
        loop {
            let next_life = lives.peek().map(|life| life.key.origin);
            let next_purged = purged.peek().map(|it| it.0);
            let next = [next_life, next_purged].into_iter().flatten().min();
            let Some(origin) = next.filter(|origin| *origin <= last) else {
                return (marks, last);
            };
            if marks.len() == MARKS_PER_PULL || bytes > MARKS_BYTES {
                let to = marks.last().map_or(last, |mark| mark.origin);
                return (marks, to);
            }
            let purged = purged.next_if(|it| it.0 == origin).map(|it| it.1);
            let mut of_origin = Vec::new();
            while let Some(life) = lives.next_if(|life| life.key.origin == origin) {
                of_origin.push(life.mark());
            }
            // Of a node that restarts all the time, the newest lives are told.
            let excess = of_origin.len().saturating_sub(LIVES_PER_MARK);
            of_origin.drain(..excess);
            debug_assert!(of_origin.iter().all(|it| it.gaps.len() <= GAPS_PER_LIFE));
            let mark = Mark { origin, purged, lives: of_origin };
            bytes += encode(&mark).len();
            marks.push(mark);
        }
    }

    /// A part of an answer came in.
    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(crate) fn pulled(
        &mut self,
        now: Time,
        ix: GroupIx,
        (from, token, done): (NodeId, u32, bool),
        floors: &[Floor],
        headers: Vec<Header>,
        bodies: Vec<Bytes>,
        out: &mut Outbox<Output>,
    ) {
        // The answer to a pull that was abandoned is not wrong, only late.
        let Some(pull) = self.pulls.get_mut(&token) else {
            return;
        };
        if pull.peer != from || pull.group != ix {
            return;
        }
        pull.progress = now;
        let range = pull.range;
        for floor in floors {
            if (range.0..=range.1).contains(&floor.origin) && floor.origin != self.me {
                self.take_floor(now, ix, floor, out);
            }
        }
        let old_news = self.receive_updates(now, ix, from, headers, bodies, true, out);
        if let Some(pull) = self.pulls.get_mut(&token) {
            pull.old_news |= old_news;
        }
        if done {
            self.pull_done(now, ix, token, out);
        } else if let Some(group) = self.group_name(ix).cloned() {
            self.send(from, &Packet::bare(Message::More { group, token }), out);
        }
    }

    fn pull_done(&mut self, now: Time, ix: GroupIx, token: u32, out: &mut Outbox<Output>) {
        let Some(pull) = self.pulls.remove(&token) else {
            return;
        };
        if pull.range.1 < pull.last {
            let rest = (successor(pull.range.1), pull.last);
            return self.pull(now, ix, pull.peer, rest, pull.old_news, out);
        }
        if pull.old_news
            && let Some(group) = self.group_at(ix)
        {
            let at = now + COMPARE_SPACING;
            let at = *group.compare_all_at.get_or_insert(at);
            self.wake_at(at, "compare");
        }
        self.pull_next(now, ix, out);
    }

    /// A peer says that everything up to here is purged, so nothing needs to wait for it.
    fn take_floor(&mut self, now: Time, ix: GroupIx, floor: &Floor, out: &mut Outbox<Output>) {
        let (origin, serial) = (floor.origin, floor.serial);
        if self.index.settled(ix, origin, serial) {
            if floor.whole && !floor.dropped {
                self.index.note_purged(ix, origin, serial);
            }
            return;
        }
        let known = self.index.knows_origin(ix, origin);
        let after = self.index.highest(ix, origin);
        if floor.whole && !floor.dropped {
            self.index.note_purged(ix, origin, serial);
        } else {
            let key = LifeKey { group: ix, origin, incarnation: serial.incarnation };
            match self.index.life_mut(key, millis(now)) {
                // Another may have what this one dropped. What a newcomer never had is no loss.
                Ok((_, life)) if floor.dropped && known => life.give_up(serial.sequence),
                Ok((_, life)) if floor.dropped => life.raise_floor(serial.sequence),
                Ok((_, life)) => life.raise_aged(serial.sequence),
                Err(_) => return,
            }
        }
        if known {
            let reason = if floor.dropped { GapReason::Dropped } else { GapReason::Purged };
            self.report_gap(now, ix, origin, after, serial, reason);
        }
        self.release(now, ix, origin, out);
    }

    pub(crate) fn tick_pulls(&mut self, now: Time, out: &mut Outbox<Output>) {
        let stalled = self.pulls.iter();
        let stalled = stalled.filter(|(_, pull)| pull.progress + PULL_STALL <= now);
        let stalled: Vec<_> = stalled.map(|(token, _)| *token).collect();
        for token in stalled {
            let Some(pull) = self.pulls.remove(&token) else {
                continue;
            };
            if pull.is_full()
                && let Some(group) = self.group_at(pull.group)
                && group.peers.contains(&pull.peer)
                && !group.to_pull.contains(&pull.peer)
            {
                group.to_pull.push_back(pull.peer);
            }
            self.pull_next(now, pull.group, out);
        }
        let next = self.pulls.values().map(|pull| pull.progress + PULL_STALL).min();
        if let Some(at) = next {
            self.wake_at(at, "pulls");
        }
    }

    /// A neighbour is gone: nothing more comes from it.
    pub(crate) fn abandon_pulls(
        &mut self,
        now: Time,
        ix: GroupIx,
        peer: NodeId,
        out: &mut Outbox<Output>,
    ) {
        self.pulls.retain(|_, pull| (pull.group, pull.peer) != (ix, peer));
        self.pull_next(now, ix, out);
    }

    pub(crate) fn tick_compare(&mut self, now: Time, out: &mut Outbox<Output>) {
        let due: Vec<_> = self.groups.values().map(|group| group.ix).collect();
        for ix in due {
            let period = self.rng.jitter(self.config.compare_period, 0.25);
            let Some(group) = self.group_at(ix) else {
                continue;
            };
            let peers: Vec<_> = group.peers.iter().copied().collect();
            let all = group.compare_all_at.take_if(|at| *at <= now).is_some();
            let one = group.compare_at <= now;
            if one {
                group.compare_at = now + period;
            }
            let at = group.compare_all_at.unwrap_or(Time::NEVER).min(group.compare_at);
            self.wake_at(at, "compare");
            if all {
                for peer in &peers {
                    self.send_compare(ix, *peer, false, out);
                }
            }
            if one && let Some(peer) = self.rng.pick(&peers).copied() {
                self.send_compare(ix, peer, true, out);
            }
        }
    }
}

/// The node identity after this one.
fn successor(id: NodeId) -> NodeId {
    let number = u128::from_be_bytes(*id.as_bytes()).saturating_add(1);
    NodeId::from_bytes(number.to_be_bytes())
}
