//! What happens to a flock, as one of its nodes sees it.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeName, Outbox, Time};

/// Nodes that one event names.
pub const MAX_NAMED: usize = 64;
/// Nodes that parted and whose return is waited for: as many as an address book has.
const MAX_PARTED: usize = 4096;

/// How a flock is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// What happens within this time of one another is one event.
    pub gather: Duration,
    /// A flock in which nothing has changed for so long is stable.
    pub stable_after: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        // A rack that is cut off goes silent within a heartbeat or two.
        Self { gather: Duration::from_secs(1), stable_after: Duration::from_secs(30) }
    }
}

/// The flock that a node belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlockSeen {
    /// Its transient name (BLOC-11).
    pub name: String,
    /// Its history.
    pub lineage: u64,
    /// The history that it was founded out of, if any.
    pub parent: Option<u64>,
    /// How often it was founded again.
    pub generation: u64,
    /// Who decides, if anybody does now.
    pub master: Option<NodeName>,
}

/// What a node sees of its flock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The flock, if it is in one.
    pub flock: Option<FlockSeen>,
    /// What this node is in it.
    pub role: &'static str,
    /// Who is present.
    pub present: BTreeSet<NodeName>,
    /// Who said that it goes.
    pub gone: BTreeSet<NodeName>,
}

/// What sort of thing happened. The words are those of `skep events` and of hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// This node is in a flock, and was in none; or its part of one was founded again.
    Formed,
    /// Members that had parted are there again, or the flock went on in another, or another in it.
    Merged,
    /// Members went without a word: cut off, or dead, which nobody can tell (BLOC-10).
    Split,
    /// Another node decides.
    MasterChanged,
    /// Nobody came, nobody went, and the master is the same for some time.
    Stable,
    /// This node is something else in the flock.
    RoleChanged,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Formed,
        Self::Merged,
        Self::Split,
        Self::MasterChanged,
        Self::Stable,
        Self::RoleChanged,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Formed => "formed",
            Self::Merged => "merged",
            Self::Split => "split",
            Self::MasterChanged => "master-changed",
            Self::Stable => "stable",
            Self::RoleChanged => "role-changed",
        }
    }
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// What.
    pub what: What,
    /// Who parted or came back, at most [`MAX_NAMED`] of them; who was master or is.
    pub nodes: Vec<NodeName>,
    /// How many there were, named or not.
    pub count: usize,
    /// What it was before: the flock's name, the master's or the role.
    pub before: Option<String>,
}

/// Watches one flock. Fed with all that is seen, whenever any of it may have changed.
#[derive(Clone, Debug)]
pub struct Watch {
    config: WatchConfig,
    seen: Option<Seen>,
    /// The last flock that it was in: who does not vote knows of none while it has no master.
    flock: Option<FlockSeen>,
    /// The master that was told of last.
    master: Option<NodeName>,
    parted: BTreeSet<NodeName>,
    lost: BTreeSet<NodeName>,
    back: BTreeSet<NodeName>,
    /// When what was gathered is told.
    tell: Option<Time>,
    /// When the flock is stable if nothing happens until then.
    calm: Option<Time>,
    /// It is, since nothing has happened after that was told.
    stable: bool,
}

impl Watch {
    /// One that has seen nothing.
    #[must_use]
    pub const fn new(config: WatchConfig) -> Self {
        Self {
            config,
            seen: None,
            flock: None,
            master: None,
            parted: BTreeSet::new(),
            lost: BTreeSet::new(),
            back: BTreeSet::new(),
            tell: None,
            calm: None,
            stable: false,
        }
    }

    /// Whether the flock is stable: [`What::Stable`] was told, and nothing has changed since.
    #[must_use]
    pub const fn is_stable(&self) -> bool {
        self.stable
    }

    /// When it is, if nothing changes until then; nothing while it has no master.
    #[must_use]
    pub const fn stable_at(&self) -> Option<Time> {
        self.calm
    }

    /// This is how it is now.
    pub fn handle(&mut self, now: Time, seen: Seen, out: &mut Outbox<Happened>) {
        let before = self.seen.take().unwrap_or_default();
        self.gather(now, &before, &seen);
        self.flock(&seen, out);
        if before.role != seen.role && !before.role.is_empty() {
            out.push(Happened { before: Some(before.role.into()), ..of(What::RoleChanged) });
        }
        let master = seen.flock.as_ref().and_then(|flock| flock.master.clone());
        if let Some(name) = &master
            && self.master.as_ref() != Some(name)
        {
            let before = self.master.replace(name.clone());
            let before = before.map(|name| name.as_str().into());
            let nodes = alloc::vec![name.clone()];
            out.push(Happened { nodes, count: 1, before, ..of(What::MasterChanged) });
        }
        if before.present != seen.present || before.flock != seen.flock {
            self.calm = master.is_some().then_some(now + self.config.stable_after);
            self.stable = false;
        }
        self.seen = Some(seen);
        self.tick(now, out);
    }

    /// When there is something to tell, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let tell = self.tell.map(|at| (at, "tells who parted or came back"));
        let calm = self.calm.map(|at| (at, "the flock is stable"));
        [tell, calm].into_iter().flatten().min()
    }

    /// Tells what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Happened>) {
        if self.tell.is_some_and(|at| at <= now) {
            self.tell = None;
            for (what, of_them) in [
                (What::Split, core::mem::take(&mut self.lost)),
                (What::Merged, core::mem::take(&mut self.back)),
            ] {
                if !of_them.is_empty() {
                    let nodes = of_them.iter().take(MAX_NAMED).cloned().collect();
                    out.push(Happened { nodes, count: of_them.len(), ..of(what) });
                }
            }
        }
        if self.tell.is_none() && self.calm.is_some_and(|at| at <= now) {
            self.calm = None;
            self.stable = true;
            out.push(of(What::Stable));
        }
    }

    /// What must hold between calls.
    pub fn check(&self) {
        let waits = !(self.lost.is_empty() && self.back.is_empty());
        assert!(!waits || self.tell.is_some(), "what was gathered will be told");
        assert!(self.parted.len() <= MAX_PARTED, "those that parted are bounded");
        let present = self.seen.as_ref().map(|seen| &seen.present);
        let both = present.is_some_and(|present| self.parted.iter().any(|it| present.contains(it)));
        assert!(!both, "who is present has not parted");
        assert!(!(self.stable && self.calm.is_some()), "what is stable waits for nothing");
    }

    /// Who went without a word, and who is back.
    fn gather(&mut self, now: Time, before: &Seen, seen: &Seen) {
        for node in before.present.difference(&seen.present) {
            if seen.gone.contains(node) {
                continue;
            }
            // Who was back for a moment only was never told of, and parted once.
            if !self.back.remove(node) {
                self.lost.insert(node.clone());
            }
            if self.parted.len() < MAX_PARTED {
                self.parted.insert(node.clone());
            }
        }
        for node in seen.present.difference(&before.present) {
            if self.parted.remove(node) && !self.lost.remove(node) {
                self.back.insert(node.clone());
            }
        }
        // A node that said so after it had gone silent has left, and is no part of a flock.
        self.parted.retain(|node| !seen.gone.contains(node));
        self.lost.retain(|node| !seen.gone.contains(node));
        let waits = !(self.lost.is_empty() && self.back.is_empty());
        if waits {
            self.tell.get_or_insert(now + self.config.gather);
        } else {
            self.tell = None;
        }
    }

    /// Whether the node's flock is another.
    fn flock(&mut self, seen: &Seen, out: &mut Outbox<Happened>) {
        let Some(flock) = &seen.flock else { return };
        let Some(was) = self.flock.replace(flock.clone()) else {
            out.push(of(What::Formed));
            return;
        };
        if was.lineage == flock.lineage {
            return;
        }
        let forked = flock.parent == Some(was.lineage);
        let what = if forked { What::Formed } else { What::Merged };
        out.push(Happened { before: Some(was.name), ..of(what) });
    }
}

const fn of(what: What) -> Happened {
    Happened { what, nodes: Vec::new(), count: 0, before: None }
}
