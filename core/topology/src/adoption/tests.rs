//! One machine, and two that pass bodies on.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Digest, GroupName, NodeId, Outbox, Rng, Time};

use super::{Adoption, Answer, Basis, Config, Event, Input, Message, Output, Plan, Wanted, Why};
use crate::computed::decree::{Body, Decree, Stamp};
use crate::computed::{Margin, Topology};
use crate::hash_overlay;

const S: Duration = Duration::from_secs(1);

fn node(n: usize) -> NodeId {
    let digest = Digest::of_parts(&[&n.to_le_bytes()]);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.0[..16]);
    NodeId::from_bytes(id)
}

fn flock(n: usize) -> Vec<NodeId> {
    let mut members: Vec<NodeId> = (0..n).map(node).collect();
    members.sort_unstable();
    members
}

/// Any topology will do here: that of the hash, as if it had been computed.
fn topology(members: &[NodeId]) -> Topology {
    let overlay = hash_overlay(members, 3);
    let place = |id: NodeId| u32::try_from(members.binary_search(&id).unwrap()).unwrap();
    let edges: Vec<_> = overlay.edges().map(|(a, b)| (place(a), place(b))).collect();
    Topology::new(members.to_vec(), 3, &edges)
}

fn all() -> GroupName {
    GroupName::all()
}

struct Bench {
    now: Time,
    machine: Adoption,
}

impl Bench {
    fn new(me: NodeId, master: Option<NodeId>) -> Self {
        let plan = Plan { k: 3, master, update_period: 120 * S };
        let (listen_first, listen_of_each) = (Duration::ZERO, Duration::ZERO);
        let plans = BTreeMap::from([(all(), plan)]);
        let config = Config { plans, listen_first, listen_of_each, ..Config::default() };
        let machine = Adoption::new(me, config, Rng::seeded(1));
        Self { now: Time::from_millis(5_000), machine }
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Outbox::new();
        self.machine.handle(self.now, input, &mut out);
        self.machine.check();
        out.drain().collect()
    }

    fn members(&mut self, members: &[NodeId]) {
        self.give(Input::Members { group: all(), present: members.to_vec() });
    }

    /// Lets time pass, and gives what comes out.
    fn wait(&mut self, span: Duration) -> Vec<Output> {
        let end = self.now + span;
        let mut outputs = Vec::new();
        while let Some((at, _)) = self.machine.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            let mut out = Outbox::new();
            self.machine.tick(self.now, &mut out);
            self.machine.check();
            outputs.extend(out.drain());
        }
        self.now = end;
        outputs
    }

    fn wanted(&mut self, span: Duration) -> Option<Wanted> {
        let wanted = |output| {
            if let Output::Compute(wanted) = output { Some(wanted) } else { None }
        };
        self.wait(span).into_iter().find_map(wanted)
    }

    fn answer(&mut self, job: u64, answer: Result<Answer, &str>) -> Vec<Output> {
        let answer = answer.map_err(Into::into);
        let outputs = self.give(Input::Computed { group: all(), job, answer });
        // What it publishes comes back to it as a record.
        let me = self.machine.me();
        for output in outputs.clone() {
            if let Output::Publish { slot, body } = output {
                self.give(Input::Decree { owner: me, slot, body });
            }
        }
        outputs
    }

    fn decree(&mut self, owner: NodeId, epoch: u64, topology: &Topology) -> Vec<Output> {
        let (decree, _) = Decree::new(all(), Stamp { epoch, fork: 7 }, topology);
        let body = Some(decree.to_bytes().into());
        self.give(Input::Decree { owner, slot: 0, body })
    }

    fn epoch(&self) -> Option<u64> {
        Some(self.machine.view(&all())?.stamp?.epoch)
    }
}

fn computed(members: &[NodeId]) -> Result<Answer, &'static str> {
    let topology = topology(members);
    let rtts = alloc::vec![20_000; topology.edges().len()];
    Ok(Answer { topology, kept: false, rtts })
}

fn kept(members: &[NodeId]) -> Result<Answer, &'static str> {
    computed(members).map(|answer| Answer { kept: true, ..answer })
}

fn published(outputs: &[Output]) -> Option<Decree> {
    outputs.iter().find_map(|output| {
        let Output::Publish { body: Some(body), .. } = output else { return None };
        Decree::from_bytes(body).ok()
    })
}

#[test]
fn the_master_computes_when_members_have_kept_still_and_all_others_do_not() {
    let members = flock(8);
    for (at, master) in [(0, None), (3, Some(members[3])), (0, Some(node(77)))] {
        for (me, id) in members.iter().enumerate() {
            let mut bench = Bench::new(*id, master);
            bench.give(Input::Begun);
            bench.members(&members[..7]);
            bench.wait(8 * S);
            bench.members(&members);
            assert!(bench.wanted(9 * S).is_none(), "they have not kept still yet");
            let wanted = bench.wanted(2 * S);
            assert_eq!(wanted.is_some(), me == at, "{me} with {master:?} named");
            assert!(wanted.is_none_or(|wanted| wanted.members == members && wanted.k == 3));
        }
    }
}

#[test]
fn a_large_flock_is_listened_to_for_longer_for_its_reports_take_longer() {
    for (n, seconds) in [(8_usize, 45 + 6 * 8), (30, 45 + 6 * 30), (120, 45 + 600)] {
        let members = flock(n);
        let mut bench = Bench::new(members[0], None);
        let plan = Plan { k: 3, master: None, update_period: 120 * S };
        let plans = BTreeMap::from([(all(), plan)]);
        let config = Config { plans, ..Config::default() };
        bench.machine = Adoption::new(members[0], config, Rng::seeded(1));
        bench.give(Input::Begun);
        bench.members(&members);
        assert!(bench.wanted((seconds - 1) * S).is_none(), "{n} members");
        assert!(bench.wanted(2 * S).is_some(), "{n} members");
    }
}

#[test]
fn who_never_keeps_still_does_not_put_it_off_for_ever() {
    let members = flock(30);
    let mut bench = Bench::new(members[0], None);
    bench.give(Input::Begun);
    let mut first = None;
    for second in 0..100_usize {
        bench.members(&members[..20 + second % 2]);
        if bench.wanted(S).is_some() {
            first.get_or_insert(second);
        }
    }
    assert!(first.is_some_and(|second| (55..=65).contains(&second)), "{first:?}");
}

#[test]
fn a_node_that_may_not_publish_computes_nothing() {
    let members = flock(8);
    let mut bench = Bench::new(members[0], None);
    bench.members(&members);
    assert!(bench.wanted(100 * S).is_none());
    bench.give(Input::Begun);
    assert!(bench.wanted(S).is_some());
}

#[test]
fn old_neighbours_are_kept_until_the_new_overlay_is_whole() {
    let members = flock(10);
    let mut bench = Bench::new(members[4], None);
    bench.members(&members);
    let old: Vec<NodeId> = members[..3].to_vec();
    bench.give(Input::Laid { group: all(), neighbours: old.clone() });
    let outputs = bench.decree(members[0], 1, &topology(&members));
    let lays_out =
        |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::LayOut { .. }));
    assert!(lays_out(&outputs) && bench.machine.kept(&all()) == old);
    assert!(bench.machine.standing(&all()).is_some());
    bench.give(Input::Laid { group: all(), neighbours: members[5..8].to_vec() });
    // A second decree before the first is whole: what came before both is kept.
    bench.decree(members[0], 2, &topology(&members));
    assert_eq!(bench.machine.kept(&all()).len(), 6);
    let asked = bench.wait(5 * S);
    let inspections =
        asked.iter().filter(|output| matches!(output, Output::Inspect { .. })).count();
    assert!((4..=6).contains(&inspections), "{inspections}");
    let edges = alloc::vec![(members[0], members[1])];
    assert!(!lays_out(&bench.give(Input::Missing { group: all(), edges })));
    assert_eq!(bench.machine.kept(&all()).len(), 6);
    assert!(lays_out(&bench.give(Input::Missing { group: all(), edges: Vec::new() })));
    assert!(bench.machine.kept(&all()).is_empty());
}

#[test]
fn stale_stamps_are_not_followed_and_wild_ones_refused() {
    let members = flock(10);
    let mut bench = Bench::new(members[4], None);
    bench.members(&members);
    bench.decree(members[0], 5, &topology(&members));
    bench.decree(members[1], 4, &topology(&members[1..]));
    assert_eq!(bench.epoch(), Some(5), "an older stamp of another master");
    bench.decree(members[0], 3, &topology(&members));
    assert_eq!(bench.epoch(), Some(5), "an older stamp of the same");
    let outputs = bench.decree(members[2], u64::MAX, &topology(&members));
    assert!(matches!(outputs[..], [Output::Reject { .. }]));
    bench.give(Input::Decree { owner: members[0], slot: 0, body: None });
    assert_eq!(bench.epoch(), Some(5), "what is in force stays when its master takes it back");
    bench.decree(members[1], 6, &topology(&members));
    assert_eq!(bench.epoch(), Some(6));
}

#[test]
fn whoever_takes_over_rebuilds_the_groups_identity_from_what_stands() {
    let members = flock(10);
    let mut bench = Bench::new(members[1], Some(members[0]));
    bench.give(Input::Begun);
    bench.members(&members);
    bench.decree(members[0], 41, &topology(&members));
    assert!(bench.wanted(1000 * S).is_none(), "the named master is there");
    bench.members(&members[1..]);
    let wanted = bench.wanted(20 * S).unwrap();
    assert_eq!(wanted.standing.as_deref(), Some(&topology(&members)));
    let outputs = bench.answer(wanted.job, computed(&members[1..]));
    assert_eq!(published(&outputs).map(|decree| decree.stamp.epoch), Some(42));
    assert_eq!(bench.epoch(), Some(42));
    // The first master is back, knows of that, and is the master again; ours is taken back.
    bench.members(&members);
    let outputs = bench.decree(members[0], 43, &topology(&members));
    let back = |output: &Output| matches!(output, Output::Publish { body: None, .. });
    assert!(outputs.iter().any(back), "two decrees of one group stay about");
}

#[test]
fn two_that_take_themselves_for_the_master_do_not_take_turns() {
    let members = flock(10);
    // The configuration of one names it, that of the other names nobody.
    let mut named = Bench::new(members[4], Some(members[4]));
    let mut lowest = Bench::new(members[0], None);
    let mut decrees = 0;
    for bench in [&mut named, &mut lowest] {
        bench.give(Input::Begun);
        bench.members(&members);
    }
    for _ in 0..60 {
        let [from_named, from_lowest] = [&mut named, &mut lowest].map(|bench| {
            let wanted = bench.wanted(10 * S);
            wanted.and_then(|wanted| published(&bench.answer(wanted.job, computed(&members))))
        });
        decrees += [&from_named, &from_lowest].into_iter().flatten().count();
        for (decree, owner, bench) in
            [(from_named, members[4], &mut lowest), (from_lowest, members[0], &mut named)]
        {
            if let Some(decree) = decree {
                let body = Some(decree.to_bytes().into());
                bench.give(Input::Decree { owner, slot: 0, body });
            }
        }
    }
    // A new one each update period of two minutes, as the answer here is never that it is kept.
    assert!(decrees <= 9, "{decrees} decrees in ten minutes");
    assert_eq!(lowest.machine.view(&all()).unwrap().master, Some(members[4]));
}

#[test]
fn where_nobody_cares_the_lowest_computes_in_the_end() {
    let members = flock(10);
    let mut bench = Bench::new(members[0], None);
    bench.give(Input::Begun);
    bench.members(&members);
    bench.decree(members[5], 3, &topology(&members));
    assert!(bench.wanted(600 * S).is_none(), "whoever has the office keeps it");
    bench.members(&members[..9]);
    assert!(bench.wanted(150 * S).is_none(), "it stands back for the one in office");
    assert!(bench.wanted(60 * S).is_some());
}

#[test]
fn a_computation_that_fails_leaves_the_last_topology_and_says_why() {
    let members = flock(10);
    let mut bench = Bench::new(members[0], None);
    bench.give(Input::Begun);
    bench.members(&members);
    let first = bench.wanted(20 * S).unwrap();
    bench.answer(first.job, computed(&members));
    let again = bench.wanted(200 * S).unwrap();
    let outputs = bench.answer(again.job, Err("the command took longer than 60 s"));
    assert!(
        matches!(&outputs[..], [Output::Event(Event::Failed { why, .. })] if why.contains("60 s"))
    );
    assert_eq!(bench.epoch(), Some(1));
    assert!(bench.machine.view(&all()).unwrap().failure.is_some());
    assert!(bench.wanted(30 * S).is_none(), "it is tried again at once");
    let third = bench.wanted(200 * S).unwrap();
    bench.answer(third.job, kept(&members));
    assert!(bench.machine.view(&all()).unwrap().failure.is_none());
    assert_eq!(bench.epoch(), Some(1), "what is kept is not decreed again");
}

#[test]
fn a_topology_settles_once_nothing_is_better_and_all_are_at_home() {
    let members = flock(10);
    let mut bench = Bench::new(members[0], None);
    bench.give(Input::Begun);
    bench.members(&members);
    let first = bench.wanted(20 * S).unwrap();
    bench.answer(first.job, computed(&members));
    let settled = Margin::Settled(alloc::vec![20_000; topology(&members).edges().len()].into());
    let mut margins = Vec::new();
    for _ in 0..15 {
        let next = bench.wanted(121 * S).unwrap();
        margins.push(next.margin);
        bench.answer(next.job, kept(&members));
    }
    assert_eq!(margins[..12], alloc::vec![Margin::Settling; 12], "newcomers are not at home yet");
    assert_eq!(margins[13..], alloc::vec![settled.clone(); 2]);
    // What it costs later is not what it has settled at.
    let next = bench.wanted(121 * S).unwrap();
    let dearer = kept(&members).map(|answer| {
        let rtts = answer.rtts.iter().map(|rtt| rtt * 2).collect();
        Answer { rtts, ..answer }
    });
    bench.answer(next.job, dearer);
    let next = bench.wanted(121 * S).unwrap();
    assert_eq!(next.margin, settled);
    // Another has to settle first.
    bench.answer(next.job, computed(&members));
    assert_eq!(bench.wanted(121 * S).unwrap().margin, Margin::Settling);
}

#[test]
fn an_answer_to_a_question_of_before_is_of_no_use() {
    let members = flock(20);
    let mut bench = Bench::new(members[0], None);
    bench.give(Input::Begun);
    bench.members(&members);
    let first = bench.wanted(20 * S).unwrap();
    assert!(bench.answer(first.job + 1, computed(&members)).is_empty(), "a job that is none");
    // Most of the members are gone by the time it is answered.
    bench.members(&members[..5]);
    assert!(published(&bench.answer(first.job, computed(&members[4..]))).is_none());
    assert_eq!(bench.wanted(30 * S).map(|wanted| wanted.members.len()), Some(5));
}

#[test]
fn links_that_never_come_are_told_and_avoided() {
    let members = flock(10);
    let mut bench = Bench::new(members[0], None);
    bench.give(Input::Begun);
    bench.members(&members);
    let job = bench.wanted(20 * S).unwrap().job;
    bench.answer(job, computed(&members));
    let pair = (members[2], members[3]);
    let mut told = 0;
    for _ in 0..90 {
        bench.now = bench.now + S;
        let outputs = bench.give(Input::Missing { group: all(), edges: alloc::vec![pair] });
        let tells = |output: &&Output| matches!(output, Output::Event(Event::Lacking { .. }));
        told += outputs.iter().filter(tells).count();
    }
    assert_eq!(told, 1);
    let wanted = bench.wanted(S).unwrap();
    assert_eq!(wanted.apart, [pair]);
}

#[test]
fn a_large_topology_is_fetched_by_its_digest_from_whoever_has_it() {
    let members = flock(600);
    let mut master = Bench::new(members[0], None);
    master.give(Input::Begun);
    master.members(&members);
    let job = master.wanted(20 * S).unwrap().job;
    let decree = published(&master.answer(job, computed(&members))).unwrap();
    assert!(matches!(decree.body, Body::Apart { length, .. } if length > 9_000));
    assert_eq!(master.epoch(), Some(1));

    let mut other = Bench::new(members[9], None);
    other.now = master.now;
    other.members(&members);
    other.give(Input::Link { peer: members[5], up: true });
    let body = Some(decree.to_bytes().into());
    other.give(Input::Decree { owner: members[0], slot: 0, body });
    assert_eq!(other.epoch(), None);
    // The first that is asked does not have it, the second lies, the third is the master.
    let mut lies = 1;
    for round in 0..200 {
        let asks = other.wait(S);
        if round == 3 {
            other.give(Input::Link { peer: members[0], up: true });
        }
        for ask in asks {
            let Output::Send { to, body } = ask else { continue };
            if to == members[0] {
                talk(&mut master, &mut other, body);
                continue;
            }
            let Ok(Message::Ask { digest, from }) = skep_wire::decode("ask", &body) else {
                panic!("not a question");
            };
            let bytes = alloc::vec![1; if lies > 0 { 20_000 } else { 0 }];
            lies -= i32::from(lies > 0);
            let part = Message::Part { digest, from, bytes: bytes.into() };
            let body = skep_wire::encode(&part).into();
            other.give(Input::Message { from: to, body });
        }
    }
    assert_eq!(other.epoch(), Some(1));
    assert_eq!(other.machine.view(&all()).unwrap().topology.unwrap().members(), members);
}

/// Carries a question to the master, and what follows from it, until nothing more is said.
fn talk(master: &mut Bench, other: &mut Bench, question: bytes::Bytes) {
    let (me, it) = (other.machine.me(), master.machine.me());
    let mut question = Some(question);
    while let Some(body) = question.take() {
        for output in master.give(Input::Message { from: me, body }) {
            let Output::Send { body, .. } = output else { continue };
            for output in other.give(Input::Message { from: it, body }) {
                if let Output::Send { body, .. } = output {
                    question = Some(body);
                }
            }
        }
    }
}

#[test]
fn equal_digests_mean_equal_members_and_equal_decrees() {
    let members = flock(10);
    let mut a = Bench::new(members[1], None);
    let mut b = Bench::new(members[2], None);
    let digest = |bench: &Bench| bench.machine.digest(&members);
    assert_eq!(digest(&a), crate::member_digest(&members).short());
    a.decree(members[0], 1, &topology(&members));
    assert_ne!(digest(&a), digest(&b));
    b.decree(members[0], 1, &topology(&members));
    assert_eq!(digest(&a), digest(&b));
}

#[test]
fn it_is_said_why_the_hash_is_in_force() {
    let members = flock(12);
    let mut bench = Bench::new(members[5], None);
    let basis = |bench: &Bench| bench.machine.view(&all()).unwrap().basis;
    bench.members(&members[..4]);
    assert_eq!(basis(&bench), Basis::Hash(Why::Few));
    bench.members(&members);
    assert_eq!(basis(&bench), Basis::Hash(Why::Undecreed));
    let digest = Digest::of(b"a body that is not here yet");
    let body = Body::Apart { digest, length: 5_000 };
    let stamp = Stamp { epoch: 2, fork: 1 };
    let digest_of_members = topology(&members).member_digest();
    let decree = Decree { group: all(), stamp, k: 3, members: digest_of_members, body };
    let body = Some(decree.to_bytes().into());
    bench.give(Input::Decree { owner: members[1], slot: 0, body });
    assert_eq!(basis(&bench), Basis::Hash(Why::Awaited(stamp)));
    bench.decree(members[0], 3, &topology(&members[..6]));
    assert_eq!(basis(&bench), Basis::Computed, "half of them are in it");
    bench.members(&members[4..]);
    assert_eq!(basis(&bench), Basis::Hash(Why::Uncovered { known: 2 }));
    // Of a group that it is not in, whoever asks says who the members are.
    let web: GroupName = "web".parse().unwrap();
    let seen = bench.machine.view_among(&web, &members);
    assert_eq!((seen.basis, seen.master), (Basis::Hash(Why::Undecreed), Some(members[0])));
    let (decree, _) = Decree::new(web.clone(), stamp, &topology(&members[2..]));
    let body = Some(decree.to_bytes().into());
    bench.give(Input::Decree { owner: members[7], slot: 0, body });
    let seen = bench.machine.view_among(&web, &members[2..]);
    assert_eq!((seen.basis, seen.by), (Basis::Computed, Some(members[7])));
    assert!(bench.machine.standing_among(&web, &members[2..]).is_some());
    assert!(bench.machine.standing(&web).is_none(), "nobody told it of members");
}

#[test]
fn a_failure_is_tried_again_no_later_than_the_next_update_is_due() {
    let members = flock(8);
    for (update, again) in [(120, 60), (30, 30), (2, 10)] {
        let mut bench = Bench::new(members[0], None);
        let plan = Plan { k: 3, master: None, update_period: update * S };
        let plans = BTreeMap::from([(all(), plan)]);
        let (listen_first, listen_of_each) = (Duration::ZERO, Duration::ZERO);
        let config = Config { plans, listen_first, listen_of_each, ..Config::default() };
        bench.machine = Adoption::new(members[0], config, Rng::seeded(1));
        bench.give(Input::Begun);
        bench.members(&members);
        let wanted = bench.wanted(11 * S).unwrap();
        bench.answer(wanted.job, Err("no licence"));
        assert!(bench.wanted((again - 1) * S).is_none(), "{update}: too soon");
        assert!(bench.wanted(2 * S).is_some(), "{update}: not again");
    }
}
