//! Who may manage the flock, and with which timers.

use skep_managers::{Config, Eligibility};

use super::{Build, any, positive};
use crate::config::high::Managers;
use crate::config::low;
use crate::config::units::Span;
use crate::config::values::{Eligible, Profile};
use crate::split::Split;

impl Build<'_> {
    pub(super) fn managers(&mut self, low: low::Managers) -> Managers {
        let eligible = self.take("managers.eligible", low.eligible, Eligible::Yes, any);
        let profile = self.take("managers.profile", low.profile, Profile::Skep, any);
        let base = match profile {
            Profile::Skep => Config::default(),
            Profile::Documents => Config::documents(),
        };
        let resources = self.take_optional("managers.resources", low.resources, None, of_all);
        let mut span = |key, low: low::Maybe<Span>, default| self.span(key, low, default, positive);
        let timers = Config {
            backup_silent: span("managers.backup_silent", low.backup_silent, base.backup_silent),
            backup_reached: span(
                "managers.backup_reached",
                low.backup_reached,
                base.backup_reached,
            ),
            given_up: span("managers.given_up", low.given_up, base.given_up),
            alone: span("managers.alone", low.alone, base.alone),
            orphaned: span("managers.orphaned", low.orphaned, base.orphaned),
            orphaned_holding: span(
                "managers.orphaned_holding",
                low.orphaned_holding,
                base.orphaned_holding,
            ),
            min_stay: span("managers.min_stay", low.min_stay, base.min_stay),
            better_for: span("managers.better_for", low.better_for, base.better_for),
            solitude: span("managers.solitude", low.solitude, base.solitude),
            ..base
        };
        let split = self.take("managers.split", low.split, Split::default(), any);
        self.belt("managers", timers.validate().map_err(|error| error.to_string()));
        let by_certificate = eligible == Eligible::Certificate;
        let eligible = match eligible {
            Eligible::Yes | Eligible::Certificate => Eligibility::Eligible,
            Eligible::No => Eligibility::No,
            Eligible::Witness => Eligibility::Witness,
        };
        let resources = resources.and_then(|resources| u16::try_from(resources).ok());
        Managers { eligible, by_certificate, resources, timers, split }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "a check is handed a reference")]
fn of_all(resources: &u32) -> Result<(), &'static str> {
    (*resources <= 1000).then_some(()).ok_or("must be at most 1000, which is all")
}
