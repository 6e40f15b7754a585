//! Who manages the flock, as the control API shows it, and what happened among the managers.

use std::time::Duration;

use skep_base::{NodeId, NodeName};
use skep_control::api::{
    Absence, Authority, EventKind, Management, OtherFlock, Seen, Spare, Standing, Wait,
};
use skep_managers::{
    Event, FlockShown, OtherShown, Output, PlaceShown, Role, Shown, Strength, Token, WaitShown,
    flock_name,
};

use crate::look::Word;
use crate::spine::Spine;
use crate::status::millis;

/// What the managers are asked when the agent stops. What others ask is numbered from 1.
pub(crate) const LEAVES_OFFICE: Token = Token(u64::MAX);

impl Spine {
    /// Who manages the flock: what is this node's own, and the rest by whoever's word it is.
    pub(crate) fn management(&self, word: &Word) -> Management {
        let now = self.clock.now();
        let mut view = self.node.management(now);
        let own = Shown::of(&view, now);
        let told = if let Word::Told { shown, .. } = word { Some(&**shown) } else { None };
        let page = told.unwrap_or(&own);
        let flock = page.flock.as_ref();
        if let (Some(flock), Some(known)) = (flock, &mut view.flock) {
            known.authority = flock.authority();
        }
        let (told_by, told_ms, untold) = match word {
            Word::Own if view.role == Role::Master => (Some(self.node.id()), Some(0), None),
            Word::Own => (None, flock.and_then(|flock| flock.heard_ms), None),
            Word::Untold(why) => (None, flock.and_then(|it| it.heard_ms), Some(why.clone())),
            Word::Told { by, asked, .. } => (Some(*by), Some(millis(now.since(*asked))), None),
        };
        let mut waits: Vec<Wait> =
            own.waits.iter().map(|it| self.wait(self.node.id(), it)).collect();
        if let Word::Told { by, shown, .. } = word {
            waits.extend(shown.waits.iter().map(|wait| self.wait(*by, wait)));
        }
        let names = |nodes: Option<&Vec<NodeId>>| -> Vec<NodeName> {
            nodes.into_iter().flatten().filter_map(|id| self.node_name(*id)).collect()
        };
        let places = flock.into_iter().flat_map(|flock| &flock.roster);
        let watch = self.hooks.as_ref().map(|hooks| &hooks.watch);
        let calm = watch.and_then(skep_notices::Watch::stable_at);
        Management {
            told_by: told_by.and_then(|id| self.node_name(id)),
            told_ms,
            untold,
            role: view.role.to_string(),
            name: flock.map(|flock| flock_name(flock.lineage, flock.generation)),
            stable: watch.is_some_and(skep_notices::Watch::is_stable),
            stable_in_ms: calm.map(|at| millis(at.since(now))),
            lineage: flock.map(|flock| flock.lineage.to_string()),
            generation: flock.map_or(0, |flock| flock.generation.0),
            stamp: flock.map(|flock| flock.stamp.to_string()),
            epoch: flock.map_or(0, |flock| flock.stamp.epoch.0),
            term: flock.map_or(0, |flock| flock.term),
            strength: flock.map(|flock| strength(flock).to_string()),
            weak: flock.and_then(|flock| flock.weak).map(|why| why.to_string()),
            founding: flock.map_or(0, |flock| flock.founding.0),
            token: self.token_here(),
            master: flock.and_then(|flock| self.node_name(flock.master?)),
            leads_ms: flock.and_then(|flock| flock.leads_ms),
            backups: names(flock.map(|flock| &flock.backups)),
            learners: names(flock.map(|flock| &flock.learners)),
            sync_set: names(flock.map(|flock| &flock.sync_set)),
            roster: places.filter_map(|place| self.standing(place)).collect(),
            committed: flock.map_or(0, |flock| flock.committed),
            waits,
            others: self.others(&own, told),
            authority: flock.map(|flock| Authority {
                roster: flock.roster_count,
                there: flock.there,
                holder: flock.holder.and_then(|id| self.node_name(id)),
                until_ms: flock.holds_ms,
            }),
            split: self.split.rule(&view),
        }
    }

    fn standing(&self, place: &PlaceShown) -> Option<Standing> {
        let last = place.returned.map(|(ended_ms, lasted_ms)| Absence { ended_ms, lasted_ms });
        let (since_ms, absences, away_ms) = (place.since_ms, place.absences, place.away_ms);
        Some(Standing {
            node: self.node_name(place.node)?,
            standing: place.standing(),
            resources: place.resources,
            availability: place.availability,
            present: place.present,
            witness: place.witness,
            held: place.held,
            given_up: place.given_up,
            resources_now: self.node.fit(place.node).map(|fit| fit.resources),
            parts: self.parts_of(place.node),
            held_since_ms: place.held_ms,
            unwell_since_ms: place.unwell_ms,
            seen: Seen { since_ms, absences, away_ms, last },
        })
    }

    /// Other flocks as this node saw them, and as the master did: of each whoever saw it last.
    fn others(&self, own: &Shown, told: Option<&Shown>) -> Vec<OtherFlock> {
        let ours = told.unwrap_or(own).flock.as_ref().map(|flock| flock.lineage);
        let mut others: Vec<OtherShown> = Vec::new();
        let seen = own.others.iter().chain(told.into_iter().flat_map(|told| &told.others));
        for other in seen.filter(|other| Some(other.lineage) != ours) {
            match others.iter_mut().find(|known| known.lineage == other.lineage) {
                Some(known) if known.seen_ms > other.seen_ms => *known = *other,
                Some(_) => {}
                None => others.push(*other),
            }
        }
        others.sort_by_key(|other| other.seen_ms);
        let shown = |other: &OtherShown| OtherFlock {
            name: flock_name(other.lineage, other.generation),
            lineage: other.lineage.to_string(),
            generation: other.generation.0,
            master: other.master.and_then(|id| self.node_name(id)),
            members: other.members,
            seen_ms_ago: other.seen_ms,
        };
        others.iter().map(shown).collect()
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
    fn wait(&self, by: NodeId, wait: &WaitShown) -> Wait {
        use skep_managers::Wait as For;
        let what = match wait.what {
            For::Learner(node) => format!("learner {} to catch up", self.name_of(node)),
            For::Manager(node) => {
                format!("manager {} to come back, before it is replaced", self.name_of(node))
            }
            other => other.to_string().trim_start_matches("waits for ").to_owned(),
        };
        let (since_ms, until_ms) = (wait.since_ms, wait.until_ms);
        Wait { by: self.node_name(by), what, since_ms, until_ms }
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
                let flock = flock_name(*lineage, *generation);
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
                format!("the flock of lineage {lineage} merged into this one, {changes} entries")
            }
            Event::Retired { alone } => format!(
                "this manager met no eligible node for {}: it retires, and manages nothing until \
                 it does",
                span(*alone)
            ),
            Event::CheckpointRefused { bytes } => {
                format!("a checkpoint of {bytes} bytes is too long: the managers' log grows")
            }
            Event::HandOverRefused { bytes } => format!(
                "{bytes} bytes are too long to be handed over to another flock: this one goes on \
                 beside it"
            ),
        }
    }
}

/// What a flock's writes may rely on.
fn strength(flock: &FlockShown) -> Strength {
    if flock.weak.is_some() { Strength::Weak } else { Strength::Strong }
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 2 * 3600 => format!("{seconds} s"),
        seconds => format!("{} h", seconds / 3600),
    }
}
