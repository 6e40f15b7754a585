//! Topologies: what a peer decrees, and what an external command answers.

use std::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, NodeId, Outbox, Rng, Time};
use skep_topology::adoption::{Adoption, Config, Input, Message, Plan};
use skep_topology::computed::decree::{Body, Decree, Stamp};
use skep_topology::computed::generator::{MAX_ANSWER_EDGES, accept, parse_answer};
use skep_topology::computed::{Known, Problem, Site, Topology, Weights};
use skep_wire::{decode as read, encode};

use super::{Seed, Target, name, said_again};

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

/// What two nodes say about a body that travels by itself.
pub(super) const MESSAGE: Target = Target {
    name: "topology-message",
    decode: fuzz_message,
    seeds: message_seeds,
    accepts: |data| read::<Message>("topology message", data).is_ok(),
};

const ANSWER_OF_FOUR: &str = "topology-generator 1\nedge a b\nedge b c\nedge c d\nedge d a\nend\n";
const COMMENTED: &str = "# by hand\r\n\r\n topology-generator  1\r\nedge\ta B \r\nend\nmore\n";

fn fuzz_decree(data: &[u8]) {
    if let Ok(decree) = Decree::from_bytes(data) {
        check_body(&decree);
        assert_eq!(Decree::from_bytes(&decree.to_bytes()).as_ref(), Ok(&decree));
    }
    // Whoever signs it is a member; what it says is his own.
    let mut adoption = adopting();
    let body = Some(Bytes::copy_from_slice(data));
    give(&mut adoption, Input::Decree { owner: members(4)[3], slot: 2, body });
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

fn fuzz_message(data: &[u8]) {
    said_again::<Message>("topology message", data);
    // Of a decree whose body has not come, a part is taken from whom it was asked of.
    let mut adoption = adopting();
    let (owner, from) = (members(4)[3], members(4)[1]);
    let (decree, whole) = apart();
    let body = Some(decree.to_bytes().into());
    give(&mut adoption, Input::Decree { owner, slot: 0, body });
    give(&mut adoption, Input::Link { peer: from, up: true });
    let mut out = Outbox::new();
    adoption.tick(Time::from_millis(9_000), &mut out);
    give(&mut adoption, Input::Message { from, body: Bytes::copy_from_slice(data) });
    let taken = adoption.view(&name("web")).is_some_and(|view| view.topology.is_some());
    let right = read("topology message", data) == Ok(part(&whole));
    assert_eq!(taken, right, "only the body that was decreed is taken, and that is");
}

/// A node in a flock of four.
fn adopting() -> Adoption {
    let plan = Plan { k: 2, master: None, update_period: Duration::from_secs(60) };
    let config = Config { plans: [(name("web"), plan)].into(), ..Config::default() };
    let mut adoption = Adoption::new(members(4)[0], config, Rng::seeded(1));
    give(&mut adoption, Input::Begun);
    give(&mut adoption, Input::Members { group: name("web"), present: members(4) });
    adoption
}

fn give(adoption: &mut Adoption, input: Input) {
    let mut out = Outbox::new();
    adoption.handle(Time::from_millis(6_000), input, &mut out);
    adoption.check();
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

fn message_seeds() -> Vec<Seed> {
    let (_, whole) = apart();
    let digest = Digest::of(&whole);
    let none = Message::Part { digest, from: 0, bytes: Vec::new().into() };
    vec![
        ("ask", encode(&Message::Ask { digest, from: 16_384 })),
        ("part", encode(&part(&whole))),
        ("have-not", encode(&none)),
    ]
}

/// A decree whose body is not in it, though it would fit, and the body.
fn apart() -> (Decree, Vec<u8>) {
    let mut decree = decree(4);
    let Body::Here(whole) = decree.body else {
        return (decree, Vec::new());
    };
    let length = u32::try_from(whole.len()).unwrap_or(u32::MAX);
    decree.body = Body::Apart { digest: Digest::of(&whole), length };
    (decree, whole)
}

/// The only part of a body that fits into one.
fn part(whole: &[u8]) -> Message {
    Message::Part { digest: Digest::of(whole), from: 0, bytes: whole.to_vec().into() }
}

fn decree(n: u32) -> Decree {
    Decree::new(name("web"), Stamp { epoch: 3, fork: 1 << 40 }, &ring(n)).0
}

fn ring(n: u32) -> Topology {
    let edges: Vec<(u32, u32)> = (0..n).map(|at| (at, (at + 1) % n)).collect();
    Topology::new(members(n), 2, &edges)
}

fn members(n: u32) -> Vec<NodeId> {
    (0..n).map(|at| NodeId::from_bytes(u128::from(at + 1).to_be_bytes())).collect()
}
