//! Waves to many targets on virtual time: origin bytes, completion in spite of loss, no byte twice.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Digest, NodeId, Rng, Time};

use crate::transfer::{Arrival, Chunk, Transfer};
use crate::{Bitmap, Limits};

const PIECES: u32 = 96;
const CHUNKS_A_PIECE: usize = 4;
const STEP: Duration = Duration::from_millis(10);
/// Chunks a node sends in one step: about 64 MiB/s.
const UPLOAD: usize = 10;

struct World {
    now: Time,
    pieces: Vec<Vec<Chunk>>,
    targets: BTreeMap<NodeId, Transfer>,
    links: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// What each node is to send: to whom, which chunk.
    uploads: BTreeMap<NodeId, Vec<(NodeId, Digest)>>,
    sent: BTreeMap<(NodeId, Digest), u32>,
    origin_chunks: usize,
    liar: Option<NodeId>,
}

fn node(number: u64) -> NodeId {
    let digest = Digest::of(&number.to_le_bytes());
    let mut id = [0; NodeId::LEN];
    id.copy_from_slice(&digest.0[..NodeId::LEN]);
    NodeId::from_bytes(id)
}

fn queen() -> NodeId {
    node(0)
}

impl World {
    fn new(targets: u64, degree: usize, seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let pieces = (0..PIECES)
            .map(|piece| {
                (0..CHUNKS_A_PIECE)
                    .map(|chunk| Chunk {
                        digest: Digest::of(alloc::format!("{piece}/{chunk}").as_bytes()),
                        len: 65_536,
                    })
                    .collect()
            })
            .collect();
        let mut world = Self {
            now: Time::ZERO,
            pieces,
            targets: BTreeMap::new(),
            links: BTreeMap::new(),
            uploads: BTreeMap::new(),
            sent: BTreeMap::new(),
            origin_chunks: 0,
            liar: None,
        };
        let names: Vec<NodeId> = (1..=targets).map(node).collect();
        for name in &names {
            world.join(*name, &names);
        }
        for name in &names {
            for _ in 0..degree {
                if let Some(other) = rng.pick(&names) {
                    world.link(*name, *other);
                }
            }
        }
        world
    }

    fn join(&mut self, name: NodeId, targets: &[NodeId]) {
        let pieces = self.pieces.iter().map(Vec::as_slice);
        let ids = (name, queen());
        let limits = Limits::default();
        let mut transfer = Transfer::new(ids, limits, pieces, &BTreeSet::new(), self.now);
        transfer.set_targets(targets.to_vec());
        assert!(transfer.peer_has(queen(), Bitmap::full(PIECES).as_bytes(), self.now));
        self.targets.insert(name, transfer);
    }

    fn link(&mut self, a: NodeId, b: NodeId) {
        if a == b {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.links.entry(from).or_default().insert(to);
            let has = self.targets[&to].have().clone();
            let now = self.now;
            let transfer = self.targets.get_mut(&from).unwrap();
            assert!(transfer.peer_has(to, has.as_bytes(), now));
        }
    }

    fn kill(&mut self, name: NodeId) {
        self.targets.remove(&name);
        self.uploads.remove(&name);
        self.links.remove(&name);
        let left: Vec<NodeId> = self.targets.keys().copied().collect();
        for transfer in self.targets.values_mut() {
            transfer.peer_gone(name);
            transfer.set_targets(left.clone());
        }
        for queue in self.uploads.values_mut() {
            queue.retain(|(to, _)| *to != name);
        }
        for peers in self.links.values_mut() {
            peers.remove(&name);
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        let names: Vec<NodeId> = self.targets.keys().copied().collect();
        for name in &names {
            let asks = self.targets.get_mut(name).unwrap().asks(self.now, u64::MAX);
            for ask in asks {
                let queue = self.uploads.entry(ask.from).or_default();
                queue.extend(ask.chunks.into_iter().map(|chunk| (*name, chunk)));
            }
        }
        let uploaders: Vec<NodeId> = self.uploads.keys().copied().collect();
        for from in uploaders {
            let queue = self.uploads.get_mut(&from).unwrap();
            let count = queue.len().min(UPLOAD);
            let sending: Vec<_> = queue.drain(..count).collect();
            for (to, digest) in sending {
                self.deliver(from, to, digest);
            }
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, digest: Digest) {
        let Some(transfer) = self.targets.get_mut(&to) else {
            return;
        };
        self.origin_chunks += usize::from(from == queen());
        if transfer.arrived(from, &digest, self.now) == Arrival::Unasked {
            return;
        }
        if self.liar == Some(from) {
            transfer.wrong(from, &digest, self.now);
            return;
        }
        *self.sent.entry((to, digest)).or_insert(0) += 1;
        if let Some(piece) = transfer.stored(from, &digest, self.now) {
            for peer in self.links.get(&to).cloned().unwrap_or_default() {
                if let Some(other) = self.targets.get_mut(&peer) {
                    other.peer_got(to, &[piece], self.now);
                }
            }
        }
    }

    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.targets.values().any(|transfer| !transfer.is_complete()) {
            assert!(self.now < end, "not done: {:?}", self.reports());
            self.step();
        }
    }

    fn reports(&self) -> Vec<crate::Report> {
        let waiting = self.targets.values().filter(|transfer| !transfer.is_complete());
        waiting.map(Transfer::report).collect()
    }

    /// Bytes that left the queen for each byte of the image.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of small numbers")]
    fn origin_ratio(&self) -> f64 {
        self.origin_chunks as f64 / (PIECES as usize * CHUNKS_A_PIECE) as f64
    }

    fn check_no_chunk_twice(&self) {
        assert!(self.sent.values().all(|count| *count == 1), "a chunk was fetched twice");
    }
}

#[test]
fn the_queen_sends_each_piece_about_once_however_many_targets() {
    for (targets, degree) in [(1, 0), (2, 2), (8, 7), (30, 8), (100, 8)] {
        let mut world = World::new(targets, degree, targets);
        world.run(Duration::from_secs(60));
        let ratio = world.origin_ratio();
        assert!((1.0..1.05).contains(&ratio), "{targets} targets: {ratio}");
        world.check_no_chunk_twice();
    }
}

#[test]
fn a_wave_ends_though_nodes_die_in_the_middle_of_it() {
    for seed in 0..10 {
        let mut world = World::new(16, 6, seed);
        let mut rng = Rng::seeded(seed);
        for _ in 0..4 {
            for _ in 0..rng.within(3..20) {
                world.step();
            }
            let names: Vec<NodeId> = world.targets.keys().copied().collect();
            world.kill(*rng.pick(&names).unwrap());
        }
        world.run(Duration::from_secs(120));
        let ratio = world.origin_ratio();
        assert!(ratio < 1.8, "seed {seed}: {ratio}");
    }
}

#[test]
fn a_bringer_that_hangs_is_replaced_by_the_next_in_line() {
    let mut world = World::new(8, 7, 1);
    let hanging = node(3);
    // It is present and linked, and does nothing.
    world.targets.remove(&hanging);
    world.run(Duration::from_secs(60));
    let ratio = world.origin_ratio();
    assert!((1.0..1.2).contains(&ratio), "{ratio}");
}

#[test]
fn a_liar_is_avoided_and_the_wave_ends() {
    let mut world = World::new(8, 7, 2);
    world.liar = Some(node(5));
    world.run(Duration::from_secs(120));
    world.check_no_chunk_twice();
}

#[test]
fn a_late_joiner_takes_all_from_those_that_are_done() {
    let mut world = World::new(8, 7, 3);
    world.run(Duration::from_secs(60));
    let before = world.origin_chunks;
    let late = node(99);
    let mut all: Vec<NodeId> = world.targets.keys().copied().collect();
    all.push(late);
    world.join(late, &all);
    for peer in &all[..3] {
        world.link(late, *peer);
    }
    world.run(Duration::from_secs(60));
    assert_eq!(world.origin_chunks, before);
    assert_eq!(world.targets[&late].sources().len(), 3);
}

/// More targets than an order lists by name: the list is for people, and no gate.
#[test]
fn two_hundred_targets_and_one_that_comes_late_are_served_like_ten() {
    let mut world = World::new(200, 8, 200);
    let names: Vec<NodeId> = world.targets.keys().copied().collect();
    let hosts = crate::Hosts::of(names.clone());
    assert!(names.len() > crate::MAX_HOSTS_LISTED && hosts.len() == names.len());
    assert!(names.iter().all(|name| hosts.lists(*name).is_none()), "it counts, and says no more");
    world.run(Duration::from_secs(120));
    let ratio = world.origin_ratio();
    assert!((1.0..1.05).contains(&ratio), "{ratio}");
    world.check_no_chunk_twice();
    let before = world.origin_chunks;
    let late = node(9_999);
    let all: Vec<NodeId> = names.iter().copied().chain([late]).collect();
    world.join(late, &all);
    for peer in &names[..3] {
        world.link(late, *peer);
    }
    world.run(Duration::from_secs(60));
    assert_eq!(world.origin_chunks, before, "those that are done serve it");
}

#[test]
fn targets_that_reach_nobody_but_the_queen_still_finish() {
    let mut world = World::new(6, 0, 4);
    world.run(Duration::from_secs(120));
    let ratio = world.origin_ratio();
    assert!((5.9..=6.0).contains(&ratio), "{ratio}");
}
