//! Frames, the hello, records and heartbeats: what every link begins with and lives on.

use bytes::Bytes;
use skep_base::{Digest, Incarnation, NodeId, Nonce, WallTime};
use skep_membership::{Edge, Heartbeat, NodeFacts, NodeState, Verdict, Watch};
use skep_records::{Content, Entry, Item, Message, Record, Signer, Version};
use skep_wire::{
    Address, FEATURE_LEVEL, FrameReader, Hello, Lane, Magic, PROTOCOL_MAX, PROTOCOL_MIN, decode,
    encode, kind, write_frame,
};

use super::{Seed, Target, name, said_again};

/// A stream of frames: the first byte chooses the lane, the second how it is cut into pieces.
pub(super) const FRAME: Target = Target {
    name: "frame",
    decode: fuzz_frame,
    seeds: frame_seeds,
    accepts: |data| read_frames(data).is_some_and(|(frames, whole)| frames > 0 && whole),
};

/// The hello.
pub(super) const HELLO: Target = Target {
    name: "hello",
    decode: |data| said_again::<Hello>("hello", data),
    seeds: hello_seeds,
    accepts: |data| decode::<Hello>("hello", data).is_ok(),
};

/// One signed record.
pub(super) const RECORD: Target = Target {
    name: "record",
    decode: fuzz_record,
    seeds: || vec![("retracted", record(b"").to_vec()), ("body", record(b"body").to_vec())],
    accepts: |data| Record::parse(Bytes::copy_from_slice(data)).is_ok(),
};

/// What two nodes say about records.
pub(super) const RECORDS: Target = Target {
    name: "records",
    decode: fuzz_records_message,
    seeds: records_seeds,
    accepts: |data| decode::<Message>("records", data).is_ok(),
};

/// Heartbeats, and the bodies of membership's two records.
pub(super) const MEMBERSHIP: Target = Target {
    name: "membership",
    decode: fuzz_membership,
    seeds: membership_seeds,
    accepts: |data| {
        decode::<Heartbeat>("heartbeat", data).is_ok()
            || NodeFacts::from_body(data).is_ok()
            || Watch::from_body(data).is_ok()
    },
};

fn fuzz_frame(data: &[u8]) {
    read_frames(data);
}

/// How many frames there were, and whether the stream was whole; nothing when it was refused.
fn read_frames(data: &[u8]) -> Option<(usize, bool)> {
    let (&[lane, cut], stream) = data.split_first_chunk()?;
    let lane = if lane % 2 == 0 { Lane::Control } else { Lane::Bulk };
    let mut reader = FrameReader::new(lane);
    let mut written = Vec::new();
    let mut frames = 0;
    let mut refused = false;
    for piece in stream.chunks(usize::from(cut) + 1) {
        reader.feed(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    assert!(!refused, "a frame came after a refusal");
                    assert!(frame.body.len() <= lane.max_body_bytes());
                    write_frame(frame.kind, &frame.body, &mut written);
                    frames += 1;
                }
                Ok(None) => {
                    assert!(!refused, "a refused stream was taken up again");
                    break;
                }
                Err(_) => {
                    refused = true;
                    break;
                }
            }
        }
    }
    assert!(stream.starts_with(&written), "frames differ from the stream");
    assert_eq!(written.len() + reader.pending_bytes(), stream.len());
    (!refused).then_some((frames, reader.pending_bytes() == 0))
}

fn frame_seeds() -> Vec<Seed> {
    let mut stream = Vec::new();
    write_frame(kind::HELLO, &encode(&hello()), &mut stream);
    write_frame(kind::FLOOD, b"", &mut stream);
    write_frame(0xee, &[7; 300], &mut stream);
    let with = |lane, cut: u8| [&[lane, cut], stream.as_slice()].concat();
    vec![
        ("control-whole", with(0, 255)),
        ("control-byte-by-byte", with(0, 0)),
        ("bulk", with(1, 30)),
    ]
}

fn hello() -> Hello {
    let address = |text: &str| text.parse().map(Address::classify).ok();
    Hello {
        magic: Magic::CURRENT,
        protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
        feature_level: FEATURE_LEVEL,
        lane: Lane::Control,
        bloc: name("example"),
        node: name("web-1"),
        incarnation: Incarnation(3),
        nonce: Nonce(0x1122_3344_5566_7788),
        addresses: [address("10.0.0.1:7400"), address("[fd77::1]:7400")]
            .into_iter()
            .flatten()
            .collect(),
        version: "0.0.0".into(),
    }
}

fn hello_seeds() -> Vec<Seed> {
    let plain = hello();
    let nowhere = Hello { addresses: Vec::new(), lane: Lane::Bulk, ..hello() };
    let later = Hello {
        protocol: (PROTOCOL_MAX + 1, u16::MAX),
        feature_level: u16::MAX,
        version: "later".into(),
        ..hello()
    };
    vec![
        ("both-families", encode(&plain)),
        ("bulk-nowhere", encode(&nowhere)),
        ("of-a-later-build", encode(&later)),
    ]
}

/// Signs nothing: the parser does not look, and a seed must be the same for ever.
struct NoSigner;

impl Signer for NoSigner {
    fn certificate(&self) -> Bytes {
        Bytes::new()
    }

    fn sign(&self, _message: &[u8]) -> [u8; 64] {
        [0x5a; 64]
    }
}

fn record(body: &'static [u8]) -> Bytes {
    let content = Content {
        owner: NodeId::from_bytes([1; 16]),
        kind: 2,
        schema: 1,
        version: version(),
        signer: Digest::of(b"certificate"),
        retracted: body.is_empty(),
        body: body.to_vec().into(),
    };
    Record::sign(content, &NoSigner).raw().clone()
}

fn fuzz_records_message(data: &[u8]) {
    said_again::<Message>("records", data);
    let read = Message::read(&Bytes::copy_from_slice(data));
    assert_eq!(read.ok(), decode::<Message>("records", data).ok(), "two ways to read differ");
}

fn fuzz_record(data: &[u8]) {
    let Ok(record) = Record::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert_eq!(record.raw().as_ref(), data, "records are relayed as they came");
    assert!(record.content.body.len() <= skep_records::MAX_BODY_BYTES);
    let again = Record::parse(record.raw().clone());
    assert_eq!(again.as_ref(), Ok(&record));
    // The same bytes may be a body of a kind that this release reads.
    fuzz_membership(&record.content.body);
}

fn version() -> Version {
    Version { incarnation: Incarnation(3), sequence: 300 }
}

fn records_seeds() -> Vec<Seed> {
    let owner = NodeId::from_bytes([1; 16]);
    let item = Item { owner, kind: 2, version: version() };
    let entry = Entry { age_ms: 1500, raw: record(b"body").to_vec().into() };
    let seed = |name, message: &Message| (name, encode(message));
    vec![
        seed("digest", &Message::Digest { root: 7, count: 100 }),
        seed("in-sync", &Message::InSync),
        seed("buckets", &Message::Buckets(vec![(0, 9), (255, 1 << 60)])),
        seed(
            "summary",
            &Message::Summary { buckets: vec![0, 300], items: vec![item, item], last: true },
        ),
        seed("records", &Message::Records { entries: vec![entry.clone(), entry], done: true }),
        seed("request", &Message::Request(vec![(owner, 2)])),
    ]
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        members: 0x1234_5678_9abc_def0,
        incarnation: Incarnation(3),
        flags: Heartbeat::WANTED,
    }
}

fn membership_seeds() -> Vec<Seed> {
    let facts = NodeFacts {
        name: name("web-1"),
        network: Some(name("rack-a")),
        nonce: Nonce(0x1122_3344_5566_7788),
        started: WallTime::from_unix_ms(1_700_000_000_000),
        state: NodeState::Restarting { back_within_ms: 2000 },
        addresses: hello().addresses,
        groups: vec![name("web")],
        feature_level: FEATURE_LEVEL,
        version: "0.0.0".into(),
    };
    let edge = |last, verdict| Edge {
        node: NodeId::from_bytes([last; 16]),
        incarnation: Incarnation(3),
        nonce: 0x5566_7788,
        verdict,
    };
    let watch = Watch { edges: vec![edge(1, Verdict::Heard), edge(2, Verdict::Silent)] };
    vec![
        ("heartbeat", encode(&heartbeat())),
        ("node-facts", facts.to_body()),
        ("watch", watch.to_body()),
    ]
}

fn fuzz_membership(data: &[u8]) {
    said_again::<Heartbeat>("heartbeat", data);
    if let Ok(facts) = NodeFacts::from_body(data) {
        assert_eq!(NodeFacts::from_body(&facts.to_body()), Ok(facts));
    }
    if let Ok(watch) = Watch::from_body(data) {
        assert_eq!(Watch::from_body(&watch.to_body()), Ok(watch));
    }
}
