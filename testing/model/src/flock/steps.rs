//! What may happen, and what comes of it.

use super::voters::{
    Voters, append, changes, elect, is_furthest, is_leased, is_left_out, may_settle, supporters,
    went_on_in,
};
use super::{
    Bug, ENOUGH, Flock, History, MAJORITY, MANAGERS, MAX_HISTORIES, MAX_SYNC_SETS, Managers, NODES,
    Nodes, Role, Step, Writes, bit, each,
};

impl Managers {
    pub(super) fn all_steps(&self, flock: &Flock, steps: &mut Vec<Step>) {
        if flock.left.cuts > 0 {
            steps.extend(sides().filter(|side| *side != flock.side).map(Step::Cut));
        }
        for node in 0..NODES {
            if flock.nodes[node].paused {
                steps.push(Step::Resume(node));
            } else {
                self.steps_of(flock, node, steps);
            }
        }
    }

    fn steps_of(&self, flock: &Flock, node: usize, steps: &mut Vec<Step>) {
        let it = &flock.nodes[node];
        let manages = !matches!(it.role, Role::Eligible | Role::Learner | Role::Holding);
        if flock.left.restarts > 0 && manages {
            steps.push(Step::Restart(node));
        }
        if flock.left.pauses > 0 && matches!(it.role, Role::Master | Role::Backup) {
            steps.push(Step::Pause(node));
        }
        match it.role {
            Role::Master => master_steps(flock, node, steps),
            Role::Backup | Role::SemiMaster | Role::Learner => {
                if it.bound && (!is_leased(flock, node) || self.bug == Some(Bug::LongLease)) {
                    steps.push(Step::Timeout(node));
                }
                if !it.bound && flock.left.elections > 0 && supporters(flock, node).is_some() {
                    steps.push(Step::Elect(node));
                }
                let alone = !flock.is_majority(node, flock.voters_near(node));
                if !it.bound && alone && it.role == Role::Backup {
                    steps.push(Step::GiveUp(node));
                }
                if it.role == Role::SemiMaster && self.may_found(flock, node) {
                    steps.push(Step::Found(node));
                }
            }
            Role::Holding => {
                if may_settle(flock, node) {
                    steps.push(Step::Settle(node));
                }
                if is_furthest(flock, node) && self.may_found(flock, node) {
                    steps.push(Step::Found(node));
                }
                let leads = |other: &usize| went_on_in(flock, node, *other);
                steps.extend(
                    each(flock.near(node)).filter(leads).map(|to| Step::GiveBack(node, to)),
                );
            }
            Role::Eligible => {}
        }
        if !matches!(it.role, Role::Eligible | Role::Master) && is_left_out(flock, node) {
            steps.push(Step::Demote(node));
        }
        let follows = !matches!(it.role, Role::Eligible | Role::Holding);
        if follows && flock.history_of(node).ended.is_some() {
            steps.push(Step::Learn(node));
        }
    }

    /// Scenario 2: three eligible nodes are there, none of them hears another manager of this
    /// history, and none knows a newer sync set than this node's, which it is in.
    fn may_found(&self, flock: &Flock, node: usize) -> bool {
        let (it, near) = (&flock.nodes[node], flock.near(node));
        let managed = each(near).any(|other| {
            let other_ = &flock.nodes[other];
            let manages = !matches!(other_.role, Role::Eligible | Role::Learner | Role::Holding);
            other != node && other_.history == it.history && manages
        });
        // What each of them noted, or has in its log.
        let knows = |other: usize| {
            let other = &flock.nodes[other];
            let logs = other.role != Role::Eligible && other.history == it.history;
            other.noted[it.history].max(if logs { other.sync } else { 0 })
        };
        let newest = each(near).map(knows).max();
        let known = newest.unwrap_or(0) <= it.sync || self.bug == Some(Bug::IgnoresNotes);
        let member = flock.history_of(node).sync_sets[it.sync] & bit(node) != 0;
        let member = member || self.bug == Some(Bug::IgnoresNotes);
        let room = flock.histories.len() < MAX_HISTORIES;
        near.count_ones() >= ENOUGH && !managed && known && member && room
    }

    pub(super) fn take(&self, flock: &mut Flock, step: Step) {
        match step {
            Step::Cut(side) => {
                flock.side = side;
                flock.left.cuts -= 1;
            }
            Step::Pause(node) => {
                flock.nodes[node].paused = true;
                flock.left.pauses -= 1;
            }
            Step::Resume(node) => flock.nodes[node].paused = false,
            Step::Restart(node) => self.restart(flock, node),
            Step::Settle(node) => flock.nodes[node].role = Role::Backup,
            Step::GiveBack(from, to) => self.give_back(flock, from, to),
            Step::Write(node) => {
                flock.left.writes -= 1;
                flock.nodes[node].log |= 1 << flock.left.writes;
            }
            Step::Append(master, to) => {
                append(flock, master, to);
                self.decide(flock, master);
            }
            Step::Lapse(node) => flock.nodes[node].lease = 0,
            Step::StepBack(node) => {
                flock.nodes[node].role = Role::Backup;
                flock.nodes[node].merging = false;
            }
            Step::Timeout(node) => flock.nodes[node].bound = false,
            Step::Elect(node) => elect(flock, node),
            Step::Shrink(node) => shrink(flock, node),
            Step::Note(node) => note(flock, node),
            Step::Acknowledge(node) => self.acknowledge(flock, node),
            Step::GiveUp(node) => flock.nodes[node].role = Role::SemiMaster,
            Step::Found(node) => self.found(flock, node),
            Step::Enlist(master, node) => self.change(flock, master, None, node),
            Step::Replace(master, goes, comes) => {
                flock.left.replacements -= 1;
                self.change(flock, master, Some(goes), comes);
            }
            Step::Demote(node) => self.demote(flock, node),
            Step::Merge(from, _) => flock.nodes[from].merging = true,
            Step::HandOver(from, to) => flock.nodes[to].log |= flock.nodes[from].log,
            Step::End(from, to) => self.end(flock, from, to),
            Step::Learn(node) => {
                flock.nodes[node].role = Role::Eligible;
                flock.nodes[node].merging = false;
            }
        }
    }

    /// The disk keeps the log, the promises, the notes and the epoch; what was heard is gone. Of
    /// its voters those are surely known to be decided that an entry after them proves to be.
    fn restart(&self, flock: &mut Flock, node: usize) {
        flock.left.restarts -= 1;
        let after = |number: usize| flock.history_of(node).voters[number].after;
        let proved = after(flock.nodes[node].voters_logged);
        let known = if self.bug == Some(Bug::ForgetsVoters) { after(proved) } else { proved };
        let it = &mut flock.nodes[node];
        it.voters = known;
        let holds = self.bug != Some(Bug::NeverHolds);
        it.role = if holds { Role::Holding } else { Role::Backup };
        (it.lease, it.merging, it.restarted) = (0, false, true);
        // A node that has just started answers no vote before an old lease is over.
        it.bound = holds;
    }

    /// All that a holding manager has is in the other history before it lets go of its own.
    fn give_back(&self, flock: &mut Flock, from: usize, to: usize) {
        let held = flock.nodes[from].log;
        flock.nodes[to].log |= held;
        if self.bug == Some(Bug::HalfMerge) || self.safe(flock, to) & held == held {
            flock.nodes[from].role = Role::Eligible;
        }
    }

    /// What is on all disks that it must be on.
    fn safe(&self, flock: &Flock, node: usize) -> Writes {
        let (it, history) = (&flock.nodes[node], flock.history_of(node));
        let has = |wanted: Writes| {
            let up = |other: &usize| {
                let other = &flock.nodes[*other];
                let same = other.history == it.history && other.sync >= it.sync;
                same && other.log & wanted == wanted && other.last_term == it.last_term
            };
            each(flock.voters_of(node).all()).filter(up).map(bit).sum::<Nodes>()
        };
        let set = history.sync_sets[it.sync];
        let is_safe = |wanted: &Writes| {
            let holders = has(*wanted);
            let everywhere = holders & set == set || self.bug == Some(Bug::NoSyncSet);
            flock.is_majority(node, holders) && everywhere
        };
        let writes = (0..Writes::BITS).map(|number| 1 << number);
        writes.filter(|write| it.log & write != 0).filter(is_safe).sum()
    }

    fn acknowledge(&self, flock: &mut Flock, node: usize) {
        let safe = self.safe(flock, node);
        let (number, sync) = (flock.nodes[node].history, flock.nodes[node].sync);
        let voters = flock.voters_of(node).all();
        let knows = |other: &usize| {
            let it = &flock.nodes[*other];
            let votes = voters & bit(*other) != 0;
            let logged = votes && it.history == number && it.sync >= sync;
            logged || sync == 0 || it.noted[number] >= sync
        };
        let witnessed = (0..NODES).filter(knows).count() >= MAJORITY as usize;
        let history = &mut flock.histories[number];
        let new = safe & !history.acknowledged;
        let set = history.sync_sets[sync];
        history.acknowledged |= safe;
        if history.strong && witnessed {
            history.strongly |= new;
        }
        for member in each(set) {
            history.owed[member] |= new;
        }
    }

    fn found(&self, flock: &mut Flock, node: usize) {
        let near = flock.near(node);
        let parent = flock.nodes[node].history;
        let own = flock.histories[parent].generation;
        let promised = each(near).map(|other| flock.nodes[other].promised.0).max().unwrap_or(0);
        let twice = self.bug == Some(Bug::PromisesTwice);
        let generation = if twice { own + 1 } else { own.max(promised) + 1 };
        for other in each(near) {
            flock.nodes[other].promised = (generation, Some(parent));
        }
        let number = flock.histories.len();
        let epoch = each(near).map(|other| flock.nodes[other].epoch).max().unwrap_or(0) + 1;
        let strong = flock.histories[parent].strong && near.count_ones() >= MAJORITY;
        let it = &mut flock.nodes[node];
        it.role = Role::Master;
        it.history = number;
        (it.term, it.last_term, it.sync, it.lease, it.bound) = (1, 1, 0, 0, false);
        (it.voters, it.voters_logged) = (0, 0);
        it.epoch = if self.bug == Some(Bug::ForgetsEpoch) { 0 } else { epoch };
        flock.histories.push(History {
            generation,
            strong,
            parent: Some(parent),
            founder: node,
            initial: it.log,
            voters: vec![Voters::only(bit(node))],
            demoted: 0,
            sync_sets: vec![bit(node)],
            acknowledged: 0,
            strongly: 0,
            owed: [0; NODES],
            ended: None,
        });
    }

    fn end(&self, flock: &mut Flock, from: usize, to: usize) {
        let handed = flock.nodes[from].log;
        if self.bug != Some(Bug::HalfMerge) && self.safe(flock, to) & handed != handed {
            return;
        }
        let (ended, into) = (flock.nodes[from].history, flock.nodes[to].history);
        let acknowledged = flock.histories[ended].acknowledged;
        flock.histories[into].acknowledged |= acknowledged;
        flock.histories[ended].ended = Some(into);
        let epoch = flock.nodes[from].epoch.max(flock.nodes[to].epoch) + 1;
        flock.nodes[to].epoch = epoch;
        flock.nodes[from].role = Role::Eligible;
        flock.nodes[from].merging = false;
    }
}

fn master_steps(flock: &Flock, node: usize, steps: &mut Vec<Step>) {
    let (it, history) = (&flock.nodes[node], flock.history_of(node));
    let near = flock.near(node);
    if flock.left.writes > 0 && !it.merging {
        steps.push(Step::Write(node));
    }
    steps.extend(each(flock.followers(node) & near).map(|other| Step::Append(node, other)));
    if it.lease != 0 {
        steps.push(Step::Lapse(node));
    }
    if !flock.is_majority(node, it.lease | bit(node)) {
        steps.push(Step::StepBack(node));
    }
    let room = history.sync_sets.len() < MAX_SYNC_SETS;
    let set = history.sync_sets[it.sync];
    if room && set & near != set && set & near != 0 && !it.merging {
        steps.push(Step::Shrink(node));
    }
    if it.sync > 0 {
        steps.push(Step::Note(node));
    }
    if flock.may_acknowledge(node) {
        steps.push(Step::Acknowledge(node));
        changes(flock, node, steps);
    }
    for other in each(near).filter(|other| leads_before(flock, *other, node)) {
        steps.push(match it.merging {
            false => Step::Merge(node, other),
            true if flock.nodes[other].log & it.log == it.log => Step::End(node, other),
            true => Step::HandOver(node, other),
        });
        if it.merging {
            steps.push(Step::End(node, other));
        }
    }
}

/// Whether `a` is a master to which `b`'s flock merges: strong before weak, then the lower
/// generation.
fn leads_before(flock: &Flock, a: usize, b: usize) -> bool {
    let (one, other) = (flock.history_of(a), flock.history_of(b));
    let key = |history: &History| (!history.strong, history.generation);
    let differ = flock.nodes[a].history != flock.nodes[b].history;
    let merging = flock.nodes[a].merging;
    let place = |node: usize| flock.nodes[node].history;
    let before = (key(one), place(a)) < (key(other), place(b));
    differ && !merging && flock.may_acknowledge(a) && before && one.ended.is_none()
}

fn shrink(flock: &mut Flock, node: usize) {
    let near = flock.near(node);
    let (number, sync) = (flock.nodes[node].history, flock.nodes[node].sync);
    let history = &mut flock.histories[number];
    let set = history.sync_sets[sync] & near;
    history.sync_sets.push(set);
    flock.nodes[node].sync = history.sync_sets.len() - 1;
}

/// All that are near note the sync set on disk, but who promised that a later generation follows.
fn note(flock: &mut Flock, node: usize) {
    let (number, sync) = (flock.nodes[node].history, flock.nodes[node].sync);
    let generation = flock.histories[number].generation;
    for other in each(flock.near(node)) {
        let it = &mut flock.nodes[other];
        let refuses = it.promised.1 == Some(number) && it.promised.0 > generation;
        if !refuses {
            it.noted[number] = it.noted[number].max(sync);
        }
    }
}

/// All ways to cut the network in two. Nodes that never managed are as good as one another, so
/// that only how many of them are on a side matters; and which side is called which does not.
fn sides() -> impl Iterator<Item = Nodes> {
    let managers = 0..1_u8 << (MANAGERS - 1);
    managers.flat_map(|managers| {
        (0..=NODES - MANAGERS).map(move |others| {
            let others = (1_u8 << others) - 1;
            managers << 1 | others << MANAGERS
        })
    })
}
