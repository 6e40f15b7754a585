//! A manager without a master: elections, and what becomes of one that lost both others (scenarios
//! 2, 3 and 4; DVM-15 to 26). Where no manager is left see [`mod@crate::orphan`].

use std::collections::BTreeMap;

use skep_base::{NodeId, Outbox, Time};

use crate::compare::Logs;
use crate::event::{Eligibility, Output, Refusal};
use crate::group::Group;
use crate::id::{ForkId, Generation, Lineage};
use crate::machine::Managers;
use crate::message::{Answer, Message, PromiseAsk};
use crate::stored::{Meta, SyncSet};
use crate::view::Wait;

/// Eligible nodes that must be there before a part founds itself again: one spare and two backups
/// (DVM-21). Where the roster has no more than two, nobody is waited for; where witnesses are on it
/// as well, most of it.
pub(crate) const ENOUGH: usize = 3;
/// Retries within which what came of a round is of use: who stood still for longer asks anew.
const FOUNDS_WITHIN: u32 = 4;
/// Retries for which a promise keeps its giver from noting what it would make untrue: for longer
/// than whoever asked founds by it, by whichever clock. Its number stays promised for ever.
const PROMISE_BINDS: u32 = 8;
/// Nodes that are asked in one round.
const ASKED: usize = 64;
/// A manager that asks whoever is there what became of its flock.
#[derive(Debug)]
pub(crate) struct Lonely {
    pub(crate) since: Time,
    round: u64,
    asked: Option<Time>,
    answers: BTreeMap<NodeId, Answer>,
    /// The generation that was asked to be promised in this round, and by whom it was.
    wanted: Option<Generation>,
    /// And who of them knows no newer roster than this node does.
    granted: BTreeMap<NodeId, bool>,
    pub(crate) waits: Wait,
    /// When that ends by itself, if it does.
    pub(crate) until: Option<Time>,
}

impl Lonely {
    /// Of this history, as those know it that answered in this round.
    pub(crate) fn sync_sets(&self) -> impl Iterator<Item = &SyncSet> {
        self.answers.values().filter_map(|answer| answer.sync.as_ref())
    }
}

impl Group {
    /// How many eligible nodes must be there for one of them to found the next generation: of two
    /// servers with witnesses most of the roster, so that one of them goes on and not both.
    fn enough(&self) -> usize {
        let roster = &self.meta.roster;
        let able = roster.iter().filter(|it| it.eligible == Eligibility::Eligible).count();
        match able {
            ENOUGH.. => ENOUGH,
            _ if roster.len() > able => (roster.len() / 2 + 1).min(ENOUGH),
            _ => 1,
        }
    }
}

impl Managers {
    /// What a voter or learner does that does not lead.
    pub(crate) fn unled(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.group.is_none() {
            return;
        }
        if self.is_led(now) {
            self.leaderless = None;
            self.lonely = None;
            self.deposed = false;
            self.master_gone(now, out);
            return;
        }
        self.leaderless.get_or_insert(now);
        self.gone.since = None;
        if self.patience_ends().is_none_or(|at| now < at) || self.giver.is_some() {
            // What was answered before a manager of this history came is out of date by then.
            let voter = self.group.as_ref().is_some_and(Group::is_voter);
            self.lonely = self.lonely.take().filter(|_| voter);
            return;
        }
        self.alone(now, out);
        if self.lonely.is_some() && self.waits_for_logs() {
            self.compare_logs(now, out);
        }
    }

    /// Until when a voter or learner without a leader asks nobody, and founds nothing.
    pub(crate) fn patience_ends(&self) -> Option<Time> {
        let since = self.leaderless?;
        let voter = self.group.as_ref().is_some_and(Group::is_voter);
        Some(match (voter, self.holder_since()) {
            (true, _) if self.may_fork_at_once() => since + self.config.election_max * 2,
            (true, _) => since + self.config.alone,
            // Where a manager of it is there, more of them may come.
            (false, Some(holder)) => since.max(holder) + self.config.orphaned_holding,
            (false, None) => since + self.config.orphaned * 2,
        })
    }

    /// A master of a strong history that lost both its backups does not wait for them: most of
    /// the roster suffices (scenario 3).
    fn may_fork_at_once(&self) -> bool {
        let roster = self.group.as_ref().map_or(0, |group| group.meta.roster.len());
        self.deposed && self.descends() && roster >= ENOUGH
    }

    /// Rounds of questions to whoever is there, until there is a master or this node may be one.
    pub(crate) fn alone(&mut self, now: Time, out: &mut Outbox<Output>) {
        let retry = self.config.retry;
        let lonely = self.lonely.get_or_insert(Lonely {
            since: now,
            round: self.rng.bits() | 1,
            asked: None,
            answers: BTreeMap::new(),
            wanted: None,
            granted: BTreeMap::new(),
            waits: Wait::Managers,
            until: None,
        });
        if lonely.asked.is_some_and(|at| now.since(at) < retry) {
            return;
        }
        let concludes = lonely.asked.is_some_and(|at| now.since(at) < retry * FOUNDS_WITHIN);
        self.forget_old_reports(now);
        if concludes && self.conclude(now, out) {
            return;
        }
        let Some(lonely) = &mut self.lonely else {
            return;
        };
        let Some(meta) = self.group.as_ref().map(|group| &group.meta) else {
            return;
        };
        let (lineage, version, founding) = (meta.lineage, meta.roster_version, meta.founding);
        let (round, wanted) = (lonely.round, lonely.wanted);
        lonely.asked = Some(now);
        lonely.answers.clear();
        lonely.granted.clear();
        let there =
            self.nodes.iter().filter(|(_, it)| it.present && it.eligible != Eligibility::No);
        let there: Vec<NodeId> = there.map(|(node, _)| *node).take(ASKED).collect();
        for node in there {
            self.send(node, &Message::Ask { lineage, round, about: None }, out);
            if let Some(generation) = wanted {
                let ask = PromiseAsk { lineage, generation, round, version, founding };
                self.send(node, &Message::Promise(ask), out);
            }
        }
    }

    /// What the last round came to. Whether this node is in another history now.
    fn conclude(&mut self, now: Time, out: &mut Outbox<Output>) -> bool {
        let (Some(lonely), Some(group)) = (&self.lonely, &self.group) else {
            return false;
        };
        let lineage = group.meta.lineage;
        if let Some(into) = lonely.answers.values().find_map(|answer| answer.ended) {
            self.dissolve(now, Some(into), "its flock merged", out);
            return true;
        }
        let me = self.me.id;
        let announced = self.nodes.values().any(|known| {
            let claim = known.claim.as_ref().filter(|_| known.present);
            claim.is_some_and(|claim| {
                let ours = claim.flock.as_ref().is_some_and(|flock| flock.lineage == lineage);
                ours && Self::manages(claim.role)
            })
        });
        let named = |answer: &Answer| {
            answer.master.is_some_and(|node| node != me)
                || answer.managers.iter().any(|it| *it != me)
        };
        let managed = announced || lonely.answers.values().any(named);
        let need = group.enough();
        let by_others = self.waits_for_logs();
        let logs = if by_others { self.logs_here(now, group) } else { Logs::Whole };
        let waits = match logs {
            _ if managed || lonely.answers.len() + 1 < need => Some((Wait::Managers, None)),
            Logs::Lacking(until) => Some((Wait::SyncMember, until)),
            Logs::Whole | Logs::GivenUp => {
                let behind = by_others || self.boot.is_some();
                (behind && self.is_behind()).then_some((Wait::Comparison, None))
            }
        };
        let highest = lonely.answers.values().map(|answer| answer.promised).max();
        let next = highest.unwrap_or_default().max(self.state.promised).max(group.meta.generation);
        let granted = lonely.granted.len();
        let ready = lonely.wanted.is_some() && granted + 1 >= need;
        let on_roster = |node: &&NodeId| group.meta.roster.iter().any(|it| it.node == **node);
        let current = lonely.granted.iter().filter(|(_, current)| **current);
        let own = !self.has_promised_beyond(group.meta.roster_version, group.meta.founding);
        let witnesses = current.map(|(node, _)| node).filter(on_roster).count() + usize::from(own);
        let majority = witnesses > group.meta.roster.len() / 2;
        let strong = majority && self.descends() && logs != Logs::GivenUp;
        // A master that does not wait for its backups does so with a majority of the roster only.
        let answered = lonely.answers.keys().filter(on_roster).count() + 1;
        let early = self.leaderless.is_some_and(|at| now.since(at) < self.config.alone);
        let hasty = early && answered <= group.meta.roster.len() / 2;
        let ready = ready && (strong || !early);
        let waits = waits.or(hasty.then_some((Wait::Managers, None)));
        let wanted = lonely.wanted;
        if let Some((waits, until)) = waits {
            if let Some(lonely) = &mut self.lonely {
                (lonely.waits, lonely.until, lonely.wanted) = (waits, until, None);
            }
            return false;
        }
        if ready || need == 1 {
            let generation = wanted.unwrap_or(Generation(next.0.saturating_add(1)));
            self.fork(now, generation, strong, out);
            return true;
        }
        let wanted = Generation(next.0.saturating_add(1));
        if let Some(lonely) = &mut self.lonely {
            (lonely.waits, lonely.until, lonely.wanted) = (Wait::Managers, None, Some(wanted));
        }
        self.promise(now, lineage, wanted);
        false
    }

    /// Whether what others have of the log must be known before this node founds from its own. A
    /// manager that was there all the while and in the newest sync set has everything, and one that
    /// learns founds from what it has where no manager has the log.
    fn waits_for_logs(&self) -> bool {
        let voter = self.group.as_ref().is_some_and(Group::is_voter);
        if voter {
            self.boot.is_some() || !self.is_complete()
        } else {
            self.holder_since().is_some()
        }
    }

    /// Whether this log surely has everything that was acknowledged: it is in the newest sync set
    /// that anybody who answered knows.
    fn is_complete(&self) -> bool {
        let (Some(lonely), Some(group)) = (&self.lonely, &self.group) else {
            return false;
        };
        let mine = group.newest_sync();
        let noted = self.state.notes.iter().filter(|note| note.lineage == group.meta.lineage);
        let known = lonely.sync_sets().chain(noted.map(|note| &note.sync)).map(|sync| sync.version);
        mine.members.contains(&self.me.id) && known.max().unwrap_or(0) <= mine.version
    }

    pub(crate) fn asked(
        &mut self,
        from: NodeId,
        lineage: Lineage,
        round: u64,
        about: Option<NodeId>,
        out: &mut Outbox<Output>,
    ) {
        let mut managers: Vec<NodeId> = Vec::new();
        for (node, known) in &self.nodes {
            let claim = known.claim.as_ref().filter(|_| known.present && *node != from);
            let ours = claim.is_some_and(|claim| {
                let flock = claim.flock.as_ref();
                Self::manages(claim.role) && flock.is_some_and(|it| it.lineage == lineage)
            });
            if ours && managers.len() < crate::MANAGERS {
                managers.push(*node);
            }
        }
        let here = self.history_of() == Some(lineage);
        if here && Self::manages(self.role) {
            managers.push(self.me.id);
        }
        let own = self.group.as_ref().filter(|_| here).map(Group::newest_sync);
        // A log that is behind may name an older one than was noted, and counted for.
        let noted = self.state.notes.iter().find(|note| note.lineage == lineage);
        let noted = noted.map(|note| note.sync.clone());
        let ended = self.state.ended.iter().find(|(ended, _)| *ended == lineage);
        let linked = |node| self.nodes.get(&node).is_some_and(|known| known.linked);
        let master = self.master_of(lineage).map(|(node, _)| node).filter(|node| *node != from);
        let answer = Answer {
            lineage,
            round,
            about,
            reaches: about.is_some_and(linked),
            master: if here && self.is_master() { Some(self.me.id) } else { master },
            managers,
            promised: self.state.promised,
            seen: self.state.seen.epoch,
            sync: own.into_iter().chain(noted).max_by_key(|sync| sync.version),
            ended: ended.map(|(_, into)| *into),
        };
        self.send_when_safe(from, Message::Answer(answer), out);
    }

    pub(crate) fn answer_came(&mut self, now: Time, from: NodeId, answer: Answer) {
        self.saw_epoch(answer.seen);
        if self.history_of() != Some(answer.lineage) {
            return;
        }
        self.reached_word(now, &answer);
        self.roll_answered(from, &answer);
        if let Some(lonely) = self.lonely.as_mut().filter(|it| it.round == answer.round) {
            lonely.answers.insert(from, answer);
        }
    }

    /// A promise is on disk before it is given; a generation is promised once.
    pub(crate) fn promise_asked(
        &mut self,
        now: Time,
        from: NodeId,
        ask: PromiseAsk,
        out: &mut Outbox<Output>,
    ) {
        let PromiseAsk { lineage, generation, round, version, founding } = ask;
        let far = generation.0 > self.state.promised.0.saturating_add(crate::Epoch::MAX_JUMP);
        let managed = self.master_of(lineage).is_some()
            || (self.history_of() == Some(lineage) && Self::manages(self.role));
        let granted = generation > self.state.promised && !far && !managed;
        if granted {
            self.promise(now, lineage, generation);
        }
        let current = !self.has_promised_beyond(version, founding);
        let generation = self.state.promised;
        let promised = Message::Promised { generation, round, granted, current };
        self.send_when_safe(from, promised, out);
    }

    /// This node promises a generation, to another or to itself. Whoever asks for one has promised
    /// it before: of two that ask for the same at once neither has the other's promise then.
    pub(crate) fn promise(&mut self, now: Time, lineage: Lineage, generation: Generation) {
        self.promised_at = now;
        self.state.promised = generation;
        self.state.promised_in = Some(lineage);
        self.state_changed = true;
    }

    /// Whether somebody may be founding a later generation of that history by this node's promise.
    pub(crate) fn is_bound(&self, now: Time, lineage: Lineage, generation: Generation) -> bool {
        let promised = self.state.promised_in == Some(lineage) && generation < self.state.promised;
        promised && now.since(self.promised_at) < self.config.retry * PROMISE_BINDS
    }

    pub(crate) fn promised_came(
        &mut self,
        from: NodeId,
        round: u64,
        generation: Generation,
        (granted, current): (bool, bool),
    ) {
        if let Some(appeal) = self.appeal.as_mut().filter(|it| it.is_round(round)) {
            appeal.answered(from, generation, granted && current);
        }
        let Some(lonely) = self.lonely.as_mut().filter(|it| it.round == round) else {
            return;
        };
        if granted && lonely.wanted == Some(generation) {
            lonely.granted.insert(from, current);
        } else if generation > self.state.promised {
            self.state.promised = generation;
        }
    }

    /// Founds the flock anew from everything in this log, the undecided tail included: what of it
    /// was acknowledged cannot be told apart any more.
    fn fork(&mut self, now: Time, generation: Generation, strong: bool, out: &mut Outbox<Output>) {
        let Some(group) = &self.group else {
            return;
        };
        let mut history = group.history.clone();
        group.tail().into_iter().for_each(|entry| history.push(entry));
        let (last, term) = (group.engine.last().0, group.engine.term());
        let acknowledged = group.meta.acknowledged || !history.entries.is_empty();
        let mut roster = group.meta.roster.clone();
        // From the roster of a strong history all leave one by one, under strict authority.
        roster.retain(|place| strong || !self.expelled.contains(&place.node));
        let meta = Meta {
            lineage: Lineage(self.rng.bits()),
            generation,
            fork: ForkId(self.rng.bits()),
            parent: Some((group.meta.lineage, last)),
            strong,
            founding: group.meta.founding,
            acknowledged,
            epoch: self.highest.max(group.meta.epoch),
            master: None,
            sync: SyncSet { version: 1, members: vec![self.me.id] },
            roster,
            roster_version: group.meta.roster_version,
            roster_base: group.meta.roster_version,
            roster_before: group.meta.roster_before.clone(),
            names: Vec::new(),
            merging: Vec::new(),
            absorbed: group.meta.absorbed.clone(),
            ended: None,
        };
        self.highest = meta.epoch;
        self.begin(now, meta, history, (last, term), out);
        self.because("it founded the next generation");
    }

    /// The operator says that whatever is here is all there is.
    pub(crate) fn recover(&mut self, now: Time, out: &mut Outbox<Output>) -> Result<(), Refusal> {
        if let Some(why) = self.disk.failed {
            return Err(Refusal::Disk(why));
        }
        let me = self.me.id;
        if self.is_master() {
            return Err(Refusal::Node { node: me, why: "is master already" });
        }
        if self.me.eligible != Eligibility::Eligible {
            return Err(Refusal::Node {
                node: me,
                why: "is not eligible: its certificate says so",
            });
        }
        if let Some(master) = self.known_master() {
            return Err(Refusal::NotMaster { master: Some(master) });
        }
        let generation = Generation(self.state.promised.0.saturating_add(1));
        if self.group.is_some() {
            self.fork(now, generation, false, out);
        } else {
            self.found_from_decrees(now, None, out);
        }
        Ok(())
    }
}
