//! The bytes that travel, and what one membership derives. How several converse is tested in
//! `core/node` and in the simulator.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{BlocName, Incarnation, NodeId, NodeName, Nonce, Outbox, Rng, Time, WallTime};
use skep_wire::{Address, encode};

use super::*;

fn id(n: u8) -> NodeId {
    let bloc: BlocName = "test".parse().unwrap();
    NodeId::derive(&bloc, &name(n))
}

fn name(n: u8) -> NodeName {
    alloc::format!("node-{n}").parse().unwrap()
}

fn facts(n: u8, state: NodeState) -> NodeFacts {
    NodeFacts {
        name: name(n),
        network: None,
        nonce: Nonce(u64::from(n)),
        started: WallTime::from_unix_ms(1000),
        state,
        addresses: vec![Address::classify("10.0.0.1:7400".parse().unwrap())],
        groups: Vec::new(),
        feature_level: 1,
        version: String::from("test"),
    }
}

/// One membership, and what it wants.
struct One {
    now: Time,
    membership: Membership,
    out: Vec<Output>,
}

impl One {
    fn new() -> Self {
        let me = Me {
            id: id(0),
            name: name(0),
            network: None,
            nonce: Nonce(0),
            started: WallTime::from_unix_ms(1000),
            stored: Incarnation(0),
            addresses: Vec::new(),
            version: String::from("test"),
        };
        let now = Time::from_millis(1_000_000);
        let membership = Membership::new(me, Config::default(), Rng::seeded(1), now);
        Self { now, membership, out: Vec::new() }
    }

    fn give(&mut self, input: Input) {
        let mut out = Outbox::new();
        self.membership.handle(self.now, input, &mut out);
        self.membership.settle(self.now, &mut out);
        self.membership.check();
        self.out.extend(out.drain());
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, _)) = self.membership.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            let mut out = Outbox::new();
            self.membership.tick(self.now, &mut out);
            self.membership.check();
            self.out.extend(out.drain());
        }
        self.now = end;
    }

    fn link(&mut self, n: u8, link: u64) {
        let peer = Peer {
            id: id(n),
            name: name(n),
            incarnation: Incarnation(1),
            nonce: Nonce(u64::from(n)),
            addresses: Vec::new(),
            dialled: None,
            remote: "10.0.0.1:7400".parse().unwrap(),
        };
        self.give(Input::LinkUp { link: LinkId(link), peer });
    }

    fn say(&mut self, n: u8, state: NodeState) {
        let facts = facts(n, state);
        self.give(Input::Facts { node: id(n), incarnation: Incarnation(1), facts });
    }

    fn watch(&mut self, watcher: u8, watched: &[(u8, Verdict)]) {
        let edge = |(n, verdict): &(u8, Verdict)| Edge {
            node: id(*n),
            incarnation: Incarnation(1),
            nonce: u32::from(*n),
            verdict: *verdict,
        };
        let mut edges: Vec<Edge> = watched.iter().map(edge).collect();
        edges.sort_unstable_by_key(|edge| edge.node);
        self.give(Input::Watch {
            node: id(watcher),
            incarnation: Incarnation(1),
            watch: Watch { edges },
        });
    }

    fn status(&self, n: u8) -> Status {
        self.membership.member(id(n)).map_or(Status::Unmet, |member| member.status)
    }
}

/// 0 is linked to 1, which hears 2, which hears 3.
fn chain() -> One {
    let mut one = One::new();
    (1..=3).for_each(|n| one.say(n, NodeState::Up));
    one.link(1, 1);
    one.watch(1, &[(2, Verdict::Heard)]);
    one.watch(2, &[(3, Verdict::Heard)]);
    one
}

#[test]
fn presence_is_a_chain_of_present_watchers() {
    let mut one = chain();
    assert_eq!(one.status(3), Status::Present);
    // What an absent watcher says does not count.
    one.watch(1, &[(2, Verdict::Silent)]);
    assert_eq!((one.status(2), one.status(3)), (Status::Silent, Status::Silent));
    one.watch(1, &[(2, Verdict::Heard)]);
    assert_eq!(one.status(3), Status::Present);
}

#[test]
fn a_beat_that_says_nothing_new_says_nothing() {
    let mut one = chain();
    let beats = |one: &mut One| {
        let beats = one.out.drain(..).filter_map(|output| {
            if let Output::Heartbeat { heartbeat, .. } = output { Some(heartbeat) } else { None }
        });
        beats.collect::<Vec<_>>()
    };
    let first = beats(&mut one);
    assert!(first[0].is_some(), "the first on a link says everything: {first:?}");
    one.pass(Duration::from_secs(3));
    beats(&mut one);
    // Kept alive by a peer that says nothing new either, and never did say anything.
    for _ in 0..4 {
        one.pass(Duration::from_millis(1000));
        one.give(Input::Heartbeat { link: LinkId(1), heartbeat: None });
    }
    let idle = beats(&mut one);
    assert!(idle.len() >= 4 && idle.iter().all(Option::is_none), "{idle:?}");
    assert_eq!(one.status(1), Status::Present);
    let digest = 7;
    one.give(Input::Layout(Layout { digest, ..Layout::default() }));
    one.pass(Duration::from_millis(1500));
    let said: Vec<u64> = beats(&mut one).into_iter().flatten().map(|beat| beat.members).collect();
    assert_eq!(said, [digest], "news are said once");
}

/// Whom the newest watch record names, of those published since this was asked last.
fn published(one: &mut One) -> Option<Vec<NodeId>> {
    let watches = one.out.drain(..).filter_map(|output| {
        let Output::Publish { watch } = output else { return None };
        Some(Watch::from_body(&watch).unwrap().edges.iter().map(|edge| edge.node).collect())
    });
    watches.last()
}

#[test]
fn an_errand_is_spoken_of_only_when_nobody_else_hears_the_peer() {
    let mut one = chain();
    one.give(Input::Synced);
    let beats = |one: &mut One, links: &[u64]| {
        for _ in 0..6 {
            one.pass(Duration::from_secs(1));
            let heard = links.iter().map(|link| Input::Heard { link: LinkId(*link) });
            heard.for_each(|input| one.give(input));
        }
    };
    beats(&mut one, &[1]);
    assert_eq!(published(&mut one), Some(vec![id(1)]));
    // 3 is heard by 2, and neither it nor this node wants the link.
    one.link(3, 3);
    let idle = Heartbeat { members: 0, incarnation: Incarnation(1), flags: 0 };
    one.give(Input::Heartbeat { link: LinkId(3), heartbeat: Some(idle) });
    beats(&mut one, &[1, 3]);
    assert_eq!(published(&mut one), None);
    // Of somebody new it is not known yet whether others hear it: they are given a moment.
    one.link(5, 5);
    one.watch(4, &[]);
    one.pass(Duration::from_millis(1));
    assert_eq!(published(&mut one), None);
    one.watch(2, &[(3, Verdict::Heard), (5, Verdict::Heard)]);
    beats(&mut one, &[1, 3, 5]);
    assert_eq!(published(&mut one).map(|named| named.contains(&id(3))), Some(false));
    one.watch(2, &[(5, Verdict::Heard)]);
    one.pass(Duration::from_millis(1));
    let mut all = vec![id(1), id(3), id(5)];
    all.sort_unstable();
    assert_eq!(published(&mut one), Some(all), "3 would be silent to others now");
    // What was said is true until the link goes.
    one.watch(2, &[(3, Verdict::Heard), (5, Verdict::Heard)]);
    beats(&mut one, &[1, 3, 5]);
    assert_eq!(published(&mut one), None);
}

#[test]
fn one_that_hears_outweighs_any_that_do_not() {
    let mut one = chain();
    one.say(4, NodeState::Up);
    one.watch(1, &[(2, Verdict::Heard), (3, Verdict::Silent), (4, Verdict::Heard)]);
    one.watch(4, &[(3, Verdict::Silent)]);
    assert_eq!(one.status(3), Status::Present);
    one.watch(2, &[]);
    assert_eq!(one.status(3), Status::Silent);
}

#[test]
fn edges_about_an_earlier_life_do_not_count_after_a_moment() {
    let mut one = chain();
    let again = facts(3, NodeState::Up);
    one.give(Input::Facts { node: id(3), incarnation: Incarnation(2), facts: again });
    // A life that began just now is believed until its watchers had time to say so.
    assert_eq!(one.status(3), Status::Present);
    one.watch(1, &[(2, Verdict::Heard)]);
    for _ in 0..8 {
        one.pass(Duration::from_millis(500));
        one.give(Input::Heard { link: LinkId(1) });
    }
    assert_eq!(one.status(3), Status::Silent);
}

#[test]
fn a_quiet_link_is_suspect_and_then_silent() {
    let mut one = chain();
    one.pass(Duration::from_millis(3100));
    assert_eq!(one.status(1), Status::Present);
    one.pass(Duration::from_millis(200));
    assert_eq!(one.status(1), Status::Silent);
    one.give(Input::Heard { link: LinkId(1) });
    assert_eq!(one.status(1), Status::Present);
}

#[test]
fn a_planned_stop_is_never_silent() {
    let mut one = chain();
    one.say(2, NodeState::Restarting { back_within_ms: 5000 });
    assert_eq!(one.status(2), Status::Restarting);
    one.say(1, NodeState::Left);
    assert_eq!(one.status(1), Status::Left);
    one.pass(Duration::from_secs(6));
    assert_eq!(one.status(2), Status::Silent, "it did not keep its word");
    assert_eq!(one.status(1), Status::Left);
}

#[test]
fn a_second_link_to_a_peer_gives_way_and_a_new_process_does_not_displace_a_live_one() {
    let mut one = chain();
    one.out.clear();
    let peer = Peer {
        id: id(1),
        name: name(1),
        incarnation: Incarnation(9),
        nonce: Nonce(77),
        addresses: Vec::new(),
        dialled: None,
        remote: "10.0.0.1:7400".parse().unwrap(),
    };
    one.give(Input::LinkUp { link: LinkId(2), peer: peer.clone() });
    let refused = |out: &[Output], link: u64, reason: Goodbye| {
        out.iter().any(|output| {
            matches!(output, Output::Close { link: LinkId(n), why } if *n == link && *why == reason)
        })
    };
    assert!(refused(&one.out, 2, Goodbye::NameTaken));
    // Once the first process has gone quiet, the second is believed.
    one.pass(Duration::from_secs(2));
    one.give(Input::LinkUp { link: LinkId(3), peer });
    assert!(refused(&one.out, 1, Goodbye::Duplicate));
    assert_eq!(one.membership.link(id(1)), Some(LinkId(3)));
}

#[test]
fn a_lone_node_begins_by_itself_with_a_life_above_the_stored_one() {
    let mut one = One::new();
    one.pass(Duration::from_millis(299));
    assert!(!one.membership.has_begun());
    one.pass(Duration::from_millis(2));
    assert!(one.membership.has_begun());
    assert_eq!(one.membership.incarnation(), Incarnation(1));
}

impl One {
    /// A peer that has a link to another process of this node's name turns this one away.
    fn turned_away(&mut self, n: u8, link: u64) {
        self.link(n, link);
        let why = DownReason::Goodbye(Goodbye::NameTaken);
        self.give(Input::LinkDown { link: LinkId(link), why });
    }

    fn beat(&mut self, link: u64) {
        let heartbeat = Heartbeat { members: 0, incarnation: Incarnation(1), flags: 0 };
        self.give(Input::Heartbeat { link: LinkId(link), heartbeat: Some(heartbeat) });
    }

    fn gave_its_name_up(&self) -> bool {
        self.out.iter().any(|output| matches!(output, Output::NameTaken))
    }
}

/// As on a slow machine: it knocks every three seconds, and at first reached nobody for a while.
#[test]
fn who_began_alone_and_is_turned_away_by_everybody_gives_the_name_up_however_late() {
    let mut one = One::new();
    one.pass(Duration::from_secs(40));
    assert!(one.membership.has_begun(), "it reached nobody");
    for knock in 0..40 {
        one.turned_away(1, knock);
        one.pass(Duration::from_secs(3));
        let due = knock >= 2;
        assert_eq!(one.membership.has_begun(), !due, "after knock {knock}");
    }
    let begun = one.out.iter().filter(|output| matches!(output, Output::Begin { .. })).count();
    assert_eq!(begun, 1, "it did not come and go");
    // The other process is gone, and the peer takes the link.
    one.link(1, 100);
    one.beat(100);
    one.give(Input::Synced);
    one.pass(Duration::from_secs(3));
    assert!(one.membership.has_begun(), "the name is free");
    for knock in 0..40 {
        one.beat(100);
        one.turned_away(3, 200 + knock);
        one.pass(Duration::from_secs(1));
    }
    assert!(one.membership.has_begun(), "a word is not enough once a peer has taken a link");
}

#[test]
fn who_began_alone_and_is_turned_away_for_a_moment_keeps_its_name() {
    let mut one = One::new();
    one.pass(Duration::from_secs(1));
    // A link to its earlier life, which nobody closed.
    one.turned_away(1, 1);
    one.pass(Duration::from_secs(2));
    one.link(1, 2);
    one.beat(2);
    one.pass(Duration::from_secs(4));
    one.turned_away(2, 3);
    assert!(one.membership.has_begun() && !one.gave_its_name_up());
}

#[test]
fn a_peer_that_is_gone_after_it_turned_a_node_away_does_not_silence_it_for_ever() {
    let mut one = One::new();
    one.turned_away(1, 1);
    one.pass(Duration::from_secs(14));
    assert!(!one.membership.has_begun(), "the word counts");
    one.pass(Duration::from_secs(2));
    assert!(one.membership.has_begun());
}

#[test]
fn a_life_beyond_the_longest_jump_is_not_believed() {
    let mut one = One::new();
    let incarnation = Incarnation(Incarnation::MAX_JUMP + 2);
    one.give(Input::ForeignSelf { incarnation, facts: None });
    one.pass(Duration::from_secs(1));
    assert_eq!(one.membership.incarnation(), Incarnation(1));
}

#[test]
fn lists_over_their_bounds_are_refused() {
    let mut long = facts(1, NodeState::Up);
    assert_eq!(NodeFacts::from_body(&long.to_body()), Ok(long.clone()));
    long.addresses = vec![long.addresses[0]; MAX_ADDRESSES + 1];
    assert!(NodeFacts::from_body(&long.to_body()).is_err());
    let edge = Edge {
        node: id(1),
        incarnation: Incarnation(u64::MAX),
        nonce: u32::MAX,
        verdict: Verdict::Heard,
    };
    let full = Watch { edges: vec![edge; MAX_EDGES] };
    assert!(full.to_body().len() <= 4096, "the longest watch record fits");
    assert!(Watch::from_body(&full.to_body()).is_ok());
    let over = Watch { edges: vec![edge; MAX_EDGES + 1] };
    assert!(Watch::from_body(&over.to_body()).is_err());
}

#[test]
fn facts_watch_and_heartbeat_have_these_bytes_for_ever() {
    let hex = |bytes: &[u8]| -> String {
        bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
    };
    let node = facts(1, NodeState::Restarting { back_within_ms: 300 });
    assert_eq!(
        hex(&node.to_body()),
        "066e6f64652d310001e80701ac020101000a000001e83900010474657374"
    );
    let edge = Edge {
        node: NodeId::from_bytes([7; 16]),
        incarnation: Incarnation(3),
        nonce: 9,
        verdict: Verdict::Silent,
    };
    let watch = Watch { edges: vec![edge] };
    assert_eq!(hex(&watch.to_body()), "0107070707070707070707070707070707030902");
    let beat = Heartbeat { members: 300, incarnation: Incarnation(2), flags: Heartbeat::WANTED };
    assert_eq!(hex(&encode(&beat)), "ac020201");
}
