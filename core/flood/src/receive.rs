//! Updates from peers: judged, passed on, put in order, appended.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::event::{Body, GapReason, Output, Rejection};
use crate::group::Fresh;
use crate::held::Waiting;
use crate::id::Serial;
use crate::life::{GroupIx, LifeKey, Place};
use crate::machine::{Flood, born_ms, millis};
use crate::message::Header;

/// How long an update that came before its predecessor waits before anybody is asked: links differ
/// in speed, and the predecessor usually is on its way.
const GAP_GRACE: Duration = Duration::from_millis(100);
/// How long the answer of one neighbour is awaited before another is asked.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// A pulled update younger than this may still be on its way to everybody, so it is passed on as
/// if it had come by itself; an older one is left to comparisons.
const LIVE_AGE_MS: u64 = 5_000;

impl Flood {
    /// Takes updates in. Says whether one of them was new and too old to be passed on.
    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(crate) fn receive_updates(
        &mut self,
        now: Time,
        ix: GroupIx,
        from: NodeId,
        headers: Vec<Header>,
        bodies: Vec<Bytes>,
        pulled: bool,
        out: &mut Outbox<Output>,
    ) -> bool {
        let mut bodies = bodies.into_iter();
        let mut old_news = false;
        for header in headers {
            let body = if header.is_large() { None } else { bodies.next() };
            let old = pulled && header.age_ms >= LIVE_AGE_MS;
            if self.receive(now, ix, (from, pulled), header, body, !old, out) {
                old_news |= old;
            }
        }
        old_news
    }

    /// Says whether the update was new.
    #[expect(clippy::too_many_arguments, reason = "the parts of one update")]
    fn receive(
        &mut self,
        now: Time,
        ix: GroupIx,
        (from, pulled): (NodeId, bool),
        header: Header,
        body: Option<Bytes>,
        pass_on: bool,
        out: &mut Outbox<Output>,
    ) -> bool {
        let id = header.id;
        let ours = Serial { incarnation: self.incarnation, sequence: self.sequence };
        if self.begun && id.origin == self.me && id.serial > ours {
            self.reject(from, Rejection::Forged(id), out);
            return false;
        }
        if Duration::from_millis(header.age_ms) > self.config.purge_age {
            self.stats.stale += 1;
            return false;
        }
        let place = self.index.place(ix, id);
        let known = place == Place::Known || self.held.contains(ix, id.origin, id.serial);
        if known && !crate::fault::planted().duplicates {
            self.stats.duplicates += 1;
            if body.is_some() && !pulled {
                self.came_late(now, ix, id, from);
            }
            return false;
        }
        let born = born_ms(now, header.age_ms);
        if header.length > self.config.body_max.0 {
            // In its turn it becomes a gap, which is told once. Nobody could have it from here.
            if place == Place::New {
                self.arrived(now, ix, header, born, Body::Here(Bytes::new()), from, out);
            }
            return false;
        }
        let Some(body) = body else {
            return self.want(now, ix, header, born, from, out);
        };
        let known_by = self.came_first(now, ix, id, (from, pulled), out);
        if pass_on {
            let late = place == Place::Late;
            let (header, body) = (header.clone(), body.clone());
            self.pass_on(now, ix, Fresh { header, born, body, known_by, late }, out);
        }
        self.arrived(now, ix, header, born, Body::Here(body), from, out);
        true
    }

    /// An update is here with its body: it goes to the log, or waits for its predecessor.
    #[expect(clippy::too_many_arguments, reason = "the parts of one update")]
    pub(crate) fn arrived(
        &mut self,
        now: Time,
        ix: GroupIx,
        header: Header,
        born: i64,
        body: Body,
        from: NodeId,
        out: &mut Outbox<Output>,
    ) {
        let id = header.id;
        if !self.is_ready(ix, &header) {
            let waiting = Waiting { header, born, body, from };
            let ask_at = now + GAP_GRACE;
            if self.held.hold(ix, waiting, now, ask_at) {
                self.wake_at(ask_at, "missing predecessors");
            } else {
                self.stats.dropped_held += 1;
            }
            return;
        }
        self.accept(now, ix, &header, born, body, from, out);
        self.release(now, ix, id.origin, out);
    }

    fn is_ready(&self, ix: GroupIx, header: &Header) -> bool {
        let origin = header.id.origin;
        crate::fault::planted().disorder
            || header.predecessor.is_none_or(|before| self.index.settled(ix, origin, before))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one update")]
    fn accept(
        &mut self,
        now: Time,
        ix: GroupIx,
        header: &Header,
        born: i64,
        body: Body,
        from: NodeId,
        out: &mut Outbox<Output>,
    ) {
        if header.id.origin == self.me
            && let Some(group) = self.group_at(ix)
        {
            // A trace of an earlier life, which the disk had lost: the next publish follows it.
            group.last_own = group.last_own.max(Some(header.id.serial));
        }
        if header.length > self.config.body_max.0 {
            return self.cannot_keep(now, ix, header, from, out);
        }
        let times = (born, millis(now));
        let fetched = body == Body::Fetched;
        if self.index.make_sure(ix, header.id, header.predecessor, times) {
            self.stats.duplicates += 1;
            if fetched {
                out.push(Output::BodyDrop { id: header.id });
            }
        } else if self.append(now, ix, header, born, (body, Vec::new()), Some(from)).is_some() {
            self.stats.accepted += 1;
        } else {
            self.reject(from, Rejection::TooManyOrigins(header.id), out);
            if fetched {
                out.push(Output::BodyDrop { id: header.id });
            }
        }
    }

    /// An update whose body is over this node's own limit: a gap at once, since no waiting helps.
    fn cannot_keep(
        &mut self,
        now: Time,
        ix: GroupIx,
        header: &Header,
        from: NodeId,
        out: &mut Outbox<Output>,
    ) {
        let Header { id, length, .. } = *header;
        if self.index.place(ix, id) != Place::New {
            return;
        }
        let after = self.index.highest(ix, id.origin);
        match self.index.life_mut(LifeKey::of(ix, id), millis(now)) {
            Ok((_, life)) => life.give_up(id.serial.sequence),
            Err(_) => return self.reject(from, Rejection::TooManyOrigins(id), out),
        }
        let reason = GapReason::TooLarge { length, limit: self.config.body_max.0 };
        self.report_gap(now, ix, id.origin, after, id.serial, reason);
    }

    /// Lets go what waited for what has arrived, or was given up.
    pub(crate) fn release(
        &mut self,
        now: Time,
        ix: GroupIx,
        origin: NodeId,
        out: &mut Outbox<Output>,
    ) {
        let index = &self.index;
        let ready = |header: &Header| {
            let before = header.predecessor;
            before.is_none_or(|before| index.settled(ix, origin, before))
        };
        let Some(first) = self.held.release(ix, origin, ready) else {
            return;
        };
        let mut next = Some(first);
        while let Some(it) = next {
            if self.index.place(ix, it.header.id) == Place::Known {
                self.stats.duplicates += 1;
                if it.body == Body::Fetched {
                    out.push(Output::BodyDrop { id: it.header.id });
                }
            } else {
                self.accept(now, ix, &it.header, it.born, it.body, it.from, out);
            }
            let index = &self.index;
            next = self.held.release(ix, origin, |header| {
                let before = header.predecessor;
                before.is_none_or(|before| index.settled(ix, origin, before))
            });
        }
        if let Some(blocked) = self.held.blocked.get_mut(&(ix, origin)) {
            blocked.since = now;
            blocked.ask_at = now + GAP_GRACE;
            self.wake_at(now + GAP_GRACE, "missing predecessors");
        }
    }

    pub(crate) fn tick_held(&mut self, now: Time, out: &mut Outbox<Output>) {
        let timeout = self.config.pull_timeout;
        let keys: Vec<_> = self.held.blocked.keys().copied().collect();
        for (ix, origin) in keys {
            let Some(blocked) = self.held.blocked.get_mut(&(ix, origin)) else {
                continue;
            };
            let Some(first) = blocked.waiting.first_key_value().map(|it| it.1) else {
                continue;
            };
            let (missing, from) = (first.header.predecessor, first.from);
            if blocked.since + timeout <= now {
                self.give_up(now, ix, origin, missing, out);
            } else if blocked.ask_at <= now {
                let first_time = blocked.since + GAP_GRACE >= blocked.ask_at;
                blocked.ask_at = now + ASK_AGAIN;
                self.ask_for(now, ix, origin, missing, (from, first_time), out);
            }
            if let Some(blocked) = self.held.blocked.get(&(ix, origin)) {
                let at = blocked.ask_at.min(blocked.since + timeout);
                self.wake_at(at, "missing predecessors");
            }
        }
    }

    /// Asks for what is missing: first whoever gave us its successor, then others by chance.
    fn ask_for(
        &mut self,
        now: Time,
        ix: GroupIx,
        origin: NodeId,
        missing: Option<Serial>,
        (from, first_time): (NodeId, bool),
        out: &mut Outbox<Output>,
    ) {
        let id = missing.map(|serial| crate::UpdateId { origin, serial });
        if id.is_some_and(|id| self.wants.contains_key(&(ix, id))) {
            return;
        }
        let Some(name) = self.names.get(&ix) else {
            return;
        };
        let peers = self.groups.get(name).map(|group| &group.peers);
        let peers: Vec<_> = peers.into_iter().flatten().copied().collect();
        let peer = if first_time { Some(from) } else { self.rng.pick(&peers).copied() };
        if let Some(peer) = peer {
            self.pull_origin(now, ix, origin, peer, out);
        }
    }

    /// What is missing did not come in time: it becomes a reported gap.
    fn give_up(
        &mut self,
        now: Time,
        ix: GroupIx,
        origin: NodeId,
        missing: Option<Serial>,
        out: &mut Outbox<Output>,
    ) {
        let Some(missing) = missing else {
            return self.release(now, ix, origin, out);
        };
        let after = self.index.highest(ix, origin);
        let key = LifeKey { group: ix, origin, incarnation: missing.incarnation };
        let Ok((_, life)) = self.index.life_mut(key, millis(now)) else {
            self.held.forget(|group, of| (group, of) == (ix, origin));
            return;
        };
        life.give_up(missing.sequence);
        self.report_gap(now, ix, origin, after, missing, GapReason::PullTimeout);
        self.release(now, ix, origin, out);
    }
}
