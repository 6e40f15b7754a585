//! What happened to the flock, told to the whole bloc: the thin shell around
//! [`skep_notices::Teller`] (BLOC-21).
//!
//! Every node sees what happens to its flock; the master publishes it in a record of its own, and
//! `skep events --flock` on any node makes one list of the records that it has. So a node learns
//! also what happened while it was away, and after a merge both sides' events are there.

use std::collections::BTreeSet;

use skep_base::{NodeId, NodeName};
use skep_control::EventLog;
use skep_control::api::{Event as Shown, EventKind, FlockChange, ReadEvents, Refusal};
use skep_managers::{Event, Generation, Lineage, Role, Stamp, View, flock_name};
use skep_node::Input;
use skep_notices::{FlockEvent, Happened, Tale, Teller, Under, What, Who, in_one_order};
use skep_records::kind as record;

use crate::spine::Spine;
use crate::status::count;

/// Events that one answer lists, the newest: those of hundreds of masters.
const MAX_SHOWN: usize = 4096;

// Machines do not know one another: that what the one makes fits the other is said here.
const _: () = assert!(skep_notices::MAX_HISTORY_BYTES == skep_records::MAX_BODY_BYTES);

/// What this node tells of its flock, and who follows what all tell.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) teller: Teller,
    log: EventLog,
    /// What followers were shown.
    shown: BTreeSet<(NodeName, u64)>,
}

impl Spine {
    /// A life begins: what this node told in earlier ones is told on, under this one's
    /// certificate.
    pub(crate) fn history_begins(&mut self) {
        let own = self.node.stored(self.node.id(), record::FLOCK_EVENTS);
        let own = own.filter(|own| !own.retracted && own.schema == skep_notices::HISTORY_SCHEMA);
        if let Some(body) = own.map(|own| own.body.clone()) {
            self.publish_history(body.to_vec());
        }
    }

    /// Something happened to the flock, as this node sees it.
    pub(crate) fn flock_saw(&mut self, happened: &Happened) {
        let now = self.clock.now();
        let who = || Who::of(&happened.nodes, happened.count);
        let tale = match happened.what {
            What::Split => Tale::Split(who()),
            What::Merged if !happened.nodes.is_empty() => Tale::Back(who()),
            What::Stable if self.history.teller.mastership().is_some() => Tale::Stable,
            // The managers know these at first hand.
            What::Merged | What::Stable | What::Formed | What::MasterChanged => return,
            What::RoleChanged => return,
        };
        self.history.teller.saw(now, None, tale);
    }

    /// Something happened among the managers.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are of no flock as a whole")]
    pub(crate) fn managers_saw(&mut self, event: &Event) {
        let now = self.clock.now();
        let view = self.node.management(now);
        let here = view.flock.as_ref().map(|flock| flock.lineage.0);
        match event {
            Event::Formed { lineage, parent, .. } => {
                let before = parent.map(|(lineage, _)| name_of_flock(&view, lineage));
                self.history.teller.saw(now, Some(lineage.0), Tale::Formed { before });
            }
            Event::Absorbed { lineage, changes } => {
                let before = Some(name_of_flock(&view, *lineage));
                let tale = Tale::Merged { ended: lineage.0, before, changes: Some(*changes) };
                self.history.teller.saw(now, here, tale);
            }
            Event::MergedInto { lineage, into } => {
                let was = self.history.teller.mastership();
                let Some(was) = was.filter(|was| was.lineage == lineage.0) else { return };
                let generation = generation_of(&view, *into).map_or(0, |it| it.0);
                let under = Under { lineage: into.0, generation, ..was };
                let name = flock_name(*lineage, Generation(was.generation));
                let tale = Tale::Merged { ended: lineage.0, before: Some(name), changes: None };
                self.history.teller.ended(now, under, tale);
            }
            _ => {}
        }
    }

    /// Tells what is due, where this node is the master.
    pub(crate) fn tell_history(&mut self, view: &View) {
        let under = view.flock.as_ref().filter(|_| view.role == Role::Master);
        let under = under.map(|flock| Under {
            epoch: flock.stamp.epoch.0,
            fork: flock.stamp.fork.0,
            lineage: flock.lineage.0,
            generation: flock.generation.0,
        });
        let clocks = (self.clock.now(), self.clock.wall());
        self.history.teller.office(clocks.0, under);
        let (mut own, mut all) = (Vec::new(), Vec::new());
        // Most of the time nothing is to be told, and nothing is read for that.
        if self.history.teller.deadline().is_some_and(|(at, _)| at <= clocks.0) {
            own = self.told_by(self.node.id());
            all.extend(self.told().into_iter().map(|(_, event)| event));
        }
        let present = count(self.node.present().len());
        if let Some(body) = self.history.teller.tell(clocks, present, own, &all) {
            self.publish_history(body);
            self.history_told();
        }
    }

    fn publish_history(&mut self, body: Vec<u8>) {
        let (kind, schema) = (record::FLOCK_EVENTS, skep_notices::HISTORY_SCHEMA);
        self.take(Input::Publish { kind, schema, body: Some(body.into()) });
    }

    /// A node's record of what it tells is another: who follows is shown what is new in it.
    pub(crate) fn history_told(&mut self) {
        if self.history.log.followers() == 0 {
            return;
        }
        let all = self.told();
        let at = |(teller, event): &(NodeName, FlockEvent)| (teller.clone(), event.number);
        for told in &all {
            if !self.history.shown.contains(&at(told)) {
                self.history.log.push(told.1.when, 0, shown(told));
            }
        }
        self.history.shown = all.iter().map(at).collect();
    }

    /// The list, and what is told from now on to whoever follows it.
    pub(crate) fn flock_events(
        &mut self,
        query: ReadEvents,
    ) -> Result<skep_control::EventsRead, Refusal> {
        let all = self.told();
        let listed = u64::try_from(all.len()).unwrap_or(u64::MAX);
        self.history.log.go_on_after(listed);
        let follow = ReadEvents { last: Some(0), ..query };
        let live = self.history.log.read(follow)?.live;
        self.history.shown =
            all.iter().map(|(teller, event)| (teller.clone(), event.number)).collect();
        let numbered = (1..).zip(&all).map(|(number, told)| Shown {
            number,
            at: told.1.when,
            monotonic_us: 0,
            kind: shown(told),
        });
        let after = query.after.unwrap_or(0);
        let last = query.last.map_or(MAX_SHOWN, |last| usize::try_from(last).unwrap_or(MAX_SHOWN));
        let mut kept: Vec<Shown> = numbered.filter(|event| event.number > after).collect();
        kept.drain(..kept.len().saturating_sub(last.min(MAX_SHOWN)));
        Ok(skep_control::EventsRead { kept, live })
    }

    /// What all tell, in one order.
    fn told(&self) -> Vec<(NodeName, FlockEvent)> {
        let tellers = self.node.records().of_kind(record::FLOCK_EVENTS).map(|(owner, _)| owner);
        // What an expelled node says counts for nothing.
        let tellers = tellers.filter(|owner| !self.node.is_expelled(*owner));
        let records = tellers
            .filter_map(|owner| Some((self.name_of(owner).parse().ok()?, self.told_by(owner))));
        in_one_order(records)
    }

    fn told_by(&self, owner: NodeId) -> Vec<FlockEvent> {
        let stored = self.node.stored(owner, record::FLOCK_EVENTS).filter(|it| !it.retracted);
        let stored = stored.filter(|it| it.schema == skep_notices::HISTORY_SCHEMA);
        stored.and_then(|it| skep_notices::from_body(&it.body).ok()).unwrap_or_default()
    }
}

/// An event as `skep events` shows it.
fn shown((teller, event): &(NodeName, FlockEvent)) -> EventKind {
    let FlockEvent { under, present, .. } = event;
    let stamp =
        Stamp { epoch: skep_managers::Epoch(under.epoch), fork: skep_managers::ForkId(under.fork) };
    let mut change = FlockChange {
        flock: Some(flock_name(Lineage(under.lineage), Generation(under.generation))),
        generation: under.generation,
        master: Some(teller.clone()),
        present: *present,
        by: Some(teller.clone()),
        stamp: Some(stamp.to_string()),
        ..FlockChange::default()
    };
    let of = match &event.tale {
        Tale::Formed { before } => {
            change.before.clone_from(before);
            EventKind::Formed
        }
        Tale::Merged { before, changes, .. } => {
            change.before.clone_from(before);
            change.changes = *changes;
            // The last word of the one that ended: who is master of the other is not said.
            change.master = changes.and(change.master);
            EventKind::Merged
        }
        Tale::Split(who) => {
            change.nodes.clone_from(&who.nodes);
            change.count = who.count;
            EventKind::Split
        }
        Tale::Back(who) => {
            change.nodes.clone_from(&who.nodes);
            change.count = who.count;
            EventKind::Merged
        }
        Tale::MasterChanged => EventKind::MasterChanged,
        Tale::Stable => EventKind::Stable,
    };
    of(change)
}

/// What a flock is called, as well as that is known here.
fn name_of_flock(view: &View, lineage: Lineage) -> String {
    let generation = generation_of(view, lineage).unwrap_or(Generation(0));
    flock_name(lineage, generation)
}

fn generation_of(view: &View, lineage: Lineage) -> Option<Generation> {
    let ours = view.flock.as_ref().filter(|flock| flock.lineage == lineage);
    let other = || view.others.iter().find(|other| other.lineage == lineage);
    ours.map(|flock| flock.generation).or_else(|| other().map(|other| other.generation))
}
