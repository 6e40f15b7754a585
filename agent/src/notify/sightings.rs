//! What is wrong now, as this node sees it: with the flock, and with itself.

use std::collections::BTreeMap;

use skep_base::NodeId;
use skep_managers::{Role, View};
use skep_node::Status;
use skep_notices::{Kind, Office, Sighting};

use super::Notify;
use crate::problems::of_dates;
use crate::spine::Spine;

/// What a node is in its flock, as events name it.
pub(super) const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Host => "host",
        Role::Eligible => "eligible",
        Role::Backup => "backup",
        Role::Master => "master",
        Role::SemiMaster => "semi-master",
        Role::Holding => "holding",
    }
}

impl Spine {
    /// All that is wrong now.
    pub(super) fn sightings(
        &self,
        notify: &mut Notify,
        view: &View,
        office: Office,
    ) -> Vec<Sighting> {
        let mut all = Vec::new();
        self.lost_managers(notify, view, office, &mut all);
        self.of_flock(view, &notify.conflicts, &mut all);
        self.of_this_node(notify, view, office, &mut all);
        all
    }

    /// Managers that went without a word (DVM-5, DVM-25). Who was one is remembered until it is
    /// there again and is none, or has left: a new master has replaced it long before.
    fn lost_managers(
        &self,
        notify: &mut Notify,
        view: &View,
        office: Office,
        all: &mut Vec<Sighting>,
    ) {
        let is = |node: NodeId| self.node.member_view(node).map(|member| member.status);
        let present = |node: NodeId| node == self.node.id() || is(node) == Some(Status::Present);
        let mut now: BTreeMap<NodeId, &'static str> = BTreeMap::new();
        if let Some(flock) = view.flock.as_ref().filter(|_| office != Office::Alone) {
            now.extend(flock.backups.iter().map(|node| (*node, "backup")));
            now.extend(flock.master.map(|node| (node, "master")));
        }
        let settled = office != Office::Alone;
        notify.managers.retain(|node, _| {
            let gone = matches!(is(*node), None | Some(Status::Left));
            let idle = settled && present(*node) && !now.contains_key(node);
            !(gone || idle)
        });
        for (node, what) in now {
            if present(node) {
                notify.managers.insert(node, what);
            }
        }
        let mut lost = |node: NodeId, was: &str| {
            let name = self.name_of(node);
            let what = format!("{name}, which was {was}, is silent and did not say that it goes");
            let hint = "the flock goes on without it, and replaces it: look at the host, its \
                        network and its disk";
            all.push(Sighting::new(Kind::ManagerLost, &name, &what, hint));
        };
        for (node, was) in &notify.managers {
            if matches!(is(*node), Some(status) if status != Status::Present)
                && is(*node) != Some(Status::Restarting)
            {
                lost(*node, was);
            }
        }
        // What another master noted is so until the node is there.
        for (notice, alone) in notify.desk.notices() {
            if alone || !notice.is_open() || notice.incident.kind != Kind::ManagerLost {
                continue;
            }
            let named = self.node.members().find(|member| {
                member.name.is_some_and(|name| name.as_str() == notice.incident.subject)
            });
            if let Some(member) = named
                && !present(member.node)
                && member.status != Status::Left
                && !notify.managers.contains_key(&member.node)
            {
                lost(member.node, "a manager");
            }
        }
    }

    /// What is wrong with the flock, as its master sees it.
    fn of_flock(&self, view: &View, conflicts: &BTreeMap<String, usize>, all: &mut Vec<Sighting>) {
        let Some(flock) = view.flock.as_ref().filter(|_| view.role == Role::Master) else {
            return;
        };
        for place in &flock.roster {
            let name = self.name_of(place.node);
            if place.given_up {
                let what = format!("{name} was away for so long that nobody looks for it any more");
                let hint = "bring it back, or take it from the bloc: `skep flock roster`";
                all.push(Sighting::new(Kind::GivenUp, &name, &what, hint));
            }
            if place.held {
                let what = format!("{name} is on hold: it manages nothing until it is released");
                let hint = "`skep flock` and `skep health` there say what is wrong with it";
                all.push(Sighting::new(Kind::OnHold, &name, &what, hint));
            }
        }
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
        } else if office == Office::Alone && self.node.present().first() == Some(&self.node.id()) {
            // Of those that see one another one speaks.
            let present = self.node.present().len();
            let what = format!("{me} and those that it reaches, {present} in all, have no master");
            let hint = "`skep flock` says what is waited for, `skep members` who is not there";
            all.push(Sighting::new(Kind::NoMaster, me, &what, hint));
        }
    }
}
