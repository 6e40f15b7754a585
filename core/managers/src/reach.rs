//! Whether this node reaches a master of its flock: what it shows where it does not is what the
//! flock said once (DVM-17).

use skep_base::{NodeId, Time};

use crate::machine::Managers;

/// Whether a node reaches a master now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This one: the node itself under its lease, one that it heard of its log from just now, or,
    /// where it manages nothing, one that is present and says that it leads.
    Master(NodeId),
    /// None: the node is alone or nearly so, holds, has retired, or there is no master.
    Nobody {
        /// Since when, as it noticed; since it started where it never reached one.
        since: Time,
        /// Whether it reached one before, in this life of its process.
        before: bool,
    },
}

/// What was so when it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    now: bool,
    ever: bool,
    /// Since when that is so.
    since: Time,
}

impl Reached {
    /// Of a process that begins.
    pub(crate) const fn nobody(since: Time) -> Self {
        Self { now: false, ever: false, since }
    }
}

impl Managers {
    /// Whether a master is reached now.
    #[must_use]
    pub fn reach(&self, now: Time) -> Reach {
        let Reached { now: until_now, ever, since } = self.reached;
        match self.reached_master(now) {
            Some(master) => Reach::Master(master),
            // Nothing happened since: a lease that ran out, or a process that stood still.
            None if until_now => Reach::Nobody { since: now, before: true },
            None => Reach::Nobody { since, before: ever },
        }
    }

    /// Notes whether one is.
    pub(crate) fn look_who_is_reached(&mut self, now: Time) {
        let reaches = self.reached_master(now).is_some();
        if reaches != self.reached.now {
            self.reached = Reached { now: reaches, ever: true, since: now };
        }
    }

    fn reached_master(&self, now: Time) -> Option<NodeId> {
        if self.is_master() {
            // Without its lease another may have been elected, and have decided something.
            return self.lease(now).map(|_| self.me.id);
        }
        if self.disk.failed.is_some() || self.giver.is_some() || self.is_retired() {
            return None;
        }
        let master = self.known_master()?;
        // Membership looks after those that are merely followed; a leader is heard all the time.
        let heard = || self.nodes.get(&master).and_then(|known| known.heard);
        let lately = |at| now.since(at) < self.config.election_max * 2;
        (self.group.is_none() || heard().is_some_and(lately)).then_some(master)
    }
}
