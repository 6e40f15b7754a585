//! By how much another topology must be better than the one that stands.
//!
//! One bound alone would be crossed by luck sooner or later: each computation searches anew, from
//! estimates that differ a little, so a topology that falls short of the best by about the bound
//! gives way at some time, though nothing happened. Hence two. A topology that is new gives way to
//! all that is better by [`SETTLING_PERCENT`], until nothing is; then it has *settled*, and only
//! what is better by [`MARGIN_PERCENT`] takes its place. Between the two lies what noise, luck and
//! late discoveries (a pair that is measured for the first time, and that coordinates had wrong)
//! amount to: up to 5.3 % in 160 simulated flocks of forty.
//!
//! Of a large group a single link is a small part, and no change of it would ever count so much. So
//! it is remembered what the links cost when the topology had settled; where one has become worse
//! than noise can explain, it is favoured no longer, and what makes good a quarter of the harm is
//! enough.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::costs::{Costs, Pricer};
use super::problem::Problem;
use super::topology::Topology;

/// A topology that has settled gives way to one whose objective is less by this.
pub const MARGIN_PERCENT: i128 = 10;
/// And one that is settling to one whose objective is less by this.
pub const SETTLING_PERCENT: i128 = 1;
/// What makes good one part in so many of the harm done by links that have become worse is enough.
/// Those count without favour, so what is left is often the shape of the earth.
const HARM_SHARE: i128 = 4;
/// A link whose round trip has grown by less than its half and this, in microseconds, is as it was:
/// the least of a window wanders by less, also where processes are the slower part of it.
const WORSE_US: u32 = 2_000;

/// By how much another topology must be better than the one that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Margin {
    /// By [`SETTLING_PERCENT`]: it is new, or estimates are still coming to rest.
    #[default]
    Settling,
    /// By [`MARGIN_PERCENT`], or by a quarter of what its links have become worse by since it had
    /// settled. These are their round trips at that time, in microseconds, in the order of
    /// [`Topology::edges`].
    Settled(Arc<[u32]>),
}

impl Margin {
    /// By how much the objective must fall, of `before`; `harm` is what edges that have become
    /// worse add to it.
    pub(crate) fn enough(&self, before: i64, harm: impl FnOnce() -> i64) -> i128 {
        let percent = |percent| i128::from(before) * percent / 100;
        match self {
            Self::Settling => percent(SETTLING_PERCENT),
            Self::Settled(_) => {
                let (harm, whole) = (i128::from(harm()), percent(MARGIN_PERCENT));
                if harm > 0 { whole.min(harm / HARM_SHARE) } else { whole }
            }
        }
    }

    /// Whether the edge at `at`, which takes `now` microseconds, takes longer than noise explains.
    pub(crate) fn is_worse(&self, at: usize, now: u32) -> bool {
        self.then(at, now) != now
    }

    /// What the edge at `at` took when the topology had settled, if it has become worse than noise
    /// explains; else what it takes now.
    pub(crate) fn then(&self, at: usize, now: u32) -> u32 {
        let settled = match self {
            Self::Settling => None,
            Self::Settled(rtts) => rtts.get(at).copied(),
        };
        let worse = |then: &u32| now.saturating_sub(*then) > *then / 2 + WORSE_US;
        settled.filter(worse).unwrap_or(now)
    }
}

/// The round trip of each edge of `topology`, in their order, in microseconds: as measured, or as
/// predicted where nobody measured it. For [`Margin::Settled`].
#[must_use]
pub fn round_trips<C: Costs + ?Sized>(problem: &Problem<'_, C>, topology: &Topology) -> Vec<u32> {
    let pricer = Pricer::new(problem);
    let place = |at: u32| {
        let id = topology.members().get(at as usize)?;
        let found = problem.sites.binary_search_by_key(id, |site| site.id);
        found.ok().map(crate::connectivity::index)
    };
    let rtt = |(a, b): &(u32, u32)| {
        let ends = place(*a).zip(place(*b));
        ends.map_or(0, |(a, b)| pricer.round_trip(a, b))
    };
    topology.edges().iter().map(rtt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_settled_gives_way_to_more() {
        let never = || unreachable!("a topology that is settling has no past");
        assert_eq!(Margin::Settling.enough(10_000, never), 100);
        let settled = Margin::Settled(Arc::from([1, 2]));
        assert_eq!(settled.enough(10_000, || 0), 1_000);
        assert_eq!(settled.enough(10_000, || 100), 25, "a quarter of the harm");
        assert_eq!(settled.enough(10_000, || 5_000), 1_000, "but no more than ever");
    }

    #[test]
    fn noise_makes_no_edge_worse() {
        let settled = Margin::Settled(Arc::from([100, 40_000, 80_000]));
        assert!(!settled.is_worse(0, 2_000), "processes");
        assert!(!settled.is_worse(1, 61_000), "half as much again");
        assert!(settled.is_worse(1, 80_000) && settled.then(1, 80_000) == 40_000);
        assert!(!settled.is_worse(2, 40_000), "better");
        assert!(!settled.is_worse(3, 40_000) && !Margin::Settling.is_worse(1, 80_000));
    }
}
