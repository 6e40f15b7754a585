//! Incidents: what is wrong with the flock or with this node, noted in the catalog, and told by the
//! master (DVM-10, DVM-13, DVM-14, BLOC-19). The thin shell around [`skep_notices::Desk`].
//!
//! The desk is shown what is wrong ([`sightings`]), the entries of the catalog ([`entry`]) and
//! whether this node is master. What it wants written goes to the master as any write does; the
//! letters that it wants sent are made in [`letters`] and handed over in tasks of their own
//! ([`send`]), so that a mail server that hangs holds nothing up. Whom it tells stands in the
//! catalog and in the configuration ([`targets`]).

mod entry;
mod letters;
mod send;
mod shown;
mod sightings;
pub(crate) mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skep_base::{NodeId, NodeName, Outbox, Rng, Time};
use skep_catalog::{Command, Expect, Fields, Key, Kind, Wish, Write};
use skep_control::api::{EventKind, NotifyTested, Problem, TestNotify};
use skep_control::{Reply, api};
use skep_notices::{Change, Desk, Event, FlockSeen, Input, Office, Output, Seen, Ticket, Untaken};
use skep_runner::Runner;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use crate::catalog::Waiting;
use crate::config::telling::{self, Target};
use crate::spine::{Request, Spine};
use crate::status::millis;
use entry::Entry;
use letters::Parcel;
use send::Failure;
pub(crate) use shown::metrics;
use targets::Merged;

/// How often it is looked at what is wrong where nothing seems to have happened: certificates age,
/// and a follower hears of much by records only.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether the files are there that targets need,
const FILES_EVERY: Duration = Duration::from_secs(60);
/// and how often where one was not.
const FILES_AGAIN: Duration = Duration::from_secs(5);
/// A test letter gets no longer than this: somebody waits.
const TEST_PATIENCE: Duration = Duration::from_secs(20);

/// The desk and all around it.
pub(crate) struct Notify {
    desk: Desk,
    /// The targets of the configuration.
    own: telling::Notify,
    /// All targets, those of the catalog among them.
    merged: Merged,
    /// Those that this node could not serve, for want of a file, since when, and why.
    lacking: BTreeMap<String, (Time, String)>,
    /// When it is looked for the files next.
    files: Time,
    /// That is being looked for.
    looking: Option<AbortOnDropHandle<()>>,
    /// The entries of targets are to be read again.
    targets_changed: bool,
    runner: Runner,
    bloc: String,
    me: NodeName,
    /// When it is looked next.
    look: Time,
    /// Nodes that were managers when they were last there, and what they were.
    managers: BTreeMap<NodeId, &'static str>,
    /// Names of those nodes and of the roster's, also when membership has forgotten them.
    names: BTreeMap<NodeId, String>,
    /// Entries of the conflict log, by the history that they come from.
    conflicts: BTreeMap<String, usize>,
    /// The entries are to be shown to the desk again.
    entries_changed: bool,
    /// Writes that the master has answered.
    wrote: Vec<(Ticket, bool)>,
    /// Letters that are being handed over; they end with this.
    posting: BTreeMap<String, AbortOnDropHandle<()>>,
    /// Tests that somebody waits for; they end with this.
    testing: JoinSet<()>,
}

impl Notify {
    pub(crate) fn new(
        now: Time,
        config: &telling::Notify,
        (bloc, me): (&str, &NodeName),
        runner: Runner,
        rng: Rng,
    ) -> Self {
        let desk = skep_notices::Config { me: me.as_str().to_owned(), ..config.desk.clone() };
        Self {
            desk: Desk::new(now, desk, rng),
            own: config.clone(),
            merged: targets::merge(config, std::iter::empty()),
            lacking: BTreeMap::new(),
            files: now,
            looking: None,
            targets_changed: true,
            runner,
            bloc: bloc.to_owned(),
            me: me.clone(),
            look: now,
            managers: BTreeMap::new(),
            names: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            entries_changed: true,
            wrote: Vec::new(),
            posting: BTreeMap::new(),
            testing: JoinSet::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Time {
        self.desk.deadline().map_or(self.look, |(at, _)| at.min(self.look))
    }

    /// Ends what is being handed over: whoever is master next hands it over again.
    pub(crate) fn stop(&mut self) {
        self.posting.clear();
        self.looking = None;
    }

    fn target(&self, name: &str) -> Option<&Target> {
        self.merged.targets.get(name).map(|known| &known.target)
    }

    /// Targets that take nothing.
    pub(crate) fn problems(&self, now: Time) -> Vec<Problem> {
        let failing = self.desk.targets().filter_map(|(name, figures)| {
            let (since, why) = figures.failing.as_ref()?;
            Some(Problem {
                message: format!("target {name} takes no letters about incidents: {why}"),
                hint: Some("`skep notify test` tries it and says more".to_owned()),
                since_ms: millis(now.since(*since)),
            })
        });
        let lacking = self.lacking.iter().map(|(name, (since, why))| Problem {
            message: format!("target {name} cannot be told by this node: {why}"),
            hint: Some(LACKING.to_owned()),
            since_ms: millis(now.since(*since)),
        });
        let unusable = self.merged.unusable.iter().map(|(name, why)| Problem {
            message: format!("target/{name} of the catalog is told nothing by this node: {why}"),
            hint: Some("`skep notify ls` lists the targets, `skep notify rm` removes one".into()),
            since_ms: 0,
        });
        failing.chain(lacking).chain(unusable).collect()
    }
}

/// What to do where a file is not there.
const LACKING: &str = "put it there, mode 600: while this node is the master, what is due to the \
                       target waits until it can be told, or until another node is the master";

impl Notify {
    /// Has it looked, where that may take its time, whether files are there that targets need.
    fn look_for_files(&mut self, requests: &mpsc::Sender<Request>) {
        let all: Vec<(String, Target)> = self
            .merged
            .targets
            .iter()
            .map(|(name, known)| (name.clone(), known.target.clone()))
            .collect();
        let requests = requests.clone();
        let task = tokio::spawn(async move {
            let look = move || {
                let lack = |(name, target): (String, Target)| {
                    let why = targets::check_files(&target).err()?;
                    Some((name, why.in_full()))
                };
                all.into_iter().filter_map(lack).collect()
            };
            let Ok(lacking) = tokio::task::spawn_blocking(look).await else { return };
            if requests.send(Request::Lacks(lacking)).await.is_err() {
                tracing::trace!("the agent has ended");
            }
        });
        self.looking = Some(AbortOnDropHandle::new(task));
    }
}

impl Spine {
    /// Something may be otherwise: it is looked at before the loop sleeps.
    pub(crate) fn look_soon(&mut self) {
        if let Some(notify) = &mut self.notify {
            notify.look = self.clock.now();
        }
    }

    /// When something is to be told, or looked at.
    pub(crate) fn telling_deadline(&self) -> Option<Time> {
        let hooks = self.hooks.as_ref().and_then(crate::hooks::Hooks::deadline);
        let notify = self.notify.as_ref().map(Notify::deadline);
        let history = self.history.teller.deadline().map(|(at, _)| at);
        hooks.into_iter().chain(notify).chain(history).min()
    }

    /// Ends hooks that run, and letters that are being handed over.
    pub(crate) fn stop_telling(&mut self) {
        if let Some(hooks) = &mut self.hooks {
            hooks.stop();
        }
        if let Some(notify) = &mut self.notify {
            notify.stop();
        }
    }

    /// The master has answered a write of the desk.
    pub(crate) fn notices_wrote(&mut self, ticket: Ticket, happened: bool) {
        if let Some(notify) = &mut self.notify {
            notify.wrote.push((ticket, happened));
        }
        self.look_soon();
    }

    /// Entries of the catalog that the desk or its sightings go by say something else.
    pub(crate) fn notices_changed(&mut self) {
        if let Some(notify) = &mut self.notify {
            notify.entries_changed = true;
        }
        self.look_soon();
    }

    /// Looks at the flock and at this node, and does what follows.
    pub(crate) async fn tick_notify(&mut self) {
        let now = self.clock.now();
        let Some(mut notify) = self.notify.take() else { return };
        let mut out = Outbox::new();
        for (ticket, happened) in std::mem::take(&mut notify.wrote) {
            notify.desk.handle(now, Input::Wrote { ticket, happened }, &mut out);
        }
        if std::mem::take(&mut notify.entries_changed) {
            let (entries, conflicts) = self.entries();
            notify.conflicts = conflicts;
            notify.desk.handle(now, entries, &mut out);
        }
        if std::mem::take(&mut notify.targets_changed) {
            notify.merged = targets::merge(&notify.own, self.target_entries());
            let kinds =
                |(name, known): (&String, &targets::Known)| (name.clone(), known.kinds.clone());
            let all = notify.merged.targets.iter().map(kinds).collect();
            notify.desk.handle(now, Input::Targets(all), &mut out);
            notify.files = now;
        }
        let hooks = self.hooks.as_ref().and_then(crate::hooks::Hooks::deadline);
        let tells = self.history.teller.deadline().map(|(at, _)| at);
        if now >= notify.look || hooks.into_iter().chain(tells).any(|at| at <= now) {
            notify.look = now + LOOK_EVERY;
            let view = self.node.management(now);
            let master = view.flock.as_ref().and_then(|flock| flock.master);
            let master = master.filter(|node| self.node.present().contains(node));
            let office = match (view.role == skep_managers::Role::Master, master) {
                (true, _) => Office::Master,
                (false, Some(_)) => Office::Served,
                (false, None) => Office::Alone,
            };
            notify.desk.handle(now, Input::Office(office), &mut out);
            let sightings = self.sightings(&mut notify, &view, office);
            let wall = self.clock.wall();
            notify.desk.handle(now, Input::Sees { wall, sightings }, &mut out);
            if now >= notify.files && view.role != skep_managers::Role::Host {
                notify.files = now + FILES_EVERY;
                notify.look_for_files(&self.requests);
            }
            let seen = self.seen(&view, master);
            self.watch_flock(seen);
            self.tell_history(&view);
        }
        notify.desk.tick(now, &mut out);
        self.notify = Some(notify);
        self.do_notify(out).await;
    }

    /// Targets of the catalog may be others.
    pub(crate) fn targets_changed(&mut self) {
        if let Some(notify) = &mut self.notify {
            notify.targets_changed = true;
        }
        self.look_soon();
    }

    fn target_entries(&self) -> impl Iterator<Item = (&Key, Option<Fields>)> {
        let entries = self.node.catalog().catalog().entries().into_iter();
        let targets = entries.filter(|(key, ..)| key.kind() == Kind::TARGET);
        targets.map(|(key, _, payload)| (key, payload.read(Kind::TARGET)))
    }

    /// Whether one target more may be written into the catalog.
    pub(crate) fn may_add_target(&self, key: &Key) -> Result<(), api::Refusal> {
        let others = self.target_entries().filter(|(other, _)| *other != key).count();
        if others < skep_catalog::MAX_CATALOG_TARGETS {
            return Ok(());
        }
        let message = format!("{key}: the catalog has {others} targets, as many as a node uses");
        let hint = "`skep notify rm` removes one; a mailing list is one target";
        Err(api::Refusal::new(api::Code::Refused, message).hint(hint))
    }

    /// Which targets this node could not serve, now that it was looked.
    pub(crate) fn lacks(&mut self, mut lacking: BTreeMap<String, String>) {
        let now = self.clock.now();
        let Some(notify) = &mut self.notify else { return };
        notify.looking = None;
        if !lacking.is_empty() {
            notify.files = now + FILES_AGAIN;
        }
        let before = std::mem::take(&mut notify.lacking);
        for (name, (since, _)) in before {
            if let Some(why) = lacking.remove(&name) {
                notify.lacking.insert(name, (since, why));
            }
        }
        let new: Vec<(String, String)> = lacking.into_iter().collect();
        let kept = new.iter().cloned().map(|(name, why)| (name, (now, why)));
        notify.lacking.extend(kept);
        for (name, why) in new {
            let message = format!("target {name} cannot be told by this node: {why}");
            tracing::warn!("{message}");
            self.note(EventKind::Problem { message, hint: Some(LACKING.to_owned()) });
        }
    }

    async fn do_notify(&mut self, mut out: Outbox<Output>) {
        while let Some(output) = out.pop() {
            match output {
                Output::Write { ticket, changes } => self.write_notices(ticket, changes).await,
                Output::Post(post) => self.hand_over(post),
                Output::Event(event) => self.notify_event(event),
            }
        }
    }

    /// The flock as a watch wants it.
    fn seen(&self, view: &skep_managers::View, master: Option<NodeId>) -> Seen {
        use skep_node::Status as Is;
        // Who has not said its name yet is nobody: it would seem to go when it does.
        let name = |node: NodeId| self.node.member_view(node)?.name.cloned();
        let flock = view.flock.as_ref().map(|flock| FlockSeen {
            name: flock.name.clone(),
            lineage: flock.lineage.0,
            parent: flock.parent.map(|(lineage, _)| lineage.0),
            generation: flock.generation.0,
            master: master.and_then(name),
        });
        let present: BTreeSet<NodeName> =
            self.node.present().iter().filter_map(|node| name(*node)).collect();
        let gone =
            self.node.members().filter(|member| matches!(member.status, Is::Left | Is::Restarting));
        let gone = gone.filter_map(|member| member.name.cloned()).collect();
        Seen { flock, role: sightings::role_word(view.role), present, gone }
    }

    /// The entries of incidents, as this node's copy of the catalog has them, and what is in its
    /// conflict log.
    fn entries(&self) -> (Input, BTreeMap<String, usize>) {
        let (mut notices, mut unreadable) = (Vec::new(), Vec::new());
        let mut conflicts = BTreeMap::new();
        for (key, version, payload) in self.node.catalog().catalog().entries() {
            match key.kind() {
                Kind::NOTICE => match entry::read(key, payload) {
                    Some(Entry::Says(notice)) => notices.push((version.revision, notice)),
                    Some(Entry::Unreadable(it)) => unreadable.push((version.revision, it)),
                    None => {}
                },
                Kind::CONFLICT => {
                    let history = key.name().split('-').next().unwrap_or_default();
                    *conflicts.entry(history.to_owned()).or_default() += 1;
                }
                _ => {}
            }
        }
        (Input::Entries { notices, unreadable }, conflicts)
    }

    async fn write_notices(&mut self, ticket: Ticket, changes: Vec<Change>) {
        let mut writes = Vec::new();
        for Change { incident, expect, notice } in changes {
            let Some(key) = entry::key(&incident) else { continue };
            let expect = expect.map_or(Expect::Absent, Expect::Revision);
            let put = notice.as_ref().map(entry::payload);
            writes.push(Write { key, expect, put });
        }
        let who = self
            .notify
            .as_ref()
            .map_or_else(String::new, |notify| format!("the agent at {}", notify.me));
        let command = Command { who, when: self.clock.wall(), writes };
        match command.to_bytes() {
            Ok(bytes) => self.wish_for(Wish::Propose(bytes), Waiting::Notice(ticket)).await,
            Err(error) => {
                tracing::error!(%error, "incidents could not be noted");
                self.notices_wrote(ticket, false);
            }
        }
    }

    fn hand_over(&mut self, post: skep_notices::Post) {
        let requests = self.requests.clone();
        let Some(notify) = &mut self.notify else { return };
        let skep_notices::Post { target, letter } = post;
        let Some(way) = notify.target(&target).cloned() else { return };
        let parcel = Parcel::of(&letter, &notify.bloc, notify.me.as_str());
        let (runner, name) = (notify.runner.clone(), target.clone());
        let delivery = async move { send::deliver(&way, &runner, &parcel).await };
        let task = tokio::spawn(async move {
            // One that breaks off has failed as any other, and is tried again.
            let outcome = AbortOnDropHandle::new(tokio::spawn(delivery)).await;
            let broke_off = |error: JoinError| Err(Failure::new(error.to_string(), ""));
            let outcome = outcome.unwrap_or_else(broke_off);
            let outcome = outcome
                .map(|said| tracing::info!(%target, letter = %letter.name, "{said}"))
                .map_err(|Failure { why, for_good, .. }| Untaken { why, for_good });
            let posted = Request::Posted { target, letter: letter.name, outcome };
            if requests.send(posted).await.is_err() {
                tracing::trace!("the agent has ended");
            }
        });
        notify.posting.insert(name, AbortOnDropHandle::new(task));
    }

    /// A letter was handed over, or could not be.
    pub(crate) async fn posted(
        &mut self,
        target: String,
        letter: String,
        outcome: Result<(), Untaken>,
    ) {
        let now = self.clock.now();
        let Some(notify) = &mut self.notify else { return };
        notify.posting.remove(&target);
        let mut out = Outbox::new();
        notify.desk.handle(now, Input::Posted { target, letter, outcome }, &mut out);
        self.do_notify(out).await;
    }

    fn notify_event(&mut self, event: Event) {
        match event {
            Event::Told { target, letter } => {
                tracing::info!(%target, %letter, "told of incidents");
                self.note(EventKind::Notified { target, letter });
            }
            Event::Failing { target, why } => {
                let message = format!("target {target} takes no letters about incidents: {why}");
                tracing::warn!("{message}");
                let hint = "it is tried again and again; `skep notify test` says more".to_owned();
                self.note(EventKind::Problem { message, hint: Some(hint) });
            }
            Event::GivenUp { target, letter, why } => {
                let message = format!(
                    "target {target} refused {letter} for a day, and gets it no more: {why}"
                );
                tracing::warn!("{message}");
                let hint = "what was in it is in `skep notify ls`; later letters go out".to_owned();
                self.note(EventKind::Problem { message, hint: Some(hint) });
            }
            Event::Dropped { incident } => {
                let message = format!("incident {incident} is not noted: there are too many");
                tracing::warn!("{message}");
                let hint = Some("see `skep notify ls`".to_owned());
                self.note(EventKind::Problem { message, hint });
            }
        }
    }

    /// Tries all targets, or one; answers when each has answered.
    pub(crate) fn test_notify(&mut self, test: TestNotify, reply: Reply<Vec<NotifyTested>>) {
        let Some(notify) = &mut self.notify else { return };
        let wanted = |name: &String| test.target.as_ref().is_none_or(|only| only == name);
        let all = notify.merged.targets.iter().filter(|(name, _)| wanted(name));
        let targets: Vec<(String, Target)> =
            all.map(|(name, known)| (name.clone(), known.target.clone())).collect();
        if targets.is_empty() {
            let message = match &test.target {
                Some(name) => format!("this node has no target named {name}"),
                None => "this node has no target to notify".to_owned(),
            };
            let hint = "`skep notify ls` lists them, `skep notify add` adds one for the flock";
            let refusal = api::Refusal::new(api::Code::NotFound, message);
            return reply.refuse(refusal.hint(hint));
        }
        let parcel = Parcel::test(&notify.bloc, notify.me.as_str(), self.clock.wall());
        let runner = notify.runner.clone();
        while notify.testing.try_join_next().is_some() {}
        notify.testing.spawn(async move {
            let tries = targets.into_iter().map(|(name, target)| {
                let (runner, parcel) = (runner.clone(), parcel.clone());
                let test = async move { try_target(name, &target, &runner, &parcel).await };
                AbortOnDropHandle::new(tokio::spawn(test))
            });
            let tries: Vec<_> = tries.collect();
            let mut tested = Vec::new();
            for one in tries {
                match one.await {
                    Ok(one) => tested.push(one),
                    Err(error) => tracing::error!(%error, "a test broke off"),
                }
            }
            reply.ok(tested);
        });
    }
}

async fn try_target(
    name: String,
    target: &Target,
    runner: &Runner,
    parcel: &Parcel,
) -> NotifyTested {
    let began = std::time::Instant::now();
    let outcome = tokio::time::timeout(TEST_PATIENCE, send::deliver(target, runner, parcel)).await;
    let outcome = outcome.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", TEST_PATIENCE.as_secs());
        let hint = "it may answer later: a letter about an incident is waited for longer";
        Err(Failure::new(why, hint))
    });
    let (taken, said, hint) = match outcome {
        Ok(said) => (true, said, None),
        Err(Failure { why, hint, .. }) => (false, why, Some(hint.to_owned())),
    };
    let took_ms = millis(began.elapsed());
    let (way, place) = (target.way().to_owned(), target.place());
    NotifyTested { target: name, way, place, taken, said, hint, took_ms }
}
