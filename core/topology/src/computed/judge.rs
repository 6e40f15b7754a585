//! What is wrong with a topology, whoever made it.

use alloc::vec;
use alloc::vec::Vec;

use skep_base::NodeId;

use super::costs::Costs;
use super::problem::{MAX_SITES, Problem};
use super::topology::Topology;
use crate::connectivity::{index, is_connected};

/// Why a topology is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The list of sites is out of order, or names one twice.
    #[error("the sites are not in order of identity, each once, near {0}")]
    Unordered(NodeId),
    /// More sites than [`MAX_SITES`].
    #[error("{0} sites are more than a computation is made for: at most {MAX_SITES}")]
    TooMany(usize),
    /// It was made for other members.
    #[error("the topology was made for other members than are present")]
    OtherMembers,
    /// Two sites that cannot dial each other are joined.
    #[error("{0} and {1} cannot dial each other but are joined")]
    CannotMeet(NodeId, NodeId),
    /// A site has more links than it may.
    #[error("{site} would hold {links} links over all groups, more than the bound of {bound}")]
    TooManyLinks {
        /// Which site.
        site: NodeId,
        /// How many links, those for other groups included.
        links: usize,
        /// How many it may hold.
        bound: u16,
    },
    /// Fewer than k sites cut it.
    #[error(
        "fewer than {k} sites could cut the topology of {sites} apart: it is not {k}-connected"
    )]
    NotConnected {
        /// The connectivity that was wanted.
        k: usize,
        /// How many sites there are.
        sites: usize,
    },
    /// Nothing was found that keeps within the bounds.
    #[error(
        "{0} cannot be joined well enough: raise the bound on links, or let it dial more of the \
         others"
    )]
    Stuck(NodeId),
}

/// Whether `topology` answers `problem`: it is about the same members, joins none that cannot meet,
/// keeps to the bound on links, and is k-connected by max-flow.
///
/// # Errors
/// The first flaw found.
pub fn judge<C: Costs + ?Sized>(problem: &Problem<'_, C>, topology: &Topology) -> Result<(), Flaw> {
    check_sites(problem)?;
    let same = problem.sites.iter().map(|site| &site.id).eq(topology.members());
    if !same {
        return Err(Flaw::OtherMembers);
    }
    let mut links: Vec<usize> =
        problem.sites.iter().map(|site| usize::from(site.links_elsewhere)).collect();
    let mut is_own = vec![false; links.len()];
    for (a, b) in topology.edges() {
        let (a, b) = (*a as usize, *b as usize);
        if !problem.costs.may_meet(a, b) {
            return Err(Flaw::CannotMeet(problem.sites[a].id, problem.sites[b].id));
        }
        if !problem.costs.is_linked(a, b) {
            for end in [a, b] {
                links[end] += 1;
                is_own[end] = true;
            }
        }
    }
    // A site that other groups have filled beyond the bound is not this group's fault.
    let bound = usize::from(problem.degree_bound);
    let over = |at: &usize| is_own[*at] && links[*at] > bound;
    if let Some(at) = (0..links.len()).find(over) {
        let (site, bound) = (problem.sites[at].id, problem.degree_bound);
        return Err(Flaw::TooManyLinks { site, links: links[at], bound });
    }
    let k = problem.connectivity();
    if !is_connected(links.len(), topology.edges().iter().copied(), k) {
        return Err(Flaw::NotConnected { k, sites: links.len() });
    }
    Ok(())
}

/// What must hold of the sites before anything is computed.
pub(crate) fn check_sites<C: ?Sized>(problem: &Problem<'_, C>) -> Result<(), Flaw> {
    if problem.sites.len() > MAX_SITES {
        return Err(Flaw::TooMany(problem.sites.len()));
    }
    match problem.sites.windows(2).find(|pair| pair[0].id >= pair[1].id) {
        Some(pair) => Err(Flaw::Unordered(pair[1].id)),
        None => Ok(()),
    }
}

/// How many more links each site may hold for this group.
pub(crate) fn room<C: ?Sized>(problem: &Problem<'_, C>) -> Vec<i32> {
    let bound = i32::from(problem.degree_bound);
    let left = |site: &super::Site| (bound - i32::from(site.links_elsewhere)).max(0);
    debug_assert!(index(problem.sites.len()) < u32::MAX / 4, "halves are counted in u32");
    problem.sites.iter().map(left).collect()
}
