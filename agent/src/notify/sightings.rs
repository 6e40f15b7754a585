//! What is wrong now, as this node sees it: with the flock, and with itself.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::NodeId;
use skep_managers::{Role, RosterView, View};
use skep_node::Status;
use skep_notices::{Incident, Kind, Office, Sighting};

use super::Notify;
use crate::problems::of_dates;
use crate::spine::Spine;

/// Managers that are remembered: those of a flock at a time are three, and who comes back is none.
const MAX_MANAGERS: usize = 64;

/// What a node is in its flock, as events name it.
pub(super) const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Host => "host",
        Role::Eligible => "eligible",
        Role::Backup => "backup",
        Role::Master => "master",
        Role::SemiMaster => "semi-master",
        Role::Holding => "holding",
        Role::Retired => "retired",
    }
}

/// What is known of a node that something may be wrong with.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Its name, or the last that it had: membership forgets nodes that are away for days.
    name: Option<String>,
    status: Option<Status>,
    expelled: bool,
}

/// What the sightings of a flock are made from.
pub(super) struct Facts<'a> {
    me: NodeId,
    view: &'a View,
    office: Office,
    nodes: BTreeMap<NodeId, Known>,
    /// Incidents of the flock that are open among its entries.
    open: Vec<Incident>,
}

impl Spine {
    /// All that is wrong now.
    pub(super) fn sightings(
        &self,
        notify: &mut Notify,
        view: &View,
        office: Office,
    ) -> Vec<Sighting> {
        let facts = self.facts(notify, view, office);
        let mut all = facts.lost_managers(&mut notify.managers);
        if view.role == Role::Master {
            facts.roster(&mut all);
            self.of_flock(view, &notify.conflicts, &mut all);
        }
        let known = facts.nodes.into_iter();
        notify.names = known.filter_map(|(node, known)| Some((node, known.name?))).collect();
        self.of_this_node(notify, view, office, &mut all);
        all
    }

    /// Of all nodes only those that were managers, may be, or have an incident.
    fn facts<'a>(&self, notify: &Notify, view: &'a View, office: Office) -> Facts<'a> {
        let open = notify.desk.notices().filter(|(notice, alone)| {
            let of_a_node =
                matches!(notice.incident.kind, Kind::ManagerLost | Kind::GivenUp | Kind::OnHold);
            !alone && notice.is_open() && of_a_node
        });
        let open: Vec<Incident> = open.map(|(notice, _)| notice.incident.clone()).collect();
        let mut ids: BTreeSet<NodeId> = notify.managers.keys().copied().collect();
        if let Some(flock) = &view.flock {
            ids.extend(flock.master.iter().chain(&flock.backups));
            ids.extend(flock.roster.iter().map(|place| place.node));
        }
        if !open.is_empty() {
            let subjects: BTreeSet<&str> = open.iter().map(|it| it.subject.as_str()).collect();
            let named = self
                .node
                .members()
                .filter(|member| member.name.is_some_and(|name| subjects.contains(name.as_str())));
            ids.extend(named.map(|member| member.node));
        }
        let catalog = self.node.catalog().catalog();
        let known = |node: NodeId| {
            let member = self.node.member_view(node);
            let status = member.as_ref().map(|member| member.status);
            let name = member.and_then(|member| member.name).map(ToString::to_string);
            let name = name.or_else(|| notify.names.get(&node).cloned());
            let parsed = name.as_ref().and_then(|name| name.parse().ok());
            let expelled = parsed.is_some_and(|name| catalog.expels(&name, None));
            (node, Known { name, status, expelled })
        };
        let nodes = ids.into_iter().map(known).collect();
        Facts { me: self.node.id(), view, office, nodes, open }
    }

    /// What is wrong with the flock, as its master sees it.
    fn of_flock(&self, view: &View, conflicts: &BTreeMap<String, usize>, all: &mut Vec<Sighting>) {
        let Some(flock) = &view.flock else { return };
        let master = self.name_of(self.node.id());
        if flock.backups.is_empty() {
            let what = format!(
                "flock {} is managed by {master} alone: its disk has all that was decided, and no \
                 other",
                flock.name
            );
            let hint = "let two more nodes be eligible and present, see `skep flock`";
            all.push(Sighting::new(Kind::Unprotected, &master, &what, hint));
        }
        if flock.parent.is_some() {
            let what = format!(
                "a part of the flock founded itself again as {}, generation {}: other parts may go \
                 on as well until they meet",
                flock.name, flock.generation.0
            );
            let hint = "mend the network or the lost hosts; what both sides change meanwhile will \
                        be in `skep catalog conflicts`";
            all.push(Sighting::new(Kind::Fork, &flock.name, &what, hint));
        }
        for (history, number) in conflicts {
            let what = format!(
                "a flock of history {history} merged into {}, and {number} entries were changed on \
                 both sides",
                flock.name
            );
            let hint = "`skep catalog conflicts` lists them; apply or remove each";
            all.push(Sighting::new(Kind::Conflicts, history, &what, hint));
        }
    }

    /// What is wrong with this node.
    fn of_this_node(&self, notify: &Notify, view: &View, office: Office, all: &mut Vec<Sighting>) {
        let me = notify.me.as_str();
        let identity = self.identity.current();
        if let Some(problem) = of_dates(identity.info(), self.clock.wall()) {
            let what = format!("{me}: {}", problem.message);
            let hint = problem.hint.unwrap_or_default();
            all.push(Sighting::new(Kind::Certificate, me, &what, &hint));
        }
        if let Some(disk) = &self.disk_trouble {
            let what = format!("{me}: {}", disk.message);
            all.push(Sighting::new(Kind::DiskFailed, me, &what, &disk.hint));
        }
        if view.role == Role::SemiMaster {
            let what = format!("{me} lost the other managers: nothing can be written here");
            let hint = "bring one of them back; with three eligible nodes a new generation is \
                        founded by itself: `skep flock` says what is waited for";
            all.push(Sighting::new(Kind::SemiMastery, me, &what, hint));
        } else if view.role == Role::Retired {
            let what = format!("{me} was a manager, met nobody for days, and manages nothing");
            let hint =
                "mend its network: it takes part again by itself, and hands over what it has";
            all.push(Sighting::new(Kind::Retired, me, &what, hint));
        } else if office == Office::Alone && speaks(view, self.node.present(), self.node.id()) {
            // Of those that see one another one speaks.
            let present = self.node.present().len();
            let what = format!("{me} and those that it reaches, {present} in all, have no master");
            let hint = "`skep flock` says what is waited for, `skep members` who is not there";
            all.push(Sighting::new(Kind::NoMaster, me, &what, hint));
        }
    }
}

/// Whether this node is the one that says of all that see one another that they have no master: who
/// may be a manager is more likely to have somebody to tell.
fn speaks(view: &View, present: &[NodeId], me: NodeId) -> bool {
    let eligible = present.iter().find(|node| view.eligible.contains(node));
    eligible.or_else(|| present.first()) == Some(&me)
}

impl Facts<'_> {
    fn status(&self, node: NodeId) -> Option<Status> {
        self.nodes.get(&node).and_then(|known| known.status)
    }

    fn is_present(&self, node: NodeId) -> bool {
        node == self.me || self.status(node) == Some(Status::Present)
    }

    fn is_expelled(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|known| known.expelled)
    }

    fn name(&self, node: NodeId) -> Option<&str> {
        self.nodes.get(&node)?.name.as_deref()
    }

    /// The node of an open incident, where its name is known still.
    fn named(&self, subject: &str) -> Option<NodeId> {
        let named = self.nodes.iter().find(|(_, known)| known.name.as_deref() == Some(subject));
        named.map(|(node, _)| *node)
    }

    /// Subjects of open incidents of which nobody knows any more whose names they are.
    fn orphans(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let of_kind = self.open.iter().filter(move |it| it.kind == kind);
        let subjects = of_kind.map(|it| it.subject.as_str());
        subjects.filter(|subject| {
            // A node that was noted by its number is known by its name once that is known.
            let number = subject.parse().ok().and_then(|node| self.name(node));
            number.is_none() && self.named(subject).is_none()
        })
    }

    /// Managers that went without a word (DVM-5, DVM-25). Who was one is remembered until it is
    /// there again and is none, or has left, or was expelled: a new master has replaced it long
    /// before.
    fn lost_managers(&self, managers: &mut BTreeMap<NodeId, &'static str>) -> Vec<Sighting> {
        let mut now: BTreeMap<NodeId, &'static str> = BTreeMap::new();
        let settled = self.office != Office::Alone;
        if let Some(flock) = self.view.flock.as_ref().filter(|_| settled) {
            now.extend(flock.backups.iter().map(|node| (*node, "backup")));
            now.extend(flock.master.map(|node| (node, "master")));
        }
        let roster = self.view.flock.as_ref().filter(|_| self.office == Office::Master);
        managers.retain(|node, _| {
            // Who is away for days is forgotten by membership, and not by the roster.
            let forgotten = matches!(self.status(*node), None | Some(Status::Unmet))
                && roster.is_some_and(|it| it.roster.iter().all(|place| place.node != *node));
            let left = self.status(*node) == Some(Status::Left) || self.is_expelled(*node);
            let idle = settled && self.is_present(*node) && !now.contains_key(node);
            !(forgotten || left || idle)
        });
        for (node, what) in now {
            if self.is_present(node) && managers.len() < MAX_MANAGERS {
                managers.insert(node, what);
            }
        }
        let lost = |name: &str, was: &str| {
            let what = format!("{name}, which was {was}, is silent and did not say that it goes");
            let hint = "the flock goes on without it, and replaces it: look at the host, its \
                        network and its disk";
            Sighting::new(Kind::ManagerLost, name, &what, hint)
        };
        let mut all = Vec::new();
        for (node, was) in &*managers {
            if !self.is_present(*node) && self.status(*node) != Some(Status::Restarting) {
                let number = node.to_string();
                all.push(lost(self.name(*node).unwrap_or(&number), was));
            }
        }
        // What another master noted is so until the node is there, or gone for good.
        for incident in self.open.iter().filter(|it| it.kind == Kind::ManagerLost) {
            let Some(node) = self.named(&incident.subject) else { continue };
            let left = self.status(node) == Some(Status::Left) || self.is_expelled(node);
            if !self.is_present(node) && !left && !managers.contains_key(&node) {
                all.push(lost(&incident.subject, "a manager"));
            }
        }
        // That nobody knows its name any more ends nothing.
        all.extend(self.orphans(Kind::ManagerLost).map(|subject| lost(subject, "a manager")));
        all
    }

    /// Nodes of the roster that are no managers and will not be by themselves (DVM-10, DVM-13).
    fn roster(&self, all: &mut Vec<Sighting>) {
        let Some(flock) = &self.view.flock else { return };
        let mut orphans = [Kind::GivenUp, Kind::OnHold].map(|kind| self.orphans(kind));
        for place in flock.roster.iter().filter(|place| !self.is_expelled(place.node)) {
            let number = place.node.to_string();
            let [given_up, held] = &mut orphans;
            if place.given_up {
                // The name that it was noted under, as long as nobody knows a better one.
                let name = self.name(place.node).or_else(|| given_up.next()).unwrap_or(&number);
                let what = format!("{name} was away for so long that nobody looks for it any more");
                let hint = "bring it back, or take it from the bloc: `skep flock roster`";
                all.push(Sighting::new(Kind::GivenUp, name, &what, hint));
            }
            if let Some(why) = self.on_hold(place) {
                let name = self.name(place.node).or_else(|| held.next()).unwrap_or(&number);
                let what = format!("{name} is on hold: {why}");
                let hint = "`skep flock` and `skep health` there say what is wrong with it";
                all.push(Sighting::new(Kind::OnHold, name, &what, hint));
            }
        }
    }

    /// Why a node manages nothing, if it does not though it may.
    fn on_hold(&self, place: &RosterView) -> Option<&'static str> {
        if place.held {
            return Some("by an operator's order it manages nothing until it is released");
        }
        if place.present && place.unwell.is_some() {
            return Some("it says that it is not well, and manages nothing until it is");
        }
        let holds = place.present && self.view.holding.contains(&place.node);
        holds.then_some(
            "it has a history that nobody has compared with another yet, and manages nothing \
             until that is done",
        )
    }
}

#[cfg(test)]
mod tests;
