//! Whether new waves start while the flock may be split.
//!
//! A flock's parts go on with what they have (flock authority). What a part *begins* is another
//! matter: two parts that roll out two images leave the operator with both. So a wave is started
//! where more than half of the roster is behind the master, or strict authority, unless the
//! configuration says otherwise; and who is refused is told what is missing.

use skep_control::api::{Code, Refusal, Split as Shown};
use skep_managers::{Authority, View};

/// What a node does about new waves in a part of its flock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Only with more than half of the roster. A roster of one or two has no half that lives on
    /// without a node: there it is as [`Split::Continue`].
    #[default]
    HoldMinority,
    /// Always.
    Continue,
    /// Only while all of the roster are there.
    Hold,
}

impl Split {
    const fn word(self) -> &'static str {
        match self {
            Self::HoldMinority => "hold-minority",
            Self::Continue => "continue",
            Self::Hold => "hold",
        }
    }

    /// What is in force where the managers look like this, and whether a wave may start.
    pub(crate) fn rule(self, view: &View) -> Shown {
        let authority = view.flock.as_ref().map(|flock| flock.authority);
        let said = authority.filter(|it| it.roster > 0);
        let small = said.is_some_and(|it| it.roster <= 2);
        let in_force = if self == Self::HoldMinority && small { Self::Continue } else { self };
        let (may_start, why) = match said {
            Some(it) => (in_force.allows(it), reason(it)),
            // Nobody here, nor anybody that was met, may manage: there is nothing to be a part of.
            None if view.flock.is_none() && view.seen.epoch.0 == 0 => {
                (true, "no flock with a master was ever seen here".to_owned())
            }
            None => (in_force == Self::Continue, "no master is known here now".to_owned()),
        };
        Shown { policy: self.word().into(), in_force: in_force.word().into(), may_start, why }
    }

    fn allows(self, authority: Authority) -> bool {
        match self {
            Self::Continue => true,
            Self::HoldMinority => authority.is_majority() || authority.holder.is_some(),
            Self::Hold => authority.there >= authority.roster,
        }
    }
}

fn reason(it: Authority) -> String {
    let strict = if it.holder.is_some() { ", and strict authority" } else { "" };
    format!("{} of {} of the roster are there{strict}", it.there, it.roster)
}

/// What whoever may not start a wave is told.
pub(crate) fn refusal(ruling: &Shown) -> Refusal {
    let Shown { in_force, why, .. } = ruling;
    let message = format!("no new wave is started: split = {in_force}, and {why}");
    Refusal::new(Code::Refused, message).hint(
        "start it in the part that has the roster's majority, wait until the flock is whole \
         (`skep flock`), or set `managers.split = \"continue\"` on this queen",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::NodeId;
    use skep_managers::{Epoch, FlockView, ForkId, Generation, Lineage, Role, Stamp, Strength};

    fn view(authority: Authority) -> View {
        let stamp = Stamp { epoch: Epoch(3), fork: ForkId(1) };
        let flock = FlockView {
            name: "amber-finch".into(),
            lineage: Lineage(1),
            generation: Generation(1),
            stamp,
            term: 1,
            strength: Strength::Weak,
            descends: false,
            parent: None,
            acknowledged: true,
            master: None,
            backups: Vec::new(),
            learners: Vec::new(),
            sync_set: Vec::new(),
            roster: Vec::new(),
            committed: 1,
            applied: 1,
            last: 1,
            sync_version: 1,
            lease_until: None,
            master_since: None,
            authority,
        };
        let (waits, others, holding) = (Vec::new(), Vec::new(), Vec::new());
        let (role, eligible) = (Role::Host, Vec::new());
        View { role, flock: Some(flock), waits, seen: stamp, others, holding, eligible }
    }

    fn of(roster: usize, there: usize) -> View {
        view(Authority { roster, there, holder: None, until: None })
    }

    #[test]
    fn a_lesser_part_of_a_roster_starts_nothing_unless_it_is_told_to_go_on() {
        let may = |split: Split, view: &View| split.rule(view).may_start;
        assert!(may(Split::HoldMinority, &of(5, 3)) && !may(Split::HoldMinority, &of(5, 2)));
        assert!(!may(Split::HoldMinority, &of(4, 2)), "half is no majority");
        assert!(may(Split::Continue, &of(5, 1)));
        assert!(may(Split::Hold, &of(5, 5)) && !may(Split::Hold, &of(5, 4)));
        let holder = Some(NodeId::from_bytes([1; 16]));
        let strict = view(Authority { roster: 5, there: 2, holder, until: None });
        assert!(may(Split::HoldMinority, &strict), "a lease says more than a look around");
    }

    #[test]
    fn rosters_of_one_or_two_go_on() {
        let ruling = Split::HoldMinority.rule(&of(2, 1));
        assert_eq!((ruling.in_force.as_str(), ruling.may_start), ("continue", true));
        assert!(!Split::Hold.rule(&of(2, 1)).may_start, "unless they are told to hold");
    }

    #[test]
    fn without_a_master_it_holds_and_says_so_but_not_where_there_never_was_one() {
        let lost = of(0, 0);
        let ruling = Split::HoldMinority.rule(&lost);
        assert!(!ruling.may_start);
        let said = refusal(&ruling).message;
        assert!(said.contains("hold-minority") && said.contains("no master"), "{said}");
        let never = View { flock: None, seen: Stamp::default(), ..lost };
        assert!(Split::HoldMinority.rule(&never).may_start);
    }
}
