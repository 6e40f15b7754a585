//! Clients of the catalog: each asks one thing after the other, and what they saw is judged at the
//! end.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::Time;
use skep_catalog::{Catalog, Expect, Granted, Key, Outcome, Payload};
use skep_managers::Role;
use skep_model::entry::{Answer, Expect as Expected, History, Op};

use crate::host::HostIx;
use crate::report::{Checker, Failure};
use crate::wishes::value_in;
use crate::world::World;

/// A client that was not answered for so long asks something else: whether the first thing
/// happened it will never know.
const PATIENCE: Duration = Duration::from_secs(12);
/// Entries that are written and read at one time.
const ENTRIES: usize = 2;
const CLIENTS: usize = 3;
/// Writes of one entry: the catalog keeps as many versions, so that none may be missing.
const WRITES: usize = skep_catalog::MAX_VERSIONS;

/// A read at a node that calls itself master.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) host: HostIx,
    entry: usize,
    at: Time,
    /// When it was granted, in which fork, and what the entry said then.
    answer: Option<(Time, u64, Answer)>,
}

/// A write.
#[derive(Clone, Copy, Debug)]
struct Writing {
    entry: usize,
    expect: Expected,
    value: u64,
}

/// What a client waits for, and of which process.
#[derive(Clone, Copy, Debug)]
struct Doing {
    what: Asked,
    host: HostIx,
    life: u32,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Writing(u64),
    Reading(u64),
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    waiting: [Option<(Doing, Time)>; CLIENTS],
    writes: BTreeMap<u64, Writing>,
    reads: Vec<u64>,
    /// How often each entry was asked for.
    asked: Vec<usize>,
    /// The revision that was last heard of each.
    heard: BTreeMap<usize, u64>,
    values: u64,
}

impl Clients {
    /// Lets time pass, with questions in it.
    pub(crate) fn work(&mut self, world: &mut World, span: Duration) -> Result<(), Failure> {
        let end = world.now() + span;
        while world.now() < end {
            self.ask(world);
            let pause = Duration::from_millis(world.rng.within(20..180));
            let left = end.since(world.now());
            world.run_for(pause.min(left))?;
        }
        Ok(())
    }

    /// Whoever is done asks something new.
    pub(crate) fn ask(&mut self, world: &mut World) {
        for client in 0..CLIENTS {
            if let Some((doing, since)) = self.waiting[client] {
                let answered = self.look(world, doing.what);
                // Who died answers nothing any more.
                let there = world.host(doing.host).epoch == doing.life;
                if !answered && there && world.now().since(since) < PATIENCE {
                    continue;
                }
            }
            let doing = self.next(world);
            self.waiting[client] = doing.map(|doing| (doing, world.now()));
        }
    }

    fn look(&mut self, world: &World, doing: Asked) -> bool {
        let (entry, revision) = match doing {
            Asked::Writing(token) => {
                let Some((_, granted)) = world.wishes.answer_to(token) else { return false };
                let entry = self.writes.get(&token).map(|writing| writing.entry);
                (entry, answer_of(granted).and_then(revision_in))
            }
            Asked::Reading(token) => {
                let Some(reading) = world.reads.get(&token) else { return true };
                let Some((_, _, answer)) = reading.answer else { return false };
                (Some(reading.entry), revision_in(answer))
            }
        };
        if let (Some(entry), Some(revision)) = (entry, revision) {
            let known = self.heard.entry(entry).or_default();
            *known = revision.max(*known);
        }
        true
    }

    fn next(&mut self, world: &mut World) -> Option<Doing> {
        let entry = self.entry(world);
        let live: Vec<HostIx> = world.live().collect();
        let host = *live.get(world.rng.index(live.len())?)?;
        self.asked[entry] += 1;
        let written = self.writes.values().filter(|it| it.entry == entry).count();
        if written >= WRITES || world.rng.chance(0.3) {
            let masters: Vec<HostIx> =
                live.into_iter().filter(|host| leads(world, *host)).collect();
            if let Some(at) = world.rng.index(masters.len()) {
                let host = masters[at];
                let token = world.read_entry(host, entry);
                self.reads.push(token);
                let life = world.host(host).epoch;
                return Some(Doing { what: Asked::Reading(token), host, life });
            }
        }
        if written >= WRITES {
            return None;
        }
        let expect = match (world.rng.within(0..10), self.heard.get(&entry)) {
            (0..4, Some(revision)) => Expected::Revision(*revision),
            (0..2, None) => Expected::Absent,
            _ => Expected::Anything,
        };
        self.values += 1;
        let value = self.values;
        let wanted = match expect {
            Expected::Anything => Expect::Anything,
            Expected::Absent => Expect::Absent,
            Expected::Revision(revision) => Expect::Revision(revision),
        };
        let token = world.want(host, &name_of(entry), wanted, value)?;
        self.writes.insert(token, Writing { entry, expect, value });
        let life = world.host(host).epoch;
        Some(Doing { what: Asked::Writing(token), host, life })
    }

    /// One of the entries that are in use; a new one takes the place of one that has had enough.
    fn entry(&mut self, world: &mut World) -> usize {
        let open = |count: &usize| *count < History::MAX_OPS;
        while self.asked.iter().filter(|count| open(count)).count() < ENTRIES {
            self.asked.push(0);
        }
        let open: Vec<usize> =
            (0..self.asked.len()).filter(|entry| open(&self.asked[*entry])).collect();
        world.rng.index(open.len()).map_or(0, |at| open[at])
    }

    /// Fails the world where no order of what was asked explains what was answered. Says how much
    /// was.
    pub(crate) fn judge(&self, world: &mut World) -> usize {
        let mut answered = 0;
        for entry in 0..self.asked.len() {
            let history = self.history(world, entry);
            answered += history.answered();
            if let Some(fork) = history.contradiction() {
                let name = name_of(entry);
                let what = format!("no order explains what {name} said in {fork:x}: {history:?}");
                world.fail(Checker::Oracle, what);
            }
        }
        answered
    }

    /// How much was answered so far.
    pub(crate) fn answered(&self, world: &World) -> usize {
        let entries = 0..self.asked.len();
        entries.map(|entry| self.history(world, entry).answered()).sum()
    }

    fn history(&self, world: &World, entry: usize) -> History {
        // What was asked at an instant was asked before what was answered then.
        let mut events: Vec<Told> = Vec::new();
        for (token, writing) in self.writes.iter().filter(|(_, it)| it.entry == entry) {
            let op = Op::Write { expect: writing.expect, value: writing.value };
            let Some(at) = world.wishes.asked_at(*token) else { continue };
            let answer = world.wishes.answer_to(*token);
            if let Some((_, Granted::Refused { again: true, .. })) = answer {
                continue; // It surely did not happen.
            }
            events.push((at, false, *token, op, None));
            if let Some((at, granted)) = answer
                && let (Some(answer), Granted::Decided { stamp, .. }) =
                    (answer_of(granted), granted)
            {
                events.push((*at, true, *token, op, Some((stamp.fork, answer))));
            }
        }
        for token in &self.reads {
            if let Some(reading) = world.reads.get(token).filter(|it| it.entry == entry)
                && let Some((at, fork, answer)) = reading.answer
            {
                events.push((reading.at, false, *token, Op::Read, None));
                events.push((at, true, *token, Op::Read, Some((fork, answer))));
            }
        }
        events.sort_by_key(|(at, answered, token, ..)| (*at, *answered, *token));
        let mut history = History::default();
        let mut numbers = BTreeMap::new();
        for (_, _, token, op, answer) in events {
            match answer {
                None => {
                    numbers.insert(token, history.ask(op));
                }
                Some((fork, answer)) => {
                    if let Some(number) = numbers.get(&token) {
                        history.answer(*number, fork, answer);
                    }
                }
            }
        }
        history
    }
}

/// When, whether it is an answer, to which token, what was asked, and by which fork what was
/// answered.
type Told = (Time, bool, u64, Op, Option<(u64, Answer)>);

fn leads(world: &World, host: HostIx) -> bool {
    let local = world.host(host).local(world.now());
    world.node(host).is_some_and(|node| node.management(local).role == Role::Master)
}

fn name_of(entry: usize) -> String {
    format!("entry-{entry}")
}

fn answer_of(granted: &Granted) -> Option<Answer> {
    let Granted::Decided { index, outcome, .. } = granted else { return None };
    match outcome {
        Outcome::Applied { .. } => Some(Answer::Written(*index)),
        Outcome::Conflict { found, .. } => Some(Answer::Conflict(*found)),
        Outcome::Refused(_) | Outcome::Skipped => None,
    }
}

const fn revision_in(answer: Answer) -> Option<u64> {
    match answer {
        Answer::Written(revision)
        | Answer::Conflict(Some(revision))
        | Answer::Is(Some((revision, _))) => Some(revision),
        Answer::Conflict(None) | Answer::Is(None) | Answer::Unseen => None,
    }
}

impl World {
    /// Asks a node whether what it has applied may be read as the newest.
    fn read_entry(&mut self, host: HostIx, entry: usize) -> u64 {
        let token = READS_FROM + self.reads.len() as u64;
        let reading = Reading { host, entry, at: self.now(), answer: None };
        self.reads.insert(token, reading);
        let token_ = skep_managers::Token(token);
        let input = skep_node::Input::Managers(skep_managers::Input::Read { token: token_ });
        self.input(host, input);
        token
    }

    /// It may: so what does the entry say?
    pub(crate) fn read_granted(&mut self, host: HostIx, token: u64) {
        let local = self.host(host).local(self.now);
        let Some(entry) = self.reads.get(&token).map(|reading| reading.entry) else { return };
        let Some(node) = self.node(host) else { return };
        let Some(fork) = node.management(local).flock.map(|flock| flock.stamp.fork.0) else {
            return;
        };
        let answer = Answer::Is(said(node.catalog().catalog(), &name_of(entry)));
        let at = self.now;
        if let Some(reading) = self.reads.get_mut(&token).filter(|it| it.host == host) {
            reading.answer = Some((at, fork, answer));
        }
    }
}

/// Tokens of reads, which the node's own never reach.
const READS_FROM: u64 = 1 << 60;

fn said(catalog: &Catalog, name: &str) -> Option<(u64, u64)> {
    let key: Key = format!("setting/{name}").parse().ok()?;
    let (version, payload): (_, &Payload) = catalog.live(&key)?;
    Some((version.revision, value_in(payload)?))
}
