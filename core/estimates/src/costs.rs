//! Answers: one pair, or all pairs of a list of members.

use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Digest, NodeId, Time};
use skep_wire::encode;

use crate::coordinate::{Coordinate, WireCoordinate};
use crate::machine::Estimates;
use crate::place::Place;
use crate::report::{Pair, Report, ShortId, short_id};
use crate::ways::{Way, Ways};

/// Where reports of other nodes are: the node reads them from its records when it is asked, so that
/// no machine holds 10,000 of them a second time.
pub trait Reports {
    /// The report that `node` published last.
    fn report(&self, node: NodeId) -> Option<Report>;

    /// Whom `node` cannot meet, as it published last.
    fn ways(&self, node: NodeId) -> Option<Ways> {
        let _: NodeId = node;
        None
    }
}

impl<F: Fn(NodeId) -> Option<Report>> Reports for F {
    fn report(&self, node: NodeId) -> Option<Report> {
        self(node)
    }
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// One of the two measured it.
    Measured,
    /// Measured over the links of others, as neither can dial the other.
    Routed,
    /// Predicted from network coordinates.
    Coordinates,
    /// Predicted from latitude and longitude.
    Distance,
}

/// What is known of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// The round trip.
    pub rtt: Duration,
    /// How far samples were from it on average; of a prediction, by how much it may be wrong.
    pub deviation: Option<Duration>,
    /// Bytes a second, where that was measured.
    pub rate: Option<u64>,
    /// Measured or predicted.
    pub basis: Basis,
    /// Who measured it.
    pub by: Option<NodeId>,
    /// How long ago that was: of this node's own figures since the newest sample, of another's
    /// since its report came.
    pub age: Option<Duration>,
}

impl Estimates {
    /// What is known of the pair `a` and `b`; nothing where nobody knows anything, or the two are
    /// one.
    #[must_use]
    pub fn between(
        &self,
        now: Time,
        a: NodeId,
        b: NodeId,
        reports: &dyn Reports,
    ) -> Option<Between> {
        if a == b {
            return None;
        }
        let said = [self.said_by(now, a, b, reports), self.said_by(now, b, a, reports)];
        let rate = said.iter().flatten().filter_map(|said| said.rate).max();
        let least = said.into_iter().flatten().min_by_key(|said| said.rtt);
        let measured = least.map(|said| Between { rate, ..said });
        let ways = [self.way_by(now, a, b, reports), self.way_by(now, b, a, reports)];
        // Where both say that they cannot meet, what was measured was so before.
        let agreed = ways.iter().all(Option::is_some);
        let routed = ways.into_iter().flatten().min_by_key(|way| way.rtt);
        let known = if agreed { routed } else { measured.or(routed) };
        known.or_else(|| self.predicted(a, b))
    }

    /// What `by` says of the way to `of`, if it cannot meet it.
    fn way_by(&self, now: Time, by: NodeId, of: NodeId, reports: &dyn Reports) -> Option<Between> {
        let (way, at) = if by == self.me {
            self.apart.way(of).map(|(way, at)| (way, Some(at)))?
        } else {
            let way = *reports.ways(by)?.way(of)?;
            (way, self.nodes.get(&by).and_then(|node| node.ways_at))
        };
        Some(Between {
            rtt: way.rtt(),
            deviation: Some(Duration::from_micros(way.deviation_us.into())),
            rate: None,
            basis: Basis::Routed,
            by: Some(by),
            age: at.map(|at| now.since(at)),
        })
    }

    /// What `by` says of `of`.
    fn said_by(&self, now: Time, by: NodeId, of: NodeId, reports: &dyn Reports) -> Option<Between> {
        let age;
        let pair = if by == self.me {
            let measured = self.peers.get(of)?;
            let rtt = measured.rtt?;
            age = now.since(rtt.at());
            Pair {
                peer: short_id(of),
                rtt_us: rtt.least(),
                deviation_us: rtt.deviation(rtt.least()),
                rate_kib: measured.rate.map_or(0, |rate| (rate.middle() / 1024).max(1)),
            }
        } else {
            age = self.nodes.get(&by).map_or(Duration::ZERO, |node| now.since(node.at));
            *reports.report(by)?.pair(of)?
        };
        Some(Between {
            rtt: pair.rtt(),
            deviation: Some(Duration::from_micros(pair.deviation_us.into())),
            rate: pair.rate(),
            basis: Basis::Measured,
            by: Some(by),
            age: Some(age),
        })
    }

    fn predicted(&self, a: NodeId, b: NodeId) -> Option<Between> {
        let (a, b) = (self.whereabouts(a), self.whereabouts(b));
        let (rtt, basis) = predict(&a, &b)?;
        let deviation = (basis == Basis::Coordinates).then(|| {
            let error = |whereabouts: &Whereabouts| whereabouts.0.map_or(0.0, |at| at.error());
            rtt.mul_f64(error(&a).max(error(&b)))
        });
        Some(Between { rtt, deviation, rate: None, basis, by: None, age: None })
    }

    fn whereabouts(&self, node: NodeId) -> Whereabouts {
        if node == self.me {
            let coordinate = self.locator.is_placed().then_some(*self.locator.coordinate());
            return (coordinate, self.config.place);
        }
        self.nodes.get(&node).map_or((None, None), |node| (node.coordinate, node.place))
    }
}

/// Where a node is: in the network's space, on the earth.
type Whereabouts = (Option<Coordinate>, Option<Place>);

fn predict(a: &Whereabouts, b: &Whereabouts) -> Option<(Duration, Basis)> {
    if let (Some(a), Some(b)) = (&a.0, &b.0) {
        let seconds = a.distance(b).max(0.0);
        return Some((Duration::from_secs_f64(seconds), Basis::Coordinates));
    }
    let (a, b) = (a.1?, b.1?);
    Some((a.round_trip(b), Basis::Distance))
}

/// What is known of all pairs of a list of members, for whoever computes a topology. Members are
/// named by their place in the list.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    whereabouts: Vec<Whereabouts>,
    /// Measured pairs, the lesser member first, sorted.
    pairs: Vec<Measurement>,
    /// Pairs of which both say that they cannot meet, likewise, and what a message takes between
    /// them over others. They are none of `pairs`.
    apart: Vec<((u32, u32), u32)>,
}

/// What was measured between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    ends: (u32, u32),
    /// The round trip, in microseconds.
    pub rtt_us: u32,
    /// How far samples were from it on average, in microseconds.
    pub deviation_us: u32,
    /// Bandwidth in KiB a second; 0 where it was not measured.
    pub rate_kib: u32,
}

impl Costs {
    /// The costs of `members` from what they published.
    #[must_use]
    pub fn new(members: &[NodeId], reports: &dyn Reports) -> Self {
        let mut places: Vec<_> =
            (0_u32..).zip(members).map(|(at, id)| (short_id(*id), at)).collect();
        places.sort_unstable();
        let place_of = |short: ShortId| {
            let at = places.binary_search_by_key(&short, |(short, _)| *short).ok()?;
            Some(places[at].1)
        };
        let mut costs = Self { whereabouts: Vec::with_capacity(members.len()), ..Self::default() };
        for (at, id) in (0_u32..).zip(members) {
            if let Some(ways) = reports.ways(*id) {
                let known = ways.ways().iter().filter_map(|Way { peer, rtt_us, .. }| {
                    let to = place_of(*peer).filter(|to| *to != at)?;
                    Some(((at.min(to), at.max(to)), *rtt_us))
                });
                costs.apart.extend(known);
            }
            let Some(report) = reports.report(*id) else {
                costs.whereabouts.push((None, None));
                continue;
            };
            costs.whereabouts.push((report.coordinate(), report.place()));
            let known = report.pairs().iter().filter_map(|pair| {
                let to = place_of(pair.peer).filter(|to| *to != at)?;
                let ends = (at.min(to), at.max(to));
                let Pair { rtt_us, deviation_us, rate_kib, .. } = *pair;
                Some(Measurement { ends, rtt_us, deviation_us, rate_kib })
            });
            costs.pairs.extend(known);
        }
        costs.merge();
        costs
    }

    /// Both ends may have measured a pair: the least round trip and the greatest rate hold.
    fn merge(&mut self) {
        self.pairs.sort_unstable_by_key(|pair| (pair.ends, pair.rtt_us));
        self.pairs.dedup_by(|later, kept| {
            let same = later.ends == kept.ends;
            if same {
                kept.rate_kib = kept.rate_kib.max(later.rate_kib);
            }
            same
        });
        // Each end names the other at most once: who is named twice is named by both. One alone
        // may be behind address translation, and dial all the others.
        self.apart.sort_unstable();
        let both = |two: &[((u32, u32), u32)]| (two[0].0 == two[1].0).then_some(two[0]);
        self.apart = self.apart.windows(2).filter_map(both).collect();
        let apart = &self.apart;
        self.pairs.retain(|pair| place_in(apart, pair.ends).is_none());
    }

    /// A digest of all of it: equal ones lead to equal computations.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::with_capacity(self.pairs.len() * 20);
        for pair in &self.pairs {
            let (a, b) = pair.ends;
            for number in [a, b, pair.rtt_us, pair.deviation_us, pair.rate_kib] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        for ((a, b), rtt_us) in &self.apart {
            [a, b, rtt_us].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        }
        for (coordinate, place) in &self.whereabouts {
            bytes
                .extend_from_slice(&encode(&(coordinate.as_ref().map(WireCoordinate::new), place)));
        }
        Digest::of_parts(&[b"skep costs", &bytes])
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.whereabouts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whereabouts.is_empty()
    }

    /// The pairs that were measured, by the places of their members.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.pairs.iter().map(|pair| (pair.ends.0 as usize, pair.ends.1 as usize))
    }

    /// The pairs that no link can join, by the places of their members.
    pub fn apart(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.apart.iter().map(|((a, b), _)| (*a as usize, *b as usize))
    }

    /// The round trip between two members, and what that rests on; nothing where it is unknown.
    #[must_use]
    pub fn rtt(&self, a: usize, b: usize) -> Option<(Duration, Basis)> {
        if let Some(pair) = self.measurement(a, b) {
            return Some((Duration::from_micros(pair.rtt_us.into()), Basis::Measured));
        }
        if let Some(rtt_us) = ends(a, b).and_then(|ends| place_in(&self.apart, ends)) {
            return Some((Duration::from_micros(rtt_us.into()), Basis::Routed));
        }
        predict(self.whereabouts.get(a)?, self.whereabouts.get(b)?)
    }

    /// Two dimensions of where a member is in the network's space: for drawings.
    #[must_use]
    pub fn plane(&self, at: usize) -> Option<(f64, f64)> {
        self.whereabouts.get(at)?.0.as_ref().map(Coordinate::plane)
    }

    /// Where a member is on the earth.
    #[must_use]
    pub fn place(&self, at: usize) -> Option<Place> {
        self.whereabouts.get(at)?.1
    }

    /// What was measured between two members.
    #[must_use]
    pub fn measurement(&self, a: usize, b: usize) -> Option<&Measurement> {
        let at = self.pairs.binary_search_by_key(&ends(a, b)?, |pair| pair.ends).ok()?;
        self.pairs.get(at)
    }
}

fn ends(a: usize, b: usize) -> Option<(u32, u32)> {
    Some((u32::try_from(a.min(b)).ok()?, u32::try_from(a.max(b)).ok()?))
}

fn place_in(apart: &[((u32, u32), u32)], ends: (u32, u32)) -> Option<u32> {
    let at = apart.binary_search_by_key(&ends, |(ends, _)| *ends).ok()?;
    apart.get(at).map(|(_, rtt_us)| *rtt_us)
}
