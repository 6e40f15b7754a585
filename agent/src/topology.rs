//! Topologies in the agent: computing them beside the loop, by itself or by the operator's command
//! (FLOOD-30), and showing those in force (FLOOD-10).

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{BlocName, GroupName, NodeId};
use skep_control::api::EventKind;
use skep_node::{Input, Job};
use skep_runner::{Limits, Output, Program, Runner};
use skep_topology::adoption::{self, Answer, Event, Plan};
use skep_topology::computed::generator::MAX_ANSWER_BYTES;
use tokio_util::task::AbortOnDropHandle;

use crate::config::high::{Command, Config, Group};
use crate::spine::{Request, Spine};

mod shown;

/// Each member has told what it measured after so many periods of telling, if it had anything.
const REPORTS: u32 = 3;
/// First reports of so many members go in a period: those of a large flock are spread over more.
const REPORTS_A_PERIOD: u32 = 10;
/// What is kept of what a generator says on standard error, to be shown with its failure.
const GENERATOR_STDERR: usize = 512;

/// What the node would do as the topology master of its groups.
#[must_use]
pub fn config(config: &Config, bloc: &BlocName) -> adoption::Config {
    let plan = |(name, group): (&GroupName, &Group)| {
        let master = group.topology_master.as_ref().map(|name| NodeId::derive(bloc, name));
        let update_period = group.update_period;
        (name.clone(), Plan { k: group.connectivity, master, update_period })
    };
    let usual = adoption::Config::default();
    // Who wants to know every second, and to compute every five, would not wait so long as others.
    let least = |period: fn(&Group) -> Duration| config.groups.values().map(period).min();
    let period = least(|group| group.estimates_period);
    let told = period.map(|period| period * REPORTS);
    let each = period.map(|period| period / REPORTS_A_PERIOD);
    let update = least(|group| group.update_period);
    adoption::Config {
        plans: config.groups.iter().map(plan).collect(),
        listen_first: told.map_or(usual.listen_first, |told| told.min(usual.listen_first)),
        listen_of_each: each.map_or(usual.listen_of_each, |each| each.min(usual.listen_of_each)),
        calm: update.map_or(usual.calm, |update| update.min(usual.calm)),
        ..usual
    }
}

/// A command that computes topologies in place of this program.
#[derive(Clone, Debug)]
pub struct Generator {
    command: Command,
    /// How long it may take.
    limit: Duration,
}

/// The commands that compute topologies, by group.
#[must_use]
pub fn generators(config: &Config) -> BTreeMap<GroupName, Generator> {
    let generator = |(name, group): (&GroupName, &Group)| {
        let (command, limit) = (group.topology_generator.clone()?, group.generator_time_limit);
        Some((name.clone(), Generator { command, limit }))
    };
    config.groups.iter().filter_map(generator).collect()
}

impl Spine {
    /// Computes a topology beside the loop; the answer comes as a request. One at a time for each
    /// group: the node asks for no second before the first is answered or long overdue.
    pub fn compute(&mut self, job: Box<Job>) {
        let requests = self.requests.clone();
        let (group, number) = (job.group().clone(), job.number());
        tracing::debug!(%group, members = job.size(), "computing a topology");
        let generator = self.generators.get(&group).cloned();
        // A flock at rest asks the same question each time; a command may have its own reasons to
        // answer otherwise.
        let question = job.digest();
        let before = self.computed.insert(group.clone(), question);
        if before == Some(question)
            && generator.is_none()
            && let Some(answer) = job.standing()
        {
            return self.take(Input::Computed { group, job: number, answer: Ok(answer) });
        }
        let task = tokio::spawn(async move {
            let answer = match generator {
                Some(generator) => generate(&job, generator).await,
                None => tokio::task::spawn_blocking(move || job.run())
                    .await
                    .unwrap_or_else(|error| Err(format!("it broke off: {error}"))),
            };
            let computed = Request::Computed { group, job: number, answer };
            if requests.send(computed).await.is_err() {
                tracing::trace!("the agent has ended");
            }
        });
        self.computing.retain(|task| !task.is_finished());
        self.computing.push(AbortOnDropHandle::new(task));
    }

    /// Notes what happened to a group's topology.
    pub fn topology_event(&mut self, event: Event) {
        match event {
            Event::Adopted { group, stamp, by, members, edges } => {
                let by = self.name_of(by);
                tracing::info!(%group, epoch = stamp.epoch, %by, members, edges, "new topology");
                let (members, edges) = (count(members), count(edges));
                let epoch = stamp.epoch;
                self.note(EventKind::Topology { group, epoch, by, members, edges });
            }
            Event::Whole { group, stamp } => {
                tracing::info!(%group, epoch = stamp.epoch, "the new overlay is whole");
            }
            Event::Lacking { group, edges } => {
                let named = |(a, b)| format!("{} and {}", self.name_of(a), self.name_of(b));
                let pairs: Vec<String> = edges.into_iter().map(named).collect();
                let why = format!("these do not come to link: {}", pairs.join(", "));
                tracing::warn!(%group, %why, "the new overlay is not whole");
                self.note(EventKind::TopologyFault { group, why });
            }
            Event::Failed { group, why } => {
                tracing::warn!(%group, %why, "no topology; the last one stays in force");
                self.note(EventKind::TopologyFault { group, why });
            }
        }
    }
}

/// Runs the operator's command: it gets the question on its standard input, and what it answers is
/// judged as an answer of our own would be.
async fn generate(job: &Job, generator: Generator) -> Result<Answer, String> {
    let Generator { command, limit } = generator;
    let program = match command {
        Command::Shell(text) => Program::Shell(text),
        Command::Program(words) => Program::Direct(words),
    };
    let mut run = skep_runner::Job::new(program);
    run.input = vec![bytes::Bytes::from(job.question()).into()];
    run.stdout = Output::Whole { max: MAX_ANSWER_BYTES };
    run.stderr = Output::First(GENERATOR_STDERR);
    run.limits = Limits { time: limit, ..Limits::default() };
    let ran = Runner::of_this_program().run(run).await;
    let ended = ran.map_err(|error| format!("the topology-generator: {}", in_full(&error)))?;
    if !ended.succeeded() {
        let said = String::from_utf8_lossy(&ended.stderr.bytes).trim().to_owned();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        return Err(format!("the topology-generator {}{said}", ended.status));
    }
    job.accept(&ended.stdout.bytes).map_err(|why| format!("the topology-generator: {why}"))
}

/// An error with all that caused it.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    text
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
