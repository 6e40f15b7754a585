//! The computed overlay: links chosen by what they cost, not by a hash.
//!
//! A group's topology master knows estimates of how far its members are apart and computes from
//! them whom each shall link to (FLOOD-23, FLOOD-27, FLOOD-31, MULTI-13). What it looks for is a
//! graph that
//!
//! * is k-connected, which is *verified by max-flow* and never assumed;
//! * has few and cheap edges, because every edge that is not needed is one more copy of each
//!   update;
//! * is short across, because an update is everywhere when it has reached the last;
//! * burdens no site with more links than a bound, over all its groups together.
//!
//! The search begins with a greedy graph in the manner of Steiglitz, Weiner and Kleitman (1969):
//! the site that lacks most edges is joined to the nearest that lacks some, and cuts that are too
//! thin are mended by the cheapest edges across. It goes on with annealing by small moves. Each
//! move is judged incrementally: its cost by a few additions; what it does to distances by shortest
//! path trees that are repaired where they changed; and whether the graph stays k-connected by the
//! disjoint paths between the ends of the edges that it takes away, which is exact (see `paths`).
//! At the end Even's algorithm, which shares no code with that, judges the whole graph.
//!
//! Everything is a function of its arguments and of a seed. Work is counted in steps, not in time,
//! so two masters of equal knowledge compute equal topologies.
//!
//! | part | does |
//! |---|---|
//! | `problem` | what is asked: sites, weights, the bound on links |
//! | `costs` | what a link between two sites would cost, from whatever is known of the pair |
//! | `place` | kilometres between two places, in plain arithmetic |
//! | `topology` | the answer: members and edges |
//! | `net` | the graph while it is searched |
//! | `paths` | disjoint paths, found near the edge in question |
//! | `start` | the greedy graph, and mending thin cuts |
//! | `spread` | how far the farthest is, kept up to date while edges move |
//! | `anneal` | the moves |
//! | `margin` | by how much another must be better than the one that stands |
//! | `judge` | what is wrong with a topology, whoever made it |
//! | `solve` | from nothing to a topology, and from a topology to a better one |
//! | [`generator`] | the same question and answer as text, for an external command |
//! | [`decree`] | a topology as bytes on the wire |
//! | [`draw`] | a topology as DOT, SVG and JSON |

pub mod decree;
pub mod draw;
pub mod generator;

mod anneal;
mod costs;
mod judge;
mod margin;
mod net;
mod paths;
mod place;
mod problem;
mod solve;
mod spread;
mod start;
mod topology;

pub use costs::{Costs, Known, Measured};
pub use judge::{Flaw, judge};
pub use margin::{MARGIN_PERCENT, Margin, SETTLING_PERCENT, round_trips};
pub use place::Place;
pub use problem::{Effort, MAX_SITES, Problem, Site, Weights};
pub use solve::{Appraisal, Change, Figures, Outcome, appraise, compute, improve};
pub use topology::Topology;
