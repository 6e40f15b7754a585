//! What is done to hosts and to the ways between them.

use std::time::Duration;

use super::{Event_, Net, SILENCE, id};
use crate::message::Message;
use crate::strict::AuthorityAsk;
use crate::*;

impl Net {
    /// The process is killed: what was not synced is gone, and peers are refused at once.
    pub(in crate::tests) fn kill(&mut self, on: usize) {
        self.note(format!("{on} is killed"));
        let host = &mut self.hosts[on];
        host.machine = None;
        host.life += 1;
        host.writes.clear();
        host.backlog.clear();
        host.announcement = None;
        host.present.clear();
        for peer in 0..self.hosts.len() {
            if self.hosts[peer].present.contains(&on) && !self.is_cut(on, peer) {
                let at = self.now + Duration::from_millis(2);
                let life = self.hosts[peer].life;
                for why in [Down::Closed, Down::Refused] {
                    self.push(at, Event_::Input(peer, life, Input::LinkDown { node: id(on), why }));
                }
            }
            self.look_later(peer, on);
        }
    }

    /// The machine loses power: nobody is told.
    pub(in crate::tests) fn cut_power(&mut self, on: usize) {
        self.note(format!("{on} loses power"));
        let host = &mut self.hosts[on];
        host.machine = None;
        host.life += 1;
        host.writes.clear();
        host.backlog.clear();
        host.announcement = None;
        host.present.clear();
        (0..self.hosts.len()).for_each(|peer| self.look_later(peer, on));
    }

    pub(in crate::tests) fn lose_disk(&mut self, on: usize) {
        assert!(self.hosts[on].machine.is_none());
        self.hosts[on].disk = Restored::default();
        self.hosts[on].seen = Stamp::default();
        self.hosts[on].pledged = Founding(0);
        self.hosts[on].obeyed = Stamp::default();
    }

    pub(in crate::tests) fn cut(&mut self, a: usize, b: usize) {
        if a != b && self.cuts.insert((a.min(b), a.max(b))) {
            self.look_later(a, b);
            self.look_later(b, a);
        }
    }

    pub(in crate::tests) fn uncut(&mut self, a: usize, b: usize) {
        if self.cuts.remove(&(a.min(b), a.max(b))) {
            self.find_later(a, b);
        }
    }

    fn find_later(&mut self, a: usize, b: usize) {
        let at = self.now + Duration::from_millis(200);
        self.push(at, Event_::Look(a, b));
        self.push(at, Event_::Look(b, a));
    }

    /// Somebody whom nobody else knows has this node promise it a stamp.
    pub(in crate::tests) fn promise_another(&mut self, on: usize) {
        let seen = self.view(on).seen;
        let stamp = Stamp { epoch: Epoch(seen.epoch.0 + 5), fork: ForkId(77) };
        let (version, base) = (1 << 20, 1 << 20);
        let founding = self.machine(on).state.founding;
        let ask = AuthorityAsk { lineage: Lineage(7), stamp, version, base, round: 1, founding };
        let (from, body) = (id(200), Message::AuthorityAsk(ask).to_bytes());
        self.give(on, Input::Message { from, body });
    }

    pub(in crate::tests) fn split(&mut self, part: &[usize]) {
        self.note(format!("{part:?} are cut off"));
        for a in 0..self.hosts.len() {
            for b in 0..a {
                if part.contains(&a) != part.contains(&b) {
                    self.cut(a, b);
                }
            }
        }
    }

    pub(in crate::tests) fn heal(&mut self) {
        self.note("healed".to_owned());
        self.deaf.clear();
        let cuts: Vec<_> = std::mem::take(&mut self.cuts).into_iter().collect();
        for (a, b) in cuts {
            self.find_later(a, b);
        }
    }

    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn look_later(&mut self, to: usize, of: usize) {
        let at = self.now + SILENCE;
        self.push(at, Event_::Look(to, of));
    }

    pub(super) fn meet(&mut self, a: usize, b: usize) {
        if a != b {
            let at = self.now + Duration::from_millis(self.rng.within(5..100));
            self.push(at, Event_::Look(a, b));
            self.push(at, Event_::Look(b, a));
        }
    }

    pub(in crate::tests) fn pause(&mut self, on: usize) {
        self.note(format!("{on} stalls"));
        self.hosts[on].paused = true;
    }

    pub(in crate::tests) fn resume(&mut self, on: usize) {
        self.note(format!("{on} goes on"));
        self.hosts[on].paused = false;
        let backlog: Vec<_> = self.hosts[on].backlog.drain(..).collect();
        for event in backlog {
            self.push(self.now, event);
        }
    }
}
