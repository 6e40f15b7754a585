//! How a history becomes strong: by a founding token, which its host has checked and destroyed.
//!
//! A token names a *founding number*. The master of any history that has a lower one, and none
//! above it was seen, takes it: its history is strong under that number from a decided entry on.
//! That happens in two steps, so that a token is used once whatever is killed: first the master
//! says for which history it wants it; whoever has the token destroys it, durably, for that history
//! alone; then the number is given, to whoever is master of *that* history by then, as often as it
//! takes. Of a history one log is decided, and a fork of it is another history, which drops what
//! was not decided: so one history has the number. Killed between, the token is lost and the flock
//! stays weak: the CA signs the next number.
//!
//! A higher number ends all promises under lower ones: a node that has seen one gives nothing under
//! a lower one ever again, and a master that hears of one has no strict authority any more.

use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::event::{Event, Output, Refusal, Token};
use crate::id::{Founding, Lineage};
use crate::machine::Managers;
use crate::stored::Record;

/// A flock of one that never acknowledged anything may be about to end in another: it takes no
/// token before it has mastered alone for so long.
const ALONE: Duration = Duration::from_secs(10);
/// How far above the highest founding number seen another may be that somebody announces: nobody
/// founds a bloc again that often, and a liar shall not use the numbers up.
const MAX_JUMP: u64 = 1024;

/// What comes of a founding number that a master is offered or given.
enum Taken {
    /// It would be taken for this history.
    Wanted(Lineage),
    /// This history has it.
    Done,
}

impl Managers {
    /// Somebody has a founding token (`of` is nothing), or had one and has destroyed it for the
    /// history `of`.
    pub(crate) fn strengthen(
        &mut self,
        now: Time,
        token: Token,
        (number, of): (Founding, Option<Lineage>),
        out: &mut Outbox<Output>,
    ) {
        out.push(match self.take_founding(now, number, of) {
            Ok(Taken::Wanted(lineage)) => Output::Wanted { token, lineage },
            Ok(Taken::Done) => Output::Done { token },
            Err(why) => Output::Refused { token, why },
        });
    }

    fn take_founding(
        &mut self,
        now: Time,
        number: Founding,
        of: Option<Lineage>,
    ) -> Result<Taken, Refusal> {
        self.may_decide()?;
        let not_yet = |why| Err(Refusal::NotYet { why });
        let (Some(group), Some(mastership)) = (&self.group, &self.mastership) else {
            return Err(Refusal::NotMaster { master: None });
        };
        let (lineage, known) = (group.meta.lineage, self.state.founding.max(group.meta.founding));
        if of == Some(lineage) && group.meta.strong && group.meta.founding == number {
            return Ok(Taken::Done);
        }
        if number <= known {
            return Err(Refusal::Spent { number, known });
        }
        if of.is_some_and(|of| of != lineage) {
            return not_yet("the history that the token was destroyed for has no master here");
        }
        if mastership.roster_proposed.is_some_and(|at| at > group.applied.0) {
            return not_yet("the roster changes just now");
        }
        if self.lease(now).is_none() || mastership.transfer.is_some() {
            return not_yet("the master has no lease now");
        }
        if of.is_none() {
            let alone = self.roster_there(group) < 2 && !group.meta.acknowledged;
            if alone && now.since(mastership.since) < ALONE {
                return not_yet("the flock is this one node, and may be about to join another");
            }
            return Ok(Taken::Wanted(lineage));
        }
        let roster = self.roster_that_stays();
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return Err(Refusal::NotMaster { master: None });
        };
        // Nobody enters or leaves the roster until it is decided: after that strictly only.
        mastership.roster_proposed = group.engine.propose(&Record::Founding { number, roster });
        not_yet("it is being decided")
    }

    /// Who is there, and who votes or learns: whoever was lost for ever is no part of the majority
    /// that strict authority needs.
    fn roster_that_stays(&self) -> Vec<NodeId> {
        let Some(group) = &self.group else {
            return Vec::new();
        };
        let stays = |node: &NodeId| {
            let present = self.nodes.get(node).is_some_and(|known| known.present);
            present || *node == self.me.id || group.raft_of(*node).is_some()
        };
        group.meta.roster.iter().map(|place| place.node).filter(stays).collect()
    }

    /// A founding number was decided. Its master says so: others read the log more than once.
    pub(crate) fn founded(&mut self, founding: Founding, out: &mut Outbox<Output>) {
        self.saw_founding(founding);
        if let Some(lineage) = self.history_of().filter(|_| self.is_master()) {
            out.push(Output::Event(Event::Strengthened { lineage, founding }));
        }
    }

    /// Somebody's flock is strong under this number, or was.
    pub(crate) fn heard_of_founding(&mut self, founding: Founding) {
        if founding.0 <= self.state.founding.0.saturating_add(MAX_JUMP) {
            self.saw_founding(founding);
        }
    }

    pub(crate) fn saw_founding(&mut self, founding: Founding) {
        if founding > self.state.founding {
            self.state.founding = founding;
            self.state_changed = true;
        }
    }

    /// Whether this node's history is strong, and nobody was founded under a higher number.
    pub(crate) fn descends(&self) -> bool {
        let meta = self.group.as_ref().map(|group| &group.meta);
        meta.is_some_and(|meta| meta.strong && meta.founding >= self.state.founding)
    }
}
