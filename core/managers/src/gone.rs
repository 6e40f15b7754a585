//! The short way to the next master (scenario 4; DVM-25, 26): the old one's process is gone for
//! both backups, or it says itself that it hands over. Nobody waits for a time-out then.
//!
//! Who still writes what the old master sent last cannot stand: its log is not yet what it says. It
//! stands when the last of these writes is done, which is a matter of milliseconds.

use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::event::Output;
use crate::id::{ForkId, Lineage};
use crate::machine::Managers;
use crate::message::{Engine as Packet, Message};

/// Between the two backups that both see the master's process gone.
const COURTESY: Duration = Duration::from_millis(150);
/// How long another backup's word that the master is gone is good for, and a call to stand.
const WORD: Duration = Duration::from_secs(1);

/// What the managers know of a master that is gone.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// Since when the master's process is gone.
    pub(crate) since: Option<Time>,
    /// When the other backup was last asked.
    asked: Option<Time>,
    /// Another backup asked before this node saw it.
    question: Option<(NodeId, About, Time)>,
    /// This node shall stand when its disk is done, if that is soon.
    call: Option<(Call, Time)>,
}

/// Of which history, term and master something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) of: (Lineage, ForkId),
    pub(crate) term: u64,
    pub(crate) master: NodeId,
}

/// Why to stand.
#[derive(Debug)]
enum Call {
    /// The master asks for it.
    Told { packet: Packet, from: NodeId },
    /// It is gone, as this other backup says too.
    Agreed { with: NodeId, about: About },
}

impl Managers {
    /// The master's process is gone: the other backup is asked whether it sees that too.
    pub(crate) fn master_gone(&mut self, now: Time, out: &mut Outbox<Output>) {
        let Some(about) = self.gone_master() else {
            self.gone.since = None;
            return;
        };
        let Some(group) = self.group.as_ref().filter(|group| group.is_voter()) else {
            return;
        };
        let since = *self.gone.since.get_or_insert(now);
        let me = self.me.id;
        let mut others = group.voters();
        others.retain(|node| *node != me && *node != about.master);
        if let Some((from, _, _)) =
            self.gone.question.take_if(|(_, asked, until)| *asked == about && now < *until)
        {
            self.confirm_gone(now, from, about, out);
        }
        let first = others.iter().all(|other| me < *other);
        let due = since + if first { Duration::ZERO } else { COURTESY };
        let asked = self.gone.asked.is_some_and(|at| now.since(at) < COURTESY * 2 && at >= since);
        if now < due || asked {
            return;
        }
        self.gone.asked = Some(now);
        let About { of: (lineage, fork), term, master } = about;
        for node in others {
            self.send(node, &Message::Gone { lineage, fork, term, master }, out);
        }
    }

    /// The leader, when no process listens where it did.
    fn gone_master(&self) -> Option<About> {
        let group = self.group.as_ref().filter(|_| self.boot.is_none())?;
        let master = group.node_of(group.engine.leader()?)?;
        let gone = self.nodes.get(&master).is_some_and(|known| known.refused && !known.linked);
        let of = (group.meta.lineage, group.meta.fork);
        gone.then_some(About { of, term: group.engine.term(), master })
    }

    pub(crate) fn gone_asked_of_us(
        &mut self,
        now: Time,
        from: NodeId,
        about: About,
        out: &mut Outbox<Output>,
    ) {
        let voter = self.group.as_ref().is_some_and(|group| {
            about.of == (group.meta.lineage, group.meta.fork) && group.voters().contains(&from)
        });
        if !voter {
            return;
        }
        if self.gone_master() == Some(about) {
            self.confirm_gone(now, from, about, out);
        } else {
            // It may be seen here in a moment.
            self.gone.question = Some((from, about, now + COURTESY));
        }
    }

    fn confirm_gone(&mut self, now: Time, to: NodeId, about: About, out: &mut Outbox<Output>) {
        let About { of: (lineage, fork), term, master } = about;
        self.released = Some((term, now + WORD));
        self.send(to, &Message::GoneToo { lineage, fork, term, master }, out);
    }

    pub(crate) fn gone_too(&mut self, now: Time, from: NodeId, about: About) {
        let Some(group) = self.group.as_ref().filter(|_| self.boot.is_none()) else {
            return;
        };
        let of = (group.meta.lineage, group.meta.fork);
        if about.of != of || about.term != group.engine.term() {
            return;
        }
        if from == about.master {
            // Its own word: it gave the lease up, whoever stands next.
            let leader = group.engine.leader().and_then(|raft| group.node_of(raft));
            if leader == Some(about.master) {
                self.released = Some((about.term, now + self.config.election_max));
            }
        } else if self.gone_master() == Some(about) && group.voters().contains(&from) {
            self.gone.call = Some((Call::Agreed { with: from, about }, now + WORD));
            self.stand_if_called(now);
        }
    }

    /// The leader asks this node to stand.
    pub(crate) fn told_to_stand(&mut self, now: Time, from: NodeId, packet: &Packet) {
        let call = Call::Told { packet: packet.clone(), from };
        self.gone.call = Some((call, now + WORD));
        self.stand_if_called(now);
    }

    /// Stands, where there is a reason that still holds and the disk is done.
    pub(crate) fn stand_if_called(&mut self, now: Time) {
        if !self.disk.is_idle() {
            return;
        }
        let Some((call, _)) = self.gone.call.take().filter(|(_, until)| now < *until) else {
            return;
        };
        let gone = self.gone_master();
        let Some(group) = self.group.as_mut().filter(|_| self.boot.is_none()) else {
            return;
        };
        match call {
            Call::Told { packet, from } => {
                let leads = group.engine.leader() == Some(packet.from);
                // One that comes late, when the term's master was not told to wait for us, is void.
                if leads && packet.term == group.engine.term() {
                    group.engine.step(&packet, from);
                }
            }
            Call::Agreed { with, about } => {
                if gone == Some(about) && group.voters().contains(&with) {
                    self.released = Some((about.term, now + WORD));
                    self.gone.since = None;
                    group.engine.stand_now();
                }
            }
        }
    }
}
