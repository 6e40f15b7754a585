use alloc::format;
use alloc::string::String;
use alloc::vec;

use super::*;

fn id() -> UpdateId {
    UpdateId { origin: NodeId::from_bytes([0xAB; 16]), serial: serial(3, 500) }
}

fn serial(incarnation: u64, sequence: u64) -> Serial {
    Serial { incarnation: Incarnation(incarnation), sequence }
}

fn small() -> Header {
    Header {
        id: id(),
        predecessor: Some(serial(2, 9)),
        age_ms: 1000,
        length: 4,
        digest: None,
        trail: Trail::none(),
    }
}

fn large() -> Header {
    Header {
        predecessor: None,
        length: 70_000,
        digest: Some(Digest([0xCD; 32])),
        trail: Trail::none().through(&GroupName::all()),
        ..small()
    }
}

fn run() -> Run {
    Run { origin: id().origin, incarnation: Incarnation(3), first: 500, count: 300 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn examples() -> Vec<(Packet, &'static str)> {
    let group = GroupName::all;
    let (from, to) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
    let mark = Mark {
        origin: from,
        purged: Some(serial(1, 2)),
        lives: vec![Life { incarnation: Incarnation(3), head: 300, gaps: vec![(4, 6)] }],
    };
    let floor = Floor { origin: from, serial: serial(1, 2), whole: true, dropped: true };
    let body = || vec![Bytes::from_static(b"skep")];
    let with = |message, bodies| Packet { message, bodies };
    vec![
        (
            with(Message::Updates { group: group(), headers: vec![small(), large()] }, body()),
            "00600003616c6c02abababababababababababababababab03f403010209e807040000ababababababab\
             ababababababababab03f40300e807f0a20401cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\
             cdcdcdcdcdcdcdcdcd012f8bdc43736b6570",
        ),
        (
            Packet::bare(Message::Compare { group: group(), digest: 0x1234, answer: true }),
            "00080103616c6cb42401",
        ),
        (
            Packet::bare(Message::Pull { group: group(), token: 7, from, to, marks: vec![mark] }),
            "00410203616c6c0701010101010101010101010101010101020202020202020202020202020202020101\
             0101010101010101010101010101010101020103ac02010406",
        ),
        (
            with(
                Message::Pulled {
                    group: group(),
                    token: 7,
                    floors: vec![floor],
                    headers: vec![small()],
                    done: true,
                },
                body(),
            ),
            "00380303616c6c0701010101010101010101010101010101010102010101ababababababababababababab\
             ababab03f403010209e80704000001736b6570",
        ),
        (Packet::bare(Message::More { group: group(), token: 7 }), "00060403616c6c07"),
        (
            Packet::bare(Message::Fetch {
                group: group(),
                id: id(),
                leaves: true,
                first: 300,
                count: 5,
            }),
            "001c0503616c6cabababababababababababababababab03f40301ac0205",
        ),
        (
            with(Message::Leaves { group: group(), id: id(), length: 4 }, body()),
            "00190603616c6cabababababababababababababababab03f40304736b6570",
        ),
        (
            with(Message::Piece { group: group(), id: id(), piece: 300, length: 4 }, body()),
            "001b0703616c6cabababababababababababababababab03f403ac0204736b6570",
        ),
        (
            Packet::bare(Message::Missing { group: group(), id: id() }),
            "00180803616c6cabababababababababababababababab03f403",
        ),
        (
            Packet::bare(Message::Have { group: group(), runs: vec![run()] }),
            "001b0903616c6c01abababababababababababababababab03f403ac02",
        ),
        (
            Packet::bare(Message::Prune { group: group(), origins: vec![from] }),
            "00160a03616c6c0101010101010101010101010101010101",
        ),
        (
            Packet::bare(Message::Graft { group: group(), origins: vec![from], runs: vec![run()] }),
            "002c0b03616c6c010101010101010101010101010101010101abababababababababababababababab03\
             f403ac02",
        ),
    ]
}

#[test]
fn messages_have_these_bytes_for_ever() {
    for (packet, golden) in examples() {
        let bytes = packet.to_bytes();
        assert_eq!(hex(&bytes), golden, "{packet:?}");
        assert_eq!(Packet::from_bytes(&bytes), Ok(packet));
    }
}

#[test]
fn stored_heads_have_these_bytes_for_ever() {
    let head =
        StoredHead { tag: b"w:1".to_vec(), group: GroupName::all(), header: small(), late: true };
    let bytes = head.to_bytes();
    assert_eq!(
        hex(&bytes),
        "0303773a3103616c6cabababababababababababababababab03f403010209e80704000001"
    );
    assert_eq!(StoredHead::from_bytes(&bytes), Some(head.clone()));
    let mut newer = bytes.clone();
    newer[0] += 1;
    assert_eq!(StoredHead::from_bytes(&newer), None);
    assert!(StoredHead::may_have_tag(&bytes));
    let plain = StoredHead { tag: Vec::new(), ..head.clone() };
    assert!(!StoredHead::may_have_tag(&plain.to_bytes()));
    assert_eq!(StoredHead::from_bytes(&bytes[..5]), None);
    let missed = Missed {
        group: GroupName::all(),
        origin: id().origin,
        after: Some(serial(3, 500)),
        up_to: serial(3, 502),
        reason: crate::GapReason::Dropped,
    };
    let gap = crate::LogHead::Gap(missed);
    let bytes = gap.to_bytes();
    assert_eq!(hex(&bytes), "0203616c6cabababababababababababababababab0103f40303f60302");
    assert_eq!(crate::LogHead::from_bytes(&bytes), Some(gap.clone()));
    let crate::LogHead::Gap(missed) = gap else { panic!("it is a gap") };
    let reason = crate::GapReason::TooLarge { length: 300, limit: 7 };
    let gap = crate::LogHead::Gap(Missed { reason, ..missed });
    let bytes = gap.to_bytes();
    assert_eq!(hex(&bytes), "0203616c6cabababababababababababababababab0103f40303f60304ac0207");
    assert_eq!(crate::LogHead::from_bytes(&bytes), Some(gap));
}

#[test]
fn a_cut_or_padded_frame_is_refused_at_every_length() {
    for (packet, _) in examples() {
        let bytes = packet.to_bytes();
        for cut in 0..bytes.len() {
            assert!(Packet::from_bytes(&bytes.slice(..cut)).is_err());
        }
        let mut padded = bytes.to_vec();
        padded.push(0);
        assert!(Packet::from_bytes(&padded.into()).is_err());
    }
}

#[test]
fn received_bodies_share_the_frame() {
    let (packet, _) = examples().swap_remove(0);
    let bytes = packet.to_bytes();
    let received = Packet::from_bytes(&bytes).unwrap();
    assert!(bytes.as_ptr_range().contains(&received.bodies[0].as_ptr()));
}

#[test]
fn no_header_is_over_its_bound() {
    let groups = (0..MAX_TRAIL).map(|n| format!("g{n}").parse().unwrap());
    let longest = groups.fold(Trail::none(), |trail, group| trail.through(&group));
    let worst = Header {
        id: UpdateId { serial: serial(u64::MAX, u64::MAX), ..id() },
        predecessor: Some(serial(u64::MAX, u64::MAX)),
        age_ms: u64::MAX,
        length: u64::MAX,
        digest: Some(Digest([0xFF; 32])),
        trail: longest,
    };
    assert!(encode(&worst).len() <= HEADER_BYTES_MAX);
    let plain = Header { trail: Trail::none(), ..worst };
    assert!(encode(&plain).len() <= PLAIN_HEADER_BYTES_MAX);
}

#[test]
fn nonsense_that_decodes_is_refused() {
    let group = GroupName::all;
    let refused = |message: Message, bodies: usize| {
        let bodies = (0..bodies).map(|_| Bytes::from_static(b"skep")).collect();
        Packet::from_bytes(&Packet { message, bodies }.to_bytes()).is_err()
    };
    let updates = |headers| Message::Updates { group: group(), headers };
    let zero = UpdateId { serial: serial(3, 0), ..id() };
    assert!(refused(updates(vec![Header { id: zero, predecessor: None, ..small() }]), 1));
    assert!(refused(updates(vec![Header { predecessor: Some(id().serial), ..small() }]), 1));
    assert!(refused(updates(vec![Header { digest: None, ..large() }]), 0));
    let fetch = |count| Message::Fetch { group: group(), id: id(), leaves: false, first: 0, count };
    assert!(!refused(fetch(MAX_FETCH_PIECES), 0));
    assert!(refused(fetch(MAX_FETCH_PIECES + 1), 0));
    assert!(refused(fetch(0), 0));
    let groups = (0..=MAX_TRAIL).map(|n| format!("g{n}").parse().unwrap());
    let trail = groups.fold(Trail::none(), |trail, group| trail.through(&group));
    assert!(refused(updates(vec![Header { trail, ..small() }]), 1), "a trail without end");
    let many = vec![Header { length: 0, ..small() }; BATCH_HEADERS + 1];
    assert!(refused(updates(many), 0));
    let have = |runs| Message::Have { group: group(), runs };
    assert!(!refused(have(vec![run()]), 0));
    assert!(refused(have(vec![Run { first: 0, ..run() }]), 0));
    assert!(refused(have(vec![Run { count: 0, ..run() }]), 0));
    assert!(refused(have(vec![Run { first: u64::MAX, ..run() }]), 0));
    assert!(refused(have(vec![Run { count: 4097, ..run() }; 2]), 0), "ids without end");
    assert!(refused(have(vec![Run { count: 1, ..run() }; RUNS_PER_MESSAGE + 1]), 0));
    let (low, high) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
    let prune = Message::Prune { group: group(), origins: vec![low; RUNS_PER_MESSAGE + 1] };
    assert!(refused(prune, 0));
    let mark = |origin, gaps| Mark {
        origin,
        purged: None,
        lives: vec![Life { incarnation: Incarnation(1), head: 9, gaps }],
    };
    let pull = |to, marks| Message::Pull { group: group(), token: 1, from: low, to, marks };
    assert!(!refused(pull(high, vec![mark(low, vec![(1, 2), (2, 4)])]), 0));
    assert!(refused(pull(low, vec![mark(high, vec![])]), 0), "outside its range");
    assert!(refused(pull(high, vec![mark(high, vec![]), mark(low, vec![])]), 0));
    assert!(refused(pull(high, vec![mark(low, vec![(2, 2)])]), 0), "an empty gap");
    assert!(refused(pull(high, vec![mark(low, vec![(3, 5), (4, 6)])]), 0), "gaps overlap");
    assert!(refused(pull(high, vec![mark(low, vec![(3, 10)])]), 0), "a gap above the head");
}
