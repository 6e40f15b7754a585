//! `skep flock` on any node (BLOC-10, 11): what the master alone knows is asked of it when somebody
//! looks, and at no other time.
//!
//! A node that follows has no log and hears what the master announces. So whoever looks there has
//! the node ask the master, as any wish is carried to it; what the master does not say within a
//! moment is shown as far as this node knows it, and that it is so is said.

use skep_base::{NodeId, Time};
use skep_catalog::{Granted, Wish};
use skep_control::Reply;
use skep_control::api::{Flock, ReadFlock};
use skep_managers::{Role, Shown};

use crate::catalog::Waiting;
use crate::spine::Spine;

/// Somebody who looks at the flock and waits for what the master says.
pub(crate) struct Looking {
    asked: Time,
    reply: Reply<Flock>,
}

/// Whose word a page about the flock is.
pub(crate) enum Word {
    /// This node's own: it leads, or nobody else was to be asked.
    Own,
    /// Its own, for the master was to be asked, and did not tell.
    Untold(String),
    /// The master's.
    Told {
        /// Who that is.
        by: NodeId,
        /// What it said.
        shown: Box<Shown>,
        /// When it was asked.
        asked: Time,
    },
}

impl Spine {
    /// Shows the flock, and its management as its master says it where that is asked for.
    pub(crate) async fn look_at_flock(&mut self, query: ReadFlock, reply: Reply<Flock>) {
        let now = self.clock.now();
        let view = self.node.management(now);
        if !query.ask_master || view.role == Role::Master {
            return reply.ok(self.flock(&Word::Own));
        }
        if view.flock.and_then(|flock| flock.master).is_none() {
            return reply.ok(self.flock(&Word::Untold("no master is known here".to_owned())));
        }
        let waiting = Waiting::Look(Looking { asked: now, reply });
        self.wish_for(Wish::Look, waiting).await;
    }

    /// What came of asking the master.
    pub(crate) fn looked(&self, looking: Looking, granted: &Granted) {
        let Looking { asked, reply } = looking;
        reply.ok(self.flock(&word(granted, asked)));
    }
}

fn word(granted: &Granted, asked: Time) -> Word {
    let odd = || Word::Untold("it answered something else than was asked".to_owned());
    match granted {
        Granted::Refused { why, .. } => Word::Untold(why.clone()),
        Granted::Shown(page) => {
            let shown = Shown::from_bytes(page);
            let by = shown.as_ref().and_then(|shown| shown.flock.as_ref()?.master);
            match (by, shown) {
                (Some(by), Some(shown)) => Word::Told { by, shown: Box::new(shown), asked },
                _ => odd(),
            }
        }
        Granted::Decided { .. }
        | Granted::Done
        | Granted::Called { .. }
        | Granted::Wanted { .. } => odd(),
    }
}
