//! The machine: its state, and which handler an input goes to.

use skep_base::{NodeId, Outbox, Rng, Time};

use crate::config::Config;
use crate::event::{Eligibility, Input, Output};
use crate::id::Role;
use crate::stored::{CorruptStore, Restored, State};
use crate::view::View;

/// Who this node is, as far as its managers must know.
#[derive(Clone, Copy, Debug)]
pub struct Me {
    /// From the certificate.
    pub id: NodeId,
    /// What it may become.
    pub eligible: Eligibility,
    /// What it has to spare, 0 to 1000.
    pub resources: u16,
}

/// The managers of one node.
pub struct Managers {
    me: Me,
    config: Config,
    rng: Rng,
    state: State,
}

impl Managers {
    /// The managers of `me`, as they were when `restored` was written.
    ///
    /// # Errors
    /// [`CorruptStore`] when it cannot have been: the node must not start.
    pub fn new(
        me: Me,
        config: Config,
        restored: Restored,
        rng: Rng,
        now: Time,
    ) -> Result<Self, CorruptStore> {
        let read = restored.read(me.id)?;
        let _unused = (now, read.image, read.entries);
        Ok(Self { me, config, rng, state: read.state })
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, _now: Time, _input: Input, _out: &mut Outbox<Output>) {}

    /// When [`Managers::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }

    /// Lets time pass.
    pub fn tick(&mut self, _now: Time, _out: &mut Outbox<Output>) {}

    /// Asserts what must hold between calls.
    pub fn check(&self) {
        let _unused = (&self.config, &self.rng);
    }

    /// What `skep flock` shows.
    #[must_use]
    pub fn status(&self, _now: Time) -> View {
        let role = if self.me.eligible == Eligibility::No { Role::Host } else { Role::Eligible };
        View { role, flock: None, waits: Vec::new(), seen: self.state.seen, others: Vec::new() }
    }
}
