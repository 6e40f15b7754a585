//! Updates for the operator's commands (FLOOD-34, FLOOD-41): the thin shell around
//! [`skep_export::Export`], one for each group that has a command.
//!
//! An export is a durable subscriber like any other, with a cursor of its own name. What the cursor
//! hands over goes to the machine; what the machine wants run, [`skep_runner`] runs; what it wants
//! committed, the cursor commits. Groups without a command have their updates counted, and no
//! cursor: what came while there was no command is not exported when there is one.

mod commands;
mod layout;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_base::{GroupName, NodeName, Outbox, Rng, Time, Trail};
use skep_client_port::{Caller, Provenance as _};
use skep_control::api::{EventKind, Metric, MetricKind};
use skep_export::{Came, Config, Handed, Input, Looped, Mark, Outcome, Output, RunId};
use skep_flood::{Delivered, DeliveredBody, Input as FloodInput, LogEntry, Missed, Position};
use skep_node::Input as NodeInput;
use skep_runner::{Job, Limits, Output as Kept, Program, RunError, Runner};
use skep_store::state::SavedCursor;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::high::{self, Command, ExportFormat};
use crate::disk::BodyReader;
use crate::spine::{Request, Spine};

pub use commands::Commands;
pub use layout::{Entry, EntryBody, lay_out};

/// What stands behind the group in the name of an export's cursor. No subscriber can have it.
const CURSOR: &str = "/@export";
/// How long a command that took too long may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);

/// The exports of this node.
#[derive(Default)]
pub struct Exports {
    by_cursor: BTreeMap<Arc<str>, Exporter>,
    /// Updates of groups without a command (FLOOD-34).
    dropped: BTreeMap<GroupName, u64>,
    /// Publishes that came through export commands: flooded, and refused (FLOOD-42).
    reflooded: (u64, u64),
    commands: Option<Commands>,
}

/// What exports need of the agent.
pub struct Parts {
    /// Runs the commands, and knows them again.
    pub commands: Commands,
    /// Where long bodies are read.
    pub bodies: BodyReader,
    /// Where ends of runs are told.
    pub requests: mpsc::Sender<Request>,
    /// This node's name.
    pub node: NodeName,
    /// The agent's API, for commands that speak to it.
    pub socket: String,
    /// Chance.
    pub rng: Rng,
}

/// The export of one group.
struct Exporter {
    group: GroupName,
    settings: high::Export,
    /// Made when it is known where its cursor stands.
    machine: Option<skep_export::Export<Entry>>,
    rng: Rng,
    commands: Commands,
    bodies: BodyReader,
    requests: mpsc::Sender<Request>,
    node: NodeName,
    socket: String,
    /// The run, which ends with this.
    running: Option<AbortOnDropHandle<()>>,
    /// Updates in the batch that runs, and delivered so far; without gaps that were told.
    updates: (u64, u64),
    /// Gaps that were told, or could not be.
    gaps: u64,
    trouble: Option<Trouble>,
}

/// A batch that fails.
struct Trouble {
    since: Time,
    what: String,
}

/// The end of a run.
#[derive(Debug)]
pub struct Exported {
    cursor: Arc<str>,
    run: RunId,
    /// Nothing where the command has the batch; else what happened.
    failed: Option<String>,
    /// Long updates of the batch that were gone from the log.
    lost: u64,
}

impl Exports {
    /// Those of `groups` that have a command.
    #[must_use]
    pub fn new(groups: &BTreeMap<GroupName, high::Group>, mut parts: Parts) -> Self {
        let mut exports = Self { commands: Some(parts.commands.clone()), ..Self::default() };
        for (group, settings) in groups {
            let Some(settings) = &settings.export else {
                if *group != GroupName::all() {
                    exports.dropped.insert(group.clone(), 0);
                }
                continue;
            };
            let exporter = Exporter {
                group: group.clone(),
                settings: settings.clone(),
                machine: None,
                rng: parts.rng.fork(),
                commands: parts.commands.clone(),
                bodies: parts.bodies.clone(),
                requests: parts.requests.clone(),
                node: parts.node.clone(),
                socket: parts.socket.clone(),
                running: None,
                updates: (0, 0),
                gaps: 0,
                trouble: None,
            };
            exports.by_cursor.insert(cursor_name(group), exporter);
        }
        exports
    }

    /// Whether no group has a command.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_cursor.is_empty()
    }

    /// When one of them has work.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.by_cursor.values().filter_map(Exporter::deadline).min()
    }

    /// Whether a cursor is an export's.
    #[must_use]
    pub fn own(&self, cursor: &str) -> bool {
        self.by_cursor.contains_key(cursor)
    }

    /// Counts what is dropped from export for lack of a command.
    pub fn count(&mut self, entries: &[LogEntry]) {
        for entry in entries {
            if let Some(head) = entry.head.update()
                && let Some(dropped) = self.dropped.get_mut(&head.group)
            {
                *dropped += 1;
            }
        }
    }

    /// What does not go as it should: the group, since when, and what.
    pub fn troubles(&self) -> impl Iterator<Item = (&GroupName, Time, String)> {
        self.by_cursor.values().filter_map(|exporter| {
            let trouble = exporter.trouble.as_ref()?;
            let failures = exporter.machine.as_ref()?.waiting().failures;
            let what = format!("{}; tried {failures} times", trouble.what);
            Some((&exporter.group, trouble.since, what))
        })
    }

    /// What was counted.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let metric = |name: &str, kind, help: &str, group: &GroupName, value: u64| Metric {
            name: name.into(),
            labels: vec![("group".into(), group.to_string())],
            kind,
            unit: String::new(),
            help: help.into(),
            value,
        };
        for exporter in self.by_cursor.values() {
            let machine = exporter.machine.as_ref();
            let figures = machine.map(skep_export::Export::figures).unwrap_or_default();
            let held = machine.map_or(0, |machine| machine.waiting().held as u64);
            let group = &exporter.group;
            for (name, help, value) in [
                ("export_updates", "updates that the export command has taken", exporter.updates.1),
                ("export_batches", "runs of the export command that ended well", figures.batches),
                ("export_failures", "runs of the export command that failed", figures.failures),
                ("export_lost", "updates dropped from the log before export", figures.lost),
                ("export_gaps", "gaps in what was exported", exporter.gaps),
            ] {
                metrics.push(metric(name, MetricKind::Counter, help, group, value));
            }
            let help = "updates at hand that wait for the export command";
            metrics.push(metric("export_held", MetricKind::Gauge, help, group, held));
        }
        for (name, help, value) in [
            ("reflooded", "updates that export commands published", self.reflooded.0),
            (
                "reflood_loops",
                "those that were refused, as they would come round",
                self.reflooded.1,
            ),
        ] {
            metrics.push(Metric {
                name: name.into(),
                labels: Vec::new(),
                kind: MetricKind::Counter,
                unit: String::new(),
                help: help.into(),
                value,
            });
        }
        for (group, dropped) in &self.dropped {
            let help = "updates not exported as there is no command";
            metrics.push(metric("export_dropped", MetricKind::Counter, help, group, *dropped));
        }
        metrics
    }

    /// The batches that a process of this host seems to belong to: a few looks into `/proc`, and
    /// only while a command runs.
    #[must_use]
    pub fn came_from(&self, pid: Option<i32>) -> Vec<Came> {
        let running = self.commands.as_ref().filter(|commands| commands.any());
        let caller = pid.map(Caller::Process);
        running.zip(caller).map_or_else(Vec::new, |(commands, caller)| commands.of(caller))
    }

    /// Counts a publish that came through an export command, if it did.
    pub fn note_reflood(&mut self, trail: &Trail) {
        self.reflooded.0 += u64::from(!trail.is_empty());
    }

    /// Counts one that was refused, as it would come round.
    pub fn note_loop(&mut self, looped: &Looped) {
        self.reflooded.1 += 1;
        tracing::warn!("refused an update of an export command: {looped}");
    }

    /// Ends what runs: it is run again at the next start.
    pub fn stop(&mut self) {
        self.by_cursor.clear();
    }
}

impl Spine {
    /// Opens the cursors of exports, among those that the disk remembers; gives the others back.
    /// The cursor of a group that has no command any more is forgotten: what it stands at will not
    /// be exported.
    pub async fn open_exports(
        &mut self,
        exports: Exports,
        cursors: Vec<SavedCursor>,
    ) -> Vec<SavedCursor> {
        let (old, others): (Vec<_>, Vec<_>) =
            cursors.into_iter().partition(|cursor| cursor.name.ends_with(CURSOR));
        self.exports = exports;
        for cursor in &old {
            if !self.exports.own(&cursor.name) {
                self.disk.forget_cursor(cursor.name.clone());
            }
        }
        let names: Vec<Arc<str>> = self.exports.by_cursor.keys().cloned().collect();
        for name in names {
            let from = old.iter().find(|cursor| *cursor.name == *name).map(|it| it.position);
            if let Some(from) = from {
                self.export_stands(&name, Position(from));
            }
            self.open_export(&name, from.map(Position));
        }
        self.carry_out().await;
        others
    }

    fn open_export(&mut self, name: &Arc<str>, from: Option<Position>) {
        if let Some(exporter) = self.exports.by_cursor.get(name) {
            let (name, group) = (Arc::clone(name), exporter.group.clone());
            self.take(NodeInput::Flood(FloodInput::CursorOpen {
                name,
                group,
                from,
                durable: true,
            }));
        }
    }

    /// Notes where the cursor of an export stands before anything is handed over; later the machine
    /// knows it best.
    pub fn export_stands(&mut self, name: &Arc<str>, committed: Position) {
        let now = self.clock.now();
        if let Some(exporter) = self.exports.by_cursor.get_mut(name)
            && exporter.machine.as_ref().is_none_or(skep_export::Export::is_new)
        {
            let (config, rng) = (machine(&exporter.settings), exporter.rng.fork());
            let machine = skep_export::Export::new(now, Mark(committed.0), config, rng);
            exporter.machine = Some(machine);
        }
    }

    /// Takes what a cursor of an export hands over.
    pub fn export_handed_over(
        &mut self,
        name: &Arc<str>,
        updates: Vec<Delivered>,
        gaps: Vec<(Position, Missed)>,
        next: Position,
    ) {
        let mut handed: Vec<Handed<Entry>> = updates
            .into_iter()
            .map(|update| {
                let Delivered { position, age, late, trail, body, .. } = update;
                let (end, bytes) = (Mark(position.next().0), body.length());
                let body = match body {
                    DeliveredBody::Here(bytes) => EntryBody::Here(bytes),
                    DeliveredBody::Stored { length } => EntryBody::Stored { position, length },
                };
                let id = self.update_id(update.id);
                let kind = kind(&trail);
                let update = Entry::Update { id, age, late, trail, body };
                Handed { end, bytes, kind, update }
            })
            .collect();
        let missed = gaps.len() as u64;
        let raw = self.exports.by_cursor.get(name).map(|it| it.settings.format);
        if raw != Some(ExportFormat::Raw) {
            handed.extend(gaps.into_iter().map(|(position, missed)| {
                let (after, up_to, why) = self.missed_ids(&missed);
                let update = Entry::Gap { after, up_to, why };
                Handed {
                    end: Mark(position.next().0),
                    bytes: 0,
                    kind: kind(&Trail::none()),
                    update,
                }
            }));
            handed.sort_by_key(|handed| handed.end);
        }
        if let Some(exporter) = self.exports.by_cursor.get_mut(name) {
            exporter.gaps += missed;
        }
        self.export_input(name, Input::HandedOver { updates: handed, next: Mark(next.0) });
    }

    /// Counts what the log dropped before it was exported.
    pub fn export_lost(&mut self, name: &Arc<str>, count: u64) {
        if let Some(exporter) = self.exports.by_cursor.get(name) {
            tracing::warn!(group = %exporter.group, count, "updates were dropped before export");
        }
        self.export_input(name, Input::Lost(count));
    }

    /// Takes the end of a run.
    pub async fn exported(&mut self, exported: Exported) {
        let Exported { cursor, run, failed, lost } = exported;
        let now = self.clock.now();
        let Some(exporter) = self.exports.by_cursor.get_mut(&cursor) else {
            return;
        };
        exporter.running = None;
        let group = exporter.group.clone();
        match &failed {
            Some(what) => {
                tracing::warn!(%group, "export failed: {what}");
                let first = exporter.trouble.is_none();
                let since = exporter.trouble.as_ref().map_or(now, |trouble| trouble.since);
                exporter.trouble = Some(Trouble { since, what: what.clone() });
                if first {
                    let message = format!("the export of group {group} fails: {what}");
                    let hint = "its updates are kept and tried again; see docs/export.md";
                    self.note(EventKind::Problem { message, hint: Some(hint.into()) });
                }
            }
            None => {
                exporter.updates.1 += exporter.updates.0.saturating_sub(lost);
                if exporter.trouble.take().is_some() {
                    tracing::info!(%group, "export works again");
                }
            }
        }
        if lost > 0 && failed.is_none() {
            self.export_lost(&cursor, lost);
        }
        let outcome = if failed.is_some() { Outcome::Failed } else { Outcome::Delivered };
        self.export_input(&cursor, Input::Ended { run, outcome });
        self.carry_out().await;
    }

    /// Does what is due.
    pub async fn tick_exports(&mut self) {
        let now = self.clock.now();
        let due = |exporter: &Exporter| exporter.deadline().is_some_and(|at| at <= now);
        let due: Vec<Arc<str>> = self
            .exports
            .by_cursor
            .iter()
            .filter(|(_, exporter)| due(exporter))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in due {
            let mut out = Outbox::new();
            let exporter = self.exports.by_cursor.get_mut(&name);
            if let Some(machine) = exporter.and_then(|exporter| exporter.machine.as_mut()) {
                machine.tick(now, &mut out);
            }
            self.carry_out_export(&name, &mut out);
        }
        self.carry_out().await;
    }

    fn export_input(&mut self, name: &Arc<str>, input: Input<Entry>) {
        let now = self.clock.now();
        let mut out = Outbox::new();
        let exporter = self.exports.by_cursor.get_mut(name);
        if let Some(machine) = exporter.and_then(|exporter| exporter.machine.as_mut()) {
            machine.handle(now, input, &mut out);
        }
        self.carry_out_export(name, &mut out);
    }

    fn carry_out_export(&mut self, name: &Arc<str>, out: &mut Outbox<Output<Entry>>) {
        while let Some(output) = out.pop() {
            match output {
                Output::Run { run, attempt, updates } => {
                    if let Some(exporter) = self.exports.by_cursor.get_mut(name) {
                        exporter.run(name, run, attempt, updates);
                    }
                }
                Output::Commit { up_to } => {
                    let (name, up_to) = (Arc::clone(name), Position(up_to.0));
                    self.take(NodeInput::Flood(FloodInput::CursorCommit { name, up_to }));
                }
                Output::Again { from } => self.open_export(name, Some(Position(from.0))),
            }
        }
    }
}

impl Exporter {
    fn deadline(&self) -> Option<Time> {
        self.machine.as_ref()?.deadline().map(|(at, _)| at)
    }

    /// Starts the command with a batch.
    fn run(&mut self, cursor: &Arc<str>, run: RunId, attempt: u32, batch: Vec<Entry>) {
        let through = through(&batch);
        self.commands.begins(cursor, &self.group, &through);
        let mut job = self.job(attempt, &batch);
        let trail = through.through(&self.group).to_string();
        job.environment.push(("SKEP_TRAIL".to_owned(), trail));
        job.purpose = Some(Arc::clone(cursor));
        let updates = batch.iter().filter(|entry| matches!(entry, Entry::Update { .. }));
        self.updates.0 = updates.count() as u64;
        let (runner, requests) = (self.commands.runner().clone(), self.requests.clone());
        let (cursor, bodies) = (Arc::clone(cursor), self.bodies.clone());
        let format = self.settings.format;
        let task = tokio::spawn(async move {
            let (batch, lost) = stored::open(batch, &bodies).await;
            job.input = lay_out(format, &batch);
            // In the raw layout nothing is said of what is gone.
            let failed = if job.input.is_empty() { None } else { fails(&runner, job).await };
            let ended = Exported { cursor, run, failed, lost };
            drop(requests.send(Request::Exported(Box::new(ended))).await);
        });
        self.running = Some(AbortOnDropHandle::new(task));
    }

    fn job(&self, attempt: u32, batch: &[Entry]) -> Job {
        let program = match &self.settings.command {
            Command::Shell(text) => Program::Shell(text.clone()),
            Command::Program(words) => Program::Direct(words.clone()),
        };
        let format = match self.settings.format {
            ExportFormat::Raw => "raw",
            ExportFormat::Framed => "framed",
            ExportFormat::JsonLines => "json-lines",
        };
        let updates = batch.iter().filter_map(|entry| match entry {
            Entry::Update { id, .. } => Some(id.to_string()),
            Entry::Gap { .. } => None,
        });
        let mut environment = vec![
            ("SKEP_NODE", self.node.to_string()),
            ("SKEP_GROUP", self.group.to_string()),
            ("SKEP_FORMAT", format.to_owned()),
            ("SKEP_ATTEMPT", attempt.to_string()),
            ("SKEP_UPDATES", updates.clone().count().to_string()),
            ("SKEP_SOCKET", self.socket.clone()),
        ];
        environment.extend(updates.clone().next().map(|id| ("SKEP_FIRST", id)));
        environment.extend(updates.last().map(|id| ("SKEP_LAST", id)));
        let limits = Limits {
            time: self.settings.time_limit,
            grace: GRACE,
            memory_bytes: Some(self.settings.memory_max.0),
            ..Limits::default()
        };
        Job {
            user: self.settings.user.clone(),
            environment: environment
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            // FLOOD-41: whatever it says goes to /dev/null.
            stdout: Kept::Discard,
            stderr: Kept::Discard,
            limits,
            ..Job::new(program)
        }
    }
}

/// Runs a command; says what went wrong.
async fn fails(runner: &Runner, job: Job) -> Option<String> {
    match runner.run(job).await {
        Ok(ended) if ended.succeeded() => None,
        Ok(ended) => Some(format!("the command {} after {:?}", ended.status, ended.took)),
        Err(error) => Some(explain(&error)),
    }
}

/// The export commands that a batch came through: the same for all of its updates, unless two
/// trails have one [`kind`].
fn through(batch: &[Entry]) -> Trail {
    batch.iter().fold(Trail::none(), |all, entry| match entry {
        Entry::Update { trail, .. } => all.and(trail),
        Entry::Gap { .. } => all,
    })
}

/// Updates with one trail may share a batch: what a command makes of a batch has come through all
/// that any of it has.
fn kind(trail: &Trail) -> u64 {
    skep_base::Digest::of(trail.to_string().as_bytes()).short()
}

fn machine(settings: &high::Export) -> Config {
    Config {
        delay: settings.delay,
        batch_updates: settings.batch_updates,
        batch_bytes: settings.batch_bytes,
        retry_first: settings.retry_first,
        retry_last: settings.retry_last,
    }
}

/// An error with its cause.
fn explain(error: &RunError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn cursor_name(group: &GroupName) -> Arc<str> {
    format!("{group}{CURSOR}").into()
}
