//! Who manages the flock, as the control API shows it, and what happened among the managers.

use std::time::Duration;

use skep_base::{NodeId, NodeName, Time};
use skep_control::api::{
    Absence, Authority, EventKind, Management, OtherFlock, Seen, Spare, Standing, Wait,
};
use skep_managers::{Event, Output, Role, Token, Waiting};

use crate::spine::Spine;
use crate::status::{count, millis};

/// What the managers are asked when the agent stops. What others ask is numbered from 1.
pub(crate) const LEAVES_OFFICE: Token = Token(u64::MAX);

impl Spine {
    pub(crate) fn management(&self) -> Management {
        let now = self.clock.now();
        let view = self.node.management(now);
        let flock = view.flock.as_ref();
        let names = |nodes: &[NodeId]| nodes.iter().filter_map(|id| self.node_name(*id)).collect();
        let since = |at: Time| millis(now.since(at));
        let standing = |place: &skep_managers::RosterView| {
            Some(Standing {
                node: self.node_name(place.node)?,
                standing: place.standing,
                resources: place.resources,
                availability: place.availability,
                present: place.present,
                witness: place.witness,
                held: place.held,
                given_up: place.given_up,
                resources_now: self.node.fit(place.node).map(|fit| fit.resources),
                parts: self.parts_of(place.node),
                held_since_ms: place.held_since.map(since),
                unwell_since_ms: place.unwell.map(since),
                seen: seen_of(now, place),
            })
        };
        let other = |other: &skep_managers::OtherFlock| OtherFlock {
            name: other.name.clone(),
            generation: other.generation.0,
            master: other.master.and_then(|id| self.node_name(id)),
            members: count(other.members),
        };
        Management {
            role: view.role.to_string(),
            name: flock.map(|flock| flock.name.clone()),
            lineage: flock.map(|flock| flock.lineage.to_string()),
            generation: flock.map_or(0, |flock| flock.generation.0),
            stamp: flock.map(|flock| flock.stamp.to_string()),
            term: flock.map_or(0, |flock| flock.term),
            strength: flock.map(|flock| flock.strength.to_string()),
            founding: flock.map_or(0, |flock| flock.founding.0),
            token: self.token_here(),
            master: flock.and_then(|flock| self.node_name(flock.master?)),
            backups: flock.map(|flock| names(&flock.backups)).unwrap_or_default(),
            learners: flock.map(|flock| names(&flock.learners)).unwrap_or_default(),
            sync_set: flock.map(|flock| names(&flock.sync_set)).unwrap_or_default(),
            roster: flock.into_iter().flat_map(|it| &it.roster).filter_map(standing).collect(),
            committed: flock.map_or(0, |flock| flock.committed),
            waits: view.waits.iter().map(|wait| self.managers_wait(wait)).collect(),
            others: view.others.iter().map(other).collect(),
            authority: flock.map(|flock| Authority {
                roster: count(flock.authority.roster),
                there: count(flock.authority.there),
                holder: flock.authority.holder.and_then(|id| self.node_name(id)),
                until_ms: flock.authority.until.map(|until| millis(until.since(now))),
            }),
            split: self.split.rule(&view),
        }
    }

    /// What becomes of the founding token that this node has, if it has one.
    fn token_here(&self) -> Option<String> {
        Some(self.founding.as_ref()?.borrow().as_ref()?.state.clone())
    }

    /// Takes over what the configuration says of topologies and of waves in a part of the flock.
    pub(crate) fn rules_of(&mut self, config: &crate::config::Config) {
        self.generators = crate::topology::generators(config);
        self.split = config.managers.split;
        self.state_dir.clone_from(&config.node.state_dir);
    }

    fn parts_of(&self, node: NodeId) -> Option<Spare> {
        let skep_managers::Parts { network, processor, memory, disk } =
            self.node.fit(node)?.parts?;
        Some(Spare { network, processor, memory, disk })
    }

    fn node_name(&self, node: NodeId) -> Option<NodeName> {
        self.name_of(node).parse().ok()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all others name no node")]
    fn managers_wait(&self, wait: &Waiting) -> Wait {
        use skep_managers::Wait as For;
        let now = self.clock.now();
        let what = match wait.what {
            For::Learner(node) => format!("learner {} to catch up", self.name_of(node)),
            For::Manager(node) => {
                format!("manager {} to come back, before it is replaced", self.name_of(node))
            }
            other => other.to_string().trim_start_matches("waits for ").to_owned(),
        };
        let until_ms = wait.until.map(|until| millis(until.since(now)));
        Wait { what, since_ms: millis(now.since(wait.since)), until_ms }
    }

    /// What the managers want of the disk, and what happened among them.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the node keeps all others to itself")]
    pub(crate) fn managers_output(&mut self, output: Output) {
        match output {
            Output::Persist { ticket, write } => self.disk.managers(ticket, write),
            Output::Done { token } if token == LEAVES_OFFICE => self.leaves_office = None,
            Output::Done { token } if token == crate::orders::RECOVERS => self.recovered(Ok(())),
            Output::Refused { token, why } if token == crate::orders::RECOVERS => {
                self.recovered(Err(why.to_string()));
            }
            Output::Event(event) => {
                self.managers_saw(&event);
                let what = self.managers_event(&event);
                tracing::info!("{what}");
                self.note(EventKind::Managers { what });
                self.look_soon();
                if matches!(event, Event::RoleChanged { to: Role::Retired, .. }) {
                    self.write_what_it_has();
                }
            }
            other => tracing::debug!(?other, "nobody here asked for this"),
        }
    }

    fn managers_event(&self, event: &Event) -> String {
        let name = |id: &NodeId| self.name_of(*id);
        match event {
            Event::Formed { lineage, generation, strength, .. } => {
                let flock = skep_managers::flock_name(*lineage, *generation);
                format!("flock {flock} is founded, generation {}, {strength}", generation.0)
            }
            Event::Strengthened { founding, .. } => {
                format!("the flock is strong, founding number {}", founding.0)
            }
            Event::RoleChanged { from, to, why } => format!("this node is {to}, was {from}: {why}"),
            Event::MasterChanged { master, stamp } => {
                format!("{} is master, stamp {stamp}", name(master))
            }
            Event::BackupAdded { node } => format!("{} is a backup", name(node)),
            Event::BackupRemoved { node, why } => {
                format!("{} is no backup any more: {why}", name(node))
            }
            Event::SyncSet { members } => {
                let members: Vec<String> = members.iter().map(name).collect();
                format!("every acknowledged write is on the disks of {}", members.join(", "))
            }
            Event::GivenUp { node } => format!("{} is given up", name(node)),
            Event::Unprotected => {
                "the one manager there is has no backup: its disk is all there is".to_owned()
            }
            Event::DiskFailed { why } => format!("{why}: this node steps down"),
            Event::MergedInto { lineage, into } => {
                format!("the flock of lineage {lineage} goes on as {into}")
            }
            Event::Absorbed { lineage, changes } => {
                format!("the flock of lineage {lineage} merged into this one, {changes} changes")
            }
            Event::Retired { alone } => format!(
                "this manager met no eligible node for {}: it retires, and manages nothing until \
                 it does",
                span(*alone)
            ),
            Event::CheckpointRefused { bytes } => {
                format!("a checkpoint of {bytes} bytes is too long: the managers' log grows")
            }
        }
    }
}

/// When a node of the roster was there, as this one saw it.
fn seen_of(now: Time, place: &skep_managers::RosterView) -> Seen {
    let seen = place.seen;
    Seen {
        since_ms: millis(now.since(seen.since)),
        absences: seen.absences,
        away_ms: millis(seen.away),
        last: seen.returned.map(|(back, long)| Absence {
            ended_ms: millis(now.since(back)),
            lasted_ms: millis(long),
        }),
    }
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 2 * 3600 => format!("{seconds} s"),
        seconds => format!("{} h", seconds / 3600),
    }
}
