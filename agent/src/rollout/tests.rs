//! Whole waves over loopback: real links, disks and trees; only the records travel by hand.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_base::{Digest, NodeId, NodeName, Nonce, Rng, WallTime};
use skep_control::api::{
    PruneImages, Refusal, StartWave, Wave, WaveDetail, WaveId, WaveState, WaveStep,
};
use skep_control::{Reply, Request as Question};
use skep_hostfs::{BoxError, BuildOptions, ChunkSink, OnTrouble, Quiet, build, tree_digest};
use skep_identity::{IdentityHandle, Role};
use skep_image::{ChunkRef, Header, ImageKind, ManifestDigest, Seal, chunks_of};
use skep_membership::{NodeFacts, NodeState};
use skep_node::service::{LINK_BACK, MEET};
use skep_records::kind;
use skep_store::blobs::{Blobs, Writer};
use skep_transport::Event;
use skep_wire::Address;
use tokio::sync::mpsc;

use super::{Command, Config, Parts, Rollout};
use crate::clock::Clock;
use crate::loopback::{self, Begun, Bloc, World};
use crate::spine::Request;

/// How long anything may take on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// What floods between real nodes, handed round at once.
#[derive(Default)]
struct Bus {
    nodes: BTreeMap<NodeId, mpsc::UnboundedSender<Command>>,
    records: BTreeMap<(NodeId, u16), Bytes>,
}

impl Bus {
    fn record(&mut self, owner: NodeId, kind: u16, body: Bytes) {
        self.records.insert((owner, kind), body.clone());
        for node in self.nodes.values() {
            tell(node, owner, kind, &body);
        }
    }

    fn join(&mut self, id: NodeId, commands: mpsc::UnboundedSender<Command>) {
        for ((owner, kind), body) in &self.records {
            tell(&commands, *owner, *kind, body);
        }
        for (other, theirs) in &self.nodes {
            drop(commands.send(Command::Presence { node: *other, present: true }));
            drop(theirs.send(Command::Presence { node: id, present: true }));
        }
        self.nodes.insert(id, commands);
    }

    fn leave(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        for node in self.nodes.values() {
            drop(node.send(Command::Presence { node: id, present: false }));
        }
    }
}

fn tell(node: &mpsc::UnboundedSender<Command>, owner: NodeId, kind: u16, body: &Bytes) {
    let body = Some(body.clone());
    drop(node.send(Command::Record { owner, kind, schema: 1, body }));
}

struct Flock {
    bloc: Bloc,
    bus: Arc<Mutex<Bus>>,
}

struct Node {
    id: NodeId,
    root: PathBuf,
    state: PathBuf,
    identity: IdentityHandle,
    commands: mpsc::UnboundedSender<Command>,
    task: tokio::task::JoinHandle<()>,
    bus: Arc<Mutex<Bus>>,
    world: World,
    transport: skep_transport::TransportHandle,
}

impl Flock {
    fn new() -> Self {
        Self { bloc: Bloc::new(), bus: Arc::default() }
    }

    fn node(&self, name: &str, roles: &[Role]) -> Node {
        let begun = self.bloc.begin(name, roles);
        let (id, identity) = (begun.id, begun.identity.clone());
        let state = self.bloc.dir().join(format!("{name}.state"));
        let root = self.bloc.dir().join(format!("{name}.root"));
        fs::create_dir_all(&state).unwrap();
        fs::create_dir_all(root.join("srv")).unwrap();
        let rollout = Rollout::start(Parts {
            transport: begun.transport.clone(),
            reach: begun.reach.clone(),
            requests: begun.requests.clone(),
            identity: identity.clone(),
            clock: Clock::of_process(),
            state_dir: state.clone(),
            me: id,
            config: Config {
                serve: true,
                as_user: true,
                root: root.clone(),
                send_rate: None,
                fetch_rate: None,
                keep_versions: 0,
            },
        })
        .unwrap();
        let commands = rollout.commands.clone();
        let (transport, record) = (begun.transport.clone(), facts(&begun.name, begun.address));
        let world = self.bloc.world().clone();
        let task = tokio::spawn(spine(rollout, begun, world.clone(), Arc::clone(&self.bus)));
        {
            let mut bus = self.bus.lock().unwrap();
            bus.join(id, commands.clone());
            let der = Bytes::copy_from_slice(identity.current().certificate_der());
            bus.record(id, kind::CERTIFICATE, der);
            bus.record(id, kind::NODE, record);
        }
        let bus = Arc::clone(&self.bus);
        Node { id, root, state, identity, commands, task, bus, world, transport }
    }
}

/// What the main loop does for waves.
async fn spine(mut rollout: Rollout, mut node: Begun, world: World, bus: Arc<Mutex<Bus>>) {
    loop {
        tokio::select! {
            event = node.events.recv() => {
                let Some(event) = event else { return };
                match loopback::hand_to(&node.reach, event) {
                    Some(Event::LinkUp { link, peer, .. }) => rollout.link_up(link, &peer.cert),
                    Some(Event::Frame { link, frame, credit }) => {
                        rollout.frame(link, frame, credit);
                    }
                    Some(Event::LinkDown { link, .. }) => rollout.link_down(link),
                    _ => {}
                }
            },
            request = node.inbox.recv() => match request {
                Some(Request::Publish { kind, body, .. }) => {
                    bus.lock().unwrap().record(node.id, kind, body.unwrap());
                }
                Some(Request::Reach(wish)) => world.carry_out(node.id, wish),
                Some(_) => {}
                None => return,
            },
        }
    }
}

fn facts(name: &NodeName, address: SocketAddr) -> Bytes {
    let facts = NodeFacts {
        name: name.clone(),
        network: None,
        nonce: Nonce(1),
        started: WallTime::default(),
        state: NodeState::Up,
        addresses: vec![Address::classify(address)],
        groups: Vec::new(),
        feature_level: 1,
        version: "test".to_owned(),
    };
    facts.to_body().into()
}

impl Node {
    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Question) -> Result<T, Refusal> {
        let (reply, answer) = Reply::pair();
        self.commands.send(Command::Asked(question(reply))).unwrap();
        tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap()
    }

    async fn start(&self, at: &str, again: bool) -> Result<Wave, Refusal> {
        let order = StartWave {
            image: "site".parse().unwrap(),
            version: None,
            to: vec!["all".parse().unwrap()],
            at: at.to_owned(),
            as_user: true,
            again,
        };
        self.ask(|reply| Question::StartWave { order, reply }).await
    }

    /// The wave, once its order has come here.
    async fn wave(&self, id: &WaveId) -> Option<WaveDetail> {
        self.ask(|reply| Question::Wave { id: id.clone(), reply }).await.ok()
    }

    /// Waits until the wave has `done` targets that are done.
    async fn until_done(&self, id: &WaveId, done: u32) -> WaveDetail {
        self.until(id, |detail| detail.wave.done == done).await
    }

    async fn until(&self, id: &WaveId, so: impl Fn(&WaveDetail) -> bool) -> WaveDetail {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.wave(id).await {
                Some(detail) if so(&detail) => return detail,
                detail => assert!(Instant::now() < end, "not in time: {detail:#?}"),
            }
            // sleeps: between two looks at a condition that has a deadline
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Goes away without a word to anybody; what it was writing is left as it is.
    async fn kill(self) {
        self.bus.lock().unwrap().leave(self.id);
        self.world.remove(self.id);
        self.task.abort();
        drop(self.task.await);
        drop(self.commands.send(Command::Stop));
        self.transport.shutdown("killed").await;
    }

    fn tree(&self, at: &str) -> PathBuf {
        self.root.join(at.trim_start_matches('/'))
    }
}

struct Sink<'a>(Writer<'a>);

impl ChunkSink for Sink<'_> {
    fn put(&mut self, chunk: &ChunkRef, bytes: &[u8]) -> Result<(), BoxError> {
        self.0.put(&chunk.digest, bytes)?;
        Ok(())
    }
}

/// Builds a version of the image `site` in the node's store, as `skep image build` does.
fn build_image(queen: &Node, tree: &Path, version: u64) -> ManifestDigest {
    let identity = queen.identity.current();
    let blobs = Blobs::open(&queen.state.join("images")).unwrap();
    let header = Header {
        kind: ImageKind::Tree,
        name: "site".parse().unwrap(),
        version,
        created: WallTime::from_unix_ms(1),
        queen: identity.info().node.clone(),
        queen_id: identity.info().id,
        previous: None,
    };
    let options = BuildOptions { header, cross_mounts: false, on_trouble: OnTrouble::Fail };
    let mut sink = Sink(blobs.writer().unwrap());
    let built = build(tree, &options, &mut sink, &mut Quiet).unwrap();
    let bytes = built.manifest.encode();
    for (chunk, bytes) in chunks_of(&bytes) {
        sink.put(&chunk, bytes).unwrap();
    }
    let certificate = identity.certificate_der().to_vec();
    let seal = Seal::make(&bytes, certificate, |message| identity.sign(message));
    blobs.put_image(&"site".parse().unwrap(), version, &seal.encode()).unwrap();
    seal.manifest()
}

/// A tree of some large and many small files.
fn tree(dir: &Path, seed: u64, megabytes: usize) -> PathBuf {
    let root = dir.join(format!("tree-{seed}"));
    fs::create_dir_all(root.join("small")).unwrap();
    let mut rng = Rng::seeded(seed);
    for file in 0..megabytes {
        let bytes: Vec<u8> = (0..1 << 17).flat_map(|_| rng.bits().to_le_bytes()).collect();
        fs::write(root.join(format!("large-{file}")), bytes).unwrap();
    }
    for file in 0..200 {
        fs::write(root.join(format!("small/{file}")), rng.bits().to_le_bytes()).unwrap();
    }
    std::os::unix::fs::symlink("small/1", root.join("link")).unwrap();
    root
}

fn digest(path: &Path) -> Digest {
    tree_digest(path).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_reaches_every_node_and_those_that_come_late() {
    let flock = Flock::new();
    let queen = flock.node("queen", &[Role::Queen]);
    let others: Vec<Node> = (1..=4).map(|number| flock.node(&format!("n{number}"), &[])).collect();
    let source = tree(flock.bloc.dir(), 1, 12);
    build_image(&queen, &source, 1);
    let wave = queen.start("/srv/site", false).await.unwrap();
    assert_eq!((wave.targets, &*wave.id.0), (5, "queen:1"));
    let detail = others[0].until_done(&wave.id, 5).await;
    for node in others.iter().chain([&queen]) {
        assert_eq!(digest(&node.tree("/srv/site")), digest(&source));
    }
    assert_eq!(detail.wave.state, WaveState::Done);
    #[expect(clippy::cast_precision_loss, reason = "a ratio of small numbers")]
    let ratio = detail.wave.queen_bytes as f64 / detail.wave.image_bytes as f64;
    assert!((1.0..1.5).contains(&ratio), "{ratio} of the image left the queen: {detail:#?}");
    let sources: u32 = detail.nodes.iter().map(|node| node.sources).max().unwrap();
    assert!(sources >= 2, "{detail:#?}");

    // Who comes late takes it from those that have it (DLIF-24), the queen being away.
    queen.kill().await;
    let late = flock.node("late", &[]);
    let detail = others[1].until_done(&wave.id, 6).await;
    let row = detail.nodes.iter().find(|node| node.node.as_str() == "late").unwrap();
    assert_eq!(row.step, WaveStep::Done);
    assert!(row.fetched > 12 << 20, "{row:#?}");
    assert_eq!(digest(&late.tree("/srv/site")), digest(&source));
    assert_eq!(detail.wave.queen_bytes, wave_bytes(&others[0], &wave.id).await);
}

async fn wave_bytes(node: &Node, id: &WaveId) -> u64 {
    node.wave(id).await.unwrap().wave.queen_bytes
}

/// A queen that nobody can dial is asked to dial the one, and met at a relay by the other; what the
/// two could have of each other they cannot, either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_reaches_those_that_cannot_dial_whoever_has_it() {
    let flock = Flock::new();
    let queen = flock.node("queen", &[Role::Queen]);
    let [open, hidden] = ["open", "hidden"].map(|name| flock.node(name, &[]));
    let world = flock.bloc.world();
    world.hide(open.id, queen.id);
    world.part(hidden.id, queen.id);
    world.part(hidden.id, open.id);
    let source = tree(flock.bloc.dir(), 8, 3);
    build_image(&queen, &source, 1);
    let wave = queen.start("/srv/site", false).await.unwrap();
    queen.until_done(&wave.id, 3).await;
    for node in [&open, &hidden] {
        assert_eq!(digest(&node.tree("/srv/site")), digest(&source));
    }
    let services = world.services();
    assert!(services.contains(&LINK_BACK) && services.contains(&MEET), "{services:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_differences_travel_and_the_same_wave_is_done_once() {
    let flock = Flock::new();
    let queen = flock.node("queen", &[Role::Queen]);
    let other = flock.node("n1", &[]);
    let source = tree(flock.bloc.dir(), 2, 4);
    build_image(&queen, &source, 1);
    let first = queen.start("/srv/site", false).await.unwrap();
    queen.until_done(&first.id, 2).await;

    // One small file is another; of the large ones nothing travels again.
    fs::write(source.join("small/7"), b"another").unwrap();
    build_image(&queen, &source, 2);
    let second = queen.start("/srv/site", false).await.unwrap();
    let detail = other.until_done(&second.id, 2).await;
    let row = detail.nodes.iter().find(|node| node.node.as_str() == "n1").unwrap();
    assert!(row.fetched < 100_000, "{row:#?}");
    assert_eq!(digest(&other.tree("/srv/site")), digest(&source));

    // What is there is not done again (DLIF-20) unless that is asked for.
    let inode = |node: &Node| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(node.tree("/srv/site")).unwrap())
    };
    let before = inode(&other);
    let third = queen.start("/srv/site", false).await.unwrap();
    queen.until_done(&third.id, 2).await;
    assert_eq!(inode(&other), before);
    let state = other.root.clone();
    other.kill().await;
    let other = flock.node("n1", &[]);
    assert_eq!(other.root, state);
    queen.until_done(&third.id, 2).await;
    assert_eq!(inode(&other), before);
    let fourth = queen.start("/srv/site", true).await.unwrap();
    queen.until_done(&fourth.id, 2).await;
    assert_ne!(inode(&other), before);
    assert_eq!(digest(&other.tree("/srv/site")), digest(&source));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_killed_fetches_only_what_is_missing() {
    let flock = Flock::new();
    let queen = flock.node("queen", &[Role::Queen]);
    let other = flock.node("n1", &[]);
    let source = tree(flock.bloc.dir(), 3, 24);
    build_image(&queen, &source, 1);
    let wave = queen.start("/srv/site", false).await.unwrap();
    let half_done = |detail: &WaveDetail| {
        let row = detail.nodes.iter().find(|node| node.node.as_str() == "n1");
        row.is_some_and(|row| row.fetched > 1 << 20 || row.step == WaveStep::Done)
    };
    queen.until(&wave.id, half_done).await;
    let state = other.state.clone();
    other.kill().await;
    let kept = Blobs::open(&state.join("images")).unwrap().digests().unwrap().len();
    let other = flock.node("n1", &[]);
    let end = Instant::now() + PATIENCE;
    while !other.tree("/srv/site").exists() {
        assert!(Instant::now() < end);
        // sleeps: between two looks at a condition that has a deadline
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let detail = queen.until_done(&wave.id, 2).await;
    let row = detail.nodes.iter().find(|node| node.node.as_str() == "n1").unwrap();
    assert!(kept > 5, "{kept} chunks were kept");
    // Both lives are counted: all of the image, and again what was in flight at the kill.
    let in_flight = skep_wave::Limits::default().in_all as u64 * (1 << 20);
    assert!((row.bytes_all..row.bytes_all + in_flight).contains(&row.fetched), "{row:#?}");
    assert_eq!(digest(&other.tree("/srv/site")), digest(&source));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_leaves_what_is_rolled_out_and_nothing_else() {
    let flock = Flock::new();
    let queen = flock.node("queen", &[Role::Queen]);
    let sources = [5, 6, 7].map(|seed| tree(flock.bloc.dir(), seed, 2));
    for (version, source) in (1..).zip(&sources) {
        build_image(&queen, source, version);
    }
    let wave = queen.start("/srv/site", false).await.unwrap();
    queen.until_done(&wave.id, 1).await;
    let blobs = Blobs::open(&queen.state.join("images")).unwrap();
    let before = blobs.digests().unwrap().len();
    let prune = |keep, dry_run| {
        let wish = PruneImages { keep: Some(keep), dry_run };
        queen.ask(|reply| Question::PruneImages { wish, reply })
    };
    assert_eq!(prune(0, false).await.unwrap().removed, [], "0 keeps all");
    let planned = prune(1, true).await.unwrap();
    let numbers: Vec<u64> = planned.removed.iter().map(|version| version.number).collect();
    assert_eq!((numbers, planned.kept, planned.complete), (vec![2, 1], 1, true));
    assert_eq!(blobs.digests().unwrap().len(), before, "a dry run removes nothing");

    // What a build has put, and no image names yet, is safe.
    let building = blobs.writer().unwrap();
    let loose = b"of an image that is being built";
    building.put(&Digest::of(loose), loose).unwrap();
    let refused = prune(1, false).await.unwrap_err();
    assert!(refused.hint.unwrap().contains("being built"));
    assert!(blobs.has(&Digest::of(loose)));
    drop(building);

    let pruned = prune(1, false).await.unwrap();
    assert_eq!(pruned.removed, planned.removed);
    assert_eq!(pruned.chunks, planned.chunks + 1, "and what the build left");
    assert!(pruned.chunks > 20 && pruned.bytes > 3 << 20, "{pruned:?}");
    assert_eq!(blobs.digests().unwrap().len() as u64, before as u64 + 1 - pruned.chunks);
    assert_eq!(blobs.images().unwrap().len(), 1);
    assert_eq!(prune(1, false).await.unwrap().chunks, 0, "nothing is left to remove");
    // All that a late node needs is still here.
    let late = flock.node("late", &[]);
    queen.until_done(&wave.id, 2).await;
    assert_eq!(digest(&late.tree("/srv/site")), digest(&sources[2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_said_with_the_node_the_path_and_what_to_do() {
    let flock = Flock::new();
    let queen = flock.node("queen", &[Role::Queen]);
    let other = flock.node("n1", &[]);
    let refused = queen.start("/srv/site", false).await.unwrap_err();
    assert!(refused.message.contains("no image site"), "{refused:?}");
    build_image(&queen, &tree(flock.bloc.dir(), 4, 1), 1);
    let refused = other.start("/srv/site", false).await.unwrap_err();
    assert!(refused.message.contains("n1 is no queen"), "{refused:?}");
    let refused = queen.start("srv/site", false).await.unwrap_err();
    assert!(refused.message.contains("begins with a slash"), "{refused:?}");

    // A file where the tree is to go fails the wave there, and is left alone; once it is moved
    // away the wave goes on by itself.
    fs::write(other.tree("/srv/site"), b"precious").unwrap();
    let wave = queen.start("/srv/site", false).await.unwrap();
    let failed = |detail: &WaveDetail| detail.wave.state == WaveState::Failed;
    let detail = queen.until(&wave.id, failed).await;
    let row = detail.nodes.iter().find(|node| node.node.as_str() == "n1").unwrap();
    let error = row.error.clone().unwrap();
    assert!(error.starts_with("n1: ") && error.contains("srv/site"), "{error}");
    assert!(error.contains("move it away"), "{error}");
    assert_eq!(fs::read(other.tree("/srv/site")).unwrap(), b"precious");
    fs::rename(other.tree("/srv/site"), other.tree("/srv/moved")).unwrap();
    queen.until_done(&wave.id, 2).await;
}
