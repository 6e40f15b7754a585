//! What a node is in its flock, and why that changed (DVM-2 to 4, 10, 21).
//!
//! A role is never set: it follows from what the node has, holds and hears, and is looked at after
//! each step. Whoever makes it another leaves the cause with [`Managers::because`]. That cause is
//! for this step alone: one that changed no role is dropped with it, so that none is told of a
//! later change. Of a change that nobody left a cause for, the node's own state is the reason.

use skep_base::{Outbox, Time};

use crate::event::{Eligibility, Event, Output};
use crate::id::Role;
use crate::machine::Managers;

/// Its managers may not write, and so are nothing.
const NO_DISK: &str = "its disk takes nothing";
/// What it had to hand over stays with it, for now.
const NOT_TAKEN: &str = "nobody takes over what it holds";

impl Managers {
    /// Says why the role changes in this step, if it does. Of several the last counts.
    pub(crate) fn because(&mut self, cause: &'static str) {
        self.cause = Some(cause);
    }

    fn role_now(&self) -> Role {
        // Who may be nothing any more is what it is until others took its place.
        if self.me.eligible == Eligibility::No && self.group.is_none() {
            return Role::Host;
        }
        if self.disk.failed.is_some() {
            return Role::Holding;
        }
        let Some(group) = &self.group else {
            return if self.well { Role::Eligible } else { Role::Holding };
        };
        if self.is_retired() {
            Role::Retired
        } else if self.boot.is_some() {
            Role::Holding
        } else if self.is_master() {
            Role::Master
        } else if !group.is_voter() {
            Role::Eligible
        } else if self.giver.is_some() {
            Role::Holding
        } else if self.lonely.is_some() {
            Role::SemiMaster
        } else {
            Role::Backup
        }
    }

    /// Tells of a role that this step made another, and ends the step.
    pub(crate) fn tell_role(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (from, to) = (self.role, self.role_now());
        // Who holds does so by what it has or lacks, whatever else came to an end in this step.
        let starts = from == Role::Host && self.boot.is_some();
        let cause = self.cause.take().filter(|_| to != Role::Holding || starts);
        if from == to {
            return;
        }
        self.role = to;
        let why = cause.unwrap_or_else(|| self.reason(now, from, to));
        out.push(Output::Event(Event::RoleChanged { from, to, why }));
    }

    /// Why the role is another now, by what there is now.
    fn reason(&self, now: Time, from: Role, to: Role) -> &'static str {
        match (from, to) {
            (_, Role::Host) => "it is not eligible any more",
            (Role::Host, Role::Eligible) => "it is eligible now",
            (Role::Holding, Role::Eligible) if self.group.is_none() => "its baseline is well again",
            (Role::Holding, Role::Eligible) => "it is a learner",
            (_, Role::Eligible) => "it was demoted",
            (_, Role::Master) => "it was elected",
            (Role::Holding, Role::SemiMaster) => NOT_TAKEN,
            (_, Role::SemiMaster) => "it has heard no master for too long",
            (_, Role::Holding) if self.disk.failed.is_some() => NO_DISK,
            (Role::Retired, Role::Holding) => "it meets others again",
            (_, Role::Holding) if self.giver.is_some() => "it hands over what it holds",
            (_, Role::Holding) if self.boot.is_some() => "nobody has confirmed it yet",
            (_, Role::Holding) => "its baseline is not well",
            (_, Role::Retired) => "it met nobody for too long",
            (Role::Host | Role::Eligible, Role::Backup) => "it was promoted",
            (_, Role::Backup) if self.leads() => "it was elected, and its first stamp is awaited",
            (_, Role::Backup) if self.is_led(now) => "it hears a master again",
            (_, Role::Backup) => NOT_TAKEN,
        }
    }

    /// Whether the engine leads here, its first stamp decided or not.
    fn leads(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.engine.leads())
    }

    /// Why a mastership ends that nobody ended.
    pub(crate) fn why_deposed(&self) -> &'static str {
        let handed = self.mastership.as_ref().is_some_and(|it| it.lease_given_up);
        let leader = self.group.as_ref().and_then(|group| group.engine.leader());
        match leader {
            _ if handed => "it handed over",
            Some(_) if self.leads() => "it was elected again, and its first stamp is awaited",
            Some(_) => "another was elected",
            None => "it lost its majority, or another stands for election",
        }
    }
}
