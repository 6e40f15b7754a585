//! Desks of several nodes around one set of entries, as a catalog keeps it, and targets that take
//! letters or do not.

use alloc::borrow::ToOwned as _;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Outbox, Rng, Time, WallTime};

use crate::{
    Change, Config, Desk, Event, Incident, Input, Kind, Letter, MAX_CHANGES_BYTES, Notice, Office,
    Output, Post, Scope, Sighting, Ticket, Untaken,
};

/// What was handed to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) at: Time,
    pub(super) target: String,
    pub(super) letter: Letter,
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) desks: BTreeMap<String, Desk>,
    entries: BTreeMap<Incident, (u64, Notice)>,
    revision: u64,
    pub(super) master: Option<String>,
    pub(super) wrong: BTreeSet<(Kind, String)>,
    /// Targets that take nothing now.
    pub(super) away: BTreeSet<String>,
    /// Those of them that say that they never will take what they got.
    pub(super) refusing: BTreeSet<String>,
    pub(super) arrived: Vec<Arrived>,
    pub(super) attempts: Vec<(Time, String)>,
    pub(super) events: Vec<Event>,
    /// What the master does before it dies; nothing where it does not.
    pub(super) dies_after: Option<usize>,
    /// A write of the master that dies then may have happened.
    pub(super) dies_having_written: bool,
    /// How long a target takes to say that it took a letter, and a master what became of a write.
    pub(super) takes: Duration,
    /// Writes that come to nothing from now on, though nothing stands against them.
    pub(super) refuses: usize,
    /// How far each occurrence had come that was ever in an entry.
    pub(super) ever: BTreeMap<(Incident, String), u32>,
    /// Entries that say nothing, with their revisions.
    garbled: BTreeMap<Incident, u64>,
    /// What each of them said.
    pub(super) ever_said: BTreeSet<(Incident, String)>,
    waiting: Vec<(String, Output)>,
    later: BTreeMap<(Time, u64), (String, Input)>,
    answers: u64,
    /// Letters that each desk knows to be taken, by target.
    known: BTreeSet<(String, String, String)>,
    config: Config,
    seed: u64,
}

impl Net {
    pub(super) fn new(nodes: &[&str], config: Config) -> Self {
        let mut net = Self {
            now: Time::from_millis(1_000_000),
            desks: BTreeMap::new(),
            entries: BTreeMap::new(),
            revision: 0,
            master: None,
            wrong: BTreeSet::new(),
            away: BTreeSet::new(),
            refusing: BTreeSet::new(),
            arrived: Vec::new(),
            attempts: Vec::new(),
            events: Vec::new(),
            dies_after: None,
            dies_having_written: false,
            takes: Duration::ZERO,
            refuses: 0,
            ever: BTreeMap::new(),
            garbled: BTreeMap::new(),
            ever_said: BTreeSet::new(),
            waiting: Vec::new(),
            later: BTreeMap::new(),
            answers: 0,
            known: BTreeSet::new(),
            config,
            seed: 7,
        };
        for node in nodes {
            net.start(node);
        }
        net
    }

    pub(super) fn start(&mut self, node: &str) {
        self.seed += 1;
        let config = Config { me: node.into(), ..self.config.clone() };
        config.validate().unwrap();
        let desk = Desk::new(self.now, config, Rng::seeded(self.seed));
        self.desks.insert(node.into(), desk);
        self.tell(node);
    }

    /// Another node is master, or none.
    pub(super) fn elects(&mut self, master: Option<&str>) {
        self.master = master.map(Into::into);
        self.tell_all();
    }

    pub(super) fn kill(&mut self, node: &str) {
        self.desks.remove(node);
        self.waiting.retain(|(of, _)| of != node);
        self.later.retain(|_, (of, _)| of != node);
        self.known.retain(|(of, ..)| of != node);
        if self.master.as_deref() == Some(node) {
            self.master = None;
        }
    }

    /// The targets of all nodes are these now.
    pub(super) fn targets(&mut self, names: &[&str]) {
        let targets: Vec<(String, Vec<Kind>)> =
            names.iter().map(|name| ((*name).into(), Vec::new())).collect();
        self.config.targets.clone_from(&targets);
        let nodes: Vec<String> = self.desks.keys().cloned().collect();
        for node in nodes {
            let targets = targets.clone();
            self.feed(&node, |desk, now, out| desk.handle(now, Input::Targets(targets), out));
        }
    }

    pub(super) fn is_wrong(&mut self, kind: Kind, subject: &str) {
        self.wrong.insert((kind, subject.into()));
        self.tell_all();
    }

    pub(super) fn is_right(&mut self, kind: Kind, subject: &str) {
        self.wrong.remove(&(kind, subject.into()));
        self.tell_all();
    }

    /// Somebody writes an entry that nobody can read.
    pub(super) fn garbles(&mut self, kind: Kind, subject: &str) {
        self.revision += 1;
        self.garbled.insert(Incident::new(kind, subject), self.revision);
        self.tell_all();
    }

    /// Somebody writes an entry, past every desk.
    pub(super) fn forges(&mut self, notice: Notice) {
        self.revision += 1;
        self.entries.insert(notice.incident.clone(), (self.revision, notice));
        self.tell_all();
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.entries.values().map(|(_, notice)| notice.clone()).collect()
    }

    /// Lets time go by, and everything happen that is due in it.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            while let Some((node, output)) = self.waiting.pop() {
                self.carry_out(&node, output);
            }
            let due = self
                .desks
                .iter()
                .filter_map(|(node, desk)| desk.deadline().map(|(at, _)| (at, node.clone())));
            let due = due.min().filter(|(at, _)| *at <= end);
            let answer = self.later.keys().next().copied().filter(|(at, _)| *at <= end);
            if let Some(key) = answer.filter(|key| due.as_ref().is_none_or(|(at, _)| key.0 <= *at))
            {
                self.now = self.now.max(key.0);
                let answered = self.later.remove(&key);
                answered.into_iter().for_each(|(node, input)| self.answer(&node, input));
                continue;
            }
            let Some((at, node)) = due else { break };
            assert!(at >= self.now || self.now <= end, "time goes on");
            self.now = self.now.max(at);
            self.feed(&node, |desk, now, out| desk.tick(now, out));
        }
        self.now = end;
    }

    /// The names of letters that a target got, each once.
    pub(super) fn names(&self, target: &str) -> BTreeSet<String> {
        let of = self.arrived.iter().filter(|it| it.target == target);
        of.map(|it| it.letter.name.clone()).collect()
    }

    pub(super) fn wall(&self) -> WallTime {
        WallTime::from_unix_ms(self.now.as_nanos() / 1_000_000)
    }

    /// In how many letters of different names each step of each incident came to a target.
    pub(super) fn told(&self, target: &str) -> BTreeMap<(String, String, u32), BTreeSet<String>> {
        let mut told: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for arrived in self.arrived.iter().filter(|it| it.target == target) {
            for item in &arrived.letter.items {
                let key = (item.incident.to_string(), item.id.clone(), item.step);
                told.entry(key).or_default().insert(arrived.letter.name.clone());
            }
        }
        told
    }

    pub(super) fn tell_all(&mut self) {
        let nodes: Vec<String> = self.desks.keys().cloned().collect();
        for node in nodes {
            self.tell(&node);
        }
    }

    fn tell(&mut self, node: &str) {
        let office = match &self.master {
            Some(master) if master == node => Office::Master,
            Some(_) => Office::Served,
            None => Office::Alone,
        };
        let own = |kind: Kind| kind.scope() != Scope::Flock;
        let sees = |(kind, subject): &&(Kind, String)| !own(*kind) || subject == node;
        let sighting = |(kind, subject): &(Kind, String)| {
            Sighting::new(*kind, subject, &format!("{subject} is wrong"), "do something")
        };
        let sightings: Vec<Sighting> = self.wrong.iter().filter(sees).map(sighting).collect();
        let wall = self.wall();
        self.feed(node, |desk, now, out| desk.handle(now, Input::Office(office), out));
        self.feed(node, |desk, now, out| {
            desk.handle(now, Input::Sees { wall, sightings }, out);
        });
        self.show(node);
    }

    fn show(&mut self, node: &str) {
        let notices: Vec<(u64, Notice)> = self.entries.values().cloned().collect();
        let unreadable = self.garbled.iter().map(|(it, revision)| (*revision, it.clone()));
        let entries = Input::Entries { notices, unreadable: unreadable.collect() };
        self.feed(node, |desk, now, out| desk.handle(now, entries, out));
    }

    fn feed(&mut self, node: &str, what: impl FnOnce(&mut Desk, Time, &mut Outbox<Output>)) {
        let Some(desk) = self.desks.get_mut(node) else { return };
        let mut out = Outbox::new();
        what(desk, self.now, &mut out);
        desk.check();
        let outputs: Vec<Output> = out.drain().collect();
        for output in outputs {
            self.waiting.insert(0, (node.into(), output));
        }
    }

    fn carry_out(&mut self, node: &str, output: Output) {
        let is_master = self.master.as_deref() == Some(node);
        if is_master && !matches!(output, Output::Event(_)) {
            match &mut self.dies_after {
                Some(0) => {
                    self.dies_after = None;
                    match output {
                        Output::Write { changes, .. } if self.dies_having_written => {
                            self.write(&changes);
                        }
                        Output::Post(Post { target, letter }) if self.dies_having_written => {
                            self.arrived.push(Arrived { at: self.now, target, letter });
                        }
                        Output::Write { .. } | Output::Post(_) | Output::Event(_) => {}
                    }
                    self.kill(node);
                    return;
                }
                Some(more) => *more -= 1,
                None => {}
            }
        }
        match output {
            Output::Write { ticket, changes } => self.wrote(node, ticket, &changes),
            Output::Post(Post { target, letter }) => {
                self.attempts.push((self.now, target.clone()));
                let name = letter.name.clone();
                let known = (node.to_owned(), target.clone(), name.clone());
                assert!(!self.known.contains(&known), "{known:?} was taken, and is sent again");
                let outcome = if self.away.contains(&target) {
                    let for_good = self.refusing.contains(&target);
                    Err(Untaken { why: "nobody listens there".to_owned(), for_good })
                } else {
                    self.arrived.push(Arrived { at: self.now, target: target.clone(), letter });
                    Ok(())
                };
                self.answer_later(node, Input::Posted { target, letter: name, outcome });
            }
            Output::Event(event) => self.events.push(event),
        }
    }

    fn wrote(&mut self, node: &str, ticket: Ticket, changes: &[Change]) {
        let refused = self.refuses > 0;
        self.refuses = self.refuses.saturating_sub(1);
        let happened = self.master.is_some() && !refused && self.write(changes);
        self.answer_later(node, Input::Wrote { ticket, happened });
        let nodes: Vec<String> = self.desks.keys().cloned().collect();
        for node in nodes {
            self.show(&node);
        }
    }

    fn answer_later(&mut self, node: &str, input: Input) {
        if self.takes.is_zero() {
            return self.answer(node, input);
        }
        self.answers += 1;
        self.later.insert((self.now + self.takes, self.answers), (node.into(), input));
    }

    fn answer(&mut self, node: &str, input: Input) {
        if let Input::Posted { target, letter, outcome: Ok(()) } = &input {
            self.known.insert((node.into(), target.clone(), letter.clone()));
        }
        self.feed(node, |desk, now, out| desk.handle(now, input, out));
    }

    /// As a catalog does: all of it, if every entry is as was expected.
    fn write(&mut self, changes: &[Change]) -> bool {
        assert!(changes.len() <= 16, "it fits into a command");
        let weight = changes.iter().filter_map(|it| it.notice.as_ref()).map(Notice::weight);
        assert!(weight.sum::<usize>() <= MAX_CHANGES_BYTES, "its bytes as well");
        let holds = |change: &Change| {
            let known = self.entries.get(&change.incident).map(|(revision, _)| *revision);
            known.or_else(|| self.garbled.get(&change.incident).copied()) == change.expect
        };
        if !changes.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        for change in changes {
            self.garbled.remove(&change.incident);
            match &change.notice {
                Some(notice) => {
                    let occurrence = (notice.incident.clone(), notice.id.clone());
                    self.ever.insert(occurrence, notice.step);
                    self.ever_said.insert((notice.incident.clone(), notice.what.clone()));
                    let entry = (self.revision, notice.clone());
                    self.entries.insert(change.incident.clone(), entry);
                }
                None => drop(self.entries.remove(&change.incident)),
            }
        }
        true
    }
}
