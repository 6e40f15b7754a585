//! Links: one to a peer, heartbeats on it, and when it may go.

use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Incarnation, NodeId, Nonce, Outbox, Time};

use crate::dialling::CALM;
use crate::event::{DownReason, Goodbye, LinkId, Output, Peer};
use crate::facts::{Edge, MAX_EDGES, Verdict, Watch, short_nonce};
use crate::machine::{LinkView, Lost, Membership};
use crate::message::Heartbeat;
use crate::name::CONTEST_LASTS;

/// A link that neither end wants stays at least this many beats: layouts move while a flock forms.
const UNWANTED_BEATS: u32 = 2;
/// A silent link is closed after this many times the silence that made it so.
const CLOSE_SILENT: u32 = 3;
/// How long a broken link's node is given the benefit of the doubt while it is dialled again, in
/// beats.
const DOUBT_BEATS: u32 = 1;
/// How long a broken link is spoken of, in times the silence.
const LOST_SPAN: u32 = 10;
/// With so many edges of the overlay a node is well enough connected for a moment.
const ENOUGH_EDGES: usize = 2;
/// An edge of the overlay that stays away for longer, in beats, has other links take its place. It
/// is not even dialled for one beat while the members change.
const MISSING_BEATS: u32 = 2;
/// A node waits so long for the word of another before it says that it hears somebody new; while
/// members come and go, so long as that other's own word may take.
const GAIN_WAIT: Duration = Duration::from_millis(25);
const GAIN_WAIT_AT_MOST: Duration = Duration::from_millis(250);
/// The larger the flock the longer it keeps growing, and the more nodes each record costs.
const ROUTINE_PER_MEMBER: Duration = Duration::from_millis(4);
/// But while members come and go it waits at most so many times as long.
const ROUTINE_PATIENCE: u32 = 3;
/// Links that are let go come several at a time, and are spoken of together.
const RELEASE_WAIT: Duration = Duration::from_millis(200);
/// To a peer that stays for so many beats with one and the same other view of who is present is
/// flooded, whatever the overlay says.
const DISAGREE_BEATS: u32 = 2;

/// The lower identity begins: the higher one leaves it this share of a beat, and then answers. Two
/// that begin at once acknowledge each other twice. Three such beats still fit into a silence.
const COURTESY_SHARE: u32 = 20;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) incarnation: Incarnation,
    nonce: Nonce,
    dialled: bool,
    since: Time,
    last_heard: Time,
    last_beat: Option<Time>,
    said: Heartbeat,
    /// What the next beat says, as last concluded.
    to_say: Heartbeat,
    pub(crate) peer_says: Option<Heartbeat>,
    pub(crate) verdict: Verdict,
    unwanted_since: Option<Time>,
    flood: Option<bool>,
    /// The peer sees other members than this node, and always the same.
    disagrees_since: Option<Time>,
    /// When another live process of the peer's name was last turned away for this link's sake.
    twin_met: Option<Time>,
}

impl Membership {
    pub(crate) fn link_up(&mut self, now: Time, id: LinkId, peer: Peer, out: &mut Outbox<Output>) {
        let dialled = peer.dialled.is_some();
        self.dial_succeeded(now, &peer);
        if peer.id == self.me.id {
            // Ourselves by a roundabout way, or another process of our name: never a link.
            let why =
                if peer.nonce == self.me.nonce { Goodbye::Duplicate } else { Goodbye::NameTaken };
            if peer.nonce != self.me.nonce {
                self.met_own_name(now, out);
            }
            return out.push(Output::Close { link: id, why });
        }
        if self.stopping {
            return out.push(Output::Close { link: id, why: Goodbye::Stopping });
        }
        if let Some(why) = self.refuse_beside_existing(now, &peer) {
            if why == Goodbye::NameTaken
                && let Some(first) = self.links.get_mut(&peer.id)
            {
                // The one that keeps the name wants to know as well.
                first.twin_met = Some(now);
                self.beats_changed = true;
            }
            return out.push(Output::Close { link: id, why });
        }
        if let Some(old) = self.links.remove(&peer.id) {
            self.link_owner.remove(&old.id);
            out.push(Output::Close { link: old.id, why: Goodbye::Duplicate });
        }
        if let Some(member) = self.members.get_mut(peer.id) {
            member.name.get_or_insert_with(|| peer.name.clone());
        } else {
            // No room for another member: the link could never be of use.
            return out.push(Output::Close { link: id, why: Goodbye::Unneeded });
        }
        self.lost.remove(&peer.id);
        let link = Link {
            id,
            incarnation: peer.incarnation,
            nonce: peer.nonce,
            dialled,
            since: now,
            last_heard: now,
            last_beat: None,
            said: Heartbeat::default(),
            to_say: Heartbeat::default(),
            peer_says: None,
            verdict: Verdict::Heard,
            unwanted_since: None,
            flood: None,
            disagrees_since: None,
            twin_met: None,
        };
        self.links.insert(peer.id, link);
        self.statistics.links += 1;
        self.link_owner.insert(id, peer.id);
        self.note_link(peer.id);
        out.push(Output::Linked { peer: peer.id, link: id });
        self.reached(&peer, out);
        self.send_beat(now, peer.id, out);
        self.gained(now, peer.id);
    }

    /// A second connection to a peer: which of the two stays. Both ends judge alike: the one that
    /// the lower identity dialled, unless the other is a new life, or the old one has gone quiet.
    fn refuse_beside_existing(&self, now: Time, peer: &Peer) -> Option<Goodbye> {
        let old = self.links.get(&peer.id)?;
        let quiet = now.since(old.last_heard) > self.config.heartbeat * 3 / 2;
        if old.nonce != peer.nonce {
            return (!quiet && old.verdict == Verdict::Heard).then_some(Goodbye::NameTaken);
        }
        let lower_dialled = |dialled: bool| dialled == (self.me.id < peer.id);
        let (old_good, new_good) =
            (lower_dialled(old.dialled), lower_dialled(peer.dialled.is_some()));
        (!quiet && old_good && !new_good).then_some(Goodbye::Duplicate)
    }

    pub(crate) fn link_down(
        &mut self,
        now: Time,
        id: LinkId,
        why: DownReason,
        out: &mut Outbox<Output>,
    ) {
        if why == DownReason::Goodbye(Goodbye::NameTaken) {
            self.told_name_is_taken(now, out);
        }
        let Some(peer) = self.link_owner.remove(&id) else {
            return;
        };
        let Some(link) = self.links.remove(&peer) else {
            return;
        };
        out.push(Output::Unlinked { peer });
        self.note_link(peer);
        let verdict = match why {
            DownReason::Closed | DownReason::Fault => Verdict::Suspect,
            DownReason::TimedOut => Verdict::Silent,
            // Who stops says so itself: that word must be everywhere before nobody hears it.
            DownReason::Goodbye(Goodbye::Unneeded | Goodbye::Stopping) => {
                self.released(now);
                return self.dial_again_soon(now, peer);
            }
            DownReason::Goodbye(_) | DownReason::Local => {
                self.heard_changed();
                return self.dial_again_soon(now, peer);
            }
        };
        self.heard_changed();
        let (incarnation, nonce) = (link.incarnation, short_nonce(link.nonce));
        self.lost.insert(peer, Lost { at: now, incarnation, nonce, verdict });
        self.note_link(peer);
        self.dial_again_now(now, peer);
    }

    pub(crate) fn heard(&mut self, now: Time, id: LinkId) {
        let Some(peer) = self.link_owner.get(&id).copied() else {
            return;
        };
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        link.last_heard = now;
        if link.verdict != Verdict::Heard {
            link.verdict = Verdict::Heard;
            self.note_link(peer);
            self.heard_changed();
        }
    }

    pub(crate) fn heartbeat_came(
        &mut self,
        now: Time,
        id: LinkId,
        heartbeat: Option<Heartbeat>,
        out: &mut Outbox<Output>,
    ) {
        self.heard(now, id);
        let Some(peer) = self.link_owner.get(&id).copied() else {
            return;
        };
        // Who refuses a link says nothing on it but that.
        self.is_met(now);
        let half_a_beat = self.config.heartbeat / 2;
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        // Who says the same as before and never said anything is heard, and no more than that.
        let Some(heartbeat) = heartbeat.or(link.peer_says) else {
            return;
        };
        let before = link.peer_says.replace(heartbeat);
        self.unlooked |= before != Some(heartbeat);
        if before.is_some_and(|before| before.members != heartbeat.members) {
            // Its view moves, so what is flooded reaches it.
            link.disagrees_since = None;
        }
        if heartbeat.has(Heartbeat::CONTESTED) {
            self.met_second_process(now, peer, out);
        }
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let risen = heartbeat.incarnation > link.incarnation;
        if risen {
            link.incarnation = heartbeat.incarnation;
        }
        let answer = link.last_beat.is_none_or(|last| now.since(last) >= half_a_beat);
        if risen {
            self.note_link(peer);
            self.gained(now, peer);
        }
        if answer {
            self.send_beat(now, peer, out);
        }
    }

    /// A peer is heard that was not: somebody's presence may hang on that, if nobody else hears it.
    /// Whether somebody does shows in a moment, for most who join are linked to several at once.
    pub(crate) fn gained(&mut self, now: Time, peer: NodeId) {
        if self.heard_by_another(peer) {
            self.heard_changed_in_passing();
        } else {
            self.links_changed();
            // One change follows another: the node that all join through is about to say so.
            let busy = now.since(self.laid_out_before) < GAIN_WAIT_AT_MOST;
            let wait = if busy { GAIN_WAIT_AT_MOST } else { GAIN_WAIT };
            self.watch_gain.get_or_insert(now + wait);
        }
    }

    /// A link was let go, as somebody else hears the peer. But what was said of it is true no
    /// longer, and would keep it present if it died now.
    fn released(&mut self, now: Time) {
        self.links_changed();
        self.watch_stale = true;
        self.watch_gain.get_or_insert(now + RELEASE_WAIT);
        self.watch_released = true;
    }

    /// Somebody is present no longer: this node may be the only one now that hears some peer.
    pub(crate) fn watchers_lost(&mut self, now: Time) {
        if self.watch_stale {
            self.watch_gain = Some(now);
        }
    }

    /// Somebody hears others than before. Of a link for an errand nothing was said: that must be
    /// made up for when this node is left alone with it.
    pub(crate) fn watchers_changed(&mut self, now: Time) {
        if self.withheld.iter().any(|peer| self.hears_alone_of(*peer)) {
            self.watch_gain = Some(now);
        }
    }

    /// Whether this node alone hears somebody, and has not said so.
    fn hears_alone(&self) -> bool {
        self.links.keys().any(|peer| self.hears_alone_of(*peer))
    }

    fn hears_alone_of(&self, peer: NodeId) -> bool {
        let Some(link) = self.links.get(&peer) else {
            return false;
        };
        let said = self.published.as_ref().and_then(|watch| watch.edge(peer));
        let is_said = said.is_some_and(|edge| {
            edge.incarnation == link.incarnation && edge.verdict != Verdict::Silent
        });
        link.verdict != Verdict::Silent && !is_said && !self.heard_by_another(peer)
    }

    /// What this node hears has changed, and nobody's presence hangs on it.
    pub(crate) fn heard_changed_in_passing(&mut self) {
        self.links_changed();
        self.watch_stale = true;
    }

    /// What this node hears has changed: presence and the watch record follow.
    pub(crate) fn heard_changed(&mut self) {
        self.links_changed();
        self.watch_urgent = true;
    }

    /// Whatever follows from which links there are must be concluded again.
    fn links_changed(&mut self) {
        self.beats_changed = true;
        self.unlooked = true;
        self.beat_plan = None;
        self.dial_plan = None;
    }

    /// Sends beats that are due, judges who was not heard, and lets go of what nobody wants.
    pub(crate) fn beat(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.beat_plan.is_some_and(|at| now < at) {
            return;
        }
        self.beat_plan = None;
        self.judge_links(now, out);
        self.judge_lost(now);
        self.judge_twins(now, out);
        // What these concluded is said by the beats that are due, and not right after them.
        self.look(now, out);
        let due: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(peer, link)| now >= self.beat_due(**peer, link))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            self.send_beat(now, peer, out);
            self.release(now, peer, out);
        }
    }

    /// When the first beat or verdict is due, or before that: what is heard only puts it off, so it
    /// is reckoned again only when that time comes, or when something else has changed.
    pub(crate) fn first_beat(&self) -> Time {
        if let Some(at) = self.beat_plan {
            return at;
        }
        let beats = self.links.iter().map(|(peer, link)| {
            let verdict_due = match link.verdict {
                Verdict::Heard => link.last_heard + self.config.suspect_after,
                Verdict::Suspect => link.last_heard + self.config.silent_after,
                Verdict::Silent => link.last_heard + self.config.silent_after * CLOSE_SILENT,
            };
            self.beat_due(*peer, link).min(verdict_due)
        });
        let doubts = self.lost.values().map(|lost| match lost.verdict {
            Verdict::Silent => lost.at + self.config.silent_after * LOST_SPAN,
            Verdict::Heard | Verdict::Suspect => lost.at + self.config.heartbeat * DOUBT_BEATS,
        });
        beats.chain(doubts).min().unwrap_or(Time::NEVER)
    }

    /// When the next beat on a link is due: each beat, and soon when it has something new to say.
    fn beat_due(&self, peer: NodeId, link: &Link) -> Time {
        let Some(last) = link.last_beat else {
            return Time::ZERO;
        };
        let soon = last + self.config.heartbeat / 10;
        let courtesy = if self.me.id > peer { COURTESY_SHARE } else { u32::MAX };
        let usual = last + self.config.heartbeat + self.config.heartbeat / courtesy;
        if link.said == link.to_say {
            usual
        } else if link.said == (Heartbeat { members: link.said.members, ..link.to_say }) {
            // Only who is present has changed, and may do so again at once.
            (self.laid_out + CALM).clamp(soon, usual)
        } else {
            soon
        }
    }

    fn to_say(&self, peer: NodeId) -> Heartbeat {
        let mut flags = 0;
        let neighbour = self.neighbours.contains(&peer);
        if neighbour || self.lacking {
            flags |= Heartbeat::FLOOD;
        }
        if neighbour || self.watched.contains(&peer) {
            flags |= Heartbeat::WANTED;
        } else if self.heard_by_another(peer) {
            flags |= Heartbeat::RELEASABLE;
        }
        if self.links.get(&peer).is_some_and(|link| link.twin_met.is_some()) {
            flags |= Heartbeat::CONTESTED;
        }
        Heartbeat { members: self.layout.digest, incarnation: self.incarnation(), flags }
    }

    /// Whether links must take the place of edges of the overlay: while hardly any edge is there,
    /// for a node whose neighbours are all gone must be able to say so; and for an edge that stays
    /// away. One that is only about to come brings a repair with it.
    fn lacks_neighbours(&self, now: Time) -> bool {
        let there = self.neighbours.len() - self.missing.len();
        there < self.neighbours.len().clamp(1, ENOUGH_EDGES)
            || self.missing.values().any(|since| now.since(*since) >= self.patience())
    }

    /// How long an edge may be missing.
    fn patience(&self) -> Duration {
        self.config.heartbeat * MISSING_BEATS
    }

    /// Concludes which edges are missing, what beats say and over which links is flooded, where
    /// anything that goes into it has changed. Far more is asked than that.
    pub(crate) fn look(&mut self, now: Time, out: &mut Outbox<Output>) {
        if !self.unlooked && !self.beats_changed && now < self.look_again {
            return;
        }
        self.unlooked = false;
        self.look_again = Time::NEVER;
        self.look_for_missing(now);
        self.prepare_beats();
        self.flood_changed(now, out);
    }

    /// Notes which edges of the overlay are missing, and since when.
    pub(crate) fn look_for_missing(&mut self, now: Time) {
        let patience = self.patience();
        let Self { links, neighbours, missing, .. } = self;
        let there =
            |peer: &NodeId| links.get(peer).is_some_and(|link| link.verdict != Verdict::Silent);
        missing.retain(|peer, _| neighbours.contains(peer) && !there(peer));
        for peer in neighbours.iter().filter(|peer| !there(peer)) {
            missing.entry(*peer).or_insert(now);
        }
        let late = missing.values().map(|since| *since + patience);
        let next = late.filter(|at| *at > now).min();
        self.look_again = self.look_again.min(next.unwrap_or(Time::NEVER));
        let lacking = self.lacks_neighbours(now);
        self.beats_changed |= lacking != self.lacking;
        self.lacking = lacking;
    }

    /// Concludes what the next beat on each link says.
    fn prepare_beats(&mut self) {
        if !core::mem::take(&mut self.beats_changed) {
            return;
        }
        let peers: Vec<NodeId> = self.links.keys().copied().collect();
        for peer in peers {
            let heartbeat = self.to_say(peer);
            if let Some(link) = self.links.get_mut(&peer) {
                if link.to_say != heartbeat {
                    self.beat_plan = None;
                }
                link.to_say = heartbeat;
            }
        }
    }

    fn send_beat(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        let heartbeat = self.to_say(peer);
        if let Some(link) = self.links.get_mut(&peer) {
            let again = link.last_beat.is_some() && link.said == heartbeat;
            link.last_beat = Some(now);
            link.said = heartbeat;
            link.to_say = heartbeat;
            self.statistics.beats += 1;
            let heartbeat = (!again).then_some(heartbeat);
            out.push(Output::Heartbeat { link: link.id, heartbeat });
        }
    }

    fn judge_links(&mut self, now: Time, out: &mut Outbox<Output>) {
        let mut changed = Vec::new();
        let mut dead = Vec::new();
        for (peer, link) in &mut self.links {
            let quiet = now.since(link.last_heard);
            let verdict = if quiet >= self.config.silent_after {
                Verdict::Silent
            } else if quiet >= self.config.suspect_after {
                Verdict::Suspect
            } else {
                Verdict::Heard
            };
            // Whether a suspect counts as present makes no difference, so it need not be said.
            if (verdict == Verdict::Silent) != (link.verdict == Verdict::Silent) {
                changed.push(*peer);
            }
            link.verdict = verdict;
            if quiet >= self.config.silent_after * CLOSE_SILENT {
                dead.push(*peer);
            }
        }
        for peer in changed {
            self.note_link(peer);
            self.heard_changed();
        }
        for peer in dead {
            self.drop_link(peer, Goodbye::Unneeded, out);
            self.dial_again_now(now, peer);
        }
    }

    /// Lets go of what was said of second processes that do not show themselves any more.
    fn judge_twins(&mut self, now: Time, out: &mut Outbox<Output>) {
        for link in self.links.values_mut() {
            if link.twin_met.is_some_and(|at| now.since(at) >= CONTEST_LASTS) {
                link.twin_met = None;
                self.beats_changed = true;
            }
        }
        // What is left of an earlier life in the records is gone sooner than that.
        let patience = self.config.silent_after + self.config.heartbeat;
        let watcher = self.hears_another.iter().find(|(watcher, since)| {
            now.since(**since) >= patience && self.members.is_present(**watcher)
        });
        if let Some(watcher) = watcher.map(|(watcher, _)| *watcher) {
            self.met_second_process(now, watcher, out);
        }
    }

    fn judge_lost(&mut self, now: Time) {
        let doubt = self.config.heartbeat * DOUBT_BEATS;
        let span = self.config.silent_after * LOST_SPAN;
        let mut given_up = Vec::new();
        // That the node was silent is said until there is something else to say: a record of its
        // own, from each watcher of a node that is long gone, would tell nobody anything.
        self.lost.retain(|_, lost| now.since(lost.at) < span);
        for (peer, lost) in &mut self.lost {
            if lost.verdict != Verdict::Silent && now.since(lost.at) >= doubt {
                lost.verdict = Verdict::Silent;
                given_up.push(*peer);
            }
        }
        for peer in given_up {
            self.note_link(peer);
            self.heard_changed();
        }
    }

    /// Closes a link that neither end wants any longer and that nobody's presence hangs on, once
    /// both ends see the same members.
    fn release(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        let wait = self.config.heartbeat * UNWANTED_BEATS;
        let lower = self.me.id < peer;
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let free = |heartbeat: &Heartbeat| {
            !heartbeat.has(Heartbeat::WANTED) && heartbeat.has(Heartbeat::RELEASABLE)
        };
        let agreed = link.peer_says.is_some_and(|theirs| {
            free(&theirs) && free(&link.said) && theirs.members == link.said.members
        });
        if !agreed {
            link.unwanted_since = None;
            return;
        }
        let since = *link.unwanted_since.get_or_insert(now);
        // The lower identity closes; the other one does if that never comes.
        let patience = if lower { wait } else { wait * 4 };
        if now.since(since) >= patience {
            self.statistics.released += 1;
            self.let_go(peer, Goodbye::Unneeded, out);
            self.released(now);
        }
    }

    /// Drops a link at once: what it said of the peer is true no longer.
    pub(crate) fn drop_link(&mut self, peer: NodeId, why: Goodbye, out: &mut Outbox<Output>) {
        self.let_go(peer, why, out);
        self.heard_changed();
    }

    /// Closes a link; that it is down then comes as no news.
    fn let_go(&mut self, peer: NodeId, why: Goodbye, out: &mut Outbox<Output>) {
        if let Some(link) = self.links.remove(&peer) {
            self.link_owner.remove(&link.id);
            out.push(Output::Close { link: link.id, why });
            out.push(Output::Unlinked { peer });
            self.note_link(peer);
        }
    }

    /// Says over which links facts and updates are flooded: edges of the overlay as either end sees
    /// it, and every link while edges are missing or the ends do not come to agree on who is
    /// present. Flooding that begins late begins with a repair.
    fn flood_changed(&mut self, now: Time, out: &mut Outbox<Output>) {
        let patience = self.config.heartbeat * DISAGREE_BEATS;
        for (peer, link) in &mut self.links {
            let agrees = link.peer_says.is_some_and(|says| says.members == self.layout.digest);
            link.disagrees_since = match link.disagrees_since {
                _ if agrees => None,
                None => Some(now),
                since => since,
            };
            let apart = link.disagrees_since.is_some_and(|since| now.since(since) >= patience);
            if let Some(since) = link.disagrees_since.filter(|_| !apart) {
                self.look_again = self.look_again.min(since + patience);
            }
            let on = apart
                || self.lacking
                || self.neighbours.contains(peer)
                || link.peer_says.is_none_or(|theirs| theirs.has(Heartbeat::FLOOD));
            if link.flood != Some(on) {
                link.flood = Some(on);
                out.push(Output::Flood { peer: *peer, on });
            }
        }
    }

    /// When the watch record is published again. What nobody's presence hangs on waits for a beat,
    /// and for as long as members come and go: while a flock forms most of it is out of date by
    /// then, and each version costs every member a signature to check.
    pub(crate) fn watch_due(&self) -> Option<Time> {
        if !self.has_begun() {
            return None;
        }
        let lags = self.watch_changed.map(|since| match self.watch_urgent {
            true => since,
            false => {
                let wait = self.config.heartbeat + ROUTINE_PER_MEMBER * self.members.count();
                let settled = self.laid_out + self.config.heartbeat / 2;
                settled.clamp(since + wait, since + wait * ROUTINE_PATIENCE)
            }
        });
        lags.into_iter().chain(self.watch_gain).min().map(|at| at.max(self.next_watch))
    }

    /// Publishes whom this node hears, if that is not what it said last.
    pub(crate) fn publish_watch(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.watch_gain.is_some_and(|at| now >= at.max(self.next_watch)) && self.has_begun() {
            self.watch_gain = None;
            let released = core::mem::take(&mut self.watch_released);
            self.watch_urgent |= released || self.hears_alone();
            self.watch_stale = true;
        }
        if (self.watch_urgent || self.watch_stale) && self.watch_changed.is_none() {
            self.watch_changed = Some(now);
        }
        if self.watch_due().is_none_or(|due| now < due) {
            return;
        }
        self.watch_gain = None;
        self.watch_changed = None;
        self.watch_urgent = false;
        self.watch_stale = false;
        let watch = self.watch();
        let named = |peer: &&NodeId| watch.edge(**peer).is_some();
        self.withheld = self.links.keys().filter(|peer| !named(peer)).copied().collect();
        if self.published.as_ref() != Some(&watch) {
            self.next_watch = now + self.config.watch_every;
            self.statistics.watches += 1;
            out.push(Output::Publish { watch: watch.to_body().into() });
            self.published = Some(watch);
        }
    }

    /// Whom this node hears. A link for an errand is not spoken of while somebody else hears the
    /// peer: it will be gone in a moment. What was said of a link is said until it goes.
    fn watch(&self) -> Watch {
        let wanted = |peer: &NodeId| self.neighbours.contains(peer) || self.watched.contains(peer);
        let said = |peer: &NodeId| {
            self.published.as_ref().is_some_and(|watch| watch.edge(*peer).is_some())
        };
        let theirs =
            |link: &Link| link.peer_says.is_none_or(|heartbeat| heartbeat.has(Heartbeat::WANTED));
        let spoken_of = |(peer, link): &(&NodeId, &Link)| {
            theirs(link) || said(peer) || !self.heard_by_another(**peer)
        };
        let edge = |node: &NodeId, incarnation, nonce, verdict| Edge {
            node: *node,
            incarnation,
            nonce,
            verdict: if verdict == Verdict::Silent { Verdict::Silent } else { Verdict::Heard },
        };
        let linked = |peer: &NodeId, link: &Link| {
            edge(peer, link.incarnation, short_nonce(link.nonce), link.verdict)
        };
        let first = self.links.iter().filter(|(peer, _)| wanted(peer));
        let then = self.links.iter().filter(|(peer, _)| !wanted(peer)).filter(spoken_of);
        let lost = self
            .lost
            .iter()
            .map(|(peer, lost)| edge(peer, lost.incarnation, lost.nonce, lost.verdict));
        let mut edges: Vec<Edge> = first
            .chain(then)
            .map(|(peer, link)| linked(peer, link))
            .chain(lost)
            .take(MAX_EDGES)
            .collect();
        edges.sort_unstable_by_key(|edge| edge.node);
        Watch { edges }
    }

    pub(crate) fn view_of(&self, peer: NodeId, link: &Link) -> LinkView {
        LinkView {
            peer,
            link: link.id,
            since: link.since,
            verdict: link.verdict,
            neighbour: self.neighbours.contains(&peer),
            watched: self.watched.contains(&peer),
            wanted_by_peer: link.peer_says.is_some_and(|theirs| theirs.has(Heartbeat::WANTED)),
            dialled: link.dialled,
            agrees: link.peer_says.is_some_and(|theirs| theirs.members == self.layout.digest),
        }
    }
}
