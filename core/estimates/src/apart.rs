//! Pairs that no link can join: found out by both ends, and measured over the links of others
//! (FLOOD-22, MULTI-13).
//!
//! A node whose knock at another comes to nothing *asks* it by a routed request, which is answered
//! at once, and which tells the other that it cannot be dialled from here. The other knocks in its
//! turn: where that succeeds the pair is measured as any other (one end behind address translation
//! is enough for that); where it does not, it asks back. So both know that neither can dial the
//! other, and what a message takes between them. Only what stays so for [`SURE_AFTER`] is told, and
//! each end goes on to knock: a link or a knock that succeeds ends it at once.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::event::Output;
use crate::machine::{Estimates, JITTER, PING_LOST};
use crate::publish::{CHANGE, SLACK_US};
use crate::report::short_id;
use crate::ways::{MAX_WAYS, Way, Ways};
use crate::window::{Window, micros};

/// Asked so often in a row: the least of so few tells the way as it is now.
const ASKED_IN_A_ROW: u8 = 3;
/// An answer that has not come by then is not waited for. The node gives up sooner.
const ASK_LOST: Duration = Duration::from_secs(15);
/// What one end alone says, or what was never answered, is forgotten after so long.
const HALF_KNOWN: Duration = Duration::from_secs(30);
/// What passes within this is no fact about the network: it is told of nobody.
const SURE_AFTER: Duration = Duration::from_secs(60);
/// How often a node that cannot be dialled is knocked at again.
const AGAIN: Duration = Duration::from_secs(900);
/// Knocks because somebody asked, and again, are at least so far apart, whoever asks.
const BETWEEN_KNOCKS: Duration = Duration::from_secs(5);
/// What neither end has confirmed for so long is forgotten.
const KEPT: Duration = Duration::from_secs(3600);

/// A node that this one cannot dial, or that says so of this one.
#[derive(Clone, Copy, Debug)]
struct Stranger {
    since: Time,
    /// What the last few answers took over the links of others.
    rtt: Option<Window>,
    /// When it last said that it cannot dial this node.
    told: Option<Time>,
    /// When it is knocked at again.
    due: Time,
}

impl Stranger {
    /// When it is forgotten, unless something happens.
    fn until(&self) -> Time {
        match (self.rtt, self.told) {
            (Some(rtt), Some(told)) => rtt.at().min(told) + KEPT,
            _ => self.since + HALF_KNOWN,
        }
    }

    /// What is told of it: neither has dialled the other for a while.
    fn way(&self, peer: NodeId) -> Option<Way> {
        let rtt = self.rtt.filter(|rtt| rtt.at().since(self.since) >= SURE_AFTER)?;
        let _: Time = self.told?;
        let rtt_us = rtt.least();
        Some(Way { peer: short_id(peer), rtt_us, deviation_us: rtt.deviation(rtt_us) })
    }
}

/// Who is being asked.
#[derive(Clone, Copy, Debug)]
struct Asking {
    peer: NodeId,
    until: Time,
    left: u8,
    rtt: Option<Window>,
}

/// All that is known of nodes that cannot be met.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    strangers: BTreeMap<NodeId, Stranger>,
    asking: Option<Asking>,
    next_knock: Time,
    /// What was published last, by this life or the one before.
    published: Ways,
}

impl Apart {
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.strangers.remove(&peer);
        self.asking.take_if(|asking| asking.peer == peer);
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&NodeId) -> bool) {
        self.strangers.retain(|peer, _| keep(peer));
    }

    /// What a message takes to a node that no link can join with this one, and when that was found.
    pub(crate) fn way(&self, peer: NodeId) -> Option<(Way, Time)> {
        let stranger = self.strangers.get(&peer)?;
        Some((stranger.way(peer)?, stranger.rtt?.at()))
    }

    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        let why = "a node that cannot be dialled is knocked at again, or forgotten";
        if let Some(asking) = &self.asking {
            return Some((asking.until, "the answer over the links of others may be lost"));
        }
        let until = self.strangers.values().map(Stranger::until).min();
        let due = self.strangers.values().map(|stranger| stranger.due).min();
        let due = due.map(|due| due.max(self.next_knock));
        until.into_iter().chain(due).min().map(|at| (at, why))
    }

    pub(crate) fn check(&self, links: &BTreeSet<NodeId>) {
        assert!(self.strangers.len() <= MAX_WAYS, "too many nodes that cannot be met");
        let met = self.strangers.keys().find(|peer| links.contains(peer));
        assert!(met.is_none(), "{met:?} is linked, and yet cannot be met");
    }

    /// What is known of one, or the place for it where there is one: what both ends know of others
    /// is not given up for it.
    fn entry(&mut self, now: Time, peer: NodeId) -> Option<&mut Stranger> {
        if self.strangers.len() >= MAX_WAYS && !self.strangers.contains_key(&peer) {
            let half = |stranger: &Stranger| stranger.rtt.is_none() || stranger.told.is_none();
            let half = self.strangers.iter().filter(|(_, stranger)| half(stranger));
            let oldest = half.min_by_key(|(_, stranger)| stranger.since).map(|(peer, _)| *peer)?;
            self.strangers.remove(&oldest);
        }
        let new = Stranger { since: now, rtt: None, told: None, due: now + SURE_AFTER };
        Some(self.strangers.entry(peer).or_insert(new))
    }
}

impl Estimates {
    /// Nodes that no link can join with this one.
    #[must_use]
    pub fn apart(&self) -> usize {
        self.apart.strangers.iter().filter(|(peer, at)| at.way(**peer).is_some()).count()
    }

    fn may_be_stranger(&self, peer: NodeId) -> bool {
        !self.links.contains(&peer) && self.present.binary_search(&peer).is_ok()
    }

    /// A knock came to nothing.
    pub(crate) fn cannot_dial(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        if self.may_be_stranger(peer) && self.apart.asking.is_none() {
            let (until, left) = (now + ASK_LOST, ASKED_IN_A_ROW - 1);
            self.apart.asking = Some(Asking { peer, until, left, rtt: None });
            out.push(Output::Ask { peer });
        }
    }

    /// What came of asking a node over the links of others.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        peer: NodeId,
        took: Option<Duration>,
        out: &mut Outbox<Output>,
    ) {
        let Some(mut asking) = self.apart.asking.take_if(|asking| asking.peer == peer) else {
            return;
        };
        let took = took.filter(|took| *took < PING_LOST).map(micros);
        match (took, &mut asking.rtt) {
            (Some(sample), Some(window)) => window.add(now, sample),
            (Some(sample), none @ None) => *none = Some(Window::new(now, sample)),
            (None, _) => asking.left = 0,
        }
        if asking.left > 0 {
            let (until, left) = (now + ASK_LOST, asking.left - 1);
            self.apart.asking = Some(Asking { until, left, ..asking });
            return out.push(Output::Ask { peer });
        }
        if asking.rtt.is_none() || !self.may_be_stranger(peer) {
            return;
        }
        let again = self.rng.jitter(AGAIN, JITTER);
        if let Some(stranger) = self.apart.entry(now, peer) {
            stranger.rtt = asking.rtt;
            if stranger.way(peer).is_some() {
                stranger.due = now + again;
            }
        }
    }

    /// A node says, over the links of others, that it cannot dial this one: can this one dial it?
    pub(crate) fn pinged(&mut self, now: Time, by: NodeId, out: &mut Outbox<Output>) {
        if !self.may_be_stranger(by) {
            return;
        }
        let Some(stranger) = self.apart.entry(now, by) else {
            return;
        };
        stranger.told = Some(now);
        let fresh = stranger.rtt.is_some_and(|rtt| now.since(rtt.at()) < AGAIN / 2);
        if !fresh && self.apart.asking.is_none() && now >= self.apart.next_knock {
            self.apart.next_knock = now + BETWEEN_KNOCKS;
            out.push(Output::Knock { peer: by });
        }
    }

    /// Knocks again at one that could not be dialled, and forgets what nobody confirms.
    pub(crate) fn knock_again(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.apart.asking.take_if(|asking| now >= asking.until);
        self.apart.strangers.retain(|_, stranger| now < stranger.until());
        if self.apart.asking.is_some() || now < self.apart.next_knock {
            return;
        }
        let due = self.apart.strangers.iter_mut().find(|(_, stranger)| now >= stranger.due);
        if let Some((peer, stranger)) = due {
            let sure = stranger.way(*peer).is_some();
            let again = self.rng.jitter(if sure { AGAIN } else { SURE_AFTER }, JITTER);
            stranger.due = now + again;
            self.apart.next_knock = now + BETWEEN_KNOCKS;
            out.push(Output::Knock { peer: *peer });
        }
    }

    /// The record of ways to publish now, if there is another than before; empty, it is retracted.
    pub(crate) fn consider_publishing_ways(&mut self) -> Option<Option<Bytes>> {
        let published = &self.apart.published;
        let ways = self.apart.strangers.iter().filter_map(|(peer, stranger)| {
            let way = stranger.way(*peer)?;
            let said = published.way(*peer).filter(|said| still_holds(said, &way));
            Some(said.copied().unwrap_or(way))
        });
        let ways = Ways::new(ways.collect());
        if ways == *published {
            return None;
        }
        let body = (!ways.ways().is_empty()).then(|| ways.to_body().into());
        self.apart.published = ways;
        Some(body)
    }

    /// A record of ways is new or newer. Our own of an earlier life is what the others have of us.
    pub(crate) fn ways(&mut self, now: Time, owner: NodeId, body: Option<&Bytes>) {
        let ways = body.and_then(|body| Ways::from_body(body).ok());
        if owner == self.me {
            self.apart.published = ways.unwrap_or_default();
        } else if ways.is_some() {
            self.node(now, owner, |node| node.ways_at = Some(now));
        }
    }

    #[cfg(test)]
    pub(crate) fn is_asking(&self) -> bool {
        self.apart.asking.is_some()
    }
}

/// Whether what was told is near enough: what processes on the way add is no news.
fn still_holds(said: &Way, now: &Way) -> bool {
    let spread = f64::from(said.deviation_us.max(now.deviation_us)) * 2.0;
    let slack = (f64::from(said.rtt_us) * CHANGE).max(SLACK_US).max(spread);
    f64::from(said.rtt_us.abs_diff(now.rtt_us)) <= slack
}
