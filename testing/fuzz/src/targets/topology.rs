//! Topologies: what a peer decrees, and what an external command answers.

use skep_base::NodeId;
use skep_topology::computed::decree::{Body, Decree, Stamp};
use skep_topology::computed::generator::{MAX_ANSWER_EDGES, accept, parse_answer};
use skep_topology::computed::{Known, Problem, Site, Topology, Weights};

use super::{Target, name};

/// A decree, and its body where it stands in it.
pub(super) const DECREE: Target = Target {
    name: "topology-decree",
    decode: fuzz_decree,
    seeds: || vec![("here", decree(4).to_bytes()), ("apart", decree(400).to_bytes())],
    accepts: |data| Decree::from_bytes(data).is_ok(),
};

/// The standard output of a `topology-generator`.
pub(super) const ANSWER: Target = Target {
    name: "topology-answer",
    decode: fuzz_answer,
    seeds: || vec![("ring", ANSWER_OF_FOUR.into()), ("with-comments", COMMENTED.into())],
    accepts: |data| parse_answer(data).is_ok(),
};

const ANSWER_OF_FOUR: &str = "topology-generator 1\nedge a b\nedge b c\nedge c d\nedge d a\nend\n";
const COMMENTED: &str = "# by hand\r\n\r\n topology-generator  1\r\nedge\ta B \r\nend\nmore\n";

fn fuzz_decree(data: &[u8]) {
    if let Ok(decree) = Decree::from_bytes(data) {
        check_body(&decree);
        assert_eq!(Decree::from_bytes(&decree.to_bytes()).as_ref(), Ok(&decree));
    }
    // The same bytes as the body of a decree that is otherwise right.
    check_body(&Decree { body: Body::Here(data.to_vec()), ..decree(4) });
}

/// What is accepted is a graph over its members, and comes back from its bytes.
fn check_body(decree: &Decree) {
    let Ok(topology) = decree.topology(None) else {
        return;
    };
    let members = topology.members();
    assert!(members.windows(2).all(|pair| pair[0] < pair[1]), "members are in order");
    let n = u32::try_from(members.len()).unwrap_or(0);
    assert!(topology.edges().iter().all(|(a, b)| a < b && *b < n), "edges are between members");
    let (again, apart) = Decree::new(decree.group.clone(), decree.stamp, &topology);
    assert_eq!(again.topology(apart.as_deref()).as_ref(), Ok(&topology));
}

fn fuzz_answer(data: &[u8]) {
    if let Ok(edges) = parse_answer(data) {
        assert!(edges.len() <= MAX_ANSWER_EDGES);
        let word = |word: &str| !word.is_empty() && !word.contains(char::is_whitespace);
        assert!(edges.iter().all(|(line, a, b)| *line > 1 && word(a) && word(b)));
    }
    let sites: Vec<Site> = members(4).into_iter().map(Site::new).collect();
    let known = Known::new(sites.len());
    let problem = Problem {
        sites: &sites,
        costs: &known,
        k: 2,
        degree_bound: 3,
        weights: Weights::default(),
    };
    let names = ["a", "b", "c", "d"].map(name);
    if let Ok(topology) = accept(&problem, &names, data) {
        // The only graphs of four that two sites do not cut have at least a ring's edges.
        assert!((4..=6).contains(&topology.edges().len()));
    }
}

fn decree(n: u32) -> Decree {
    let edges: Vec<(u32, u32)> = (0..n).map(|at| (at, (at + 1) % n)).collect();
    let topology = Topology::new(members(n), 2, &edges);
    Decree::new(name("web"), Stamp { epoch: 3, fork: 1 << 40 }, &topology).0
}

fn members(n: u32) -> Vec<NodeId> {
    (0..n).map(|at| NodeId::from_bytes(u128::from(at + 1).to_be_bytes())).collect()
}
