//! Flood's packets, and the heads that its log keeps.

use bytes::Bytes;
use skep_base::{Digest, Incarnation, NodeId, Trail};
use skep_flood::message::{Floor, Header, Life, Mark, Message, Packet, Run, StoredHead};
use skep_flood::{MAX_EAGER_BYTES, Serial, UpdateId};

use super::{Seed, Target, name};

/// What flood machines say to one another.
pub(super) const PACKET: Target = Target {
    name: "flood",
    decode: fuzz_flood,
    seeds: packet_seeds,
    accepts: |data| Packet::from_bytes(&Bytes::copy_from_slice(data)).is_ok(),
};

/// What the log keeps beside a body.
pub(super) const STORED: Target = Target {
    name: "flood-stored",
    decode: fuzz_stored,
    seeds: || vec![("late", stored().to_bytes())],
    accepts: |data| StoredHead::from_bytes(data).is_some(),
};

fn fuzz_flood(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let Ok(packet) = Packet::from_bytes(&frame) else {
        return;
    };
    let bodies: usize = packet.bodies.iter().map(Bytes::len).sum();
    assert!(bodies <= data.len(), "bodies are parts of the frame");
    // What a frame may hold may be said again; a longer input is no frame.
    if data.len() <= skep_wire::Lane::Control.max_body_bytes() {
        let again = Packet::from_bytes(&packet.to_bytes());
        assert_eq!(again.as_ref(), Ok(&packet));
    }
}

fn fuzz_stored(data: &[u8]) {
    if let Some(head) = StoredHead::from_bytes(data) {
        assert_eq!(StoredHead::from_bytes(&head.to_bytes()), Some(head));
    }
}

fn serial(sequence: u64) -> Serial {
    Serial { incarnation: Incarnation(3), sequence }
}

fn id(sequence: u64) -> UpdateId {
    UpdateId { origin: NodeId::from_bytes([1; 16]), serial: serial(sequence) }
}

fn small() -> Header {
    Header {
        id: id(2),
        predecessor: Some(serial(1)),
        age_ms: 40,
        length: 4,
        digest: None,
        trail: Trail::none(),
    }
}

fn large() -> Header {
    let bytes = vec![7; MAX_EAGER_BYTES];
    Header {
        id: id(3),
        predecessor: Some(serial(2)),
        age_ms: 40,
        length: bytes.len() as u64,
        digest: Some(Digest::of(&bytes)),
        trail: Trail::none().through(&name("all")).through(&name("web")),
    }
}

fn stored() -> StoredHead {
    StoredHead { tag: b"deploy-9:17".to_vec(), group: name("all"), header: small(), late: true }
}

fn packet_seeds() -> Vec<Seed> {
    let group = || name("all");
    let token = 9;
    let body = || Bytes::from_static(b"body");
    let seed = |name, message, bodies| (name, Packet { message, bodies }.to_bytes().to_vec());
    let headers = vec![small(), large()];
    let origin = NodeId::from_bytes([1; 16]);
    let life = Life { incarnation: Incarnation(3), head: 20, gaps: vec![(2, 5), (7, 9)] };
    let mark = Mark { origin, purged: Some(serial(1)), lives: vec![life] };
    let floor = Floor { origin, serial: serial(1), whole: true, dropped: false };
    let (from, to) = (NodeId::from_bytes([0; 16]), NodeId::from_bytes([255; 16]));
    let (leaves, first, count, length) = (true, 3, 2, 4);
    let run = Run { origin, incarnation: Incarnation(3), first: 5, count: 300 };
    vec![
        seed(
            "updates",
            Message::Updates { group: group(), headers: headers.clone() },
            vec![body()],
        ),
        seed("compare", Message::Compare { group: group(), digest: 1 << 50, answer: true }, vec![]),
        seed("pull", Message::Pull { group: group(), token, from, to, marks: vec![mark] }, vec![]),
        seed(
            "pulled",
            Message::Pulled { group: group(), token, floors: vec![floor], headers, done: true },
            vec![body()],
        ),
        seed("more", Message::More { group: group(), token }, vec![]),
        seed("fetch", Message::Fetch { group: group(), id: id(3), leaves, first, count }, vec![]),
        seed("leaves", Message::Leaves { group: group(), id: id(3), length }, vec![body()]),
        seed("piece", Message::Piece { group: group(), id: id(3), piece: 1, length }, vec![body()]),
        seed("missing", Message::Missing { group: group(), id: id(3) }, vec![]),
        seed("have", Message::Have { group: group(), runs: vec![run] }, vec![]),
        seed("prune", Message::Prune { group: group(), origins: vec![origin] }, vec![]),
        seed(
            "graft",
            Message::Graft { group: group(), origins: vec![origin], runs: vec![run] },
            vec![],
        ),
    ]
}
