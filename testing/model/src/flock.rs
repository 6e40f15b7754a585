//! The core of the scenarios of `docs/protocol/managers.md`, small enough to try everything that
//! may happen: three managers, four more eligible nodes, two cuts, one pause.
//!
//! What is kept of the protocol: a master acknowledges, within a lease that a majority of the
//! voters gave, what is on every disk of the sync set; an election needs a majority whose lease is
//! over and whose logs are no further on; the sync set shrinks by a decided entry that the roster
//! notes; a manager that lost both others founds the next generation when three eligible nodes
//! promise it and none knows a newer sync set; two masters that meet merge; the place of a backup
//! that falls silent is given to another. What is left out: messages (a round trip is one step, of
//! any length), standing, parts in which no manager is left, and that a sync set grows but by who
//! is elected. Roles have the names of the state diagram.
//!
//! Who votes is an entry of the log like any other, and in force on a node once that knows it to be
//! decided: see [`Voters`].
//!
//! A process may end at any time; what its disk holds is there again, and nothing else. It holds
//! then: it votes and gives leases only once the live master's log reached it, or once a majority
//! of the voters, holding or not, are there, one of them in the newest sync set that any of them
//! knows. Whose history ended, or went on in another that is led there, lets go of it after it
//! handed over what it holds.
//!
//! Time is in the order of steps alone. That a lease ends before anybody who gave it votes for
//! another is one rule: [`Step::Timeout`] waits for [`Step::Lapse`].

mod shared;
mod steps;
mod voters;

pub use shared::{Depth, Shared};
pub use voters::Voters;

use stateright::{Model, Property};

/// Managers, and eligible nodes beside them. The first `MANAGERS` nodes begin as managers.
pub const NODES: usize = 7;
const MANAGERS: usize = 3;
/// A majority of the roster.
const MAJORITY: u32 = 4;
/// Eligible nodes that a founding of the next generation takes.
const ENOUGH: u32 = 3;
/// Generations, and sync sets of each, that a run may come to.
const MAX_HISTORIES: usize = 3;
const MAX_SYNC_SETS: usize = 4;
/// Changes of the voters of one history that a run may come to.
const MAX_CHANGES: usize = 6;

/// Nodes, one bit each.
pub type Nodes = u8;
/// Writes, one bit each.
pub type Writes = u8;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// On the roster.
    Eligible,
    /// It has the log, and does not know itself to vote.
    Learner,
    /// A voter that does not lead.
    Backup,
    /// It decides.
    Master,
    /// It lost both others.
    SemiMaster,
    /// It was restarted, and what became of its flock is not settled.
    Holding,
}

/// A node, and what is on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// What it is.
    pub role: Role,
    /// Of which history it is, by number.
    pub history: usize,
    /// The engine's term, and that of the last entry of its log.
    pub term: u8,
    last_term: u8,
    /// The writes in its log.
    pub log: Writes,
    /// The sync set that its log names, by number.
    pub sync: usize,
    /// The configuration of the voters that its log names last, by number.
    pub voters_logged: usize,
    /// The one that it knows to be decided, and counts by.
    pub voters: usize,
    /// It heard its master, and votes for nobody else yet.
    pub bound: bool,
    /// Of a master: who gave it its lease.
    pub lease: Nodes,
    /// Of a master: it hands its history over, and takes no more writes.
    pub merging: bool,
    /// It does nothing.
    pub paused: bool,
    /// Another process was here before.
    pub restarted: bool,
    /// The highest generation it promised, and of which history that was to be the next.
    pub promised: (u8, Option<usize>),
    /// The newest sync set of each history that it was told of.
    pub noted: [usize; MAX_HISTORIES],
    /// The highest epoch it has seen.
    pub epoch: u8,
}

/// A history of decisions, and what is known of it to nobody in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// Its number.
    pub generation: u8,
    /// Whether its founding was promised by a majority of the roster of a strong one.
    pub strong: bool,
    /// From which it was founded.
    pub parent: Option<usize>,
    /// Who founded it, and with what.
    pub founder: usize,
    /// With which writes.
    pub initial: Writes,
    /// All configurations of its voters that were ever proposed, the first first.
    pub voters: Vec<Voters>,
    /// Who was demoted, and never votes in it again.
    pub demoted: Nodes,
    /// All sync sets, the first first.
    pub sync_sets: Vec<Nodes>,
    /// What was acknowledged.
    pub acknowledged: Writes,
    /// Of that, with the word *strong*.
    pub strongly: Writes,
    /// What was acknowledged while the founder of another history was in the sync set: (who, what).
    pub owed: [Writes; NODES],
    /// In which history it ended.
    pub ended: Option<usize>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flock {
    /// All nodes.
    pub nodes: Shared<Node>,
    /// All histories.
    pub histories: Shared<History>,
    /// Who is on the one side of the cut.
    pub side: Nodes,
    /// How much may still happen.
    pub left: Left,
    /// The epoch on some disk fell.
    pub epoch_fell: bool,
    /// How far it is from where everything began.
    pub depth: Depth,
}

/// What bounds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// Times that the network changes.
    pub cuts: u8,
    /// Pauses that begin.
    pub pauses: u8,
    /// Processes that end.
    pub restarts: u8,
    /// Writes.
    pub writes: u8,
    /// Elections.
    pub elections: u8,
    /// Backups whose place is given to another.
    pub replacements: u8,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Those on one side reach nobody on the other; with nobody there the network is whole.
    Cut(Nodes),
    /// A node stops.
    Pause(usize),
    /// It goes on.
    Resume(usize),
    /// A process ends, and another begins with what is on the disk.
    Restart(usize),
    /// Holding managers have compared their logs, and go on.
    Settle(usize),
    /// What a holding manager has is in the log of a master of another history.
    GiveBack(usize, usize),
    /// A master is asked to write.
    Write(usize),
    /// A master's log, with its heartbeat, is on another's disk, and the master knows.
    Append(usize, usize),
    /// A lease that is not renewed ends.
    Lapse(usize),
    /// A master without a lease steps back.
    StepBack(usize),
    /// A voter has not heard its master for an election's time.
    Timeout(usize),
    /// A backup is elected.
    Elect(usize),
    /// A master takes whom it does not reach out of the sync set.
    Shrink(usize),
    /// The roster notes a master's sync set.
    Note(usize),
    /// A master acknowledges what it may.
    Acknowledge(usize),
    /// A backup gives the others up.
    GiveUp(usize),
    /// It founds the next generation.
    Found(usize),
    /// A master wants an eligible node, which has its whole log, for one voter more.
    Enlist(usize, usize),
    /// A master gives the place of a silent backup to an eligible node that has its whole log:
    /// (master, who goes, who comes).
    Replace(usize, usize, usize),
    /// Who believes that it votes hears the claim of a master that leaves it out.
    Demote(usize),
    /// A master begins to hand its history over to another.
    Merge(usize, usize),
    /// Everything of it is in the other's log.
    HandOver(usize, usize),
    /// It is as safe there as an acknowledged write: the history ends.
    End(usize, usize),
    /// Who was of a history that ended is eligible.
    Learn(usize),
}

/// A fault to plant: each makes a property fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A voter votes before the lease that it gave is over.
    LongLease,
    /// A write is acknowledged when a majority has it.
    NoSyncSet,
    /// A generation is promised to whoever asks.
    PromisesTwice,
    /// Whether anybody knows a newer sync set is not asked.
    IgnoresNotes,
    /// A history ends before all of it is handed over.
    HalfMerge,
    /// Who founds begins to count anew.
    ForgetsEpoch,
    /// A restarted manager goes on as if it had never been away.
    NeverHolds,
    /// One entry takes a voter out and another in, with no joint configuration between.
    NotJoint,
    /// A joint configuration is left when a majority of its new half has the entry that leaves it.
    NewHalfDecides,
    /// A demoted backup votes on, with nothing in its log.
    VotesAgain,
    /// After a restart a node counts by voters that were before those that its log proves.
    ForgetsVoters,
}

/// The model: [`Flock`] and what may happen to it.
#[derive(Clone, Copy, Debug)]
pub struct Managers {
    /// How much may happen.
    pub left: Left,
    /// What is wrong with it.
    pub bug: Option<Bug>,
    /// What has happened when it begins.
    pub before: &'static [Step],
    /// How many steps it takes from there.
    pub steps: usize,
}

/// A backup is cut off, and its place is about to be given away: the joint entry is in the log of
/// the master, and whoever is to come has all before it.
pub const REPLACING: &[Step] = &[Step::Cut(0b100), Step::Shrink(0), Step::Replace(0, 2, 3)];

impl Managers {
    /// What the scenarios are about: two cuts, one pause.
    #[must_use]
    pub const fn new(bug: Option<Bug>) -> Self {
        let (cuts, pauses, restarts, writes) = (2, 1, 1, 2);
        let left = Left { cuts, pauses, restarts, writes, elections: 1, replacements: 1 };
        Self { left, bug, before: &[], steps: 7 }
    }
}

impl Flock {
    pub(crate) fn reaches(&self, a: usize, b: usize) -> bool {
        let side = |node: usize| self.side & bit(node) != 0;
        let awake = |node: usize| !self.nodes[node].paused;
        side(a) == side(b) && awake(a) && awake(b)
    }

    /// Who `node` reaches, itself among them.
    pub(crate) fn near(&self, node: usize) -> Nodes {
        (0..NODES).filter(|other| self.reaches(node, *other)).map(bit).sum()
    }

    pub(crate) fn history_of(&self, node: usize) -> &History {
        &self.histories[self.nodes[node].history]
    }

    /// Whether a master may acknowledge now.
    #[must_use]
    pub fn may_acknowledge(&self, node: usize) -> bool {
        let it = &self.nodes[node];
        let given = it.lease | bit(node);
        it.role == Role::Master && !it.paused && !it.merging && self.is_majority(node, given)
    }

    /// At most one may acknowledge in a history.
    fn one_acknowledges(&self) -> bool {
        let alone = |history: usize| {
            let of = |node: &usize| self.nodes[*node].history == history;
            (0..NODES).filter(of).filter(|node| self.may_acknowledge(*node)).count() <= 1
        };
        (0..self.histories.len()).all(alone)
    }

    /// Who may acknowledge has everything that was acknowledged in its history, also what was
    /// handed over to it.
    fn masters_have_everything(&self) -> bool {
        (0..NODES).filter(|node| self.may_acknowledge(*node)).all(|node| {
            let acknowledged = self.history_of(node).acknowledged;
            self.nodes[node].log & acknowledged == acknowledged
        })
    }

    /// A founder has everything that was acknowledged while it was in the sync set.
    fn founders_are_complete(&self) -> bool {
        self.histories.iter().all(|history| {
            let Some(parent) = history.parent else { return true };
            let owed = self.histories[parent].owed[history.founder];
            history.initial & owed == owed
        })
    }

    /// What was acknowledged as strong is in every strong history that was founded after it.
    fn strong_is_kept(&self) -> bool {
        self.histories.iter().filter(|history| history.strong).all(|history| {
            let Some(parent) = history.parent else { return true };
            let strongly = self.histories[parent].strongly;
            history.initial & strongly == strongly
        })
    }

    /// Who lost its place in the first history and was told so, where its master goes on without.
    fn replaced(&self) -> Nodes {
        let led = |node: &usize| self.nodes[*node].history == 0 && self.may_acknowledge(*node);
        let without = |node: usize| self.histories[0].demoted & !self.voters_of(node).all();
        (0..NODES).filter(led).map(without).fold(0, |all, some| all | some)
    }

    /// Two strong generations never share a number.
    fn strong_numbers_are_unique(&self) -> bool {
        let strong = || self.histories.iter().filter(|history| history.strong);
        let unique = |one: &History| strong().filter(|it| it.generation == one.generation).count();
        strong().all(|history| unique(history) == 1)
    }
}

pub(crate) const fn bit(node: usize) -> Nodes {
    1 << node
}

pub(crate) fn each(nodes: Nodes) -> impl Iterator<Item = usize> + Clone {
    (0..NODES).filter(move |node| nodes & bit(*node) != 0)
}

impl Model for Managers {
    type State = Flock;
    type Action = Step;

    fn init_states(&self) -> Vec<Flock> {
        let all = 0b111;
        let node = |number: usize| {
            let manages = number < MANAGERS;
            let role = match number {
                0 => Role::Master,
                1 | 2 => Role::Backup,
                _ => Role::Eligible,
            };
            Node {
                role,
                history: 0,
                term: u8::from(manages),
                last_term: u8::from(manages),
                log: 0,
                sync: 0,
                voters_logged: 0,
                voters: 0,
                bound: number == 1 || number == 2,
                lease: if number == 0 { all } else { 0 },
                merging: false,
                paused: false,
                restarted: false,
                promised: (1, None),
                noted: [0; MAX_HISTORIES],
                epoch: 1,
            }
        };
        let first = History {
            generation: 1,
            strong: true,
            parent: None,
            founder: 0,
            initial: 0,
            voters: vec![Voters::only(all)],
            demoted: 0,
            sync_sets: vec![all],
            acknowledged: 0,
            strongly: 0,
            owed: [0; NODES],
            ended: None,
        };
        let mut flock = Flock {
            nodes: (0..NODES).map(node).collect(),
            histories: [first].into_iter().collect(),
            side: 0,
            left: self.left,
            epoch_fell: false,
            depth: Depth(0),
        };
        for step in self.before {
            let mut possible = Vec::new();
            self.all_steps(&flock, &mut possible);
            let next = possible.contains(step).then(|| self.next_state(&flock, *step));
            let Some(Some(next)) = next else { return Vec::new() };
            flock = Flock { depth: Depth(0), ..next };
        }
        vec![flock]
    }

    fn actions(&self, flock: &Flock, steps: &mut Vec<Step>) {
        if flock.depth.0 < self.steps {
            self.all_steps(flock, steps);
        }
    }

    fn next_state(&self, flock: &Flock, step: Step) -> Option<Flock> {
        let mut next = flock.clone();
        self.take(&mut next, step);
        next.depth.0 += 1;
        for (before, after) in flock.nodes.iter().zip(next.nodes.iter()) {
            next.epoch_fell |= after.epoch < before.epoch;
        }
        (next != *flock).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one may acknowledge", |_, it: &Flock| it.one_acknowledges()),
            Property::always("masters have everything", |_, it: &Flock| {
                it.masters_have_everything()
            }),
            Property::always("founders are complete", |_, it: &Flock| it.founders_are_complete()),
            Property::always("strong writes are kept", |_, it: &Flock| it.strong_is_kept()),
            Property::always("strong numbers are unique", |_, it: &Flock| {
                it.strong_numbers_are_unique()
            }),
            Property::always("epochs never fall", |_, it: &Flock| !it.epoch_fell),
            // What is never come to shows nothing.
            Property::sometimes("something is acknowledged", |_, it: &Flock| {
                it.histories[0].strongly != 0
            }),
            Property::sometimes("scenario 1: a silent backup is replaced", |_, it: &Flock| {
                it.replaced() != 0
            }),
            Property::sometimes("scenario 1: it comes back from its disk", |_, it: &Flock| {
                (0..NODES).any(|node| it.replaced() & bit(node) != 0 && it.nodes[node].restarted)
            }),
            Property::sometimes("scenario 3: a master without backups founds", |_, it: &Flock| {
                it.histories.iter().any(|history| history.parent == Some(0) && history.founder == 0)
            }),
            Property::sometimes("scenario 4: a backup is elected", |_, it: &Flock| {
                (1..MANAGERS).any(|node| it.nodes[node].history == 0 && it.may_acknowledge(node))
            }),
            Property::sometimes("scenario 2: the next generation is founded", |_, it: &Flock| {
                let founded = |history: &History| history.parent.is_some() && history.founder != 0;
                it.histories.iter().any(founded)
            }),
            Property::sometimes("booting: a restarted manager goes on", |_, it: &Flock| {
                it.left.restarts == 0
                    && it.nodes.iter().any(|node| node.restarted && node.role == Role::Backup)
            }),
            Property::sometimes("scenario 5: two histories merge", |_, it: &Flock| {
                it.histories.iter().any(|history| history.ended.is_some())
            }),
        ]
    }
}
