//! What a history's strength is worth when two meet (BLOC-15 to 18): only what most of its roster
//! confirms for this very merge.
//!
//! Strong leads before weak. But who lost its roster to another part knows nothing of what that
//! part promised since, and would lead because of what it was once. So where nothing but its
//! strength lets a history lead, its master asks its roster, with the merge's session as nonce,
//! whether their newest promise is a stamp of it. It has [`PROOF_FOR`] to find a majority. If it
//! finds none it counts as weak in that merge, and says so to the other, which then weighs the two
//! again, as this one does: nothing else in the order changes, so that one of them yields. The
//! questions repeat with those of the other side; whoever is killed meanwhile begins again.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::config::MAX_HISTORIES;
use crate::event::{Eligibility, Output};
use crate::id::{Lineage, Stamp};
use crate::machine::Managers;
use crate::merge::{Question, order_as};
use crate::message::{FlockClaim, Message};

/// How long a roster has for its confirmations. Below the patience of who asks to merge, and below
/// what a lease for strict authority lasts: meanwhile nobody who promised one side can promise the
/// other.
const PROOF_FOR: Duration = Duration::from_secs(2);
/// After this long a verdict is forgotten, and sought anew where the two still go apart.
const DOUBTED_FOR: Duration = Duration::from_secs(60);

/// What becomes of a question whether a history may merge into this one.
pub(crate) enum Proof {
    /// This one leads.
    Given(Question),
    /// That is not known yet.
    Sought,
    /// It does not.
    Failed,
}

/// Of which stamp of a history its strength did not count, and since when.
type Doubt = (Stamp, Time);

/// Proofs that are sought, and those that failed.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    /// By the history that asks.
    sought: BTreeMap<Lineage, Sought>,
    /// In a merge with which this node's own history counts as weak.
    ours: BTreeMap<Lineage, Doubt>,
    /// Histories that count as weak in a merge with this node's.
    theirs: BTreeMap<Lineage, Doubt>,
}

#[derive(Debug)]
struct Sought {
    question: Question,
    since: Time,
    confirmed: BTreeMap<NodeId, Time>,
}

impl Managers {
    /// Whether a flock that was met counts as strong in a merge with this node's own, and whether
    /// this one does.
    pub(crate) fn strengths(
        &self,
        now: Time,
        other: &FlockClaim,
        ours: &FlockClaim,
    ) -> (bool, bool) {
        let doubted = |doubts: &BTreeMap<Lineage, Doubt>, of: &FlockClaim| {
            let doubt = doubts.get(&other.lineage);
            doubt
                .is_some_and(|(stamp, since)| *stamp == of.stamp && now.since(*since) < DOUBTED_FOR)
        };
        let theirs = other.strong && !doubted(&self.proofs.theirs, other);
        (theirs, ours.strong && !doubted(&self.proofs.ours, ours))
    }

    /// Whether `question` may be granted. Asks the roster where that hangs on its confirmations.
    pub(crate) fn prove(
        &mut self,
        now: Time,
        question: Question,
        out: &mut Outbox<Output>,
    ) -> Proof {
        let Some(ours) = self.flock_claim(now) else {
            return Proof::Sought;
        };
        let (from, lineage) = (question.from, question.lineage);
        let claim = self.masters().find(|(node, it)| (*node, it.lineage) == (from, lineage));
        let Some((_, other)) = claim.filter(|_| question.led) else {
            // A former manager hands over what it holds, whoever is stronger. Of a master that is
            // not announced here yet nothing can be weighed: it asks again.
            return if question.led { Proof::Sought } else { Proof::Given(question) };
        };
        let (theirs, counts) = self.strengths(now, other, &ours);
        let leads = |strong| order_as(&ours, strong) > order_as(other, theirs);
        #[cfg(test)]
        let leads = |strong| crate::plant::is(crate::plant::Bug::NoConfirmations) || leads(strong);
        if ours.strong && !counts && !leads(false) {
            return Proof::Failed;
        }
        // Whom not even its strength lets lead is asked by mistake, and may as well take over.
        if leads(false) || !ours.strong || !leads(true) {
            return Proof::Given(question);
        }
        let sought = &mut self.proofs.sought;
        sought.retain(|_, it| now.since(it.since) < PROOF_FOR * 2);
        let known = sought.get(&lineage).filter(|it| it.question.session == question.session);
        if known.is_some_and(|it| now.since(it.since) >= PROOF_FOR) {
            sought.remove(&lineage);
            doubt(&mut self.proofs.ours, lineage, (ours.stamp, now));
            return Proof::Failed;
        }
        let nonce = question.session;
        if known.is_none() {
            if sought.len() >= MAX_HISTORIES && !sought.contains_key(&lineage) {
                return Proof::Sought; // It asks again.
            }
            let new = Sought { question, since: now, confirmed: BTreeMap::new() };
            sought.insert(lineage, new);
        }
        self.ask_for_strength(now, nonce, out);
        Proof::Sought
    }

    fn ask_for_strength(&mut self, now: Time, nonce: u64, out: &mut Outbox<Output>) {
        let Some(group) = &self.group else {
            return;
        };
        let lineage = group.meta.lineage;
        let present = |node: &NodeId| self.nodes.get(node).is_some_and(|known| known.present);
        let roster = group.whole_roster();
        for node in roster.into_iter().filter(present) {
            self.send(node, &Message::StrengthAsk { lineage, nonce }, out);
        }
        if self.promised_to(lineage) {
            self.strength_given(now, self.me.id, lineage, nonce, out);
        }
    }

    /// Whether this node's newest promise is a stamp of a history.
    fn promised_to(&self, lineage: Lineage) -> bool {
        let promised = self.state.pledge.is_some_and(|pledge| pledge.lineage == lineage);
        promised && self.me.eligible != Eligibility::No
    }

    pub(crate) fn strength_asked(
        &mut self,
        from: NodeId,
        lineage: Lineage,
        nonce: u64,
        out: &mut Outbox<Output>,
    ) {
        if self.promised_to(lineage) {
            self.send_when_safe(from, Message::StrengthGiven { lineage, nonce }, out);
        }
    }

    pub(crate) fn strength_given(
        &mut self,
        now: Time,
        from: NodeId,
        lineage: Lineage,
        nonce: u64,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group.as_ref().filter(|group| group.meta.lineage == lineage) else {
            return;
        };
        let sought = &mut self.proofs.sought;
        let Some((other, it)) = sought.iter_mut().find(|(_, it)| it.question.session == nonce)
        else {
            return;
        };
        it.confirmed.insert(from, now);
        if group.newest_of_majority(&it.confirmed).is_none() {
            return;
        }
        let other = *other;
        if let Some(Sought { question, .. }) = self.proofs.sought.remove(&other) {
            self.grant_merge(question, out);
        }
    }

    /// The other side's roster did not confirm it: the two are weighed again.
    pub(crate) fn merge_doubted(&mut self, now: Time, from: NodeId, session: u64, into: Lineage) {
        let asks = self.giver.as_ref().is_some_and(|giver| {
            giver.asks() && (giver.to, giver.session, giver.into) == (from, session, into)
        });
        let stamp = self.masters().find(|(node, it)| (*node, it.lineage) == (from, into));
        let stamp = stamp.map(|(_, flock)| flock.stamp);
        if let Some(stamp) = stamp.filter(|_| asks) {
            doubt(&mut self.proofs.theirs, into, (stamp, now));
            self.giver = None;
        }
    }
}

fn doubt(doubts: &mut BTreeMap<Lineage, Doubt>, lineage: Lineage, doubt: Doubt) {
    doubts.retain(|_, (_, since)| doubt.1.since(*since) < DOUBTED_FOR);
    if doubts.len() < MAX_HISTORIES {
        doubts.insert(lineage, doubt);
    }
}
