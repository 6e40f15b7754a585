//! One computation of a topology, ready to be carried out somewhere else: on another thread, by an
//! external command, or at once in the simulator.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use skep_base::{Digest, GroupName, NodeName};
use skep_estimates::Costs;
use skep_topology::adoption::{Answer, Wanted};
use skep_topology::computed::generator::{Question, accept};
use skep_topology::computed::{
    self, Change, Effort, Known, Margin, Measured, Place, Problem, Site, Topology, Weights,
};

/// Links that a node holds at most, over all its groups together: what a watch record has room for,
/// twice over, so that old and new neighbours fit while an overlay changes.
pub const MAX_LINKS: u16 = 60;
/// Groups of up to so many members show an external command every pair; larger ones what was
/// measured, and what must be known.
const ALL_PAIRS_UP_TO: usize = 300;

/// What is to be computed, and everything that is known for it.
#[derive(Clone, Debug)]
pub struct Job {
    wanted: Wanted,
    names: Vec<NodeName>,
    sites: Vec<Site>,
    prices: Prices,
    seed: u64,
}

/// Estimates as the computation asks for them.
#[derive(Clone, Debug)]
pub(crate) struct Prices {
    estimates: Costs,
    /// Pairs that cannot meet, and those that are linked for everybody.
    known: Known,
}

impl Prices {
    /// What `estimates` say of `n` members, any two of which may meet.
    pub(crate) fn new(estimates: Costs, n: usize) -> Self {
        Self { estimates, known: Known::new(n) }
    }
}

impl computed::Costs for Prices {
    fn measured(&self, a: usize, b: usize) -> Option<Measured> {
        let measurement = self.estimates.measurement(a, b)?;
        Some(Measured {
            rtt_us: measurement.rtt_us,
            deviation_us: measurement.deviation_us,
            bandwidth: (measurement.rate_kib > 0).then(|| u64::from(measurement.rate_kib) * 1024),
        })
    }

    fn predicted(&self, a: usize, b: usize) -> Option<u32> {
        let (rtt, _) = self.estimates.rtt(a, b)?;
        Some(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX))
    }

    fn may_meet(&self, a: usize, b: usize) -> bool {
        self.known.may_meet(a, b)
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        self.known.is_linked(a, b)
    }
}

impl Job {
    /// `wanted`, with the names of its members and what is known of them. `shared` names, by index,
    /// pairs that are linked for everybody.
    pub(crate) fn new(
        wanted: Wanted,
        names: Vec<NodeName>,
        estimates: Costs,
        shared: &[(usize, usize)],
        seed: u64,
    ) -> Self {
        let mut prices = Prices::new(estimates, wanted.members.len());
        let (estimates, known) = (&prices.estimates, &mut prices.known);
        let mut sites: Vec<Site> = wanted.members.iter().map(|id| Site::new(*id)).collect();
        for (at, site) in sites.iter_mut().enumerate() {
            let degrees = estimates.place(at).map(skep_estimates::Place::degrees);
            site.place = degrees.and_then(|(lat, long)| Place::new(lat, long));
        }
        for (a, b) in shared {
            known.link(*a, *b);
            for end in [*a, *b] {
                if let Some(site) = sites.get_mut(end) {
                    site.links_elsewhere += 1;
                }
            }
        }
        for (a, b) in estimates.apart() {
            known.keep_apart(a, b);
        }
        for (a, b) in &wanted.apart {
            let place = |id| wanted.members.binary_search(id).ok();
            if let (Some(a), Some(b)) = (place(a), place(b)) {
                known.keep_apart(a, b);
            }
        }
        Self { wanted, names, sites, prices, seed }
    }

    /// For which group.
    #[must_use]
    pub const fn group(&self) -> &GroupName {
        &self.wanted.group
    }

    /// Names the answer.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.wanted.job
    }

    /// How many members there are.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.sites.len()
    }

    /// A digest of all that is asked: an equal question has an equal answer, which need not be
    /// looked for again.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let estimates = self.prices.estimates.digest();
        let mut rest = Vec::new();
        for id in &self.wanted.members {
            rest.extend_from_slice(id.as_bytes());
        }
        for (a, b) in &self.wanted.apart {
            rest.extend_from_slice(a.as_bytes());
            rest.extend_from_slice(b.as_bytes());
        }
        for site in &self.sites {
            rest.extend_from_slice(&site.links_elsewhere.to_le_bytes());
        }
        let settled: &[u32] = match &self.wanted.margin {
            Margin::Settling => &[],
            Margin::Settled(rtts) => rtts,
        };
        rest.extend(settled.iter().flat_map(|rtt| rtt.to_le_bytes()));
        Digest::of_parts(&[&estimates.0, &rest])
    }

    /// The topology that stands, as an answer, where it is one for these very members.
    #[must_use]
    pub fn standing(&self) -> Option<Answer> {
        let standing = self.wanted.standing.as_deref()?;
        (standing.members() == self.wanted.members).then(|| self.answer(standing.clone(), true))
    }

    /// Computes: seconds, for a thousand members.
    ///
    /// # Errors
    /// Why there is no topology, in words.
    pub fn run(&self) -> Result<Answer, String> {
        let effort = Effort::for_sites(self.sites.len());
        let problem = self.problem();
        let outcome = match &self.wanted.standing {
            Some(standing) => {
                let margin = &self.wanted.margin;
                computed::improve(&problem, standing, margin, effort, self.seed)
            }
            None => computed::compute(&problem, effort, self.seed),
        };
        let outcome = outcome.map_err(|flaw| flaw.to_string())?;
        Ok(self.answer(outcome.topology, outcome.change == Change::Kept))
    }

    /// What an external command is asked (FLOOD-30).
    #[must_use]
    pub fn question(&self) -> String {
        let n = self.sites.len();
        let pairs: Vec<(usize, usize)> = if n <= ALL_PAIRS_UP_TO {
            (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect()
        } else {
            // Who may not be joined, and who is joined already, is told of any pair.
            let Prices { estimates, known } = &self.prices;
            let pairs: BTreeSet<(usize, usize)> = estimates.pairs().chain(known.pairs()).collect();
            pairs.into_iter().collect()
        };
        let question = Question {
            group: &self.wanted.group,
            names: &self.names,
            problem: &self.problem(),
            pairs: &pairs,
            previous: self.wanted.standing.as_deref(),
        };
        question.text()
    }

    /// What a command's answer is worth: it is judged as one of our own would be.
    ///
    /// # Errors
    /// Why it is not used, in words.
    pub fn accept(&self, answer: &[u8]) -> Result<Answer, String> {
        let accepted = accept(&self.problem(), &self.names, answer);
        let topology = accepted.map_err(|unfit| match core::error::Error::source(&unfit) {
            Some(flaw) => alloc::format!("{unfit}: {flaw}"),
            None => unfit.to_string(),
        })?;
        let kept = self.wanted.standing.as_deref() == Some(&topology);
        Ok(self.answer(topology, kept))
    }

    fn answer(&self, topology: Topology, kept: bool) -> Answer {
        let rtts = computed::round_trips(&self.problem(), &topology);
        Answer { topology, kept, rtts }
    }

    fn problem(&self) -> Problem<'_, Prices> {
        Problem {
            sites: &self.sites,
            costs: &self.prices,
            k: self.wanted.k,
            degree_bound: MAX_LINKS,
            weights: Weights::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn id(at: usize) -> skep_base::NodeId {
        skep_base::NodeId::from_bytes(u128::try_from(at + 1).unwrap_or(0).to_be_bytes())
    }

    /// A flock of `n`, of which nothing was measured.
    fn job(n: usize, apart: (usize, usize), shared: &[(usize, usize)]) -> Job {
        let wanted = Wanted {
            group: GroupName::all(),
            job: 1,
            members: (0..n).map(id).collect(),
            standing: None,
            margin: Margin::Settling,
            k: 2,
            apart: alloc::vec![(id(apart.0), id(apart.1))],
        };
        let names = (0..n).map(|at| format!("s{at}").parse().unwrap()).collect();
        let nothing = Costs::new(&wanted.members, &|_: skep_base::NodeId| None);
        Job::new(wanted, names, nothing, shared, 7)
    }

    /// What a command is told of pairs.
    fn told(n: usize) -> Vec<String> {
        let text = job(n, (n - 2, 0), &[(n - 2, n - 1), (1, n - 1)]).question();
        let lines = text.lines().filter(|line| !line.starts_with("site "));
        lines.filter(|line| line.split(' ').count() == 3).map(Into::into).collect()
    }

    #[test]
    fn a_command_is_told_of_every_pair_that_matters_however_large_the_group() {
        for n in [6, ALL_PAIRS_UP_TO, ALL_PAIRS_UP_TO + 1] {
            let (before, last) = (n - 2, n - 1);
            let expected = [
                format!("apart s0 s{before}"),
                format!("shared s1 s{last}"),
                format!("shared s{before} s{last}"),
            ];
            assert_eq!(told(n), expected, "in the order of sites");
        }
    }

    #[test]
    fn an_answer_that_joins_who_cannot_meet_is_refused() {
        let n = 5;
        let edge = |at: usize| format!("edge s{at} s{}", (at + 1) % n);
        let answer: Vec<String> = (0..n).map(edge).collect();
        let answer = format!("topology-generator 1\n{}\nend\n", answer.join("\n"));
        for (apart, used) in [((0, 2), true), ((0, 1), false)] {
            let job = job(n, apart, &[]);
            assert_eq!(job.accept(answer.as_bytes()).is_ok(), used, "{apart:?} cannot meet");
        }
    }
}
