//! Merges over several flocks: what comes through others, back, and again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::prelude::*;
use skep_base::WallTime;

use super::merging::{conflicts, said, take_all, wanted};
use super::{command, key, says, write};
use crate::*;

/// What may happen in and between flocks. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    /// Somebody writes an entry there, or removes it.
    Write { flock: u8, entry: u8, removes: bool },
    /// A part founds a flock of its own from what it has.
    Part { flock: u8 },
    /// One hands over to another and both go on: a part of the first may have been killed in it.
    Merge { from: u8, to: u8 },
    /// An operator lets a conflict happen, or removes it.
    Settle { flock: u8, which: u8, applies: bool },
    /// A manager is lost, with a write that it alone holds, and the next goes on without it.
    Lose { flock: u8, entry: u8 },
}

fn acts(loses: bool) -> impl Strategy<Value = Vec<Act>> {
    let flock = || 0..8_u8;
    let removes = || proptest::bool::weighted(0.15);
    let write = (flock(), 0..3_u8, removes()).prop_map(|(flock, entry, removes)| Act::Write {
        flock,
        entry,
        removes,
    });
    let part = flock().prop_map(|flock| Act::Part { flock });
    let merge = (flock(), flock()).prop_map(|(from, to)| Act::Merge { from, to });
    let settle = (flock(), any::<u8>(), any::<bool>())
        .prop_map(|(flock, which, applies)| Act::Settle { flock, which, applies });
    let lose = (flock(), 0..3_u8).prop_map(|(flock, entry)| Act::Lose { flock, entry });
    let act = prop_oneof![
        6 => write,
        2 => part,
        4 => merge,
        1 => settle,
        (if loses { 2 } else { 0 }) => lose,
    ];
    proptest::collection::vec(act, 1..30)
}

/// Flocks, at most of them.
const MOST: usize = 6;

/// One that lives: who founded it left it a log to go on with.
#[derive(Clone)]
struct Flock {
    catalog: Catalog,
    fork: u64,
    term: u64,
    /// Up to where it has the same log as each other.
    common: BTreeMap<u64, u64>,
    expected: Expected,
}

/// What it is to say, by sets of all writes ever made: of each entry the one that it says, others
/// that nobody has overtaken, and all that were seen.
type Expected = BTreeMap<Key, Entry>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    says: Option<Dot>,
    others: BTreeSet<Dot>,
    /// Those of the others that were found to say the same when they came.
    alike: BTreeSet<Dot>,
    seen: BTreeSet<Dot>,
}

struct World {
    flocks: Vec<Flock>,
    /// What lost managers hold.
    holders: Vec<Catalog>,
    /// What each write says.
    writes: BTreeMap<Dot, Option<String>>,
}

impl Flock {
    fn next(&self) -> Dot {
        let stamp = Stamp { epoch: self.term, fork: self.fork << 32 };
        Dot { stamp, term: self.term, index: self.catalog.index() + 1 }
    }

    /// Writes an entry, which says that from then on: whoever wrote the same as it said is
    /// overtaken with it.
    fn says(&mut self, key: Key, dot: Dot) {
        let entry = self.expected.entry(key).or_default();
        let alike = core::mem::take(&mut entry.alike);
        entry.others.retain(|it| !alike.contains(it));
        entry.says = Some(dot);
        entry.seen.insert(dot);
    }

    /// What its catalog says, as what is expected of it.
    fn is(&self) -> BTreeMap<Key, (Option<Dot>, BTreeSet<Dot>)> {
        let mut all: BTreeMap<Key, (Option<Dot>, BTreeSet<Dot>)> = BTreeMap::new();
        for (key, slot) in self.catalog.slots() {
            if key.kind() != Kind::CONFLICT {
                let entry = all.entry(key.clone()).or_default();
                entry.0 = slot.newest().map(Version::dot);
                entry.1.extend(slot.all_said().skip(1).map(|it| it.dot()));
            }
        }
        for (_, conflict) in conflicts(&self.catalog) {
            all.entry(conflict.key).or_default().1.insert(conflict.version.dot());
        }
        all
    }

    fn shall_be(&self) -> BTreeMap<Key, (Option<Dot>, BTreeSet<Dot>)> {
        let all = self.expected.iter();
        all.map(|(key, entry)| (key.clone(), (entry.says, entry.others.clone()))).collect()
    }
}

impl World {
    fn new() -> Self {
        let (catalog, expected) = (Catalog::new(), Expected::new());
        let first = Flock { catalog, fork: 1, term: 1, common: BTreeMap::new(), expected };
        let (holders, writes) = (Vec::new(), BTreeMap::new());
        Self { flocks: vec![first], holders, writes }
    }

    fn at(&self, flock: u8) -> usize {
        usize::from(flock) % self.flocks.len()
    }

    fn act(&mut self, act: &Act) {
        let name = |entry: u8| format!("setting/{entry}");
        match *act {
            Act::Write { flock, entry, removes } => {
                self.write(self.at(flock), &name(entry), removes);
            }
            Act::Part { flock } => self.part(self.at(flock)),
            Act::Merge { from, to } => self.merge(self.at(from), self.at(to)),
            Act::Settle { flock, which, applies } => self.settle(self.at(flock), which, applies),
            Act::Lose { flock, entry } => self.lose(self.at(flock), &name(entry)),
        }
    }

    fn write(&mut self, at: usize, name: &str, removes: bool) {
        let value = self.writes.len().to_string();
        let flock = &mut self.flocks[at];
        let removes = removes && says(&flock.catalog, name).is_some();
        let (dot, value) = (flock.next(), (!removes).then_some(value));
        let wanted = vec![write(name, Expect::Anything, value.as_deref())];
        let outcome = flock.catalog.apply(dot, Origin::Own, &command(wanted));
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        flock.says(key(name), dot);
        self.writes.insert(dot, value);
    }

    fn part(&mut self, at: usize) {
        if self.flocks.len() >= MOST {
            return;
        }
        let fork = self.flocks.len() as u64 + 1;
        let (whole, index) = (self.flocks[at].fork, self.flocks[at].catalog.index());
        let mut part = Flock { fork, term: 1, ..self.flocks[at].clone() };
        part.common.insert(whole, index);
        for other in &mut self.flocks {
            other.common.insert(fork, part.common.get(&other.fork).copied().unwrap_or(0));
        }
        self.flocks.push(part);
    }

    fn merge(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let theirs = self.flocks[from].clone();
        let ours = &mut self.flocks[to];
        let common = ours.common.get(&theirs.fork).copied().unwrap_or(0);
        take_all(&mut ours.catalog, &theirs.catalog.hand_over(common));
        for (key, their) in &theirs.expected {
            let our = ours.expected.entry(key.clone()).or_default();
            let there: BTreeSet<Dot> = their.says.iter().chain(&their.others).copied().collect();
            let here: BTreeSet<Dot> = our.says.iter().chain(&our.others).copied().collect();
            let stays = |it: &Dot| {
                (here.contains(it) || !our.seen.contains(it))
                    && (there.contains(it) || !their.seen.contains(it))
            };
            let mut left: BTreeSet<Dot> = here.union(&there).copied().filter(stays).collect();
            let of_these = |it: Option<Dot>| it.filter(|it| left.contains(it));
            let says = of_these(our.says).or_else(|| of_these(their.says));
            our.says = says.or_else(|| left.last().copied()).or(our.says);
            our.says.iter().for_each(|says| {
                left.remove(says);
            });
            let same = |it: &&Dot| {
                our.says.is_some_and(|says| self.writes.get(*it) == self.writes.get(&says))
            };
            our.alike = left.iter().filter(same).copied().collect();
            our.others = left;
            our.seen.extend(&their.seen);
        }
    }

    fn settle(&mut self, at: usize, which: u8, applies: bool) {
        let all = conflicts(&self.flocks[at].catalog);
        let Some((logged, conflict)) = all.get(usize::from(which) % all.len().max(1)) else {
            return;
        };
        let flock = &mut self.flocks[at];
        let (dot, mut puts) = (flock.next(), false);
        let wanted = if applies {
            let again = reapply(&flock.catalog, logged, "me".into(), WallTime::default()).unwrap();
            puts = again.writes.len() > 1;
            again.to_bytes().unwrap()
        } else {
            command(vec![Write { key: logged.clone(), expect: Expect::Anything, put: None }])
        };
        let outcome = flock.catalog.apply(dot, Origin::Own, &wanted);
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        let settled = conflict.version.dot();
        let entry = flock.expected.entry(conflict.key.clone()).or_default();
        entry.others.remove(&settled);
        // Who removes it wants what the entry says.
        let wanted = if puts { Some(settled) } else { entry.says };
        let again = wanted.and_then(|it| self.writes.get(&it).cloned()).flatten();
        flock.says(conflict.key.clone(), dot);
        self.writes.insert(dot, again);
    }

    fn lose(&mut self, at: usize, name: &str) {
        if self.holders.len() >= MOST {
            return;
        }
        let value = format!("held-{}", self.holders.len());
        let flock = &mut self.flocks[at];
        let mut holder = flock.catalog.clone();
        let wanted = vec![write(name, Expect::Anything, Some(&value))];
        holder.apply(flock.next(), Origin::Own, &command(wanted));
        flock.term += 1;
        self.holders.push(holder);
    }

    /// All of them in one, which is the first of `order`.
    fn merged(&self, order: &[usize]) -> Catalog {
        let mut all = self.flocks[order[0]].catalog.clone();
        for at in &order[1..] {
            take_all(&mut all, &self.flocks[*at].catalog.hand_over(0));
        }
        all
    }
}

proptest! {
    /// What a catalog remembers is a place of each log. It comes to the same as to remember every
    /// write there ever was.
    #[test]
    fn a_catalog_says_what_it_would_if_it_remembered_every_write(acts in acts(false)) {
        let mut world = World::new();
        for act in acts {
            world.act(&act);
            for flock in &world.flocks {
                prop_assert_eq!(flock.is(), flock.shall_be(), "after {:?}", act);
            }
        }
    }

    /// In whichever order flocks that took over from one another end as one, and however often
    /// they hand over, it comes to the same.
    #[test]
    fn merging_in_any_order_any_number_of_times_gives_the_same(
        acts in acts(false), order in Just((0..MOST).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut world = World::new();
        acts.iter().for_each(|act| world.act(act));
        let all: Vec<usize> = (0..world.flocks.len()).collect();
        let order: Vec<usize> = order.into_iter().filter(|at| *at < all.len()).collect();
        let (one, other) = (world.merged(&all), world.merged(&order));
        prop_assert_eq!(wanted(&one), wanted(&other));
        let again = [&order[..], &all[..], &order[..]].concat();
        let again = world.merged(&again);
        prop_assert_eq!(said(&again), said(&other));
    }

    /// Nothing that was decided is lost for what lost managers hold: each of them may hand over
    /// to any flock, before or after.
    #[test]
    fn what_lost_managers_held_hides_nothing_that_was_decided(
        acts in acts(true), gives in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..6),
    ) {
        let mut world = World::new();
        for (at, act) in acts.iter().enumerate() {
            world.act(act);
            let Some((holder, flock)) = gives.get(at).filter(|_| !world.holders.is_empty()) else {
                continue;
            };
            let given = world.holders[usize::from(*holder) % world.holders.len()].hand_over(0);
            let to = world.at(*flock);
            take_all(&mut world.flocks[to].catalog, &given);
        }
        let all: Vec<usize> = (0..world.flocks.len()).collect();
        let mut merged = world.merged(&all);
        world.holders.iter().for_each(|holder| take_all(&mut merged, &holder.hand_over(0)));
        let root = merged.root();
        world.holders.iter().for_each(|holder| take_all(&mut merged, &holder.hand_over(0)));
        prop_assert_eq!(merged.root(), root);
        // What each flock alone says at last was promised, unless another went on from it.
        for flock in &world.flocks {
            let others = world.flocks.iter().filter(|other| other.fork != flock.fork);
            let others: Vec<&Catalog> =
                others.map(|other| &other.catalog).chain(&world.holders).collect();
            for (key, slot) in flock.catalog.slots() {
                let newest = slot.newest().unwrap();
                let decided = world.writes.contains_key(&newest.dot());
                let seen_by_others = others.iter().any(|other| {
                    other.slot(key).is_some_and(|it| it.context().covers(&newest.dot()))
                });
                if key.kind() == Kind::CONFLICT || !decided || seen_by_others {
                    continue;
                }
                let wanted = wanted(&merged);
                prop_assert!(wanted[key].contains(&newest.put), "{} is lost", key);
            }
        }
    }
}
