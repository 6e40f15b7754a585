//! A node that manages nothing: whom it follows, how it becomes a learner, when it founds a flock.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::compare::Compared;
use crate::config::MAX_IMAGE_BYTES;
use crate::event::{Eligibility, Event, Output, Reason};
use crate::group::Group;
use crate::id::{ForkId, Founding, Generation, Lineage, RaftId, Role, Stamp, Strength};
use crate::machine::{Managers, newest};
use crate::merge::order;
use crate::message::{Engine as Packet, EngineBody, FlockClaim, Message, PART_BYTES};
use crate::stored::{Conf, Cut, History, Image, ImageChange, Meta, Place, SyncSet, Voter, Write};

/// A raft id that was taken, and nothing more yet.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) lineage: Lineage,
    pub(crate) fork: ForkId,
    pub(crate) raft: RaftId,
    pub(crate) master: NodeId,
    pub(crate) since: Time,
}

/// An image that is being fetched.
#[derive(Debug)]
pub(crate) struct Incoming {
    from: NodeId,
    raft: RaftId,
    of: (Lineage, ForkId),
    term: u64,
    index: u64,
    bytes: usize,
    have: Vec<u8>,
    asked: Time,
    tries: u32,
}

/// Requests for one part before the fetch is given up; the master offers another image then.
const MAX_TRIES: u32 = 8;

impl Managers {
    /// Whether this node waits for something that time alone may bring, and so must look again.
    /// Who follows a master that is there waits for nothing: that it is gone will be told.
    pub(crate) fn looks(&self) -> bool {
        self.me.eligible == Eligibility::Eligible && self.group.is_none() && !self.follows
            || self.enrolled.is_some()
            || self.incoming.is_some()
            || self.lonely.is_some()
    }

    /// Nobody is looked for before `at`: a host that let the managers wait heard of nobody on their
    /// behalf, and that is no reason to found a flock.
    pub fn look_from(&mut self, at: Time) {
        self.masterless = self.masterless.max(at);
    }

    /// The masters that are announced now.
    pub(crate) fn masters(&self) -> impl Iterator<Item = (NodeId, &FlockClaim)> {
        self.nodes.iter().filter_map(|(node, known)| {
            let claim = known.claim.as_ref().filter(|_| known.present)?;
            let flock = claim.flock.as_ref().filter(|_| claim.role == Role::Master)?;
            Some((*node, flock))
        })
    }

    /// The live master of a history, as far as this node hears.
    pub(crate) fn master_of(&self, lineage: Lineage) -> Option<(NodeId, &FlockClaim)> {
        foremost(self.masters().filter(|(_, flock)| flock.lineage == lineage))
    }

    pub(crate) fn look_for_flock(&mut self, now: Time, out: &mut Outbox<Output>) {
        let best = foremost(self.masters())
            .map(|(_, flock)| (flock.lineage, flock.stamp, flock.acknowledged, flock.generation));
        // It was not looked since, for nothing happened until this master went.
        if std::mem::replace(&mut self.follows, best.is_some()) || best.is_some() {
            self.masterless = now;
        }
        if let Some((lineage, stamp, acknowledged, generation)) = best {
            self.lonely = None;
            self.appeal = None;
            self.follow = Some(lineage);
            if stamp.epoch > self.state.seen.epoch {
                self.state.seen = stamp;
                self.state_changed = true;
            }
            self.state.promised = self.state.promised.max(generation);
            if acknowledged && self.state.followed != Some(lineage) {
                self.state.followed = Some(lineage);
                self.state_changed = true;
            }
            if self.enrolled.as_ref().is_some_and(|it| it.lineage != lineage) {
                self.enrolled = None;
                self.incoming = None;
            }
            return;
        }
        if self.me.eligible != Eligibility::Eligible || !self.well {
            return;
        }
        if self.state.followed.is_some() {
            self.orphaned(now, out);
            return;
        }
        if now.since(self.masterless) >= self.patience_to_found() {
            self.found(now, out);
        }
    }

    /// How long a node that never followed anybody waits for a flock before it founds one.
    fn patience_to_found(&self) -> Duration {
        // Managers that are between two masters are no reason to found another flock.
        let managed = self.nodes.values().any(|known| {
            let claim = known.claim.as_ref().filter(|_| known.present);
            claim.is_some_and(|claim| claim.role > Role::Eligible)
        });
        match managed {
            true => self.config.orphaned_holding,
            false => self.config.found_after.mul_f64(self.patience),
        }
    }

    /// When an eligible node without a master founds a flock, by what is known now; nothing while
    /// that is for another to do.
    pub(crate) fn founds_at(&self) -> Option<Time> {
        let patience = match self.state.followed {
            Some(_) if self.is_held_by_another() => return None,
            Some(_) => self.patience_orphaned(),
            None => self.patience_to_found(),
        };
        Some(self.masterless + patience)
    }

    /// Founds a flock of this node alone, from nothing.
    fn found(&mut self, now: Time, out: &mut Outbox<Output>) {
        let lineage = Lineage(self.rng.bits());
        let me = Place {
            node: self.me.id,
            eligible: self.me.eligible,
            resources: self.me.resources,
            availability: 500,
            held: false,
            given_up: false,
        };
        let meta = Meta {
            lineage,
            generation: Generation(1),
            fork: ForkId(self.rng.bits()),
            parent: None,
            strong: false,
            founding: Founding(0),
            acknowledged: false,
            epoch: self.state.seen.epoch,
            master: None,
            sync: SyncSet { version: 1, members: vec![self.me.id] },
            roster: vec![me],
            roster_version: 0,
            roster_base: 0,
            roster_before: Vec::new(),
            names: Vec::new(),
            merging: Vec::new(),
            absorbed: Vec::new(),
            ended: None,
        };
        self.begin(now, meta, History::default(), (1, 1), out);
    }

    /// Begins a history with this node as its only voter, on disk before anything comes of it.
    pub(crate) fn begin(
        &mut self,
        now: Time,
        mut meta: Meta,
        history: History,
        at: (u64, u64),
        out: &mut Outbox<Output>,
    ) {
        let raft = self.new_raft_id();
        meta.names = vec![(raft, self.me.id)];
        let conf = Conf { voters: vec![raft], ..Conf::default() };
        let event = Event::Formed {
            lineage: meta.lineage,
            generation: meta.generation,
            parent: meta.parent,
            strength: if meta.strong { Strength::Strong } else { Strength::Weak },
        };
        let image = Image::new(meta, conf, at.0, at.1, history);
        self.adopt(now, raft, at.1, image, out);
        self.because("it founded a flock");
        if let Some(group) = &mut self.group {
            group.engine.campaign();
        }
        out.push(Output::Event(event));
    }

    /// Puts `image` in the place of everything on disk, and this node into its flock as `raft`.
    fn adopt(
        &mut self,
        now: Time,
        raft: RaftId,
        term: u64,
        image: Image,
        out: &mut Outbox<Output>,
    ) {
        let bytes = image.to_bytes();
        let (lineage, fork) = (image.meta.lineage, image.meta.fork);
        let vote = RaftId(0);
        let voter = Voter { raft, lineage, fork, term, vote, commit: image.index };
        self.lives += 1;
        let rng = self.rng.fork();
        let group = Group::new(self.lives, &self.config, &voter, image, &[], rng);
        self.group = group;
        self.boot = None;
        self.compared = Compared::default();
        self.end_solitude(now);
        self.enrolled = None;
        self.incoming = None;
        self.mastership = None;
        self.lonely = None;
        self.appeal = None;
        self.giver = None;
        self.leaderless = Some(now);
        self.next_tick = now + self.config.tick;
        self.state.promised = self
            .group
            .as_ref()
            .map_or(Generation(0), |group| self.state.promised.max(group.meta.generation));
        if let Some(group) = &self.group {
            self.state.seen = newest(self.state.seen, group.stamp());
            self.state.founding = self.state.founding.max(group.meta.founding);
            if group.meta.acknowledged {
                self.state.followed = Some(group.meta.lineage);
            }
        }
        self.follow = Some(lineage);
        self.state_changed = true;
        let image = ImageChange::Replace(bytes);
        self.write(Write { cut: Cut::All, image, ..Write::default() }, Vec::new(), out);
        self.tell_catalog(out);
    }

    fn new_raft_id(&mut self) -> RaftId {
        #[cfg(test)]
        if crate::plant::is(crate::plant::Bug::OneRaftId) {
            return RaftId(u64::from(self.me.id.as_bytes()[0]));
        }
        RaftId((self.rng.bits() >> 1).max(1))
    }

    /// Leaves the group, and everything of it on disk. `into`: where its history goes on, if that
    /// is known.
    pub(crate) fn dissolve(
        &mut self,
        now: Time,
        into: Option<Lineage>,
        why: &'static str,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group.take() else {
            return;
        };
        self.refuse_pending(out);
        self.mastership = None;
        self.boot = None;
        self.compared = Compared::default();
        self.rebooted = false;
        self.lonely = None;
        self.giver = None;
        self.incoming = None;
        self.released = None;
        self.because(why);
        self.masterless = now;
        let lineage = group.meta.lineage;
        self.state.voter = None;
        if group.meta.acknowledged {
            self.state.followed = Some(into.unwrap_or(lineage));
        }
        if let Some(into) = into {
            self.state.end(lineage, into);
            self.follow = Some(into);
            out.push(Output::Event(Event::MergedInto { lineage, into }));
        }
        self.state_changed = true;
        let write = Write { cut: Cut::All, image: ImageChange::Drop, ..Write::default() };
        self.write(write, Vec::new(), out);
        self.next_tick = now + self.config.retry;
    }

    /// A master wants this node for its learner.
    pub(crate) fn enlist_came(
        &mut self,
        now: Time,
        from: NodeId,
        of: (Lineage, ForkId),
        stamp: Stamp,
        out: &mut Outbox<Output>,
    ) {
        let (lineage, fork) = of;
        let fit = self.me.eligible == Eligibility::Eligible && self.well;
        let ended = self.state.ended.iter().any(|(ended, _)| *ended == lineage);
        let known = self.master_of(lineage).is_none_or(|(master, _)| master == from);
        if !fit || ended || !known || self.group.is_some() || self.follow != Some(lineage) {
            self.send(from, &Message::Declined { lineage }, out);
            return;
        }
        self.saw_epoch(stamp.epoch);
        let again = self.enrolled.as_ref().filter(|it| (it.lineage, it.fork) == of);
        let raft = match again {
            Some(it) => it.raft,
            None => self.new_raft_id(),
        };
        self.enrolled = Some(Enrolled { lineage, fork, raft, master: from, since: now });
        self.send(from, &Message::Enlisted { lineage, fork, raft }, out);
    }

    /// An engine message to a node that has a raft id and no log: it asks for the image.
    pub(crate) fn enrolled_packet(
        &mut self,
        now: Time,
        from: NodeId,
        packet: &Packet,
        out: &mut Outbox<Output>,
    ) {
        let Some(enrolled) = &mut self.enrolled else {
            return;
        };
        if (packet.lineage, packet.fork, packet.to)
            != (enrolled.lineage, enrolled.fork, enrolled.raft)
        {
            return;
        }
        enrolled.since = now;
        let raft = enrolled.raft;
        let reply = |body| {
            let Packet { lineage, fork, term, .. } = *packet;
            Message::Engine(Packet { lineage, fork, from: raft, to: packet.from, term, body })
        };
        match &packet.body {
            EngineBody::Append { index, .. } => {
                let (hint, hint_term, commit) = (0, 0, 0);
                let body = EngineBody::AppendRefused { index: *index, hint, hint_term, commit };
                self.send(from, &reply(body), out);
            }
            EngineBody::Heartbeat { beat, .. } => {
                let body = EngineBody::HeartbeatReply { commit: 0, beat: *beat };
                self.send(from, &reply(body), out);
            }
            EngineBody::Snapshot { index, bytes, .. } => {
                self.fetch(now, from, packet, (*index, *bytes), out);
            }
            EngineBody::Appended { .. }
            | EngineBody::AppendRefused { .. }
            | EngineBody::Vote { .. }
            | EngineBody::Voted { .. }
            | EngineBody::HeartbeatReply { .. }
            | EngineBody::TimeoutNow => {}
        }
    }

    /// Begins to fetch an image that was announced.
    pub(crate) fn fetch(
        &mut self,
        now: Time,
        from: NodeId,
        packet: &Packet,
        (index, bytes): (u64, u64),
        out: &mut Outbox<Output>,
    ) {
        let Some(bytes) =
            usize::try_from(bytes).ok().filter(|it| (1..=MAX_IMAGE_BYTES).contains(it))
        else {
            out.push(Output::Reject { from, reason: Reason::OutOfRange });
            return;
        };
        let of = (packet.lineage, packet.fork);
        if let Some(same) = &mut self.incoming
            && (same.from, same.of, same.index, same.bytes) == (from, of, index, bytes)
        {
            same.term = packet.term;
            return;
        }
        self.incoming = Some(Incoming {
            from,
            raft: packet.from,
            of,
            term: packet.term,
            index,
            bytes,
            have: Vec::new(),
            asked: now,
            tries: 0,
        });
        self.ask_part(now, out);
    }

    fn ask_part(&mut self, now: Time, out: &mut Outbox<Output>) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        incoming.asked = now;
        let (lineage, fork) = incoming.of;
        let part = u32::try_from(incoming.have.len() / PART_BYTES).unwrap_or(u32::MAX);
        let (to, index) = (incoming.from, incoming.index);
        self.send(to, &Message::PartAsk { lineage, fork, index, part }, out);
    }

    /// Asks again for a part that did not come, and gives up what nobody serves.
    pub(crate) fn fetch_again(&mut self, now: Time, out: &mut Outbox<Output>) {
        let stale = self.config.backup_silent;
        if self.enrolled.as_ref().is_some_and(|it| now.since(it.since) > stale) {
            self.enrolled = None;
            self.incoming = None;
        }
        let retry = self.config.retry;
        let Some(incoming) = self.incoming.as_mut().filter(|it| now.since(it.asked) >= retry)
        else {
            return;
        };
        incoming.tries += 1;
        if incoming.tries > MAX_TRIES {
            self.incoming = None;
        } else {
            self.ask_part(now, out);
        }
    }

    pub(crate) fn part_asked(
        &mut self,
        now: Time,
        from: NodeId,
        of: (Lineage, ForkId),
        index: u64,
        part: u32,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = &mut self.group else {
            return;
        };
        let Some(raft) =
            group.raft_of(from).filter(|_| of == (group.meta.lineage, group.meta.fork))
        else {
            out.push(Output::Reject { from, reason: Reason::NotEntitled });
            return;
        };
        group.engine.part_was_asked(now, raft);
        let Some((_, image)) = group.images.iter().find(|(image, _)| image.index == index) else {
            return;
        };
        let start = usize::try_from(part).unwrap_or(usize::MAX).saturating_mul(PART_BYTES);
        if start < image.len() {
            let bytes = image.slice(start..image.len().min(start + PART_BYTES));
            let (lineage, fork) = of;
            self.send(from, &Message::Part { lineage, fork, index, part, bytes }, out);
        }
    }

    pub(crate) fn part_came(
        &mut self,
        now: Time,
        from: NodeId,
        of: (Lineage, ForkId),
        (index, part): (u64, u32),
        bytes: &Bytes,
        out: &mut Outbox<Output>,
    ) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        let wanted = incoming.have.len() / PART_BYTES;
        if (incoming.from, incoming.of, incoming.index) != (from, of, index)
            || usize::try_from(part) != Ok(wanted)
            || incoming.have.len() % PART_BYTES != 0
        {
            return;
        }
        let expected = (incoming.bytes - incoming.have.len()).min(PART_BYTES);
        if bytes.len() != expected {
            self.incoming = None;
            out.push(Output::Reject { from, reason: Reason::OutOfRange });
            return;
        }
        incoming.have.extend_from_slice(bytes);
        incoming.tries = 0;
        if incoming.have.len() < incoming.bytes {
            self.ask_part(now, out);
        } else if let Some(incoming) = self.incoming.take() {
            self.image_came(now, incoming, out);
        }
    }

    fn image_came(&mut self, now: Time, incoming: Incoming, out: &mut Outbox<Output>) {
        let bytes = Bytes::from(incoming.have);
        let image = Image::from_bytes(&bytes).filter(|image| {
            let of = (image.meta.lineage, image.meta.fork);
            of == incoming.of && image.index == incoming.index && image.term <= incoming.term
        });
        let Some(image) = image else {
            out.push(Output::Reject { from: incoming.from, reason: Reason::Malformed });
            return;
        };
        if let Some(group) = &mut self.group {
            let of = (group.meta.lineage, group.meta.fork);
            if of == incoming.of && incoming.term >= group.engine.term() {
                group.engine.step_image(incoming.raft, incoming.term, &image, bytes);
            }
            return;
        }
        let Some(raft) = self.enrolled.as_ref().map(|enrolled| enrolled.raft) else {
            return;
        };
        // Only a learner's first image makes it one.
        if !image.conf.learners.contains(&raft) {
            return;
        }
        let index = image.index;
        let (lineage, fork) = incoming.of;
        self.adopt(now, raft, incoming.term, image, out);
        let body = EngineBody::Appended { index, commit: index };
        let (from, to) = (raft, incoming.raft);
        let packet = Packet { lineage, fork, from, to, term: incoming.term, body };
        self.send_when_safe(incoming.from, Message::Engine(packet), out);
    }

    /// Whom this node wants links to.
    pub(crate) fn wanted_links(&self) -> BTreeSet<NodeId> {
        let mut wanted = BTreeSet::new();
        if let Some(group) = &self.group {
            wanted.extend(group.voters());
            wanted.extend(group.learners());
        }
        wanted.extend(self.enrolled.as_ref().map(|enrolled| enrolled.master));
        if let Some(mastership) = &self.mastership {
            wanted.extend(mastership.enlisting());
        }
        wanted.remove(&self.me.id);
        wanted
    }
}

/// Of masters the one that wins a merge; of one history the one with the newest stamp.
pub(crate) fn foremost<'a>(
    masters: impl Iterator<Item = (NodeId, &'a FlockClaim)>,
) -> Option<(NodeId, &'a FlockClaim)> {
    masters.min_by(|a, b| order(b.1).cmp(&order(a.1)).then(b.1.stamp.epoch.cmp(&a.1.stamp.epoch)))
}
