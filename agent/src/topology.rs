//! Topologies in the agent: computing them beside the loop, by itself or by the operator's command
//! (FLOOD-30), and showing those in force.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{BlocName, GroupName, NodeId, NodeName};
use skep_control::Reply;
use skep_control::api::{
    Code, DrawAs, EventKind, OverlayBasis, ReadTopology, Refusal, RoundTrip, RttBasis, Topology,
    TopologyEdge, TopologyFailure, TopologySite,
};
use skep_estimates::{Basis, Costs};
use skep_node::{Input, Job};
use skep_runner::{Limits, Output, Program, Runner};
use skep_topology::Overlay;
use skep_topology::adoption::{self, Answer, Event, Plan};
use skep_topology::computed::draw::{Drawing, Spot};
use skep_topology::computed::generator::MAX_ANSWER_BYTES;
use skep_topology::computed::{self, Place};
use tokio_util::task::AbortOnDropHandle;

use crate::config::high::{Command, Config, Group};
use crate::spine::{Request, Spine};

/// How long an external topology generator may take: groups are recomputed every few minutes.
const GENERATOR_TIME: Duration = Duration::from_secs(60);
/// What is kept of what it says on standard error, to be shown with its failure.
const GENERATOR_STDERR: usize = 512;

/// What the node would do as the topology master of its groups.
#[must_use]
pub fn config(config: &Config, bloc: &BlocName) -> adoption::Config {
    let plan = |(name, group): (&GroupName, &Group)| {
        let master = group.topology_master.as_ref().map(|name| NodeId::derive(bloc, name));
        let update_period = group.update_period;
        (name.clone(), Plan { k: group.connectivity, master, update_period })
    };
    adoption::Config {
        plans: config.groups.iter().map(plan).collect(),
        ..adoption::Config::default()
    }
}

/// The commands that compute topologies, by group.
#[must_use]
pub fn generators(config: &Config) -> BTreeMap<GroupName, Command> {
    let generator = |(name, group): (&GroupName, &Group)| {
        Some((name.clone(), group.topology_generator.clone()?))
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
                Some(command) => generate(&job, command).await,
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

    /// Who links to whom in a group.
    pub fn answer_topology(&self, group: &GroupName, query: ReadTopology, reply: Reply<Topology>) {
        let overlay = self.node.overlay(group).filter(|overlay| !overlay.members().is_empty());
        match overlay {
            Some(overlay) => reply.ok(self.topology(group, overlay, query)),
            None => {
                let what = format!("this node is not in group {group}, or has not met it yet");
                let hint = "ask a member: `skep group` lists them";
                reply.refuse(Refusal::new(Code::NotFound, what).hint(hint));
            }
        }
    }

    fn topology(&self, group: &GroupName, overlay: &Overlay, query: ReadTopology) -> Topology {
        let costs = self.node.costs(overlay.members());
        let edges = indexed(overlay);
        let view = self.node.adoption().view(group);
        let covers = view.as_ref().is_some_and(|view| view.covers);
        let since = |at| millis(self.clock.now().since(at));
        let name = |id| self.name_of(id);
        let failure = view.as_ref().and_then(|view| view.failure);
        Topology {
            group: group.clone(),
            basis: if covers { OverlayBasis::Computed } else { OverlayBasis::Hash },
            epoch: view.as_ref().and_then(|view| view.stamp).map(|stamp| stamp.epoch),
            by: view.as_ref().and_then(|view| view.by).map(name),
            master: view.as_ref().and_then(|view| view.master).map(name),
            connectivity: count(overlay.connectivity()),
            mended: count(overlay.patches()),
            switching_ms: view.as_ref().and_then(|view| view.switching_since).map(since),
            computing_ms: view.as_ref().and_then(|view| view.computing_since).map(since),
            failure: failure
                .map(|(at, why)| TopologyFailure { ago_ms: since(at), why: why.to_owned() }),
            drawing: query.draw.map(|draw| self.drawing(group, overlay, &costs, draw)),
            sites: self.sites(overlay, &costs),
            edges: edges
                .into_iter()
                .map(|(a, b)| {
                    let known = costs.rtt(a, b);
                    TopologyEdge {
                        a: count(a),
                        b: count(b),
                        rtt_us: known.map(|(rtt, _)| micros(rtt)),
                        basis: known.map(|(_, basis)| words(basis)),
                    }
                })
                .collect(),
        }
    }

    /// The members in the overlay's own order, which is that of their identities: a name that is
    /// not known is one made of that.
    fn sites(&self, overlay: &Overlay, costs: &Costs) -> Vec<TopologySite> {
        let site = |(at, id): (usize, &NodeId)| {
            let known = self.node.member_view(*id).and_then(|member| member.name.cloned());
            let node = known.or_else(|| NodeName::new(&id.to_string()).ok())?;
            let place = costs.place(at).map(skep_estimates::Place::degrees_e4);
            let (latitude_e4, longitude_e4) = place.unzip();
            Some(TopologySite { node, latitude_e4, longitude_e4 })
        };
        overlay.members().iter().enumerate().filter_map(site).collect()
    }

    fn drawing(&self, group: &GroupName, overlay: &Overlay, costs: &Costs, draw: DrawAs) -> String {
        let members = overlay.members().to_vec();
        let edges: Vec<(u32, u32)> =
            indexed(overlay).into_iter().map(|(a, b)| (count(a), count(b))).collect();
        let topology = computed::Topology::new(members, overlay.connectivity(), &edges);
        let rtt = |(a, b): &(u32, u32)| {
            let (rtt, _) = costs.rtt(*a as usize, *b as usize)?;
            u32::try_from(rtt.as_micros()).ok()
        };
        let rtts: Vec<Option<u32>> = topology.edges().iter().map(rtt).collect();
        let names: Vec<String> = topology.members().iter().map(|id| self.name_of(*id)).collect();
        let spot = |(at, name): (usize, &'_ String)| {
            let place = costs.place(at).map(skep_estimates::Place::degrees);
            let place = place.and_then(|(lat, long)| Place::new(lat, long));
            (name.clone(), place, costs.plane(at))
        };
        let spots: Vec<_> = names.iter().enumerate().map(spot).collect();
        let sites: Vec<Spot<'_>> = spots
            .iter()
            .map(|(name, place, coordinate)| Spot { name, place: *place, coordinate: *coordinate })
            .collect();
        let drawing =
            Drawing { group: group.as_str(), topology: &topology, sites: &sites, rtts: &rtts };
        match draw {
            DrawAs::Dot => drawing.dot(),
            DrawAs::Svg => drawing.svg(),
        }
    }

    /// What is known of a pair of nodes.
    pub fn answer_rtt(&self, from: NodeName, to: NodeName, reply: Reply<RoundTrip>) {
        let bloc = &self.identity.current().info().bloc.clone();
        let ends = [&from, &to].map(|name| NodeId::derive(bloc, name));
        for (name, id) in [&from, &to].into_iter().zip(ends) {
            if self.node.member_view(id).is_none() {
                let refusal = Refusal::new(Code::NotFound, format!("no node is known as {name}"));
                return reply.refuse(refusal.hint("`skep members` lists those that are"));
            }
        }
        let known = self.node.between(self.clock.now(), ends[0], ends[1]);
        reply.ok(RoundTrip {
            from,
            to,
            rtt_us: known.map(|known| micros(known.rtt)),
            deviation_us: known.and_then(|known| known.deviation).map(micros),
            basis: known.map(|known| words(known.basis)),
            by: known.and_then(|known| known.by).map(|by| self.name_of(by)),
            age_ms: known.and_then(|known| known.age).map(millis),
            bytes_per_second: known.and_then(|known| known.rate),
        });
    }
}

/// Runs the operator's command: it gets the question on its standard input, and what it answers is
/// judged as an answer of our own would be.
async fn generate(job: &Job, command: Command) -> Result<Answer, String> {
    let program = match command {
        Command::Shell(text) => Program::Shell(text),
        Command::Program(words) => Program::Direct(words),
    };
    let mut run = skep_runner::Job::new(program);
    run.input = vec![job.question().into_bytes().into()];
    run.stdout = Output::Whole { max: MAX_ANSWER_BYTES };
    run.stderr = Output::First(GENERATOR_STDERR);
    run.limits = Limits { time: GENERATOR_TIME, ..Limits::default() };
    let ended = Runner::of_this_program().run(run).await.map_err(|error| in_full(&error))?;
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

/// The overlay's edges by the places of their ends among its members.
fn indexed(overlay: &Overlay) -> Vec<(usize, usize)> {
    let place = |id: &NodeId| overlay.members().binary_search(id).ok();
    overlay.edges().filter_map(|(a, b)| place(&a).zip(place(&b))).collect()
}

const fn words(basis: Basis) -> RttBasis {
    match basis {
        Basis::Measured => RttBasis::Measured,
        Basis::Coordinates => RttBasis::Coordinates,
        Basis::Distance => RttBasis::Distance,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
