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
    Change, Config, Desk, Event, Incident, Input, Kind, Letter, Notice, Office, Output, Post,
    Sighting, Ticket,
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
    pub(super) arrived: Vec<Arrived>,
    pub(super) attempts: Vec<(Time, String)>,
    pub(super) events: Vec<Event>,
    /// What the master does before it dies; nothing where it does not.
    pub(super) dies_after: Option<usize>,
    /// A write of the master that dies then may have happened.
    pub(super) dies_having_written: bool,
    waiting: Vec<(String, Output)>,
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
            arrived: Vec::new(),
            attempts: Vec::new(),
            events: Vec::new(),
            dies_after: None,
            dies_having_written: false,
            waiting: Vec::new(),
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
        if self.master.as_deref() == Some(node) {
            self.master = None;
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
            let Some((at, node)) = due.min().filter(|(at, _)| *at <= end) else { break };
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
        let own = |kind: Kind| matches!(kind, Kind::Certificate | Kind::DiskFailed);
        let sees = |(kind, subject): &&(Kind, String)| !own(*kind) || subject == node;
        let sighting = |(kind, subject): &(Kind, String)| {
            Sighting::new(*kind, subject, &format!("{subject} is wrong"), "do something")
        };
        let sightings: Vec<Sighting> = self.wrong.iter().filter(sees).map(sighting).collect();
        let wall = WallTime::from_unix_ms(self.now.as_nanos() / 1_000_000);
        self.feed(node, |desk, now, out| desk.handle(now, Input::Office(office), out));
        self.feed(node, |desk, now, out| {
            desk.handle(now, Input::Sees { wall, sightings }, out);
        });
        self.show(node);
    }

    fn show(&mut self, node: &str) {
        let entries: Vec<(u64, Notice)> = self.entries.values().cloned().collect();
        self.feed(node, |desk, now, out| desk.handle(now, Input::Entries(entries), out));
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
                let outcome = if self.away.contains(&target) {
                    Err("nobody listens there".to_owned())
                } else {
                    self.arrived.push(Arrived { at: self.now, target: target.clone(), letter });
                    Ok(())
                };
                let posted = Input::Posted { target, letter: name, outcome };
                self.feed(node, |desk, now, out| desk.handle(now, posted, out));
            }
            Output::Event(event) => self.events.push(event),
        }
    }

    fn wrote(&mut self, node: &str, ticket: Ticket, changes: &[Change]) {
        let happened = self.master.is_some() && self.write(changes);
        let wrote = Input::Wrote { ticket, happened };
        self.feed(node, |desk, now, out| desk.handle(now, wrote, out));
        let nodes: Vec<String> = self.desks.keys().cloned().collect();
        for node in nodes {
            self.show(&node);
        }
    }

    /// As a catalog does: all of it, if every entry is as was expected.
    fn write(&mut self, changes: &[Change]) -> bool {
        assert!(changes.len() <= 16, "it fits into a command");
        let holds = |change: &Change| {
            self.entries.get(&change.incident).map(|(revision, _)| *revision) == change.expect
        };
        if !changes.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        for change in changes {
            match &change.notice {
                Some(notice) => {
                    let entry = (self.revision, notice.clone());
                    self.entries.insert(change.incident.clone(), entry);
                }
                None => drop(self.entries.remove(&change.incident)),
            }
        }
        true
    }
}
