//! What a node tells by itself, for it has had no master for some time; and what becomes of that
//! when there is one again.

use alloc::vec::Vec;

use skep_base::{Outbox, Time};

use super::{Desk, Output};
use crate::draft::Draft;
use crate::incident::{Incident, MAX_NOTICES, Notice, Scope, Sighting};
use crate::post::Book;

impl Desk {
    /// Opens, closes and tells what is this node's own.
    pub(super) fn tell_by_itself(&mut self, now: Time, out: &mut Outbox<Output>) {
        let since = self.alone_since.map(|since| since + self.config.alone_after);
        let alone = since.is_some_and(|at| at <= now) && !self.posts.is_empty();
        if let Some(at) = since.filter(|at| *at > now) {
            self.wake_at(at);
        }
        if alone {
            self.open_own(now, out);
        }
        if self.own.is_empty() {
            return;
        }
        let mut own = core::mem::take(&mut self.own);
        // The flock has it from here on, as far as it was told.
        own.retain(|incident, (_, notice)| {
            self.entries.get(incident).is_none_or(|(_, known)| known.id != notice.id)
        });
        let wall = self.wall_now(now);
        for (incident, (_, notice)) in &mut own {
            let ended = !alone && incident.kind.scope() == Scope::Alone;
            let over = ended || self.gone_since(now, incident).is_some();
            if over && notice.is_open() {
                notice.step += 1;
                notice.closed = Some(wall);
            }
        }
        // What nobody was told of and is over needs no letter.
        own.retain(|_, (_, notice)| {
            notice.is_open() || (!notice.told.is_empty() && self.is_busy(notice))
        });
        loop {
            let mut draft = Draft::default();
            self.deliver(now, Book::Own, &own, Some(&mut draft), out);
            if draft.is_empty() {
                break;
            }
            for target in draft.claimed {
                if let Some(post) = self.posts.iter_mut().find(|post| post.target == target) {
                    post.claimed(now, Book::Own, &self.config);
                }
            }
            for (incident, change) in draft.changes {
                if let Some(notice) = change.1 {
                    own.insert(incident, (0, notice));
                }
            }
        }
        self.own = own;
    }

    fn open_own(&mut self, now: Time, out: &mut Outbox<Output>) {
        // What the flock is, everybody in it sees: only what is this node's own is told.
        let own = self.seen.values().filter(|it| it.1.incident.kind.scope() != Scope::Flock);
        let seen: Vec<Sighting> = own.map(|(_, it)| it.clone()).collect();
        for sighting in seen {
            // What the flock knows already, its targets are told of, or will be.
            let known = self.entries.get(&sighting.incident);
            if known.is_some_and(|(_, notice)| notice.is_open())
                || self.own.contains_key(&sighting.incident)
            {
                continue;
            }
            if self.own.len() < MAX_NOTICES {
                let notice = self.opened(now, &sighting);
                self.own.insert(sighting.incident, (0, notice));
            } else {
                self.drop(sighting.incident, out);
            }
        }
    }

    /// What this node told by itself and is still so, as the flock is to know it: the same
    /// occurrence, and who was told of it. Nothing while a letter of it is under way: with others
    /// in it, it would be another letter for the flock.
    pub(super) fn hands_over(&self, incident: &Incident) -> Option<Notice> {
        let (_, notice) = self.own.get(incident)?;
        let idle = notice.told.values().all(|told| told.letter.is_none());
        (notice.is_open() && idle).then(|| notice.clone())
    }

    /// Incidents that are being handed over, perhaps: nobody is told of them meanwhile.
    pub(super) fn handing_over(&self) -> Vec<Incident> {
        let expects = self.writing.iter().flat_map(|writing| &writing.expects);
        expects.map(|(incident, _)| incident.clone()).collect()
    }
}
