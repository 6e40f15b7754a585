//! Who votes, how that changes, and what votes decide.

use super::{
    Bug, Flock, History, MANAGERS, MAX_CHANGES, MAX_SYNC_SETS, Managers, Node, Nodes, Role, Step,
    bit, each,
};

/// A configuration of the voters. A voter goes and another comes in two entries: under the *joint*
/// configuration, in force when a majority of the voters before it has the first, a majority of
/// both halves is needed for everything; the second, which leaves it, is proposed when that is in
/// force and decided by both halves. So whoever has the second knows that the first is decided, and
/// nobody leads by the votes of those before beside one who leads by the votes of those after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Voters {
    /// Who votes.
    pub incoming: Nodes,
    /// In a joint configuration who voted before it, and else nobody.
    pub outgoing: Nodes,
    /// Which configuration of the history it follows, by number.
    pub after: usize,
}

impl Voters {
    pub(crate) const fn only(incoming: Nodes) -> Self {
        Self { incoming, outgoing: 0, after: 0 }
    }

    /// In either half.
    pub(crate) const fn all(&self) -> Nodes {
        self.incoming | self.outgoing
    }

    pub(crate) const fn is_joint(&self) -> bool {
        self.outgoing != 0
    }

    pub(crate) fn is_majority(&self, of: Nodes) -> bool {
        let most = |half: Nodes| (of & half).count_ones() > half.count_ones() / 2;
        most(self.incoming) && (!self.is_joint() || most(self.outgoing))
    }
}

impl Flock {
    /// Whose votes a node counts: the configuration that it knows to be decided.
    pub(crate) fn voters_of(&self, node: usize) -> Voters {
        self.history_of(node).voters[self.nodes[node].voters]
    }

    pub(crate) fn is_voter(&self, node: usize) -> bool {
        self.voters_of(node).all() & bit(node) != 0
    }

    pub(crate) fn is_majority(&self, node: usize, of: Nodes) -> bool {
        self.voters_of(node).is_majority(of)
    }

    /// The voters that a node reaches, itself among them.
    pub(crate) fn voters_near(&self, node: usize) -> Nodes {
        self.near(node) & self.voters_of(node).all()
    }

    /// Whom a master sends its log: who votes, and who is about to.
    pub(crate) fn followers(&self, master: usize) -> Nodes {
        let logged = self.history_of(master).voters[self.nodes[master].voters_logged];
        (self.voters_of(master).all() | logged.all()) & !bit(master)
    }
}

/// What a master may do about its voters: one change at a time.
pub(super) fn changes(flock: &Flock, master: usize, steps: &mut Vec<Step>) {
    let (it, history) = (&flock.nodes[master], flock.history_of(master));
    let (now, near) = (flock.voters_of(master), flock.near(master));
    let under_way = it.voters_logged != it.voters || now.is_joint();
    if under_way || it.merging || history.voters.len() + 1 >= MAX_CHANGES {
        return;
    }
    let free = |other: &usize| {
        let other_ = &flock.nodes[*other];
        // Who was demoted comes back under another raft id, and so as anybody else would.
        let fresh = other_.role == Role::Eligible && history.demoted & bit(*other) == 0;
        let learns = other_.role == Role::Learner && other_.history == it.history;
        now.all() & bit(*other) == 0 && (fresh || learns)
    };
    // One eligible node is as good as another.
    let Some(comes) = each(near).find(free) else { return };
    if (now.incoming.count_ones() as usize) < MANAGERS {
        steps.push(Step::Enlist(master, comes));
    } else if flock.left.replacements > 0 {
        let set = history.sync_sets[it.sync];
        let left = |node: &usize| {
            let other = &flock.nodes[*node];
            other.role == Role::Eligible || other.history != it.history
        };
        let silent = |node: &usize| near & bit(*node) == 0 || left(node);
        let goes = each(now.incoming & !set & !bit(master)).filter(silent);
        steps.extend(goes.map(|goes| Step::Replace(master, goes, comes)));
    }
}

impl Managers {
    /// `comes`, which has the whole log, shall vote, and `goes` no more.
    pub(super) fn change(
        &self,
        flock: &mut Flock,
        master: usize,
        goes: Option<usize>,
        comes: usize,
    ) {
        let from = flock.nodes[master].clone();
        let it = &mut flock.nodes[comes];
        (it.role, it.history, it.bound) = (Role::Learner, from.history, false);
        copy_log(&from, it);
        let before = flock.voters_of(master).incoming;
        let incoming = (before & !goes.map_or(0, bit)) | bit(comes);
        let joint = goes.is_some() && self.bug != Some(Bug::NotJoint);
        let outgoing = if joint { before } else { 0 };
        propose(flock, master, incoming, outgoing);
        self.decide(flock, master);
    }

    /// A configuration that a majority of the one before has on disk is in force. A joint one is
    /// left as soon as it is, by an entry that a majority of both halves has to have.
    pub(super) fn decide(&self, flock: &mut Flock, master: usize) {
        let it = &flock.nodes[master];
        if it.role != Role::Master || it.voters_logged == it.voters {
            return;
        }
        let has = |other: &usize| {
            let other = &flock.nodes[*other];
            let same = other.history == it.history && other.last_term == it.last_term;
            same && other.voters_logged >= it.voters_logged
        };
        let voters = flock.voters_of(master);
        let holders = each(voters.all()).filter(has).map(bit).sum();
        let decided = match self.bug {
            Some(Bug::NewHalfDecides) => Voters::only(voters.incoming).is_majority(holders),
            _ => voters.is_majority(holders),
        };
        if !decided {
            return;
        }
        let it = &mut flock.nodes[master];
        it.voters = it.voters_logged;
        let voters = flock.voters_of(master);
        flock.nodes[master].lease &= voters.all();
        if voters.is_joint() {
            propose(flock, master, voters.incoming, 0);
        } else if !flock.is_voter(master) {
            self.demote(flock, master);
        }
    }

    /// It lets go of its log and of the raft id under which it voted, and hands nothing over.
    pub(super) fn demote(&self, flock: &mut Flock, node: usize) {
        let it = &mut flock.nodes[node];
        let votes_on = self.bug == Some(Bug::VotesAgain);
        it.role = if votes_on { Role::Backup } else { Role::Eligible };
        (it.log, it.last_term, it.sync, it.lease) = (0, 0, 0, 0);
        (it.voters, it.voters_logged) = (0, 0);
        (it.bound, it.merging) = (false, false);
        let history = it.history;
        flock.histories[history].demoted |= bit(node);
    }
}

/// A configuration enters a master's log.
fn propose(flock: &mut Flock, master: usize, incoming: Nodes, outgoing: Nodes) {
    let it = &mut flock.nodes[master];
    let history = &mut flock.histories[it.history];
    it.voters_logged = history.voters.len();
    history.voters.push(Voters { incoming, outgoing, after: it.voters });
}

fn copy_log(from: &Node, to: &mut Node) {
    (to.term, to.last_term) = (from.term, from.last_term);
    (to.log, to.sync, to.voters_logged) = (from.log, from.sync, from.voters_logged);
    to.voters = from.voters;
    to.epoch = to.epoch.max(from.epoch);
}

/// Whether a master of its own history, no older than what it knows, is there and leaves it out,
/// and no master counts on it.
pub(super) fn is_left_out(flock: &Flock, node: usize) -> bool {
    let it = &flock.nodes[node];
    let leaves_out = |other: usize| {
        let other_ = &flock.nodes[other];
        let claims = other_.role == Role::Master && other_.history == it.history;
        let newer = other_.epoch >= it.epoch;
        claims && newer && flock.voters_of(other).all() & bit(node) == 0
    };
    let led = it.bound && is_leased(flock, node);
    let votes = flock.is_voter(node) && it.role != Role::Master;
    votes && !led && each(flock.near(node)).any(leaves_out)
}

/// Whether a master that may be awake counts on this voter not to vote for another.
pub(super) fn is_leased(flock: &Flock, node: usize) -> bool {
    let of = flock.nodes[node].history;
    let counts = |master: &Node| master.history == of && master.lease & bit(node) != 0;
    flock.nodes.iter().any(counts)
}

/// Who votes for a backup, where they are enough: voters that hear no master, with logs that are
/// no further on.
pub(super) fn supporters(flock: &Flock, node: usize) -> Option<Nodes> {
    let it = &flock.nodes[node];
    let place =
        |other: &Node| (other.last_term, other.log.count_ones(), other.sync, other.voters_logged);
    let votes = |other: &usize| {
        let other_ = &flock.nodes[*other];
        // Who is to vote may be asked before it knows.
        let role = matches!(other_.role, Role::Backup | Role::SemiMaster | Role::Learner);
        let there = other_.history == it.history && role && !other_.bound;
        *other == node || there && place(other_) <= place(it)
    };
    let all = each(flock.voters_near(node)).filter(votes).map(bit).sum();
    (flock.is_voter(node) && flock.is_majority(node, all)).then_some(all)
}

/// A backup is elected. Its first stamp takes it into the sync set: it lacks nothing that was
/// decided.
pub(super) fn elect(flock: &mut Flock, node: usize) {
    let Some(supporters) = supporters(flock, node) else { return };
    flock.left.elections -= 1;
    let terms = each(supporters).map(|other| flock.nodes[other].term);
    let term = terms.max().unwrap_or(0) + 1;
    let epochs = each(supporters).map(|other| flock.nodes[other].epoch);
    let epoch = epochs.max().unwrap_or(0) + 1;
    for other in each(supporters) {
        flock.nodes[other].term = term;
        if flock.nodes[other].role == Role::SemiMaster {
            flock.nodes[other].role = Role::Backup;
        }
    }
    let voters = flock.voters_of(node);
    let it = &mut flock.nodes[node];
    it.role = Role::Master;
    (it.last_term, it.epoch, it.lease) = (term, epoch, 0);
    let History { sync_sets, .. } = &mut flock.histories[it.history];
    let set = sync_sets[it.sync];
    if set & bit(node) == 0 && sync_sets.len() < MAX_SYNC_SETS {
        it.sync = sync_sets.len();
        sync_sets.push(set | bit(node));
    }
    if voters.is_joint() && it.voters_logged == it.voters {
        // The one before did not come to leave it.
        propose(flock, node, voters.incoming, 0);
    }
}

/// Log and heartbeat of a master reach another's disk.
pub(super) fn append(flock: &mut Flock, master: usize, to: usize) {
    let from = flock.nodes[master].clone();
    let it = &mut flock.nodes[to];
    let fresh = it.history == from.history && it.role != Role::Eligible;
    if !fresh || it.term > from.term || (it.term == from.term && it.role == Role::Master) {
        if fresh && it.term > from.term {
            // It is told of a higher term.
            flock.nodes[master].role = Role::Backup;
            flock.nodes[master].lease = 0;
        }
        return;
    }
    // What it knew to be decided before is still.
    let known = it.voters;
    copy_log(&from, it);
    it.voters = it.voters.max(known);
    (it.bound, it.lease, it.merging) = (true, 0, false);
    let votes = flock.is_voter(to);
    flock.nodes[to].role = if votes { Role::Backup } else { Role::Learner };
    flock.nodes[master].lease |= bit(to);
}

/// Whether holding managers may go on: a majority of the voters is there, of which one is in the
/// newest sync set that any of them knows, and none of them is led by another history.
pub(super) fn may_settle(flock: &Flock, node: usize) -> bool {
    let number = flock.nodes[node].history;
    let same = |other: &usize| {
        let it = &flock.nodes[*other];
        it.history == number && it.role != Role::Eligible
    };
    let there: Nodes = each(flock.voters_near(node)).filter(same).map(bit).sum();
    let newest = each(there)
        .map(|other| flock.nodes[other].sync.max(flock.nodes[other].noted[number]))
        .max()
        .unwrap_or(0);
    let member = |other: usize| {
        let set = flock.histories[number].sync_sets[newest];
        flock.nodes[other].sync == newest && set & bit(other) != 0
    };
    let heir = each(flock.near(node)).any(|other| went_on_in(flock, node, other));
    let votes = flock.is_voter(node);
    votes && flock.is_majority(node, there) && each(there).any(member) && !heir
}

/// Whether no other holding manager that is there has more.
pub(super) fn is_furthest(flock: &Flock, node: usize) -> bool {
    let place = |node: usize| {
        let it = &flock.nodes[node];
        (it.last_term, it.log.count_ones(), it.sync)
    };
    each(flock.voters_near(node)).all(|other| {
        let it = &flock.nodes[other];
        let holds = it.role == Role::Holding && it.history == flock.nodes[node].history;
        !holds || place(other) <= place(node)
    })
}

/// Whether `other` leads a history that was founded out of the one that `node` holds, or that this
/// one ended in.
pub(super) fn went_on_in(flock: &Flock, node: usize, other: usize) -> bool {
    let (number, theirs) = (flock.nodes[node].history, flock.nodes[other].history);
    let led = flock.may_acknowledge(other) && !flock.nodes[other].merging;
    let parted = flock.histories[theirs].parent == Some(number);
    led && theirs != number && (parted || flock.histories[number].ended == Some(theirs))
}
