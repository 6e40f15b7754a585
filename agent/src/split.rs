//! Whether new waves start while the flock may be split.
//!
//! A flock's parts go on with what they have (flock authority). What a part *begins* is another
//! matter: two parts that roll out two images leave the operator with both. So a wave is started
//! where more than half of the roster is behind the master, or strict authority, unless the
//! configuration says otherwise; and who is refused is told what is missing.

use skep_catalog::{Granted, Wish};
use skep_control::api::{Code, Refusal, Split as Shown, StartWave, Wave};
use skep_control::{Reply, Request};
use skep_managers::{Authority, View};

use crate::catalog::Waiting;
use crate::spine::Spine;

// Machines do not know one another: that the one's orders fit what the other carries is said here.
const _: () = assert!(skep_wave::MAX_BODY_BYTES == skep_records::stamped::MAX_ORDER_BYTES);

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

    /// What is in force where the managers look like this, and whether a wave may start, as far as
    /// is known without asking.
    pub(crate) fn rule(self, view: &View) -> Shown {
        let authority = view.flock.as_ref().map(|flock| flock.authority);
        match authority.filter(|it| it.roster > 0) {
            Some(said) => self.by(said),
            None if is_of_none(view) => {
                self.shown(self, true, "no flock with a master was ever seen here".to_owned())
            }
            None => self.without("no master is known here now".to_owned()),
        }
    }

    /// The same where the master has said who of its roster is there.
    fn by(self, said: Authority) -> Shown {
        let small = said.roster <= 2;
        let in_force = if self == Self::HoldMinority && small { Self::Continue } else { self };
        self.shown(in_force, in_force.allows(said), reason(said))
    }

    /// And where it says nothing.
    fn without(self, why: String) -> Shown {
        self.shown(self, self == Self::Continue, why)
    }

    fn shown(self, in_force: Self, may_start: bool, why: String) -> Shown {
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

/// Whether nobody here, nor anybody that was met, may manage: there is nothing to be a part of.
fn is_of_none(view: &View) -> bool {
    view.flock.is_none() && view.seen.epoch.0 == 0
}

impl Spine {
    /// Starts a wave, unless this is a part of a flock that shall not. What the master announces is
    /// as old as it takes to notice a cut, so it is asked who of its roster is there now.
    pub(crate) async fn start_wave(&mut self, order: StartWave, reply: Reply<Wave>) {
        let view = self.node.management(self.clock.now());
        if self.split == Split::Continue || is_of_none(&view) {
            return self.rollout.call(Request::StartWave { order, reply });
        }
        self.wish_for(Wish::RollCall, Waiting::Wave(order, reply)).await;
    }

    /// What the master said of its roster.
    pub(crate) fn roll_called(&mut self, order: StartWave, reply: Reply<Wave>, said: Granted) {
        let ruling = match said {
            Granted::Called { roster, there, strict } => {
                // Who has strict authority is the master, which nobody looks at here.
                let holder = strict.then(|| self.node.id());
                let (roster, there) = (usize::from(roster), usize::from(there));
                self.split.by(Authority { roster, there, holder, until: None })
            }
            Granted::Refused { why, .. } => self.split.without(why),
            Granted::Decided { .. }
            | Granted::Done
            | Granted::Wanted { .. }
            | Granted::Shown(_) => {
                self.split.without("the master answered something else than was asked".to_owned())
            }
        };
        if ruling.may_start {
            tracing::info!(in_force = %ruling.in_force, why = %ruling.why, "a wave may start");
            self.rollout.call(Request::StartWave { order, reply });
        } else {
            reply.refuse(refusal(&ruling));
        }
    }
}

fn reason(it: Authority) -> String {
    let strict = if it.holder.is_some() { ", and strict authority" } else { "" };
    format!("{} of {} of the roster are there{strict}", it.there, it.roster)
}

/// What whoever may not start a wave is told.
fn refusal(ruling: &Shown) -> Refusal {
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
            weak: None,
            descends: false,
            founding: skep_managers::Founding(0),
            parent: None,
            acknowledged: true,
            master: None,
            heard: None,
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
    fn what_the_master_says_when_it_is_asked_counts_and_its_silence_holds() {
        let said = |roster, there| Authority { roster, there, holder: None, until: None };
        assert!(Split::HoldMinority.by(said(5, 3)).may_start);
        let cut_off = Split::HoldMinority.by(said(5, 2));
        assert!(!cut_off.may_start && cut_off.why.starts_with("2 of 5"), "{cut_off:?}");
        let silent = Split::HoldMinority.without("no answer".into());
        assert!(!silent.may_start && !Split::Hold.without("no answer".into()).may_start);
        assert!(refusal(&silent).message.ends_with("and no answer"));
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
