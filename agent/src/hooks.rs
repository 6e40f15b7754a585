//! What happens to the flock, for events and for the operator's hooks (BLOC-10, BLOC-21): the thin
//! shell around [`skep_notices::Watch`] and [`skep_notices::Line`].
//!
//! A hook is told once of what happened together, in the order in which it happened, and never runs
//! twice at once. What happens while it runs waits, the newest of each sort standing for those
//! before it. How it ended is an event; it is not run again for the same, for an application that
//! missed something asks `skep flock` how it is now.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeName, Outbox, Time};
use skep_control::api::{EventKind, FlockChange};
use skep_notices::{Happened, Line, Seen, Watch, WatchConfig, What};
use skep_runner::{Job, Limits, Output, Program, RunError, Runner};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::high::Command;
use crate::config::telling::{self, Run};
use crate::spine::{Request, Spine};
use crate::status::count;

/// As much of what a hook says on its standard error is told.
const STDERR_BYTES: usize = 512;

/// The flock as it is watched, and the hooks.
pub struct Hooks {
    pub(crate) watch: Watch,
    by_name: BTreeMap<String, Live>,
    parts: Parts,
}

/// What runs need of the agent.
#[derive(Clone)]
pub struct Parts {
    /// Runs the commands.
    pub runner: Runner,
    /// Where ends of runs are told.
    pub requests: mpsc::Sender<Request>,
    /// This node's name.
    pub node: NodeName,
    /// The agent's API, for commands that speak to it.
    pub socket: String,
}

struct Live {
    hook: telling::Hook,
    line: Line<What, (EventKind, FlockChange)>,
    /// The run, which ends with this.
    running: Option<AbortOnDropHandle<()>>,
}

impl Hooks {
    /// Those of the configuration, none of which has run yet.
    #[must_use]
    pub fn new(config: &telling::Hooks, parts: Parts) -> Self {
        let live = |hook: &telling::Hook| Live {
            hook: hook.clone(),
            line: Line::default(),
            running: None,
        };
        let watch = WatchConfig { stable_after: config.stable_after, ..WatchConfig::default() };
        let hooks = config.by_name.iter();
        Self {
            watch: Watch::new(watch),
            by_name: hooks.map(|(name, hook)| (name.clone(), live(hook))).collect(),
            parts,
        }
    }

    /// When there is something to tell.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.watch.deadline().map(|(at, _)| at)
    }

    /// Ends what runs.
    pub fn stop(&mut self) {
        self.by_name.clear();
    }

    fn push(&mut self, what: What, event: &EventKind, change: &FlockChange) {
        for (name, live) in &mut self.by_name {
            if live.hook.on.contains(&what) {
                live.line.push(what, (event.clone(), change.clone()));
                run_next(name, live, &self.parts);
            }
        }
    }

    /// A hook has ended: the next event that waits for it is its turn.
    pub(crate) fn ended(&mut self, hook: &str) {
        if let Some(live) = self.by_name.get_mut(hook) {
            live.line.ended();
            run_next(hook, live, &self.parts);
        }
    }
}

fn run_next(name: &str, live: &mut Live, parts: &Parts) {
    let Some(run) = live.line.next_run() else { return };
    let (event, change) = run.event;
    let word = word(&event);
    let mut json = serde_json::to_value(&event).unwrap_or_default();
    let more = [("node", parts.node.as_str().into()), ("hook", name.into())];
    let counts = [("folded", run.folded.into()), ("dropped", run.dropped.into())];
    for (key, value) in more.into_iter().chain(counts) {
        json[key] = value;
    }
    let text = |value: &Option<NodeName>| value.as_ref().map_or("", NodeName::as_str).to_owned();
    let nodes: Vec<&str> = change.nodes.iter().map(NodeName::as_str).collect();
    let variables = vec![
        ("SKEP_EVENT", word.to_owned()),
        ("SKEP_HOOK", name.to_owned()),
        ("SKEP_NODE", parts.node.as_str().to_owned()),
        ("SKEP_FLOCK", change.flock.clone().unwrap_or_default()),
        ("SKEP_GENERATION", change.generation.to_string()),
        ("SKEP_MASTER", text(&change.master)),
        ("SKEP_ROLE", change.role.clone()),
        ("SKEP_PRESENT", change.present.to_string()),
        ("SKEP_NODES", nodes.join(" ")),
        ("SKEP_BEFORE", change.before.clone().unwrap_or_default()),
        ("SKEP_SOCKET", parts.socket.clone()),
    ];
    let input = Bytes::from(json.to_string() + "\n");
    let job = job(&live.hook.run, variables, input);
    let (runner, requests) = (parts.runner.clone(), parts.requests.clone());
    let (hook, of) = (name.to_owned(), word.to_owned());
    let task = tokio::spawn(async move {
        let (well, ended) = match carry_out(&runner, job).await {
            Ok(took) => (true, format!("ended well after {} ms", took.as_millis())),
            Err(why) => (false, why),
        };
        let ended = Request::Hooked { hook, of, well, ended };
        if requests.send(ended).await.is_err() {
            tracing::trace!("the agent has ended");
        }
    });
    live.running = Some(AbortOnDropHandle::new(task));
}

fn word(event: &EventKind) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these happen to a flock")]
    match event {
        EventKind::Formed(_) => What::Formed.word(),
        EventKind::Merged(_) => What::Merged.word(),
        EventKind::Split(_) => What::Split.word(),
        EventKind::MasterChanged(_) => What::MasterChanged.word(),
        EventKind::Stable(_) => What::Stable.word(),
        _ => What::RoleChanged.word(),
    }
}

/// A command of the operator's with these variables and this on its standard input.
pub(crate) fn job(run: &Run, variables: Vec<(&'static str, String)>, input: Bytes) -> Job {
    let program = match &run.command {
        Command::Shell(text) => Program::Shell(text.clone()),
        Command::Program(words) => Program::Direct(words.clone()),
    };
    let mut job = Job::new(program);
    job.user.clone_from(&run.user);
    let named = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
    // The kernel takes no NUL, and no name has one.
    job.environment = named.map(|(name, value)| (name, value.replace('\0', ""))).collect();
    job.input = vec![input.into()];
    job.stderr = Output::First(STDERR_BYTES);
    job.limits = Limits { time: run.time_limit, ..Limits::default() };
    job
}

/// Runs it; how long it took, or why it has failed.
pub(crate) async fn carry_out(runner: &Runner, job: Job) -> Result<Duration, String> {
    let ended = runner.run(job).await.map_err(|error| in_full(&error))?;
    if ended.succeeded() {
        return Ok(ended.took);
    }
    let said = String::from_utf8_lossy(&ended.stderr.bytes);
    let said: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(format!("{}{said}", ended.status))
}

fn in_full(error: &RunError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

impl Spine {
    /// The flock is so now: what that means for whoever watches it is told.
    pub(crate) fn watch_flock(&mut self, seen: Seen) {
        let now = self.clock.now();
        let mut out = Outbox::new();
        let (present, role) = (count(seen.present.len()), seen.role);
        let flock = seen.flock.clone().unwrap_or_default();
        if let Some(hooks) = &mut self.hooks {
            hooks.watch.handle(now, seen, &mut out);
        }
        for happened in out.drain() {
            self.flock_saw(&happened);
            let Happened { what, nodes, count: number, before } = happened;
            let change = FlockChange {
                flock: Some(flock.name.clone()).filter(|name| !name.is_empty()),
                generation: flock.generation,
                master: flock.master.clone(),
                role: role.to_owned(),
                present,
                nodes,
                count: count(number),
                before,
                ..FlockChange::default()
            };
            let of = match what {
                What::Formed => EventKind::Formed,
                What::Merged => EventKind::Merged,
                What::Split => EventKind::Split,
                What::MasterChanged => EventKind::MasterChanged,
                What::Stable => EventKind::Stable,
                What::RoleChanged => EventKind::RoleChanged,
            };
            let event = of(change.clone());
            tracing::info!(what = what.word(), flock = %flock.name, present, "the flock");
            self.note(event.clone());
            if let Some(hooks) = &mut self.hooks {
                hooks.push(what, &event, &change);
            }
        }
    }

    /// A hook has ended.
    pub(crate) fn hooked(&mut self, hook: String, of: String, well: bool, ended: String) {
        if well {
            tracing::info!(%hook, %of, "{ended}");
        } else {
            tracing::warn!(%hook, %of, "{ended}");
        }
        if let Some(hooks) = &mut self.hooks {
            hooks.ended(&hook);
        }
        self.note(EventKind::Hook { hook, of, well, ended });
    }
}
