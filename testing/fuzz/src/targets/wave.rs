//! What a wave's nodes say: chunks on the bulk lane, the queen's orders, the targets' progress.

use skep_base::{Digest, NodeId, WallTime};
use skep_wave::{Hosts, Message, Order, Orders, Part, Section, Status, Statuses, Step};

use super::{Seed, Target, name};

/// Messages of the bulk lane.
pub(super) const CHUNKS: Target = Target {
    name: "chunks",
    decode: fuzz_chunks,
    seeds: chunks_seeds,
    accepts: |data| Message::from_body(data).is_ok(),
};

/// The bodies of the two records.
pub(super) const WAVE: Target = Target {
    name: "wave",
    decode: fuzz_wave,
    seeds: || vec![("orders", orders().to_body()), ("statuses", statuses().to_body())],
    accepts: |data| Orders::from_body(data).is_ok() || Statuses::from_body(data).is_ok(),
};

fn fuzz_chunks(data: &[u8]) {
    if let Ok(message) = Message::from_body(data) {
        assert_eq!(Message::from_body(&message.to_body()).as_ref(), Ok(&message));
    }
}

fn fuzz_wave(data: &[u8]) {
    if let Ok(orders) = Orders::from_body(data) {
        orders.waves.iter().for_each(|order| check_place(&order.at));
        assert_eq!(Orders::from_body(&orders.to_body()).as_ref(), Ok(&orders));
    }
    if let Ok(statuses) = Statuses::from_body(data) {
        statuses.waves.iter().for_each(|status| check_place(&status.at));
        assert_eq!(Statuses::from_body(&statuses.to_body()).as_ref(), Ok(&statuses));
    }
}

/// Where a wave may write, said without the code under test.
fn check_place(at: &str) {
    let mut names = at.split('/');
    assert_eq!(names.next(), Some(""), "{at:?} is not absolute");
    assert!(
        names.all(|name| !name.is_empty() && name != "." && name != ".."),
        "{at:?} is no plain path"
    );
    assert!(!at.contains('\0'));
}

fn chunks_seeds() -> Vec<Seed> {
    let digest = Digest::of(b"manifest");
    let of = Part { manifest: digest, section: Section::Contents };
    let bytes = || b"some bytes".to_vec().into();
    let request = 300;
    let pieces = vec![1, 300];
    let chunks = vec![digest, Digest::of(b"chunk")];
    let seed = |name, message: Message| (name, message.to_body());
    vec![
        seed("interest", Message::Interest(of)),
        seed("have", Message::Have { of, pieces: bytes() }),
        seed("got", Message::Got { of, pieces }),
        seed("want-seal", Message::WantSeal(digest)),
        seed("seal", Message::Seal { manifest: digest, bytes: bytes() }),
        seed("lack-seal", Message::LackSeal(digest)),
        seed("want", Message::Want { request, chunks }),
        seed("chunk", Message::Chunk { request, digest, bytes: bytes() }),
        seed("lack", Message::Lack { request, digest }),
    ]
}

fn orders() -> Orders {
    let order = |number, hosts| Order {
        number,
        image: name("site"),
        version: 3,
        manifest: Digest::of(b"manifest"),
        bytes: 1 << 30,
        groups: vec![name("all"), name("web")],
        at: "/srv/web".into(),
        as_user: false,
        again: true,
        started: WallTime::from_unix_ms(1_700_000_000_000),
        hosts,
    };
    let listed = Hosts::Listed(vec![NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16])]);
    let counted = Hosts::Counted { count: 1000, digest: Digest::of(b"hosts") };
    Orders { waves: vec![order(1, listed), order(2, counted)] }
}

fn statuses() -> Statuses {
    let status = |number, step, error: Option<&str>| Status {
        queen: NodeId::from_bytes([9; 16]),
        number,
        image: name("site"),
        manifest: Digest::of(b"manifest"),
        at: "/srv/web".into(),
        step,
        bytes_have: 1 << 20,
        bytes_all: 1 << 30,
        fetched: 1 << 19,
        from_queen: 1 << 18,
        sources: 3,
        elapsed_ms: 1500,
        error: error.map(str::to_owned),
        not_set: vec!["owner of bin/ping".into()],
        not_set_count: 1,
    };
    Statuses {
        waves: vec![status(1, Step::Done, None), status(2, Step::Failed, Some("the disk is full"))],
    }
}
