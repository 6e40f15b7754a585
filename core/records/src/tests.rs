//! Two or three stores that talk, with a signer whose signatures are keyed hashes.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, Incarnation, NodeId, Outbox, Rng, Time};

use super::*;

struct FakeSigner(NodeId);

impl Signer for FakeSigner {
    fn certificate(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.as_bytes())
    }
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        fake_signature(&key_of(self.0), message)
    }
}

struct FakeVerifier;

impl Verifier for FakeVerifier {
    fn certificate(&self, der: &[u8]) -> Option<Signatory> {
        let node = NodeId::from_bytes(der.try_into().ok()?);
        Some(Signatory { node, key: key_of(node) })
    }
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        fake_signature(key, message) == *signature
    }
}

fn key_of(node: NodeId) -> [u8; 32] {
    Digest::of(node.as_bytes()).0
}

fn fake_signature(key: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let half = Digest::of_parts(&[key, message]).0;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half);
    signature[32..].copy_from_slice(&half);
    signature
}

fn id(n: u8) -> NodeId {
    NodeId::from_bytes(*Digest::of(&[n]).0.first_chunk().unwrap())
}

/// A few stores and the messages between them.
struct Net {
    now: Time,
    nodes: BTreeMap<NodeId, Records>,
    wire: VecDeque<(NodeId, NodeId, Message)>,
    seen: Vec<(NodeId, Output)>,
    frames: usize,
}

impl Net {
    fn new(n: u8) -> Self {
        let now = Time::from_millis(1_000_000_000);
        let make = |n: u8| {
            let signer = Arc::new(FakeSigner(id(n)));
            let config = Config::default();
            let rng = Rng::seeded(n.into());
            (id(n), Records::new(id(n), config, rng, now, signer, Arc::new(FakeVerifier)))
        };
        let nodes = (0..n).map(make).collect();
        Self { now, nodes, wire: VecDeque::new(), seen: Vec::new(), frames: 0 }
    }

    fn input(&mut self, node: NodeId, input: Input) {
        let mut out = Outbox::new();
        self.nodes.get_mut(&node).unwrap().handle(self.now, input, &mut out);
        self.collect(node, &mut out);
    }

    fn collect(&mut self, node: NodeId, out: &mut Outbox<Output>) {
        for output in out.drain() {
            if let Output::Send { to, message } = output {
                self.wire.push_back((node, to, message));
            } else {
                self.seen.push((node, output));
            }
        }
    }

    fn connect(&mut self, a: NodeId, b: NodeId) {
        for (node, peer) in [(a, b), (b, a)] {
            self.input(node, Input::PeerUp { peer });
            self.input(node, Input::Flood { peer, on: true });
        }
    }

    fn begin(&mut self, node: NodeId, incarnation: u64) {
        self.input(node, Input::Begin { incarnation: Incarnation(incarnation) });
    }

    fn publish(&mut self, node: NodeId, kind: u16, body: &'static [u8]) {
        let body = Some(Bytes::from_static(body));
        self.input(node, Input::Publish { kind, schema: 1, body });
    }

    /// Lets time pass until nobody has anything to say; every message crosses the wire encoded.
    fn settle(&mut self) {
        for _ in 0..200 {
            while let Some((from, to, message)) = self.wire.pop_front() {
                self.frames += 1;
                let bytes = skep_wire::encode(&message);
                assert!(bytes.len() <= skep_wire::Lane::Control.max_body_bytes());
                let read: Message = skep_wire::decode("records", &bytes).unwrap();
                let message = Message::read(&bytes.into()).unwrap();
                assert_eq!(message, read, "two ways to read a message differ");
                self.input(to, Input::Message { from, message });
            }
            self.now = self.now + Duration::from_millis(20);
            for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                let mut out = Outbox::new();
                let records = self.nodes.get_mut(&node).unwrap();
                records.tick(self.now, &mut out);
                records.check();
                self.collect(node, &mut out);
            }
            let soon = self.now + Duration::from_millis(200);
            let waits = |node: &Records| node.deadline().is_some_and(|(at, _)| at <= soon);
            if self.wire.is_empty() && !self.nodes.values().any(waits) {
                return;
            }
        }
        panic!("the stores never fall silent");
    }

    fn digests(&self) -> Vec<(u64, u32)> {
        self.nodes.values().map(Records::digest).collect()
    }

    fn assert_alike(&self) {
        let digests = self.digests();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    }

    fn rejections(&self) -> Vec<Rejection> {
        let reason = |(_, output): &(NodeId, Output)| {
            let Output::Reject { reason, .. } = output else {
                return None;
            };
            Some(*reason)
        };
        self.seen.iter().filter_map(reason).collect()
    }
}

#[test]
fn a_record_reaches_everybody_along_a_line_and_the_newest_wins() {
    let mut net = Net::new(4);
    (0..3).for_each(|n| net.connect(id(n), id(n + 1)));
    (0..4).for_each(|n| net.begin(id(n), 1));
    net.publish(id(0), 40, b"first");
    net.publish(id(0), 40, b"second");
    net.settle();
    net.assert_alike();
    let far = &net.nodes[&id(3)];
    assert_eq!(far.get(id(0), 40).unwrap().body, b"second"[..]);
    assert_eq!(far.digest().1, 5, "four certificates and one fact");
    assert!(net.rejections().is_empty());
}

#[test]
fn stores_that_differ_are_repaired_when_a_link_comes_up_also_when_they_are_large() {
    for owners in [3, 120] {
        let mut net = Net::new(owners);
        (0..owners).for_each(|n| net.begin(id(n), 1));
        (0..owners).for_each(|n| net.publish(id(n), 41, b"fact"));
        // Two stars that never met, then one link between them.
        let half = owners / 2;
        (1..half).for_each(|n| net.connect(id(0), id(n)));
        (half + 1..owners).for_each(|n| net.connect(id(half), id(n)));
        net.settle();
        net.connect(id(0), id(half));
        net.settle();
        net.assert_alike();
        assert_eq!(net.digests()[0].1, u32::from(owners) * 2);
        assert!(net.rejections().is_empty(), "{:?}", net.rejections());
    }
}

#[test]
fn a_large_difference_is_narrowed_down_to_buckets() {
    let mut net = Net::new(2);
    let (a, b) = (id(0), id(1));
    net.begin(a, 1);
    net.begin(b, 1);
    let now = net.now;
    // 400 owners that both know, and one that only one of them does.
    for n in 0..401_u32 {
        let owner = NodeId::from_bytes(*Digest::of(&n.to_le_bytes()).0.first_chunk().unwrap());
        let raw = certificate_record(owner, 1).raw().clone();
        for node in [a, b].into_iter().take(if n == 400 { 1 } else { 2 }) {
            net.input(node, Input::Restore { raw: raw.clone(), age: Duration::ZERO });
        }
    }
    assert_eq!(net.now, now);
    net.connect(a, b);
    net.settle();
    net.assert_alike();
    let sent = net.nodes[&b].statistics().accepted + net.nodes[&a].statistics().accepted;
    assert!(sent <= 3, "only what differs travels, not {sent} records");
}

fn certificate_record(owner: NodeId, incarnation: u64) -> Record {
    let signer = FakeSigner(owner);
    let certificate = signer.certificate();
    Record::sign(
        Content {
            owner,
            kind: kind::CERTIFICATE,
            schema: 1,
            version: Version { incarnation: Incarnation(incarnation), sequence: 1 },
            signer: Digest::of(&certificate),
            retracted: false,
            body: certificate.clone(),
        },
        &signer,
    )
}

fn offer(net: &mut Net, from: NodeId, to: NodeId, raw: &[u8], age: Duration) {
    let age_ms = u64::try_from(age.as_millis()).unwrap();
    let entries = alloc::vec![Entry { age_ms, raw: Bytes::copy_from_slice(raw) }];
    net.input(to, Input::Message { from, message: Message::Records { entries, done: true } });
}

#[test]
fn what_is_forged_garbled_or_too_old_is_refused_and_counted() {
    let mut net = Net::new(2);
    let (liar, honest, third) = (id(0), id(1), id(2));
    net.connect(liar, honest);
    let fact = |signer: NodeId| {
        let content = Content {
            owner: third,
            kind: 50,
            schema: 1,
            version: Version { incarnation: Incarnation(9), sequence: 9 },
            signer: Digest::of(third.as_bytes()),
            retracted: false,
            body: Bytes::from_static(b"lie"),
        };
        Record::sign(content, &FakeSigner(signer))
    };
    offer(&mut net, liar, honest, fact(third).raw(), Duration::ZERO);
    let certificate = certificate_record(third, 1);
    offer(&mut net, liar, honest, certificate.raw(), Duration::from_secs(80 * 3600));
    offer(&mut net, liar, honest, certificate.raw(), Duration::ZERO);
    offer(&mut net, liar, honest, fact(liar).raw(), Duration::ZERO);
    offer(&mut net, liar, honest, b"garbage", Duration::ZERO);
    offer(&mut net, liar, honest, &[0; MAX_RECORD_BYTES + 1], Duration::ZERO);
    assert_eq!(
        net.rejections(),
        [
            Rejection::UnknownCertificate,
            Rejection::Purged,
            Rejection::Signature,
            Rejection::Malformed,
            Rejection::Malformed
        ]
    );
    assert!(net.nodes[&honest].get(third, 50).is_none());
    assert!(net.nodes[&honest].get(third, kind::CERTIFICATE).is_some());
}

#[test]
fn a_lie_with_a_higher_number_does_not_displace_the_truth_in_the_same_batch() {
    let mut net = Net::new(3);
    let (honest, liar, me) = (id(0), id(1), id(2));
    net.connect(honest, me);
    net.connect(liar, me);
    net.settle();
    let truth = certificate_record(honest, 1);
    let mut lie = truth.content.clone();
    lie.version.sequence = 99;
    let lie = Record::sign(lie, &FakeSigner(liar));
    // Something is accepted first, so that what follows is gathered into one batch.
    offer(&mut net, liar, me, certificate_record(id(7), 1).raw(), Duration::ZERO);
    for (from, record) in [(liar, &lie), (honest, &truth)] {
        let entries = alloc::vec![Entry { age_ms: 0, raw: record.raw().clone() }];
        let message = Message::Records { entries, done: false };
        net.input(me, Input::Message { from, message });
    }
    net.settle();
    let kept = net.nodes[&me].get(honest, kind::CERTIFICATE).unwrap();
    assert_eq!(kept.version, truth.version());
    assert_eq!(net.rejections(), [Rejection::Signature]);
}

#[test]
fn the_youngest_age_wins_and_who_is_past_the_purge_age_is_forgotten() {
    let mut net = Net::new(2);
    let (a, b, gone) = (id(0), id(1), id(2));
    net.connect(a, b);
    let raw = certificate_record(gone, 1).raw().clone();
    offer(&mut net, a, b, &raw, Duration::from_secs(50 * 3600));
    offer(&mut net, a, b, &raw, Duration::from_secs(10 * 3600));
    offer(&mut net, a, b, &raw, Duration::from_secs(30 * 3600));
    let age = net.nodes[&b].age(gone, net.now);
    assert_eq!(age, Duration::from_secs(10 * 3600));
    // Present owners do not age.
    net.input(b, Input::Presence { owner: gone, present: true });
    net.now = net.now + Duration::from_secs(100 * 3600);
    net.settle();
    assert_eq!(net.nodes[&b].age(gone, net.now), Duration::ZERO);
    net.input(b, Input::Presence { owner: gone, present: false });
    net.now = net.now + Duration::from_secs(73 * 3600);
    net.settle();
    assert!(net.nodes[&b].get(gone, kind::CERTIFICATE).is_none());
    offer(&mut net, a, b, &raw, Duration::from_secs(74 * 3600));
    assert_eq!(net.rejections(), [Rejection::Purged]);
}

#[test]
fn a_life_sees_traces_of_an_earlier_one_and_takes_back_what_it_no_longer_says() {
    let mut net = Net::new(2);
    let (a, b) = (id(0), id(1));
    net.begin(b, 1);
    net.begin(a, 5);
    net.publish(a, 60, b"old life");
    net.connect(a, b);
    net.settle();
    // The disk of `a` is lost.
    let signer = Arc::new(FakeSigner(a));
    let fresh =
        Records::new(a, Config::default(), Rng::seeded(3), net.now, signer, Arc::new(FakeVerifier));
    net.nodes.insert(a, fresh);
    net.input(b, Input::PeerDown { peer: a });
    net.connect(a, b);
    net.settle();
    let newest = net.seen.iter().filter_map(|(node, output)| {
        let Output::ForeignSelf { incarnation, .. } = output else {
            return None;
        };
        (*node == a).then_some(incarnation.0)
    });
    assert_eq!(newest.max(), Some(5));
    net.begin(a, 6);
    net.settle();
    net.input(b, Input::PeerDown { peer: a });
    net.input(a, Input::PeerDown { peer: b });
    net.connect(a, b);
    net.settle();
    net.assert_alike();
    assert!(net.nodes[&b].get(a, 60).unwrap().retracted);
}

#[test]
fn unknown_kinds_are_relayed_byte_for_byte_within_bounds() {
    let mut net = Net::new(3);
    net.connect(id(0), id(1));
    net.connect(id(1), id(2));
    net.begin(id(0), 1);
    for n in 0..40_u16 {
        net.publish(id(0), 1000 + n, b"from the future");
    }
    net.settle();
    let far = &net.nodes[&id(2)];
    assert_eq!(far.iter().count(), MAX_KINDS_PER_OWNER);
    let near = net.nodes[&id(0)].get(id(0), 1000).unwrap();
    assert_eq!(far.get(id(0), 1000).unwrap().raw, near.raw);
}

#[test]
fn a_record_and_each_message_have_these_bytes_for_ever() {
    let record = certificate_record(id(1), 2);
    expect_golden("de99", &Digest::of(record.raw()).abbreviated(4));
    let messages = [
        Message::Digest { root: 1, count: 2 },
        Message::InSync,
        Message::Buckets(alloc::vec![(3, 4)]),
        Message::Summary { buckets: alloc::vec![5], items: Vec::new(), last: true },
        Message::Records { entries: Vec::new(), done: false },
        Message::Request(alloc::vec![(NodeId::from_bytes([7; 16]), 8)]),
    ];
    let bytes: Vec<u8> = messages.iter().flat_map(skep_wire::encode).collect();
    let hex: alloc::string::String =
        bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
    expect_golden("0001020102010304030105000104000005010707070707070707070707070707070708", &hex);
}

fn expect_golden(golden: &str, got: &str) {
    assert_eq!(got, golden, "the wire format changed");
}
