//! What is asked of a computation.

use skep_base::NodeId;

use super::place::Place;

/// More sites than this are no one's single group: a computation looks at each pair once, and at
/// 10,000 that is 10⁸ looks.
pub const MAX_SITES: usize = 10_000;

/// A member of the group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Who it is.
    pub id: NodeId,
    /// Where it is, when its configuration says so.
    pub place: Option<Place>,
    /// Links it holds for other groups. They count against the bound; a link that this group shares
    /// with them counts once.
    pub links_elsewhere: u16,
}

impl Site {
    /// A site of which nothing but its identity is known.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self { id, place: None, links_elsewhere: 0 }
    }
}

/// What counts how much. Times are microseconds of round trip.
///
/// The objective is `Σ over edges (cost + edge) + S · (eccentricity · E + distance · D)`, in which
/// E is the mean over all sites of the way to the farthest other, and D the mean way between two. S
/// is N up to 200 sites and grows by the root beyond: there a backbone is paid for by so many that
/// each would buy ever more of it, and every edge is one more copy of every update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// What every edge costs besides its round trip: each is a copy of every update, and a link to
    /// hold.
    pub edge_us: u32,
    /// What a hop adds to a way: receiving, deciding, sending.
    pub hop_us: u32,
    /// Weight of the mean eccentricity, in thousandths.
    pub eccentricity: u32,
    /// Weight of the mean distance, in thousandths.
    pub distance: u32,
    /// What a link that another group holds already costs of its price, in hundredths.
    pub shared_percent: u32,
    /// Bytes that a typical update takes, for pairs whose bandwidth is known.
    pub update_bytes: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            edge_us: 12_000,
            hop_us: 100,
            eccentricity: 3000,
            distance: 1000,
            shared_percent: 20,
            update_bytes: 1024,
        }
    }
}

impl Weights {
    /// Edges' costs alone: nothing for length, nothing for number.
    #[must_use]
    pub const fn cost_only() -> Self {
        Self {
            edge_us: 0,
            hop_us: 0,
            eccentricity: 0,
            distance: 0,
            shared_percent: 20,
            update_bytes: 1024,
        }
    }
}

/// How much work a computation may be, in moves tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Moves to try.
    pub steps: u64,
}

impl Effort {
    /// What `n` sites deserve: more for each where there are few.
    #[must_use]
    pub fn for_sites(n: usize) -> Self {
        let n = n as u64;
        Self { steps: (20_000 + 250 * n).min(600_000) }
    }
}

/// What is asked.
#[derive(Debug)]
pub struct Problem<'a, C: ?Sized> {
    /// The group's members, by ascending identity and none twice.
    pub sites: &'a [Site],
    /// What is known of pairs of them, by their index in `sites`.
    pub costs: &'a C,
    /// The connectivity wanted (FLOOD-23). More than N − 1 is not to be had, and not asked for.
    pub k: usize,
    /// No site shall hold more links than this, those for other groups included.
    pub degree_bound: u16,
    /// What counts how much.
    pub weights: Weights,
}

impl<C: ?Sized> Problem<'_, C> {
    /// The connectivity that can be had.
    #[must_use]
    pub fn connectivity(&self) -> usize {
        self.k.min(self.sites.len().saturating_sub(1))
    }
}
