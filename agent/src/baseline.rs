//! Whether this node does well enough to manage (DVM-9, 10): until health is measured, three facts.
//!
//! * *Reachable*: its name is its own, so that others take its word. Whether they hear it they see
//!   themselves: who is not present is asked to be nothing, and who does not catch up becomes
//!   nothing.
//! * *Disk writable*: the last thing that was to be kept was kept.
//! * *Clock sane*: the wall clock is not behind what it showed in an earlier life, nor before this
//!   node's certificate was made, by more than the CA's clock may be ahead. A wall clock that is
//!   ahead itself cannot be told from one that was right after a long stop or a sleep; what is over
//!   by it is a problem that is shown.
//!
//! What is wrong holds the node at once; it is well again when nothing was wrong for a while, so
//! that a disk at its limit does not make offices come and go.

use std::time::Duration;

use skep_base::{Time, WallTime};
use skep_control::api::EventKind;
use skep_node::Input;

use crate::problems::CLOCK_BEHIND;
use crate::spine::Spine;

/// Who was not well is well when nothing was wrong for so long.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// What may be wrong with the clock.
const BEHIND_ITSELF: &str = "its wall clock is behind what it showed before";
const BEFORE_CERTIFICATE: &str = "its wall clock is before its certificate was made";
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the managers were told.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    /// What the wall clock showed in an earlier life.
    pub(crate) noted: WallTime,
    looked: Option<Time>,
    /// What they were told is wrong.
    told: Option<&'static str>,
    /// Since when nothing is, while they think that something is.
    well_since: Option<Time>,
}

/// What managers are to be told, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Nothing,
    Wrong(&'static str),
    Well,
}

impl Baseline {
    fn weigh(&mut self, now: Time, wrong: Option<&'static str>) -> Tell {
        let Some(wrong) = wrong else {
            if self.told.is_none() {
                return Tell::Nothing;
            }
            let since = *self.well_since.get_or_insert(now);
            if now.since(since) < WELL_AFTER {
                return Tell::Nothing;
            }
            (self.told, self.well_since) = (None, None);
            return Tell::Well;
        };
        self.well_since = None;
        if self.told.is_some() {
            return Tell::Nothing;
        }
        self.told = Some(wrong);
        Tell::Wrong(wrong)
    }
}

/// What is wrong with a wall clock that shows `wall`, which in an earlier life showed `noted`, on a
/// node whose certificate was made at `made`.
fn clock_fault(wall: WallTime, noted: WallTime, made: WallTime) -> Option<&'static str> {
    if wall < noted {
        Some(BEHIND_ITSELF)
    } else if made.since(wall) > CLOCK_BEHIND {
        Some(BEFORE_CERTIFICATE)
    } else {
        None
    }
}

impl Spine {
    fn what_is_wrong(&self) -> Option<&'static str> {
        let made = self.identity.current().info().not_before;
        if self.duplicate.is_some() {
            Some("another live process holds its name")
        } else if self.disk_trouble.is_some() {
            Some("its disk takes no writes")
        } else {
            clock_fault(self.clock.wall(), self.baseline.noted, made)
        }
    }

    /// Tells the managers when this node is not well any more, or is again.
    pub(crate) fn look_at_baseline(&mut self) {
        let now = self.clock.now();
        if self.baseline.looked.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return;
        }
        self.baseline.looked = Some(now);
        let wrong = self.what_is_wrong();
        let (well, why) = match self.baseline.weigh(now, wrong) {
            Tell::Nothing => return,
            Tell::Well => (true, "nothing is wrong any more"),
            Tell::Wrong(why) => (false, why),
        };
        let what = if well {
            "this node is well again and may manage".to_owned()
        } else {
            format!("this node manages nothing until it is well: {why}")
        };
        tracing::info!("{what}");
        self.note(EventKind::Managers { what });
        let why = why.to_owned();
        self.take(Input::Managers(skep_managers::Input::Baseline { well, why }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dvm_10_what_is_wrong_holds_at_once_and_is_over_when_it_stays_over() {
        let mut baseline = Baseline::default();
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        assert_eq!(
            baseline.weigh(at(1), None),
            Tell::Nothing,
            "it is well until something is wrong"
        );
        assert_eq!(baseline.weigh(at(2), Some("disk")), Tell::Wrong("disk"));
        assert_eq!(baseline.weigh(at(3), Some("disk")), Tell::Nothing, "it was said");
        // A disk that takes a write now and then is not well.
        for second in 4..60 {
            let wrong = (second % 10 == 0).then_some("disk");
            assert_eq!(baseline.weigh(at(second), wrong), Tell::Nothing, "{second}");
        }
        assert_eq!(baseline.weigh(at(60), None), Tell::Nothing);
        assert_eq!(baseline.weigh(at(81), None), Tell::Well);
        assert_eq!(baseline.weigh(at(82), None), Tell::Nothing);
        assert_eq!(baseline.weigh(at(83), Some("clock")), Tell::Wrong("clock"));
    }

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    /// When the certificate was made.
    const MADE: u64 = 1_800_000_000_000;

    /// So many milliseconds after the certificate was made.
    fn wall(after_ms: i64) -> WallTime {
        WallTime::from_unix_ms(MADE.saturating_add_signed(after_ms))
    }

    #[test]
    fn dvm_10_a_clock_is_sane_unless_it_shows_what_was_before() {
        let fresh = WallTime::default();
        let noted = wall(30 * DAY);
        let table = [
            ("a first start", wall(HOUR), fresh, None),
            ("right after an earlier life", wall(30 * DAY), noted, None),
            ("forward by a year: as after a long stop", wall(395 * DAY), noted, None),
            (
                "back by a millisecond, behind an earlier life",
                wall(30 * DAY - 1),
                noted,
                Some(BEHIND_ITSELF),
            ),
            ("back by a day", wall(29 * DAY), noted, Some(BEHIND_ITSELF)),
            (
                "back by a day in this life, and not behind the one before",
                wall(31 * DAY),
                noted,
                None,
            ),
            (
                "slow: a little before the certificate of a CA that is ahead",
                wall(-5 * MINUTE),
                fresh,
                None,
            ),
            ("more than a little", wall(-5 * MINUTE - 1), fresh, Some(BEFORE_CERTIFICATE)),
            ("no battery: the host begins in 1970", fresh, fresh, Some(BEFORE_CERTIFICATE)),
            ("no battery, after an earlier life", fresh, noted, Some(BEHIND_ITSELF)),
            (
                "renewed in this life by a CA that is a day ahead: this one may be wrong",
                wall(-DAY),
                wall(-2 * DAY),
                Some(BEFORE_CERTIFICATE),
            ),
        ];
        for (what, wall, noted, fault) in table {
            let made = WallTime::from_unix_ms(MADE);
            assert_eq!(clock_fault(wall, noted, made), fault, "{what}");
        }
    }

    /// A clock that runs at another speed, that is set right a little at a time, or that went on
    /// while the host slept is sane at every look.
    #[test]
    fn a_clock_that_drifts_or_sleeps_is_sane_all_the_time() {
        let noted = wall(30 * DAY);
        for (what, second_ms) in [("slow", 990), ("right", 1000), ("fast", 1010)] {
            let mut shows = 30 * DAY;
            for second in 0..86_400 {
                // Each hour it sleeps for eight, or is set right by what it lost or won.
                if second % 3600 == 3599 {
                    shows +=
                        if second % 7200 == 3599 { 8 * HOUR } else { 3600 * (1000 - second_ms) };
                }
                shows += second_ms;
                assert_eq!(clock_fault(wall(shows), noted, wall(0)), None, "{what} at {second}");
            }
        }
    }
}
