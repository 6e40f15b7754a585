//! How far apart two hosts are.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use skep_base::Rng;

/// Nineteen regions of a world-wide fleet: name, place, share of the nodes.
const REGIONS: &str = include_str!("../../data/regions.csv");

/// Round trip inside one region.
const INSIDE: Duration = Duration::from_millis(1);
/// Round trip between two regions that touch.
const BETWEEN: Duration = Duration::from_millis(4);
/// Kilometres of great circle to a millisecond of round trip: two thirds of the speed of light,
/// there and back, over cables that are a third longer than the way of the crow.
const KM_PER_MS: f64 = 75.0;
/// A packet takes up to this much longer than the quickest one.
const JITTER: f64 = 0.15;

const EARTH_KM: f64 = 6371.0;

/// How long a packet takes from one host to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Latency {
    /// The same for all pairs: any one-way time between the two.
    Uniform {
        /// The quickest packet.
        least: Duration,
        /// The slowest one.
        most: Duration,
    },
    /// Hosts are in the regions of a world-wide fleet, by their share.
    Regions,
}

impl Latency {
    /// A local network: 0.1 to 0.3 ms one way.
    #[must_use]
    pub const fn local() -> Self {
        Self::Uniform { least: Duration::from_micros(100), most: Duration::from_micros(300) }
    }

    /// The model as one word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Uniform { .. } => "uniform",
            Self::Regions => "regions",
        }
    }
}

/// Latencies, ready for use.
#[derive(Debug)]
pub(crate) enum Distances {
    Uniform { least: Duration, most: Duration },
    Regions(Atlas),
}

impl Distances {
    pub(crate) fn new(latency: &Latency) -> anyhow::Result<Self> {
        Ok(match *latency {
            Latency::Uniform { least, most } => Self::Uniform { least, most },
            Latency::Regions => Self::Regions(Atlas::parse(REGIONS)?),
        })
    }

    /// The region of a new host.
    pub(crate) fn place(&self, rng: &mut Rng) -> u16 {
        match self {
            Self::Uniform { .. } => 0,
            Self::Regions(atlas) => atlas.draw(rng),
        }
    }

    /// The quickest round trip between two places.
    pub(crate) fn round_trip(&self, a: u16, b: u16) -> Duration {
        match self {
            Self::Uniform { least, .. } => *least * 2,
            Self::Regions(atlas) => atlas.round_trip(a, b),
        }
    }

    /// No packet takes less, whichever two hosts it goes between.
    pub(crate) fn quickest(&self) -> Duration {
        match self {
            Self::Uniform { least, .. } => *least,
            Self::Regions(_) => INSIDE / 2,
        }
    }

    /// How long the next packet takes one way.
    pub(crate) fn one_way(&self, a: u16, b: u16, rng: &mut Rng) -> Duration {
        match self {
            Self::Uniform { least, most } => *least + (*most - *least).mul_f64(rng.unit()),
            Self::Regions(atlas) => (atlas.round_trip(a, b) / 2).mul_f64(1.0 + JITTER * rng.unit()),
        }
    }
}

/// The regions, their shares, and the way from each to each.
#[derive(Debug)]
pub(crate) struct Atlas {
    names: Vec<String>,
    /// The shares up to and with each region.
    shares: Vec<u64>,
    round_trips: Vec<Duration>,
}

impl Atlas {
    fn parse(table: &str) -> anyhow::Result<Self> {
        let mut names = Vec::new();
        let mut places = Vec::new();
        let mut shares = Vec::new();
        let rows = table.lines().filter(|line| !line.starts_with('#'));
        for row in rows.skip(1) {
            let cells: Vec<&str> = row.split(',').collect();
            ensure!(cells.len() == 4, "not a region: {row:?} has not four cells");
            let number = |cell: &str| {
                let read = cell.parse::<f64>();
                read.with_context(|| format!("not a number in the region {row:?}: {cell:?}"))
            };
            names.push(cells[0].to_owned());
            places.push((number(cells[1])?.to_radians(), number(cells[2])?.to_radians()));
            let share: u64 = cells[3].parse().context("a share is a whole number")?;
            shares.push(shares.last().copied().unwrap_or(0) + share);
        }
        ensure!(shares.last().is_some_and(|sum| *sum > 0), "no regions");
        let way = |a: &(f64, f64), b: &(f64, f64)| {
            if a == b {
                return INSIDE;
            }
            let ms = great_circle_km(*a, *b) / KM_PER_MS;
            // Whole microseconds: the last bits of a sine are not the same on every machine.
            let far = Duration::from_secs_f64((ms * 1e3).round() / 1e6);
            BETWEEN + far
        };
        let round_trips = places.iter().flat_map(|a| places.iter().map(move |b| way(a, b)));
        Ok(Self { round_trips: round_trips.collect(), names, shares })
    }

    fn draw(&self, rng: &mut Rng) -> u16 {
        let sum = self.shares.last().copied().unwrap_or(1);
        let ticket = rng.within(0..sum);
        let at = self.shares.partition_point(|share| *share <= ticket);
        u16::try_from(at).unwrap_or(0)
    }

    fn round_trip(&self, a: u16, b: u16) -> Duration {
        self.round_trips[usize::from(a) * self.names.len() + usize::from(b)]
    }
}

fn great_circle_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let half_chord = ((b.0 - a.0) / 2.0).sin().powi(2)
        + a.0.cos() * b.0.cos() * ((b.1 - a.1) / 2.0).sin().powi(2);
    2.0 * EARTH_KM * half_chord.sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_regions_are_as_far_apart_as_the_earth_is_round() {
        let atlas = Atlas::parse(REGIONS).unwrap();
        let at = |name: &str| u16::try_from(atlas.names.iter().position(|n| n == name).unwrap());
        let ms = |a: &str, b: &str| atlas.round_trip(at(a).unwrap(), at(b).unwrap()).as_millis();
        assert_eq!(atlas.names.len(), 19);
        assert_eq!(ms("ams", "ams"), 1);
        assert!((8..=10).contains(&ms("ams", "lhr")), "{}", ms("ams", "lhr"));
        assert!((215..=235).contains(&ms("syd", "lhr")), "{}", ms("syd", "lhr"));
        assert_eq!(ms("sin", "gru"), ms("gru", "sin"));
    }

    #[test]
    fn hosts_are_placed_by_share() {
        let atlas = Atlas::parse(REGIONS).unwrap();
        let mut rng = Rng::seeded(1);
        let mut counts = [0; 19];
        for _ in 0..44_300 {
            counts[usize::from(atlas.draw(&mut rng))] += 1;
        }
        let sjc = atlas.names.iter().position(|name| name == "sjc").unwrap();
        assert!((6300..=7300).contains(&counts[sjc]), "{}", counts[sjc]);
        assert!(counts.iter().all(|count| *count > 0));
    }

    #[test]
    fn a_broken_table_is_refused() {
        for table in ["", "h\nams,1,2\n", "h\nams,x,2,3\n", "h\nams,1,2,0\n"] {
            assert!(Atlas::parse(table).is_err(), "{table:?}");
        }
    }
}
